"""The person behind the credentials of a call, and the same caller's next calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.core.attributes import attributes_of
from opentrail.ports.event_store import FoundEvent
from opentrail.who.original_callers import _follows
from opentrail.who.resource_stories import who
from tests.api.caller import Api
from tests.asking import asked, assumed, at, deed, did
from tests.factories import ACCOUNT, KEY, a_record, an_assumed_role, an_iam_user
from tests.fakes import asynchronous

OTHER = "210987654321"


def a_session(key: str, role: str = "DataRole", **changes: Any) -> dict[str, Any]:
    return {**an_assumed_role(role), "accessKeyId": key, **changes}


async def caller_of(record: dict[str, Any], *before: dict[str, Any]) -> dict[str, Any]:
    said = await asked("Mary", *before, record)
    caller: dict[str, Any] = said["answers"][0]["caller"]
    return caller


@asynchronous
async def test_chain_of_roles_leads_to_its_first_human() -> None:
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


@asynchronous
async def test_session_attributes_are_named() -> None:
    first, second = (
        {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}", "roleSessionName": "etl", **carried}
        for role, carried in (
            (
                "First",
                {
                    "sourceIdentity": "alice@example.com",
                    "tags": [{"key": "team", "value": "blue"}, {"key": "cost", "value": "1"}],
                },
            ),
            (
                "Second",
                {"tags": [{"key": "job", "value": "7"}], "incomingTransitiveTags": {"team": "b"}},
            ),
        )
    )
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA2", "Second")),
        assumed(1, "ASIA1", an_iam_user("Alice"), "First", requestParameters=first),
        assumed(2, "ASIA2", a_session("ASIA1", "First"), "Second", requestParameters=second),
    )
    assert caller["sourceIdentity"] == "alice@example.com"
    assert caller["sessionTags"] == {"job": "7", "team": "b", "cost": "1"}


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
async def test_the_first_caller_of_a_chain_is_named(
    identity: dict[str, Any] | None, kind: str, words: str
) -> None:
    record = at(9, userIdentity=a_session("ASIA1"))
    caller = await caller_of(record, assumed(1, "ASIA1", identity))  # type: ignore[arg-type]
    assert len(caller["steps"]) == 1
    assert caller["kind"] == kind
    assert caller["origin"] == (None if kind == "unknown" else words)
    assert words in caller["end"]


@asynchronous
async def test_a_chain_without_further_records_says_so() -> None:
    caller = await caller_of(at(9, userIdentity=a_session("ASIA1")))
    assert caller == {
        "sourceIdentity": None,
        "sessionTags": {},
        "steps": [],
        "origin": None,
        "kind": "unknown",
        "end": ("the chain ends here: no record of who assumed role DataRole as session etl"),
    }


@asynchronous
async def test_a_chains_end_has_hints_about_the_owner() -> None:
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
async def test_a_circular_chain_ends() -> None:
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA1")),
        assumed(1, "ASIA1", a_session("ASIA2")),
        assumed(2, "ASIA2", a_session("ASIA1")),
    )
    assert len(caller["steps"]) == 2
    assert caller["end"].startswith("the chain ends here")


@asynchronous
async def test_very_long_chain_is_followed_only_so_far() -> None:
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
async def test_the_callers_copy_of_a_call_is_followed() -> None:
    theirs = {"type": "AWSAccount", "principalId": "AIDAX", "accountId": OTHER}
    copies = {"sharedEventID": "shared"}
    caller = await caller_of(
        at(9, userIdentity=a_session("ASIA1")),
        assumed(1, "ASIA1", an_iam_user("Alice", OTHER), recipientAccountId=OTHER, **copies),
        assumed(1, "ASIA1", theirs, **copies),
    )
    assert caller["origin"] == "IAM user Alice"


@asynchronous
async def test_a_keyless_session_is_found_by_its_time() -> None:
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
async def test_federated_user_leads_to_who_vouched_for_it() -> None:
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
    alone = {**federated, "sessionContext": {}}
    assert (await caller_of(at(9, userIdentity=alone)))["end"] == (
        "the chain ends here: no record of who got the credentials of federated user bob"
    )


@asynchronous
async def test_a_chains_end_has_the_sessions_whole_name() -> None:
    session = {**a_session("ASIA1"), "principalId": "AROAX:a) (session b"}
    assert (await caller_of(at(9, userIdentity=session)))["end"].endswith(
        "no record of who assumed role DataRole as session a) (session b"
    )


# The same caller's next calls


@asynchronous
async def test_the_keys_next_five_calls_are_in_order() -> None:
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
async def test_much_later_calls_are_also_next() -> None:
    def later(day: int) -> dict[str, Any]:
        return did(0, "TagUser", {"userName": f"u{day}"}, eventTime=f"2020-01-0{day}T08:00:00Z")

    api = Api()
    api.world.clock.advance(9 * 86_400)
    records = [at(0), later(2), later(3), later(4)]
    await api.record([{**r, "eventID": f"e{n}"} for n, r in enumerate(records)])
    steps = (await who(api.history, "Mary"))["answers"][0]["next"]
    assert [str(step["evidence"]["eventTime"])[:10] for step in steps] == [
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


@pytest.mark.parametrize(
    ("one", "other", "follows"),
    [
        (8, 7, True),
        (6, 7, False),
        (-8, -7, True),  # imported events count downwards
        (-6, -7, False),
        (-8, 7, False),  # unknown
        (8, -7, False),
    ],
)
def test_calls_of_one_second_are_ordered_by_number(one: int, other: int, follows: bool) -> None:
    found = [
        FoundEvent.of(position, attributes_of(record), json.dumps(record))
        for position, record in ((one, a_record()), (other, a_record()))
    ]
    assert _follows(*found) is follows
