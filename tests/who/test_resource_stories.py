"""Creators, changers and deleters of a resource, and the person behind the credentials."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import datetime
from typing import Any

import pytest

from opentrail.core.attributes import resources_of
from opentrail.history import event_history
from opentrail.who import resource_stories
from opentrail.who.resource_stories import who
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
RULE = f"arn:aws:events:us-east-1:{ACCOUNT}:rule/nightly"


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
async def test_a_deletion_is_described_with_its_creation() -> None:
    said = await asked("Mary", at(0), did(5, "DeleteUser", {"userName": "Mary"}))
    (one,) = said["answers"]
    assert deed(one["created"]) == deed(said) == "IAM user John created IAM user Mary"
    assert deed(one["deleted"]) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_recreated_resource_is_described_since_its_last_creation() -> None:
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
    (former,) = one["former"]
    assert (former["name"], former["renamed"]) == ("Mary", [])
    assert deed(former["created"]) == "IAM user John created IAM user Mary"
    assert deed(former["deleted"]) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_the_number_of_earlier_lives_is_limited() -> None:
    made = [at(minute, eventID=f"made-{minute}") for minute in range(30)]
    (one,) = (await asked("Mary", *made))["answers"]
    assert len(one["former"]) == 20
    assert one["former"][0]["created"]["evidence"]["eventId"] == "made-28"


@pytest.mark.parametrize("name", ["Mary", "Maria", MARY, f"{MARY[:-1]}ia"])
@asynchronous
async def test_a_renamed_resource_is_found_by_both_names(name: str) -> None:
    renamed = did(1, "UpdateUser", {"userName": "Mary", "newUserName": "Maria"})
    (one,) = (await asked(name, at(0), renamed, did(2, "TagUser", {"userName": "Maria"})))[
        "answers"
    ]
    assert one["name"] == "Maria"
    assert deed(one["created"]) == "IAM user John created IAM user Mary"
    assert [*map(deed, one["renamed"])] == ["IAM user John renamed IAM user Mary to Maria"]
    assert one["changed"]["times"] == 2
    assert deed(one["changed"]) == "IAM user John tagged IAM user Maria"


@asynchronous
async def test_rename_in_another_account_is_of_another_resource() -> None:
    theirs = did(
        1, "UpdateUser", {"userName": "Meg", "newUserName": "Mary"}, recipientAccountId=OTHER
    )
    for text, narrowed in ((MARY, {}), ("Mary", {"account": ACCOUNT})):
        (one,) = (await asked(text, at(0), theirs, **narrowed))["answers"]
        assert (one["account"], one["renamed"]) == (ACCOUNT, [])
    both = (await asked("Mary", at(0), theirs))["answers"]
    assert [one["account"] for one in both] == [OTHER, ACCOUNT]


@asynchronous
async def test_a_rename_is_found_behind_many_changes() -> None:
    def rds(minute: int, event_name: str, **asked: str) -> dict[str, Any]:
        changes = {"eventSource": "rds.amazonaws.com", "eventID": f"{event_name}-{minute}"}
        return did(minute, event_name, asked, **changes)

    made = rds(0, "CreateDBInstance", dBInstanceIdentifier="old")
    renamed = rds(1, "ModifyDBInstance", dBInstanceIdentifier="old", newDBInstanceIdentifier="new")
    more = [rds(n, "ModifyDBInstance", dBInstanceIdentifier="new") for n in range(2, 40)]
    (one,) = (await asked("new", made, renamed, *more))["answers"]
    assert one["created"]["evidence"]["eventName"] == "CreateDBInstance"
    assert deed(one["renamed"][0]) == "IAM user John renamed RDS instance old to new"
    assert one["changed"]["times"] == 39


@asynchronous
async def test_unsearched_names_make_an_answer_incomplete() -> None:
    made = [
        at(
            minute,
            eventSource="ec2.amazonaws.com",
            eventName="CreateSecurityGroup",
            requestParameters={"groupName": "web", "vpcId": f"vpc-{minute}"},
            responseElements={"groupId": f"sg-{minute}"},
        )
        for minute in range(10)
    ]
    opened = did(11, "AuthorizeSecurityGroupIngress", {"groupId": "sg-0", "groupName": "web"})
    opened["eventSource"] = "ec2.amazonaws.com"
    answers = (await asked("web", *made, opened))["answers"]
    assert len(answers) == 10
    assert [one["changed"]["complete"] for one in answers if one["changed"]] == [False]


@asynchronous
async def test_a_renamed_resource_and_its_namesake_are_two() -> None:
    events = [
        at(0),
        did(1, "UpdateUser", {"userName": "Mary", "newUserName": "Maria"}),
        at(2, userIdentity=an_iam_user("Jane")),
        did(3, "DeleteUser", {"userName": "Maria"}, userIdentity=an_iam_user("Eve")),
    ]
    (one,) = (await asked("Mary", *events))["answers"]
    assert deed(one["created"]) == "IAM user Jane created IAM user Mary"
    assert one["deleted"] is None
    assert [former["name"] for former in one["former"]] == ["Maria"]
    (other,) = (await asked("Maria", *events))["answers"]
    assert deed(other["created"]) == "IAM user John created IAM user Mary"
    assert deed(other["deleted"]) == "IAM user Eve deleted IAM user Maria"
    assert other["former"] == []


@asynchronous
async def test_without_a_creation_the_last_call_is_described() -> None:
    tagged = did(1, "TagUser", {"userName": "Mary"})
    said = await asked("Mary", tagged)
    assert deed(said) == "IAM user John tagged IAM user Mary"
    assert said["answers"][0]["created"] is None
    said = await asked("Mary", tagged, did(2, "DeleteUser", {"userName": "Mary"}))
    assert deed(said) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_naming_a_resource_does_not_change_it() -> None:
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
async def test_overwritten_object_was_made_by_the_first_call() -> None:
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
    there = put(
        2, "Eve", requestParameters=elsewhere, resources=[{"ARN": "arn:aws:s3:::other/in/a.csv"}]
    )
    (one,) = (await asked("arn:aws:s3:::my-bucket/in/a.csv", put(0, "John"), there))["answers"]
    assert deed(one["created"]).startswith("IAM user John put S3 object in/a.csv")


def put_rule(minute: int, **changes: Any) -> dict[str, Any]:
    members = {"eventSource": "events.amazonaws.com", "responseElements": {"ruleArn": RULE}}
    return did(minute, "PutRule", {"name": "nightly"}, **{**members, **changes})


@pytest.mark.parametrize("name", ["nightly", RULE])
@asynchronous
async def test_a_first_put_is_the_creation(name: str) -> None:
    targets = did(1, "PutTargets", {"rule": "nightly"}, eventSource="events.amazonaws.com")
    failed = put_rule(0, errorCode="ConcurrentModificationException", responseElements=None)
    said = await asked(name, failed, put_rule(1), targets, put_rule(2))
    (one,) = said["answers"]
    assert deed(one["created"]) == "IAM user John put EventBridge rule nightly"
    assert one["created"]["certain"] is False
    assert one["created"]["evidence"]["eventId"] == "event-2"
    assert deed(one["changed"]) == "IAM user John put EventBridge rule nightly"


def ssm(minute: int, event_name: str, version: int | None = None, **changes: Any) -> dict[str, Any]:
    answered = {"version": version} if version else None
    members = {"eventSource": "ssm.amazonaws.com", "responseElements": answered}
    return did(minute, event_name, {"name": "p"}, **{**members, **changes})


@asynchronous
async def test_a_put_after_another_call_is_a_change() -> None:
    read = ssm(0, "GetParameter", readOnly=True)
    for earlier in (read, ssm(0, "LabelParameterVersion")):
        (one,) = (await asked("p", earlier, ssm(1, "PutParameter")))["answers"]
        assert one["created"] is None
        assert one["changed"]["evidence"]["eventName"] == "PutParameter"
    failed = {**read, "errorCode": "ParameterNotFound"}
    (one,) = (await asked("p", failed, ssm(1, "PutParameter")))["answers"]
    assert (one["created"]["certain"], one["changed"]) == (False, None)


@asynchronous
async def test_an_answers_version_tells_creations_from_updates() -> None:
    (one,) = (await asked("p", ssm(1, "PutParameter", 1), ssm(2, "PutParameter", 2)))["answers"]
    assert one["created"]["certain"] is True
    assert one["changed"]["times"] == 1
    (one,) = (await asked("p", ssm(2, "PutParameter", 2)))["answers"]
    assert one["created"] is None


@asynchronous
async def test_an_inline_policy_is_one_of_its_role() -> None:
    def put(minute: int, role: str, name: str) -> dict[str, Any]:
        asked = {"roleName": role, "policyName": "p"}
        return did(minute, "PutRolePolicy", asked, userIdentity=an_iam_user(name))

    deleted = did(3, "DeleteRolePolicy", {"roleName": "A", "policyName": "p"})
    said = await asked("p", put(0, "A", "Ann"), put(1, "B", "Bob"), put(2, "A", "Eve"), deleted)
    first, second = said["answers"]
    assert deed(first["created"]) == "IAM user Ann put inline policy p on IAM role A"
    assert first["changed"]["times"] == 1
    assert deed(first["deleted"]) == "IAM user John removed inline policy p of IAM role A"
    assert deed(second["created"]) == "IAM user Bob put inline policy p on IAM role B"
    assert second["deleted"] is None


@asynchronous
async def test_copied_resource_is_not_created_by_the_copy() -> None:
    def rds(minute: int, event_name: str, **asked: str) -> dict[str, Any]:
        return did(minute, event_name, asked, eventSource="rds.amazonaws.com")

    instance = rds(0, "CreateDBInstance", dBInstanceIdentifier="main")
    replica = rds(
        1,
        "CreateDBInstanceReadReplica",
        dBInstanceIdentifier="copy",
        sourceDBInstanceIdentifier="main",
    )
    (one,) = (await asked("main", instance, replica))["answers"]
    assert one["created"]["evidence"]["eventName"] == "CreateDBInstance"
    (one,) = (await asked("copy", instance, replica))["answers"]
    assert one["created"]["evidence"]["eventName"] == "CreateDBInstanceReadReplica"


# Names


@pytest.mark.parametrize(
    "text", ["Mary", MARY, "AWS::IAM::User Mary", "user/Mary", "User/Mary", "AWS::IAM::User/Mary"]
)
@asynchronous
async def test_a_resource_may_have_several_names(text: str) -> None:
    deleted = did(5, "DeleteUser", {"userName": "Mary"})
    (one,) = (await asked(text, at(0), deleted))["answers"]
    assert one["created"]["evidence"]["eventName"] == "CreateUser"
    assert one["deleted"]["evidence"]["eventName"] == "DeleteUser"


@asynchronous
async def test_each_namesake_has_an_answer() -> None:
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
async def test_a_resource_is_found_by_name_and_id() -> None:
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
async def test_namesakes_in_two_regions_are_two_queues() -> None:
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
async def test_temporary_keys_were_made_by_the_roles_caller(name: str) -> None:
    (one,) = (await asked(name, assumed(1, "ASIA1", an_iam_user("Alice"))))["answers"]
    assert deed(one["created"]) == "IAM user Alice assumed IAM role DataRole as session etl"


@asynchronous
async def test_another_accounts_copy_has_less_than_the_event() -> None:
    stranger = {"type": "AWSAccount", "principalId": "AIDAX", "accountId": ACCOUNT}
    session = f"arn:aws:sts::{OTHER}:assumed-role/Audit/etl"
    answered = {
        "credentials": {"accessKeyId": "ASIA1"},
        "assumedRoleUser": {"arn": session, "assumedRoleId": "AROAX:etl"},
    }
    event = assumed(1, "ASIA1", an_iam_user("Alice"), "Audit", responseElements=answered)
    event["sharedEventID"] = "one"
    copy = {**event, "userIdentity": stranger, "recipientAccountId": OTHER, "eventID": "copy"}
    for records in ((event, copy), (copy, event)):
        (one,) = (await asked("etl", *records))["answers"]
        assert deed(one["created"]) == "IAM user Alice assumed IAM role Audit as session etl"
        assert (one["account"], one["former"]) == (OTHER, [])
    (one,) = (await asked("etl", copy))["answers"]
    assert deed(one["created"]).startswith(f"a caller of account {ACCOUNT} assumed IAM role Audit")


# Many events, real records


@asynchronous
async def test_a_creation_before_a_thousand_reads_is_found() -> None:
    reads = [
        did(1, "GetUser", {"userName": "Mary"}, readOnly=True, eventID=f"read-{n}")
        for n in range(1_100)
    ]
    said = await asked("Mary", at(0), *reads)
    assert deed(said) == "IAM user John created IAM user Mary"


@asynchronous
async def test_creation_is_found_behind_large_calls_that_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource_stories, "_MAX_EVENTS", 2_000)
    monkeypatch.setattr(event_history, "MAX_LATEST_TEXT", 1)  # one page
    reads = [
        did(1, "GetUser", {"userName": "Mary"}, readOnly=True, eventID=f"read-{n}")
        for n in range(1_100)
    ]
    assert deed(await asked("Mary", at(0), *reads)) == "IAM user John created IAM user Mary"


@asynchronous
async def test_first_put_is_found_behind_a_thousand_others() -> None:
    puts = [ssm(2, "PutParameter", eventID=f"put-{n}") for n in range(1_050)]
    (one,) = (await asked("p", ssm(1, "PutParameter"), *puts))["answers"]
    assert one["created"]["evidence"]["eventId"] == "event-1"
    assert (one["changed"]["complete"], one["changed"]["times"]) == (False, 1_000)
    (one,) = (await asked("p", ssm(1, "LabelParameterVersion"), *puts))["answers"]
    assert one["created"] is None


@asynchronous
async def test_the_event_loop_runs_during_reads_of_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    histories, goes_on = resource_stories._resources, threading.Event()

    def read(*arguments: Any) -> Any:
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(goes_on.set), loop)
        assert goes_on.wait(TIMEOUT_SECONDS)
        return histories(*arguments)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(resource_stories, "_resources", read)
    said = await asked("Mary", at(0))
    assert deed(said) == "IAM user John created IAM user Mary"


@asynchronous
async def test_every_real_resource_has_an_answer() -> None:
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
async def test_assuming_a_role_hides_no_change() -> None:
    created = did(0, "CreateRole", {"roleName": "DataRole"})
    changed = did(1, "UpdateAssumeRolePolicy", {"roleName": "DataRole"})
    uses = [assumed(n, f"ASIA{n}", an_iam_user("Alice")) for n in (2, 3, 4)]
    (one,) = (await asked("DataRole", created, changed, *uses))["answers"]
    assert one["changed"]["times"] == 1
    assert deed(one["changed"]) == "IAM user John changed who may assume IAM role DataRole"
