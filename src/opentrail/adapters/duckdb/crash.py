"""Named points of history's own processes: where one dies, the server dies, as in a power cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from opentrail.core.faults import arm


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
