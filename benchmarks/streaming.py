"""1 GB up and 1 GB down through the endpoint: how fast, and in how much memory."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.bulk import get_object, put_object, upstream
from benchmarks.nginx import pass_through
from benchmarks.processes import MemoryWatch, two_cpus
from benchmarks.servers import opentrail

Figures = dict[str, float]
GIGABYTE = 1_000_000_000
ROUNDS = 3
_DIRECTIONS: dict[str, Callable[[int, int], None]] = {"up": put_object, "down": get_object}


def streaming() -> Figures:
    """Streams to the upstream itself, through nginx and through opentrail, each on one core."""
    server_cpu, load_cpu = two_cpus()
    usable = os.sched_getaffinity(0)
    figures: Figures = {}
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(GIGABYTE, load_cpu))
        nginx = stack.enter_context(pass_through(direct, server_cpu))
        server = stack.enter_context(opentrail(direct, cpu=server_cpu))
        os.sched_setaffinity(0, {load_cpu})
        stack.callback(os.sched_setaffinity, 0, usable)
        # What a first call makes once and for all is no growth.
        put_object(server.port, 1_000)
        for direction, stream in _DIRECTIONS.items():
            for name, port in (("direct", direct), ("nginx", nginx)):
                figures[f"{name} {direction} MB/s"] = _speed(stream, port)
            with MemoryWatch(server.process.pid) as memory:
                figures[f"opentrail {direction} MB/s"] = _speed(stream, server.port)
            figures[f"opentrail {direction} memory before MB"] = memory.before
            figures[f"opentrail {direction} memory growth MB"] = memory.growth_mb
            ratio = figures[f"opentrail {direction} MB/s"] / figures[f"nginx {direction} MB/s"]
            figures[f"opentrail / nginx {direction}, ratio"] = ratio
        expected = 1 + ROUNDS * len(_DIRECTIONS)
        if server.records() != expected:
            raise RuntimeError(f"{expected} calls, but {server.records()} records")
    return figures


def _speed(stream: Callable[[int, int], None], port: int) -> float:
    """Returns the median of some rounds, in MB/s."""
    speeds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        stream(port, GIGABYTE)
        speeds.append(GIGABYTE / 1e6 / (time.perf_counter() - started))
    return statistics.median(speeds)


BENCHMARKS = {"Recorder: 1 GB streamed up and down": streaming}
