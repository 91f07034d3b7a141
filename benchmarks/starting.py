"""What a start costs, against one that would load every service model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from benchmarks.load import latencies_at
from benchmarks.nginx import stub
from benchmarks.processes import proportional_mb_of_all, two_cpus
from benchmarks.servers import create_user, opentrail

Figures = dict[str, float]
ROUNDS = 5
_CALLS_A_SECOND, _SECONDS_OF_CALLS = 1000, 14
_ALL_MODELS = """
import json, os, time
import opentrail.app.server
from opentrail.wire.service_models import ServiceCatalog
from benchmarks.processes import resident_mb
before, started = resident_mb(os.getpid()), time.perf_counter()
catalog = ServiceCatalog()
models = [service.model for service in catalog.services.values()]
seconds = time.perf_counter() - started
print(json.dumps([len(models), seconds, resident_mb(os.getpid()) - before]))
"""


def start_and_memory() -> Figures:
    """Starts some times; memory after a second of rest, and of calls; all models in a process."""
    times, memory = [], []
    for _ in range(ROUNDS):
        with stub() as upstream, opentrail(upstream) as server:
            times.append(server.seconds_to_ready)
            time.sleep(1)
            memory.append(proportional_mb_of_all(server.process.pid))
    with stub() as upstream, opentrail(upstream) as server:
        call, rate = create_user("bench"), _CALLS_A_SECOND
        latencies_at(server.port, call, rate, _SECONDS_OF_CALLS, two_cpus()[1])
        time.sleep(1)
        after_calls = proportional_mb_of_all(server.process.pid)
    services, seconds, grown = _all_models()
    return {
        "start to ready, median s": statistics.median(times),
        "start to ready, worst s": max(times),
        "idle memory of all processes (PSS), median MB": statistics.median(memory),
        f"the same after {rate * _SECONDS_OF_CALLS:,} calls of CreateUser, MB": after_calls,
        f"loading all {services:.0f} service models would take s": seconds,
        "and as much more memory, MB": grown,
    }


def _all_models() -> tuple[float, float, float]:
    """Returns how many models there are, and seconds and MB of loading them all."""
    told = subprocess.run(
        [sys.executable, "-c", _ALL_MODELS], stdout=subprocess.PIPE, check=True, timeout=120
    )
    services, seconds, grown = json.loads(told.stdout)
    return services, seconds, grown


BENCHMARKS = {"Recorder: start and idle memory": start_and_memory}
