"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from opentrail.adapters.system import threads_that_give_way

T = TypeVar("T")

#: The niceness of a thread that calls hardly notice: where both want the processor it gets a tenth
#: of it, and so holds it for a tick of the scheduler (4 ms) every 40 ms at most.
_PATIENT = 10
#: A tenth is too little if more bytes of records than this have gathered in a round: who waits for
#: them falls behind.
MOST_BYTES = 2 * 1024 * 1024


class Writers:
    """One thread that takes its turn after calls, and one that leaves them nearly all turns.

    A thread that takes its turn holds the processor for some milliseconds at a time, while calls
    wait: the fewer of these times, the better, as long as records become visible in time.
    """

    def __init__(self) -> None:
        self._turns = threads_that_give_way(1, "history-writer")
        self._patient = threads_that_give_way(1, "history-patient", _PATIENT)

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in the turns of a thread for nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._turns, work, *arguments)

    async def write_records(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Does as `write`, but patiently unless there is much to write.

        Args:
            size: bytes of the records that are written.
            work: what is done.
            arguments: of `work`.
        """
        if size > MOST_BYTES:
            return await self.write(work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._patient, work, *arguments)

    def close(self) -> None:
        """Ends the threads."""
        self._turns.shutdown(wait=True)
        self._patient.shutdown(wait=True)
