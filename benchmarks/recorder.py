"""What one core records: calls a second, and their latency at half of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

from benchmarks.load import CONNECTIONS, calls_per_second, latencies_at
from benchmarks.mitmproxy import mitmproxy
from benchmarks.neighbours import neighbours
from benchmarks.nginx import answered_by, pass_through, stub
from benchmarks.processes import cpu_seconds, family, two_cpus
from benchmarks.servers import Server, create_user, opentrail, post
from benchmarks.wire import percentile

Figures = dict[str, float]
Measured = TypeVar("Measured")
WARM_UP_SECONDS, SECONDS, ROUNDS = 2, 10, 3
_VISIBLE_SECONDS = 60.0
_CALL = create_user("bench")
#: A call that only reads: most calls do, and their answers are not recorded.
READ = post(
    "dynamodb",
    '{"TableName":"bench","Key":{"id":{"S":"x"}}}',
    "application/x-amz-json-1.0",
    "X-Amz-Target: DynamoDB_20120810.GetItem\r\n",
)


def throughput() -> Figures:
    """Loads opentrail in both modes, nginx and mitmproxy, each alone on one core."""
    figures: Figures = {}
    waits, in_vain = neighbours.waits, neighbours.in_vain
    with stub(_load_cpu()) as upstream:
        for mode in ("refuse", "allow"):
            flags = ("--on-record-failure", mode)
            with opentrail(upstream, *flags, cpu=_server_cpu()) as server:
                figures |= _recorded(mode, server, upstream)
        with opentrail(upstream, cpu=_server_cpu()) as server:
            figures["refuse calls/s, GetItem"] = _load(server.port, READ)
        with pass_through(upstream, _server_cpu()) as port:
            figures["nginx calls/s"] = _load(port)
            # At the rates of opentrail, to tell the server's share from that of the machine.
            figures |= _latency("nginx at half of refuse's", port, figures["refuse calls/s"] / 2)
        with mitmproxy(upstream, _server_cpu()) as (port, flows):
            figures["mitmproxy calls/s"] = _load(port)
            figures |= _latency("mitmproxy at half load", port, figures["mitmproxy calls/s"] / 2)
            if not flows.stat().st_size:
                raise RuntimeError("mitmproxy recorded nothing")
    for mode in ("refuse", "allow"):
        for other in ("nginx", "mitmproxy"):
            ratio = figures[f"{mode} calls/s"] / figures[f"{other} calls/s"]
            figures[f"{mode} / {other}, ratio"] = ratio
    figures["rounds"] = neighbours.waits - waits
    figures["rounds while neighbours were busy"] = neighbours.in_vain - in_vain
    return figures


def _recorded(mode: str, server: Server, upstream: int) -> Figures:
    """Loads an opentrail; every call that reached the upstream must be recorded, and found."""
    before, used = answered_by(upstream), _cpu_seconds(server)
    rate = _load(server.port)
    visible = seconds_until_visible(server)
    used = _cpu_seconds(server) - used
    figures = {
        f"{mode} calls/s": rate,
        # Tells what the core could do if others were using it, too.
        f"{mode} CPU us a call": used / server.positions()[0] * 1e6,
        f"{mode} s from last answer to all visible": visible,
        **_latency(f"{mode} at half load", server.port, rate / 2),
    }
    seconds_until_visible(server)
    reached = answered_by(upstream) - before - 1
    position, _ = server.positions()
    if not reached == position == server.records():
        raise RuntimeError(f"{reached} calls, but {position} or {server.records()} records")
    return {**figures, f"{mode} calls, each recorded": reached}


def _cpu_seconds(server: Server) -> float:
    return sum(cpu_seconds(process) for process in family(server.process.pid))


def _load(port: int, call: bytes = _CALL) -> float:
    calls_per_second(port, call, WARM_UP_SECONDS, _load_cpu())
    return median(_rounds(lambda: calls_per_second(port, call, SECONDS, _load_cpu())))


def _latency(name: str, port: int, rate: float) -> Figures:
    rounds = _rounds(lambda: latencies_at(port, _CALL, rate, SECONDS, _load_cpu()))
    p99s = sorted(percentile(taken, 0.99) for taken in rounds)
    return {
        f"{name} p50 ms": median(percentile(taken, 0.5) for taken in rounds),
        f"{name} p99 ms": median(p99s),
        f"{name} p99 ms, worst round": p99s[-1],
    }


def _server_cpu() -> int:
    return two_cpus()[0]


def _load_cpu() -> int:
    return two_cpus()[1]


def _rounds(measure: Callable[[], Measured]) -> list[Measured]:
    """Measures again and again, each time once nobody else slows the server down."""
    measured = []
    for _ in range(ROUNDS):
        neighbours.wait_until_at_rest()
        measured.append(measure())
    return measured


def seconds_until_visible(server: Server) -> float:
    """Returns how long the event history took to show all that the journal holds."""
    started = time.perf_counter()
    settled = (-1, -1)
    seen = longest = 0.0
    while time.perf_counter() - started < _VISIBLE_SECONDS:
        longest = max(longest, time.perf_counter() - started - seen)
        seen = time.perf_counter() - started
        journal, history = now = server.positions()
        if journal == history and now == settled:
            return seen
        settled = now
        time.sleep(0.05)
    longest = max(longest, time.perf_counter() - started - seen)
    raise TimeoutError(
        f"the event history does not catch up: journal and history are at {settled}; the longest "
        f"time between two looks was {longest:.1f} s"
    )


BENCHMARKS = {
    f"Recorder: calls on one core, {CONNECTIONS} connections": throughput,
}
