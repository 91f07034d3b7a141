"""New events for an open page."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlencode

import pytest

from opentrail.api.v1 import streams, tail
from tests.api.browser import Browser
from tests.api.caller import Stream, streamed
from tests.factories import a_record, event_id
from tests.fakes import asynchronous


def opened(
    browser: Browser, last_event_id: str | None = None, **query: str
) -> AbstractAsyncContextManager[Stream]:
    path = f"/api/v1/events/tail?{urlencode(query)}"
    return streamed(browser.app, path, browser.headers(last_event_id=last_event_id))


async def message(stream: Stream) -> tuple[str, str, Any]:
    """Returns id, kind and data of the next message; the first one has only an id."""
    lines = dict(line.split(": ", 1) for line in (await stream.part()).decode().split("\n") if line)
    return lines["id"], lines.get("event", "message"), json.loads(lines.get("data", "null"))


def ids(data: Any) -> list[str]:
    return [event["eventId"] for event in data["events"]]


@pytest.mark.slow
@asynchronous
async def test_new_events_that_match_arrive_with_their_sentence() -> None:
    browser = Browser()
    await browser.api.record([a_record(eventID=event_id(1))])
    async with opened(browser, expression="name=CreateUser") as stream:
        assert await message(stream) == ("1", "message", None)
        assert stream.headers["content-type"].startswith("text/event-stream")
        new = [
            a_record(eventID=event_id(2), eventName="CreateUser"),
            a_record(eventID=event_id(3), eventName="DeleteRole"),
        ]
        await browser.api.record(new)
        last, kind, data = await message(stream)
        assert (last, kind, ids(data)) == ("3", "message", [event_id(2)])
        assert "created IAM user" in data["events"][0]["sentence"]


@pytest.mark.slow
@asynchronous
async def test_a_returning_page_gets_each_event_once() -> None:
    browser = Browser()
    async with opened(browser) as stream:
        await message(stream)
        await browser.api.record([a_record(eventID=event_id(1))])
        last, _, data = await message(stream)
        assert ids(data) == [event_id(1)]
    await browser.api.record([a_record(eventID=event_id(n)) for n in (2, 3)])
    async with opened(browser, last_event_id=last) as stream:
        assert (await message(stream))[2] is None
        assert ids((await message(stream))[2]) == [event_id(2), event_id(3)]


@asynchronous
async def test_late_page_gets_the_number_of_skipped_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "_MAX_LATE_ENTRIES", 5)
    monkeypatch.setattr(tail, "_MAX_ENTRIES", 2)
    browser = Browser()
    await browser.api.record([a_record(eventID=event_id(n)) for n in range(10)])
    async with opened(browser, after="0") as stream:
        await message(stream)
        assert await message(stream) == ("8", "gap", {"skipped": 8})
        assert ids((await message(stream))[2]) == [event_id(8), event_id(9)]


@asynchronous
async def test_page_with_a_slow_search_gets_skipped_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser = Browser()
    await browser.api.record([a_record(eventID=event_id(n)) for n in range(3)])
    monkeypatch.setattr(streams, "_MATCH_SECONDS", -1.0)
    async with opened(browser, after="0") as stream:
        await message(stream)
        assert await message(stream) == ("3", "gap", {"skipped": 3})


@asynchronous
async def test_tails_end_when_the_server_stops() -> None:
    browser = Browser()
    async with opened(browser) as stream:
        await message(stream)
        browser.api.tail.end()
        await stream.ended.wait()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"since": "2024-01-01"}, "a tail has no since and until"),
        ({"after": "9"}, "after must be a position of this server's journal, 0 to 0"),
        ({"expression": "usr=Mary"}, "expected a field"),
    ],
)
@asynchronous
async def test_a_wrong_condition_is_named(query: dict[str, str], words: str) -> None:
    answer = await Browser().get("events/tail", **query)
    assert answer.status == 400
    assert words in answer.json["error"]
