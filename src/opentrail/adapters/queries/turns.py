"""Turns: only some of the processes run at a time, so that the rest of the machine stays fast."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Seconds of a turn.
TURN = 0.25
#: Turns that a new process has before others that run for long.
HEAD_START = 4


class Turns:
    """Lets up to `at_once` processes run, least-run processes first, and stops the others.

    A new process starts within a turn and runs for a second, whatever the others do. Each process
    must end with its parent even while it is stopped. Where the system has no pidfd, all run.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        #: File descriptor of a process → turns that it has had.
        self._had: dict[int, int] = {}
        self._stopped: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def member(self, pid: int) -> Iterator[None]:
        """Includes a child process, before anything waits for its end."""
        process = _descriptor(pid)
        if process is None:
            yield
            return
        self._had[process] = min(self._had.values(), default=0) - HEAD_START
        if self._task is None and len(self._had) > self._at_once:
            self._task = asyncio.create_task(self._take_turns())
        try:
            yield
        finally:
            del self._had[process]
            self._go_on(process)
            os.close(process)

    async def _take_turns(self) -> None:
        while len(self._had) > self._at_once:
            order = sorted(self._had, key=self._had.__getitem__)
            for process in order[: self._at_once]:
                self._had[process] += 1
                self._go_on(process)
            for process in order[self._at_once :]:
                self._stop(process)
            await asyncio.sleep(TURN)
        self._task = None
        for process in list(self._stopped):
            self._go_on(process)

    def _stop(self, process: int) -> None:
        if process not in self._stopped:
            self._stopped.add(process)
            _signal(process, signal.SIGSTOP)

    def _go_on(self, process: int) -> None:
        if process in self._stopped:
            self._stopped.discard(process)
            _signal(process, signal.SIGCONT)


def free_cores() -> int:
    """Returns the number of processes that may run while one core stays free for the server."""
    return max(1, len(os.sched_getaffinity(0)) - 1) if sys.platform == "linux" else 1


def _descriptor(pid: int) -> int | None:
    """Returns a file descriptor of a process; None if the system has none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox that forbids it
        return None


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended
        signal.pidfd_send_signal(process, number)
