"""What sealing of event history costs calls under way: their latency with it and without."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from benchmarks.load import calls_per_second, latencies_at
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import family, two_cpus
from benchmarks.recorder import seconds_until_visible
from benchmarks.servers import Server, create_user, opentrail
from benchmarks.wire import percentile

Figures = dict[str, float]
WARM_UP_SECONDS, SECONDS, ROUNDS = 2, 5, 6
#: A file of so many records is sealed every few seconds, instead of every forty (120,000).
SEAL_RECORDS, NEVER = 10_000, 10**8
_CALL = create_user("bench")
_IDLE_SECONDS = 60.0


def sealing() -> Figures:
    """Loads two servers in turn, at half of what one takes, each alone on one core."""
    server_cpu, load_cpu = two_cpus()
    often, never = (("--history-seal-records", str(count)) for count in (SEAL_RECORDS, NEVER))
    with (
        stub(load_cpu) as upstream,
        opentrail(upstream, *often, cpu=server_cpu) as sealed,
        opentrail(upstream, *never, cpu=server_cpu) as plain,
    ):
        servers = {"without sealing": plain, "with sealing": sealed}
        for server in servers.values():
            calls_per_second(server.port, _CALL, WARM_UP_SECONDS, two_cpus()[1])
            _wait_until_idle(server)
        rate = calls_per_second(plain.port, _CALL, SECONDS, two_cpus()[1]) / 2
        _wait_until_idle(plain)
        before = _sealed_until(sealed)
        rounds: dict[str, list[list[float]]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            for name, server in servers.items():
                neighbours.wait_until_at_rest()
                taken = latencies_at(server.port, _CALL, rate, SECONDS, two_cpus()[1])
                rounds[name].append(taken)
                _wait_until_idle(server)
        files = (_sealed_until(sealed) - before) / SEAL_RECORDS
    if files < ROUNDS:
        raise RuntimeError(f"only {files} files were sealed in {ROUNDS} rounds")
    figures = {"calls/s": rate, "files sealed in all rounds": files}
    for name, each in rounds.items():
        for share in (50, 90, 99):
            figures[f"{name} p{share} ms"] = median(percentile(one, share / 100) for one in each)
    ratio = figures["with sealing p99 ms"] / figures["without sealing p99 ms"]
    return {**figures, "with / without sealing, p99 ratio": ratio}


def _sealed_until(server: Server) -> int:
    """Returns the last position that a sealed file's name tells."""
    names = [file.stem.split("-") for file in (server.data / "history").glob("*.duckdb")]
    return max((int(last) for _, last, *_ in names), default=0)


def _wait_until_idle(server: Server) -> None:
    """Returns once everything is visible and no child of history is at work."""
    seconds_until_visible(server)
    end = time.monotonic() + _IDLE_SECONDS
    while any(map(_seals, family(server.process.pid))):
        if time.monotonic() > end:
            raise TimeoutError("history is not at rest")
        time.sleep(0.05)


def _seals(process: int) -> bool:
    try:
        return b"opentrail.adapters.duckdb.seal" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


BENCHMARKS = {"Recorder: latency while history is sealed": sealing}
