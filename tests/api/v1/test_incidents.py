from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.commands.insights import search_for
from opentrail.core.event import format_time
from tests.api.browser import Browser
from tests.api.caller import TOKEN, Answer, Api, send
from tests.factories import (
    ACCOUNT,
    a_principal_record,
    a_record,
    an_assumed_role,
    an_insight_record,
    event_id,
)
from tests.fakes import asynchronous, utc

INSIGHTS = "/api/v1/insights"
SHARED = event_id(2)
DEPLOY = f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy"


def calls(*times: str, address: str = "203.0.113.9") -> list[dict[str, Any]]:
    return [
        a_record(eventID=event_id(100 + n), eventTime=time, sourceIPAddress=address)
        for n, time in enumerate(times)
    ]


def end_of(start: dict[str, Any], time: str) -> dict[str, Any]:
    return {**an_insight_record("End"), "eventID": event_id(3), "eventTime": time}


async def at(moment: str, *records: dict[str, Any]) -> Api:
    api = Api()
    api.world.clock.advance((utc(moment) - api.world.clock.now()).total_seconds())
    await api.record(list(records))
    return api


@asynchronous
async def test_an_ended_incident_has_its_final_figures() -> None:
    start = an_insight_record("Start")
    burst = calls("2020-01-01T09:00:05Z", "2020-01-01T09:04:59Z")
    end = end_of(start, "2020-01-01T09:05:00Z")
    api = await at("2020-01-01T10:00:00Z", *burst, start, end)
    (incident,) = (await api.ask(INSIGHTS)).json["incidents"]
    assert incident["state"] == "over"
    assert incident["sentence"] == (
        "IAM CreateUser: 42 calls in 5 minutes, usually 0.1 an hour, mostly by user John"
        " from 203.0.113.9"
    )


@asynchronous
async def test_an_open_incident_counts_its_calls_until_now() -> None:
    burst = calls(*(f"2020-01-01T09:{minute:02}:00Z" for minute in range(10)))
    api = await at("2020-01-01T09:10:00Z", *burst, an_insight_record("Start"))
    (incident,) = (await api.ask(INSIGHTS)).json["incidents"]
    assert incident["state"] == "open"
    assert (incident["minutes"], incident["average"]) == (10, 1)


@asynchronous
async def test_an_incidents_end_is_known_beyond_the_period() -> None:
    start = an_insight_record("Start")
    end = end_of(start, "2020-01-01T09:05:00Z")
    api = await at("2020-01-01T10:00:00Z", start, end)
    (incident,) = (await api.ask(INSIGHTS, until="2020-01-01T09:01:00Z")).json["incidents"]
    assert incident["end"] == "2020-01-01T09:05:00Z"


@asynchronous
async def test_marking_an_incident_is_recorded_first() -> None:
    browser = Browser()
    await browser.api.record([an_insight_record()])
    browser.become(ConsoleRole.OPERATOR)
    marking = f"insights/{SHARED}/expected"
    assert (await browser.post(marking, {"note": "load test"})).status == 200
    *_, entry = browser.api.world.entries
    record = json.loads(entry.record)
    assert (record["eventSource"], record["eventName"]) == (
        "insights.opentrail.internal",
        "ExpectIncident",
    )
    assert record["userIdentity"]["userName"] == "ann"
    assert record["requestParameters"] == {"id": SHARED, "note": "load test"}


@asynchronous
async def test_a_browser_lists_incidents_in_smaller_parts() -> None:
    browser = Browser()
    for path in ("insights", "detections/matches"):
        assert (await browser.get(path, limit="200")).status == 200
        refused = await browser.get(path, limit="201")
        assert refused.json["error"].replace("'", "") == "limit must be 1 to 200, not 201"


@asynchronous
async def test_incident_has_its_record_and_calls_per_minute() -> None:
    start = an_insight_record("Start")
    end = end_of(start, "2020-01-01T09:05:00Z")
    burst = calls("2020-01-01T08:59:00Z", "2020-01-01T09:00:05Z", "2020-01-01T09:00:06Z")
    api = await at("2020-01-01T12:00:00Z", *burst, start, end)
    incident = (await api.ask(f"{INSIGHTS}/{SHARED}")).json
    assert incident["record"] == end
    assert (incident["from"], incident["until"]) == ("2020-01-01T08:00:00Z", "2020-01-01T09:35:00Z")
    minutes = dict(incident["minutes"])
    assert len(minutes) == 95
    assert {minute: count for minute, count in minutes.items() if count} == {
        "2020-01-01T08:59:00Z": 1,
        "2020-01-01T09:00:00Z": 2,
    }


@asynchronous
async def test_the_start_of_an_id_must_be_unique() -> None:
    one = an_insight_record()
    other = {**one, "eventID": event_id(9), "sharedEventID": SHARED[:-1] + "f"}
    api = await at("2020-01-01T12:00:00Z", one, other)
    assert (await api.ask(f"{INSIGHTS}/{SHARED}")).json["id"] == SHARED
    twice = await api.ask(f"{INSIGHTS}/{SHARED[:8]}")
    assert (twice.status, "more than one" in twice.json["error"]) == (400, True)
    for unknown in ("0badcafe", "*", "%", "x" * 300):
        answer = await api.ask(f"{INSIGHTS}/{unknown}")
        assert answer.status == 404, unknown


@asynchronous
async def test_the_status_shows_the_progress_of_insights() -> None:
    api = await at("2020-01-01T12:00:00Z", *calls("2020-01-01T09:00:00Z"))
    assert (await api.ask(f"{INSIGHTS}/status")).json["state"] == "off"
    await api.insights.cursor()
    assert (await api.ask(f"{INSIGHTS}/status")).json == {
        "state": "watching",
        "daysLearned": 28,
        "daysToLearn": 28,
        "knownSince": "2020-01-01T09:00:00Z",
        "watchedUntil": "2020-01-01T11:59:00Z",
        "keys": 1,
        "unwatchedCalls": 0,
        "unwatchedUses": 0,
        "openIncidents": 0,
        "daysScanned": None,
        "daysToScan": None,
    }


@asynchronous
async def test_a_limited_user_gets_no_totals() -> None:
    api = await at("2020-01-01T12:00:00Z", *calls("2020-01-01T09:00:00Z"))
    await api.insights.cursor()
    browser = Browser(api)
    browser.become(ConsoleRole.VIEWER, ACCOUNT)
    status = (await browser.get("insights/status")).json
    assert status["state"] == "watching"
    totals = ("keys", "unwatchedCalls", "unwatchedUses", "openIncidents")
    assert [status[name] for name in totals] == [None] * 4


async def mark(api: Api, body: bytes) -> Answer:
    return await api.post(f"{INSIGHTS}/{SHARED}/expected", body)


@asynchronous
async def test_incident_is_marked_as_expected_with_a_note() -> None:
    start = an_insight_record("Start")
    burst = calls("2020-01-01T09:00:05Z", "2020-01-01T09:00:06Z", "2020-01-01T09:04:59Z")
    end = end_of(start, "2020-01-01T09:05:00Z")
    api = await at("2020-01-01T10:00:00Z", *burst, start, end)
    assert (await api.ask(f"{INSIGHTS}/{SHARED}")).json["expected"] is None
    answer = await mark(api, b'{"note": "load test"}')
    assert (answer.status, answer.json["expected"]) == (200, "load test")
    assert (await api.ask(INSIGHTS)).json["incidents"][0]["expected"] == "load test"
    (marked,) = await api.insights.expected.that_count(api.world.clock.now())
    assert marked.largest == [2, 3, 3, 3, 3]
    assert marked.rises


@pytest.mark.parametrize("wrong", [b"[]", b'{"note": 7}', b"{", b'{"note": "%s"}' % (b"x" * 1001)])
@asynchronous
async def test_a_wrong_note_is_refused(wrong: bytes) -> None:
    api = await at("2020-01-01T10:00:00Z", an_insight_record("Start"))
    answer = await mark(api, wrong)
    assert answer.status == 400
    assert answer.json["code"] == "InvalidParameterException"
    assert not await api.insights.expected.notes()


def ten_days_with_a_burst() -> list[dict[str, Any]]:
    """Returns a call an hour, and forty calls within four minutes of the ninth day."""
    first = utc("2020-01-10T00:00:30Z")
    times = [first + timedelta(hours=hour) for hour in range(240)]
    times += [first + timedelta(days=8, hours=9, seconds=6 * n) for n in range(40)]
    return [
        a_record(eventID=event_id(1000 + n), eventTime=format_time(time))
        for n, time in enumerate(times)
    ]


@pytest.mark.slow
@asynchronous
async def test_a_scan_finds_and_records_unusual_activity_once() -> None:
    api = await at("2020-01-20T00:00:00Z", *ten_days_with_a_burst())
    scan, since = f"{INSIGHTS}/scan", "2020-01-12"
    refused = await api.ask(scan, method="POST", since=since)
    assert (refused.status, refused.json["code"]) == (400, "InsightNotEnabledException")
    await api.insights.cursor()
    answer = (await api.ask(scan, method="POST", since=since)).json
    (incident,) = answer["incidents"]
    assert (incident["start"], incident["end"]) == ("2020-01-18T09:00:00Z", "2020-01-18T09:05:00Z")
    assert incident["sentence"].startswith("IAM CreateUser: 41 calls in 5 minutes, usually 1 an ho")
    assert answer["known"] == 0
    await api.record([])  # makes the records visible
    assert (await api.ask(INSIGHTS)).json["incidents"] == [incident]
    assert (await api.ask(scan, method="POST", since=since)).json == {"incidents": [], "known": 1}
    follows = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/x-ndjson"}
    later = await send(api.console, "POST", f"{scan}?since=2020-01-19", follows)
    *days, last = [json.loads(line) for line in later.body.splitlines()]
    assert last == {"incidents": [], "known": 0}
    assert days == [{"read": day, "total": 30} for day in range(29)]
    assert (await api.ask(scan, method="POST")).status == 400


@asynchronous
async def test_only_an_account_and_a_region_are_listed() -> None:
    api = await at("2020-01-01T12:00:00Z", an_insight_record())
    assert (await api.ask(INSIGHTS, account=ACCOUNT)).json["incidents"]
    assert not (await api.ask(INSIGHTS, account="999999999999")).json["incidents"]
    assert not (await api.ask(INSIGHTS, region="eu-west-1")).json["incidents"]


@asynchronous
async def test_principal_incidents_show_their_extension() -> None:
    start, end = (a_principal_record("access-denied", each) for each in ("Start", "End"))
    first = a_principal_record()
    api = await at("2020-01-01T10:00:00Z", start, end, first)
    incidents = (await api.ask(INSIGHTS)).json["incidents"]
    assert {each["insightType"]: each["state"] for each in incidents} == {
        "OpenTrail.NewApi": "over",
        "OpenTrail.AccessDenied": "over",
    }
    shown = (await api.ask(f"{INSIGHTS}/{first['sharedEventID']}")).json
    assert shown["extension"] == first["insightDetails"]["extension"]
    assert (shown["record"], shown["minutes"]) == (first, [])


@asynchronous
async def test_a_principals_continuing_burst_is_open() -> None:
    api = await at("2020-01-01T10:00:00Z", a_principal_record("api-fan-out"))
    (incident,) = (await api.ask(INSIGHTS)).json["incidents"]
    assert (incident["state"], incident["end"]) == ("open", None)


@asynchronous
async def test_first_uses_event_is_found_by_id() -> None:
    (event,) = calls("2020-01-01T09:00:00Z")
    first = a_principal_record(event_id=event["eventID"])
    api = await at("2020-01-01T10:00:00Z", event, first)
    (incident,) = (await api.ask(INSIGHTS)).json["incidents"]
    asked = {
        "expression": search_for(incident),
        "since": incident["start"],
        "until": incident["end"],
    }
    (found,) = (await api.ask("/api/v1/events", categories="all", **asked)).json["events"]
    assert event["eventID"] in str(found)


@asynchronous
async def test_refused_calls_are_found_across_sessions() -> None:
    role = [an_assumed_role("deploy", session=f"i-{n}") for n in range(2)]
    refused = {"errorCode": "Client.UnauthorizedOperation", "eventTime": "2020-01-01T09:03:00Z"}
    wanted = [
        a_record(eventID=event_id(100 + n), userIdentity=each, awsRegion=region, **refused)
        for n, (each, region) in enumerate(zip(role, ("eu-west-3", "us-east-1"), strict=True))
    ]
    other = [
        a_record(eventID=event_id(200), userIdentity=role[0], eventTime=refused["eventTime"]),
        a_record(
            eventID=event_id(201), userIdentity=an_assumed_role("deploy2", session="x"), **refused
        ),
    ]
    burst = a_principal_record("access-denied", principal=DEPLOY)
    api = await at("2020-01-01T10:00:00Z", *wanted, *other, burst)
    (incident,) = (await api.ask(INSIGHTS)).json["incidents"]
    asked = search_for(incident)
    answer = await api.ask("/api/v1/events", expression=asked, categories="all")
    assert len(answer.json["events"]) == 2


@asynchronous
async def test_the_calls_of_an_unusual_rate_are_found() -> None:
    wanted = calls("2020-01-01T09:00:05Z", "2020-01-01T09:04:59Z")
    other = a_record(eventID=event_id(200), eventName="DeleteUser")
    api = await at("2020-01-01T10:00:00Z", *wanted, other, an_insight_record("Start"))
    incident = (await api.ask(f"{INSIGHTS}/{SHARED}")).json
    answer = await api.ask("/api/v1/events", expression=search_for(incident), categories="all")
    assert len(answer.json["events"]) == 2


@asynchronous
async def test_one_odd_incident_breaks_no_list() -> None:
    """AWS's documentation has ids that are not hexadecimal; imported records may have any."""
    ids = ("EXAMPLE8-9621-4d00-b913-beca2EXAMPLE", "a*", "a b:c", "é", "")
    odd = [
        {**an_insight_record(), "eventID": event_id(10 + n), "sharedEventID": shared}
        for n, shared in enumerate(ids)
    ]
    details = odd[0]["insightDetails"]
    changes: list[dict[str, Any]] = [
        {"eventTime": "1970-01-01T00:00:00Z"},
        {"eventTime": "9999-12-31T23:59:59Z"},
        {"insightDetails": None, "eventName": "a", "eventSource": "b"},
        {"insightDetails": {**details, "insightContext": []}},
        {"insightDetails": {**details, "eventSource": 5}},
        {"recipientAccountId": None, "awsRegion": None},
    ]
    damaged = [
        {**odd[0], "eventID": event_id(30 + n), "sharedEventID": f"damaged-{n}", **change}
        for n, change in enumerate(changes)
    ]
    api = await at("2020-01-01T10:00:00Z", an_insight_record(), *odd, *damaged)
    answer = await api.ask(INSIGHTS)
    assert answer.status == 200, answer.body
    listed = {incident["id"] for incident in answer.json["incidents"]}
    assert {SHARED, *ids} <= listed
    for shared in ids[:4]:
        shown = await api.ask(f"{INSIGHTS}/{quote(shared, safe='')}")
        assert (shown.status, shown.json.get("id")) == (200, shared), shown.body
