"""Endless answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.api.v1 import streams
from opentrail.core.errors import CloudTrailError, StorageFailed
from tests.api.browser import Browser
from tests.api.caller import Api, filled, streamed
from tests.factories import ACCOUNT, REGION, a_data_record, a_record, event_id, some_records
from tests.fakes import asynchronous, eventually, turns

pytestmark = pytest.mark.slow

ALL, TAIL = "/api/v1/events/stream", "/api/v1/tail"


def ids_of(lines: list[Any]) -> list[str]:
    return [line["EventId"] for line in lines if "EventId" in line]


async def whole(api: Api, **query: str) -> list[Any]:
    answer = await api.ask(ALL, **query)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    return [json.loads(line) for line in answer.body.splitlines()]


# All events of a search


@asynchronous
async def test_stream_has_all_events_and_marks_its_end() -> None:
    api = await filled(*some_records(1_234))
    *lines, end = await whole(api)
    assert ids_of(lines) == [event_id(number) for number in range(1_234, 0, -1)]
    assert [line["position"] for line in lines] == list(range(1_234, 0, -1))
    assert end == {"end": True, "events": 1_234}
    (shown,) = (await api.ask("/api/v1/events", limit="1")).json["events"]
    assert lines[0] == {"position": 1_234, **shown}


@asynchronous
async def test_a_stream_accepts_the_conditions_of_a_lookup() -> None:
    api = await filled(
        a_record(eventID="mine"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
        a_record(eventID="there", awsRegion="eu-west-1"),
        a_record(eventID="other", eventName="DeleteUser"),
        a_data_record(eventID="data"),
    )

    async def found(**query: str) -> list[str]:
        return sorted(ids_of(await whole(api, **query)))

    assert await found() == ["mine", "other", "theirs", "there"]
    assert await found(account=ACCOUNT, region=REGION) == ["mine", "other"]
    assert await found(categories="all") == ["data", "mine", "other", "theirs", "there"]
    assert await found(expression="name=Delete*") == ["other"]
    assert await found(since="2021-01-01") == []
    assert await whole(api, until="2019-01-01") == [{"end": True, "events": 0}]


@asynchronous
async def test_stream_has_a_limit_and_refuses_wrong_questions() -> None:
    api = await filled(*some_records(1_234))
    for limit in (1, 500, 501, 1_233):
        *lines, end = await whole(api, limit=str(limit))
        assert ids_of(lines) == [event_id(n) for n in range(1_234, 1_234 - limit, -1)]
        assert end["events"] == limit
    for query in ({"limit": "0"}, {"expression": "usr=x"}, {"since": "x"}):
        answer = await api.ask(ALL, **query)
        assert answer.status == 400
        assert answer.json["code"]


@asynchronous
async def test_stream_excludes_events_that_arrive_later() -> None:
    api = await filled(*some_records(1_000))
    async with api.stream(ALL) as stream:
        found = [(await stream.line())["EventId"]]
        await api.record([a_record(eventID="later", eventTime="2020-01-01T09:59:00Z")])
        while "end" not in (line := await stream.line()):
            found.append(line["EventId"])
        assert line["events"] == 1_000
    assert found == [event_id(number) for number in range(1_000, 0, -1)]


@asynchronous
async def test_idle_reader_stops_reading_ahead() -> None:
    api = await filled(*some_records(9_000))
    asked = 0
    search = api.history.search

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await search(*arguments)

    api.history.search = counted  # type: ignore[assignment,method-assign]
    async with api.stream(ALL) as stream:
        await stream.line()
        await asyncio.sleep(0.2)
        assert asked <= 4
        assert not stream.ended.is_set()


@asynchronous
async def test_error_in_the_middle_is_the_last_line() -> None:
    api = await filled(*some_records(9_000))
    async with api.stream(ALL) as stream:
        await stream.line()

        async def fails(*_: Any) -> Any:
            raise StorageFailed("the disk is gone")

        api.events.lookup = fails  # type: ignore[assignment,method-assign]
        while "error" not in (line := await stream.line()):
            assert "end" not in line
        assert line == {"error": "the disk is gone"}
        await eventually(stream.ended.is_set)


@asynchronous
async def test_a_stream_reports_the_end_of_the_server() -> None:
    api = await filled(*some_records(9_000))
    async with api.stream(ALL) as stream:
        await stream.line()
        ending = asyncio.ensure_future(api.streams.end())
        while "error" not in (line := await stream.line()):
            assert "end" not in line
        await ending
        assert stream.ended.is_set()


def test_pages_of_large_records_are_small() -> None:
    assert streams._next_size(500, 500 * 1_500) == 2_000
    assert streams._next_size(500, 500 * 40_000) == 200
    assert streams._next_size(500, 500 * 300_000) == 50
    assert streams._next_size(50, 0) == 200


@asynchronous
async def test_streams_name_missing_positions_of_history() -> None:
    api = await filled(*some_records(3))
    api.missing = ["positions 4 to 9 of event history"]
    *_, end = await whole(api)
    assert end == {"end": True, "events": 3, "missing": api.missing}
    async with api.stream(TAIL, after="3") as stream:
        assert await stream.line() == {"position": 3, "missing": api.missing}
    async with api.stream(TAIL) as stream:
        assert await stream.line() == {"position": 3}


# Events as they arrive


@pytest.mark.parametrize("path", [ALL, TAIL])
@asynchronous
async def test_streams_need_the_token(path: str) -> None:
    api = await filled(a_record())
    assert (await api.ask(path, token="wrong")).status == 401
    assert (await api.ask(path, method="POST")).status == 405


@asynchronous
async def test_a_tail_shows_new_events() -> None:
    api = await filled(*some_records(3))
    async with api.stream(TAIL) as stream:
        assert await stream.line() == {"position": 3}
        assert stream.headers["content-type"] == "application/x-ndjson"
        await api.record([a_record(eventID="new")])
        line = await stream.line()
        assert (line["position"], line["EventId"]) == (4, "new")
        assert json.loads(line["CloudTrailEvent"])["eventID"] == "new"
        assert await stream.line() == {"position": 4}


@asynchronous
async def test_a_tail_reports_a_slow_search(monkeypatch: pytest.MonkeyPatch) -> None:
    api = await filled(*some_records(3))
    monkeypatch.setattr(streams, "_MATCH_SECONDS", -1.0)
    async with api.stream(TAIL, after="0") as stream:
        assert await stream.line() == {"position": 0}
        assert await stream.line() == {"error": "This took too long; narrow the search."}
    late = await api.ask("/api/v1/marks/0/records")
    assert (late.status, late.json["code"]) == (504, "TimedOut")


@asynchronous
async def test_a_tail_continues_after_a_position() -> None:
    api = await filled(*some_records(1_700))
    async with api.stream(TAIL, after="600") as stream:
        found = [await stream.event() for _ in range(1_100)]
        assert found == [event_id(number) for number in range(601, 1_701)]
        await api.record([a_record(eventID="new")])
        assert await stream.event() == "new"


@asynchronous
async def test_tail_first_shows_the_newest_events_within_limits() -> None:
    records = some_records(400)
    for number in (10, 20, 30):
        records[number - 1]["eventName"] = "DeleteUser"
    api = await filled(*records)
    async with api.stream(TAIL, last="2", expression="name=DeleteUser") as stream:
        assert [await stream.event(), await stream.event()] == [event_id(20), event_id(30)]
        assert await stream.line() == {"position": 400}
        await api.record([a_record(eventID="no"), a_record(eventID="yes", eventName="DeleteUser")])
        assert await stream.event() == "yes"
    async with api.stream(TAIL, last="9", expression="name=DeleteUser") as stream:
        found = [await stream.event() for _ in range(4)]
        assert found == [event_id(10), event_id(20), event_id(30), "yes"]


@asynchronous
async def test_last_events_and_later_ones_join_without_gap() -> None:
    """Durable events that are not visible yet come from the journal."""
    api = await filled(*some_records(5))
    hidden = [a_record(eventID="hidden"), a_record(eventID="hidden-2")]
    take = api.history.follower.process
    api.history.follower.process = lambda entries: asyncio.sleep(0)  # type: ignore[method-assign]
    await api.record(hidden)
    api.history.follower.process = take  # type: ignore[method-assign]
    async with api.stream(TAIL, last="2") as stream:
        found = [await stream.event() for _ in range(4)]
    assert found == [event_id(4), event_id(5), "hidden", "hidden-2"]


@asynchronous
async def test_a_tail_accepts_account_region_categories_and_expression() -> None:
    api = await filled(a_record())
    records = [
        a_record(eventID="mine"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
        a_record(eventID="there", awsRegion="eu-west-1"),
        a_data_record(eventID="data"),
        a_record(eventID="last", eventName="DeleteUser"),
    ]

    async def found(count: int, **query: str) -> list[str]:
        async with api.stream(TAIL, after="1", **query) as stream:
            return [await stream.event() for _ in range(count)]

    await api.record(records)
    assert await found(4) == ["mine", "theirs", "there", "last"]
    assert await found(2, account=ACCOUNT, region=REGION) == ["mine", "last"]
    assert await found(5, categories="all") == ["mine", "theirs", "there", "data", "last"]
    assert await found(1, expression="name=Delete*") == ["last"]
    assert await found(1, region="eu-west-1") == ["there"]


@asynchronous
async def test_a_tail_sends_its_position_without_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_HEARTBEAT", 0.05)
    monkeypatch.setattr(streams, "_BUSY_HEARTBEAT", 0.0)
    api = await filled(*some_records(3))
    async with api.stream(TAIL, expression="name=Nothing") as stream:
        for _ in range(3):
            assert await stream.line() == {"position": 3}
        await api.record(some_records(2))
        while (line := await stream.line()) == {"position": 3}:
            pass
        assert line == {"position": 5}


@pytest.mark.parametrize(
    "query",
    [
        {"after": "4"},
        {"after": "-1"},
        {"after": "x"},
        {"last": "0"},
        {"last": "10001"},
        {"after": "1", "last": "1"},
        {"since": "2020-01-01"},
        {"expression": "usr=x"},
    ],
)
@asynchronous
async def test_an_invalid_tail_is_refused(query: dict[str, str]) -> None:
    answer = await (await filled(*some_records(3))).ask(TAIL, **query)
    assert answer.status == 400
    assert answer.json["error"]


@asynchronous
async def test_a_client_that_stops_reading_blocks_no_other() -> None:
    api = await filled(*some_records(3))
    before = len(asyncio.all_tasks())
    async with api.stream(TAIL) as slow, api.stream(TAIL) as quick:
        for number in range(30):
            await api.record([a_record(eventID=str(number))])
            assert await quick.event() == str(number)
        assert slow.parts <= 2
        assert not slow.ended.is_set()
    await turns()
    assert len(asyncio.all_tasks()) == before


@asynchronous
async def test_a_tail_reports_the_end_of_the_server() -> None:
    api = await filled(*some_records(3))
    async with api.stream(TAIL) as stream:
        await stream.line()
        await turns()
        ending = asyncio.ensure_future(api.streams.end())
        assert "error" in await stream.line()
        await ending
        assert stream.ended.is_set()


@pytest.mark.parametrize("path", [ALL, TAIL])
@asynchronous
async def test_a_stalled_reader_does_not_delay_the_end(path: str) -> None:
    api = await filled(*some_records(9_000))
    async with api.stream(path, **({"after": "0"} if path == TAIL else {})) as stream:
        await stream.line()
        before = len(asyncio.all_tasks())
        started = asyncio.get_running_loop().time()
        await api.streams.end()
        assert asyncio.get_running_loop().time() - started < 5
        await turns()
        assert len(asyncio.all_tasks()) < before


@pytest.mark.parametrize("path", [ALL, "/api/v1/export?format=ndjson"])
@asynchronous
async def test_a_long_answer_ends_with_its_session(path: str) -> None:
    browser = Browser()
    browser.api.world.clock.advance(10_000)
    browser.become(ConsoleRole.AUDITOR)
    await browser.api.record(some_records(9_000))
    parts: list[bytes] = []
    # A file ends early; it has no line for the reason.
    with contextlib.suppress(CloudTrailError):
        async with streamed(browser.app, path, browser.headers()) as stream:
            parts.append(await stream.part())
            await browser.sessions.end_all_of("ann")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while not stream.ended.is_set():
                        parts.append(await stream.part())
    lines = b"".join(parts).splitlines()
    assert len(lines) < 9_000
    if path == ALL:
        assert json.loads(lines[-1]) == {"error": "the session has ended"}


@asynchronous
async def test_session_reads_no_failure_causes_in_a_stream() -> None:
    browser = Browser()
    browser.api.world.clock.advance(10_000)
    browser.become(ConsoleRole.AUDITOR)
    await browser.api.record(some_records(9_000))
    async with streamed(browser.app, ALL, browser.headers()) as stream:
        part = await stream.part()

        async def fails(*_: Any) -> Any:
            raise StorageFailed("/var/lib/opentrail/history is damaged")

        browser.api.events.lookup = fails  # type: ignore[assignment,method-assign]
        while b'"error"' not in part:
            part = await stream.part()
    assert b"/var/lib" not in part


@asynchronous
async def test_a_browser_gets_few_events_in_one_answer() -> None:
    browser = Browser()
    assert (await browser.get("events", limit="201")).status == 400
    assert (await browser.get("events", limit="200")).status == 200
