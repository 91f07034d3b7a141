"""How appends become batches: the protocol of every journal's writer, without I/O."""

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
    """The entries of a caller that waits for `done`; `size` is the bytes of their records.

    `since` is a time of the loop's clock. With `is_written`, the caller waits for no position. With
    a `fence` it is a separate batch: the writer calls the fence in the transaction that writes it,
    and the fence may raise an error.
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


class Batches:
    """A state machine of waiting appends, at most one batch in flight, and the reason for refusals.

    ```
    accepting ──fail──▶ failing ──recover──▶ accepting
        └─────fail(for_good)─┴──▶ broken            each of them may `close`: nothing more is added
    ```

    A journal adds appends; its writer takes a batch, writes it, and answers its callers.

    - `add` accepts an append while the journal accepts, is not closed, and has room.
    - `take` returns the next batch: the oldest appends, in order, up to its limits.
    - `end` ends the batch in flight; the writer answers its callers.
    - `fail` ends the batch in flight and all waiting appends; the writer refuses their callers.
    - `recover` follows a successful probe.

    Invariants: at most one batch is in flight. While the journal fails, nothing waits and nothing
    is in flight. `take`, `end` and `fail` together return each append accepted by `add` exactly
    once: in an ended batch, or among the refused appends.

    If one thread adds and another one writes, both hold the same lock in `add`, `take`, `fail`,
    `recover` and `close`. Any thread may call the rest without it.
    """

    def __init__(self) -> None:
        self._queue: deque[Append] = deque()
        self._records = self._bytes = 0
        self._out: list[Append] = []
        self._is_closing = False
        #: Why nothing is accepted now.
        self.failure: str | None = None
        #: Whether the failure is permanent.
        self.is_broken = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and more may arrive."""
        return not (self._queue or self._is_closing)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits, and nothing more will arrive."""
        return self._is_closing and not self._queue

    @property
    def needs_probe(self) -> bool:
        """Whether a probe may end the failure."""
        return self.failure is not None and not self.is_broken

    def seconds_waited(self, now: float) -> float:
        """Returns the age of the oldest append that waits or is in flight."""
        # No lock, as every call reads it: `take` moves an append before removing it here.
        out = self._out
        try:
            return now - (out or self._queue)[0].since
        except IndexError:
            return 0.0

    def add(self, append: Append) -> None:
        """Adds an append.

        Raises:
            RecordRefused: the journal fails or is closed, or the queue is full. An empty queue has
                room for an append of any size.
        """
        if self.failure or self._is_closing:
            raise RecordRefused(self.failure or "the journal is closing")
        records, size = self._records + len(append.entries), self._bytes + append.size
        if self._queue and (records > QUEUE_RECORDS or size > QUEUE_BYTES):
            raise RecordRefused("too many records wait for the disk")
        self._queue.append(append)
        self._records, self._bytes = records, size

    def take(self, most_records: int, most_bytes: int = QUEUE_BYTES) -> list[Append]:
        """Returns the next batch: the first append, and more up to these limits.

        It is empty if nothing waits, or a batch is in flight.
        """
        batch: list[Append] = []
        if self._out:
            return batch
        self._out = batch
        records = size = 0
        while self._queue and records < most_records:
            append = self._queue[0]
            if batch and (append.fence or batch[-1].fence or size + append.size > most_bytes):
                break
            batch.append(append)
            self._queue.popleft()
            records += len(append.entries)
            size += append.size
        self._records -= records
        self._bytes -= size
        return batch

    def end(self) -> None:
        """Ends the batch in flight."""
        self._out = []

    def fail(self, reason: str, for_good: bool = False) -> list[Append]:
        """Ends the batch in flight; accepts nothing until a probe succeeds, or permanently.

        Returns:
            The appends to refuse, in order: that batch, then all waiting ones.
        """
        refused = [*self._out, *self._queue]
        self._queue.clear()
        self._out = []
        self._records = self._bytes = 0
        self.failure = reason
        self.is_broken = self.is_broken or for_good
        return refused

    def recover(self) -> None:
        """Accepts appends again, after a successful probe."""
        if self.needs_probe:
            self.failure = None

    def close(self) -> None:
        """Accepts no more appends; `take` still returns the waiting ones."""
        self._is_closing = True


class Followers:
    """Waiters for positions."""

    def __init__(self) -> None:
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    async def wait_beyond(self, position: int) -> None:
        """Returns once `wake` was called with a later position."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((position, waiter))
        await waiter

    def wake(self, head: int) -> None:
        """Wakes the waiters for positions up to `head`."""
        waiters, self._waiters = self._waiters, []
        for after, waiter in waiters:
            if after >= head:
                self._waiters.append((after, waiter))
            elif not waiter.done():
                waiter.set_result(None)


def refuse(appends: Iterable[Append], reason: str) -> None:
    """Fails appends that were not written."""
    error = RecordRefused(reason)
    for append in appends:
        append.fail(error)


def append_of(
    entries: Sequence[NewEntry],
    loop: asyncio.AbstractEventLoop,
    is_written: bool = False,
    fence: Callable[[Any], None] | None = None,
) -> Append:
    """Returns an append whose wait starts now."""
    size = 0
    for entry in entries:
        size += len(entry.record)
    return Append(entries, size, loop.create_future(), loop.time(), is_written, fence)
