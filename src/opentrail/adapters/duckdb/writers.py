"""Threads that write to the database in memory while calls are answered on the same processor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from opentrail.adapters.system import prefer_short_turns, threads_that_give_way

T = TypeVar("T")
#: Each yields whether the next step takes long.
Steps = Generator[bool, None, T]


class Stage(NamedTuple):
    """Threads, and when those of the next stage take over from them.

    They do after so many seconds, or once a thread gets less than this share of a processor, but
    not within an insertion: so many records are inserted at once.
    """

    threads: ThreadPoolExecutor
    seconds: float | None = None
    share: float = 0.0
    at_once: int = 1_000


#: The niceness of a thread that calls do not notice, since it only gets what they leave over.
_SPARE = 19
#: It is too much where they leave hardly anything. The share that it needs, how long it takes to
#: see what it gets, and how many records it inserts at once: if somebody takes all of the processor
#: meanwhile, the rest of that lasts for tenths of a second.
_SPARE_SHARE, _SEEN_SECONDS, _SPARE_AT_ONCE = 0.03, 0.02, 250
#: The niceness of a thread that calls hardly notice: where both want the processor it gets a tenth
#: of it.
_PATIENT = 10
#: The seconds of both threads' turns: the shortest there are, since Linux lets them finish one
#: before others.
_SHORT_TURN = 0.0001
#: A tenth is too little if more bytes of records than this have gathered in a round: who waits for
#: them falls behind.
MOST_BYTES = 2 * 1024 * 1024
#: It is too little, too, where others need all of the processor: after so many seconds each,
#: threads of less niceness go on with the records, and at last one that has none.
_SPARE_PATIENCE, _PATIENCE, _LESS_PATIENCE = 0.15, 0.25, 0.35
#: The stage that records begin with if they are many, or were late.
_URGENT = 2
#: Records begin patiently again once they were written in time so often in a row.
SURE = 10


class Writers:
    """Threads for records, of more and of less niceness, and one for everything else.

    Any of them holds the processor for some milliseconds at a time, while calls wait: the fewer of
    these times, the better, as long as records become visible in time.

    Args:
        now: seconds of some clock.
        worked: seconds for which the present thread has worked so far.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._now, self._worked = now, worked
        self._others = threads_that_give_way(1, "history-writer")
        self._stages: Sequence[Stage] = (
            Stage(
                _with_short_turns("history-spare", _SPARE),
                _SPARE_PATIENCE,
                _SPARE_SHARE,
                _SPARE_AT_ONCE,
            ),
            Stage(_with_short_turns("history-patient", _PATIENT), _PATIENCE),
            Stage(threads_that_give_way(1, "history-urgent"), _LESS_PATIENCE),
            Stage(ThreadPoolExecutor(1, "history-late")),
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
        begin = max(self._begin, _URGENT if size > MOST_BYTES else 0)
        writing = Writing(self._stages[begin:], self._now, self._worked)
        yield writing
        later = writing.later
        self._in_time = 0 if later else self._in_time + 1
        if later:
            self._begin = min(begin + later, _URGENT)
        elif self._in_time >= SURE:
            self._begin = 0

    def close(self) -> None:
        """Ends the threads."""
        for threads in (self._others, *(stage.threads for stage in self._stages)):
            threads.shutdown(wait=True)


def _with_short_turns(name: str, niceness: int) -> ThreadPoolExecutor:
    threads = threads_that_give_way(1, name, niceness)
    threads.submit(prefer_short_turns, _SHORT_TURN)
    return threads


class Writing:
    """The writing of some records, which becomes more urgent as time passes."""

    def __init__(
        self, stages: Sequence[Stage], now: Callable[[], float], worked: Callable[[], float]
    ) -> None:
        self._stages = stages
        self._now, self._worked = now, worked
        self._stage, self._since = 0, now()
        #: When the steps were handed to a thread, how long it had worked then, and when to see
        #: what it gets of the processor.
        self._handed_over = self._worked_before = self._look_at = 0.0

    async def do(self, steps: Steps[T]) -> T:
        """Returns what `steps` return, in whichever threads, one step after the other."""
        loop = asyncio.get_running_loop()
        while True:
            self._handed_over = self._now()
            threads = self._stages[self._stage].threads
            done = await loop.run_in_executor(threads, self._advance, steps)
            if done is not None:
                return done.value
            self._stage, self._since = self._stage + 1, self._now()

    @property
    def at_once(self) -> int:
        """How many records are to be inserted at once."""
        return self._stages[self._stage].at_once

    @property
    def later(self) -> int:
        """How many stages later others should begin: 0 if the threads that began were right."""
        return self._stage + self._is_late(self._now())

    def _advance(self, steps: Steps[T]) -> _Done[T] | None:
        """Goes on until it is done, or others take over."""
        self._worked_before, self._look_at = self._worked(), self._handed_over + _SEEN_SECONDS
        takes_long = False
        while self._goes_on(takes_long):
            try:
                takes_long = next(steps)
            except StopIteration as end:
                return _Done(end.value)
        return None

    def _goes_on(self, takes_long: bool) -> bool:
        """Returns whether to begin the next step; a long one needs half of the time."""
        now = self._now()
        if self._is_late(now, 0.5 if takes_long else 1.0):
            return False
        if now < self._look_at and not takes_long:
            return True
        self._look_at = now + _SEEN_SECONDS
        share = self._stages[self._stage].share
        return self._worked() - self._worked_before >= share * (now - self._handed_over)

    def _is_late(self, now: float, part: float = 1.0) -> bool:
        """Returns whether this part of the time of the present threads is over."""
        seconds = self._stages[self._stage].seconds
        return seconds is not None and now - self._since >= part * seconds


class _Done(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value
