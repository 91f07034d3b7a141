"""The journal: durable, ordered, numbered records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from opentrail.core.event import Entry, NewEntry

#: Maximum records that wait; beyond that a journal refuses records (guarantee D15).
QUEUE_RECORDS = 50_000
#: Maximum bytes that wait.
QUEUE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LostPositions:
    """Positions whose records the journal has lost.

    `last` is None if the number of lost records is unknown; then new records continue at `first`.
    """

    first: int
    last: int | None
    reason: str

    def covers(self, first: int, last: int) -> bool:
        """Returns whether all these positions are lost."""
        return self.last is not None and self.first <= first and last <= self.last


class JournalWriter(Protocol):
    """The write side of a journal, as a recorder needs it."""

    @property
    def head(self) -> int:
        """The position of the last durable record, 0 when there is none."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now; None if it accepts them."""
        ...

    @property
    def backlog_seconds(self) -> float:
        """Seconds that the oldest record has waited to become durable."""
        ...

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Return only once the records are durable; the result is the last one's position.

        Raises:
            RecordRefused: nothing was written; a later retry may succeed.
        """
        ...


class Journal(JournalWriter, Protocol):
    """Every record once, in one order; positions start at 1 and have no gaps but `lost` ones."""

    @property
    def lost(self) -> Sequence[LostPositions]:
        """The positions that are lost, in order."""
        ...

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Return up to `limit` entries with `after < position <= until`, in order.

        Lost positions are left out; every other entry is verified by the hash chain.
        """
        ...

    async def find(self, event_id: str) -> int | None:
        """Return the position of the record with this event id."""
        ...

    async def wait_beyond(self, position: int) -> None:
        """Return once a record after `position` is durable."""
        ...

    async def close(self) -> None:
        """Return once everything appended is durable and files are closed."""
        ...


class Archive(Protocol):
    """Entries that a journal has trimmed."""

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Return up to `limit` entries with `after < position <= until`, in order.

        Expired positions are left out.
        """
        ...

    async def find(self, event_id: str) -> int | None:
        """Return the position of the record with this event id."""
        ...
