"""Event history: events of a search, also as a file, one event, and the events around it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, NotRequired, TypedDict, cast

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import require_signed_in, seen_by
from opentrail.api.v1.conditions import (
    MAX_SESSION_EVENTS,
    count_in,
    defaults_in,
    hiding_defaults,
    max_events,
    without_defaults,
)
from opentrail.api.v1.routes import AUDITOR, SEARCH, VIEWER, route
from opentrail.core.attributes import attributes_of
from opentrail.core.event import parse_time
from opentrail.core.expression import (
    Compare,
    Expression,
    ExpressionError,
    Not,
    Or,
    Term,
    Text,
    literal,
    terms_of,
)
from opentrail.core.expression.tree import NAMES
from opentrail.core.text import csv_line
from opentrail.history.event_history import PAGE, History, Page, Search, event_document, has_all
from opentrail.history.nearest import nearest_values, part_matches, with_values
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import listed, search_in
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import find_event, nearest_row, row_of, rows_of
from opentrail.who.shapes import (
    EventDocument,
    EventRow,
    FoundEvents,
    HiddenEvents,
    NearestRow,
    SearchHints,
)

#: Times before and after an event to search for its neighbours, until there are enough.
_AROUND = (timedelta(minutes=5), timedelta(hours=6), timedelta(days=90))
_MAX_AROUND = 1_000
#: The time in a cursor, which needs no escapes in a URL.
_CURSOR_TIME = "%Y%m%dT%H%M%S.%fZ"
#: Maximum events that are searched to count the events hidden by defaults.
_MAX_COUNTED = 1_000
#: Property that neighbours share with an event → field of the search.
_COMMON = {
    "principal": "principal_arn",
    "resource": "resource_names",
    "ip": "source_ip",
    "key": "access_key_id",
}


class EventPage(TypedDict):
    """A page of events, newest first."""

    events: list[EventRow]
    #: The cursor of the next page; None: this is the last page.
    next: str | None
    tookMs: int
    #: A description of each range missing from event history.
    missing: list[str]
    #: The events that `defaults` hide, on the first page; None: they hide none.
    hidden: NotRequired[HiddenEvents | None]


class EventDetail(TypedDict):
    """An event with its record as stored."""

    event: EventRow
    record: str


class EventContext(TypedDict):
    """Events around an event that share a property with it, in order of time."""

    before: list[EventRow]
    after: list[EventRow]


class TermRow(TypedDict):
    """A term of an expression; terms joined by AND form an expression.

    A comparison of a whole field has `field` (its longest name), `operator` (`=` or `!=`) and
    `value`, a pattern. A searched word or phrase has a `value` only.
    """

    text: str
    field: str | None
    operator: Literal["=", "!="] | None
    value: str | None


class WrongPlace(TypedDict):
    """An error in an expression."""

    message: str
    #: Index of the first wrong character; None: the whole expression is wrong.
    at: int | None
    length: int


class ExpressionTerms(TypedDict):
    """The terms of an expression, none if it is invalid."""

    terms: list[TermRow]
    error: WrongPlace | None


class NearestValues(TypedDict):
    """The closest existing values for a search without results."""

    nearest: list[NearestRow]


class Events:
    """The calls about events.

    Args:
        services: the features that operations use.
        missing: describes each range missing from event history.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing

    def _history(self, request: Request) -> History:
        return seen_by(request, self._services).history

    def _search(self, request: Request) -> Search:
        return search_in(request.query_params, self._services.clock.now())

    @route("GET", "/events", VIEWER, "read events", query=(*SEARCH, "limit", "defaults", "nearest"))
    async def latest(self, request: Request) -> FoundEvents:
        """Returns events in the form of `LookupEvents`, newest first.

        As all lists, this one leaves out questions of agents unless the search asks for them. Large
        events make an answer shorter; `truncated` is true then. With `nearest=true`, a name that no
        event has matches names that differ in case only. An answer without events names the most
        similar values, and `parts` counts the events that have the searched words as parts of
        words, by member.
        """
        query = request.query_params
        search, history = self._search(request), self._history(request)
        limit = count_in(query, "limit", max_events(request)) or PAGE
        events = await history.latest(listed(search), limit)
        meant: SearchHints = {}
        if not events and query.get("nearest") == "true":
            found = await nearest_values(history, search)
            if same := [item for item in found if item.difference == "case"]:
                search = with_values(search, same)
                events = await history.latest(listed(search), limit)
            rows = [nearest_row(item) for item in (same if events else found)]
            if events:
                meant["corrected"] = rows
            else:
                meant["nearest"] = rows
        hints = len(events) < limit and query.get("nearest") == "true"
        if hints and (parts := await part_matches(history, search)):
            meant["parts"] = {
                "words": list(parts.words),
                "events": parts.events,
                "complete": parts.is_exact,
                "members": [{"value": v, "count": n} for v, n in parts.members],
            }
        documents = await in_thread(lambda: [event_document(event) for event in events])
        answer: FoundEvents = {
            **meant,
            "events": cast(list[EventDocument], documents),
            "missing": self._missing(),
        }
        if len(events) < limit and not has_all(events, limit):
            answer["truncated"] = True
        elif len(events) < limit and (defaults := defaults_in(query)):
            answer["hidden"] = await _count_hidden(history, listed(search), defaults)
        return answer

    @route(
        "GET",
        "/events/rows",
        VIEWER,
        "page through events",
        query=(*SEARCH, "limit", "cursor", "defaults"),
    )
    async def page(self, request: Request) -> EventPage:
        """Returns a page of events, newest first, and the cursor of the next one.

        `defaults` names the conditions that its caller did not choose, as in `/events`; the first
        page then says which events they hide.
        """
        began = time.perf_counter()
        query = request.query_params
        limit = count_in(query, "limit", MAX_SESSION_EVENTS) or PAGE
        now, token = self._place_in(query.get("cursor", ""))
        search = listed(search_in(query, now))
        history = self._history(request)
        page = await history.search(search, limit, token)
        answer: EventPage = {
            "events": await rows_of(page.events),
            "next": page.next_token and f"{now:{_CURSOR_TIME}}~{page.next_token}",
            "tookMs": round((time.perf_counter() - began) * 1000),
            "missing": self._missing(),
        }
        if token is None and (defaults := defaults_in(query)):
            answer["hidden"] = await _count_hidden(history, search, defaults)
        return answer

    def _place_in(self, cursor: str) -> tuple[datetime, str | None]:
        """Returns the time of the first page, which spans such as `1d` refer to, and the token.

        A cursor of an older version is only a token.
        """
        text, _, token = cursor.partition("~")
        try:
            return parse_time(text), token
        except ValueError:
            return self._services.clock.now(), cursor or None

    @route("GET", "/expression", VIEWER, "read an expression", query=("expression",))
    async def expression(self, request: Request) -> ExpressionTerms:
        """Returns the terms of an expression, or its error."""
        text, now = request.query_params.get("expression", ""), self._services.clock.now()
        try:
            return {"terms": [_term_row(term) for term in terms_of(text, now)], "error": None}
        except ExpressionError as error:
            place: WrongPlace = {"message": str(error), "at": error.at, "length": error.length}
            return {"terms": [], "error": place}

    @route("GET", "/events/nearest", VIEWER, "suggest corrections for a search", query=SEARCH)
    async def nearest(self, request: Request) -> NearestValues:
        """Returns the closest existing values for a search without results."""
        found = await nearest_values(self._history(request), self._search(request))
        return {"nearest": [nearest_row(item) for item in found]}

    @route("GET", "/events/{id}", VIEWER, "read one event")
    async def one(self, request: Request) -> EventDetail:
        """Returns an event with its record as stored."""
        event = await find_event(self._history(request), request.path_params["id"])
        return {"event": row_of(event), "record": event.record}

    @route("GET", "/events/{id}/context", VIEWER, "read events around one", query=("by", "limit"))
    async def context(self, request: Request) -> EventContext:
        """Returns earlier and later events with the same principal, address, key or resource."""
        query = request.query_params
        by = query.get("by", "principal")
        if by not in _COMMON:
            message = f"by must be one of {', '.join(_COMMON)}, not {by!r}"
            raise invalid_parameter(message)
        limit = count_in(query, "limit", MAX_SESSION_EVENTS) or 20
        event = await find_event(self._history(request), request.path_params["id"])
        expression = _in_common(event, by)
        if expression is None:
            return {"before": [], "after": []}
        search = Search(expression=expression)
        history = self._history(request)
        own = event.event_id
        before = await history.latest(replace(search, end=event.event_time), limit + 1)
        after: list[FoundEvent] = []
        for width in _AROUND:
            period = replace(search, start=event.event_time, end=event.event_time + width)
            after = await history.latest(period, _MAX_AROUND)
            if len(after) > limit:
                break
        earlier = [event for event in before if event.event_id != own][:limit]
        later = [event for event in after if event.event_id != own][-limit:]
        return {"before": await rows_of(earlier), "after": await rows_of(later[::-1])}


def _term_row(term: Term) -> TermRow:
    field: str | None = None
    operator: Literal["=", "!="] | None = None
    value: str | None = None
    match term.meaning:
        case Text(text, is_part=False):
            value = text
        case Compare((name,), "=", value, is_field=True):
            field, operator = NAMES[name][0], "="
        case Compare((name,), "!=", value, is_field=True) | Not(
            Compare((name,), "=", value, is_field=True)
        ):
            field, operator = NAMES[name][0], "!="
    return {"text": term.text, "field": field, "operator": operator, "value": value}


async def _count_hidden(
    history: History, search: Search, defaults: Sequence[str]
) -> HiddenEvents | None:
    """Returns the number of events hidden by defaults, and the flags that show them."""
    events = await history.latest(without_defaults(search, defaults), _MAX_COUNTED)
    flags: set[str] = set()
    regions: set[str] = set()
    count = 0
    for event in events:
        hiding = hiding_defaults(search, defaults, event)
        flags.update(hiding)
        count += bool(hiding)
        if "--all-regions" in hiding:
            regions.add(attributes_of(orjson.loads(event.record)).region)
    if not count:
        return None
    return {
        "count": count,
        "complete": has_all(events, _MAX_COUNTED),
        "flags": sorted(flags),
        "regions": sorted(regions),
    }


def _in_common(event: FoundEvent, by: str) -> Expression | None:
    """Returns the expression that an event and its neighbours match; None without that value."""
    attributes = attributes_of(orjson.loads(event.record))
    values: dict[str, list[str | None]] = {
        "principal": [attributes.principal_arn],
        "resource": [resource.name for resource in event.resources],
        "ip": [attributes.source_ip],
        "key": [event.access_key_id],
    }
    terms: list[Expression] = [
        Compare((_COMMON[by],), "=", literal(value), is_field=True) for value in values[by] if value
    ]
    return Or(tuple(terms)) if terms else None


# Events as a file

#: Maximum events per read for a file.
_PER_READ = 1_000
_CSV_COLUMNS = (
    "eventTime",
    "sentence",
    "eventName",
    "eventSource",
    "username",
    "arn",
    "sourceIp",
    "userAgent",
    "region",
    "account",
    "category",
    "readOnly",
    "errorCode",
    "accessKeyId",
    "resources",
    "eventId",
    "requestId",
)


class EventExport:
    """The call for files of events.

    Args:
        services: the features that operations use.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    @route("GET", "/export", AUDITOR, "download events", query=(*SEARCH, "format"))
    async def export(self, request: Request) -> StreamingResponse:
        """Streams all events of a search as a file."""
        form = request.query_params.get("format", "csv")
        if form not in _WRITERS:
            message = f"format must be one of {', '.join(_WRITERS)}, not {form!r}"
            raise invalid_parameter(message)
        search = search_in(request.query_params, self._services.clock.now())
        history = seen_by(request, self._services).history
        first = await history.search(search, _PER_READ)
        kind, write = _WRITERS[form]
        name = f"events-{self._services.clock.now():%Y%m%dT%H%M%SZ}.{form}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(write(_all(request, history, search, first)), 200, headers, kind)


async def _all(
    request: Request, history: History, search: Search, page: Page
) -> AsyncIterator[Sequence[FoundEvent]]:
    """Yields the events of all pages; stops with an error when the session ends."""
    while True:
        yield page.events
        if page.next_token is None:
            return
        await require_signed_in(request)
        page = await history.search(search, _PER_READ, page.next_token)


async def _csv(pages: AsyncIterator[Sequence[FoundEvent]]) -> AsyncIterator[bytes]:
    yield (",".join(_CSV_COLUMNS) + "\r\n").encode()
    async for events in pages:
        yield await in_thread(_csv_lines, events)


def _csv_lines(events: Sequence[FoundEvent]) -> bytes:
    lines = []
    for event in events:
        row = row_of(event)
        names = " ".join(resource["name"] for resource in row["resources"])
        cells: dict[str, object] = {**row, "resources": names}
        lines.append(csv_line(cells[column] for column in _CSV_COLUMNS))
    return "".join(lines).encode("utf-8", "replace")


async def _ndjson(pages: AsyncIterator[Sequence[FoundEvent]]) -> AsyncIterator[bytes]:
    async for events in pages:
        yield b"".join(event.record.encode("utf-8", "replace") + b"\n" for event in events)


async def _json(pages: AsyncIterator[Sequence[FoundEvent]]) -> AsyncIterator[bytes]:
    """Yields a file in the form of CloudTrail's log files."""
    separator = b'{"Records":['
    async for events in pages:
        for event in events:
            yield separator + event.record.encode("utf-8", "replace")
            separator = b",\n"
    yield b"]}\n" if separator == b",\n" else b'{"Records":[]}\n'


_WRITERS: dict[
    str,
    tuple[
        str,
        Callable[[AsyncIterator[Sequence[FoundEvent]]], AsyncIterator[bytes]],
    ],
] = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "ndjson": ("application/x-ndjson", _ndjson),
    "json": ("application/json", _json),
}
