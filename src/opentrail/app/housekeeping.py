"""Periodic work: expiry of event history, and trimming of the journal once history has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from opentrail.adapters.ipc.events import IpcEventStore
from opentrail.core.errors import OpentrailError
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities
from opentrail.logs import attempt
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import TrimmedJournal, first_not_lost
from opentrail.trails.worker import Deliveries

if TYPE_CHECKING:
    from opentrail.app.cluster import Cluster

log = logging.getLogger(__name__)

_INTERVAL = 60.0
#: Number of newest journal segments that are never trimmed.
_RETAINED_SEGMENTS = 2


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
    ) -> None:
        self._journal = journal
        self._store = store
        self._history = history
        self._identities = identities
        self._deliveries = deliveries
        self._cluster = cluster
        self._share = share
        self._list_files = list_files

    async def run(self) -> None:
        """Runs until it is cancelled; the next round makes up for a failed one."""
        while True:
            await asyncio.sleep(_INTERVAL)
            await attempt(self.clean_up(), "housekeeping failed")

    async def clean_up(self) -> None:
        """Expires files, then trims the journal up to the last position in verified files."""
        followed = min(await self._identities.cursor(), await self._identities.stored_cursor())
        needed = min(followed, await self._deliveries.needed_after())
        gone = await self._store.expire(self._history.kept_since, needed)
        if gone:
            log.info("expired from event history", extra={"records": gone})
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
