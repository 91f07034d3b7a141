"""What a search without results may have meant: values of events that are like its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import takewhile
from typing import Literal, cast

from opentrail.core.expression import And, Compare, Expression, Not, Or, literal
from opentrail.core.expression.fields import FIELDS
from opentrail.history.event_history import History, Search
from opentrail.history.threads import NEAREST, in_thread

#: Fields whose values may be mistyped, by their names in messages.
_FIELDS: dict[str, str] = {
    "account": "account",
    "agent": "agent",
    "category": "category",
    "error_code": "error code",
    "event_name": "event name",
    "event_source": "event source",
    "principal_arn": "principal",
    "region": "Region",
    "resource_names": "resource",
    "resource_types": "resource type",
    "username": "user",
}
#: Maximum values of a field that are compared.
_MAX_VALUES = 1_000
#: Maximum seconds of the search for them.
_SECONDS = 5.0
#: Minimum likeness of values, 0 to 1.
_LIKE = 0.7
_HOST = ".amazonaws.com"


@dataclass(frozen=True, slots=True)
class Nearest:
    """A value that no event has, and the value that is most like it.

    Attributes:
        field: name of an attribute.
        value: the searched value.
        nearest: the most similar value of events.
        events: number of events that have it.
        difference: `case`: only that, and no other value differs in case only.
    """

    field: str
    value: str
    nearest: str
    events: int
    difference: Literal["case", "letters"]

    @property
    def label(self) -> str:
        """What the field is called in messages."""
        return _FIELDS[self.field]


async def nearest_values(history: History, search: Search) -> list[Nearest]:
    """Returns what values of a search, of which no event has any, may have meant.

    After some seconds it returns those found so far, since they are hints only.

    Args:
        history: where events are counted.
        search: a search without results. Only its expression matters: a value that events of
            another time, account or Region have is not mistyped.
    """
    found: list[Nearest] = []
    end = time.monotonic() + _SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            for compare in dict.fromkeys(_compared(search.expression)):
                counts = await _values(history, compare)
                nearest = await in_thread(_nearest, compare, counts, end, pool=NEAREST)
                if nearest is not None:
                    found.append(nearest)
    return found


def with_values(search: Search, found: Sequence[Nearest]) -> Search:
    """Returns a search for other values."""
    values = {(item.field, item.value): item.nearest for item in found}
    expression = search.expression
    return search if expression is None else replace(search, expression=_other(expression, values))


def _other(expression: Expression, values: dict[tuple[str, str], str]) -> Expression:
    match expression:
        case And(parts):
            return And(tuple(_other(part, values) for part in parts))
        case Or(parts):
            return Or(tuple(_other(part, values) for part in parts))
        case Compare(path, "=", _, is_field=True):
            value = values.get((path[0], expression.pattern.plain or ""))
            return Compare(path, "=", literal(value), True) if value is not None else expression
    return expression


def _compared(expression: Expression | None) -> Iterator[Compare]:
    """Yields the comparisons that must hold, or one of which must."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _compared(part)
        case Compare(path, "=", _, is_field=True):
            if path[0] in _FIELDS and expression.pattern.plain:
                yield expression
        case Not():
            return


async def _values(history: History, compare: Compare) -> dict[str, int]:
    """Returns the values of a field, and how many events have each."""
    field = compare.path[0]
    if field == "resource_names":
        return await _resources(history, compare)
    name = next(name for name, attribute in FIELDS.items() if attribute == field)
    return dict((await history.facets(Search(), [name], _MAX_VALUES))[name])


async def _resources(history: History, compare: Compare) -> dict[str, int]:
    """Returns names of resources that contain the searched one, else the latest names."""
    contains = Compare(compare.path, ":", cast(str, compare.pattern.plain), True)
    events = await history.latest(Search(expression=contains), _MAX_VALUES)
    events = events or await history.latest(Search(), _MAX_VALUES)
    return Counter(resource.name for event in events for resource in event.resources)


def _nearest(compare: Compare, counts: dict[str, int], end: float) -> Nearest | None:
    """Returns the value that a comparison may have meant; None if events have its own.

    No more values are compared when the monotonic clock is after `end`.
    """
    field, value = compare.path[0], cast(str, compare.pattern.plain)
    names = {_spelled(field, value, name): name for name in counts}
    if value in names:
        return None
    same = [name for name in names if name.lower() == value.lower()]
    if same:
        name = names[max(same, key=lambda name: counts[names[name]])]
        return Nearest(field, value, name, counts[name], "case" if len(same) == 1 else "letters")
    lower = {name.lower(): name for name in names}
    in_time = takewhile(lambda _: time.monotonic() < end, lower)
    like = get_close_matches(value.lower(), in_time, 1, _LIKE)
    if not like:
        return None
    name = names[lower[like[0]]]
    return Nearest(field, value, name, counts[name], "letters")


def _spelled(field: str, value: str, name: str) -> str:
    """Returns a name as the searched value spells such names: services without their domain."""
    return name.removesuffix(_HOST) if field == "event_source" and "." not in value else name
