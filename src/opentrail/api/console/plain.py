"""Event history without scripts: pages made on the server, for text browsers and strict ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from opentrail.api.console.guard import PLAIN_PATH as PATH
from opentrail.api.console.guard import Guard
from opentrail.api.operation import Services
from opentrail.api.pages import page_of, text_of
from opentrail.api.v1.answers import read_body
from opentrail.api.v1.callers import seen_by
from opentrail.core.errors import CloudTrailError
from opentrail.history.event_history import PAGE, Page
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import listed, search_in
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import find_event, row_of
from opentrail.who.shapes import EventRow

#: Events that only read are hidden until the reader empties the field, as on the console's page.
_DEFAULT = "is:write"
#: Maximum bytes of the form with a link.
_MAX_FORM_BYTES = 10_000
_HOW = "On the machine of the server, run: opentrail console"
#: What the table and the page of an event show: label, member of an event.
_DETAILS = (
    ("Event name", "eventName"),
    ("Event source", "eventSource"),
    ("Event time (UTC)", "eventTime"),
    ("AWS Region", "region"),
    ("Account", "account"),
    ("User name", "username"),
    ("Principal", "arn"),
    ("AWS access key", "accessKeyId"),
    ("Source IP address", "sourceIp"),
    ("User agent", "userAgent"),
    ("Error code", "errorCode"),
    ("Event ID", "eventId"),
    ("Request ID", "requestId"),
)


class Plain:
    """The pages without scripts."""

    def __init__(self, services: Services, guard: Guard) -> None:
        self._services = services
        self._guard = guard

    def routes(self) -> list[Route]:
        """Returns the routes of these pages."""
        guard = self._guard
        return [
            Route(f"{PATH}/session", guard.form(self._begin, _error_page), methods=["POST"]),
            Route(PATH, guard.plain(self._history, _error_page)),
            Route(f"{PATH}/events/{{id}}", guard.plain(self._event, _error_page)),
        ]

    async def _begin(self, request: Request) -> Response:
        """Begins a session by a link, or by its secret alone."""
        body = await read_body(request, _MAX_FORM_BYTES, "form")
        link = parse_qs(body.decode("utf-8", "replace")).get("link", [""])[0].strip()
        response = RedirectResponse(PATH, 303)
        await self._guard.begin(request, link.rpartition("#t=")[2], response)
        return response

    async def _history(self, request: Request) -> Response:
        """Shows a page of events; a search that is not valid keeps its form."""
        query = {"q": _DEFAULT, **request.query_params}
        conditions = {**query, "expression": query["q"]}
        try:
            search = listed(search_in(conditions, self._services.clock.now()))
            cursor = query.get("cursor") or None
            page = await seen_by(request, self._services).history.search(search, PAGE, cursor)
        except CloudTrailError as error:
            problem = f"<p role=alert>{text_of(error.message)}</p>"
            return page_of("Event history", _form(query) + problem, error.status)
        table = await in_thread(_table, page)
        return page_of("Event history", _form(query) + table + _paging(query, page))

    async def _event(self, request: Request) -> Response:
        history = seen_by(request, self._services).history
        return await in_thread(_event_page, await find_event(history, request.path_params["id"]))


def _event_page(event: FoundEvent) -> Response:
    """Returns the page of an event with its record."""
    row = row_of(event)
    values: Mapping[str, object] = row
    details = [(label, str(values[member] or "")) for label, member in _DETAILS]
    details += [
        (f"Resource ({resource['type'] or 'type not known'})", resource["name"])
        for resource in row["resources"]
    ]
    details_html = "".join(
        f"<dt>{text_of(label)}</dt><dd>{text_of(value)}</dd>" for label, value in details if value
    )
    lines = "\n".join(text_of(line) for line in indent(event.record))
    address = f"/console/events/{quote(event.event_id, safe='')}"
    return page_of(
        row["sentence"],
        f"<dl>{details_html}</dl><h2>Record</h2><pre tabindex=0>{lines}</pre>"
        f'<p><a href="{PATH}">Event history</a> · '
        f'<a href="{escape(address)}">This event in the console with scripts</a></p>',
    )


def _form(query: Mapping[str, str]) -> str:
    """Returns the form of a search."""
    fields = (
        ("q", "Search expression", "eventName:CreateUser AND NOT is:read", "text"),
        ("since", "Since (UTC)", "2020-01-01T09:00:00Z", "text"),
        ("until", "Until (UTC)", "2020-01-31", "text"),
    )
    inputs = "".join(
        f'<label>{label} <input type={kind} name={name} value="{escape(query.get(name, ""))}" '
        f'placeholder="{example}"></label>'
        for name, label, example, kind in fields
    )
    hidden_inputs = "".join(
        f'<input type=hidden name={name} value="{escape(query[name])}">'
        for name in ("account", "region", "categories")
        if query.get(name)
    )
    return (
        f'<form action="{PATH}" role=search>{inputs}{hidden_inputs}<button>Search</button></form>'
    )


def _table(page: Page) -> str:
    """Returns the events as a table; on narrow screens its cells are lines."""
    if not page.events:
        return "<p>No events. Empty the search expression to include events that only read.</p>"
    return (
        "<table><caption>Events, newest first</caption><thead><tr><th scope=col>Time (UTC)</th>"
        "<th scope=col>What happened</th><th scope=col>User</th><th scope=col>Source IP</th>"
        f"<th scope=col>Result</th></tr></thead><tbody>{_rows(map(row_of, page.events))}</tbody>"
        "</table>"
    )


def _rows(rows: Iterable[EventRow]) -> str:
    return "".join(
        f"<tr><td>{text_of(row['eventTime'][:19].replace('T', ' '))}</td>"
        f'<td><a href="{PATH}/events/{escape(quote(row["eventId"], safe=""))}">'
        f"{text_of(row['clause'])}</a></td><td>{text_of(row['username'] or '-')}</td>"
        f"<td>{text_of(row['sourceIp'] or '-')}</td>"
        f"<td>{'✘ ' + text_of(row['errorCode']) if row['errorCode'] else '✔ Success'}</td></tr>"
        for row in rows
    )


def _paging(query: Mapping[str, str], page: Page) -> str:
    """Returns links to the first and the next page."""
    same = {name: value for name, value in query.items() if name != "cursor"}
    links = []
    if "cursor" in query:
        links.append(("Newest", same))
    if page.next_token:
        links.append(("Older", {**same, "cursor": page.next_token}))
    return '<nav aria-label="Pages">{}</nav>'.format(
        " ".join(f'<a href="{PATH}?{escape(urlencode(to))}">{label}</a>' for label, to in links)
    )


def _error_page(code: str, message: str, status: int, request_id: str) -> Response:
    """Returns the page of an error; without a session it has a form for a link."""
    alert = f"<p role=alert>{text_of(message)} ({text_of(code)}, request {text_of(request_id)})</p>"
    if status != 401:
        return page_of("Error", f'{alert}<p><a href="{PATH}">Event history</a></p>', status)
    return page_of(
        "Open the console",
        f"{alert}<p>{_HOW}, and paste the link that it prints. "
        "The link works once, within ten minutes.</p>"
        f'<form method=post action="{PATH}/session"><label>Link <input type=password name=link '
        "autocomplete=off required></label><button>Open</button></form>",
        status,
    )


#: Levels that are indented; an imported record may have a thousand.
_MAX_INDENTED = 20
_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^"{}\[\],:]+')


def indent(record: str) -> list[str]:
    """Returns the lines of a JSON text, whose names and values are as they were.

    >>> indent('{"a":[1.0,{}],"b":"{"}')
    ['{', '  "a": [', '    1.0,', '    {}', '  ],', '  "b": "{"', '}']
    """
    lines, line, depth = [], "", 0

    def margin() -> str:
        return "  " * min(depth, _MAX_INDENTED)

    for part in _PARTS.findall(record):
        if part in "{[":
            lines.append(line + part)
            depth += 1
            line = margin()
        elif part in "}]":
            depth -= 1
            if not line.strip() and lines and lines[-1][-1] in "{[":
                line = lines.pop() + part
            else:
                lines.append(line)
                line = margin() + part
        elif part == ",":
            lines.append(line + part)
            line = margin()
        else:
            line += ": " if part == ":" else part.strip() if part[0] != '"' else part
    return [*lines, line]
