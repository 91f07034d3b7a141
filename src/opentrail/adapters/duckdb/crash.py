"""How history's own processes end: with their parents, and at named points with the server."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from opentrail.core.faults import arm

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Has the system kill this process when its parent is gone, so that no two do its work.

    Linux takes the thread that started it for the parent.

    Args:
        parent: the process id of who started this one, which may be gone already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def arm_in_child(names: Iterable[str], family: Iterable[int]) -> None:
    """Arms the point that `OPENTRAIL_CRASH_AT` tells, for tests, if it is one of these.

    Args:
        names: points of this process.
        family: this process and those between it and the server, which dies first.
    """
    name, _, count = os.environ.get("OPENTRAIL_CRASH_AT", "").partition(":")
    if name not in names:
        return
    processes = list(family)

    def die() -> None:
        for process in (_parent_of(processes[-1]), *reversed(processes)):
            os.kill(process, signal.SIGKILL)

    arm(name, int(count or "1"), die)


def _parent_of(process: int) -> int:
    stat = Path(f"/proc/{process}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])
