"""Child processes: started, watched, replaced, and killed at crash points with the server."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.fakes import TIMEOUT_SECONDS

# A server that starts a history process, which starts a child that reaches the point.
SERVER = """
import subprocess, sys
sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]]).returncode)
"""
HISTORY = """
import subprocess, sys
from opentrail.adapters.ipc.child import arm_in_child
arm_in_child(("history.merged",))
print(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
"""
CHILD = """
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.core.faults import crash_point
arm_in_child(("history.sealed",))
crash_point("history.sealed")
crash_point("history.sealed")
print("survived")
"""


def run(point: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SERVER, HISTORY, CHILD],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={"OPENTRAIL_CRASH_AT": point, "PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.slow
def test_the_whole_family_dies_at_the_point_that_is_armed() -> None:
    done = run("history.sealed:2")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""


@pytest.mark.slow
def test_other_crash_points_do_not_kill_the_process() -> None:
    done = run("journal.committed:1")
    assert done.returncode == 0
    assert done.stdout == "survived\n0\n"
