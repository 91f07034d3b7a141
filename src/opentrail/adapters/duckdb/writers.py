"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from opentrail.adapters.system import prefer_short_turns, threads_that_give_way

T = TypeVar("T")

#: The niceness of a thread that calls hardly notice: where both want the processor it gets a tenth
#: of it.
_PATIENT = 10
#: The seconds of its turns: the shortest there are, since it is not put off before they are over.
_PATIENT_TURN = 0.0001
#: A tenth is too little if more bytes of records than this have gathered in a round: who waits for
#: them falls behind.
MOST_BYTES = 2 * 1024 * 1024
#: It is too little, too, where others need all of the processor: after so many seconds the thread
#: that takes its turn goes on with the records, and then one that goes before no other and waits
#: for no other.
_PATIENCE, _TURNS_PATIENCE = 0.15, 0.15
#: Records begin patiently again once they were done in time so often in a row.
_SURE = 20


class Writers:
    """Threads for what calls under way go before, and how soon their turn comes.

    A thread that takes its turn holds the processor for some milliseconds at a time, while calls
    wait: the fewer of these times, the better, as long as records become visible in time.

    Args:
        now: seconds of some clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._turns = threads_that_give_way(1, "history-writer")
        patient = threads_that_give_way(1, "history-patient", _PATIENT)
        patient.submit(prefer_short_turns, _PATIENT_TURN)
        prompt = ThreadPoolExecutor(1, "history-prompt")
        #: From the most patient on, each with the seconds after which the next one takes over.
        self._threads = ((patient, _PATIENCE), (self._turns, _TURNS_PATIENCE), (prompt, None))
        #: With which of them records begin, and how often in a row they were done in time.
        self._begin = self._in_time = 0

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in the turns of a thread for nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._turns, work, *arguments)

    async def write_records(self, size: int, steps: Generator[None, None, T]) -> T:
        """Returns what `steps` return, done patiently unless there is much to write or no time.

        Args:
            size: bytes of the records that are written.
            steps: short ones, each ended by `yield`; in whichever threads.
        """
        begin = max(self._begin, int(size > MOST_BYTES))
        for number, (threads, seconds) in enumerate(self._threads[begin:], begin):
            until = None if seconds is None else self._now() + seconds
            going = partial(self._advance, steps, until)
            done = await asyncio.get_running_loop().run_in_executor(threads, going)
            if done is not None:
                self._learn(is_in_time=number == begin)
                return done.value
        raise AssertionError("the last thread goes on until it is done")

    def _learn(self, is_in_time: bool) -> None:
        """Has records begin less patiently for a while after some were late."""
        self._in_time = self._in_time + 1 if is_in_time else 0
        if not is_in_time:
            self._begin = 1
        elif self._in_time >= _SURE:
            self._begin = 0

    def _advance(self, steps: Generator[None, None, T], until: float | None) -> _Done[T] | None:
        """Goes on until it is done, or it is late."""
        while until is None or self._now() < until:
            try:
                next(steps)
            except StopIteration as end:
                return _Done(end.value)
        return None

    def close(self) -> None:
        """Ends the threads."""
        for threads, _ in self._threads:
            threads.shutdown(wait=True)


class _Done(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value
