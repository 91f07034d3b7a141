"""Hand-written expectations that keep the computed ones honest."""

import socket
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conformance.five_services.expect import HIDDEN, Expected, comparable, expected
from tests.conformance.five_services.generate import REGIONS, SERVICES, VARIANTS, Case, cases
from tests.conformance.five_services.send import send
from tests.conformance.generate import service_model
from tests.stub_upstream import StubUpstream

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


def expect(service: str, operation: str, **params: Any) -> Expected:
    return expected(Case(service, operation, "by hand", "eu-central-1", params), "localhost:4567")


def parameters(service: str, operation: str, **params: Any) -> dict[str, Any] | None:
    return expect(service, operation, **params).request_parameters


def test_create_user_is_recorded_in_us_east_1() -> None:
    tags = [{"Key": "Team", "Value": "a b"}]
    assert expect("iam", "CreateUser", UserName="Alice", Path="/x/", Tags=tags) == Expected(
        event_source="iam.amazonaws.com",
        event_name="CreateUser",
        aws_region="us-east-1",
        request_parameters={
            "userName": "Alice",
            "path": "/x/",
            "tags": [{"key": "Team", "value": "a b"}],
        },
        read_only=False,
        event_category="Management",
    )


def test_only_a_member_names_first_letter_changes() -> None:
    shown = parameters("iam", "UploadSSHPublicKey", UserName="u", SSHPublicKeyBody="ssh-rsa A")
    assert shown == {"userName": "u", "sSHPublicKeyBody": "ssh-rsa A"}


def test_passwords_leave_no_trace() -> None:
    assert parameters("iam", "ChangePassword", OldPassword="old-one", NewPassword="new") is None
    assert parameters("iam", "GetAccountSummary") is None
    login = parameters("iam", "CreateLoginProfile", UserName="u", Password="p")
    assert login == {"userName": "u"}


def test_query_keeps_types_and_empty_lists() -> None:
    shown = parameters(
        "iam", "CreatePolicyVersion", PolicyArn="arn:x", PolicyDocument="{}", SetAsDefault=True
    )
    assert shown == {"policyArn": "arn:x", "policyDocument": "{}", "setAsDefault": True}
    assert parameters("iam", "TagUser", UserName="u", Tags=[]) == {"userName": "u", "tags": []}
    assert parameters("iam", "ListUsers", MaxItems=7) == {"maxItems": 7}
    assert parameters("iam", "PutAccountProperties", Properties={}) is None


def test_assume_role_is_read_only_without_token() -> None:
    result = expect(
        "sts",
        "AssumeRole",
        RoleArn="arn:aws:iam::123456789012:role/r",
        RoleSessionName="s",
        DurationSeconds=900,
        TokenCode="123456",
    )
    assert result.request_parameters == {
        "roleArn": "arn:aws:iam::123456789012:role/r",
        "roleSessionName": "s",
        "durationSeconds": 900,
        "tokenCode": HIDDEN,
    }
    assert (result.read_only, result.aws_region) == (True, "eu-central-1")


def test_unsigned_calls_are_recorded_without_their_assertion() -> None:
    given = {
        "RoleArn": "arn:aws:iam::1:role/r",
        "PrincipalArn": "arn:p",
        "SAMLAssertion": "PHNhbWw",
    }
    result = expect("sts", "AssumeRoleWithSAML", **given)
    assert result.aws_region == "us-east-1"
    assert result.request_parameters == {
        "roleArn": "arn:aws:iam::1:role/r",
        "principalArn": "arn:p",
    }


@pytest.mark.parametrize(
    ("service", "operation", "read_only"),
    [
        ("sts", "GetFederationToken", False),
        ("sts", "DecodeAuthorizationMessage", True),
        ("iam", "SimulatePrincipalPolicy", True),
        ("iam", "GenerateCredentialReport", False),
        ("dynamodb", "TransactGetItems", True),
        ("dynamodb", "ExecuteStatement", False),
        ("s3", "SelectObjectContent", True),
        ("s3", "CreateSession", False),
        ("sqs", "ReceiveMessage", False),
    ],
)
def test_read_only_follows_the_name_with_exceptions(
    service: str, operation: str, read_only: bool
) -> None:
    case = next(c for c in cases(service) if c.operation == operation)
    assert expected(case).read_only is read_only


def test_message_contents_are_hidden_everywhere() -> None:
    attributes = {"a": {"DataType": "String", "StringValue": "v"}}
    result = expect(
        "sqs", "SendMessage", QueueUrl="http://q", MessageBody="b", MessageAttributes=attributes
    )
    assert result.event_category == "Data"
    assert result.request_parameters == {
        "queueUrl": "http://q",
        "messageBody": HIDDEN,
        "messageAttributes": HIDDEN,
    }
    entries = [{"Id": "1", "MessageBody": "b", "DelaySeconds": 0}]
    assert parameters("sqs", "SendMessageBatch", QueueUrl="q", Entries=entries) == {
        "queueUrl": "q",
        "entries": [{"id": "1", "messageBody": HIDDEN, "delaySeconds": 0}],
    }


def test_add_permission_keeps_the_capitals_of_account_ids() -> None:
    shown = parameters(
        "sqs", "AddPermission", QueueUrl="q", Label="l", AWSAccountIds=["1"], Actions=["*"]
    )
    assert shown == {"queueUrl": "q", "label": "l", "AWSAccountIds": ["1"], "actions": ["*"]}


def test_put_item_shows_names_of_attributes_only() -> None:
    result = expect(
        "dynamodb",
        "PutItem",
        TableName="Music",
        Item={"SongTitle": {"S": "Howdy"}, "Artist": {"S": "No One"}, "Raw": {"B": b"x"}},
        ExpressionAttributeValues={":y": {"N": "1"}},
        Expected={"A": {"Value": {"S": "v"}, "Exists": True}},
    )
    assert result.event_category == "Data"
    assert result.request_parameters == {
        "tableName": "Music",
        "item": ["SongTitle", "Artist", "Raw"],
        "expected": {"A": {"value": HIDDEN, "exists": True}},
    }


def test_primary_keys_are_unwrapped() -> None:
    keys = [{"Artist": {"S": "No One"}, "Year": {"N": "1"}, "Raw": {"B": b"\x00\xff"}}]
    unwrapped = {"Artist": "No One", "Year": "1", "Raw": "AP8="}
    shown = parameters("dynamodb", "BatchGetItem", RequestItems={"Music": {"Keys": keys}})
    assert shown == {"requestItems": {"Music": {"keys": [unwrapped]}}}
    writes = [{"PutRequest": {"Item": {"B": {"S": "x"}, "A": {"S": "x"}}}}]
    writes.append({"DeleteRequest": {"Key": {"A": {"S": "x"}}}})
    shown = parameters("dynamodb", "BatchWriteItem", RequestItems={"Music": writes})
    assert shown == {
        "requestItems": {
            "Music": [{"putRequest": {"items": ["B", "A"]}}, {"deleteRequest": {"key": {"A": "x"}}}]
        }
    }


def test_partiql_keeps_the_statement_and_hides_its_parameters() -> None:
    statement = "SELECT * FROM t WHERE a=?"
    shown = parameters(
        "dynamodb", "ExecuteStatement", Statement=statement, Parameters=[{"S": "secret"}]
    )
    assert shown == {"statement": statement, "parameters": HIDDEN}


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2023, 7, 10, 12, 9, 47, 999999, tzinfo=UTC), "Jul 10, 2023, 12:09:47 PM"),
        (datetime(2024, 2, 9, 0, 0, 5, tzinfo=UTC), "Feb 9, 2024, 12:00:05 AM"),
        (datetime(2024, 12, 31, 13, 0, 0, tzinfo=UTC), "Dec 31, 2024, 1:00:00 PM"),
    ],
)
def test_timestamps_are_written_the_java_way(moment: datetime, text: str) -> None:
    shown = parameters(
        "dynamodb", "ExportTableToPointInTime", TableArn="a", S3Bucket="b", ExportTime=moment
    )
    assert shown == {"tableArn": "a", "s3Bucket": "b", "exportTime": text}


def test_put_bucket_tagging_shows_its_body() -> None:
    tags = [{"Key": "a", "Value": "true"}, {"Key": "b", "Value": "007"}]
    assert parameters("s3", "PutBucketTagging", Bucket="b", Tagging={"TagSet": tags}) == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "tagging": "",
        "Tagging": {
            "xmlns": XMLNS,
            "TagSet": {"Tag": [{"Key": "a", "Value": True}, {"Key": "b", "Value": "007"}]},
        },
    }
    assert parameters("s3", "PutBucketTagging", Bucket="b", Tagging={"TagSet": []}) == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "tagging": "",
        "Tagging": {"xmlns": XMLNS, "TagSet": ""},
    }


def test_single_elements_stay_objects_attributes_become_members() -> None:
    grant = {"Grantee": {"Type": "Group", "URI": "http://g"}, "Permission": "READ"}
    shown = parameters("s3", "PutBucketAcl", Bucket="b", AccessControlPolicy={"Grants": [grant]})
    assert shown is not None
    assert shown["AccessControlPolicy"]["AccessControlList"] == {
        "Grant": {
            "Grantee": {
                "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
                "xsi:type": "Group",
                "URI": "http://g",
            },
            "Permission": "READ",
        }
    }


@pytest.mark.parametrize(
    ("policy", "shown"),
    [('{"Statement": [], "N": 1}', {"Statement": [], "N": 1}), ("{not json", "{not json")],
)
def test_put_bucket_policy_shows_the_parsed_policy(policy: str, shown: Any) -> None:
    result = expect("s3", "PutBucketPolicy", Bucket="b", Policy=policy)
    assert result.request_parameters == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "policy": "",
        "bucketPolicy": shown,
    }
    assert result.event_category == "Management"


def test_list_objects_v2_is_recorded_as_list_objects() -> None:
    result = expect("s3", "ListObjectsV2", Bucket="b", Prefix="a b/", MaxKeys=5, FetchOwner=True)
    assert (result.event_name, result.event_category, result.read_only) == (
        "ListObjects",
        "Data",
        True,
    )
    assert result.request_parameters == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "list-type": "2",
        "prefix": "a b/",
        "max-keys": "5",
        "fetch-owner": "true",
        "encoding-type": "url",
    }


def test_object_headers_are_shown_without_encryption_keys() -> None:
    shown = parameters(
        "s3",
        "CopyObject",
        Bucket="b",
        Key="/a//b+c",
        CopySource={"Bucket": "src", "Key": "k \u00e9", "VersionId": "v"},
        Metadata={"Owner": "me"},
        ContentType="text/plain",
        SSECustomerAlgorithm="AES256",
        SSECustomerKey="0123456789abcdef0123456789abcdef",
        ObjectLockRetainUntilDate=datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    )
    assert shown == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "key": "/a//b+c",
        "x-amz-copy-source": "src/k%20%C3%A9?versionId=v",
        "x-amz-meta-owner": "me",
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key-md5": "hRasmdxgYDKV3nvbahU1MA==",
        "x-amz-object-lock-retain-until-date": "2030-01-02T03:04:05Z",
    }


def test_bodies_of_data_events_are_not_shown() -> None:
    objects = {"Objects": [{"Key": "secret"}]}
    assert parameters("s3", "DeleteObjects", Bucket="b", Delete=objects) == {
        "Host": "localhost:4567",
        "bucketName": "b",
        "delete": "",
    }


def test_comparable_drops_only_botocores_checksums() -> None:
    recorded = {"key": "k", "x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": "A"}
    assert comparable(recorded) == {"key": "k"}
    assert comparable(recorded, {"x-amz-checksum-crc32"}) == {
        "key": "k",
        "x-amz-checksum-crc32": "A",
    }


def test_every_operation_has_every_variant() -> None:
    every = [case for service in SERVICES for case in cases(service)]
    operations = sum(len(service_model(service).operation_names) for service in SERVICES)
    assert len(every) == operations * len(VARIANTS) > 900
    assert len({case.number for case in every}) == len(every)
    assert {case.region for case in every} == set(REGIONS)
    assert Counter(map(str, every)).most_common(1)[0][1] == 1
    assert every == [case for service in SERVICES for case in cases(service)]


def test_every_case_has_an_expectation() -> None:
    for service in SERVICES:
        for case in cases(service):
            assert expected(case).request_parameters != {}, str(case)


def test_sent_cases_carry_their_number_as_user_agent() -> None:
    case = Case("s3", "PutObject", "by hand", "eu-central-1", {"Bucket": "b", "Key": "a//.."}, 7)
    case.params["Body"] = b"hello"
    with StubUpstream(keep=True) as upstream:
        send(upstream.url, case, "AKIAIOSFODNN7EXAMPLE", "secret")
    (request,) = upstream.requests
    assert (request.method, request.target, request.body) == ("PUT", "/b/a//..", b"hello")
    assert request.header("user-agent") == "opentrail-case/7"
    assert "/eu-central-1/s3/aws4_request" in request.header("authorization")


def test_the_stub_reads_chunks_and_keeps_the_connection() -> None:
    chunked = (
        b"POST / HTTP/1.1\r\nX-Amz-Target: A.B\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Trailer: t\r\n\r\n"
    )
    last = b"HEAD /b HTTP/1.1\r\nConnection: close\r\n\r\n"
    with StubUpstream(keep=True) as upstream:
        host, port = upstream.host.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(chunked + last)
            answers = b"".join(iter(lambda: connection.recv(4096), b""))
    assert [request.body for request in upstream.requests] == [b"wikipedia", b""]
    assert answers.count(b"HTTP/1.1 200 OK") == upstream.count == 2
    assert b"\r\n\r\n{}HTTP/1.1" in answers
