"""Matches events with rules, and counts the events of a group within a period.

Rules are compiled once, and found by the event's name.

"""

from __future__ import annotations

import ipaddress
import json
import operator
from bisect import insort
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from opentrail.core.errors import UsageError
from opentrail.core.event import Record, as_object
from opentrail.core.expression.tree import Pattern, all_values, as_text, nodes_at, regex_of
from opentrail.core.version import command_for
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Correlation,
    Exists,
    InNetwork,
    Like,
    Matches,
    Negation,
    OneOf,
    SameAs,
    values_that,
)

K = TypeVar("K")
Test = Callable[[Record], bool]
Fits = Callable[[str], bool]
#: Fields that select rules for an event.
EVENT_NAME = "eventName"
EVENT_SOURCE = "eventSource"

_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


_SAME: dict[str, Callable[[str, str], bool]] = {
    "equals": operator.eq,
    "starts": str.startswith,
    "ends": str.endswith,
}


class RuleIndex(Generic[K]):
    """Conditions, each with a key; an event's name selects the conditions it could match.

    The event source selects conditions that require no name. Conditions that require neither are
    tested on every event.

    Raises:
        UsageError: a regular expression is wrong, or RE2 is not installed.
    """

    def __init__(self, conditions: Iterable[tuple[K, Condition]]) -> None:
        self._by_name: defaultdict[str, list[tuple[Test, K]]] = defaultdict(list)
        self._by_source: defaultdict[str, list[tuple[Test, K]]] = defaultdict(list)
        self._others: list[tuple[Test, K]] = []
        for key, condition in conditions:
            rule = compiled(condition), key
            names = values_that(condition, EVENT_NAME)
            sources = values_that(condition, EVENT_SOURCE)
            if names is not None:
                for name in names:
                    self._by_name[name].append(rule)
            elif sources is not None:
                for source in sources:
                    self._by_source[source].append(rule)
            else:
                self._others.append(rule)

    def may_match(self, event_name: str, event_source: str) -> bool:
        """Returns whether any condition could match an event, so that it must be decoded."""
        return (
            bool(self._others)
            or event_name.lower() in self._by_name
            or event_source.lower() in self._by_source
        )

    def matching(self, record: Record) -> list[K]:
        """Returns the keys of the conditions that a record matches."""
        name, source = record.get(EVENT_NAME), record.get(EVENT_SOURCE)
        keys = [key for test, key in self._others if test(record)]
        for value, rules in ((name, self._by_name), (source, self._by_source)):
            if rules and value.__class__ is str:
                keys += [key for test, key in rules.get(value.lower(), ()) if test(record)]
        return keys


def compiled(condition: Condition) -> Test:
    """Returns a function that decides whether a record matches.

    Raises:
        UsageError: a regular expression is wrong, or RE2 is not installed.
    """
    match condition:
        case AllOf(parts):
            tests = [compiled(part) for part in parts]
            return lambda record: all(test(record) for test in tests)
        case AnyOf(parts):
            tests = [compiled(part) for part in parts]
            return lambda record: any(test(record) for test in tests)
        case Negation(part):
            inner = compiled(part)
            return lambda record: not inner(record)
        case Exists(field, or_null):
            path = tuple(field.split("."))
            return lambda record: any(or_null or v is not None for v in nodes_at(record, path))
        case SameAs(field, other, how):
            return _same(field, other, how)
        case Like(pattern, None, cased):
            fits = glob(pattern, cased)
            return lambda record: any(fits(as_text(value)) for value in all_values(record))
        case OneOf() | Like() | Matches() | InNetwork() | Compared():
            return _on(str(condition.field), _value_test(condition))


def _value_test(condition: OneOf | Like | Matches | InNetwork | Compared) -> Fits:
    match condition:
        case OneOf(_, values):
            lowered = frozenset(value.lower() for value in values)
            return lambda text: text.lower() in lowered
        case Like(pattern, _, cased):
            return glob(pattern, cased)
        case Matches(_, regex):
            return _regex(regex)
        case InNetwork(_, network):
            return _network(network)
        case Compared(_, name, bound):
            compare = _ORDERS[name]
            return lambda text: _compares(compare, text, bound)


def values_at(record: Record, field: str) -> Iterator[str]:
    """Yields the values of a field as strings: objects as JSON, and null as no value."""
    return _texts(record, tuple(field.split(".")))


def _texts(value: Any, path: Sequence[str]) -> Iterator[str]:
    for found in nodes_at(value, path):
        if found.__class__ is dict:
            yield json_of(found).decode()
        elif found is not None:
            yield as_text(found)


def json_of(value: Any) -> bytes:
    """Returns JSON without spaces, also of lone surrogates and integers that orjson refuses.

    A value nested too deep for any encoder is an empty object.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":")).encode()
        except RecursionError:
            return b"{}"


def _on(field: str, fits: Fits) -> Test:
    first, *others = field.split(".")
    rest = tuple(others)

    def test(record: Record) -> bool:
        value = record.get(first)
        if value.__class__ is str and not rest:
            return fits(value)
        return value is not None and any(fits(text) for text in _texts(value, rest))

    return test


def _same(field: str, other: str, how: str) -> Test:
    fits: Callable[[str, str], bool] = _SAME[how]

    def test(record: Record) -> bool:
        others = [text.lower() for text in values_at(record, other)]
        values = (text.lower() for text in values_at(record, field)) if others else ()
        return any(fits(value, text) for value in values for text in others)

    return test


def _compares(compare: Callable[[float, float], bool], text: str, bound: float) -> bool:
    try:
        return compare(float(text), bound)
    except ValueError:
        return False


def _network(network: str) -> Fits:
    try:
        within = ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise UsageError(f"{network!r} is not a network such as 10.0.0.0/8") from error

    def fits(text: str) -> bool:
        try:
            return ipaddress.ip_address(text) in within
        except ValueError:
            return False

    return fits


def _regex(pattern: str) -> Fits:
    """Returns a search for a regular expression, in time linear in the length of the text."""
    try:
        import re2
    except ImportError as error:
        message = f"regular expressions in rules need google-re2: {command_for('detections')}"
        raise UsageError(message) from error
    options = re2.Options()
    options.log_errors = False
    try:
        regex = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise UsageError(
            f"RE2 does not take the regular expression {pattern!r}: {reason}"
        ) from error
    # RE2 reads UTF-8, which has no lone surrogates.
    return lambda text: regex.search(text.encode(errors="replace").decode()) is not None


def glob(pattern: str, cased: bool = False) -> Fits:
    r"""Returns a matcher for a whole text.

    >>> glob("*Kali*Linux*")("Boto3/1.9 kali-linux"), glob("a?c")("abbc")
    (True, False)
    """
    fullmatch = regex_of(Pattern.parse(pattern if cased else pattern.lower())).fullmatch
    if cased:
        return lambda text: fullmatch(text) is not None
    return lambda text: fullmatch(text.lower()) is not None


#: Maximum events that a correlation remembers; groups whose last event is oldest are forgotten.
MAX_EVENTS = 200_000
#: Maximum characters of a value that groups or is counted; longer ones are cut.
_MAX_VALUE_LENGTH = 512
Group = tuple[str, ...]


class Occurrence(NamedTuple):
    """An event that a correlation counts. `time` is in seconds since 1970."""

    time: int
    position: int
    event_id: str
    #: The value of the correlation's field, or the name of the selection.
    value: str
    principal: str | None


def occurrences_of(
    correlation: Correlation, selection: int, record: Record, time: int, position: int
) -> list[tuple[Group, Occurrence]]:
    """Returns the group of an event and its counted values; nothing if a field is missing.

    A group belongs to one account, so that a match shows its readers only their own events.
    """
    chosen = correlation.selections[selection]
    identity = as_object(record.get("userIdentity"))
    group = [str(record.get("recipientAccountId") or identity.get("accountId"))]
    for name in chosen.group_by:
        value = next(values_at(record, name), None)
        if value is None:
            return []
        group.append(value[:_MAX_VALUE_LENGTH])
    if correlation.field is None:
        values = [chosen.name]
    else:
        values = [value[:_MAX_VALUE_LENGTH] for value in values_at(record, correlation.field)]
    event_id, principal = str(record.get("eventID", "")), principal_of(record)
    return [
        (tuple(group), Occurrence(time, position, event_id, value, principal)) for value in values
    ]


def principal_of(record: Record) -> str | None:
    """Returns the ARN of who made a call, or the name of the service that did."""
    identity = as_object(record.get("userIdentity"))
    principal = identity.get("arn") or identity.get("invokedBy") or identity.get("principalId")
    return principal if isinstance(principal, str) else None


class Window:
    """The events of one correlation that may still count, by group: the newest, up to its count.

    A match is reported when the condition begins to hold for a group: a burst is one match, until
    fewer events are within the period again. The remembered events do not depend on the order of
    reading, so that they are the same after reading again.
    """

    def __init__(self, correlation: Correlation) -> None:
        self._correlation = correlation
        self._groups: OrderedDict[Group, list[Occurrence]] = OrderedDict()
        self._size = 0
        #: Groups that were forgotten because there were too many events.
        self.forgotten = 0

    def add(self, key: Group, occurrence: Occurrence) -> Sequence[Occurrence] | None:
        """Counts an event; returns the events of a match that it completes, in order of time."""
        wanted, is_count = self._correlation.count, self._correlation.type == "event_count"
        events = self._groups.setdefault(key, [])
        self._groups.move_to_end(key)
        before = len(events)
        held = before >= wanted
        same = [] if is_count else [event for event in events if event.value == occurrence.value]
        if same and same[0] > occurrence:
            return None  # a newer event has the value
        for event in same:
            events.remove(event)
        insort(events, occurrence)
        oldest = events[-1].time - self._correlation.seconds
        while events[0].time < oldest or len(events) > wanted:
            del events[0]
        self._size += len(events) - before
        self._drop_old(oldest)
        return list(events) if len(events) >= wanted and not held else None

    def _drop_old(self, oldest: int) -> None:
        """Drops groups whose last event is too old, and the oldest ones of too many."""
        while self._groups:
            key, events = next(iter(self._groups.items()))
            is_old = events[-1].time < oldest
            if not is_old and self._size <= MAX_EVENTS:
                break
            self.forgotten += not is_old
            self._size -= len(events)
            del self._groups[key]

    def first_position(self, now: int | None = None) -> int | None:
        """Returns the position of the first event that may still count, or None.

        Args:
            now: the time of events that arrive now; None: groups may wait for older ones.
        """
        oldest = 0 if now is None else now - self._correlation.seconds
        positions = [
            event.position
            for events in self._groups.values()
            if events[-1].time >= oldest
            for event in events
        ]
        return min(positions, default=None)
