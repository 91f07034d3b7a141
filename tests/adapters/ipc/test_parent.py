"""Children that end with their parent, and their children too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes import TIMEOUT_SECONDS

# Prints its process id, and starts a child that does the same, until COUNT of them run. Then all of
# them are busy: their main threads never wait.
FAMILY = """
import os, subprocess, sys
from opentrail.adapters.ipc.parent import end_with_parent
program, place, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if place:
    end_with_parent()
print(os.getpid(), flush=True)
if place + 1 < count:
    arguments = [program, str(place + 1), str(count)]
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE)
while True:
    pass
"""

pytestmark = pytest.mark.anomaly


@contextmanager
def family(count: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Yields a process and the ids of its descendants, in order."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY, FAMILY, "0", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    try:
        first, *others = [int(process.stdout.readline()) for _ in range(count)]
        assert first == process.pid
        yield process, others
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


def wait_until_all_ended(process: subprocess.Popen[str]) -> None:
    """Returns once every process has closed the inherited output."""
    process.communicate(timeout=TIMEOUT_SECONDS)


def test_busy_descendants_of_a_killed_process_end() -> None:
    with family(3) as (process, _):
        process.kill()
        wait_until_all_ended(process)


def test_a_child_ends_only_with_its_parent() -> None:
    with family(3) as (process, (child, _)):
        os.kill(child, signal.SIGKILL)
        assert process.poll() is None


def test_a_stopped_child_ends_when_it_is_continued() -> None:
    with family(2) as (process, (child,)):
        os.kill(child, signal.SIGSTOP)
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        os.kill(child, signal.SIGCONT)
        wait_until_all_ended(process)


def test_a_child_without_parent_does_nothing() -> None:
    program = (
        "from opentrail.adapters.ipc.parent import end_with_parent; end_with_parent(); print()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_a_command_runs_as_a_bound_child() -> None:
    command = [sys.executable, "-m", "opentrail.adapters.ipc.parent", "version"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read().startswith(b"opentrail ")
        assert child.wait(TIMEOUT_SECONDS) == 0
    gone = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (gone.returncode, gone.stdout) == (-signal.SIGKILL, b"")
