"""The operating system: its clock, the memory of a process, the priority of threads."""

from __future__ import annotations

import gc
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

#: Objects that may be made before a collection looks through the youngest.
_COLLECT_AFTER = 20_000
#: More open files and sockets than this are not asked for.
_MOST_DESCRIPTORS = 65_536
#: Niceness of a thread of low priority: it gets a quarter of a processor that another one wants.
_NICENESS = 5


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Returns the present time, aware and UTC."""
        return datetime.now(UTC)


def descriptor_limit() -> int:
    """Returns how many files and sockets this process may have open, after asking for more.

    Only the hard limit, or a bound above any need, stops it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def settle_memory() -> None:
    """Spares collections of garbage what is loaded for good, and has them come less often.

    A call leaves no cycles behind, so little is found; each look through all objects would be felt
    by the calls under way.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


def unsettle_memory() -> None:
    """Undoes that before a process ends; else libraries complain of leaks."""
    gc.unfreeze()


def low_priority_thread(name: str) -> ThreadPoolExecutor:
    """Returns a thread that gives way to others where they share a processor.

    On Linux each thread has a niceness of its own.
    """

    def lower() -> None:
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness))

    return ThreadPoolExecutor(1, name, lower)
