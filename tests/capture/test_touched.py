"""The record's `resources`: what a call touched."""

from typing import Any

import pytest

from opentrail.capture.touched import touched_resources
from opentrail.wire.message import Request
from opentrail.wire.routing import Call
from opentrail.wire.sigv4 import read_credential
from tests.factories import (
    ACCOUNT,
    a_json_request,
    a_query_request,
    a_request,
    an_s3_request,
    router,
)

KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
KEY_ARN = f"arn:aws:kms:us-east-1:999999999999:key/{KEY_ID}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/DataRole"


def call_of(request: Request) -> Call:
    return router().identify(request, read_credential(request))


def touched(
    request: Request, label: str, parameters: dict[str, Any], answer: dict[str, Any] | None = None
) -> list[dict[str, str]]:
    call = call_of(request)
    return touched_resources(call, label, parameters, answer, "eu-west-1", ACCOUNT)


def json_call(service: str, target: str) -> Request:
    return a_json_request(service, target, {})


# S3


@pytest.mark.parametrize(
    ("method", "path", "query", "parameters", "expected"),
    [
        (
            "PUT",
            "/b/in/a.csv",
            "",
            {"bucketName": "b", "key": "in/a.csv"},
            [
                {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::b/in/a.csv"},
                {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"},
            ],
        ),
        (
            "GET",
            "/b",
            "list-type=2&prefix=in/",
            {"bucketName": "b", "list-type": "2", "prefix": "in/"},
            [
                {"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::b/in/"},
                {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"},
            ],
        ),
        (
            "HEAD",
            "/b",
            "",
            {"bucketName": "b"},
            [
                {"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::b/"},
                {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"},
            ],
        ),
        (
            "GET",
            "/b",
            "acl",
            {"bucketName": "b", "acl": ""},
            [{"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"}],
        ),
        ("PUT", "/b", "", {"bucketName": "b"}, []),
        ("GET", "/", "", {"Host": "x"}, []),
    ],
    ids=["object", "list", "head-bucket", "bucket", "create-bucket", "list-buckets"],
)
def test_an_s3_call_touches_object_and_bucket(
    method: str,
    path: str,
    query: str,
    parameters: dict[str, Any],
    expected: list[dict[str, str]],
) -> None:
    assert touched(an_s3_request(method, path, query), "s3", parameters) == expected


# STS and KMS


def test_assuming_a_role_touches_the_role_if_it_went_well() -> None:
    request = a_query_request("sts", "AssumeRole", "2011-06-15")
    role = {"accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": ROLE}
    assert touched(request, "sts", {"roleArn": ROLE}, {"credentials": {}}) == [role]
    assert touched(request, "sts", {"roleArn": ROLE}) == []


def test_a_role_belongs_to_the_account_of_its_arn() -> None:
    request = a_query_request("sts", "AssumeRole", "2011-06-15")
    other = "arn:aws:iam::999999999999:role/DataRole"
    (found,) = touched(request, "sts", {"roleArn": other}, {"credentials": {}})
    assert found["accountId"] == "999999999999"


@pytest.mark.parametrize(
    ("key", "arn", "owner"),
    [
        (KEY_ID, f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{KEY_ID}", ACCOUNT),
        (KEY_ARN, KEY_ARN, "999999999999"),
    ],
)
def test_a_kms_call_touches_its_key(key: str, arn: str, owner: str) -> None:
    request = json_call("kms", "TrentService.Decrypt")
    expected = [{"accountId": owner, "type": "AWS::KMS::Key", "ARN": arn}]
    assert touched(request, "kms", {"keyId": key}) == expected


@pytest.mark.parametrize("key", ["alias/app", f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/app", None])
def test_an_alias_is_not_told_as_a_key(key: str | None) -> None:
    """Which key it stands for only the upstream knows."""
    assert touched(json_call("kms", "TrentService.Encrypt"), "kms", {"keyId": key}) == []


# Data services


@pytest.mark.parametrize("name", ["Music", f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/Music"])
def test_a_dynamodb_call_touches_its_table(name: str) -> None:
    request = json_call("dynamodb", "DynamoDB_20120810.PutItem")
    arn = f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/Music"
    expected = [{"accountId": ACCOUNT, "type": "AWS::DynamoDB::Table", "ARN": arn}]
    assert touched(request, "dynamodb", {"tableName": name}) == expected


def test_a_batch_of_dynamodb_touches_each_of_its_tables() -> None:
    request = json_call("dynamodb", "DynamoDB_20120810.BatchWriteItem")
    found = touched(request, "dynamodb", {"requestItems": {"A": [], "B": []}})
    assert [entry["ARN"].rpartition("/")[2] for entry in found] == ["A", "B"]


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        (f"http://localhost:4747/{ACCOUNT}/q", f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"),
        (
            "https://sqs.eu-west-1.amazonaws.com/999999999999/q",
            "arn:aws:sqs:eu-west-1:999999999999:q",
        ),
        ("http://localhost/queue/q/", f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"),
    ],
)
def test_a_message_touches_its_queue(url: str, arn: str) -> None:
    (found,) = touched(json_call("sqs", "AmazonSQS.SendMessage"), "sqs", {"queueUrl": url})
    assert (found["type"], found["ARN"]) == ("AWS::SQS::Queue", arn)


def test_a_management_call_of_a_data_service_touches_nothing() -> None:
    url = f"http://localhost:4747/{ACCOUNT}/q"
    assert touched(json_call("sqs", "AmazonSQS.DeleteQueue"), "sqs", {"queueUrl": url}) == []


@pytest.mark.parametrize(
    "name", ["f", "arn:aws:lambda:eu-west-1:123456789012:function:f"], ids=["name", "arn"]
)
def test_an_invocation_touches_its_function(name: str) -> None:
    request = a_request("lambda", "POST", "/2015-03-31/functions/f/invocations")
    (found,) = touched(request, "lambda", {"functionName": name})
    assert found["ARN"] == f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f"
    assert found["type"] == "AWS::Lambda::Function"


def test_a_published_message_touches_its_topic() -> None:
    arn = "arn:aws:sns:eu-west-1:999999999999:t"
    request = a_query_request("sns", "Publish", "2010-03-31")
    expected = [{"accountId": "999999999999", "type": "AWS::SNS::Topic", "ARN": arn}]
    assert touched(request, "sns", {"topicArn": arn}) == expected
    assert touched(request, "sns", {"phoneNumber": "+4912345"}) == []


def test_most_services_touch_nothing_that_is_listed() -> None:
    """706 of 3,210 real records have `resources` (capture.md §2.3)."""
    request = a_query_request("iam", "CreateUser", "2010-05-08")
    assert touched(request, "iam", {"userName": "Mary"}, {"user": {}}) == []


@pytest.mark.parametrize("value", [5, None, ["x"], {"a": 1}, ""])
@pytest.mark.parametrize(
    ("service", "target", "label", "member"),
    [
        ("kms", "TrentService.Decrypt", "kms", "keyId"),
        ("dynamodb", "DynamoDB_20120810.GetItem", "dynamodb", "tableName"),
        ("sqs", "AmazonSQS.SendMessage", "sqs", "queueUrl"),
    ],
)
def test_a_parameter_that_is_no_name_touches_nothing(
    service: str, target: str, label: str, member: str, value: Any
) -> None:
    assert touched(json_call(service, target), label, {member: value}) == []
