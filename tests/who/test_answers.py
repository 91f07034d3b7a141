"""Who created, changed and deleted a resource, and who was behind the credentials."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import datetime
from typing import Any

import pytest

from opentrail.core.attributes import resources_of
from opentrail.history import event_history
from opentrail.who import answers
from opentrail.who.answers import parse_question, who
from tests.api.caller import Api
from tests.asking import asked, assumed, at, deed, did
from tests.factories import (
    ACCOUNT,
    KEY,
    a_data_record,
    a_record,
    an_iam_user,
    real_records,
)
from tests.fakes import TIMEOUT_SECONDS, asynchronous

CONSOLE = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
MARY = f"arn:aws:iam::{ACCOUNT}:user/Mary"
OTHER = "210987654321"


# Created, changed, deleted


@asynchronous
async def test_the_reference_question() -> None:
    said = await asked("Mary", a_record(userAgent=CONSOLE))
    assert said["sentence"] == (
        "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary "
        "through the AWS Management Console"
    )
    assert said["evidence"] == {
        "eventId": "event-1",
        "eventTime": "2020-01-01T09:00:00Z",
        "eventName": "CreateUser",
        "sourceIPAddress": "192.0.2.10",
        "userAgent": CONSOLE,
        "accessKeyId": KEY,
        "principal": f"arn:aws:iam::{ACCOUNT}:user/John",
    }
    (one,) = said["answers"]
    assert one["caller"] == {
        "sourceIdentity": None,
        "sessionTags": {},
        "steps": [],
        "origin": "IAM user John",
        "kind": "human",
        "end": "it begins with IAM user John",
    }
    assert (one["type"], one["name"], one["account"]) == ("AWS::IAM::User", "Mary", ACCOUNT)
    assert one["changed"] is one["deleted"] is None


@asynchronous
async def test_changes_are_counted_and_the_last_is_described() -> None:
    policy = {"userName": "Mary", "policyArn": "arn:aws:iam::aws:policy/Admin"}
    said = await asked(
        "Mary",
        at(0),
        did(1, "AddUserToGroup", {"userName": "Mary", "groupName": "staff"}),
        did(2, "AttachUserPolicy", policy, errorCode="AccessDenied"),
        did(3, "AttachUserPolicy", policy, userIdentity=an_iam_user("Jane")),
        did(4, "GetUser", {"userName": "Mary"}, readOnly=True),
    )
    (one,) = said["answers"]
    assert one["changed"]["times"] == 2
    assert deed(one["changed"]) == "IAM user Jane attached IAM policy Admin to IAM user Mary"
    assert deed(one["created"]) == "IAM user John created IAM user Mary"
    assert said["events"] == 5


@asynchronous
async def test_a_deletion_is_described_with_what_was_before_it() -> None:
    said = await asked("Mary", at(0), did(5, "DeleteUser", {"userName": "Mary"}))
    (one,) = said["answers"]
    assert deed(one["created"]) == deed(said) == "IAM user John created IAM user Mary"
    assert deed(one["deleted"]) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_a_recreated_resource_is_described_since_its_last_creation() -> None:
    said = await asked(
        "Mary",
        at(0),
        did(1, "TagUser", {"userName": "Mary"}),
        did(2, "DeleteUser", {"userName": "Mary"}),
        at(3, userIdentity=an_iam_user("Jane")),
    )
    (one,) = said["answers"]
    assert deed(one["created"]) == "IAM user Jane created IAM user Mary"
    assert one["changed"] is one["deleted"] is None


@asynchronous
async def test_without_a_creation_the_last_call_is_described() -> None:
    tagged = did(1, "TagUser", {"userName": "Mary"})
    said = await asked("Mary", tagged)
    assert deed(said) == "IAM user John tagged IAM user Mary"
    assert said["answers"][0]["created"] is None
    said = await asked("Mary", tagged, did(2, "DeleteUser", {"userName": "Mary"}))
    assert deed(said) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_calls_that_only_name_a_resource_are_not_changes() -> None:
    said = await asked(
        "subnet-1",
        did(
            0,
            "RunInstances",
            {"subnetId": "subnet-1"},
            eventSource="ec2.amazonaws.com",
        ),
    )
    assert said["sentence"] is None
    assert said["events"] == 1
    assert [event["EventName"] for event in said["first"]] == ["RunInstances"]


@asynchronous
async def test_an_object_that_is_written_over_was_made_by_the_first_call() -> None:
    def put(minute: int, name: str, **changes: Any) -> dict[str, Any]:
        members = {"userIdentity": an_iam_user(name), "eventID": f"put-{minute}"}
        return a_data_record(eventTime=f"2020-01-01T09:{minute:02}:00Z", **{**members, **changes})

    elsewhere = {"bucketName": "other", "key": "in/a.csv"}
    said = await asked(
        "in/a.csv",
        put(0, "John"),
        put(1, "Jane"),
        put(2, "Eve", requestParameters=elsewhere, resources=[]),
    )
    other, one = said["answers"]
    assert deed(other["created"]).startswith("IAM user Eve put S3 object in/a.csv into S3 bucket o")
    assert deed(one["created"]).startswith("IAM user John put S3 object in/a.csv")
    assert one["changed"]["times"] == 1
    assert deed(one["changed"]).startswith("IAM user Jane put S3 object in/a.csv")
    said = await asked("arn:aws:s3:::my-bucket/in/a.csv", put(0, "John"), put(2, "Eve"))
    assert len(said["answers"]) == 1


# Names


@pytest.mark.parametrize(
    "text", ["Mary", MARY, "AWS::IAM::User Mary", "user/Mary", "User/Mary", "AWS::IAM::User/Mary"]
)
@asynchronous
async def test_a_resource_may_be_named_in_several_ways(text: str) -> None:
    deleted = did(5, "DeleteUser", {"userName": "Mary"})
    (one,) = (await asked(text, at(0), deleted))["answers"]
    assert one["created"]["evidence"]["eventName"] == "CreateUser"
    assert one["deleted"]["evidence"]["eventName"] == "DeleteUser"


@asynchronous
async def test_several_resources_of_one_name_are_each_answered_for() -> None:
    group = did(1, "CreateGroup", {"groupName": "Mary"})
    theirs = at(2, recipientAccountId=OTHER, responseElements=None)
    said = await asked("Mary", at(0), group, theirs)
    things = [(one["type"].rpartition("::")[2], one["account"]) for one in said["answers"]]
    assert things == [("User", OTHER), ("Group", ACCOUNT), ("User", ACCOUNT)]
    assert said["sentence"] == said["answers"][0]["created"]["sentence"]
    for narrowed in ({"kind": "group"}, {"kind": "AWS::IAM::Group"}, {"kind": "IAM group"}):
        (one,) = (await asked("Mary", at(0), group, theirs, **narrowed))["answers"]
        assert one["type"] == "AWS::IAM::Group"
    (one,) = (await asked("Mary", at(0), group, theirs, account=OTHER))["answers"]
    assert one["account"] == OTHER
    (one,) = (await asked(MARY, at(0), group, theirs))["answers"]
    assert (one["type"], one["account"]) == ("AWS::IAM::User", ACCOUNT)


@asynchronous
async def test_a_resource_that_its_making_gave_an_id_is_found_by_both() -> None:
    ec2 = {"eventSource": "ec2.amazonaws.com"}
    made = at(
        0,
        eventName="CreateSecurityGroup",
        requestParameters={"groupName": "web", "vpcId": "vpc-1"},
        responseElements={"groupId": "sg-1", "_return": True},
        **ec2,
    )
    opened = did(1, "AuthorizeSecurityGroupIngress", {"groupId": "sg-1"}, **ec2)
    for name in ("web", "sg-1"):
        (one,) = (await asked(name, made, opened))["answers"]
        assert one["type"] == "AWS::EC2::SecurityGroup"
        assert one["changed"]["times"] == 1


@asynchronous
async def test_queues_of_one_name_in_two_regions_are_two() -> None:
    sqs = {"eventSource": "sqs.amazonaws.com"}
    here = did(0, "CreateQueue", {"queueName": "jobs"}, **sqs)
    there = did(1, "DeleteQueue", {"queueName": "jobs"}, awsRegion="eu-west-1", **sqs)
    first, second = (await asked("jobs", here, there))["answers"]
    assert (first["region"], second["region"]) == ("eu-west-1", "us-east-1")
    assert first["created"] is second["deleted"] is None


@pytest.mark.parametrize(
    "name", ["ASIA1", "etl", "AROAX:etl", f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl"]
)
@asynchronous
async def test_temporary_keys_and_sessions_were_made_by_who_assumed_the_role(name: str) -> None:
    (one,) = (await asked(name, assumed(1, "ASIA1", an_iam_user("Alice"))))["answers"]
    assert deed(one["created"]) == "IAM user Alice assumed IAM role DataRole as session etl"


def test_a_question_may_have_type_and_account() -> None:
    question = parse_question(MARY)
    assert (question.name, question.kind, question.account) == ("Mary", "AWS::IAM::User", ACCOUNT)
    assert parse_question("in/a.csv").kind is None
    assert parse_question("Mary", "user").matches_type("AWS::IAM::User")
    assert not parse_question("Mary", "user").matches_type("AWS::IAM::Group")


# Many events, real records


@asynchronous
async def test_a_creation_is_found_behind_a_thousand_calls_that_read() -> None:
    reads = [
        did(1, "GetUser", {"userName": "Mary"}, readOnly=True, eventID=f"read-{n}")
        for n in range(1_100)
    ]
    said = await asked("Mary", at(0), *reads)
    assert deed(said) == "IAM user John created IAM user Mary"


@asynchronous
async def test_a_creation_is_found_behind_large_calls_that_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "_MAX_EVENTS", 2_000)
    monkeypatch.setattr(event_history, "MAX_LATEST_TEXT", 1)  # one page
    reads = [
        did(1, "GetUser", {"userName": "Mary"}, readOnly=True, eventID=f"read-{n}")
        for n in range(1_100)
    ]
    assert deed(await asked("Mary", at(0), *reads)) == "IAM user John created IAM user Mary"


@asynchronous
async def test_the_event_loop_goes_on_while_records_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    histories, goes_on = answers._histories, threading.Event()

    def read(*arguments: Any) -> Any:
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(goes_on.set), loop)
        assert goes_on.wait(TIMEOUT_SECONDS)
        return histories(*arguments)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(answers, "_histories", read)
    said = await asked("Mary", at(0))
    assert deed(said) == "IAM user John created IAM user Mary"


@asynchronous
async def test_every_resource_of_real_records_can_be_asked_for() -> None:
    for record in real_records():
        if not record.keys() >= {"eventID", "recipientAccountId"}:
            continue
        api = Api()
        api.world.clock.moment = datetime.fromisoformat(record["eventTime"])
        await api.record([record])
        for resource in resources_of(record):
            said = await who(api.history, resource.name)
            json.dumps(said)
            assert said["events"] == 1


@asynchronous
async def test_assuming_a_role_uses_it_and_does_not_hide_its_last_change() -> None:
    created = did(0, "CreateRole", {"roleName": "DataRole"})
    changed = did(1, "UpdateAssumeRolePolicy", {"roleName": "DataRole"})
    uses = [assumed(n, f"ASIA{n}", an_iam_user("Alice")) for n in (2, 3, 4)]
    (one,) = (await asked("DataRole", created, changed, *uses))["answers"]
    assert one["changed"]["times"] == 1
    assert deed(one["changed"]) == "IAM user John changed who may assume IAM role DataRole"
