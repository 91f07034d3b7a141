"""Expected calls, and the differences of recorded ones."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import pytest

from opentrail.core.errors import UsageError
from opentrail.core.secrets.secret_names import HIDDEN
from opentrail.pytest_plugin.calls import RecordedCall
from opentrail.pytest_plugin.expectations import expected_call, named_members, nearest
from tests.factories import ACCOUNT, a_data_record, a_record


def call(source: str, name: str, **parameters: Any) -> RecordedCall:
    return RecordedCall(
        a_record(
            eventSource=f"{source}.amazonaws.com", eventName=name, requestParameters=parameters
        )
    )


SECRET = RecordedCall(
    a_record(
        eventSource="secretsmanager.amazonaws.com",
        eventName="CreateSecret",
        requestParameters={
            "name": "db",
            "description": HIDDEN,
            "tags": [{"key": "a", "value": f'{{"password":"{HIDDEN}"}}'}],
        },
    )
)
UPLOAD = RecordedCall(a_data_record())
CREATION = RecordedCall(a_record())


@pytest.mark.parametrize(
    "action",
    [
        "s3:PutObject",
        "s3:putobject",
        "s3:Put*",
        "s3:*",
        "*:PutObject",
        "s?:Put?bject",
        "s3.amazonaws.com:PutObject",
    ],
)
def test_an_action_matches_service_and_event(action: str) -> None:
    assert expected_call(action).matches(UPLOAD)
    assert not expected_call(action).matches(call("s4", "Push"))


@pytest.mark.parametrize(
    ("action", "source", "event"),
    [
        ("cloudwatch:PutMetricData", "monitoring", "PutMetricData"),
        ("monitoring:PutMetricData", "monitoring", "PutMetricData"),
        ("stepfunctions:StartExecution", "states", "StartExecution"),
        ("s3:ListObjectsV2", "s3", "ListObjects"),
        ("s3:ListObjects", "s3", "ListObjects"),
        ("lambda:CreateFunction", "lambda", "CreateFunction20150331"),
        ("lambda:CreateFunction20150331", "lambda", "CreateFunction20150331"),
        ("lambda:GetFunction", "lambda", "GetFunction20150331v2"),
    ],
)
def test_services_and_operations_have_more_than_one_name(
    action: str, source: str, event: str
) -> None:
    assert expected_call(action).matches(call(source, event))


@pytest.mark.parametrize("action", ["PutObject", "s3:", ":PutObject", "s3 PutObject", ""])
def test_invalid_actions_are_refused(action: str) -> None:
    with pytest.raises(UsageError, match="such as 's3:PutObject'"):
        expected_call(action)


@pytest.mark.parametrize("name", ["bucket", "Bucket", "bucketName", "bucket_name", "BucketName"])
def test_members_have_names_of_python_boto3_and_cloudtrail(name: str) -> None:
    right: dict[str, Any] = {name: "my-bucket"}
    wrong: dict[str, Any] = {name: "other"}
    assert expected_call("s3:PutObject", **right).matches(UPLOAD)
    assert not expected_call("s3:PutObject", **wrong).matches(UPLOAD)


def test_the_topmost_member_is_used() -> None:
    parameters = {"inner": {"name": "deep"}, "userName": "Mary", "list": [{"name": "deeper"}]}
    assert named_members(parameters, "name") == [("inner.name", "deep"), ("list.name", "deeper")]
    assert named_members(parameters, "user") == [("userName", "Mary")]
    assert named_members({"name": "top", **parameters}, "name") == [("name", "top")]
    assert named_members(parameters, "missing") == []
    assert named_members(None, "name") == []


def test_members_of_lists_match_if_one_does() -> None:
    items = {"items": [{"instanceId": "i-1"}, {"instanceId": "i-2"}]}
    stop = call("ec2", "StopInstances", instancesSet=items)
    assert expected_call("ec2:StopInstances", instance_id="i-2").matches(stop)
    assert not expected_call("ec2:StopInstances", instance="i-3").matches(stop)
    names = call("ssm", "GetParameters", names=["/a", "/b"])
    assert expected_call("ssm:GetParameters", names="/b").matches(names)
    assert expected_call("ssm:GetParameters", names=["/a", "/b"]).matches(names)


@pytest.mark.parametrize(
    ("expected", "actual", "fits"),
    [
        (5, "5", True),
        (True, "true", True),
        (True, True, True),
        ("x", "y", False),
        (re.compile("^in/"), "in/a", True),
        (re.compile("^in/"), "out/in/", False),
        (lambda value: value > 3, 4, True),
        (lambda value: value > 3, 3, False),
        (mock.ANY, {"a": 1}, True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        (None, "x", False),
    ],
)
def test_values_may_be_plain_patterns_or_functions(expected: Any, actual: Any, fits: bool) -> None:
    assert expected_call("a:B", member=expected).matches(call("a", "B", member=actual)) is fits


def test_none_is_expected_of_a_missing_member() -> None:
    assert expected_call("s3:PutObject", version_id=None).matches(UPLOAD)
    assert not expected_call("s3:PutObject", key=None).matches(UPLOAD)


def test_a_resource_may_be_expected_by_name() -> None:
    publish = call("sns", "Publish", topicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:news")
    send = call("sqs", "SendMessage", queueUrl=f"http://127.0.0.1:5/{ACCOUNT}/jobs")
    assert expected_call("sns:Publish", topic="news").matches(publish)
    assert expected_call("sqs:SendMessage", queue="jobs").matches(send)
    assert not expected_call("sns:Publish", topic="ews").matches(publish)


def test_error_user_and_region_are_not_members() -> None:
    denied = RecordedCall(a_record(errorCode="AccessDenied"))
    assert expected_call("iam:*").matches(denied)
    assert expected_call("iam:*", error="AccessDenied").matches(denied)
    assert expected_call("iam:*", error=re.compile("Denied")).matches(denied)
    assert not expected_call("iam:*", error=None).matches(denied)
    assert expected_call("iam:*", error=None).matches(CREATION)
    assert not expected_call("iam:*", error="AccessDenied").matches(CREATION)
    assert expected_call("iam:*", user="John", region="us-east-1").matches(CREATION)
    assert expected_call("iam:*", user=f"arn:aws:iam::{ACCOUNT}:user/John").matches(CREATION)
    assert not expected_call("iam:*", user="Mary").matches(CREATION)
    assert not expected_call("iam:*", region="eu-west-1").matches(CREATION)


def test_parameters_accept_names_that_keywords_cannot_have() -> None:
    upload = call("s3", "PutObject", **{"x-amz-acl": "private", "region": "moon"})
    given = {"x-amz-acl": "private", "region": "moon"}
    assert expected_call("s3:PutObject", parameters=given).matches(upload)
    assert not expected_call("s3:PutObject", parameters={"x-amz-acl": "x"}).matches(upload)


def test_differences_name_member_expectation_and_record() -> None:
    wanted = expected_call(
        "s3:PutObject", bucket="x", tags=re.compile("a"), error="NoSuchKey", region="eu-west-1"
    )
    assert wanted.differences(UPLOAD) == [
        "bucket: expected 'x', recorded 'my-bucket'",
        "tags: expected /a/, not among the request's parameters",
        "error: expected 'NoSuchKey', recorded None",
        "region: expected 'eu-west-1', recorded 'us-east-1'",
    ]
    assert str(wanted) == "s3:PutObject bucket='x' tags=/a/ error='NoSuchKey' region='eu-west-1'"


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("description", "x", "hides this value: no assertion on it can match"),
        ("value", '{"password":"x"}', "hides this value: no assertion on it can match"),
        ("secret_string", "x", "does not record this member: no assertion on it can match"),
        ("SecretBinary", re.compile("x"), "does not record this member: no assertion on it can"),
    ],
)
def test_a_hidden_value_matches_nothing_and_is_reported(member: str, value: Any, says: str) -> None:
    expected = expected_call(
        "secretsmanager:CreateSecret", parameters={"name": "db", member: value}
    )
    assert not expected.matches(SECRET)
    (difference,) = expected.differences(SECRET)
    assert difference.startswith(f"{member}: expected ")
    assert says in difference
    assert expected.undecided(SECRET) == [difference]


def test_certain_differences_are_decided() -> None:
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("secretsmanager:CreateSecret", {"name": "other", "description": "x"}),
        ("secretsmanager:DeleteSecret", {"description": "x"}),
        ("secretsmanager:CreateSecret", {"description": HIDDEN}),
        ("secretsmanager:CreateSecret", {"unknown": "x"}),
        ("secretsmanager:CreateSecret", {"description": "x", "error": "Denied"}),
        ("secretsmanager:CreateSecret", {}),
    )
    for name, members in cases:
        assert expected_call(name, **members).undecided(SECRET) == []
    assert expected_call("secretsmanager:CreateSecret", description=HIDDEN).matches(SECRET)


def test_nearest_call_is_similar() -> None:
    calls = [
        call("sqs", "PurgeQueue", queueUrl="x"),
        call("s3", "GetObject", bucketName="x"),
        call("s3", "PutObject", bucketName="y"),
        call("s3", "PutObjectAcl", bucketName="x"),
        call("s3", "PutObject", bucketName="x"),
    ]
    wanted = expected_call("s3:PutObject", bucket="x", key="a")
    found = [(each.event_name, each.parameters["bucketName"]) for each in nearest(wanted, calls, 3)]
    assert found == [("PutObject", "x"), ("PutObject", "y"), ("PutObjectAcl", "x")]


def test_wrong_service_with_a_like_event_is_near() -> None:
    calls = [call("s3", "PutObject"), call("iam", "CreateUser")]
    assert nearest(expected_call("s4:PutObjects"), calls, 5) == calls[:1]


def test_the_permission_of_an_event_is_recognised() -> None:
    listing = call("s3", "ListObjects", bucketName="x")
    hint = "s3:ListBucket is the permission for s3:ListObjects: name the event"
    assert expected_call("s3:ListBucket").hint(listing) == hint
    assert expected_call("s3:ListObjects").hint(listing) is None
    assert expected_call("s3:GetObject").hint(listing) is None
