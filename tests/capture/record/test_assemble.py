"""From an exchange to a whole record: AWS's form, for any input."""

import json
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import unquote_plus

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.client_address import Networks, VpcEndpoint, network
from opentrail.capture.record.exchange import Described, Exchange, Failure
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity, Learned, learn, unknown
from opentrail.core.secrets import embedded
from opentrail.core.secrets.secret_names import HIDDEN
from opentrail.core.user_agents import agent_of
from opentrail.wire.message import Request, Response
from tests.collection import at_least, collected_records
from tests.factories import (
    ACCOUNT,
    AGENT,
    HOST,
    KEY,
    MOMENT,
    RECORD_ORDER,
    REGION,
    SOURCE_IP,
    a_json_request,
    a_query_request,
    a_request,
    a_response,
    an_assumed_role,
    an_exchange,
    an_iam_user,
    an_identity,
    an_s3_request,
    event_id,
)

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
QUEUE = f"http://{HOST}/{ACCOUNT}/q"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/DataRole"
S3_IDS = {"x-amz-request-id": "A1B2C3D4E5F60718", "x-amz-id-2": "ZmFrZWlk"}

CREATE_USER_ANSWER = b"""<CreateUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
  <CreateUserResult><User><Path>/</Path><UserName>Mary</UserName><UserId>AIDAMARY</UserId>
  <Arn>arn:aws:iam::123456789012:user/Mary</Arn><CreateDate>2020-01-01T09:00:00Z</CreateDate>
  </User></CreateUserResult>
  <ResponseMetadata><RequestId>in-the-body</RequestId></ResponseMetadata></CreateUserResponse>"""

ASSUME_ROLE = a_query_request(
    "sts",
    "AssumeRole",
    "2011-06-15",
    {"RoleArn": ROLE, "RoleSessionName": "etl", "DurationSeconds": "900"},
    region="eu-central-1",
)
ASSUME_ROLE_ANSWER = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>
  <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
  <Expiration>2020-01-01T09:15:00Z</Expiration></Credentials>
  <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:etl</AssumedRoleId>
  <Arn>arn:aws:sts::123456789012:assumed-role/DataRole/etl</Arn></AssumedRoleUser>
  </AssumeRoleResult></AssumeRoleResponse>"""


def resolve(access_key_id: str) -> Identity:
    return an_identity() if access_key_id == KEY else unknown(ACCOUNT, access_key_id)


def recorded(exchange: Exchange) -> dict[str, Any]:
    """Returns the record in its journal form."""
    made = Assembler(resolve).assemble(exchange)
    record: dict[str, Any] = json.loads(made.entry.record)
    return record


def a_call(source: str, name: str, **members: Any) -> dict[str, Any]:
    """Returns the record of a call by John, with the members that all of them share."""
    base = {
        "eventVersion": "1.11",
        "userIdentity": an_iam_user("John"),
        "eventTime": "2020-01-01T09:00:00Z",
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": SOURCE_IP,
        "userAgent": f"[{AGENT}]" if source == "s3" else AGENT,
        "requestParameters": None,
        "responseElements": None,
        "requestID": "REQUEST-ID",
        "eventID": event_id(1),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }
    return {**base, **members}


def in_order(record: dict[str, Any]) -> bool:
    places = [RECORD_ORDER.index(name) for name in record]
    return places == sorted(places)


# Whole records


def test_creating_a_user_is_recorded_as_aws_does() -> None:
    record = recorded(an_exchange(response=a_response(CREATE_USER_ANSWER)))
    assert record == a_call(
        "iam",
        "CreateUser",
        requestParameters={"userName": "Mary"},
        responseElements={
            "user": {
                "path": "/",
                "userName": "Mary",
                "userId": "AIDAMARY",
                "arn": "arn:aws:iam::123456789012:user/Mary",
                "createDate": "Jan 1, 2020 9:00:00 AM",
            }
        },
    )
    assert in_order(record)


def test_writing_an_object_is_recorded_as_aws_does() -> None:
    request = an_s3_request("PUT", "/my-bucket/in/a.csv", "", {"x-amz-acl": "private"})
    answer = a_response(headers={**S3_IDS, "x-amz-server-side-encryption": "AES256"})
    record = recorded(an_exchange(request, answer, bytes_in=1024))
    assert record == a_call(
        "s3",
        "PutObject",
        requestParameters={
            "bucketName": "my-bucket",
            "Host": HOST,
            "key": "in/a.csv",
            "x-amz-acl": "private",
        },
        responseElements={"x-amz-server-side-encryption": "AES256"},
        additionalEventData={
            "SignatureVersion": "SigV4",
            "bytesTransferredIn": 1024.0,
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": "ZmFrZWlk",
            "bytesTransferredOut": 0.0,
        },
        requestID="A1B2C3D4E5F60718",
        resources=[
            {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::my-bucket/in/a.csv"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::my-bucket"},
        ],
        managementEvent=False,
        eventCategory="Data",
    )
    assert in_order(record)


def test_missing_object_is_recorded_as_by_aws() -> None:
    body = (
        b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
    )
    exchange = an_exchange(
        an_s3_request("GET", "/my-bucket/none"), a_response(body, 404, S3_IDS), bytes_out=280
    )
    record = recorded(exchange)
    assert record == a_call(
        "s3",
        "GetObject",
        errorCode="NoSuchKey",
        errorMessage="The specified key does not exist.",
        requestParameters={"bucketName": "my-bucket", "Host": HOST, "key": "none"},
        additionalEventData={
            "SignatureVersion": "SigV4",
            "bytesTransferredIn": 0.0,
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": "ZmFrZWlk",
            "bytesTransferredOut": 280.0,
        },
        requestID="A1B2C3D4E5F60718",
        readOnly=True,
        resources=[
            {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::my-bucket/none"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::my-bucket"},
        ],
        managementEvent=False,
        eventCategory="Data",
    )
    assert in_order(record)


def test_bucket_creation_has_a_place_without_resource() -> None:
    body = (
        f'<CreateBucketConfiguration xmlns="{XMLNS}">'
        "<LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"
    ).encode()
    record = recorded(an_exchange(an_s3_request("PUT", "/my-bucket", body=body)))
    assert record["requestParameters"] == {
        "bucketName": "my-bucket",
        "Host": HOST,
        "CreateBucketConfiguration": {"xmlns": XMLNS, "LocationConstraint": "eu-west-1"},
    }
    assert "resources" not in record
    assert record["additionalEventData"]["bytesTransferredIn"] == len(body)
    assert isinstance(record["additionalEventData"]["bytesTransferredIn"], int)


def test_sending_a_message_is_recorded_as_aws_does() -> None:
    request = a_json_request(
        "sqs",
        "AmazonSQS.SendMessage",
        {"QueueUrl": QUEUE, "MessageBody": "secret", "DelaySeconds": 5},
        region="eu-central-1",
    )
    answer = a_response(b'{"MD5OfMessageBody":"5d41","MessageId":"m-1"}')
    record = recorded(an_exchange(request, answer))
    assert record == a_call(
        "sqs",
        "SendMessage",
        awsRegion="eu-central-1",
        requestParameters={
            "queueUrl": QUEUE,
            "messageBody": "HIDDEN_DUE_TO_SECURITY_REASONS",
            "delaySeconds": 5,
        },
        responseElements={"mD5OfMessageBody": "5d41", "messageId": "m-1"},
        resources=[
            {
                "accountId": ACCOUNT,
                "type": "AWS::SQS::Queue",
                "ARN": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:q",
            }
        ],
        managementEvent=False,
        eventCategory="Data",
    )
    assert in_order(record)


def test_writing_an_item_is_recorded_as_aws_does() -> None:
    request = a_json_request(
        "dynamodb",
        "DynamoDB_20120810.PutItem",
        {"TableName": "Music", "Item": {"SongTitle": {"S": "x"}, "Artist": {"S": "y"}}},
    )
    record = recorded(an_exchange(request, a_response(b"{}")))
    assert record == a_call(
        "dynamodb",
        "PutItem",
        requestParameters={"tableName": "Music", "item": ["SongTitle", "Artist"]},
        resources=[
            {
                "accountId": ACCOUNT,
                "type": "AWS::DynamoDB::Table",
                "ARN": f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/Music",
            }
        ],
        apiVersion="2012-08-10",
        managementEvent=False,
        eventCategory="Data",
    )
    assert in_order(record)


def test_kms_records_the_default_algorithm() -> None:
    def parameters(operation: str, **given: Any) -> Any:
        request = a_json_request("kms", f"TrentService.{operation}", given)
        return recorded(an_exchange(request, a_response(b"{}")))["requestParameters"]

    default = {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    assert parameters("Decrypt", CiphertextBlob="eA==") == default
    assert parameters("Encrypt", KeyId="k", Plaintext="eA==") == {**default, "keyId": "k"}
    given = {"KeyId": "k", "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}
    assert parameters("Encrypt", **given) == {
        "encryptionAlgorithm": "RSAES_OAEP_SHA_1",
        "keyId": "k",
    }
    assert parameters("GenerateDataKey", KeyId="k") == {"keyId": "k"}


def test_assumed_role_is_recorded_with_its_key() -> None:
    record = recorded(an_exchange(ASSUME_ROLE, a_response(ASSUME_ROLE_ANSWER)))
    assert record == a_call(
        "sts",
        "AssumeRole",
        awsRegion="eu-central-1",
        requestParameters={"roleArn": ROLE, "roleSessionName": "etl", "durationSeconds": 900},
        responseElements={
            "credentials": {
                "accessKeyId": "ASIAEXAMPLE",
                "sessionToken": "HIDDEN_DUE_TO_SECURITY_REASONS",
                "expiration": "Jan 1, 2020, 9:15:00 AM",
            },
            "assumedRoleUser": {
                "assumedRoleId": "AROAEXAMPLE:etl",
                "arn": "arn:aws:sts::123456789012:assumed-role/DataRole/etl",
            },
        },
        readOnly=True,
        resources=[{"accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": ROLE}],
    )
    assert in_order(record)


def test_a_refused_role_is_recorded_without_parameters() -> None:
    """AWS records no parameters of a refused STS call (17 of 17); we keep them in our block."""
    body = b"""<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>
      <Message>User is not authorized to perform: sts:AssumeRole</Message></Error>
      <RequestId>in-the-body</RequestId></ErrorResponse>"""
    record = recorded(an_exchange(ASSUME_ROLE, a_response(body, 403, {})))
    own = record.pop("additionalEventData")["opentrail"]
    assert own["requestParameters"]["roleArn"] == ROLE
    assert record == a_call(
        "sts",
        "AssumeRole",
        awsRegion="eu-central-1",
        errorCode="AccessDenied",
        errorMessage="User is not authorized to perform: sts:AssumeRole",
        requestID="in-the-body",
        readOnly=True,
    )
    assert in_order(record)


def test_anonymous_s3_call_has_no_user_or_signature() -> None:
    request = an_s3_request("GET", "/my-bucket/a", signed=False)
    record = recorded(an_exchange(request, a_response(headers=S3_IDS)))
    assert record["userIdentity"] == {
        "type": "AWSAccount",
        "principalId": "",
        "accountId": "ANONYMOUS_PRINCIPAL",
    }
    assert record["recipientAccountId"] == ACCOUNT
    assert record["additionalEventData"] == {
        "bytesTransferredIn": 0.0,
        "x-amz-id-2": "ZmFrZWlk",
        "bytesTransferredOut": 0.0,
    }


def test_a_presigned_s3_call_is_marked() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
        f"{KEY}%2F20200101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature={'0' * 64}"
    )
    record = recorded(an_exchange(an_s3_request("GET", "/b/k", query, signed=False)))
    assert record["additionalEventData"]["AuthenticationMethod"] == "QueryString"
    assert record["awsRegion"] == "eu-west-1"
    assert record["userIdentity"]["userName"] == "John"


def test_a_chunked_upload_counts_its_own_bytes() -> None:
    headers = {"x-amz-decoded-content-length": "1000", "content-encoding": "aws-chunked"}
    exchange = an_exchange(an_s3_request("PUT", "/b/k", "", headers), bytes_in=1200)
    assert recorded(exchange)["additionalEventData"]["bytesTransferredIn"] == 1000.0


def test_a_directory_bucket_has_its_event_source() -> None:
    """cloudtrail-format §3.1."""
    request = a_request("s3express", "PUT", "/bucket--use1-az4--x-s3/key")
    assert recorded(an_exchange(request))["eventSource"] == "s3express.amazonaws.com"


# Regions, identities, names


def test_global_service_is_recorded_in_us_east_1() -> None:
    request = a_query_request("iam", "ListUsers", "2010-05-08", region="eu-central-1")
    made = Assembler(resolve).assemble(an_exchange(request))
    assert made.record["awsRegion"] == "us-east-1"
    assert made.entry.region == "us-east-1"


@pytest.mark.parametrize(
    "region",
    ["us_east_1", "..", "r" * 1_100, "US-EAST-1", "a-", "x", "us-east-"],
)
def test_invalid_region_is_never_part_of_a_key(region: str) -> None:
    request = a_query_request("sqs", "ListQueues", "2012-11-05", region=region)
    made = Assembler(resolve).assemble(an_exchange(request))
    assert made.entry.region == made.record["awsRegion"] == "us-east-1"
    assert made.record["additionalEventData"]["opentrail"]["region"] == region[:64]


@pytest.mark.parametrize("service", ["..", "UPPER", "s" * 1_100, "a_b", "é"])
def test_an_unknown_service_is_never_an_event_source(service: str) -> None:
    record = recorded(an_exchange(a_request(service, "POST", "/")))
    assert record["eventSource"] == "unknown.opentrail.internal"
    assert record["additionalEventData"]["opentrail"]["service"].startswith(service[:60])


@pytest.mark.parametrize("account", ["../x", "1", "1234567890123", "\u0661" * 12, "a" * 12])
def test_an_invalid_account_is_ignored_in_unsigned_calls(account: str) -> None:
    given = {
        "RoleArn": f"arn:aws:iam::{account}:role/Web",
        "RoleSessionName": "s",
        "WebIdentityToken": "t",
    }
    request = a_query_request("sts", "AssumeRoleWithWebIdentity", "2011-06-15", given)
    request = replace(
        request, headers={n: v for n, v in request.headers.items() if n != "authorization"}
    )
    made = Assembler(resolve).assemble(an_exchange(request))
    assert made.entry.account == made.record["recipientAccountId"] == DEFAULT_ACCOUNT


def test_an_unknown_key_is_recorded_as_unknown() -> None:
    request = a_query_request("iam", "ListUsers", "2010-05-08", key="AKIAUNKNOWN")
    assert recorded(an_exchange(request))["userIdentity"] == {
        "type": "Unknown",
        "accountId": ACCOUNT,
        "accessKeyId": "AKIAUNKNOWN",
    }


def test_the_key_determines_the_account() -> None:
    other = "999999999999"
    assembler = Assembler(lambda key: an_identity(account=other, key=key))
    made = assembler.assemble(an_exchange())
    assert made.record["recipientAccountId"] == other
    assert made.entry.account == other
    assert assembler.caller(an_exchange()) == (other, "us-east-1")


def test_an_unsigned_call_is_of_the_default_account() -> None:
    made = Assembler(resolve).assemble(an_exchange(an_s3_request("GET", "/b/k", signed=False)))
    assert made.record["recipientAccountId"] == DEFAULT_ACCOUNT


@pytest.mark.parametrize(
    ("request_", "source", "name"),
    [
        (a_request("no-such-service", "GET", "/x"), "no-such-service", "UnknownOperation"),
        (a_json_request("kafka", "Kafka_1.Fly", {}), "kafka", "Fly"),
        (a_request("lambda", "GET", "/no/route"), "lambda", "UnknownOperation"),
        (a_query_request("iam", "FlyToTheMoon", "2010-05-08"), "iam", "FlyToTheMoon"),
        (an_s3_request("OPTIONS", "/b/k"), "s3", "UnknownOperation"),
    ],
)
def test_unnamed_calls_are_recorded(request_: Request, source: str, name: str) -> None:
    record = recorded(an_exchange(request_))
    assert record["eventSource"] == f"{source}.amazonaws.com"
    assert record["eventName"] == name
    assert record["eventCategory"] == "Management"


def test_an_unsigned_unknown_call_has_opentrails_event_source() -> None:
    request = a_json_request("sqs", "Nothing.Known", {})
    unsigned = Request("POST", "/", "", {**request.headers, "authorization": ""}, request.body)
    record = recorded(an_exchange(unsigned))
    assert record["eventSource"] == "unknown.opentrail.internal"
    assert record["eventName"] == "Known"


@pytest.mark.parametrize(
    ("request_", "body", "status", "code"),
    [
        (
            a_query_request("ec2", "RunInstances", "2016-11-15"),
            b"<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>",
            403,
            "Client.UnauthorizedOperation",
        ),
        (
            a_query_request("iam", "GetUser", "2010-05-08"),
            b"<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>",
            404,
            "NoSuchEntityException",
        ),
        (
            a_query_request("rds", "DeleteDBInstance", "2014-10-31"),
            b"<ErrorResponse><Error><Code>InvalidDBInstanceState</Code></Error></ErrorResponse>",
            400,
            "InvalidDBInstanceStateFault",
        ),
        (
            a_query_request("iam", "GetUser", "2010-05-08"),
            b"<ErrorResponse><Error><Code>NoShape</Code></Error></ErrorResponse>",
            400,
            "NoShape",
        ),
        (
            a_json_request("kms", "TrentService.Decrypt", {}),
            b'{"__type":"AccessDeniedException","Message":"no"}',
            400,
            "AccessDenied",
        ),
        (
            a_json_request("dynamodb", "DynamoDB_20120810.GetItem", {}),
            b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}',
            400,
            "ResourceNotFoundException",
        ),
        (an_s3_request("HEAD", "/b/k"), b"", 404, "NoSuchKey"),
    ],
)
def test_error_code_is_spelled_as_the_service_does(
    request_: Request, body: bytes, status: int, code: str
) -> None:
    record = recorded(an_exchange(request_, a_response(body, status)))
    assert record["errorCode"] == code
    assert record["responseElements"] is None


def test_a_lambda_call_has_a_dated_name() -> None:
    record = recorded(an_exchange(a_request("lambda", "DELETE", "/2015-03-31/functions/f")))
    assert record["eventName"] == "DeleteFunction20150331"
    assert record["requestParameters"] == {"functionName": "f"}


def test_an_answer_of_a_read_is_not_recorded() -> None:
    user = b"<User><UserName>Mary</UserName></User>"
    body = b"<GetUserResponse><GetUserResult>%s</GetUserResult></GetUserResponse>" % user
    request = a_query_request("iam", "GetUser", "2010-05-08", {"UserName": "Mary"})
    assert recorded(an_exchange(request, a_response(body)))["responseElements"] is None


def test_answer_marked_sensitive_as_a_whole_is_omitted() -> None:
    request = a_json_request(
        "comprehend",
        "Comprehend_20171127.DetectEntities",
        {"Text": "Mary owes 5", "LanguageCode": "en"},
    )
    exchange = an_exchange(request, a_response(b'{"Entities": [{"Text": "Mary"}]}'))
    record = recorded(exchange)
    assert record["eventName"] == "DetectEntities"
    assert record["responseElements"] is None
    assert "Mary" not in json.dumps(record["requestParameters"])


def test_old_models_phone_number_is_hidden() -> None:
    request = a_request("chime", "DELETE", "/phone-numbers/%2B12065550100")
    record = recorded(an_exchange(request, a_response(b"", 204)))
    assert record["requestParameters"] == {"phoneNumberId": "HIDDEN_DUE_TO_SECURITY_REASONS"}
    assert "12065550100" not in json.dumps(record)


def test_a_call_without_parameters_has_null() -> None:
    record = recorded(an_exchange(a_query_request("iam", "ListUsers", "2010-05-08")))
    assert record["requestParameters"] is None


def test_a_missing_request_id_is_made() -> None:
    first, second = (recorded(an_exchange(response=a_response(headers={}))) for _ in range(2))
    assert first["requestID"]
    assert first["requestID"] != second["requestID"]


# Other accounts, other entrances


def test_owner_of_a_touched_resource_gets_a_copy() -> None:
    other = "210987654321"
    request = a_query_request(
        "sts",
        "AssumeRole",
        "2011-06-15",
        {"RoleArn": ROLE.replace(ACCOUNT, other), "RoleSessionName": "etl"},
    )
    answer = ASSUME_ROLE_ANSWER.replace(ACCOUNT.encode(), other.encode())
    made = Assembler(resolve).assemble(an_exchange(request, a_response(answer)))
    (copy,) = made.more
    ours, theirs = json.loads(made.entry.record), json.loads(copy.record)
    assert ours["recipientAccountId"] == ACCOUNT
    assert (copy.account, theirs["recipientAccountId"]) == (other, other)
    assert theirs["eventID"] == copy.event_id != ours["eventID"]
    assert theirs["sharedEventID"] == ours["sharedEventID"]
    assert theirs["userIdentity"] == {
        "type": "AWSAccount",
        "principalId": ours["userIdentity"]["principalId"],
        "accountId": ACCOUNT,
    }
    assert [one["accountId"] for one in theirs["resources"]] == [other]
    same = ours.keys() - {"eventID", "recipientAccountId", "userIdentity", "resources"}
    assert {name: theirs[name] for name in same} == {name: ours[name] for name in same}
    assert list(theirs) == list(ours)
    assert learn(theirs, {}) == Learned()
    assert [i.access_key_id for i in learn(ours, {}).identities] == ["ASIAEXAMPLE"]


def test_call_on_very_many_accounts_has_few_copies() -> None:
    names = [f"arn:aws:dynamodb:us-east-1:{number:012d}:table/t" for number in range(1, 400)]
    body = json.dumps({"RequestItems": {name: {"Keys": []} for name in names}}).encode()
    request = a_json_request("dynamodb", "DynamoDB_20120810.BatchGetItem", body)
    made = Assembler(resolve).assemble(an_exchange(request, a_response(b"{}")))
    assert len(made.more) == 20
    assert len(made.record["resources"]) == 250
    assert made.record["additionalEventData"]["opentrail"]["resourcesLeftOut"] == 149
    for copy in made.more:
        resources = json.loads(copy.record)["resources"]
        assert [resource["accountId"] for resource in resources] == [copy.account]


def test_refused_and_local_calls_have_no_copies() -> None:
    within = Assembler(resolve).assemble(an_exchange(ASSUME_ROLE, a_response(ASSUME_ROLE_ANSWER)))
    other = a_query_request(
        "sts",
        "AssumeRole",
        "2011-06-15",
        {"RoleArn": ROLE.replace(ACCOUNT, "210987654321"), "RoleSessionName": "etl"},
    )
    error = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
    refused = Assembler(resolve).assemble(an_exchange(other, a_response(error, 403)))
    for made in (within, refused):
        assert made.more == ()
        assert "sharedEventID" not in made.record


def test_a_vpc_endpoint_is_named_with_its_owner() -> None:
    networks = [network(SOURCE_IP)]
    for owner, shown in ((None, ACCOUNT), ("210987654321", "210987654321")):
        entrance = Networks(endpoints=[VpcEndpoint("vpce-1", tuple(networks), owner)])
        made = Assembler(resolve, networks=entrance).assemble(an_exchange())
        assert made.record["vpcEndpointId"] == "vpce-1"
        assert made.record["vpcEndpointAccountId"] == shown
    assert "vpcEndpointId" not in Assembler(resolve).assemble(an_exchange()).record


def test_an_unknown_key_is_marked_as_unverified() -> None:
    request = a_query_request("iam", "ListUsers", "2010-05-08", {}, key="AKIAUNKNOWN")
    own = recorded(an_exchange(request))["additionalEventData"]["opentrail"]
    assert own["identity"].startswith("unverified")


def test_web_identity_has_its_tokens_name() -> None:
    other = "210987654321"
    request = a_query_request(
        "sts",
        "AssumeRoleWithWebIdentity",
        "2011-06-15",
        {
            "RoleArn": ROLE.replace(ACCOUNT, other),
            "RoleSessionName": "etl",
            "WebIdentityToken": "e30.e30.c2ln",
        },
        signed=False,
    )
    answer = (
        ASSUME_ROLE_ANSWER.replace(b"AssumeRoleR", b"AssumeRoleWithWebIdentityR")
        .replace(ACCOUNT.encode(), other.encode())
        .replace(
            b"<Credentials>",
            b"<Provider>idp</Provider><Audience>aud</Audience>"
            b"<SubjectFromWebIdentityToken>sub</SubjectFromWebIdentityToken><Credentials>",
        )
    )
    record = recorded(an_exchange(request, a_response(answer)))
    assert record["userIdentity"] == {
        "type": "WebIdentityUser",
        "principalId": "idp:aud:sub",
        "userName": "sub",
        "identityProvider": "idp",
    }
    assert record["recipientAccountId"] == other
    assert "sharedEventID" not in record


def test_sessions_transitive_tags_are_in_later_roles_records() -> None:
    """The chain of "Example of role chaining CloudTrail log file" (IAM guide)."""
    known = {KEY: an_identity()}

    def assumed(key: str, role: str, new_key: str, tags: Mapping[str, str], kept: str) -> Any:
        given = {"RoleArn": ROLE.replace("DataRole", role), "RoleSessionName": "etl"}
        for number, (name, value) in enumerate(tags.items(), 1):
            given[f"Tags.member.{number}.Key"] = name
            given[f"Tags.member.{number}.Value"] = value
        given["TransitiveTagKeys.member.1"] = kept
        request = a_query_request("sts", "AssumeRole", "2011-06-15", given, key=key)
        answer = ASSUME_ROLE_ANSWER.replace(b"ASIAEXAMPLE", new_key.encode())
        made = Assembler(lambda one: known[one]).assemble(an_exchange(request, a_response(answer)))
        (identity,) = learn(made.record, {}).identities
        known[new_key] = identity
        return made.record["requestParameters"]

    first = assumed(KEY, "One", "ASIAONE", {"Department": "Engineering", "x": "y"}, "department")
    assert "incomingTransitiveTags" not in first
    second = assumed("ASIAONE", "Two", "ASIATWO", {"Email": "a@b.c"}, "Email")
    assert second["incomingTransitiveTags"] == {"Department": "Engineering"}
    third = assumed("ASIATWO", "Three", "ASIATHREE", {}, "none")
    assert third["incomingTransitiveTags"] == {"Department": "Engineering", "Email": "a@b.c"}


def test_a_call_with_a_deleted_key_is_marked() -> None:
    gone = replace(an_identity(), deleted_by="the-event")
    made = Assembler(lambda _key: gone).assemble(an_exchange())
    own = made.record["additionalEventData"]["opentrail"]
    assert own["identity"] == "this access key was deleted: event the-event"


# The journal's row


def test_the_row_matches_the_record() -> None:
    made = Assembler(resolve).assemble(an_exchange(an_s3_request("PUT", "/b/k"), origin="hook"))
    entry = made.entry
    assert (entry.origin, entry.account, entry.region) == ("hook", ACCOUNT, "us-east-1")
    assert (entry.category, entry.event_id) == ("Data", event_id(1))
    assert entry.recorded_at == MOMENT
    assert json.loads(entry.record) == json.loads(json.dumps(made.record))
    assert made.decoded


# Undecodable parts


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (a_json_request("sqs", "AmazonSQS.DeleteQueue", b"{broken"), "line 1"),
        (a_json_request("sqs", "AmazonSQS.DeleteQueue", b"[]"), "not an object"),
        (a_request("lambda", "PATCH", "/no/route"), "operation is not known"),
    ],
)
def test_an_undecodable_call_keeps_method_path_and_reason(request_: Request, reason: str) -> None:
    made = Assembler(resolve).assemble(an_exchange(request_))
    own = made.record["additionalEventData"]["opentrail"]
    assert reason in own["decodeError"]
    assert own["request"] == {"method": request_.method, "path": request_.path}
    assert made.record["requestParameters"] is None
    assert not made.decoded


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (an_s3_request("PUT", "/b", "tagging", body=b"<Tagging>"), "not well-formed XML"),
        (an_s3_request("PATCH", "/b/k"), "operation is not known"),
    ],
)
def test_an_undecodable_call_to_s3_keeps_its_bucket(request_: Request, reason: str) -> None:
    made = Assembler(resolve).assemble(an_exchange(request_))
    own = made.record["additionalEventData"]["opentrail"]
    assert reason in own["decodeError"]
    assert own["request"] == {"method": request_.method, "path": request_.path}
    assert made.record["requestParameters"]["bucketName"] == "b"
    assert not made.decoded


def test_duplicate_keys_are_marked() -> None:
    request = a_json_request("sqs", "AmazonSQS.DeleteQueue", b'{"QueueUrl":"a","QueueUrl":"b"}')
    record = recorded(an_exchange(request))
    assert record["requestParameters"] == {"queueUrl": "b"}
    assert record["additionalEventData"] == {"opentrail": {"duplicateKeys": True}}


def test_surrogates_and_huge_numbers_are_marked() -> None:
    body = b'{"QueueName":"\\ud800","Attributes":{"a":18446744073709551616},"New":NaN}'
    record = recorded(an_exchange(a_json_request("sqs", "AmazonSQS.CreateQueue", body)))
    assert record["requestParameters"] == {
        "queueName": "\ufffd",
        "attributes": {"a": "18446744073709551616"},
        "new": "NaN",
    }
    assert record["additionalEventData"] == {"opentrail": {"altered": True}}


def test_an_unreadable_answer_leaves_a_note_and_null() -> None:
    record = recorded(an_exchange(response=a_response(b"<CreateUserResp")))
    assert record["responseElements"] is None
    assert "XML" in record["additionalEventData"]["opentrail"]["answerDecodeError"]
    assert record["requestParameters"] == {"userName": "Mary"}


def test_a_call_without_answer_has_the_reason() -> None:
    failure = Failure("BadGateway", "the upstream closed the connection")
    record = recorded(an_exchange(answered=False, failure=failure))
    assert record["additionalEventData"] == {
        "opentrail": {"failure": "the upstream closed the connection"}
    }
    assert record["errorCode"] == "BadGateway"
    assert record["errorMessage"] == "the upstream closed the connection"
    assert record["requestID"]


def test_recorder_notes_are_in_the_opentrail_block() -> None:
    exchange = an_exchange(notes={"requestBody": {"length": 20_000_000, "sha256": "ab"}})
    block = recorded(exchange)["additionalEventData"]["opentrail"]
    assert block == {"requestBody": {"length": 20_000_000, "sha256": "ab"}}
    assert exchange.notes == {"requestBody": {"length": 20_000_000, "sha256": "ab"}}


# Sizes (cloudtrail-format §2.2)


@pytest.mark.parametrize("path", ["/", "/my-bucket"])
def test_callers_agent_is_recorded_under_its_known_name(path: str) -> None:
    asked = ASSUME_ROLE if path == "/" else an_s3_request("PUT", path, "")
    headers = {**asked.headers, "user-agent": "Boto3/1.44.0 app/agent-claude-code"}
    record = recorded(an_exchange(Request(asked.method, path, "", headers, asked.body)))
    agent = record["additionalEventData"]["opentrail"]["agent"]
    assert agent == agent_of(record) == {"name": "Claude Code", "kind": "agent"}


def test_an_agents_session_is_recorded_with_its_delegator() -> None:
    identity = an_assumed_role(session="agent+payroll")
    identity["sessionContext"]["sourceIdentity"] = "ada"
    known = Identity(KEY, ACCOUNT, identity)
    made = Assembler(lambda _: known).assemble(an_exchange())
    assert made.record["additionalEventData"]["opentrail"]["agent"] == {
        "name": "payroll",
        "kind": "agent",
        "session": "agent+payroll",
        "delegator": "ada",
    }


@pytest.mark.parametrize("odd", [["arn"], {"arn": 1}, 7, "x" * 100_000])
def test_an_odd_identity_names_no_agent(odd: Any) -> None:
    identity = {"type": "AssumedRole", "arn": odd, "sessionContext": {"sourceIdentity": odd}}
    known = Identity(KEY, ACCOUNT, identity)
    record = Assembler(lambda _: known).assemble(an_exchange()).record
    assert "opentrail" not in record.get("additionalEventData", {})


def test_oversized_parameters_are_omitted_with_aws_mark() -> None:
    policy = "x" * 110_000
    request = a_query_request(
        "iam", "CreateRole", "2010-05-08", {"AssumeRolePolicyDocument": policy}
    )
    record = recorded(an_exchange(request))
    assert record["requestParameters"] == {
        "omitted": True,
        "originalSize": 110_000 + len('{"assumeRolePolicyDocument":""}'),
        "reason": "requestParameters too large: more than 102400 bytes",
    }


@pytest.mark.slow
def test_search_limit_spares_the_next_call() -> None:
    agent = "an-agent/1.0 a=b"
    tags = [{"Key": "k", "Value": "pw=CANARY-12345 "}] * 40_000
    for parameters in ({"Name": "a", "Tags": tags}, {"Name": "a", "Value": "a=b"}):
        call = a_json_request("ssm", "AmazonSSM.PutParameter", parameters)
        request = replace(call, headers={**call.headers, "user-agent": agent})
        record = recorded(an_exchange(request))
        assert "CANARY" not in json.dumps(record)
        assert record["userAgent"] == agent


@pytest.mark.slow
def test_search_limit_spares_the_error_message() -> None:
    parameters = {"Name": "a", "Tags": [{"Key": "k", "Value": "a=b c=d "}] * 70_000}
    body = json.dumps({"__type": "ValidationException", "message": "limit=20 is too low"}).encode()
    request = a_json_request("ssm", "AmazonSSM.PutParameter", parameters)
    record = recorded(an_exchange(request, a_response(body, 400)))
    assert record["errorMessage"] == "limit=20 is too low"


def test_oversized_answers_are_omitted_alone() -> None:
    body = json.dumps({"MessageId": "m" * 110_000}).encode()
    request = a_json_request("sqs", "AmazonSQS.SendMessage", {"QueueUrl": QUEUE})
    record = recorded(an_exchange(request, a_response(body)))
    assert record["responseElements"]["omitted"] is True
    assert record["requestParameters"] == {"queueUrl": QUEUE}


def test_parameters_up_to_100_kilobytes_are_whole() -> None:
    policy = "x" * 100_000
    request = a_query_request(
        "iam", "CreateRole", "2010-05-08", {"AssumeRolePolicyDocument": policy}
    )
    assert recorded(an_exchange(request))["requestParameters"] == {
        "assumeRolePolicyDocument": policy
    }


def test_our_own_block_is_also_limited() -> None:
    record = recorded(an_exchange(notes={"many": ["k" * 1000] * 101}))
    assert record["additionalEventData"]["omitted"] is True
    assert record["additionalEventData"]["originalSize"] > 100_000


def test_strings_are_cut_at_a_kilobyte() -> None:
    body = b'{"__type":"%s","message":"%s"}' % (b"E" * 3000, b"m" * 3000)
    request = a_json_request("sqs", "AmazonSQS.DeleteQueue", {})
    long = Request("POST", "/", "", {**request.headers, "user-agent": "u" * 3000}, request.body)
    headers = {"x-amzn-requestid": "r" * 3000}
    record = recorded(an_exchange(long, a_response(body, 400, headers)))
    for member in ("userAgent", "errorCode", "errorMessage", "requestID"):
        assert len(record[member].encode()) == 1024


def test_wide_characters_are_cut_by_bytes() -> None:
    body = json.dumps({"__type": "E", "message": "ü" * 1000}, ensure_ascii=False).encode()
    request = a_json_request("sqs", "AmazonSQS.DeleteQueue", {})
    message = recorded(an_exchange(request, a_response(body, 400)))["errorMessage"]
    assert len(message.encode()) <= 1024
    assert message == "ü" * len(message)


@pytest.mark.parametrize("size", [10, 30_000, 150_000, 1_000_000])
def test_no_record_is_larger_than_256_kilobytes(size: int) -> None:
    body = json.dumps({"QueueUrl": QUEUE, "MessageId": "m" * size, "New": "n" * size}).encode()
    request = a_json_request("sqs", "AmazonSQS.SendMessage", body)
    made = Assembler(resolve).assemble(an_exchange(request, a_response(body)))
    assert len(made.entry.record) <= 256 * 1024


def test_long_record_has_at_most_256_kilobytes() -> None:
    target = "DynamoDB_20120810." + "X" * 60_000
    parameters = {"TableName": "arn:aws:dynamodb:us-east-1:1:table/" + "t" * 102_200}
    for request in (
        a_json_request("dynamodb", target, parameters, key="K" * 50_000),
        a_json_request("dynamodb", "DynamoDB_20120810.GetItem", parameters, key="K" * 50_000),
    ):
        made = Assembler(resolve).assemble(an_exchange(request))
        assert len(made.entry.record) <= 256 * 1024
        assert len(json.loads(made.entry.record)["eventName"]) <= 1024


# Errors repeat no hidden value, even of upstreams that repeat the whole request

ECHOED = {
    "cut json": a_json_request(
        "secretsmanager", "secretsmanager.CreateSecret", b'{"SecretString":"CANARY-1'
    ),
    "a text": a_json_request("ssm", "AmazonSSM.PutParameter", b'"CANARY-1"'),
    "an unknown operation": a_json_request("ssm", "AmazonSSM.Foo", {"Password": "CANARY-1"}),
    "a quoted form": a_query_request("iam", "Foo", "2010-05-08", {"Password": "CANARY-1"}),
    "xml of s3": an_s3_request(
        "PUT",
        "/b",
        "tagging",
        {},
        b"<Tagging><TagSet><Tag><Key>password</Key>"
        b"<Value>CANARY-1</Value></Tag></TagSet></Tagging>",
    ),
    "a key in the query of s3": an_s3_request(
        "GET", "/b/k", "x-amz-server-side-encryption-customer-key=CANARY-1&password=CANARY-1", {}
    ),
    "a bearer token": Request("POST", "/", "", {"authorization": "Bearer CANARY-1"}, b"{}"),
    "one value of many": a_json_request(
        "secretsmanager", "secretsmanager.CreateSecret", {"SecretString": '{"a":"CANARY-1"}'}
    ),
}


@pytest.mark.parametrize("name", ECHOED)
def test_an_error_contains_no_hidden_value(name: str) -> None:
    request = ECHOED[name]
    texts = [request.body.decode(), unquote_plus(request.body.decode()), request.query, "CANARY-1"]
    texts += [request.headers["authorization"], "the key CANARY-1", "https://a:CANARY-1@h/"]
    for text in texts:
        body = json.dumps({"__type": "E", "message": f"cannot read {text}"}).encode()
        s3 = b"<Error><Code>E</Code><Message>%s</Message></Error>"
        for answer in (a_response(body, 400), a_response(s3 % escape(text).encode(), 400)):
            assert "CANARY-1" not in json.dumps(recorded(an_exchange(request, answer)))


# Any input has a record: a call that the upstream executed must not go unrecorded

CBOR_PATH = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def cbor_request(body: bytes) -> Request:
    return a_request(
        "monitoring", path=CBOR_PATH, headers={"smithy-protocol": "rpc-v2-cbor"}, body=body
    )


def deep(opening: str, closing: str, depth: int) -> bytes:
    return (opening * depth + closing * depth).encode()


HOSTILE = {
    "json nested in an unknown member": a_json_request(
        "sqs", "AmazonSQS.CreateQueue", b'{"New":' + deep("[", "]", 400) + b"}"
    ),
    "json nested in a document": a_request(
        "bedrock",
        "POST",
        "/model/m/converse",
        body=b'{"additionalModelRequestFields":' + deep("[", "]", 400) + b"}",
    ),
    "xml nested to the limit": an_s3_request("PUT", "/b", "tagging", body=deep("<a>", "</a>", 500)),
    "xml of an unknown encoding": an_s3_request(
        "PUT", "/b", "tagging", body=b'<?xml version="1.0" encoding="x-none"?><Tagging/>'
    ),
    "xml of a binary encoding": a_request(
        "route53",
        "POST",
        "/2013-04-01/hostedzone",
        body=b'<?xml version="1.0" encoding="base64"?><CreateHostedZoneRequest/>',
    ),
    "form with a name that ends in a dot": a_request(
        "iam",
        headers=FORM,
        body=b"Action=CreateUser&Version=2010-05-08&UserName=Mary&UserName.=x",
    ),
    "form with a name where a boolean belongs": a_request(
        "iam",
        headers=FORM,
        body=b"Action=CreateLoginProfile&Version=2010-05-08&PasswordResetRequired.=x",
    ),
    "form of dots": a_request(
        "iam", headers=FORM, body=b"Action=CreateUser&Version=2010-05-08&" + b"A." * 100_000
    ),
    "cbor with numbers for names": cbor_request(cbor2.dumps({1: 2, "Namespace": "n"})),
    "cbor with a time before time": cbor_request(
        cbor2.dumps({"MetricData": [{"Timestamp": cbor2.CBORTag(0, "0001-01-01T00:00:00+14:00")}]})
    ),
    "cbor that holds itself": cbor_request(bytes.fromhex("d81ca1616ad81d00")),
    "cbor that holds itself in a known member": cbor_request(
        bytes.fromhex("a16a4d657472696344617461d81c81d81d00")
    ),
    "cbor with bytes for text": cbor_request(cbor2.dumps({"Namespace": [b"x", {"a": b"y"}]})),
    "cbor with a number beyond 64 bits": cbor_request(cbor2.dumps({"Namespace": 2**200})),
    "cbor nested deeply": cbor_request(b"\xa1\x61a" + b"\x81" * 400 + b"\x01"),
    "cbor with a set": cbor_request(cbor2.dumps({"Namespace": {1, 2}})),
    "cbor of no kind": cbor_request(cbor2.dumps({"Namespace": cbor2.undefined})),
    "a path with quoted bytes": an_s3_request("GET", "/b/%FF%FE%00"),
    "a query of odd bytes": an_s3_request("GET", "/b", "prefix=%FF&%00=%ED%A0%80"),
}


@pytest.mark.parametrize("request_", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_request_is_recorded(request_: Request) -> None:
    record = recorded(an_exchange(request_, a_response(b"", 200)))
    assert record["userIdentity"]["userName"] == "John"
    assert record["eventName"]


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0" encoding="x-none"?><CreateUserResponse/>',
        deep("<a>", "</a>", 500),
        b"<CreateUserResponse><CreateUserResult><User>" + deep("<a>", "</a>", 300),
        b"\xff",
    ],
)
def test_a_hostile_answer_is_recorded(body: bytes) -> None:
    for status in (200, 400):
        record = recorded(an_exchange(response=a_response(body, status)))
        assert record["requestParameters"] == {"userName": "Mary"}


BODIES = st.binary(max_size=50) | st.text(
    st.sampled_from('{}[]":,<>/?!=&.%1eNaNTagSetUserName\x00é\\u d8'), max_size=50
).map(str.encode)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=BODIES,
    answer=BODIES,
    status=st.sampled_from([200, 204, 301, 400, 404, 500]),
    query=st.text(max_size=12),
    header=st.text(max_size=12),
)
def test_every_exchange_has_a_record(
    body: bytes, answer: bytes, status: int, query: str, header: str
) -> None:
    requests = [
        a_json_request("dynamodb", "DynamoDB_20120810.PutItem", body),
        a_request("iam", headers=FORM, body=b"Action=CreateUser&Version=2010-05-08&" + body),
        a_request("ec2", headers=FORM, body=b"Action=RunInstances&Version=2016-11-15&" + body),
        an_s3_request("PUT", "/b", f"tagging&{query}", {"x-amz-meta-a": header}, body),
        an_s3_request("POST", "/b", "delete", {"content-encoding": header}, body),
        a_request("route53", "POST", "/2013-04-01/hostedzone", body=body),
        a_request("eks", "POST", "/tags/arn", query, body=body),
        cbor_request(body),
        a_request(header, "POST", f"/{query}", query, {"x-amz-target": header}, body),
    ]
    for request in requests:
        response = a_response(answer, status, {"x-amzn-errortype": header})
        record = recorded(an_exchange(request, response))
        assert in_order(record)
        assert record["eventName"]
        assert record["eventSource"]
        if status >= 400:
            assert record["errorCode"]
            assert record["responseElements"] is None


# Answers and errors

OWN = Described("orders.example.com", "PostOrders", False, {}, ACCOUNT, REGION, {})


def test_call_without_answer_has_no_elements_or_error() -> None:
    for request in (None, a_json_request("kms", "TrentService.CreateKey", b"{}")):
        record = recorded(an_exchange(request, answered=False))
        assert record["responseElements"] is None
        assert not {"errorCode", "errorMessage", "resources"} & set(record)


def test_reason_for_a_missing_answer_has_no_secrets() -> None:
    failure = Failure("Error", "no connection to http://h/?access_token=CANARY")
    record = recorded(an_exchange(answered=False, failure=failure))
    noted = record["additionalEventData"]["opentrail"]["failure"]
    assert noted.startswith("no connection to http://h/?access_token=")
    assert "CANARY" not in str(record)


def test_failed_search_hides_one_string(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> str:
        if "CANARY" in text:
            raise SystemError("The span of capturing group is wrong")
        return text

    monkeypatch.setattr(embedded, "without_text_secrets", fail)
    queue = {"QueueName": "q", "tags": {"a": "password=abcCANARYdef", "c": "d=e"}}
    body = json.dumps(queue).encode()
    error = b'{"__type": "QueueDeletedRecently", "message": "no: token=ghiCANARYjkl"}'
    request = a_json_request("sqs", "AmazonSQS.CreateQueue", body)
    record = recorded(an_exchange(request, Response(400, {}, error)))
    tags = {"a": HIDDEN, "c": "d=e"}
    assert record["requestParameters"] == {"queueName": "q", "tags": tags}
    assert (record["errorCode"], record["errorMessage"]) == ("QueueDeletedRecently", HIDDEN)
    assert "decodeError" not in str(record)


@pytest.mark.parametrize(
    ("headers", "described", "found"),
    [
        ({"x-amzn-requestid": "ours"}, None, "ours"),
        ({"x-request-id": "theirs"}, OWN, "theirs"),
        ({"x-amzn-requestid": "ours", "x-request-id": "theirs"}, OWN, "theirs"),
    ],
)
def test_the_id_of_a_request_is_the_answers(
    headers: dict[str, str], described: Described | None, found: str
) -> None:
    answered = an_exchange(response=Response(200, headers, b""), described=described)
    assert recorded(answered)["requestID"] == found
    # Without an id, each request gets its own.
    silent = replace(answered, response=None)
    assert len({recorded(silent)["requestID"], recorded(silent)["requestID"], found}) == 3


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (None, "IncompleteBody", "the client left"),
        (Response(200, {}, b""), "IncompleteBody", "the client left"),
        (Response(403, {}, b""), "AccessDenied", "the client left"),
        (
            Response(400, {}, b"<Error><Code>BadDigest</Code><Message>no</Message></Error>"),
            "BadDigest",
            "no",
        ),
    ],
)
def test_interrupted_call_has_an_error_whatever_the_answer(
    answer: Response | None, code: str, message: str
) -> None:
    failure = Failure("IncompleteBody", "the client left")
    record = recorded(replace(an_exchange(), response=answer, failure=failure))
    assert (record["errorCode"], record["errorMessage"]) == (code, message)


def test_a_custom_service_names_its_error() -> None:
    failed = recorded(an_exchange(described=replace(OWN, error="NotFound")))
    assert failed["errorCode"] == "NotFound"
    assert "errorMessage" not in failed
    assert "errorCode" not in recorded(an_exchange(described=OWN))


# The order of members


@pytest.mark.slow
def test_members_have_the_order_of_delivered_records() -> None:
    checked = 0
    for source, record in collected_records():
        if source in ("invictus-aws_dataset", "sans504-s3-ransomware"):
            checked += 1
            # AWS has category and recipient in either order.
            known = {k: v for k, v in record.items() if k != "eventCategory"}
            assert in_order(known), list(record)
    assert checked > at_least(10_000, 100)


# Unknown callers, learned from the upstream's answer

_GET_CALLER = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId><Account>000000000000</Account>
  </GetCallerIdentityResult></GetCallerIdentityResponse>"""


def asks_who(arn: str, user_id: str, status: int = 200) -> Exchange:
    request = a_query_request("sts", "GetCallerIdentity", "2011-06-15", key="test")
    return an_exchange(request, a_response(_GET_CALLER.format(arn, user_id).encode(), status))


@pytest.mark.parametrize(
    ("arn", "user_id", "kind", "recorded_arn"),
    [
        ("arn:aws:iam::000000000000:root", "000000000000", "Root", None),
        ("arn:aws:iam::000000000000:user/staff/Mary", "AIDAMARY", "IAMUser", None),
        (
            "arn:aws:sts::000000000000:user/moto",
            "AKIAIOSFODNN7EXAMPLE",
            "IAMUser",
            "arn:aws:iam::000000000000:user/moto",
        ),
        ("arn:aws:sts::000000000000:assumed-role/Data/etl", "AROA:etl", "AssumedRole", None),
    ],
)
def test_get_caller_identity_teaches_a_keys_caller(
    arn: str, user_id: str, kind: str, recorded_arn: str | None
) -> None:
    record = recorded(asks_who(arn, user_id))
    caller = record["userIdentity"]
    assert (caller["type"], caller["arn"]) == (kind, recorded_arn or arn)
    assert caller["accessKeyId"] == "test"
    assert record["recipientAccountId"] == "000000000000"
    assert record["responseElements"] is None
    assert "identity" not in record.get("additionalEventData", {}).get("opentrail", {})
    learned = learn(record, {}).identities
    if kind == "AssumedRole":
        assert learned == ()  # its session ends, and its start is unknown
    else:
        assert [each.access_key_id for each in learned] == ["test"]
        assert learned[0].user_identity["arn"] == caller["arn"]
        assert learned[0].learned_from == record["eventID"]


@pytest.mark.parametrize("arn", ["arn:aws:iam::12:root", "me", "arn:aws:iam::000000000000:group/g"])
def test_an_answer_without_principal_names_no_caller(arn: str) -> None:
    assert recorded(asks_who(arn, "x"))["userIdentity"]["type"] == "Unknown"


def test_a_refused_get_caller_identity_names_no_caller() -> None:
    refused = recorded(asks_who("arn:aws:iam::000000000000:root", "1", status=403))
    assert refused["userIdentity"]["type"] == "Unknown"


def test_unknown_caller_has_the_account_of_its_resource() -> None:
    answer = CREATE_USER_ANSWER.replace(b"123456789012", b"000000000000")
    request = a_query_request("iam", "CreateUser", "2010-05-08", {"UserName": "Mary"}, key="test")
    exchange = an_exchange(request, a_response(answer))
    account: list[str] = []
    assembler = Assembler(
        lambda key: unknown(DEFAULT_ACCOUNT, key),
        known_account=lambda: account[-1] if account else None,
    )
    record = assembler.assemble(exchange).record
    assert record["recipientAccountId"] == record["userIdentity"]["accountId"] == "000000000000"
    assert "sharedEventID" not in record
    assert learn(record, {}).account == "000000000000"
    account.append("111122223333")  # from the upstream itself
    assert assembler.assemble(exchange).record["recipientAccountId"] == DEFAULT_ACCOUNT
