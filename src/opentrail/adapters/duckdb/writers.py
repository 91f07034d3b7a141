"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

from opentrail.adapters.system import threads_that_give_way

T = TypeVar("T")

#: The niceness of what comes after everything else. (On a processor that never rests SCHED_IDLE
#: has a thread wait for seconds, with Python's lock in its hands.)
_LAST = 19
#: Records of so many bytes are worth waiting for spare time: with fewer it is soon done, with more
#: of them the processor is busy, and who waits falls behind.
FEWEST_BYTES, MOST_BYTES = 32 * 1024, 512 * 1024
#: If that takes longer, there is no spare time: nothing waits for it for so many seconds, the next
#: time for twice as many.
_LONGEST_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 1.0, 600.0
#: By how much the next pause becomes shorter each time that there was spare time.
_SHORTER = 0.99


class Writers:
    """One thread that takes its turn after calls, and one that takes what time they leave.

    A thread that takes its turn holds the processor for some milliseconds at a time, while calls
    wait. But on a processor that never rests the other one gets on very slowly.
    """

    def __init__(self) -> None:
        self._turns = threads_that_give_way(1, "history-writer")
        self._spare = threads_that_give_way(1, "history-spare", _LAST)
        #: Until when (by the loop's clock) there is no spare time, and for how long after that.
        self._busy_until, self._pause = 0.0, _FIRST_PAUSE

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in the turns of a thread for nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._turns, work, *arguments)

    async def write_records(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Does as `write`, but in spare time if that makes a difference and there is some.

        Args:
            size: bytes of the records that are written.
            work: what is done.
            arguments: of `work`.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not FEWEST_BYTES <= size <= MOST_BYTES or began < self._busy_until:
            return await self.write(work, *arguments)
        try:
            return await loop.run_in_executor(self._spare, _in_spare_time, work, *arguments)
        finally:
            now = loop.time()
            if now - began > _LONGEST_SECONDS:
                self._busy_until = now + self._pause
                self._pause = min(_LONGEST_PAUSE, 2 * self._pause)
            else:
                self._pause = max(_FIRST_PAUSE, _SHORTER * self._pause)

    def close(self) -> None:
        """Ends the threads."""
        self._turns.shutdown(wait=True)
        self._spare.shutdown(wait=True)


def _in_spare_time(work: Callable[..., T], *arguments: Any) -> T:
    # A thread that wakes up has a turn to its credit: without this it would use it now.
    os.sched_yield()
    return work(*arguments)
