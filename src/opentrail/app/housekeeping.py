"""Periodic work: expiry of event history, and trimming of the journal once history has it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.app.disk import REASONS, DiskWatch
from opentrail.app.site import Site
from opentrail.core.logs import attempt
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities
from opentrail.ports.event_store import Excess
from opentrail.ports.follow import FollowedPositions
from opentrail.ports.journal import TrimmedJournal, first_not_lost
from opentrail.trails.delivery_rounds import Deliveries

log = logging.getLogger(__name__)

_INTERVAL = 60.0
#: Number of newest journal segments that are never trimmed.
_RETAINED_SEGMENTS = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What limits the disk space of records.

    `progress` has the positions of followers that need entries, `record` records what expired.
    """

    disk: DiskWatch
    progress: FollowedPositions
    record: Callable[[], Awaitable[None]]


class Housekeeping:
    """Deletes what has expired or is stored twice; nothing that trails or identities still need.

    Args:
        journal: is trimmed.
        store: its files expire.
        history: says what has expired.
        identities: need entries until they are stored.
        deliveries: need entries until they are delivered.
        site: what the server shares with others.
        limits: what limits the disk space of records, and what records that they expired.
    """

    def __init__(
        self,
        journal: TrimmedJournal,
        store: IpcEventStore,
        history: History,
        identities: Identities,
        deliveries: Deliveries,
        site: Site,
        limits: Limits | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._history = history
        self._identities = identities
        self._deliveries = deliveries
        self._site = site
        self._limits = limits

    async def run(self) -> None:
        """Runs until it is cancelled; the next round makes up for a failed one."""
        disk = self._limits.disk if self._limits else None
        cleaned_at = time.monotonic()
        while True:
            if disk is not None:
                await attempt(disk.check(), "the disk cannot be measured")
            if (disk and disk.is_over) or time.monotonic() - cleaned_at >= _INTERVAL:
                await attempt(self.clean_up(), "housekeeping failed")
                cleaned_at = time.monotonic()
            await asyncio.sleep(_INTERVAL if disk is None else disk.pause)

    async def clean_up(self) -> None:
        """Expires files, then trims the journal up to the last position in verified files."""
        followed = min(await self._identities.cursor(), await self._identities.stored_cursor())
        needed = min(followed, await self._deliveries.needed_after())
        before, limits = self._history.kept_since, self._limits
        last = needed if limits is None else limits.progress.first(needed)
        await self._expire(before, last, self._history.data_kept_since)
        is_listed = await self._site.refresh_files(self._store)
        await self._store.refresh()
        if is_listed and self._journal.first > self._store.position + 1:
            self._site.refuse_gap()
        if not self._site.is_worker:
            return  # the worker does the rest
        await self._site.share(needed)
        trimmed = await self._journal.trim(self.sealed(), _RETAINED_SEGMENTS)
        if trimmed:
            log.info("trimmed the journal", extra={"segments": trimmed})
        if limits is not None and self._site.makes_room:
            await self._make_room(limits.disk, before, min(last, self.sealed()))

    async def _make_room(self, disk: DiskWatch, recorded_before: datetime, last: int) -> None:
        """Expires the oldest events up to a position while they take too much of the disk."""
        state = await self._store.refresh()
        if state.sealed_events:
            disk.bytes_per_event = state.sealed_bytes / state.sealed_events
        disk.left_over = None
        for reason in REASONS:
            await disk.check()
            if excess := disk.excess(reason):
                await self._expire(recorded_before, last, None, excess)
                await disk.check()
                disk.left_over = disk.excess(reason) or disk.left_over

    async def _expire(
        self,
        recorded_before: datetime,
        last: int,
        data_before: datetime | None,
        excess: Excess | None = None,
    ) -> None:
        """Expires events up to a position, and records that."""
        gone = await self._store.expire(recorded_before, last, data_before, excess)
        if gone:
            log.info("expired from event history", extra={"records": gone})
        if self._limits is not None:
            await attempt(self._limits.record(), "an expiry cannot be recorded yet")

    def sealed(self) -> int:
        """Returns the last position in verified files; 0 if the journal must rebuild some."""
        state, begin, lost = self._store.state, self._journal.first, self._journal.lost
        is_whole = state.is_checked and all(
            first_not_lost(lost, max(first, begin), last) is None for first, last in state.missing
        )
        return state.sealed if is_whole else 0
