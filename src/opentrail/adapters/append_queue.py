"""Appends that wait for their turn: there is room for so many, and they are taken in groups."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS


@dataclass(slots=True)
class Append:
    """Entries of one caller, who waits until `done`; `size` is that of their records.

    `since` is a time by the loop's clock.
    """

    entries: Sequence[NewEntry]
    size: int
    done: asyncio.Future[int]
    since: float

    def succeed(self, last: int) -> None:
        """Tells the caller the position of the last entry."""
        if not self.done.done():
            self.done.set_result(last)

    def fail(self, error: Exception) -> None:
        """Tells the caller that the entries are not kept."""
        if not self.done.done():
            self.done.set_exception(error)


class Appends:
    """A queue of appends, and the group of them that is under way.

    Who takes groups in another thread than the one that adds must hold a lock for both.
    """

    def __init__(self) -> None:
        self._queue: deque[Append] = deque()
        self._records = self._bytes = 0
        #: Since when the oldest append of the group has waited that is under way.
        self._under_way: float | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def oldest(self) -> float | None:
        """Since when the append has waited that has waited longest; any thread may ask."""
        # Every call asks: it must not wait for a lock. What leaves the queue is under way before.
        since = self._under_way
        if since is None:
            try:
                since = self._queue[0].since
            except IndexError:
                return None
        return since

    def add(self, append: Append) -> None:
        """Takes an append in.

        Raises:
            RecordRefused: too many wait already; one finds room in an empty queue in any case.
        """
        records, size = self._records + len(append.entries), self._bytes + append.size
        if self._queue and (records > QUEUE_RECORDS or size > QUEUE_BYTES):
            raise RecordRefused("too many records wait for the disk")
        self._queue.append(append)
        self._records, self._bytes = records, size

    def take(self, most_records: int, most_bytes: int = QUEUE_BYTES) -> list[Append]:
        """Returns the next group: the first append, and others while there is room for them.

        It is under way until the next one is taken, or `ended` is called.
        """
        group: list[Append] = []
        records = size = 0
        self._under_way = self._queue[0].since if self._queue else None
        while self._queue and records < most_records:
            append = self._queue[0]
            if group and size + append.size > most_bytes:
                break
            self._queue.popleft()
            group.append(append)
            records += len(append.entries)
            size += append.size
        self._records -= records
        self._bytes -= size
        return group

    def ended(self) -> None:
        """No group is under way any more."""
        self._under_way = None


def append_of(entries: Sequence[NewEntry], loop: asyncio.AbstractEventLoop) -> Append:
    """Returns the append of a caller who begins to wait now."""
    size = sum(len(entry.record) for entry in entries)
    return Append(entries, size, loop.create_future(), loop.time())
