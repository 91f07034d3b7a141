"""What was lost is recorded: calls that could not be appended, and damage to the journal."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from opentrail.adapters.gap_file import kept_gaps
from opentrail.capture.record.losses import gap_entry, lost_entry, uncounted_entry
from opentrail.core.errors import RecordRefused
from opentrail.core.gaps import Gap
from opentrail.logs import attempt
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Journal, LostPositions, append_once

log = logging.getLogger(__name__)

#: Seconds until a record that could not be appended is tried again.
_AGAIN = 5.0


async def record_gaps(folder: Path, journal: Journal, clock: Clock) -> None:
    """Records what was lost before this start and could not be recorded then."""
    for file, gap in list(kept_gaps(folder)):
        if gap is not None:
            now = clock.now()
            if isinstance(gap, Gap):
                entry = gap_entry(gap, now)
            else:
                entry = uncounted_entry(gap.problem, now)
            try:
                await journal.append([entry])
            except RecordRefused:
                continue  # the file stays for the next start
        file.unlink()


async def record_losses(
    journal: Journal, losses: asyncio.Queue[LostPositions], clock: Clock
) -> None:
    """Appends exactly one record of each loss, also across restarts."""
    while True:
        lost = await losses.get()
        entry = lost_entry(lost, clock.now())
        failure = "a loss cannot be recorded yet"
        while not await attempt(append_once(journal, entry), failure):  # noqa: ASYNC110
            await asyncio.sleep(_AGAIN)
