"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from opentrail.adapters.system import prefer_short_turns, threads_that_give_way

T = TypeVar("T")
#: Each yields whether the next step takes long.
Steps = Generator[bool, None, T]
#: Threads, and the seconds after which others take over from them.
Stage = tuple[ThreadPoolExecutor, float | None]

#: The niceness of a thread that calls hardly notice: where both want the processor it gets a tenth
#: of it.
_PATIENT = 10
#: The seconds of its turns: the shortest there are, since Linux lets it finish one before others.
_PATIENT_TURN = 0.0001
#: A tenth is too little if more bytes of records than this have gathered in a round: who waits for
#: them falls behind.
MOST_BYTES = 2 * 1024 * 1024
#: It is too little, too, where others need all of the processor: after so many seconds a thread of
#: less niceness goes on with the records, and after so many more one that has none.
_PATIENCE, _LESS_PATIENCE = 0.25, 0.35
#: Records begin patiently again once they were written in time so often in a row.
SURE = 10


class Writers:
    """Threads for records, of more and of less niceness, and one for everything else.

    Any of them holds the processor for some milliseconds at a time, while calls wait: the fewer of
    these times, the better, as long as records become visible in time.

    Args:
        now: seconds of some clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._others = threads_that_give_way(1, "history-writer")
        patient = threads_that_give_way(1, "history-patient", _PATIENT)
        patient.submit(prefer_short_turns, _PATIENT_TURN)
        self._stages: Sequence[Stage] = (
            (patient, _PATIENCE),
            (threads_that_give_way(1, "history-urgent"), _LESS_PATIENCE),
            (ThreadPoolExecutor(1, "history-late"), None),
        )
        #: With which of them records begin, and how often in a row they were written in time.
        self._begin = self._in_time = 0

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in a thread for whatever is no record."""
        return await asyncio.get_running_loop().run_in_executor(self._others, work, *arguments)

    @contextmanager
    def writing(self, size: int) -> Iterator[Writing]:
        """Gives the writing of records of so many bytes.

        It begins patiently, unless there is much to write or the last records were late.
        """
        begin = max(self._begin, int(size > MOST_BYTES))
        writing = Writing(self._stages[begin:], self._now)
        yield writing
        self._in_time = self._in_time + 1 if writing.is_in_time() else 0
        if not self._in_time:
            self._begin = 1
        elif self._in_time >= SURE:
            self._begin = 0

    def close(self) -> None:
        """Ends the threads."""
        for threads in (self._others, *(threads for threads, _ in self._stages)):
            threads.shutdown(wait=True)


class Writing:
    """The writing of some records, which becomes more urgent as time passes."""

    def __init__(self, stages: Sequence[Stage], now: Callable[[], float]) -> None:
        self._stages = stages
        self._now = now
        self._stage, self._since = 0, now()

    async def do(self, steps: Steps[T]) -> T:
        """Returns what `steps` return, in whichever threads, one step after the other."""
        loop = asyncio.get_running_loop()
        while True:
            threads, _ = self._stages[self._stage]
            done = await loop.run_in_executor(threads, self._advance, steps)
            if done is not None:
                return done.value
            self._stage, self._since = self._stage + 1, self._now()

    def is_in_time(self) -> bool:
        """Returns whether the threads that began are still the right ones."""
        return self._stage == 0 and self._has_time(takes_long=False)

    def _advance(self, steps: Steps[T]) -> _Done[T] | None:
        """Goes on until it is done, or others take over."""
        takes_long = False
        while self._has_time(takes_long):
            try:
                takes_long = next(steps)
            except StopIteration as end:
                return _Done(end.value)
        return None

    def _has_time(self, takes_long: bool) -> bool:
        """Returns whether to begin the next step; a long one needs half of the time."""
        _, seconds = self._stages[self._stage]
        if seconds is None:
            return True
        return self._now() - self._since < (seconds / 2 if takes_long else seconds)


class _Done(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value
