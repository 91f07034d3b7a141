"""The resources that events name, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource
from opentrail.core.expression import And, Compare, Expression, Or, literal
from opentrail.history.event_history import History, Search
from opentrail.ports.event_store import FoundEvent
from opentrail.who.event_rows import rows_of
from opentrail.who.shapes import ListedResource

#: Maximum events of a resource that are counted.
_MAX_COUNTED = 10_000
#: The form of IAM's unique ids, such as AIDACKCEVSQ6C2EXAMPLE.
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")


@dataclass
class ResourceNames:
    """A resource, and its newest event."""

    name: str
    type: str | None
    latest: FoundEvent
    names: list[str] = field(default_factory=list)


def also(search: Search, condition: Expression) -> Search:
    """Returns a search with another condition."""
    parts = (search.expression, condition) if search.expression else (condition,)
    return replace(search, expression=And(parts))


async def resource_row(
    history: History, counted: Search | None, each: ResourceNames
) -> ListedResource:
    """Returns the row of a resource with the number of events of a search that name it."""
    named = (Compare(("resource_names",), "=", literal(name), is_field=True) for name in each.names)
    count = (
        await history.count_events(also(counted, Or(tuple(named))), _MAX_COUNTED)
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


def resources_in(events: Sequence[FoundEvent]) -> list[ResourceNames]:
    """Returns the resources that events name, by the newest of these."""
    named = [one for event in events for one in event.resources]
    types = {one.name: one.type for one in named if one.type}
    names = {(one.type, one.name) for one in named}
    found: dict[tuple[str | None, str], ResourceNames] = {}
    for event in events:
        for one in event.resources:
            if not one.name:
                continue
            kind = one.type or types.get(one.name)
            name = _main_name(kind, one.name, event.resources, names)
            known = found.setdefault((kind, name), ResourceNames(name, kind, event))
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
