"""Has what clients send wait a moment for more while the loop is busy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)

#: The loop is busy if it worked for more than this share of a window of so many seconds.
BUSY_SHARE, WINDOW_SECONDS = 0.4, 0.05
#: A busy loop lets at most so many seconds pass until it takes in what came. With half of it a call
#: at half load takes a sixth more of the processor's time, and the slowest ones wait longer.
GATHER_SECONDS = 0.002
#: So many calls that wait are enough: more of them would hardly be cheaper.
MANY_CALLS = 16
#: When so many of the lines in use have a call under way or waiting, others will hardly come.
_LINES_SHARE = 0.75


class Line(Protocol):
    """A connection that calls come over."""

    def take(self, data: bytes) -> None:
        """Looks at what was sent."""
        ...

    def abort_transport(self) -> None:
        """Cuts the connection."""
        ...


class Intake:
    """What clients sent and nobody has looked at yet; all connections of a loop share it.

    The same code run for several calls in a row takes half the time that it takes for each alone,
    and their records share a sync. A loop that has time for it takes each call at once; one that is
    busy has calls wait for others, and all of them are answered sooner for it. Clients that send
    the next call after the answer to the last are not kept waiting once all of them have sent one.

    Args:
        now: seconds of some clock.
        worked: seconds for which this thread has worked so far.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        self._now, self._worked = now, worked
        self._since, self._worked_before = now(), worked()
        self._is_busy = False
        #: The lines that something came over in this window, and how many calls are enough for now.
        self._lines: set[int] = set()
        self._enough = 0.0
        self._calls = 0
        self._waiting: list[tuple[Line, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Counts a call that is being answered."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def add(self, line: Line, data: bytes) -> None:
        """Has the beginning of a call taken: at once, or with others; in the order of arrival."""
        self._lines.add(id(line))
        if not self._waiting:
            self._look()
            if not self._is_busy:
                line.take(data)
                return
        self._waiting.append((line, data))
        count = len(self._waiting)
        if count >= MANY_CALLS or self._calls + count >= self._enough:
            self.release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(GATHER_SECONDS, self.release)

    def release(self) -> None:
        """Has all that waits taken now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for line, data in waiting:
            try:
                line.take(data)
            except Exception:  # a mistake of ours must not cost the others their calls
                log.exception("what a client sent cannot be taken in")
                line.abort_transport()

    def _look(self) -> None:
        """Finds out, once a window, whether the loop is busy and how many lines are in use."""
        now = self._now()
        passed = now - self._since
        if passed >= WINDOW_SECONDS:
            worked = self._worked()
            self._is_busy = worked - self._worked_before > BUSY_SHARE * passed
            self._since, self._worked_before = now, worked
            self._enough = _LINES_SHARE * len(self._lines)
            self._lines.clear()
