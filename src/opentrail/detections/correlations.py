"""Counts events of groups within a period, for correlations."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from opentrail.core.event import Record, as_object
from opentrail.detections.matching import values_at
from opentrail.detections.rules import Correlation

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
    """Returns the group of an event, and what is counted of it; nothing if a field is missing.

    A group is of one account, so that a match shows its readers only what is theirs.
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
    fewer events are within the period again. What is remembered depends only on the events, not on
    their order, so that it is the same when they are read again.
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

    @property
    def first_position(self) -> int | None:
        """The position of the first event that may still count; None if there is none."""
        positions = [event.position for events in self._groups.values() for event in events]
        return min(positions, default=None)
