"""The record's `resources`."""

from dataclasses import replace
from typing import Any

import pytest

from opentrail.capture.record.resources import resources_of
from opentrail.capture.record_rules import rules
from opentrail.wire.message import Request
from opentrail.wire.routing import Route
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


def route_of(request: Request) -> Route:
    return router().identify(request, read_credential(request))


def touched(
    request: Request, label: str, parameters: dict[str, Any], answer: dict[str, Any] | None = None
) -> list[dict[str, str]]:
    route = route_of(request)
    return resources_of(route, label, parameters, answer, "eu-west-1", ACCOUNT)


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


def test_a_successful_assume_role_touches_the_role() -> None:
    request = a_query_request("sts", "AssumeRole", "2011-06-15")
    role = {"accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": ROLE}
    assert touched(request, "sts", {"roleArn": ROLE}, {"credentials": {}}) == [role]
    assert touched(request, "sts", {"roleArn": ROLE}) == []


def test_role_belongs_to_the_account_of_its_arn() -> None:
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
def test_an_alias_is_not_recorded_as_a_key(key: str | None) -> None:
    """Only the upstream knows the key behind an alias."""
    assert touched(json_call("kms", "TrentService.Encrypt"), "kms", {"keyId": key}) == []


def test_re_encryption_touches_both_keys() -> None:
    request = json_call("kms", "TrentService.ReEncrypt")
    other = KEY_ARN.replace("1234abcd", "4321dcba")
    answer = {"SourceKeyId": KEY_ARN, "KeyId": other}
    parameters = {"destinationKeyId": "alias/app"}
    found = touched(request, "kms", parameters, answer)
    assert [entry["ARN"] for entry in found] == [KEY_ARN, other]
    parameters = {"destinationKeyId": KEY_ARN, "sourceKeyId": KEY_ARN}
    assert [entry["ARN"] for entry in touched(request, "kms", parameters)] == [KEY_ARN]


# Data services


@pytest.mark.parametrize("name", ["Music", f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/Music"])
def test_a_dynamodb_call_touches_its_table(name: str) -> None:
    request = json_call("dynamodb", "DynamoDB_20120810.PutItem")
    arn = f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/Music"
    expected = [{"accountId": ACCOUNT, "type": "AWS::DynamoDB::Table", "ARN": arn}]
    assert touched(request, "dynamodb", {"tableName": name}) == expected


def test_batch_of_dynamodb_touches_each_of_its_tables() -> None:
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


def test_management_call_of_a_data_service_touches_nothing() -> None:
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
    nowhere = [{"accountId": ACCOUNT, "type": "AWS::SNS::Topic"}]
    assert touched(request, "sns", {"phoneNumber": "+4912345"}) == nowhere


def test_most_services_touch_no_listed_resource() -> None:
    """706 of 3,210 real records have `resources` (cloudtrail-format §2.6)."""
    request = a_query_request("iam", "CreateUser", "2010-05-08")
    assert touched(request, "iam", {"userName": "Mary"}, {"user": {}}) == []


@pytest.mark.parametrize("value", [5, None, ["x"], {"a": 1}, ""])
@pytest.mark.parametrize(
    ("service", "target", "member", "kind"),
    [
        ("kms", "TrentService.Decrypt", "keyId", None),
        ("dynamodb", "DynamoDB_20120810.GetItem", "tableName", "AWS::DynamoDB::Table"),
        ("sqs", "AmazonSQS.SendMessage", "queueUrl", "AWS::SQS::Queue"),
    ],
)
def test_a_parameter_of_another_type_has_no_arn(
    service: str, target: str, member: str, kind: str | None, value: Any
) -> None:
    """A data event still has its type, so that selectors by type match it."""
    expected = [{"accountId": ACCOUNT, "type": kind}] if kind else []
    assert touched(json_call(service, target), service, {member: value}) == expected


HERE = f"eu-west-1:{ACCOUNT}"
STREAM = f"arn:aws:kinesis:{HERE}:stream/clicks"
TABLE = f"arn:aws:dynamodb:{HERE}:table/Music"


@pytest.mark.parametrize(
    ("service", "target", "parameters", "arns"),
    [
        ("kinesis", "Kinesis_20131202.PutRecord", {"streamName": "clicks"}, [STREAM]),
        ("kinesis", "Kinesis_20131202.GetRecords", {"streamARN": STREAM}, [STREAM]),
        (
            "kinesis",
            "Kinesis_20131202.SubscribeToShard",
            {"consumerARN": f"{STREAM}/consumer/app:1"},
            [STREAM],
        ),
        ("kinesis", "Kinesis_20131202.GetRecords", {"shardIterator": "AAA"}, None),
        (
            "firehose",
            "Firehose_20150804.PutRecord",
            {"deliveryStreamName": "logs"},
            [f"arn:aws:firehose:{HERE}:deliverystream/logs"],
        ),
        (
            "events",
            "AWSEvents.PutEvents",
            {"entries": [{"eventBusName": "a"}, {"eventBusName": "b"}, {"eventBusName": "a"}, {}]},
            [f"arn:aws:events:{HERE}:event-bus/a", f"arn:aws:events:{HERE}:event-bus/b"],
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.TransactWriteItems",
            {"transactItems": [{"put": {"tableName": "Music"}}, {"delete": {"tableName": TABLE}}]},
            [TABLE],
        ),
        (
            "dynamodb",
            "DynamoDBStreams_20120810.GetRecords",
            {"shardIterator": f"{TABLE}/stream/2026-11-20T00:00:00.000|1|AAA=="},
            [f"{TABLE}/stream/2026-11-20T00:00:00.000"],
        ),
    ],
)
def test_resources_of_data_events_follow_the_table(
    service: str, target: str, parameters: dict[str, Any], arns: list[str] | None
) -> None:
    found = touched(json_call(service, target), service, parameters)
    assert [one.get("ARN") for one in found] == (arns if arns else [None])
    assert {one["accountId"] for one in found} == {ACCOUNT}
    assert all(one["type"].startswith("AWS::") for one in found)


def test_a_sender_is_known_by_the_address() -> None:
    route = route_of(a_query_request("ses", "SendEmail", "2010-12-01"))
    asked = {"source": "Mary <mary@example.com>"}
    (found,) = resources_of(route, "ses", asked, None, "eu-west-1", ACCOUNT)
    assert found["ARN"] == f"arn:aws:ses:{HERE}:identity/mary@example.com"


def test_every_rule_covers_data_events_or_a_source() -> None:
    """A misspelled type would have no effect."""
    known = {kind for kinds in rules("kinds")["data"].values() for kind in kinds}
    known |= set(rules("resources")["management"].values())
    assert rules("resources").keys() - {"management"} <= known


def test_repositories_of_ecr_are_listed_without_type() -> None:
    route = route_of(a_json_request("ecr", "AmazonEC2ContainerRegistry_V20150921.PutImage", {}))
    own, other = ACCOUNT, "210987654321"
    for asked, owner in (({}, own), ({"registryId": other}, other), ({"registryId": 7}, own)):
        found = resources_of(
            route, "ecr", {"repositoryName": "team/app", **asked}, None, "eu-west-1", own
        )
        arn = f"arn:aws:ecr:eu-west-1:{owner}:repository/team/app"
        assert found == [{"accountId": owner, "ARN": arn}]
    assert resources_of(route, "ecr", {"registryId": other}, None, "eu-west-1", own) == []


def test_partner_events_list_the_event_source() -> None:
    target = "AWSEvents.PutPartnerEvents"
    route = route_of(a_json_request("events", target, {}))
    entries = [{"source": "aws.partner/example.com/a"}, {"source": "aws.partner/example.com/b"}]
    found = resources_of(route, "events", {"entries": entries}, None, "eu-west-1", ACCOUNT)
    assert [one["ARN"] for one in found] == [
        f"arn:aws:events:eu-west-1::event-source/{entry['source']}" for entry in entries
    ]
    assert {one["type"] for one in found} == {"AWS::Events::EventSource"}


def test_names_in_other_members_make_an_arn_whole() -> None:
    """An alias of an agent is listed together with the agent."""
    request = a_request("bedrock", "POST", "/agents/A1/agentAliases/B1/sessions/s/text")
    route = replace(route_of(request), operation="InvokeAgent")
    parameters = {"agentId": "A1", "agentAliasId": "B1"}
    (found,) = resources_of(route, "bedrock", parameters, None, "eu-west-1", ACCOUNT)
    assert found["ARN"] == f"arn:aws:bedrock:{HERE}:agent-alias/A1/B1"
    (unknown,) = resources_of(route, "bedrock", {"agentAliasId": "B1"}, None, "x", ACCOUNT)
    assert unknown == {"accountId": ACCOUNT, "type": "AWS::Bedrock::AgentAlias"}


def test_s3_express_has_its_bucket_names() -> None:
    name = "b--usw2-az1--x-s3"
    route = route_of(an_s3_request("PUT", "/b/k", ""))
    asked = {"bucketName": name, "key": "k"}
    found = resources_of(route, "s3express", asked, None, "us-west-2", ACCOUNT)
    arn = f"arn:aws:s3express:us-west-2:{ACCOUNT}:bucket/{name}"
    assert found == [
        {"type": "AWS::S3Express::Object", "ARN": f"{arn}/k"},
        {"accountId": ACCOUNT, "type": "AWS::S3Express::DirectoryBucket", "ARN": arn},
    ]
