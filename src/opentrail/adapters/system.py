"""The operating system: its clock, the memory of a process, the priority of threads."""

from __future__ import annotations

import gc
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

#: Objects created before the garbage collector runs on the youngest generation.
_COLLECT_AFTER = 20_000
#: Maximum descriptors that are requested.
_MAX_DESCRIPTORS = 65_536
#: Niceness of a low-priority thread: it gets a quarter of a processor that it shares with another.
_NICENESS = 5


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Returns the current time, aware and UTC."""
        return datetime.now(UTC)


def raise_descriptor_limit() -> int:
    """Raises the limit of open files and sockets as far as allowed, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    return _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def settle_memory() -> None:
    """Excludes loaded modules from garbage collection, and collects less often.

    A call leaves no cycles behind, so there is little to collect; a full collection would delay
    running calls. There is none now, either: it would take 50 ms and find less than 1 MB.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    gc.enable()


def unsettle_memory() -> None:
    """Reverts `settle_memory` before a process ends; otherwise libraries report leaks."""
    gc.unfreeze()


def low_priority_thread(name: str) -> ThreadPoolExecutor:
    """Returns an executor with one thread of lower priority; on Linux niceness is per thread."""

    def lower() -> None:
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness))

    return ThreadPoolExecutor(1, name, lower)
