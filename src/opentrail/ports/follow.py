"""Followers: consumers of the journal, each with its own cursor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from opentrail.core.errors import OpentrailError
from opentrail.core.event import Entry
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Hold, Journal, first_needed

log = logging.getLogger(__name__)

#: Maximum entries per batch.
BATCH = 5_000
#: A larger batch is followed by a longer wait, if a follower allows it.
_MANY = 50
_MAX_BACKOFF_SECONDS = 30.0


class Follower(Protocol):
    """A consumer of the journal. It may get the same batch twice, and is idempotent."""

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        ...

    async def cursor(self) -> int:
        """Return its cursor: the position of the last entry that it has processed."""
        ...

    async def process(self, entries: Sequence[Entry]) -> None:
        """Return once the batch has been processed, so that the cursor may move."""
        ...


class WatchedFollower:
    """A follower that remembers why its last batch failed."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        #: Why; None after a batch that succeeded.
        self.failure: str | None = None

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        return self._follower.name

    async def cursor(self) -> int:
        """Returns its cursor."""
        return await self._follower.cursor()

    async def process(self, entries: Sequence[Entry]) -> None:
        """Returns once the batch has been processed."""
        with self.watching():
            await self._follower.process(entries)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Remembers whether the block fails, and why."""
        try:
            yield
        except OpentrailError as error:
            self.failure = str(error)
            raise
        self.failure = None


class StoredPosition(msgspec.Struct, frozen=True):
    """A position, as the control store has it."""

    position: int


class StoredCursor:
    """A cursor in the control store; at first it is the head of the journal.

    Args:
        kind: the kind of its document.
        head: returns the last position of the journal.
    """

    def __init__(self, control: ControlStore, kind: str, head: Callable[[], int]) -> None:
        self._control = control
        self._kind = kind
        self._head = head
        self._position: int | None = None

    async def position(self) -> int:
        """Returns the last stored position."""
        if self._position is None:
            stored = await self._control.get(self._kind, "place")
            if stored is None:
                return await self.store(self._head())
            self._position = msgspec.convert(stored.document, StoredPosition).position
        return self._position

    async def store(self, position: int) -> int:
        """Stores a position and returns it."""
        document = msgspec.to_builtins(StoredPosition(position))
        await self._control.apply([Put(self._kind, "place", document)])
        self._position = position
        return position


#: Returns the position after which a follower at a cursor still needs entries; None: it needs none.
NeededAfter = Callable[[int], int | None]


class FollowedPositions:
    """The positions of running followers, and the entries that they need."""

    def __init__(self) -> None:
        self._positions: dict[Follower, int] = {}
        self._needs: dict[Follower, NeededAfter] = {}

    def begin(self, follower: Follower, needed_after: NeededAfter) -> None:
        """Holds all entries for a follower until its first position is known."""
        self._needs[follower] = needed_after
        self.record(follower, 0)

    def record(self, follower: Follower, position: int) -> None:
        """Records that a follower has processed everything up to a position."""
        self._positions[follower] = position

    def forget(self, follower: Follower) -> None:
        """Forgets a follower that ends."""
        self._positions.pop(follower, None)
        self._needs.pop(follower, None)

    def holds(self) -> list[Hold]:
        """Returns the entries that each follower still needs."""
        holds = []
        for follower, position in self._positions.items():
            after = self._needs.get(follower, needs_all)(position)
            if after is not None:
                holds.append(Hold(f"the follower {follower.name}", after))
        return holds

    def first(self, head: int) -> int:
        """Returns the position after which a follower still needs entries, at most `head`."""
        return first_needed(self.holds(), head)


def needs_all(cursor: int) -> int:
    """Returns the cursor: a follower needs all entries after it."""
    return cursor


async def follow(
    journal: Journal,
    follower: Follower,
    linger: float = 0.0,
    flush_now: asyncio.Event | None = None,
    max_linger: float = 0.0,
    max_backoff: float = _MAX_BACKOFF_SECONDS,
    progress: FollowedPositions | None = None,
    needed_after: NeededAfter = needs_all,
) -> None:
    """Feeds a follower until it is cancelled; a batch that fails is retried with backoff.

    Args:
        journal: the journal to read.
        follower: the follower to feed.
        linger: seconds to wait after a batch while records gather for the next one. A batch costs
            nearly the same whatever its size, so few large ones leave the processor to others.
        flush_now: ends that wait, because a caller waits for the follower or its cursor moved back.
        max_linger: seconds up to which that wait grows with the batches, when records are many.
        max_backoff: seconds up to which the wait after failures grows.
        progress: gets the follower's positions.
        needed_after: returns the position after which it needs entries, if it continues before its
            cursor after a crash.
    """
    progress = progress or FollowedPositions()
    progress.begin(follower, needed_after)
    flush_now = flush_now or asyncio.Event()
    lingers = (linger, max_linger)
    try:
        await _follow(journal, follower, lingers, flush_now, max_backoff, progress)
    finally:
        progress.forget(follower)


async def _follow(
    journal: Journal,
    follower: Follower,
    lingers: tuple[float, float],
    flush_now: asyncio.Event,
    max_backoff: float,
    progress: FollowedPositions,
) -> None:
    cursor, failures = -1, 0
    while True:
        try:
            if cursor < 0 or failures:
                cursor = await follower.cursor()  # it may have lost its state in memory
            progress.record(follower, cursor)
            entries = await journal.read(cursor, BATCH)
            if not entries:
                await _more(journal, cursor, flush_now)
                flush_now.clear()
                cursor = await follower.cursor()  # as above
                continue
            await follower.process(entries)
        except (OpentrailError, OSError) as error:
            failures += 1
            backoff = min(max_backoff, 0.1 * 2 ** min(failures, 10))
            log.warning(
                "follower failed, trying again",
                extra={"follower": follower.name, "after": cursor, "error": str(error)},
            )
            await asyncio.sleep(backoff * random.uniform(0.5, 1))  # noqa: S311
            continue
        except Exception:  # a bug must neither end a follower nor go unnoticed
            failures += 1
            about = {"follower": follower.name, "after": cursor}
            log.exception("follower failed unexpectedly, trying again", extra=about)
            await asyncio.sleep(_MAX_BACKOFF_SECONDS)
            continue
        cursor, failures = entries[-1].position, 0
        if len(entries) < BATCH:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_linger(len(entries), *lingers)):
                    await flush_now.wait()
            flush_now.clear()


def _linger(size: int, linger: float, max_linger: float) -> float:
    return max(linger, min(max_linger, linger * size / _MANY))


async def catch_up(journal: Journal, follower: Follower) -> None:
    """Processes all entries that a follower missed.

    Raises:
        OpentrailError: the journal cannot be read, or the follower cannot process a batch.
    """
    cursor = await follower.cursor()
    while entries := await journal.read(cursor, BATCH):
        await follower.process(entries)
        cursor = entries[-1].position


async def _more(journal: Journal, cursor: int, flush_now: asyncio.Event) -> None:
    """Returns once there is a record after a position, or `flush_now` is set."""
    waits = [
        asyncio.ensure_future(journal.wait_beyond(cursor)),
        asyncio.ensure_future(flush_now.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[0].done():
            waits[0].result()
    finally:
        for wait in waits:
            wait.cancel()
