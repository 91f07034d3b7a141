"""Rules are enabled, listed with their matches, and disabled; changes are recorded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from opentrail.access.users import ConsoleRole
from opentrail.detections.records import match_event
from opentrail.detections.rules import DetectionRule, Matches, OneOf
from tests.api.browser import Browser
from tests.api.caller import Api
from tests.factories import ACCOUNT, a_record, an_entry, event_id
from tests.fakes import asynchronous

ROUTE = "/api/v1/detections"
RULE = DetectionRule("users", "A user", "high", condition=OneOf("eventName", ("CreateUser",)))


def body(rule: DetectionRule = RULE) -> bytes:
    return json.dumps({"rule": msgspec.to_builtins(rule)}).encode()


def a_match(api: Api, number: int, rule: DetectionRule = RULE, **changes: Any) -> dict[str, Any]:
    record = a_record(eventID=event_id(number), **changes)
    entry = an_entry(number, record)
    return dict(json.loads(match_event(rule, entry, record, api.world.clock.now()).record))


@asynchronous
async def test_an_enabled_rule_is_listed_with_its_matches() -> None:
    api = Api()
    assert (await api.ask(ROUTE)).json == {"rules": [], "missing": []}
    await api.record([a_record()])
    enabled = (await api.post(ROUTE, body())).json
    assert (enabled["name"], enabled["matches"], enabled["enabledBy"]) == ("users", 0, "operator")
    other = DetectionRule("other", "Other", condition=RULE.condition)
    await api.record([a_match(api, 1), a_match(api, 2), a_match(api, 3, other)])
    [rule] = (await api.ask(ROUTE)).json["rules"]
    assert (rule["title"], rule["level"], rule["matches"]) == ("A user", "high", 2)
    assert rule["lastMatch"] == "2020-01-01T09:00:00Z"
    listed = (await api.ask(f"{ROUTE}/matches", name="users")).json["matches"]
    assert [match["eventIds"] for match in listed] == [[event_id(2)], [event_id(1)]]
    assert (listed[0]["eventName"], listed[0]["groupBy"]) == ("CreateUser", {})
    assert len((await api.ask(f"{ROUTE}/matches")).json["matches"]) == 3
    assert len((await api.ask(f"{ROUTE}/matches", limit="1")).json["matches"]) == 1


@asynchronous
async def test_matches_of_other_accounts_are_not_shown() -> None:
    browser = Browser()
    await browser.api.post(ROUTE, body())
    await browser.api.record(
        [a_match(browser.api, 1), {**a_match(browser.api, 2), "recipientAccountId": "9" * 12}]
    )
    browser.become(ConsoleRole.VIEWER, "9" * 12)
    [match] = (await browser.get("detections/matches")).json["matches"]
    assert match["account"] == "9" * 12
    [rule] = (await browser.get("detections")).json["rules"]
    assert rule["matches"] == 1


@asynchronous
async def test_changes_of_rules_are_recorded() -> None:
    browser = Browser()
    browser.become(ConsoleRole.ADMIN, name="ann")
    assert (await browser.post("detections", json.loads(body()))).status == 200
    assert (await browser.post("detections/disable", {"name": "users"})).status == 200
    entries = await browser.api.world.journal.read(0, 100)
    enabled, disabled = [json.loads(entry.record) for entry in entries]
    assert (enabled["eventName"], disabled["eventName"]) == ("EnableDetection", "DisableDetection")
    assert disabled["userIdentity"]["arn"] == f"arn:aws:iam::{ACCOUNT}:user/opentrail/ann"
    assert disabled["requestParameters"] == {"name": "users"}
    assert enabled["requestParameters"]["rule"]["title"] == "A user"
    assert (await browser.get("detections")).json["rules"] == []


@asynchronous
async def test_only_an_administrator_changes_rules() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR)
    assert (await browser.post("detections", json.loads(body()))).status == 403
    assert (await browser.post("detections/disable", {"name": "users"})).status == 403


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("", b"{}", "the rule is not valid: Expected `object`, got `null`"),
        ("", b'{"rule": {"name": "a"}}', "missing required field `title`"),
        (
            "",
            body(DetectionRule("a", "A", condition=Matches("userAgent", "(?=a)"))),
            "RE2 does not take the regular expression '(?=a)'",
        ),
        ("/disable", b"{}", "name must be the name of an enabled rule"),
        ("/disable", b'{"name": "no"}', "rule 'no' is not enabled"),
    ],
)
def test_wrong_rules_are_refused(path: str, content: bytes, message: str) -> None:
    @asynchronous
    async def refused() -> None:
        answer = await Api().post(f"{ROUTE}{path}", content)
        assert answer.status == 400
        assert message in answer.json["error"]

    refused()
