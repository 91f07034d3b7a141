"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import time
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
#: There is no spare time if others do not leave the processor for so many seconds.
_LONGEST_WAIT = 0.02
#: After a write in spare time that took so many seconds nobody waits for spare time for a while:
#: for twice as long each time. (Before Linux 6.18 who yields gives little away.)
_SLOW = 0.25
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 320.0
#: Python's own `os.sched_yield` keeps Python's lock meanwhile.
_sched_yield = ctypes.CDLL(None).sched_yield


class Writers:
    """One thread that takes its turn after calls, and one that takes what time they leave.

    A thread that takes its turn holds the processor for some milliseconds at a time, while calls
    wait. But on a processor that never rests the other one gets on very slowly.

    Args:
        now: seconds of some clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: For how long spare time is not waited for after the last slow write, and until when.
        self._pause, self._paused_until = 0.0, now()
        self._turns = threads_that_give_way(1, "history-writer")
        self._spare = threads_that_give_way(1, "history-spare", _LAST)

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
        began = self._now()
        if FEWEST_BYTES <= size <= MOST_BYTES and began >= self._paused_until:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(_NoSpareTimeError):
                done = await loop.run_in_executor(self._spare, _in_spare_time, work, *arguments)
                self._pause_if_slow(began)
                return done
        return await self.write(work, *arguments)

    def _pause_if_slow(self, began: float) -> None:
        ended = self._now()
        if ended - began <= _SLOW:
            self._pause = 0.0
        else:
            self._pause = min(2 * self._pause or _FIRST_PAUSE, _LONGEST_PAUSE)
            self._paused_until = ended + self._pause

    def close(self) -> None:
        """Ends the threads."""
        self._turns.shutdown(wait=True)
        self._spare.shutdown(wait=True)


class _NoSpareTimeError(Exception):
    """Others need the processor; nothing was done."""


def _in_spare_time(work: Callable[..., T], *arguments: Any) -> T:
    # A thread that wakes up has a turn to its credit: without this it would use it now.
    began = time.perf_counter()
    _sched_yield()
    if time.perf_counter() - began > _LONGEST_WAIT:
        raise _NoSpareTimeError
    return work(*arguments)
