"""Keeps the files of created event data stores up to date, and deletes removed stores."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from opentrail.core.errors import OpentrailError
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake.store_registry import Stores
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Hold, Journal
from opentrail.ports.queries import StoreFiles

log = logging.getLogger(__name__)

#: Positions behind the journal at which a store's files are written. Queries read these
#: positions from the journal.
BEHIND = 20_000
#: The same once the files are `_OLD_SECONDS` old.
_FEW_BEHIND, _OLD_SECONDS = 2_000, 300.0
#: Seconds between two checks, and between two deletions of expired events.
_CHECK_SECONDS, _EXPIRY_SECONDS = 60.0, 3_600.0
#: Seconds between two publications of a federated store's files.
_PUBLISH_SECONDS = 300.0
#: No event is older.
_EPOCH = datetime.fromtimestamp(0, UTC)


class StoreKeeper:
    """Writes the files of stores behind the journal.

    Args:
        stores: the stores.
        files: their files.
        journal: has the events.
        clock: the time by which events expire.
        fitting: returns the number of positions whose events fit on the disk once more.
    """

    def __init__(
        self,
        stores: Stores,
        files: StoreFiles,
        journal: Journal,
        clock: Clock,
        fitting: Callable[[], int] = lambda: sys.maxsize,
    ) -> None:
        self._stores = stores
        self._files = files
        self._journal = journal
        self._clock = clock
        self._fitting = fitting
        #: Id → time of the last writing, in seconds of the loop.
        self._tended: dict[str, float] = {}
        #: Id → time of the last deletion of expired events.
        self._expired: dict[str, float] = {}
        #: Id → time of the last publication of a federated store, or -inf of another one.
        self._published: dict[str, float] = {}
        #: What failed in the last round.
        self.problems: list[str] = []

    async def run(self) -> None:
        """Runs until cancelled; the next round makes up for a failed one."""
        while True:
            self._stores.changed.clear()
            first: int | None = self._journal.head
            try:
                first = await self.round()
            except OpentrailError as error:
                log.error("event data stores cannot be read", extra={"error": str(error)})
            except Exception:  # a bug must neither end the keeper nor go unnoticed
                log.exception("event data stores failed unexpectedly")
            await self._wait(first)

    async def holds(self) -> list[Hold]:
        """Returns the entries of the journal that each store still needs."""
        return [
            Hold(f"event data store {store.name}", await self._files.covered(store), True)
            for store in await self._stores.all()
        ]

    async def catch_up(self) -> None:
        """Writes the files of all stores, as far as they fit on the disk.

        After each call, the journal can be trimmed, and more fits.
        """
        await self.round(is_urgent=True)

    async def round(self, *, is_urgent: bool = False) -> int | None:
        """Brings stores up to date that are far behind, or all of them if it is urgent.

        Returns:
            The position that all stores have; None without stores.
        """
        positions, problems = [], []
        for store in await self._stores.all():
            try:
                if store.is_gone(self._clock.now()):
                    await self._remove(store)
                else:
                    positions.append(await self._tend(store, is_urgent))
                    await self._publish(store)
            except OpentrailError as error:
                problems.append(f"event data store {store.name} is not up to date: {error}")
                log.error("event data store not up to date", extra={"error": str(error)})
                positions.append(self._journal.head)  # the next check retries
        self.problems = [*problems, *self._files.problems]
        return min(positions, default=None)

    async def _remove(self, store: EventDataStore) -> None:
        await self._files.remove(store)
        await self._stores.remove(store)
        self._tended.pop(store.id, None)
        self._expired.pop(store.id, None)
        self._published.pop(store.id, None)
        log.info("event data store removed", extra={"store": store.name})

    async def _tend(self, store: EventDataStore, is_urgent: bool) -> int:
        """Brings a store's files up to date if necessary; returns their position."""
        covered, now = await self._files.covered(store), asyncio.get_running_loop().time()
        behind, age = self._journal.head - covered, now - self._tended.get(store.id, -math.inf)
        is_old = behind >= _FEW_BEHIND and age >= _OLD_SECONDS
        may_expire = now - self._expired.get(store.id, -math.inf) >= _EXPIRY_SECONDS
        has_files = covered > store.phases[0].after
        is_due = behind >= BEHIND or is_old or (behind > 0 and is_urgent)
        if not is_due and not (may_expire and has_files):
            return covered
        current, until = await self._stores.current(store)
        fitting = self._fitting()
        if until - covered > fitting:
            if not is_urgent:
                return self._journal.head  # `catch_up` writes a part
            until = covered + fitting
        since = current.kept_since(self._clock.now()) if may_expire else _EPOCH
        await self._files.tend(current, until, since)
        self._tended[store.id] = now
        if may_expire:
            self._expired[store.id] = now
        return until

    async def _publish(self, store: EventDataStore) -> None:
        """Brings a federated store's Iceberg table up to date; removes the table of another one."""
        now, last = asyncio.get_running_loop().time(), self._published.get(store.id)
        if not store.is_federated:
            if last != -math.inf:
                await self._files.unpublish(store)
                self._published[store.id] = -math.inf
        elif last is None or now - last >= _PUBLISH_SECONDS:
            await self._files.publish(store)
            self._published[store.id] = now

    async def _wait(self, first: int | None) -> None:
        """Returns once a store changes, is far behind the journal, or may have expired events."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stores.changed.wait())]
        if first is not None:
            waits.append(asyncio.ensure_future(self._journal.wait_beyond(first + BEHIND - 1)))
        try:
            # Another server of a cluster may have changed a store.
            done, _ = await asyncio.wait(
                waits, timeout=_CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if any(each.exception() for each in done):  # the journal cannot be read
                await asyncio.sleep(_CHECK_SECONDS)
        finally:
            for wait in waits:
                wait.cancel()
