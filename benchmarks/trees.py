"""Two trees in one run: `python -m benchmarks trees COMMIT [COMMIT]`, or `make bench-trees`.

Both servers run all the time, each in an environment of its tree, alone on one core, and are loaded
in turn. Then a cluster of each tree is called in turn. Every figure is the second tree's divided by
the first one's: figures of two machines, or of two days, say nothing. A tree that is not named is
the working one. The exit code is 1 if a required ratio is not met; a release runs this.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from benchmarks.cluster import servers_on
from benchmarks.leaving_out import GET
from benchmarks.load import CONNECTIONS, calls_per_second, latencies_at
from benchmarks.main_job import probe
from benchmarks.neighbours import neighbours
from benchmarks.nginx import stub
from benchmarks.processes import cpu_seconds, family, find_program, resident_mb_of_all, two_cpus
from benchmarks.recorder import READ
from benchmarks.required import ON_ANOTHER_SERVER, REQUIRED, is_met
from benchmarks.servers import Server, create_user, opentrail
from benchmarks.wire import percentile
from opentrail.core.errors import UsageError
from tests.postgres import own_server

ROOT = Path(__file__).parent.parent
_CACHE = Path(__file__).parent / ".cache"
#: What is sent, by its name.
CALLS = {"CreateUser": create_user("bench"), "GetItem": READ, "GetObject 4 kB": GET}
ROUNDS, SECONDS, WARM_UP_SECONDS = 10, 2, 2
#: Share of the slower tree's rate at which latency is measured.
_LOAD = 0.5
#: Names of processes in the figures, by what is in their command line.
_PROCESSES = {
    "adapters.duckdb": "history",
    "insights_process": "Insights",
    "recorder_process": "recorder",
    "opentrail serve": "server",
}

Ratios = dict[str, list[float]]


class Tree:
    """A tree and the Python that runs its server.

    Args:
        name: a commit; empty for the working tree.
    """

    def __init__(self, name: str) -> None:
        self.name = name or "working tree"
        self.folder = _extracted(name) if name else ROOT
        self.python = _environment(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its servers."""
        return {"PYTHONPATH": str(self.folder / "src"), "OPENTRAIL_UPSTREAM_CHECK": "off"}

    def serve(self, stack: ExitStack, upstream: int, cpu: int) -> Server:
        """Runs its server in front of a port."""
        return stack.enter_context(
            opentrail(upstream, cpu=cpu, environment=self.environment, python=self.python)
        )

    def serve_cluster(self, stack: ExitStack, upstream: int, url: str) -> list[Server]:
        """Runs a cluster on a database: the server that gives positions, and two others."""
        return stack.enter_context(servers_on(url, upstream, 3, self.environment, self.python))


def _extracted(commit: str) -> Path:
    """Returns a folder with the files of a commit, and the console of the working tree."""
    asked = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise UsageError(f"there is no commit {commit!r}")
    folder = _CACHE / "trees" / asked.stdout.strip()
    if not folder.exists():
        packed = subprocess.check_output(
            ["git", "archive", asked.stdout.strip(), "src", "requirements"], cwd=ROOT
        )
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(folder, filter="data")
        console = Path("src/opentrail/console_static")
        if (ROOT / console).exists():  # its files are built, not committed
            (folder / console).symlink_to(ROOT / console)
    return folder


def _environment(folder: Path) -> str:
    """Returns a Python with what a tree requires: this one, or one that is made the first time."""
    required = (folder / "requirements/release.txt").read_bytes()
    if required == (ROOT / "requirements/release.txt").read_bytes():
        return sys.executable
    environment = _CACHE / "environments" / hashlib.sha256(required).hexdigest()[:16]
    python = environment / "bin" / "python"
    if not python.exists():
        uv = find_program("uv", "make check, which installs it into .venv")
        for arguments in (
            ["venv", "-q", "--clear", "--python", sys.executable, str(environment)],
            [
                "pip",
                "install",
                "-q",
                "--python",
                str(python),
                "-r",
                str(folder / "requirements/release.txt"),
            ],
        ):
            subprocess.run([uv, *arguments], check=True)
    return str(python)


def _cpu(server: Server) -> dict[str, float]:
    """Returns the CPU seconds of the processes of a server, by what they are."""
    used: defaultdict[str, float] = defaultdict(float)
    for pid in family(server.process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = next((n for part, n in _PROCESSES.items() if part in words), "others")
            used[name] += cpu_seconds(pid)
        except OSError:  # a child that has ended
            continue
    return used


def compare(names: Sequence[str]) -> Ratios:
    """Returns the ratios of each round, by what was measured."""
    server_cpu, load_cpu = two_cpus()
    ratios: Ratios = defaultdict(list)
    with ExitStack() as stack:
        upstream = stack.enter_context(stub(load_cpu))
        servers = [Tree(name).serve(stack, upstream, server_cpu) for name in names]
        neighbours.wait_until_at_rest()  # event history opens while calls could already come
        idle = [resident_mb_of_all(server.process.pid) for server in servers]
        ratios["memory, idle"].append(idle[1] / idle[0])
        for request in CALLS.values():
            for server in servers:
                calls_per_second(server.port, request, WARM_UP_SECONDS, load_cpu)
        for number in range(ROUNDS):
            for call, request in CALLS.items():
                _one_round(ratios, servers, call, request, load_cpu, number % 2 == 1)
        loaded = [resident_mb_of_all(server.process.pid) for server in servers]
        ratios["memory, after the load"].append(loaded[1] / loaded[0])
    return ratios


def compare_clusters(names: Sequence[str]) -> list[float]:
    """Returns the ratios of the p50 until a call on one server is visible on another.

    Neither gives positions, and nothing else is recorded: batches of the server that gives
    positions would wake it, and so hide how long others wait.
    """
    ratios = []
    _, load_cpu = two_cpus()
    with ExitStack() as stack:
        try:
            database = stack.enter_context(own_server())
        except pytest.skip.Exception as missing:
            raise UsageError(f"trees measures clusters: {missing}") from None
        upstream = stack.enter_context(stub(load_cpu))
        clusters = [
            Tree(name).serve_cluster(stack, upstream, database.new_database()) for name in names
        ]
        for number in range(-1, ROUNDS):
            p50 = [0.0, 0.0]
            for index in (1, 0) if number % 2 else (0, 1):
                _, called, asked_of = clusters[index]
                seen, _ = probe(called.port, asked_of.port, SECONDS)
                p50[index] = percentile(seen, 0.5)
            if number >= 0:  # the first round warms up
                ratios.append(p50[1] / p50[0])
    return ratios


def _one_round(
    ratios: Ratios,
    servers: Sequence[Server],
    call: str,
    request: bytes,
    load_cpu: int,
    is_reversed: bool,
) -> None:
    """Measures both servers in turn; which is first changes, as a core may become slower."""
    order = (1, 0) if is_reversed else (0, 1)
    rates, used = [0.0, 0.0], [dict[str, float](), dict[str, float]()]
    neighbours.wait_until_at_rest()
    for index in order:
        server = servers[index]
        before = _cpu(server)
        rates[index] = calls_per_second(server.port, request, SECONDS, load_cpu)
        calls = rates[index] * SECONDS
        used[index] = {
            name: (now - before.get(name, 0)) / calls for name, now in _cpu(server).items()
        }
    ratios[f"{call}: calls/s"].append(rates[1] / rates[0])
    totals = [sum(each.values()) for each in used]
    ratios[f"{call}: CPU of a call"].append(totals[1] / totals[0])
    for name in ("server", "history", "Insights"):
        if used[0].get(name, 0) > 0 and name in used[1]:
            ratios[f"{call}: CPU of a call, {name}"].append(used[1][name] / used[0][name])
    times = [[0.0], [0.0]]
    for index in order:
        rate = _LOAD * min(rates)
        times[index] = latencies_at(servers[index].port, request, rate, SECONDS, load_cpu)
    for part, label in ((0.5, "p50"), (0.99, "p99")):
        first, second = (percentile(taken, part) for taken in times)
        ratios[f"{call}: {label} at half load"].append(second / first)


def main(arguments: Sequence[str]) -> None:
    """Prints the median of the ratios of all rounds, and their spread."""
    if not 1 <= len(arguments) <= 2:
        raise UsageError("trees needs one commit to compare the working tree with, or two")
    names = [arguments[0], arguments[1] if len(arguments) == 2 else ""]
    print(f"{names[1] or 'working tree'} / {names[0]}, {ROUNDS} rounds, {CONNECTIONS} connections")
    print(f"  {'':<40} {'median':>7} {'least':>7} {'most':>7}")
    ratios = {ON_ANOTHER_SERVER: compare_clusters(names), **compare(names)}
    for label, found in ratios.items():
        print(f"  {label:<40} {median(found):>7.3f} {min(found):>7.3f} {max(found):>7.3f}")
    if os.getloadavg()[0] > 3:
        print("others kept this machine busy: repeat it when they do not")
    missed = [
        f"{label}: {REQUIRED[label]} is required"
        for label, found in ratios.items()
        if label in REQUIRED and not is_met(label, median(found))
    ]
    if missed:
        sys.exit("\n".join(missed))
