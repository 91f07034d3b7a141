"""What was lost or expired is recorded: calls, damage to the journal, events of event history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from opentrail.adapters.duckdb.expiry import notes
from opentrail.adapters.unrecorded_counts import kept_gaps
from opentrail.capture.record.lost_records import (
    expired_entry,
    gap_entry,
    lost_entry,
    uncounted_entry,
)
from opentrail.core.errors import RecordRefused
from opentrail.core.gaps import Gap
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.logs import attempt
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import ExpiredEvents
from opentrail.ports.journal import Journal, LostPositions, append_once

log = logging.getLogger(__name__)

#: Seconds until a record that could not be appended is tried again.
_AGAIN = 5.0


def _default() -> str:
    return DEFAULT_ACCOUNT


async def record_gaps(
    folder: Path, journal: Journal, clock: Clock, account: Callable[[], str] = _default
) -> None:
    """Records what was lost before this start and could not be recorded then."""
    for file, gap in list(kept_gaps(folder)):
        if gap is not None:
            now = clock.now()
            if isinstance(gap, Gap):
                entry = gap_entry(gap, now, account())
            else:
                entry = uncounted_entry(gap.problem, now, account())
            try:
                await journal.append([entry])
            except RecordRefused:
                continue  # the file stays for the next start
        file.unlink()


async def record_expired(
    history: Path,
    journal: Journal,
    clock: Clock,
    on_recorded: Callable[[ExpiredEvents], None],
    account: Callable[[], str] = _default,
) -> None:
    """Appends exactly one record of each expiry that is noted, also across restarts.

    Raises:
        OpentrailError: the journal accepts no records now; the notes stay for the next call.
    """
    for path, note in await asyncio.to_thread(lambda: list(notes(history))):
        for events in note.events:
            await append_once(journal, expired_entry(events, clock.now(), account()))
            on_recorded(events)
        await asyncio.to_thread(path.unlink)


async def record_losses(
    journal: Journal,
    losses: asyncio.Queue[LostPositions],
    clock: Clock,
    account: Callable[[], str] = _default,
) -> None:
    """Appends exactly one record of each loss, also across restarts."""
    while True:
        lost = await losses.get()
        entry = lost_entry(lost, clock.now(), account())
        failure = "a loss cannot be recorded yet"
        while not await attempt(append_once(journal, entry), failure):  # noqa: ASYNC110
            await asyncio.sleep(_AGAIN)
