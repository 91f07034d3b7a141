"""Makes the journal's entries visible in event history; lookups wait for the missing entries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from opentrail.core.errors import StorageFailed, Throttled
from opentrail.core.event import Entry
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import EventStore
from opentrail.ports.metrics import Metrics

#: Maximum seconds that a lookup waits for records that are durable but not yet visible. It is more
#: than another server of a cluster needs to become the sequencer.
_MAX_NEWEST_SECONDS = 7.0
#: Maximum seconds that a next page waits for the events of the page before it.
_MAX_WAIT_SECONDS = 0.5
#: Events that a start reads again within a second; more are a problem.
_MANY_EVENTS: Final = 10_000
#: Maximum seconds that a lookup waits for the hot layer to be rebuilt; then for the newest records.
_MAX_REBUILD_SECONDS = 30.0


class HistoryFollower:
    """Makes the entries of the journal visible.

    Args:
        store: the store that makes them visible.
        clock: the time, to measure the delay.
        metrics: count the delay.
        newest: returns the last durable position.
    """

    name = "history"

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        metrics: Metrics,
        newest: Callable[[], Awaitable[int]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._newest = newest
        #: Set while a lookup waits for the newest records.
        self.flush_now = asyncio.Event()
        self._advanced = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._catch_up_to = self._sealed = 0
        #: Cleared while events are regained that the journal has lost.
        self._is_whole = asyncio.Event()
        self._is_whole.set()

    def expect(self, position: int, sealed: int) -> None:
        """Names the events up to a position that a start reads, before the store is open.

        Args:
            position: the last position of the journal.
            sealed: the last position in files of event history.
        """
        self._catch_up_to, self._sealed = position, sealed

    def catch_up_to(self, position: int) -> None:
        """Makes lookups wait until this position is visible (the hot layer's rebuilding)."""
        self._catch_up_to = position
        if self._store.position >= position:
            self._caught_up.set()
        else:
            self._caught_up.clear()
            self.flush_now.set()

    @property
    def problems(self) -> list[str]:
        """The problem of lookups that wait until many events are visible again."""
        visible = max(self._store.position, self._sealed)
        missing = 0 if self._caught_up.is_set() else self._catch_up_to - visible
        if missing < _MANY_EVENTS:
            return []
        return [f"event history reads {missing:,} events again after a start: lookups wait"]

    async def cursor(self) -> int:
        """Returns the last position in the store."""
        return self._store.position

    async def process(self, entries: Sequence[Entry]) -> None:
        """Makes the entries visible."""
        await self._store.add(entries)
        self._advanced.set()  # wakes current waiters, no later ones
        self._advanced.clear()
        if self._caught_up.is_set():
            times = [entry.recorded_at for entry in entries]
            self._metrics.visible.observe(times, self._clock.now())
            self._metrics.count_visible(entries)
        self._metrics.history_position.set(self._store.position)
        if self._store.position >= self._catch_up_to:
            self._caught_up.set()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Lets lookups wait, while events are in event history twice or missing from it."""
        self._is_whole.clear()
        try:
            yield
        finally:
            self._is_whole.set()

    async def until_visible(self, position: int) -> None:
        """Returns once everything up to a position is visible."""
        while self._store.position < position:
            self.flush_now.set()
            await self._advanced.wait()

    async def until_rebuilt(self) -> None:
        """Returns once the hot layer has been rebuilt, or that takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_REBUILD_SECONDS):
                await self._caught_up.wait()

    async def until_newest(self) -> None:
        """Returns once all records durable now are visible, so that callers find their calls.

        Raises:
            Throttled: they do not become visible in time, or the journal does not answer. A
                lookup would silently miss events.
        """
        try:
            async with asyncio.timeout(_MAX_NEWEST_SECONDS):
                await self.until_visible(await self._newest())
                await self._is_whole.wait()
        except (TimeoutError, StorageFailed) as error:
            message = "This server does not have the newest events yet; try again."
            raise Throttled(message) from error

    async def is_visible(self, position: int) -> bool:
        """Returns whether everything up to a position is visible, or is soon."""
        if self._store.position >= position:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                await self.until_visible(position)
        return self._store.position >= position
