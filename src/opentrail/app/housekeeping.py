"""Periodic work: expiry of event history, and trimming of the journal once history has it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from opentrail.adapters.ipc.events import IpcEventStore
from opentrail.app.disk import REASONS, DiskWatch
from opentrail.core.errors import OpentrailError
from opentrail.follow import FollowedPositions
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities
from opentrail.logs import attempt
from opentrail.ports.event_store import Excess, SharedFile
from opentrail.ports.journal import TrimmedJournal, first_not_lost
from opentrail.trails.worker import Deliveries

if TYPE_CHECKING:
    from opentrail.app.cluster import Cluster

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
        cluster: the servers that share the journal; None if there are no others.
        share: puts files of event history in S3, if this server is the worker, and is called with
            the position after which records are needed; None: no files are there.
        list_files: returns the files there once they can be read through the cache; None: this
            server has all of event history on its disk.
        limits: what limits the disk space of records, and what records that they expired.
    """

    def __init__(
        self,
        journal: TrimmedJournal,
        store: IpcEventStore,
        history: History,
        identities: Identities,
        deliveries: Deliveries,
        cluster: Cluster | None = None,
        share: Callable[[int], Awaitable[None]] | None = None,
        list_files: Callable[[], Awaitable[Sequence[SharedFile]]] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._history = history
        self._identities = identities
        self._deliveries = deliveries
        self._cluster = cluster
        self._share = share
        self._list_files = list_files
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
        is_listed = await self._use_shared()
        await self._store.refresh()
        is_behind = is_listed and self._journal.first > self._store.position + 1
        if self._cluster is not None and is_behind:
            self._cluster.end("journal trimmed of records that event history does not have")
        if self._cluster is not None and not self._cluster.is_worker:
            return  # the worker does the rest
        if self._cluster is not None:
            await self._cluster.forget_servers()
        if self._share is not None:
            await self._share(needed)
        trimmed = await self._journal.trim(self.sealed(), _RETAINED_SEGMENTS)
        if trimmed:
            log.info("trimmed the journal", extra={"segments": trimmed})
        if limits is not None and self._cluster is None:
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

    async def _use_shared(self) -> bool:
        """Reads the files in S3 from now on; returns whether their indexes are here.

        Otherwise what is read stays, and the next round tries again.
        """
        if self._list_files is None:
            return True
        try:
            await self._store.use_shared(await self._list_files())
        except (OpentrailError, OSError) as error:
            log.warning("files in S3 cannot be listed", extra={"error": str(error)})
            return False
        return True

    def sealed(self) -> int:
        """Returns the last position in verified files; 0 if the journal must rebuild some."""
        state, begin, lost = self._store.state, self._journal.first, self._journal.lost
        is_whole = state.is_checked and all(
            first_not_lost(lost, max(first, begin), last) is None for first, last in state.missing
        )
        return state.sealed if is_whole else 0
