"""All events of a search as a file: CSV, JSON or NDJSON."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import require_signed_in, seen_by
from opentrail.api.v1.routes import AUDITOR, SEARCH, route
from opentrail.core.text import escape_formulas
from opentrail.history.event_history import History, Page, Search
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import search_in
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import row_of

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
        services: what operations use.
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
    """Yields the events of all pages; a file breaks off when its session ends."""
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
    lines = io.StringIO()
    writer = csv.writer(lines)
    for event in events:
        row = row_of(event)
        names = " ".join(resource["name"] for resource in row["resources"])
        cells: dict[str, object] = {**row, "resources": names}
        writer.writerow([_cell(cells[column]) for column in _CSV_COLUMNS])
    return lines.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Returns a cell that no spreadsheet runs as a formula.

    >>> _cell("=1+1"), _cell(True), _cell(None), _cell("John")
    ("'=1+1", 'true', '', 'John')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else escape_formulas(str(value))


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
