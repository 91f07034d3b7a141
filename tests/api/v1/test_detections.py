"""Rules are enabled, listed with their matches, and disabled; changes are recorded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from opentrail.access.users import ConsoleRole
from opentrail.api.v1 import detections as module
from opentrail.detections.enabled_rules import match_event
from opentrail.detections.rules import DetectionRule, Matches, OneOf
from opentrail.history import written_searches
from opentrail.who.sentence import sentence
from tests.api.browser import Browser
from tests.api.caller import Api, filled
from tests.detections.sample import sample_rule
from tests.factories import ACCOUNT, a_record, an_entry, event_id
from tests.fakes import asynchronous

ROUTE = "/api/v1/detections"
NAMES = "{s: {eventName: CreateUser}, condition: s}"
USERS = sample_rule("a", NAMES)
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
    empty = (await api.ask(ROUTE)).json
    assert (empty["rules"], len(empty["notEnabled"])) == ([], 30)
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
async def test_the_matches_that_name_an_event_are_found() -> None:
    api = Api()
    await api.record([a_record(eventID=event_id(1)), a_record(eventID=event_id(2))])
    await api.record([a_match(api, 1), a_match(api, 2)])
    [match] = (await api.ask(f"{ROUTE}/matches", event=event_id(1))).json["matches"]
    assert (match["rule"], match["eventIds"]) == ("users", [event_id(1)])
    assert (await api.ask(f"{ROUTE}/matches", event=event_id(1), name="x")).json["matches"] == []
    assert (await api.ask(f"{ROUTE}/matches", event="absent")).status == 404


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
    assert enabled["requestParameters"]["name"] == "users"
    assert enabled["requestParameters"]["rule"]["title"] == "A user"
    for record, verb in ((enabled, "enabled"), (disabled, "disabled")):
        assert f" {verb} detection users" in sentence(record)
    assert (await browser.get("detections")).json["rules"] == []


@asynchronous
async def test_only_an_administrator_changes_rules() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR)
    assert (await browser.post("detections", json.loads(body()))).status == 403
    assert (await browser.post("detections/disable", {"name": "users"})).status == 403
    assert (await browser.post("detections/test", json.loads(body()))).status == 403


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("", b"{}", "the rule is not valid: Expected `object`, got `null`"),
        ("", b'{"rule": {"name": "a"}}', "missing required field `title`"),
        ("", b'{"starter": "none"}', "there is no starter rule 'none'"),
        ("", b'{"source": ""}', "source must be a string"),
        ("", b'{"source": "title: x\\n: y"}', "it is not YAML"),
        (
            "/test",
            json.dumps({"source": sample_rule("a", "\n  s: {status: x}\n  condition: s")}).encode(),
            "line 5: it can never match: records have no member 'status'",
        ),
        (
            "/test",
            json.dumps({"source": f"{USERS}---\n{sample_rule('b', NAMES)}"}).encode(),
            "the text must have one rule to enable, not a, b",
        ),
        ("/test", b'{"starter": "trail_stopped", "since": 5}', "since must be a time such as 90d"),
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


@asynchronous
async def test_starter_rules_are_shown_and_enabled_by_name() -> None:
    browser = Browser()
    browser.become(ConsoleRole.ADMIN, name="ann")
    shown = (await browser.get("detections/rule", name="trail_stopped")).json
    assert (shown["enabledAt"], shown["starter"], shown["technique"]) == (None, True, "T1562.008")
    assert shown["source"].startswith("title: Trail stopped or deleted\n")
    assert shown["falsePositives"]
    assert (await browser.post("detections", {"starter": "trail_stopped"})).status == 200
    listed = (await browser.get("detections")).json
    assert [rule["name"] for rule in listed["rules"]] == ["trail_stopped"]
    assert "trail_stopped" not in {rule["name"] for rule in listed["notEnabled"]}
    assert len(listed["notEnabled"]) == 29
    again = (await browser.get("detections/rule", name="trail_stopped")).json
    assert (again["enabledBy"], again["source"]) == ("ann", shown["source"])
    missing = await browser.get("detections/rule", name="none")
    assert (missing.status, missing.json["error"]) == (404, "there is no rule 'none'")


@asynchronous
async def test_a_written_rule_is_tested_and_enabled() -> None:
    records = [a_record(eventID=event_id(n), eventTime=f"2020-01-01T09:00:0{n}Z") for n in range(7)]
    api = await filled(*records, a_record(eventID=event_id(8), eventName="DeleteUser"))
    tested = (await api.post(f"{ROUTE}/test", json.dumps({"source": USERS}).encode())).json
    assert (tested["rule"], tested["matches"], tested["events"]) == ("a", 7, 7)
    assert [example["eventIds"] for example in tested["examples"]] == [
        [event_id(number)] for number in (6, 5, 4, 3, 2)
    ]
    assert (tested["readBackTo"], tested["warnings"]) == (None, [])
    enabled = (await api.post(ROUTE, json.dumps({"source": USERS}).encode())).json
    assert (enabled["name"], enabled["starter"]) == ("a", False)
    assert (await api.ask(f"{ROUTE}/rule", name="a")).json["source"] == USERS
    assert (await api.post(f"{ROUTE}/test", b'{"name": "a"}')).json == tested
    assert (await api.post(f"{ROUTE}/test", b'{"name": "none"}')).status == 404
    stored = json.loads((await api.world.journal.read(0, 100))[-1].record)
    assert stored["requestParameters"]["rule"]["source"] == ""


@pytest.mark.parametrize(
    ("limited", "limit"), [(written_searches, "_READ_SECONDS"), (module, "_MAX_HELD")]
)
def test_a_test_reads_at_most_one_answers_events(
    monkeypatch: pytest.MonkeyPatch, limited: Any, limit: str
) -> None:
    monkeypatch.setattr(written_searches, "_PAGE_EVENTS", 2)
    monkeypatch.setattr(limited, limit, -1)

    @asynchronous
    async def limited_test() -> None:
        records = [
            a_record(eventID=event_id(n), eventTime=f"2020-01-01T09:00:0{n}Z") for n in range(5)
        ]
        api = await filled(*records)
        tested = (await api.post(f"{ROUTE}/test", body())).json
        assert (tested["matches"], tested["events"]) == (2, 2)
        assert tested["readBackTo"] == "2020-01-01T09:00:03Z"

    limited_test()
