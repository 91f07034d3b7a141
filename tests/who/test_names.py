"""Meanings of a name: forms of ARNs, services and buckets before a slash, Name tags."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.attributes import attributes_of
from opentrail.ports.event_store import FoundEvent
from opentrail.who.names import named_by_tag, parse_name, readings_of, short_name
from tests.asking import asked, at, did
from tests.factories import ACCOUNT, REGION, a_data_record, a_record, record_bytes
from tests.fakes import asynchronous

OTHER = "210987654321"
AT = f"{REGION}:{ACCOUNT}"


def made(source: str, event_name: str, **changes: Any) -> dict[str, Any]:
    return at(0, eventSource=f"{source}.amazonaws.com", eventName=event_name, **changes)


FUNCTION = made(
    "lambda",
    "CreateFunction20150331",
    requestParameters={"functionName": "f"},
    responseElements={"functionName": "f", "functionArn": f"arn:aws:lambda:{AT}:function:f"},
)
TABLE = made(
    "dynamodb",
    "CreateTable",
    requestParameters={"tableName": "t"},
    responseElements={"tableDescription": {"tableArn": f"arn:aws:dynamodb:{AT}:table/t"}},
)
TOPIC = made(
    "sns",
    "CreateTopic",
    requestParameters={"name": "news"},
    responseElements={"topicArn": f"arn:aws:sns:{AT}:news"},
)
GROUP = made("logs", "CreateLogGroup", requestParameters={"logGroupName": "/app/web"})
SECRET = made(
    "secretsmanager",
    "CreateSecret",
    requestParameters={"name": "prod/db"},
    responseElements={"aRN": f"arn:aws:secretsmanager:{AT}:secret:prod/db-AbCdEf"},
)
SERVICE = made(
    "ecs",
    "CreateService",
    requestParameters={"cluster": "prod", "serviceName": "web"},
    responseElements={"service": {"serviceArn": f"arn:aws:ecs:{AT}:service/prod/web"}},
)
ROLE = made("iam", "CreateRole", requestParameters={"roleName": "Deploy"}, responseElements=None)
BUCKET = made("s3", "CreateBucket", requestParameters={"bucketName": "logs"})
OBJECT = a_data_record(
    requestParameters={"bucketName": "logs", "key": "in/a.csv"}, resources=[], eventID="put"
)
QUEUE = made("sqs", "CreateQueue", requestParameters={"queueName": "jobs"})


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (f"arn:aws:lambda:{AT}:function:f", FUNCTION),
        (f"arn:aws:lambda:{AT}:function:f:7", FUNCTION),
        (f"arn:aws:lambda:{AT}:function:f:PROD", FUNCTION),
        (f"{ACCOUNT}:function:f", FUNCTION),
        ("function:f:PROD", FUNCTION),
        ("lambda/f", FUNCTION),
        (f"arn:aws:dynamodb:{AT}:table/t/index/by-day", TABLE),
        (f"arn:aws:dynamodb:{AT}:table/t/stream/2020-01-01T09:00:00.000", TABLE),
        ("table/t", TABLE),
        (f"arn:aws:sns:{AT}:news:6b0e71bd-7e97-4d97-80ce-4a0994e55286", TOPIC),
        (f"arn:aws:logs:{AT}:log-group:/app/web", GROUP),
        (f"arn:aws:logs:{AT}:log-group:/app/web:*", GROUP),
        ("logs//app/web", GROUP),
        (f"arn:aws:secretsmanager:{AT}:secret:prod/db", SECRET),
        (f"arn:aws:secretsmanager:{AT}:secret:prod/db-AbCdEf", SECRET),
        ("secretsmanager/prod/db", SECRET),
        (f"arn:aws:ecs:{AT}:service/prod/web", SERVICE),
        (f"arn:aws:ecs:{AT}:service/web", SERVICE),
        (f"arn:aws:iam::{ACCOUNT}:role/service/Deploy", ROLE),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/i-0abc", ROLE),
        (f"iam::{ACCOUNT}:role/Deploy", ROLE),
        ("iam/Deploy", ROLE),
        (f"arn:aws:iam::{ACCOUNT}:user/staff/Mary", a_record()),
        ("s3/logs", BUCKET),
        ("arn:aws:s3:::logs", BUCKET),
        ("arn:aws:s3:::logs/in/a.csv", OBJECT),
        ("logs/in/a.csv", OBJECT),
        ("s3/logs/in/a.csv", OBJECT),
        ("s3://logs/in/a.csv", OBJECT),
        (f"sqs:{AT}:jobs", QUEUE),
    ],
)
@asynchronous
async def test_every_form_of_a_name_finds_its_resource(text: str, record: dict[str, Any]) -> None:
    answers = (await asked(text, record))["answers"]
    assert [one["created"]["evidence"]["eventName"] for one in answers] == [record["eventName"]]


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (f"arn:aws:iam::{OTHER}:role/Deploy", ROLE),
        (f"{OTHER}:function:f", FUNCTION),
        ("sns/f", FUNCTION),
        ("other/in/a.csv", OBJECT),
        ("arn:aws:s3:::other/in/a.csv", OBJECT),
        (f"arn:aws:dynamodb:{AT}:table/by-day", TABLE),
    ],
)
@asynchronous
async def test_another_resource_is_not_found(text: str, record: dict[str, Any]) -> None:
    assert (await asked(text, record))["answers"] == []


@asynchronous
async def test_explicit_form_precedes_guesses() -> None:
    named = at(1, requestParameters={"userName": "iam/Mary"}, responseElements=None)
    (one,) = (await asked("iam/Mary", a_record(), named))["answers"]
    assert one["name"] == "iam/Mary"


def test_a_question_may_have_type_and_account() -> None:
    question = parse_name(f"arn:aws:iam::{ACCOUNT}:user/Mary")
    assert (question.name, question.kind, question.account) == ("Mary", "AWS::IAM::User", ACCOUNT)
    assert parse_name("in/a.csv").kind is None
    assert parse_name("Mary", "user").matches_type("AWS::IAM::User")
    assert parse_name("Mary", "iam").matches_type("AWS::IAM::User")
    assert parse_name("m", "states").matches_type("AWS::StepFunctions::StateMachine")
    assert not parse_name("Mary", "user").matches_type("AWS::IAM::Group")
    assert not parse_name("Mary", "cognito-idp").matches_type("AWS::IAM::User")


def test_a_type_selects_one_reading_of_a_name() -> None:
    assert [question.name for question in readings_of("a/b", "bucket")] == ["a/b"]


def test_only_the_suffix_of_a_secret_is_cut() -> None:
    secret = f"arn:aws:secretsmanager:{AT}:secret:"
    assert short_name(f"{secret}prod-AbCdEf") == "prod"
    assert short_name(f"{secret}prod-AbCdEfG") == "prod-AbCdEfG"


# Name tags


def ec2(event_name: str, asked: dict[str, Any], answered: Any = None) -> dict[str, Any]:
    members = {"requestParameters": asked, "responseElements": answered}
    return made("ec2", event_name, **members)


def tags(name: str) -> list[dict[str, str]]:
    return [{"key": "team", "value": "web"}, {"key": "Name", "value": name}]


def tagging(resource_type: str, name: str) -> dict[str, Any]:
    return {"resourceType": resource_type, "tags": tags(name)}


RUN = ec2(
    "RunInstances",
    {
        "instancesSet": {"items": [{"imageId": "ami-1"}]},
        "subnetId": "subnet-1",
        "tagSpecificationSet": {"items": [tagging("instance", "shop"), tagging("volume", "disk")]},
    },
    {"instancesSet": {"items": [{"instanceId": "i-1", "subnetId": "subnet-1"}]}},
)
TAG = ec2(
    "CreateTags",
    {
        "resourcesSet": {"items": [{"resourceId": "vpc-1"}]},
        "tagSet": {"items": tags("main")},
    },
)


@asynchronous
async def test_a_name_tag_leads_to_the_resource() -> None:
    vpc = ec2("CreateVpc", {"cidrBlock": "10.0.0.0/16"}, {"vpc": {"vpcId": "vpc-1"}})
    (one,) = (await asked("main", vpc, {**TAG, "eventTime": "2020-01-01T09:01:00Z"}))["answers"]
    assert (one["type"], one["name"]) == ("AWS::EC2::VPC", "vpc-1")
    assert one["created"]["evidence"]["eventName"] == "CreateVpc"
    (one,) = (await asked("shop", RUN))["answers"]
    assert (one["type"], one["name"]) == ("AWS::EC2::Instance", "i-1")


@asynchronous
async def test_name_tag_narrows_to_type_account_and_success() -> None:
    assert (await asked("shop", RUN, kind="vpc"))["answers"] == []
    assert (await asked("shop", RUN, account=OTHER))["answers"] == []
    failed = {**RUN, "errorCode": "Client.UnauthorizedOperation"}
    assert (await asked("shop", failed))["answers"] == []


@pytest.mark.parametrize(
    ("record", "name", "expected"),
    [
        (RUN, "shop", ["i-1"]),
        (RUN, "disk", []),
        (RUN, "web", []),
        (TAG, "main", ["vpc-1"]),
        (
            made(
                "lambda",
                "TagResource20170331v2",
                requestParameters={
                    "resource": f"arn:aws:lambda:{AT}:function:f",
                    "tags": {"Name": "api"},
                },
            ),
            "api",
            [f"arn:aws:lambda:{AT}:function:f"],
        ),
        (did(0, "TagUser", {"userName": "Mary", "tags": tags("mm")}), "mm", ["Mary"]),
        (did(0, "TagUser", {"userName": "Name", "tags": []}), "Name", []),
    ],
)
def test_tagged_resources_are_read_from_the_record(
    record: dict[str, Any], name: str, expected: list[str]
) -> None:
    event = FoundEvent.of(1, attributes_of(record), record_bytes(record).decode())
    assert [resource.name for resource in named_by_tag(event, record, name)] == expected
