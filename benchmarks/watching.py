"""What Insights costs those who record: calls a second, and time to visibility."""

from __future__ import annotations

from statistics import median

from benchmarks.load import calls_per_second
from benchmarks.main_job import visibility
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import two_cpus
from benchmarks.recorder import seconds_until_visible
from benchmarks.servers import create_user, opentrail

Figures = dict[str, float]
WARM_UP_SECONDS, SECONDS, ROUNDS = 2, 8, 5
_CALL = create_user("bench")
_SETTINGS = ("off", "on")


def watching() -> Figures:
    """Loads two servers in turn, each alone on one core; then asks both for what is new."""
    server_cpu, load_cpu = two_cpus()
    rounds: dict[str, list[float]] = {setting: [] for setting in _SETTINGS}
    with (
        stub(load_cpu) as upstream,
        opentrail(upstream, "--insights", "off", cpu=server_cpu) as off,
        opentrail(upstream, "--insights", "on", cpu=server_cpu) as on,
    ):
        servers = dict(zip(_SETTINGS, (off, on), strict=True))
        for server in servers.values():
            calls_per_second(server.port, _CALL, WARM_UP_SECONDS, load_cpu)
            seconds_until_visible(server)
        for _ in range(ROUNDS):
            for setting, server in servers.items():
                neighbours.wait_until_at_rest()
                rate = calls_per_second(server.port, _CALL, SECONDS, load_cpu)
                rounds[setting].append(rate)
                seconds_until_visible(server)
    figures = {f"Insights {setting}: calls/s": median(rounds[setting]) for setting in _SETTINGS}
    for setting in _SETTINGS:
        seen = visibility("--insights", setting)
        for part in ("p50", "p99"):
            figures[f"Insights {setting}: visible {part} ms"] = seen[f"visible {part} ms"]
    for label in ("calls/s", "visible p99 ms"):
        ratio = figures[f"Insights on: {label}"] / figures[f"Insights off: {label}"]
        figures[f"Insights on / off, {label} ratio"] = ratio
    return figures


BENCHMARKS = {"Recorder: with Insights and without": watching}
