"""Who created, changed and deleted a resource, and who was behind the credentials."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from opentrail.answers import understood, who
from opentrail.core.attributes import resources_of
from tests.api.caller import Api
from tests.factories import (
    ACCOUNT,
    KEY,
    a_data_record,
    a_record,
    an_assumed_role,
    an_iam_user,
    event_id,
    real_records,
)
from tests.fakes import asynchronous

CONSOLE = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
MARY = f"arn:aws:iam::{ACCOUNT}:user/Mary"
OTHER = "210987654321"


async def asked(text: str, *records: dict[str, Any], **narrowed: str) -> dict[str, Any]:
    """Returns what is answered when these records are all there are; ids tell their order."""
    api = Api()
    api.world.clock.advance(86_400)
    default = event_id(1)
    await api.record(
        [
            {**record, "eventID": f"event-{number}"} if record["eventID"] == default else record
            for number, record in enumerate(records, 1)
        ]
    )
    answer = await who(api.history, text, **narrowed)
    json.dumps(answer)
    return answer


def at(minute: int, **changes: Any) -> dict[str, Any]:
    return a_record(**{"eventTime": f"2020-01-01T09:{minute:02}:00Z", **changes})


def did(minute: int, event_name: str, asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Returns a call of IAM on its parameters, with no answer."""
    told = {"eventName": event_name, "requestParameters": asked, "responseElements": None}
    return at(minute, **{**told, **changes})


def deed(answer: dict[str, Any] | None) -> str:
    assert answer is not None
    assert answer["evidence"]["eventId"]
    assert answer["evidence"]["eventTime"].startswith("2020-01-01T09:")
    text: str = answer["sentence"]
    return text.split(", ", 2)[2].removesuffix(" through the AWS CLI")


# Created, changed, deleted


@asynchronous
async def test_the_reference_question() -> None:
    said = await asked("Mary", a_record(userAgent=CONSOLE))
    assert said["sentence"] == (
        "On January 1, 2020 at 9:00 AM, IAM user John created IAM user Mary "
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
        "steps": [],
        "origin": "IAM user John",
        "kind": "human",
        "end": "it begins with IAM user John",
    }
    assert (one["type"], one["name"], one["account"]) == ("AWS::IAM::User", "Mary", ACCOUNT)
    assert one["changed"] is one["deleted"] is None


@asynchronous
async def test_changes_are_counted_and_the_last_is_told() -> None:
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
async def test_a_deletion_is_told_with_what_was_before_it() -> None:
    said = await asked("Mary", at(0), did(5, "DeleteUser", {"userName": "Mary"}))
    (one,) = said["answers"]
    assert deed(one["created"]) == deed(said) == "IAM user John created IAM user Mary"
    assert deed(one["deleted"]) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_what_was_made_again_is_told_of_its_last_life() -> None:
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
async def test_without_a_creation_the_last_call_is_told() -> None:
    tagged = did(1, "TagUser", {"userName": "Mary"})
    said = await asked("Mary", tagged)
    assert deed(said) == "IAM user John tagged IAM user Mary"
    assert said["answers"][0]["created"] is None
    said = await asked("Mary", tagged, did(2, "DeleteUser", {"userName": "Mary"}))
    assert deed(said) == "IAM user John deleted IAM user Mary"


@asynchronous
async def test_calls_that_only_name_a_resource_tell_nothing_of_it() -> None:
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
        told = {"userIdentity": an_iam_user(name), "eventID": f"put-{minute}"}
        return a_data_record(eventTime=f"2020-01-01T09:{minute:02}:00Z", **{**told, **changes})

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


def test_a_question_tells_type_and_account_if_it_can() -> None:
    question = understood(MARY)
    assert (question.name, question.kind, question.account) == ("Mary", "AWS::IAM::User", ACCOUNT)
    assert understood("in/a.csv").kind is None
    assert understood("Mary", "user").fits("AWS::IAM::User")
    assert not understood("Mary", "user").fits("AWS::IAM::Group")


# How the caller got there


def assumed(
    minute: int, key: str, caller: dict[str, Any], role: str = "DataRole", **changes: Any
) -> dict[str, Any]:
    """Returns the call that gave out `key`."""
    return at(
        minute,
        **{
            "userIdentity": caller,
            "eventSource": "sts.amazonaws.com",
            "eventName": "AssumeRole",
            "readOnly": True,
            "requestParameters": {
                "roleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                "roleSessionName": "etl",
            },
            "responseElements": {
                "credentials": {"accessKeyId": key, "sessionToken": "t"},
                "assumedRoleUser": {
                    "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/etl",
                    "assumedRoleId": "AROAX:etl",
                },
            },
            **changes,
        },
    )


def a_session(key: str, role: str = "DataRole", **changes: Any) -> dict[str, Any]:
    return {**an_assumed_role(role), "accessKeyId": key, **changes}


async def caller_of(record: dict[str, Any], *before: dict[str, Any]) -> dict[str, Any]:
    said = await asked("Mary", *before, record)
    caller: dict[str, Any] = said["answers"][0]["caller"]
    return caller


@asynchronous
async def test_a_chain_of_roles_leads_to_its_first_human() -> None:
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA2", "Second")),
        assumed(1, "ASIA1", an_iam_user("Alice"), "First"),
        assumed(2, "ASIA2", a_session("ASIA1", "First"), "Second"),
        assumed(3, "ASIA3", an_iam_user("Eve"), "Second"),
    )
    assert [deed(step) for step in caller["steps"]] == [
        "role First (session etl) assumed IAM role Second as session etl",
        "IAM user Alice assumed IAM role First as session etl",
    ]
    assert caller["origin"] == "IAM user Alice"
    assert caller["kind"] == "human"
    assert caller["end"] == "it begins with IAM user Alice"


@pytest.mark.parametrize(
    ("identity", "kind", "words"),
    [
        ({"type": "Root", "accountId": ACCOUNT}, "human", f"the root user of account {ACCOUNT}"),
        ({"type": "SAMLUser", "userName": "sam"}, "human", "SAML user sam"),
        ({"type": "WebIdentityUser", "userName": "w"}, "human", "web identity w"),
        (
            {"type": "IdentityCenterUser", "onBehalfOf": {"userId": "9448"}},
            "human",
            "IAM Identity Center user 9448",
        ),
        (
            {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
            "service",
            "AWS service ec2.amazonaws.com",
        ),
        (
            {"type": "AWSAccount", "accountId": OTHER},
            "unknown",
            f"a caller of account {OTHER}",
        ),
        ({"type": "Unknown"}, "unknown", "an unknown caller"),
        (None, "unknown", "an unknown caller"),
    ],
)
@asynchronous
async def test_whom_a_chain_begins_with_is_said(
    identity: dict[str, Any] | None, kind: str, words: str
) -> None:
    record = at(9, userIdentity=a_session("ASIA1"))
    caller = await caller_of(record, assumed(1, "ASIA1", identity))  # type: ignore[arg-type]
    assert len(caller["steps"]) == 1
    assert caller["kind"] == kind
    assert caller["origin"] == (None if kind == "unknown" else words)
    assert words in caller["end"]


@asynchronous
async def test_where_no_record_leads_on_the_chain_says_so() -> None:
    caller = await caller_of(at(9, userIdentity=a_session("ASIA1")))
    assert caller == {
        "steps": [],
        "origin": None,
        "kind": "unknown",
        "end": ("the chain ends here: no record of who assumed role DataRole as session etl"),
    }


@asynchronous
async def test_what_a_session_tells_of_its_owner_is_said_where_the_chain_ends() -> None:
    session = a_session("ASIA1", inScopeOf={"credentialsIssuedTo": "arn:aws:lambda:::f"})
    session["sessionContext"] = {
        **session["sessionContext"],
        "sourceIdentity": "alice",
        "ec2RoleDelivery": "2.0",
    }
    caller = await caller_of(at(9, userIdentity=session))
    assert "source identity alice" in caller["end"]
    assert "delivered to EC2 instance etl" in caller["end"]
    assert "issued to arn:aws:lambda:::f" in caller["end"]


@asynchronous
async def test_a_chain_that_bites_its_tail_ends() -> None:
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA1")),
        assumed(1, "ASIA1", a_session("ASIA2")),
        assumed(2, "ASIA2", a_session("ASIA1")),
    )
    assert len(caller["steps"]) == 2
    assert caller["end"].startswith("the chain ends here")


@asynchronous
async def test_a_very_long_chain_is_followed_only_so_far() -> None:
    steps = [assumed(n, f"ASIA{n}", a_session(f"ASIA{n + 1}")) for n in range(20)]
    caller = await caller_of(at(30, userIdentity=a_session("ASIA0")), *steps)
    assert len(caller["steps"]) == 10
    assert caller["end"].startswith("the chain ends here")


@asynchronous
async def test_refused_calls_and_other_keys_make_no_step() -> None:
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA1")),
        assumed(1, "ASIA1", an_iam_user("Eve"), errorCode="AccessDenied"),
        did(2, "DeleteAccessKey", {"accessKeyId": "ASIA1"}, userIdentity=an_iam_user("Eve")),
    )
    assert caller["steps"] == []
    assert caller["kind"] == "unknown"


@asynchronous
async def test_of_two_copies_of_a_call_the_callers_own_is_followed() -> None:
    theirs = {"type": "AWSAccount", "principalId": "AIDAX", "accountId": OTHER}
    copies = {"sharedEventID": "shared"}
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA1")),
        assumed(1, "ASIA1", an_iam_user("Alice", OTHER), recipientAccountId=OTHER, **copies),
        assumed(1, "ASIA1", theirs, **copies),
    )
    assert caller["origin"] == "IAM user Alice"


@asynchronous
async def test_a_session_without_a_key_is_found_by_its_time() -> None:
    session = a_session("", invokedBy="autoscaling.amazonaws.com")
    service = {"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com"}
    record = at(9, userIdentity=session)
    made = assumed(0, "ASIA1", service, eventTime="2020-01-01T08:00:00Z")
    caller = await caller_of(record, made)
    assert len(caller["steps"]) == 1
    assert caller["kind"] == "service"
    caller = await caller_of(record)
    assert caller["steps"] == []
    assert caller["origin"] == "AWS service autoscaling.amazonaws.com"


@asynchronous
async def test_a_federated_user_leads_to_who_vouched_for_it() -> None:
    federated = {
        "type": "FederatedUser",
        "principalId": f"{ACCOUNT}:bob",
        "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/bob",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIA1",
        "sessionContext": {"sessionIssuer": {"type": "IAMUser", "userName": "Alice"}},
    }
    record = at(9, userIdentity=federated)
    assert (await caller_of(record))["origin"] == "IAM user Alice"
    made = at(
        1,
        userIdentity=an_iam_user("Alice"),
        eventSource="sts.amazonaws.com",
        eventName="GetFederationToken",
        requestParameters={"name": "bob"},
        responseElements={"credentials": {"accessKeyId": "ASIA1"}},
    )
    caller = await caller_of(record, made)
    assert [deed(step) for step in caller["steps"]] == [
        "IAM user Alice got temporary credentials for federated user bob"
    ]
    assert caller["origin"] == "IAM user Alice"


# What the same caller did next


@asynchronous
async def test_the_next_five_calls_of_the_same_key_are_told_in_order() -> None:
    later = [
        did(n, "TagUser", {"userName": f"user-{n}"}, userIdentity=an_iam_user(key=KEY))
        for n in range(1, 9)
    ]
    before = did(0, "TagUser", {"userName": "before"})
    others = did(1, "TagUser", {"userName": "x"}, userIdentity=an_iam_user("Eve", key="AKIAEVE"))
    said = await asked("Mary", before, at(0), others, *later)
    steps = said["answers"][0]["next"]
    assert [deed(step) for step in steps] == [
        f"IAM user John tagged IAM user user-{n}" for n in range(1, 6)
    ]


@asynchronous
async def test_calls_hours_and_days_later_are_next_too() -> None:
    def later(day: int) -> dict[str, Any]:
        return did(0, "TagUser", {"userName": f"u{day}"}, eventTime=f"2020-01-0{day}T08:00:00Z")

    api = Api()
    api.world.clock.advance(9 * 86_400)
    records = [at(0), later(2), later(3), later(4)]
    await api.record([{**r, "eventID": f"e{n}"} for n, r in enumerate(records)])
    steps = (await who(api.history, "Mary"))["answers"][0]["next"]
    assert [step["evidence"]["eventTime"][:10] for step in steps] == [
        "2020-01-02",
        "2020-01-03",
        "2020-01-04",
    ]


@asynchronous
async def test_without_a_key_the_principal_is_followed() -> None:
    john, eve = an_iam_user("J*n", key=""), an_iam_user("John", key="")
    said = await asked(
        "Mary",
        at(0, userIdentity=john),
        did(1, "TagUser", {"userName": "a"}, userIdentity=eve),
        did(2, "TagUser", {"userName": "b"}, userIdentity=john),
    )
    steps = said["answers"][0]["next"]
    assert [deed(step) for step in steps] == ["IAM user J*n tagged IAM user b"]
    said = await asked("Mary", at(0, userIdentity=None), did(1, "TagUser", {"userName": "a"}))
    assert said["answers"][0]["next"] == []


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
