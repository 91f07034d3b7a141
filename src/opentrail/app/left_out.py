"""Counts of calls that `--record` leaves out: their sums, and an event of each past hour."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from opentrail.adapters.unrecorded_counts import count_files, counts_in, finished_hours
from opentrail.capture.record.lost_records import left_out_entry
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.logs import attempt
from opentrail.core.selectors.recorded_calls import LeftOut
from opentrail.ports.clock import Clock
from opentrail.ports.journal import Journal, append_once

log = logging.getLogger(__name__)

#: Seconds between two looks for a past hour.
_EVERY = 5.0


class LeftOutCalls:
    """What the recorder processes of a server have counted.

    Args:
        folder: where their files are.
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
        #: Counts in files that are deleted now, less those in files of earlier runs.
        self._recorded: Counter[LeftOut] = Counter()
        self._recorded.subtract(counts_in(count_files(folder)))

    def totals(self) -> dict[LeftOut, int]:
        """Returns the calls that were left out since the server started."""
        sums = Counter(self._recorded)
        sums.update(counts_in(count_files(self._folder)))
        return dict(+sums)

    async def keep_recording(self) -> None:
        """Records each hour once it is over and no process counts in it any more."""
        while True:
            await attempt(self.record_hours(), "counts of calls that are left out stay unrecorded")
            await asyncio.sleep(_EVERY)

    async def record_hours(self) -> None:
        """Appends exactly one record of each counter and past hour, also across restarts.

        A record is named by the first file of its hour, which is deleted last.
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
