"""Lists of principals and of resources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.conditions import count_in
from opentrail.api.v1.routes import SEARCH, VIEWER, route
from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource
from opentrail.core.event import format_time
from opentrail.core.expression import And, Compare, Expression, Is, Or, literal
from opentrail.history.event_history import History, Search, has_all
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import listed, search_in
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import rows_of
from opentrail.who.shapes import EventRow

#: Rows of an answer.
_DEFAULT_ROWS = 50
_MAX_ROWS = 500
#: A search counts the events of each of them.
_MAX_RESOURCES = 100
#: Newest events that name the listed resources.
_MAX_EVENTS = 1_000
_MAX_COUNTED = 10_000
#: Type of a resource in a principal's ARN → what the principal is.
_KINDS = {
    ("iam", "user"): "IAM user",
    ("iam", "root"): "root user",
    ("iam", "role"): "role",
    ("sts", "assumed-role"): "role session",
    ("sts", "federated-user"): "federated user",
}
_PRINCIPAL = re.compile(r"arn:[^:]*:([^:]*):[^:]*:([^:]*):([^/:]+)[/:]?(.*)", re.DOTALL)
#: The form of IAM's unique ids, such as AIDACKCEVSQ6C2EXAMPLE.
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")


class ListedPrincipal(TypedDict):
    """A principal in the list of those that called."""

    arn: str
    name: str
    #: Such as `IAM user` and `role session`; None: the ARN does not say.
    kind: str | None
    account: str | None
    events: int
    failed: int
    first: str
    last: str


class PrincipalList(TypedDict):
    """Principals, by their last call."""

    principals: list[ListedPrincipal]
    #: Whether these are all of them.
    complete: bool


class ListedResource(TypedDict):
    """A resource in the list of those that events name."""

    name: str
    type: str | None
    #: Its other names in the events, such as its ARN.
    aliases: list[str]
    #: How many events name it; None: a list by prefix counts none.
    events: int | None
    #: Whether `events` are all of them; else there are more.
    counted: bool
    #: The newest event that names it.
    latest: EventRow


class ResourceList(TypedDict):
    """Resources, by the newest event that names each."""

    resources: list[ListedResource]
    #: Whether these are all of them.
    complete: bool


@dataclass
class _Listed:
    """A resource, and its newest event."""

    name: str
    type: str | None
    latest: FoundEvent
    names: list[str] = field(default_factory=list)


class Lists:
    """The lists of principals and resources.

    Args:
        services: what operations use.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def _asked(self, request: Request, most: int) -> tuple[History, Search, int]:
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        history = seen_by(request, self._services).history
        return history, search, count_in(query, "limit", most) or _DEFAULT_ROWS

    @route("GET", "/principals", VIEWER, "list principals", query=(*SEARCH, "text", "limit"))
    async def principals(self, request: Request) -> PrincipalList:
        """Returns the principals that called last, and whose ARN has a text as a part."""
        history, asked, limit = self._asked(request, _MAX_ROWS)
        search, text = listed(asked), request.query_params.get("text", "")
        if text:
            search = _also(search, Compare(("principal_arn",), ":", text, is_field=True))
        found = await history.principals(search, limit + 1)
        rows = [_principal(each.arn) for each in found[:limit]]
        for row, each in zip(rows, found, strict=False):
            row["events"], row["failed"] = each.events, each.failed
            row["first"], row["last"] = format_time(each.first), format_time(each.last)
        return {"principals": rows, "complete": len(found) <= limit}

    @route(
        "GET",
        "/resources/list",
        VIEWER,
        "list resources",
        query=(*SEARCH, "text", "prefix", "type", "limit"),
    )
    async def resources(self, request: Request) -> ResourceList:
        """Returns the resources that events named last, each once.

        `text` is a part of a name, in any case, and `prefix` a beginning. Without them, resources
        that events only read are left out.
        """
        history, asked, limit = self._asked(request, _MAX_RESOURCES)
        search, query = listed(asked), request.query_params
        text, prefix = query.get("text", ""), query.get("prefix", "")
        if text:
            search = _also(search, Compare(("resource_names",), ":", text, is_field=True))
        if prefix:
            pattern = f"{literal(prefix)}*"
            search = _also(search, Compare(("resource_names",), "=", pattern, is_field=True))
        if not (text or prefix):
            search = _also(search, Is("write"))
        if query.get("type"):
            same = Compare(("resource_types",), "=", literal(query["type"]), is_field=True)
            search = _also(search, same)
        events = await history.latest(search, _MAX_EVENTS)
        found = [
            each
            for each in await in_thread(_resources_in, events)
            if query.get("type") in (None, "", each.type)
            and any(text.lower() in name.lower() and name.startswith(prefix) for name in each.names)
        ]
        rows = [await _row(history, None if prefix else asked, each) for each in found[:limit]]
        is_whole = has_all(events, _MAX_EVENTS) and len(found) <= limit
        return {"resources": rows, "complete": is_whole}


def _also(search: Search, condition: Expression) -> Search:
    parts = (search.expression, condition) if search.expression else (condition,)
    return replace(search, expression=And(parts))


def _principal(arn: str) -> ListedPrincipal:
    """Returns the row of a principal, without its counts."""
    match = _PRINCIPAL.fullmatch(arn)
    service, account, kind, name = match.groups() if match else ("", "", "", "")
    return {
        "arn": arn,
        "name": name.rpartition("/")[2] if kind == "user" else name or kind or arn,
        "kind": _KINDS.get((service, kind)),
        "account": account or None,
        "events": 0,
        "failed": 0,
        "first": "",
        "last": "",
    }


async def _row(history: History, counted: Search | None, each: _Listed) -> ListedResource:
    """Returns the row of a resource with the number of events of a search that name it."""
    named = (Compare(("resource_names",), "=", literal(name), is_field=True) for name in each.names)
    count = (
        await history.count_events(_also(counted, Or(tuple(named))), _MAX_COUNTED)
        if counted
        else None
    )
    (row,) = await rows_of([each.latest])
    return {
        "name": each.name,
        "type": each.type,
        "aliases": [name for name in each.names if name != each.name],
        "events": count.value if count else None,
        "counted": count is not None and count.is_exact,
        "latest": row,
    }


def _resources_in(events: Sequence[FoundEvent]) -> list[_Listed]:
    """Returns the resources that events name, by the newest of these."""
    named = [one for event in events for one in event.resources]
    types = {one.name: one.type for one in named if one.type}
    names = {(one.type, one.name) for one in named}
    found: dict[tuple[str | None, str], _Listed] = {}
    for event in events:
        for one in event.resources:
            if not one.name:
                continue
            kind = one.type or types.get(one.name)
            name = _main_name(kind, one.name, event.resources, names)
            known = found.setdefault((kind, name), _Listed(name, kind, event))
            if one.name not in known.names:
                known.names.append(one.name)
    return list(found.values())


def _main_name(
    kind: str | None, name: str, beside: Iterable[Resource], names: set[tuple[str | None, str]]
) -> str:
    """Returns the name of a resource that events call by its ARN, its URL or its unique id."""
    arn = parse_arn(name)
    if arn is not None:
        return arn.name if (kind, arn.name) in names else name
    if "://" in name:
        last = name.rpartition("/")[2]
        return last if (kind, last) in names else name
    if not _UNIQUE_ID.fullmatch(name):
        return name
    others = {
        other.name
        for other in beside
        if other.type == kind and other.name and parse_arn(other.name) is None
    } - {name}
    only = others.pop() if len(others) == 1 else name
    return name if _UNIQUE_ID.fullmatch(only) else only
