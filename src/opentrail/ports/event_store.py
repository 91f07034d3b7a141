"""The searchable store behind event history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from opentrail.core.attributes import Attributes, Resource
from opentrail.core.event import Entry
from opentrail.core.expression import Expression

#: Behind every position.
LAST_POSITION = 2**62


@dataclass(frozen=True, slots=True)
class EventQuery:
    """A page of events: newest first by (event time, position).

    `None` leaves a condition out. `until_position` and `until_import` keep later arrivals out of
    later pages; `before` is the (event time, position) of the last event of the page before.
    Imported events have positions of their own, below zero: -1 is the first, -2 the second.
    """

    limit: int
    until_position: int
    until_import: int = LAST_POSITION
    account: str | None = None
    region: str | None = None
    categories: tuple[str, ...] | None = None
    attribute: tuple[str, str] | None = None
    start: datetime | None = None
    end: datetime | None = None
    before: tuple[datetime, int] | None = None
    expression: Expression | None = None
    #: Only what was recorded or imported since then.
    recorded_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One event of a page, with what LookupEvents shows beside the record."""

    position: int
    event_time: datetime
    event_id: str
    event_name: str
    event_source: str
    read_only: bool
    username: str | None
    access_key_id: str | None
    resources: tuple[Resource, ...]
    record: str

    @property
    def order(self) -> tuple[datetime, int]:
        """The time, then what came first of one second: imported events count downwards."""
        return self.event_time, abs(self.position)

    @classmethod
    def of(cls, position: int, found: Attributes, record: str) -> FoundEvent:
        """Returns the event in a record with these attributes; times are whole seconds."""
        return cls(
            position,
            found.event_time.replace(microsecond=0),
            found.event_id,
            found.event_name,
            found.event_source,
            found.read_only,
            found.username,
            found.access_key_id,
            found.resources,
            record,
        )


class EventStore(Protocol):
    """Records by their attributes."""

    @property
    def position(self) -> int:
        """The last position that look-ups see."""
        ...

    @property
    def imported(self) -> int:
        """How many imported events look-ups see, or more: what `until_import` freezes."""
        ...

    async def add(self, entries: Sequence[Entry]) -> None:
        """Return once look-ups see the entries; entries already there are left out."""
        ...

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Return the page that `query` describes."""
        ...

    async def close(self) -> None:
        """Return once files are closed."""
        ...
