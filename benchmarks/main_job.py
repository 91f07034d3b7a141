"""The main job: added latency, and time to visibility under load."""

from __future__ import annotations

import multiprocessing
import secrets
import time
from collections.abc import Sequence

from benchmarks.nginx import pass_through, stub
from benchmarks.servers import create_user, lookup, opentrail
from benchmarks.wire import Connection, percentile

Figures = dict[str, float]
CALLS = 4_000
RATE, LOAD_SECONDS, PROBES_A_SECOND, CLIENTS = 500, 60, 10, 8


def added_latency() -> Figures:
    """Times calls in turn: no proxy, nginx passing through, opentrail in both modes."""
    with (
        stub() as upstream,
        pass_through(upstream) as passing,
        opentrail(upstream) as refuse,
        opentrail(upstream, "--on-record-failure", "allow") as allow,
    ):
        targets = {
            "direct": Connection(upstream),
            "nginx": Connection(passing),
            "refuse": Connection(refuse.port),
            "allow": Connection(allow.port),
        }
        times: dict[str, list[float]] = {name: [] for name in targets}
        for number in range(CALLS + 200):
            request = create_user(f"user-{number}")
            for name, connection in targets.items():
                taken = connection.timed(request)
                if number >= 200:
                    times[name].append(taken)
    figures: Figures = {}
    for name, values in times.items():
        for part, label in ((0.5, "p50"), (0.99, "p99")):
            figures[f"{name} {label} ms"] = percentile(values, part)
    direct = figures["direct p50 ms"]
    for name in ("nginx", "refuse", "allow"):
        figures[f"added by {name} p50 ms"] = figures[f"{name} p50 ms"] - direct
    figures["refuse / nginx, p50 ratio"] = figures["refuse p50 ms"] / figures["nginx p50 ms"]
    return figures


def visibility(*flags: str) -> Figures:
    """Calls at a steady rate; a prober asks until each of its own calls is found."""
    with stub() as upstream, opentrail(upstream, *flags) as server:
        seen, looks = under_load([server.port])
        memory = server.resident_mb
    return {
        "recorded calls/s": RATE,
        "visible p50 ms": percentile(seen, 0.5),
        "visible p99 ms": percentile(seen, 0.99),
        "look-up p50 ms": percentile(looks, 0.5),
        "look-up p99 ms": percentile(looks, 0.99),
        "probes": len(seen),
        "memory after it MB": memory,
    }


def under_load(
    ports: Sequence[int], calls_a_second: float = RATE
) -> tuple[list[float], list[float]]:
    """Returns what `probe` does, from the first to the last of these servers, under load of all."""
    loads = [
        multiprocessing.Process(
            target=offer, args=(ports[number % len(ports)], calls_a_second / CLIENTS, number)
        )
        for number in range(CLIENTS)
    ]
    for load in loads:
        load.start()
    time.sleep(2)
    seen, looks = probe(ports[0], ports[-1])
    for load in loads:
        load.join()
    if any(load.exitcode for load in loads):
        raise RuntimeError("the load could not be offered")
    return seen, looks


def offer(port: int, rate: float, number: int) -> None:
    """Sends calls at a rate; ends with an error if it falls behind by more than 2 s."""
    connection = Connection(port)
    start = time.perf_counter()
    for count in range(int(rate * LOAD_SECONDS)):
        behind = time.perf_counter() - start - count / rate
        if behind > 2:
            raise SystemExit(1)
        if behind < 0:
            time.sleep(-behind)
        connection.call(create_user(f"load-{number}-{count}"))


def probe(
    called: int, asked_of: int, seconds: float = LOAD_SECONDS - 5
) -> tuple[list[float], list[float]]:
    """Returns the milliseconds from answer to visibility, and those of single look-ups.

    Args:
        called: the port of the server that is called.
        asked_of: the port of the server where each call is looked up.
        seconds: for how long, if each call is visible before the next.
    """
    calls, asks = Connection(called), Connection(asked_of)
    seen, looks = [], []
    run = secrets.token_hex(4)
    for count in range(int(seconds * PROBES_A_SECOND)):
        next_probe = time.perf_counter() + 1 / PROBES_A_SECOND
        name = f"probe-{run}-{count}"
        calls.call(create_user(name))
        answered = time.perf_counter()
        while True:
            asked = time.perf_counter()
            found = name.encode() in asks.call(lookup(name))
            now = time.perf_counter()
            looks.append((now - asked) * 1000)
            if found:
                break
        seen.append((now - answered) * 1000)
        time.sleep(max(0.0, next_probe - time.perf_counter()))
    return seen, looks


BENCHMARKS = {
    "Recorder: added latency, one client": added_latency,
    f"From answer to visible at {RATE} calls/s": visibility,
}
