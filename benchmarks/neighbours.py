"""Whether others slow these CPUs down: neighbours of a virtual machine, whom no load shows."""

from __future__ import annotations

import os
import time

from benchmarks.processes import swap_cpus, two_cpus
from benchmarks.wire import percentile

#: A loop that takes so many times as long as at best has been slowed down: two threads that share a
#: core take about 1.8 times as long as either alone. (The same core is up to 1.4 times slower when
#: all others are busy, which lasts for minutes.)
_SLOWED = 1.5
#: A few loops are faster than any CPU stays: this share of them does not count.
_LUCKY = 0.1
_LOOPS = 40_000
_LOOK_SECONDS, _REST_SECONDS = 0.5, 2.0
#: Up to this share of slowed loops a CPU counts as left alone.
_FEW = 0.1


class Neighbours:
    """Watches how long one and the same loop takes on the CPUs of this process.

    `waits` tells how often somebody waited here, `in_vain` how often the neighbours did not rest.
    """

    def __init__(self) -> None:
        self._fast = float("inf")
        self.waits = self.in_vain = 0

    def wait_until_at_rest(self, both: bool = False, limit_seconds: float = 60.0) -> float:
        """Waits until hardly anything slows down the server's CPU, or for so long.

        The server and its load change places when the load's CPU is at rest and the server's
        is not (see `two_cpus`).

        Args:
            both: the load's CPU must be at rest, too.
            limit_seconds: for which to wait at most.

        Returns:
            The share (0 to 1) of the last loops that were slowed down, on the CPU waited for.
        """
        self.waits += 1
        end = time.monotonic() + limit_seconds
        while True:
            server, load = (self._slowed_share(cpu) for cpu in two_cpus())
            if server > _FEW >= load:
                swap_cpus()
                server, load = load, server
            share = max(server, load) if both else server
            if share <= _FEW:
                return share
            if time.monotonic() > end:
                self.in_vain += 1
                return share
            time.sleep(_REST_SECONDS)

    def _slowed_share(self, cpu: int) -> float:
        usable = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpu})
        try:
            times = []
            end = time.monotonic() + _LOOK_SECONDS
            while time.monotonic() < end:
                times.append(_loop_seconds())
        finally:
            os.sched_setaffinity(0, usable)
        self._fast = min(self._fast, percentile(times, _LUCKY))
        return sum(seconds > self._fast * _SLOWED for seconds in times) / len(times)


def _loop_seconds() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(_LOOPS):
        total += number
    return time.perf_counter() - started


neighbours = Neighbours()
