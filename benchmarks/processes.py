"""Processes under measurement: where they run, when they are ready, what they use."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from opentrail.core.errors import UsageError

_SAMPLE_SECONDS = 0.01
_cpus: list[int] = []


def find_program(name: str, how_to_install: str) -> str:
    """Returns a program's path: beside this Python, in the PATH or among the system's.

    Raises:
        UsageError: it is not there.
    """
    beside = str(Path(sys.executable).parent)
    for places in (beside, None, "/usr/sbin"):
        found = shutil.which(name, path=places)
        if found is not None:
            return found
    raise UsageError(f"the benchmarks need {name}: {how_to_install}")


def two_cpus() -> tuple[int, int]:
    """Returns the CPU of the server that is measured, and the one of load and upstream.

    Raises:
        UsageError: there is only one.
    """
    if not _cpus:
        _cpus.extend(sorted(os.sched_getaffinity(0))[:2])
    if len(_cpus) < 2:
        raise UsageError("the benchmarks need two CPUs: one for the server, one for its load")
    return _cpus[0], _cpus[1]


def swap_cpus() -> None:
    """Has the processes that were launched on one of the two CPUs go on on the other."""
    server, load = two_cpus()
    other = {frozenset({server}): {load}, frozenset({load}): {server}}
    for process in family(os.getpid()):
        for task in Path(f"/proc/{process}/task").glob("*"):
            thread = int(task.name)
            try:
                pinned = frozenset(os.sched_getaffinity(thread))
                if pinned in other:
                    os.sched_setaffinity(thread, other[pinned])
            except ProcessLookupError:  # it has ended
                continue
    _cpus.reverse()


def launch(command: Sequence[str], cpu: int | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Starts a process, pinned to a CPU from its first thread on."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        return subprocess.Popen(command, **options)
    finally:
        os.sched_setaffinity(0, before)


def stop(child: subprocess.Popen[Any], seconds: float = 20.0) -> None:
    """Ends a process that was started here."""
    child.terminate()
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(seconds)


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 10.0) -> None:
    """Returns once somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nobody listens on port {port}")


def resident_mb(pid: int) -> float:
    """Returns the resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Returns a process and all that descend from it."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found


def resident_mb_of_all(pid: int) -> float:
    """Returns the resident memory of a process and its descendants, in MB."""
    total = 0.0
    for process in family(pid):
        try:
            total += resident_mb(process)
        except (OSError, IndexError):
            continue
    return total


def proportional_mb_of_all(pid: int) -> float:
    """Returns the memory of a process and its descendants, in MB; what they share counts once."""
    total = 0
    for process in family(pid):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += int(text.split("\nPss:")[1].split()[0])
    return total / 1024


class MemoryWatch:
    """Looks at resident memory all the time, from a thread.

    Args:
        pid: whose.
        measure: of the process alone, or also of those that descend from it.
        seconds: between two looks.
    """

    def __init__(
        self,
        pid: int,
        measure: Callable[[int], float] = resident_mb,
        seconds: float = _SAMPLE_SECONDS,
    ) -> None:
        self._pid = pid
        self._measure = measure
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = self.most = measure(pid)

    @property
    def growth_mb(self) -> float:
        """The maximum minus what there was before."""
        return self.most - self.before

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self.most = max(self.most, self._measure(self._pid))


def busy_cpus(seconds: float = 1.0) -> float:
    """Returns how many CPUs the whole machine keeps busy now, before we do anything."""
    idle, total = _ticks()
    time.sleep(seconds)
    idle_then, total_then = _ticks()
    spent = total_then - total
    return (os.cpu_count() or 1) * (1 - (idle_then - idle) / spent) if spent else 0.0


def _ticks() -> tuple[int, int]:
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return ticks[3] + ticks[4], sum(ticks)
