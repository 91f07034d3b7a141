"""The operating system: its clock, processes and their memory, threads, the disk."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3  # loaded only here, not by commands that query a server

#: Objects created before the garbage collector runs on the youngest generation.
_COLLECT_AFTER = 20_000
#: Maximum descriptors that are requested.
_MAX_DESCRIPTORS = 65_536
#: Niceness of a low-priority thread: it gets a quarter of a shared processor.
_NICENESS = 5


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Returns the current time, aware and UTC."""
        return datetime.now(UTC)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, even if it existed with other permissions."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():  # no pipe or terminal
            os.fchmod(descriptor, 0o600)
        file.write(content)


def cpu_count() -> int:
    """Returns the number of CPUs available to this process; outside Linux, the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def raise_descriptor_limit() -> int:
    """Raises the limit of open files and sockets to the maximum, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(OSError, ValueError):  # macOS has another limit, too
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def sync(descriptor: int) -> None:
    """Returns once a file or folder is on the disk.

    On macOS `fsync` leaves data in the disk's cache; `F_FULLFSYNC` writes them out. File systems
    without it, such as network ones, refuse it.
    """
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, full_sync)
            return
    os.fsync(descriptor)


def read_only_uri(database: Path) -> str:
    """Returns the URI that makes SQLite open a database for reading; its path may have any name."""
    return f"{database.absolute().as_uri()}?mode=ro"


def sync_at_commit(connection: sqlite3.Connection) -> None:
    """Makes a connection return from each commit once it is on the disk, like `sync`."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")


def is_running(process: int) -> bool:
    """Returns whether a process with this id exists, under any user."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def tune_garbage_collection() -> None:
    """Excludes loaded modules from garbage collection, and collects less often.

    A call leaves no cycles behind, so there is little to collect; a full collection would delay
    running calls. It also skips one now, which would take 50 ms and find less than 1 MB.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    gc.enable()


def restore_garbage_collection() -> None:
    """Reverts `tune_garbage_collection` before a process ends; otherwise libraries report leaks."""
    gc.unfreeze()


def low_priority_thread(name: str) -> ThreadPoolExecutor:
    """Returns an executor with one thread of lower priority.

    Niceness is per thread only on Linux; elsewhere the thread has the priority of the process.
    """

    def lower() -> None:
        if sys.platform != "linux":
            return
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness))

    return ThreadPoolExecutor(1, name, lower)
