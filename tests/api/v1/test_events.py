"""Pages of events, one event, its neighbours, and files of all of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from opentrail.capture.record.lost_records import expired_entry
from opentrail.history import event_history
from opentrail.history import nearest as nearest_names
from opentrail.ports.event_store import ExpiredEvents
from tests.api.browser import Browser
from tests.api.caller import Answer, Api, filled
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_record,
    an_iam_user,
    event_id,
    some_records,
)
from tests.fakes import TIMEOUT_SECONDS, asynchronous

CONSOLE = "Mozilla/5.0 (X11; Linux x86_64)"


async def with_events(*records: dict[str, Any]) -> Browser:
    browser = Browser(Api())
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    await browser.api.record(list(records))
    return browser


def made(number: int, **changes: Any) -> dict[str, Any]:
    time = f"2024-01-01T09:{number // 60:02}:{number % 60:02}Z"
    return a_record(eventID=event_id(number), eventTime=time, **changes)


@asynchronous
async def test_mary_was_made_by_john_through_the_console() -> None:
    browser = await with_events(
        a_record(
            eventID=event_id(1),
            eventTime="2020-01-01T09:00:00Z",
            eventName="CreateUser",
            userAgent=CONSOLE,
            userIdentity=an_iam_user("John"),
            requestParameters={"userName": "Mary"},
        )
    )
    answer = await browser.get("events/rows", expression="name=CreateUser", since="2020-01-01")
    (event,) = answer.json["events"]
    assert event["sentence"] == (
        "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary "
        "through the AWS Management Console"
    )
    assert event["clause"] == event["sentence"].partition("UTC, ")[2]
    assert (event["username"], event["readOnly"]) == ("John", False)
    assert {"type": "AWS::IAM::User", "name": "Mary"} in event["resources"]
    one = (await browser.get(f"events/{event_id(1)}")).json
    assert one["event"] == event
    assert json.loads(one["record"])["requestParameters"] == {"userName": "Mary"}


@asynchronous
async def test_pages_follow_one_another_while_events_arrive() -> None:
    browser = await with_events(*(made(n) for n in range(7)))
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await browser.get("events/rows", limit="3", cursor=cursor)).json
        seen += [event["eventId"] for event in page["events"]]
        cursor = page["next"]
        await browser.api.record([made(100 + len(seen))])
    assert seen == [event_id(n) for n in range(6, -1, -1)]


@asynchronous
async def test_pages_before_now_are_stable_as_time_passes() -> None:
    browser = await with_events(*(made(n) for n in range(5)))
    seen: list[str] = []
    query = {"limit": "2", "since": "3650d"}
    cursor = ""
    while cursor is not None:
        answer = await browser.get("events/rows", **query, cursor=cursor)
        assert answer.status == 200, answer.body
        seen += [event["eventId"] for event in answer.json["events"]]
        cursor = answer.json["next"]
        browser.api.world.clock.advance(60)
    assert seen == [event_id(n) for n in range(4, -1, -1)]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"expression": "usr=Mary"}, "InvalidParameterException"),
        ({"since": "yesterday"}, "InvalidTimeRangeException"),
        ({"limit": "201"}, "InvalidMaxResultsException"),
        ({"cursor": "bm90"}, "InvalidNextTokenException"),
    ],
)
@asynchronous
async def test_a_wrong_condition_is_named(query: dict[str, str], code: str) -> None:
    answer = await (await with_events(made(1))).get("events/rows", **query)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert next(iter(query)) in answer.json["error"].lower() or code != "InvalidTimeRangeException"


@asynchronous
async def test_a_missing_event_is_404() -> None:
    answer = await (await with_events(made(1))).get(f"events/{event_id(99)}")
    assert (answer.status, answer.json["code"]) == (404, "EventNotFound")
    assert "expired" not in answer.json["error"]


@asynchronous
async def test_an_expired_event_is_explained() -> None:
    expired = ExpiredEvents("Data", "size", 7, 3, 20, MOMENT, MOMENT)
    record = json.loads(expired_entry(expired, MOMENT).record)
    answer = await (await with_events(record)).get(f"events/{event_id(99)}")
    assert answer.status == 404
    assert "it may have expired: Data events up to 2020-01-01T09:00:00Z" in answer.json["error"]


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("principal", {"userIdentity": an_iam_user("Ann")}, {"userIdentity": an_iam_user("Bob")}),
        ("ip", {"sourceIPAddress": "192.0.2.1"}, {"sourceIPAddress": "192.0.2.2"}),
        (
            "resource",
            {"requestParameters": {"userName": "a*b"}, "responseElements": None},
            {"requestParameters": {"userName": "axb"}, "responseElements": None},
        ),
    ],
)
@asynchronous
async def test_neighbours_are_nearest_events_with_equal_value(
    by: str, same: dict[str, Any], other: dict[str, Any]
) -> None:
    records = [made(n, eventName="CreateUser", **(other if n % 2 else same)) for n in range(20)]
    browser = await with_events(*records)
    answer = (await browser.get(f"events/{event_id(10)}/context", by=by, limit="2")).json
    assert [event["eventId"] for event in answer["before"]] == [event_id(8), event_id(6)]
    assert [event["eventId"] for event in answer["after"]] == [event_id(12), event_id(14)]


@asynchronous
async def test_an_unknown_relation_is_refused() -> None:
    answer = await (await with_events(made(1))).get(f"events/{event_id(1)}/context", by="mood")
    assert "by must be one of principal" in answer.json["error"]


EVENTS = "/api/v1/events"


@asynchronous
async def test_events_are_shown_newest_first_with_their_records() -> None:
    records = some_records(60)
    api = await filled(*records)
    answer = await api.ask(EVENTS)
    assert ids(answer) == [event_id(number) for number in range(60, 10, -1)]
    assert json.loads(answer.json["events"][0]["CloudTrailEvent"]) == records[-1]
    assert len(ids(await api.ask(EVENTS, limit="3"))) == 3
    assert len(ids(await api.ask(EVENTS, limit="10000"))) == 60


@asynchronous
async def test_an_answer_of_large_events_is_marked_truncated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser = await with_events(*(made(n) for n in range(1_001)))
    whole = (await browser.api.ask("/api/v1/events", limit="2000")).json
    assert (len(whole["events"]), "truncated" in whole) == (1_001, False)
    monkeypatch.setattr(event_history, "MAX_LATEST_TEXT", 1)  # one page
    answer = (await browser.api.ask("/api/v1/events", limit="2000")).json
    assert (len(answer["events"]), answer["truncated"]) == (1_000, True)
    limited = (await browser.api.ask("/api/v1/events", limit="1000")).json
    assert "truncated" not in limited


@asynchronous
async def test_events_cover_every_account_and_region_by_default() -> None:
    api = await filled(
        a_record(eventID="mine"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
        a_record(eventID="there", awsRegion="eu-west-1"),
        a_data_record(eventID="data"),
    )
    assert sorted(ids(await api.ask(EVENTS))) == ["mine", "theirs", "there"]
    assert ids(await api.ask(EVENTS, account=ACCOUNT, region=REGION)) == ["mine"]
    assert ids(await api.ask(EVENTS, account="210987654321")) == ["theirs"]
    assert ids(await api.ask(EVENTS, region="eu-west-1")) == ["there"]
    assert sorted(ids(await api.ask(EVENTS, categories="all"))) == [
        *("data", "mine", "theirs", "there"),
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("EventName=DeleteUser", [2]),
        (f"EventId={event_id(3)}", [3]),
        ('Username="a=b"', [4]),
        ("name=Delete* OR user=a*", [4, 2]),
        ("NOT name=Delete* last 24h", [4, 3, 1]),
        ("requestParameters.userName=Mary", [4, 3, 2, 1]),
        ("ReadOnly=true", []),
        ("ReadOnly=false", [4, 3, 2, 1]),
    ],
)
@asynchronous
async def test_events_are_found_by_an_expression(expression: str, expected: list[int]) -> None:
    records = some_records(4)
    records[1]["eventName"] = "DeleteUser"
    records[3]["userIdentity"] = an_iam_user("a=b")
    api = await filled(*records)
    found = await api.ask(EVENTS, expression=expression)
    assert ids(found) == [event_id(number) for number in expected]


@asynchronous
async def test_events_are_found_by_time() -> None:
    api = await filled(*some_records(6))

    async def found(**times: str) -> list[int]:
        answer = await api.ask(EVENTS, **times)
        return [number for number in range(6, 0, -1) if event_id(number) in ids(answer)]

    assert await found(since="2020-01-01T09:00:05Z") == [6, 5]
    assert await found(until="2020-01-01T09:00:02Z") == [2, 1]
    assert await found(since="2020-01-01T10:00:03+01:00", until="2020-01-01T09:00:04") == [4, 3]
    assert await found(since="2020-01-01") == [6, 5, 4, 3, 2, 1]
    assert await found(since="2020-01-02") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "InvalidMaxResultsException"),
        ({"limit": "10001"}, "InvalidMaxResultsException"),
        ({"limit": "-1"}, "InvalidMaxResultsException"),
        ({"limit": "many"}, "InvalidMaxResultsException"),
        ({"limit": "1.5"}, "InvalidMaxResultsException"),
        ({"limit": ""}, "InvalidMaxResultsException"),
        ({"limit": "²"}, "InvalidMaxResultsException"),
        ({"expression": "evntname=DeleteUser"}, "InvalidParameterException"),
        ({"expression": "(user=x"}, "InvalidParameterException"),
        ({"expression": "=x"}, "InvalidParameterException"),
        ({"since": "yesterday"}, "InvalidTimeRangeException"),
        ({"until": "2020-13-01"}, "InvalidTimeRangeException"),
        ({"since": "2020-01-01T25:00:00Z"}, "InvalidTimeRangeException"),
    ],
)
@asynchronous
async def test_an_invalid_question_is_refused_with_its_reason(
    query: dict[str, str], code: str
) -> None:
    api = await filled(*some_records(2))
    answer = await api.ask(EVENTS, **query)
    assert answer.status == 400
    assert answer.json["code"] == code
    assert answer.json["error"]


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [event["EventId"] for event in answer.json["events"]]


NAMES = (
    ("CreateUser", "John", "Mary"),
    ("CreateUser", "Olga", "jobs"),
    ("DeleteUser", "olga", "x"),
)


async def named() -> Api:
    return await filled(
        *(
            a_record(
                eventID=event_id(number),
                eventName=name,
                userIdentity=an_iam_user(user),
                requestParameters={"userName": resource},
                responseElements=None,
            )
            for number, (name, user, resource) in enumerate(NAMES)
        )
    )


@pytest.mark.parametrize(
    ("expression", "label", "nearest", "difference"),
    [
        ("user=john", "user", "John", "case"),
        ("resource=mary", "resource", "Mary", "case"),
        ("name=createuser AND is:write", "event name", "CreateUser", "case"),
        ("source=IAM", "event source", "iam.amazonaws.com", "case"),
        ("region=US-EAST-1", "Region", "us-east-1", "case"),
        ("name=CreatUser OR user=Nobody", "event name", "CreateUser", "letters"),
        ("user=Jhon", "user", "John", "letters"),
        ("user=OLGA", "user", "Olga", "letters"),
    ],
)
@asynchronous
async def test_the_nearest_value_is_suggested(
    expression: str, label: str, nearest: str, difference: str
) -> None:
    api = await named()
    (found,) = (await api.ask("/api/v1/events/nearest", expression=expression)).json["nearest"]
    assert (found["label"], found["nearest"]) == (label, nearest)
    assert found["difference"] == difference
    assert found["events"] >= 1


@pytest.mark.parametrize(
    "expression",
    ["", "user=John name=DeleteUser", "NOT user=john", "user=joh*", "user=Zzz", "john"],
)
@asynchronous
async def test_known_and_dissimilar_values_have_no_suggestion(expression: str) -> None:
    api = await named()
    found = await api.ask("/api/v1/events/nearest", expression=expression)
    assert found.json == {"nearest": []}


@pytest.mark.slow
@asynchronous
async def test_the_thread_that_compares_names_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = await named()
    may_go_on, compared = threading.Event(), asyncio.Event()
    loop, names = asyncio.get_running_loop(), ["not compared"]

    def compare(_value: str, possible: Iterable[str], *_: object) -> list[str]:
        assert may_go_on.wait(TIMEOUT_SECONDS)
        names[:] = possible
        loop.call_soon_threadsafe(compared.set)
        return names

    monkeypatch.setattr(nearest_names, "get_close_matches", compare)
    monkeypatch.setattr(nearest_names, "_SEARCH_SECONDS", 0.5)
    found = await api.ask("/api/v1/events/nearest", expression="user=Jhon")
    assert found.json == {"nearest": []}
    may_go_on.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await compared.wait()
    assert names == []


@asynchronous
async def test_case_is_ignored_on_request_without_exact_match() -> None:
    api = await named()
    asked = {"expression": "user=john name=createuser", "nearest": "true"}
    found = (await api.ask(EVENTS, **asked)).json
    assert [event["Username"] for event in found["events"]] == ["John"]
    assert [item["nearest"] for item in found["corrected"]] == ["John", "CreateUser"]
    exact = (await api.ask(EVENTS, expression="user=john name=createuser")).json
    assert exact["events"] == []
    assert "corrected" not in exact
    both = (await api.ask(EVENTS, expression="user=olga", nearest="true")).json
    assert [event["Username"] for event in both["events"]] == ["olga"]
    none = (await api.ask(EVENTS, expression="user=Jhon", nearest="true")).json
    assert (none["events"], none["nearest"][0]["nearest"]) == ([], "John")


@asynchronous
async def test_a_search_ends_after_it_begins() -> None:
    api = await named()
    refused = await api.ask(EVENTS, since="2020-01-02", until="2020-01-01")
    assert refused.status == 400
    assert "since must not be after until" in refused.json["error"]


@asynchronous
async def test_an_expression_has_compared_terms_and_searched_words() -> None:
    browser = await with_events()
    answer = await browser.get("expression", expression="user=John NOT event=Get* Mary is:write")
    assert answer.json == {
        "terms": [
            {"text": "user=John", "field": "username", "operator": "=", "value": "John"},
            {"text": "NOT event=Get*", "field": "eventName", "operator": "!=", "value": "Get*"},
            {"text": "Mary", "field": None, "operator": None, "value": "Mary"},
            {"text": "is:write", "field": None, "operator": None, "value": None},
        ],
        "error": None,
    }


@asynchronous
async def test_an_invalid_expression_has_its_wrong_place() -> None:
    browser = await with_events()
    answer = await browser.get("expression", expression="is:write usr=John")
    assert answer.json["terms"] == []
    error = answer.json["error"]
    assert (error["at"], error["length"]) == (9, 3)
    assert error["message"].startswith("column 10: expected a field such as user")
