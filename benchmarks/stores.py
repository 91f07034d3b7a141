"""What an event data store costs: CPU time for each call, and the calls' latency."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import median

from benchmarks.load import calls_per_second, latencies_at
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import family, two_cpus
from benchmarks.recorder import seconds_until_visible
from benchmarks.servers import Server, create_user, opentrail, post
from benchmarks.wire import Connection, percentile

Figures = dict[str, float]
WARM_UP_SECONDS, SECONDS, ROUNDS = 2, 40, 3
#: Calls per second, of about 1,500 that a core takes.
RATE = 1_000
_CALL = create_user("bench")
_CREATE = post(
    "cloudtrail",
    json.dumps({"Name": "bench"}),
    "application/x-amz-json-1.1",
    "X-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.CreateEventDataStore\r\n",
)


def stores() -> Figures:
    """Loads two servers in turn, one with a store of all management events."""
    server_cpu, load_cpu = two_cpus()
    with (
        stub(load_cpu) as upstream,
        opentrail(upstream, cpu=server_cpu) as storing,
        opentrail(upstream, cpu=server_cpu) as plain,
    ):
        Connection(storing.port).call(_CREATE)
        servers = {"without a store": plain, "with a store": storing}
        seconds, calls = dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0)
        latencies: dict[str, list[list[float]]] = {name: [] for name in servers}
        for server in servers.values():
            calls_per_second(server.port, _CALL, WARM_UP_SECONDS, two_cpus()[1])
            seconds_until_visible(server)
        began = _stored(storing)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                neighbours.wait_until_at_rest()
                position, used = server.positions()[0], _cpu_seconds(server)
                latencies[name].append(latencies_at(server.port, _CALL, RATE, SECONDS, load_cpu))
                seconds_until_visible(server)
                calls[name] += server.positions()[0] - position
                seconds[name] += _cpu_seconds(server) - used
        stored = _stored(storing) - began
    figures: Figures = {"calls/s": RATE, "events stored": stored}
    call, with_store = (seconds[name] / calls[name] * 1e6 for name in servers)
    figures["CPU time of a call, µs"] = call
    # The last events are not in a file yet.
    figures["CPU time of a stored event, µs"] = (with_store - call) * calls["with a store"] / stored
    figures["store / recording, CPU ratio"] = figures["CPU time of a stored event, µs"] / call
    for name in servers:
        for share in (50, 99):
            each = median(percentile(one, share / 100) for one in latencies[name])
            figures[f"{name} p{share} ms"] = each
    p99 = (figures[f"{name} p99 ms"] for name in ("with a store", "without a store"))
    figures["with / without a store, p99 ratio"] = next(p99) / next(p99)
    return figures


def _stored(server: Server) -> int:
    """Returns the last position in the files of the server's store."""
    names = [file.stem.split("-") for file in (server.data / "stores").rglob("*.parquet")]
    return max((int(last) for _, last, *_ in names), default=0)


def _cpu_seconds(server: Server) -> float:
    """Returns the CPU time of a server's processes, with those that have ended."""
    ticks = 0
    for process in family(server.process.pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


BENCHMARKS = {"Store": stores}
