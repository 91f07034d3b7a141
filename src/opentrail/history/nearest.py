"""Suggestions for a search without results: values of events similar to its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, Literal, cast

import orjson

from opentrail.core.expression import And, Compare, Expression, Not, Or, Text, literal
from opentrail.core.expression.tree import FIELDS, nodes_at, occurs
from opentrail.history.event_history import History, Search, has_all
from opentrail.history.threads import NEAREST, in_thread
from opentrail.ports.event_store import FoundEvent

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
_SEARCH_SECONDS = 5.0
#: Maximum characters of a value that is compared letter by letter: the work is their square.
_MAX_LENGTH = 128
#: Minimum likeness of values, 0 to 1.
_LIKE = 0.7
_HOST = ".amazonaws.com"
#: The word for a path into the record in messages.
_PATH = "path"
#: Maximum members that are named.
_MAX_MEMBERS = 3


@dataclass(frozen=True, slots=True)
class Nearest:
    """A value that no event has, and the value that is most like it.

    Attributes:
        field: name of an attribute; `path` for a path into the record, whose nearest one events of
            the newest 1,000 have.
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
        """The field's name in messages."""
        return _FIELDS.get(self.field, self.field)


async def nearest_values(history: History, search: Search) -> list[Nearest]:
    """Returns suggestions for values of a search that no event has.

    After some seconds it returns the suggestions so far, since they are hints only.

    Args:
        history: where events are counted.
        search: a search without results. Only its expression matters: a value that events of
            another time, account or Region have is not mistyped.
    """
    found: list[Nearest] = []
    end = time.monotonic() + _SEARCH_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SEARCH_SECONDS):
            for compare in dict.fromkeys(_compared(search.expression)):
                counts = await _values(history, compare)
                nearest = await in_thread(_nearest, compare, counts, end, pool=NEAREST)
                if nearest is not None:
                    found.append(nearest)
            for path in dict.fromkeys(_paths(search.expression)):
                nearest = await _nearest_path(history, path)
                if nearest is not None:
                    found.append(nearest)
    return found


@dataclass(frozen=True, slots=True)
class PartMatches:
    """Events that have a search's words only as parts of words.

    Attributes:
        words: the searched words.
        events: number of the events that were read.
        is_exact: whether these are all.
        members: paths of the members that have the parts, most frequent first, with their numbers.
    """

    words: tuple[str, ...]
    events: int
    is_exact: bool
    members: tuple[tuple[str, int], ...]


async def part_matches(history: History, search: Search) -> PartMatches | None:
    """Returns which more events have the words of a search as parts of words; None: none have.

    After some seconds it returns None, since it is a hint only.
    """
    expression = search.expression
    words = [*dict.fromkeys(_words(expression))]
    if expression is None or not words:
        return None
    wider = And((_with_parts(expression), Not(expression)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SEARCH_SECONDS):
            events = await history.latest(replace(search, expression=wider), _MAX_VALUES)
            members = await in_thread(_members_with, events, words, pool=NEAREST)
            if events:
                texts = tuple(text.text for text in words)
                return PartMatches(texts, len(events), has_all(events, _MAX_VALUES), members)
    return None


def _members_with(
    events: Sequence[FoundEvent], words: Sequence[Text]
) -> tuple[tuple[str, int], ...]:
    parts = [Text(text.text, is_part=True) for text in words]
    found = Counter(
        path_text(path)
        for event in events
        for path in {
            path
            for path, value in _leaves(orjson.loads(event.record))
            if any(occurs(part, value) for part in parts)
        }
    )
    return tuple(found.most_common(_MAX_MEMBERS))


def path_text(path: Sequence[str]) -> str:
    r"""Returns the path of a member as search expressions have it.

    >>> path_text(("requestParameters", "tags", "aws:team"))
    'requestParameters.tags.aws\\:team'
    """
    return ".".join(re.sub(r"([.:\\\s()\",=<>!])", r"\\\1", member) for member in path)


def _leaves(record: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the scalars of a record with their paths; lists do not count as a step."""
    left: list[tuple[tuple[str, ...], Any]] = [((), record)]
    while left:
        path, node = left.pop()
        if isinstance(node, dict):
            left += [((*path, name), inner) for name, inner in node.items()]
        elif isinstance(node, list):
            left += [(path, inner) for inner in node]
        elif node is not None:
            yield path, node


def _words(expression: Expression | None) -> Iterator[Text]:
    """Yields the searched words outside `NOT`."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _words(part)
        case Text(is_part=False):
            yield expression


def _with_parts(expression: Expression) -> Expression:
    match expression:
        case And(parts):
            return And(tuple(map(_with_parts, parts)))
        case Or(parts):
            return Or(tuple(map(_with_parts, parts)))
        case Text(text):
            return Text(text, is_part=True)
    return expression


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
    """Yields the comparisons with a value outside `NOT`."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _compared(part)
        case Compare(path, "=", _, is_field=True):
            if path[0] in _FIELDS and expression.pattern.plain:
                yield expression
        case Not():
            return


def _paths(expression: Expression | None) -> Iterator[tuple[str, ...]]:
    """Yields the compared paths outside `NOT`."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _paths(part)
        case Compare(path, operator, is_field=False):
            if operator != "!=":
                yield path


async def _nearest_path(history: History, path: tuple[str, ...]) -> Nearest | None:
    """Returns the path most similar to a path missing from the newest events."""
    events = await history.latest(Search(), _MAX_VALUES)
    return await in_thread(_like_path, path, [event.record for event in events], pool=NEAREST)


def _like_path(path: tuple[str, ...], raw_records: Sequence[str]) -> Nearest | None:
    counts: Counter[tuple[str, ...]] = Counter()
    for record in map(orjson.loads, raw_records):
        if next(nodes_at(record, path), None) is not None:
            return None
        counts.update({known for known, _ in _leaves(record) if known[0] == path[0]})
    names: dict[str, tuple[str, ...]] = {".".join(known).lower(): known for known in counts}
    like = get_close_matches(re.sub(r"[:.]", ".", ".".join(path)).lower(), names, 1, _LIKE)
    if not like:
        last = (known for known, _ in counts.most_common() if known[-1].lower() == path[-1].lower())
        like = [".".join(known).lower() for known in itertools.islice(last, 1)]
    if not like:
        return None
    found = names[like[0]]
    return Nearest(_PATH, path_text(path), path_text(found), counts[found], "letters")


async def _values(history: History, compare: Compare) -> dict[str, int]:
    """Returns the values of a field, each with its number of events."""
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
    if len(value) > _MAX_LENGTH:
        return None
    lower = {name.lower(): name for name in names if len(name) <= 2 * _MAX_LENGTH}
    in_time = takewhile(lambda _: time.monotonic() < end, lower)
    like = get_close_matches(value.lower(), in_time, 1, _LIKE)
    if not like:
        return None
    name = names[lower[like[0]]]
    return Nearest(field, value, name, counts[name], "letters")


def _spelled(field: str, value: str, name: str) -> str:
    """Returns a name as the searched value spells such names: services without their domain."""
    return name.removesuffix(_HOST) if field == "event_source" and "." not in value else name
