"""Streams of JSON lines: all events of a search, and new events as they arrive.

A response writes lines as fast as the client reads, and holds at most two pages in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from opentrail.api.services import Services
from opentrail.api.v1.answers import describe_error, invalid_parameter
from opentrail.api.v1.callers import ApiCaller, caller_of, is_by_token, require_signed_in, seen_by
from opentrail.api.v1.conditions import count_in, max_events, position_in
from opentrail.api.v1.routes import AUDITOR, SEARCH, VIEWER, route
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import CloudTrailError, OpentrailError
from opentrail.core.event import Entry
from opentrail.core.expression import holds
from opentrail.history.event_history import History, Page, Search, event_document
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import search_in
from opentrail.ports.event_store import FoundEvent

#: Events in the first page.
_FIRST_PAGE = 500
#: Minimum events per page.
_MIN_PAGE = 50
#: Maximum events per page.
_MAX_PAGE = 2_000
#: Target size of a page in bytes of records.
_PAGE_BYTES = 8_000_000
#: No limit for `limit`; `last` has one, because its events are in memory.
_UNLIMITED = 10**18
#: Maximum seconds in which the entries of one read are searched.
_MATCH_SECONDS = 10.0
#: Maximum seconds between two position lines of a tail …
_HEARTBEAT = 5.0
#: … and while events arrive that do not match.
_BUSY_HEARTBEAT = 1.0
#: Seconds to wait after a batch while records gather for the next one.
_LINGER = 0.02
#: Seconds that a client has to read the last line when the server stops.
_STOP_SECONDS = 0.5


def _stopping() -> CloudTrailError:
    return CloudTrailError("ServiceUnavailable", "the server is stopping", 503)


class Streams:
    """The streaming responses of a server.

    Args:
        services: the features that operations use.
        missing: describes each range missing from event history.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]] = list) -> None:
        self._services = services
        self._missing = missing
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Future[None]] = set()

    async def end(self) -> None:
        """Ends all streams with an error line; disconnects clients that do not read."""
        self._stopping.set()
        if self._running:
            _, stuck = await asyncio.wait(self._running, timeout=_STOP_SECONDS)
            for answer in stuck:
                answer.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

    # All events of a search

    @route("GET", "/events/stream", AUDITOR, "read all events", query=(*SEARCH, "limit"))
    async def events(self, request: Request) -> Response:
        """Streams every event of a search, newest first.

        The last line has their number, and any ranges missing from event history.
        """
        search = search_in(request.query_params, self._services.clock.now())
        limit = count_in(request.query_params, "limit", _UNLIMITED) or _UNLIMITED
        history = seen_by(request, self._services).history
        first = await history.search(search, min(_FIRST_PAGE, limit))
        lines = self._pages(request, history, search, limit, first)
        return _Streamed(self._with_error(request, lines), self._running)

    async def _pages(
        self, request: Request, history: History, search: Search, limit: int, first: Page
    ) -> AsyncGenerator[bytes, None]:
        """Yields the lines of each page; the next page is read concurrently."""
        sent, size, events, token = 0, _FIRST_PAGE, first.events, first.next_token
        next_page: asyncio.Future[Page] | None = None
        try:
            while True:
                sent += len(events)
                size = _next_size(size, sum(len(event.record) for event in events))
                if token and sent < limit:
                    count = min(size, limit - sent)
                    next_page = asyncio.ensure_future(history.search(search, count, token))
                lines = await in_thread(_lines, events)
                events = []  # a slow client holds only the lines in memory
                yield lines
                if next_page is None:
                    break
                if self._stopping.is_set():
                    raise _stopping()
                await require_signed_in(request)
                page, next_page = await next_page, None
                events, token = page.events, page.next_token
                del page
            missing = self._missing()
            yield _line({"end": True, "events": sent, **({"missing": missing} if missing else {})})
        finally:
            if next_page is not None:
                next_page.cancel()

    # New events

    @route(
        "GET",
        "/tail",
        VIEWER,
        "follow new events as lines of JSON",
        query=("expression", "account", "region", "categories", "after", "last"),
    )
    async def tail(self, request: Request) -> Response:
        """Streams events in the order of the journal as they become durable.

        A line without an event has the last searched position. If the request asks for earlier
        events, the first such line also has any ranges missing from event history.
        """
        query = request.query_params
        if "since" in query or "until" in query:
            raise invalid_parameter("a tail has no since and until")
        search = search_in(query, self._services.clock.now())
        last = count_in(query, "last", max_events(request))
        after = position_in(query, "after", self._services.journal.head)
        if last is not None and after is not None:
            raise invalid_parameter("last and after exclude each other")
        events: list[FoundEvent] = []
        if last is not None:
            after, events = await self._last(request, search, last)
        missing = self._missing() if "last" in query or "after" in query else []
        if after is None:
            after = self._services.journal.head
        lines = self._follow(request, search, after, events, missing)
        return _Streamed(self._with_error(request, lines), self._running)

    async def _last(
        self, request: Request, search: Search, count: int
    ) -> tuple[int, list[FoundEvent]]:
        """Returns a position, and the last events up to it in journal order."""
        history = seen_by(request, self._services).history
        await history.search(search, 1)  # waits until history has the newest record
        position = await history.follower.cursor()
        events: list[FoundEvent] = []
        token: str | None = None
        while True:
            page = await history.search(search, min(_MAX_PAGE, count + 1), token)
            events.extend(
                event
                for event in page.events
                if not event.is_imported and event.position <= position
            )
            token = page.next_token
            if token is None or len(events) >= count:
                break
        return position, sorted(events[:count], key=lambda event: event.position)

    async def _follow(
        self,
        request: Request,
        search: Search,
        position: int,
        events: Sequence[FoundEvent],
        missing: Sequence[str],
    ) -> AsyncGenerator[bytes, None]:
        loop, journal = asyncio.get_running_loop(), self._services.journal
        caller = caller_of(request)
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        beyond: asyncio.Future[Any] | None = None
        size = _FIRST_PAGE
        try:
            lacking = {"missing": missing} if missing else {}
            yield _lines(events) + _line({"position": position, **lacking})
            written = loop.time()
            while not self._stopping.is_set():
                await require_signed_in(request)
                entries = await journal.read(position, size)
                lines = b""
                if entries:
                    size = _next_size(size, sum(len(entry.record) for entry in entries))
                    position = entries[-1].position
                    events = await matching_events(caller, search, entries)
                    lines = await in_thread(_lines, events)
                    interval = _BUSY_HEARTBEAT
                else:
                    if beyond is None or beyond.done():
                        beyond = asyncio.ensure_future(journal.wait_beyond(position))
                    rest = max(0.0, written + _HEARTBEAT - loop.time())
                    both = (beyond, stopping)
                    await asyncio.wait(both, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
                    interval = _HEARTBEAT
                if lines or loop.time() - written >= interval:
                    yield lines + _line({"position": position})
                    written = loop.time()
                if len(entries) < size:
                    await asyncio.sleep(_LINGER)
            raise _stopping()
        finally:
            stopping.cancel()
            if beyond is not None:
                beyond.cancel()

    async def _with_error(
        self, request: Request, lines: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Yields lines; an error becomes the last line."""
        try:
            async for line in lines:
                yield line
        except OpentrailError as error:
            _, message, _ = describe_error(error, "stream", shows_cause=is_by_token(request))
            yield _line({"error": message})
        finally:
            await lines.aclose()


class _Streamed(StreamingResponse):
    """Lines of JSON; their generator is closed when the client disconnects."""

    def __init__(
        self, lines: AsyncGenerator[bytes, None], running: set[asyncio.Future[None]]
    ) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._lines = lines
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.ensure_future(super().__call__(scope, receive, send))
        self._running.add(answer)
        try:
            await asyncio.wait((answer,))
        finally:
            self._running.discard(answer)
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            await self._lines.aclose()
        if not answer.cancelled():
            answer.result()


def _next_size(size: int, size_bytes: int) -> int:
    """Returns the size of the next page, from the number and bytes of events on the last one."""
    fitting = size * _PAGE_BYTES // max(1, size_bytes)
    return max(_MIN_PAGE, min(_MAX_PAGE, size * 4, fitting))


async def matching_events(
    caller: ApiCaller, search: Search, entries: Sequence[Entry]
) -> list[FoundEvent]:
    """Returns the events of a search among entries of the journal that a caller may see.

    Raises:
        CloudTrailError: `TimedOut`.
    """
    return await in_thread(_matching, caller, search, entries)


def _matching(caller: ApiCaller, search: Search, entries: Sequence[Entry]) -> list[FoundEvent]:
    events, end = [], time.monotonic() + _MATCH_SECONDS
    for entry in entries:
        if time.monotonic() > end:
            raise CloudTrailError("TimedOut", "This took too long; narrow the search.", 504)
        if not caller.may_see(entry.account) or search.account not in (None, entry.account):
            continue
        if search.region not in (None, entry.region):
            continue
        if search.categories is not None and entry.category not in search.categories:
            continue
        event = _event(search, entry)
        if event is not None:
            events.append(event)
    return events


def _event(search: Search, entry: Entry) -> FoundEvent | None:
    record = orjson.loads(entry.record)
    columns = attributes_of(record)
    if search.expression is not None and not holds(search.expression, columns, record):
        return None
    return FoundEvent.of(entry.position, columns, entry.record.decode())


def _lines(events: Sequence[FoundEvent]) -> bytes:
    documents = ({"position": event.position, **event_document(event)} for event in events)
    return b"".join(map(_line, documents))


def _line(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
