"""Policies generated from principals' calls, and policies tested on past calls, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from opentrail.history import written_searches
from opentrail.mcp.answer import MAX_ANSWER_BYTES
from opentrail.mcp.asked import answer_of
from opentrail.questions import policy_for
from opentrail.questions.question import load
from opentrail.questions.test_policy import PolicyTest
from tests.api.browser import Browser, most_reading
from tests.api.caller import send
from tests.asking import did
from tests.factories import an_assumed_role, an_iam_user, event_id
from tests.fakes import asynchronous

MARY = {"userIdentity": an_iam_user("Mary")}
ALLOW_IAM = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}],
}


async def with_calls() -> Browser:
    browser = Browser()
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    denied = {"errorCode": "AccessDenied", "errorMessage": "no", **MARY}
    calls = [
        did(1, "CreateUser", {"userName": "Eve"}, **MARY),
        did(2, "DeleteUser", {"userName": "Eve"}, **MARY),
        did(3, "DeleteUser", {"userName": "Eve"}, **denied),
        did(4, "CreateUser", {"userName": "Bob"}),
        did(5, "CreateUser", {"userName": "Bob"}, userIdentity=an_assumed_role("DataRole", "etl")),
    ]
    await browser.api.record([{**call, "eventID": event_id(n)} for n, call in enumerate(calls)])
    return browser


@asynchronous
async def test_a_policy_allows_a_principals_past_calls() -> None:
    browser = await with_calls()
    made = (await browser.get("policy", principal="Mary", resources="exact")).json
    (policy,) = made["policies"]
    actions = [action for each in policy["Statement"] for action in each["Action"]]
    assert sorted(actions) == ["iam:CreateUser", "iam:DeleteUser"]
    assert made["calls"] == {"allowed": 2, "denied": 1}
    assert (made["events"], made["complete"], made["refusedByIt"]) == (3, True, 0)
    msgspec.convert(made, policy_for.PolicyOfCalls)
    of_role = (await browser.get("policy", principal="DataRole")).json
    assert of_role["calls"] == {"allowed": 1}
    later = (await browser.get("policy", principal="Mary", since="2020-01-01T09:02:00Z")).json
    assert later["calls"] == {"allowed": 1, "denied": 1}


@asynchronous
async def test_policies_are_tested_on_past_calls() -> None:
    browser = await with_calls()
    body = {"principal": "Mary", "policies": [ALLOW_IAM]}
    tested = (await browser.post("policy/test", body)).json
    assert tested["allowedCalls"] == {"allowed": 2, "denied": 0, "unknown": 0}
    assert tested["deniedCalls"]["allowed"] == 1
    msgspec.convert(tested, PolicyTest)
    (newly,) = tested["newlyAllowed"]
    assert (newly["action"], newly["eventId"]) == ("iam:DeleteUser", event_id(2))
    tested = (await browser.post("policy/test", {**body, "policies": []})).json
    assert tested["allowedCalls"]["denied"] == 2
    nothing = {**ALLOW_IAM, "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    tested = (await browser.post("policy/test", {**body, "policies": [nothing]})).json
    assert {row["action"] for row in tested["newlyDenied"]} == {"iam:CreateUser", "iam:DeleteUser"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "principal must be given: a string of at most 1,200 characters (name or ARN"),
        ({"principal": "Mary", "resources": "few"}, "resources must be one of any, exact, prefix"),
        ({"principal": "Mary", "since": "90x"}, "since must be a time"),
    ],
)
@asynchronous
async def test_wrong_questions_are_refused(query: dict[str, str], message: str) -> None:
    browser = await with_calls()
    wrong = await browser.get("policy", **query)
    assert wrong.status == 400
    assert message in wrong.json["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"principal": 5}, "principal must be a string of at most 1,200 characters (name"),
        ({"since": 5}, "since must be a string of at most 40 characters"),
        ({"policies": ALLOW_IAM}, "policies must be a list"),
        ({"policies": [{"Version": "2012-10-17"}]}, "Missing required field Statement"),
        ({"policies": ["x"]}, "policies must be a list (policy documents), not ['x']"),
        ({"policies": [ALLOW_IAM] * 1_000}, "policies must have at most 61,440 characters"),
    ],
)
@asynchronous
async def test_wrong_tests_are_refused(change: dict[str, Any], message: str) -> None:
    browser = await with_calls()
    body = {"principal": "Mary", "policies": [ALLOW_IAM], **change}
    wrong = await browser.post("policy/test", body)
    assert wrong.status == 400
    assert message in wrong.json["error"]


@asynchronous
async def test_one_answers_events_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await with_calls()
    body = {"principal": "Mary", "policies": [ALLOW_IAM]}
    for ask in (
        lambda: browser.get("policy", principal="Mary"),
        lambda: browser.post("policy/test", body),
    ):
        assert await most_reading(monkeypatch, ask, "search") == 1


@asynchronous
async def test_a_deeply_nested_policy_is_refused() -> None:
    browser = await with_calls()
    policy = b'{"Statement":' * 1_010 + b"1" + b"}" * 1_010  # Python 3.13 reads it to its end
    answer = await browser.post("policy/test", b'{"principal":"Mary","policies":[%b]}' % policy)
    assert answer.status == 400
    assert answer.json["error"].startswith(("policies are nested too deeply", "policies must be"))


@asynchronous
async def test_a_policy_rests_on_all_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_searches, "_PAGE_EVENTS", 2)
    browser = await with_calls()
    made = (await browser.get("policy", principal="Mary", resources="exact")).json
    assert (made["events"], made["complete"], made["warning"]) == (3, True, None)
    (policy,) = made["policies"]
    actions = [action for each in policy["Statement"] for action in each["Action"]]
    assert sorted(actions) == ["iam:CreateUser", "iam:DeleteUser"]


@asynchronous
async def test_a_client_may_follow_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_searches, "_PAGE_EVENTS", 1)
    browser = await with_calls()
    headers = {**browser.headers(), "Accept": "application/x-ndjson"}
    answer = await send(browser.app, "GET", "/api/v1/policy?principal=Mary", headers)
    *reports, made = [json.loads(line) for line in answer.body.splitlines()]
    assert reports == [{"read": 1, "total": 3}, {"read": 2, "total": 3}]
    assert made == (await browser.get("policy", principal="Mary")).json


@pytest.mark.parametrize(
    ("module", "limit"),
    [(written_searches, "_READ_SECONDS"), (policy_for, "_MAX_CALL_KINDS")],
)
@asynchronous
async def test_an_answer_of_newest_events_is_marked(
    monkeypatch: pytest.MonkeyPatch, module: Any, limit: str
) -> None:
    monkeypatch.setattr(written_searches, "_PAGE_EVENTS", 2)
    monkeypatch.setattr(module, limit, -1)
    browser = await with_calls()
    made = (await browser.get("policy", principal="Mary")).json
    warning = (
        "only the newest 2 events were read, back to 2020-01-01T09:02:00Z: earlier calls may have "
        "needed more; ask for a shorter time"
    )
    assert (made["events"], made["complete"], made["warning"]) == (2, False, warning)
    assert made["refusedByIt"] is None
    if limit == "_MAX_SECONDS":
        body = {"principal": "Mary", "policies": [ALLOW_IAM]}
        tested = (await browser.post("policy/test", body)).json
        assert (tested["events"], tested["warning"]) == (2, warning)


@asynchronous
async def test_a_policy_can_cover_failed_calls() -> None:
    browser = await with_calls()
    failed = did(7, "DeleteRole", {"roleName": "r"}, errorCode="DeleteConflict", **MARY)
    await browser.api.record([{**failed, "eventID": event_id(9)}])
    for flag, expected in (("", False), ("true", True)):
        made = (await browser.get("policy", principal="Mary", withFailed=flag)).json
        assert ("iam:DeleteRole" in str(made["policies"])) is expected


def test_an_agent_gets_whole_policies_and_first_names() -> None:
    policies = [ALLOW_IAM, {**ALLOW_IAM, "Id": "x" * MAX_ANSWER_BYTES}, {**ALLOW_IAM, "Id": "a  b"}]
    names = {f"s3.amazonaws.com Call{number}": number for number in range(80)}
    made = {"principal": "Mary", "policies": policies, "unmapped": names, "missing": []}
    answer = answer_of(load("policy-for"), made)
    assert answer.fits()
    assert answer.untrusted["policies"] == [ALLOW_IAM]
    assert answer.facts["more_policies"] == 2
    shown = answer.untrusted["unmapped"]
    assert shown == dict([*names.items()][: len(shown)])
    assert answer.facts["more_unmapped"] == 80 - len(shown)
