"""New events: as server-sent events for an open page, and records between two marks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypedDict

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import caller_of, is_signed_in
from opentrail.api.v1.conditions import count_in, position_in
from opentrail.api.v1.routes import AUDITOR, VIEWER, route
from opentrail.api.v1.streams import matching_events
from opentrail.core.errors import CloudTrailError
from opentrail.history.event_history import Search
from opentrail.history.written_searches import search_in
from opentrail.who.event_rows import rows_of

#: Seconds between two messages.
_INTERVAL_SECONDS = 0.25
#: Seconds between two positions that keep a connection open.
_HEARTBEAT_SECONDS = 15.0
#: Maximum entries per read.
_MAX_ENTRIES = 1_000
#: Maximum entries by which a page may lag; it skips more.
_MAX_LATE_ENTRIES = 20_000


class Tail:
    """The calls that end only when the page closes or the server stops."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = asyncio.Event()

    def end(self) -> None:
        """Ends all of them."""
        self._stopping.set()

    @route(
        "GET",
        "/events/tail",
        VIEWER,
        "follow new events as server-sent events",
        query=("expression", "account", "region", "categories", "after"),
    )
    async def answer(self, request: Request) -> StreamingResponse:
        """Streams events in the order in which they become durable.

        The stream begins after the journal position in `Last-Event-ID` or `after`, otherwise with
        the next event.
        """
        query = dict(request.query_params)
        if "since" in query or "until" in query:
            raise invalid_parameter("a tail has no since and until")
        search = search_in(query, self._services.clock.now())
        query["after"] = request.headers.get("last-event-id") or query.get("after") or ""
        if not query["after"]:
            del query["after"]
        head = self._services.journal.head
        after = position_in(query, "after", head)
        messages = self._messages(search, request, head if after is None else after)
        return StreamingResponse(messages, media_type="text/event-stream")

    async def _messages(
        self, search: Search, request: Request, position: int
    ) -> AsyncIterator[bytes]:
        journal, loop = self._services.journal, asyncio.get_running_loop()
        caller = caller_of(request)
        yield b"id: %d\n\n" % position  # a page that reconnects before the first event resumes here
        written = loop.time()
        # An open page keeps its session in use; a signed-out page gets no more events.
        while not self._stopping.is_set() and await is_signed_in(request):
            late = journal.head - position
            if late > _MAX_LATE_ENTRIES:
                position += late - _MAX_ENTRIES
                yield _message(position, "gap", {"skipped": late - _MAX_ENTRIES})
            entries = await journal.read(position, _MAX_ENTRIES)
            if entries:
                position = entries[-1].position
                try:
                    events = await matching_events(caller, search, entries)
                except CloudTrailError:  # the page skips these events and continues
                    events = []
                    yield _message(position, "gap", {"skipped": len(entries)})
                if events:
                    yield _message(position, "message", {"events": await rows_of(events)})
                    written = loop.time()
            if loop.time() - written >= _HEARTBEAT_SECONDS:
                yield b"id: %d\n\n" % position  # all events up to here were searched
                written = loop.time()
            if len(entries) < _MAX_ENTRIES:
                await self._wait_for_events()

    async def _wait_for_events(self) -> None:
        """Lets events gather; returns early when the server stops."""
        try:
            async with asyncio.timeout(_INTERVAL_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return


def _message(position: int, kind: str, document: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, kind.encode(), orjson.dumps(document))


# Marks

#: Maximum positions that one answer covers.
MAX_POSITIONS = 1_000


class Mark(TypedDict):
    """The position of the newest durable record, 0 without records."""

    position: int


class MarkedRecords(TypedDict):
    """Records after a mark, oldest first, up to a position."""

    position: int
    complete: bool
    records: list[Any]


class Marks:
    """The calls that set a mark and read the records after it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @route("POST", "/marks", AUDITOR, "set a mark")
    async def set(self, _request: Request) -> Mark:
        """Returns the position of the newest durable record."""
        return {"position": self._services.journal.head}

    @route(
        "GET",
        "/marks/{position}/records",
        AUDITOR,
        "read the records after a mark",
        query=("expression", "account", "region", "categories", "until", "limit"),
    )
    async def records(self, request: Request) -> MarkedRecords:
        """Returns the records after a mark, oldest first, up to the mark `until` or the newest one.

        The answer covers all accounts and Regions unless `account`, `region` or `expression`
        selects some. It ends at `position`; unless it is `complete`, continue there.

        Raises:
            CloudTrailError: a parameter is invalid.
        """
        services, query = self._services, request.query_params
        journal, head = services.journal, services.journal.head
        after = position_in({"mark": request.path_params["position"]}, "mark", head) or 0
        until = position_in(query, "until", head)
        if until is None:
            until = head
        if until < after:
            raise invalid_parameter(f"until must not be before the mark {after}, but is {until}")
        limit = count_in(query, "limit", MAX_POSITIONS) or MAX_POSITIONS
        if "since" in query:
            raise invalid_parameter("records after a mark have no since")
        conditions = {name: text for name, text in query.items() if name != "until"}
        search = search_in({"categories": "all", **conditions}, services.clock.now())
        entries = await journal.read(after, limit, until)
        position = entries[-1].position if entries else until
        events = await matching_events(caller_of(request), search, entries)
        return {
            "position": position,
            "complete": position >= until,
            "records": [orjson.Fragment(event.record.encode()) for event in events],
        }
