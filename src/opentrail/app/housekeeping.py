"""Periodic work: expiry of event history, and trimming of the journal once history has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from opentrail.adapters.ipc.events import IpcEventStore
from opentrail.core.errors import OpentrailError
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities
from opentrail.ports.journal import TrimmedJournal, first_not_lost
from opentrail.trails.worker import TrailDeliveries

log = logging.getLogger(__name__)

_INTERVAL = 60.0
#: Number of newest journal segments that are never trimmed.
_RETAINED_SEGMENTS = 2


class Housekeeping:
    """Deletes what has expired or is stored twice; nothing that a follower still needs."""

    def __init__(
        self,
        journal: TrimmedJournal,
        store: IpcEventStore,
        history: History,
        identities: Identities,
        deliveries: TrailDeliveries,
    ) -> None:
        self._journal = journal
        self._store = store
        self._history = history
        self._identities = identities
        self._deliveries = deliveries

    def _can_be_rebuilt(self, missing: Sequence[tuple[int, int]]) -> bool:
        """Returns whether the journal still has positions that history lacks."""
        begin, lost = self._journal.first, self._journal.lost
        return any(
            first_not_lost(lost, max(first, begin), last) is not None for first, last in missing
        )

    async def run(self) -> None:
        """Runs until it is cancelled; the next round makes up for a failed one."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.clean_up()
            except (OpentrailError, OSError) as error:
                log.warning("housekeeping failed", extra={"error": str(error)})

    async def clean_up(self) -> None:
        """Expires files, then trims the journal up to the last position in verified files."""
        needed = min(await self._identities.cursor(), await self._deliveries.needed_after())
        gone = await self._store.expire(self._history.kept_since, needed)
        if gone:
            log.info("expired from event history", extra={"records": gone})
        state = await self._store.refresh()
        if state.is_checked and not self._can_be_rebuilt(state.missing):
            trimmed = await self._journal.trim(state.sealed, keep=_RETAINED_SEGMENTS)
            if trimmed:
                log.info("trimmed the journal", extra={"segments": trimmed})
