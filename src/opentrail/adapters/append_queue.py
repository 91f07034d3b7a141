"""A bounded queue of appends, from which the writer takes groups."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS


@dataclass(slots=True)
class Append:
    """The entries of one caller, who waits for `done`; `size` is the bytes of their records.

    `since` is a time of the loop's clock. With `is_written`, the caller waits for no position. With
    a `fence` it is a group of its own: the fence is called in the transaction that writes it, and
    may raise an error.
    """

    entries: Sequence[NewEntry]
    size: int
    done: asyncio.Future[int]
    since: float
    is_written: bool = False
    fence: Callable[[Any], None] | None = None

    def succeed(self, last: int) -> None:
        """Completes the append with the position of its last entry."""
        if not self.done.done():
            self.done.set_result(last)

    def fail(self, error: Exception) -> None:
        """Completes the append with an error: its entries were not written."""
        if not self.done.done():
            self.done.set_exception(error)


class Appends:
    """A queue of appends, and the group that is being written.

    If one thread adds and another takes groups, both must hold the same lock.
    """

    def __init__(self) -> None:
        self._queue: deque[Append] = deque()
        self._records = self._bytes = 0
        #: `since` of the oldest append in the group that is being written.
        self._under_way: float | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def oldest(self) -> float | None:
        """`since` of the oldest append; any thread may read it."""
        # No lock, as every call reads it: `take` sets `_under_way` before it removes an append.
        since = self._under_way
        if since is None:
            try:
                since = self._queue[0].since
            except IndexError:
                return None
        return since

    def add(self, append: Append) -> None:
        """Adds an append.

        Raises:
            RecordRefused: the queue is full. An empty queue accepts an append of any size.
        """
        records, size = self._records + len(append.entries), self._bytes + append.size
        if self._queue and (records > QUEUE_RECORDS or size > QUEUE_BYTES):
            raise RecordRefused("too many records wait for the disk")
        self._queue.append(append)
        self._records, self._bytes = records, size

    def take(self, most_records: int, most_bytes: int = QUEUE_BYTES) -> list[Append]:
        """Returns the next group: the first append, and more up to these limits.

        It counts as being written until the next call, or until `end_group` is called.
        """
        group: list[Append] = []
        records = size = 0
        self._under_way = self._queue[0].since if self._queue else None
        while self._queue and records < most_records:
            append = self._queue[0]
            if group and (append.fence or group[-1].fence or size + append.size > most_bytes):
                break
            self._queue.popleft()
            group.append(append)
            records += len(append.entries)
            size += append.size
        self._records -= records
        self._bytes -= size
        return group

    def end_group(self) -> None:
        """Marks the group as written."""
        self._under_way = None


def refuse(group: Iterable[Append], reason: str) -> None:
    """Fails appends, none of which was written."""
    error = RecordRefused(reason)
    for append in group:
        append.fail(error)


def append_of(
    entries: Sequence[NewEntry], loop: asyncio.AbstractEventLoop, is_written: bool = False
) -> Append:
    """Returns an append whose wait starts now."""
    size = 0
    for entry in entries:
        size += len(entry.record)
    return Append(entries, size, loop.create_future(), loop.time(), is_written)
