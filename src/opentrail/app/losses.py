"""Records events without a record yet: lost calls, calls excluded by `--record`, damage, expiry."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from opentrail.adapters.data_directory.unrecorded_counts import (
    count_files,
    counts_in,
    finished_hours,
    kept_gaps,
)
from opentrail.adapters.duckdb.expiry import notes
from opentrail.capture.record.lost_records import (
    expired_entry,
    gap_entry,
    left_out_entry,
    lost_entry,
    uncounted_entry,
)
from opentrail.core.errors import RecordRefused
from opentrail.core.gaps import Gap
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.logs import attempt
from opentrail.core.selectors.selection import LeftOut
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import ExpiredEvents
from opentrail.ports.journal import Journal, LostPositions, append_once

log = logging.getLogger(__name__)

#: Seconds before a failed append is retried.
_RETRY_SECONDS = 5.0


def _default() -> str:
    return DEFAULT_ACCOUNT


async def record_gaps(
    folder: Path, journal: Journal, clock: Clock, account: Callable[[], str] = _default
) -> None:
    """Records losses before this start that could not be recorded then."""
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
    """Appends exactly one record of each noted expiry, even across restarts.

    Raises:
        OpentrailError: the journal accepts no records; the notes stay for the next call.
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
    """Appends exactly one record of each loss, even across restarts."""
    while True:
        lost = await losses.get()
        entry = lost_entry(lost, clock.now(), account())
        failure = "a loss cannot be recorded yet"
        while not await attempt(append_once(journal, entry), failure):  # noqa: ASYNC110
            await asyncio.sleep(_RETRY_SECONDS)


#: Seconds between two looks for a past hour.
_HOUR_CHECK_SECONDS = 5.0


class LeftOutCalls:
    """The counts of a server's recorder processes.

    Args:
        folder: the folder of their files.
        node: the id of the data directory.
        account: returns the account of the events.
    """

    def __init__(
        self,
        folder: Path,
        node: str,
        journal: Journal,
        clock: Clock,
        account: Callable[[], str] = lambda: DEFAULT_ACCOUNT,
    ) -> None:
        self._account = account
        self._folder, self._node = folder, node
        self._journal, self._clock = journal, clock
        #: Counts in files about to be deleted, minus counts in files of earlier runs.
        self._recorded: Counter[LeftOut] = Counter()
        self._recorded.subtract(counts_in(count_files(folder)))

    def totals(self) -> dict[LeftOut, int]:
        """Returns the calls excluded since the server started."""
        sums = Counter(self._recorded)
        sums.update(counts_in(count_files(self._folder)))
        return dict(+sums)

    async def keep_recording(self) -> None:
        """Records each hour once it is over and no process still counts in it."""
        while True:
            await attempt(self.record_hours(), "counts of calls that are left out stay unrecorded")
            await asyncio.sleep(_HOUR_CHECK_SECONDS)

    async def record_hours(self) -> None:
        """Appends exactly one record of each counter and past hour, even across restarts.

        The first file of an hour names its records, and is deleted last.
        """
        for hour, files in finished_hours(self._folder, self._clock.now()).items():
            sums = counts_in(files)
            name = f"{self._node}:{files[0].name}"
            for left_out, calls in sorted(sums.items()):
                now, account = self._clock.now(), self._account()
                entry = left_out_entry(left_out, calls, hour, name, now, account)
                await append_once(self._journal, entry)
            self._recorded.update(sums)
            for file in reversed(files):
                file.unlink()
