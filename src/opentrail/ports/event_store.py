"""The searchable store behind event history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from opentrail.core.attributes import Attributes, Resource
from opentrail.core.event import Entry
from opentrail.core.expression import Expression

#: Greater than any position.
LAST_POSITION = 2**62


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The events that a store contained at a moment; by default those that it contains now.

    `recorded` is the last recorded event's position, `imported` the last imported event's number.
    """

    recorded: int = LAST_POSITION
    imported: int = LAST_POSITION


@dataclass(frozen=True, slots=True)
class EventQuery:
    """A page of events: newest first by (event time, position).

    `None` leaves a condition out. `snapshot` keeps later arrivals out of later pages; `before` is
    the (event time, position) of the last event of the previous page.
    """

    limit: int
    snapshot: Snapshot = Snapshot()
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
    """One event of a page, with what LookupEvents shows beside the record.

    `position` is the event's position in the journal. Imported events are not in the journal:
    they are numbered in order of import, and their position is that number below zero.
    """

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
    def is_imported(self) -> bool:
        """Whether the event was imported, not recorded."""
        return self.position < 0

    @property
    def order(self) -> tuple[datetime, int]:
        """The event's time, then its order of arrival among those of the same second."""
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
    def snapshot(self) -> Snapshot:
        """What look-ups see now."""
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
