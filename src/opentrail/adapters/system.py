"""The operating system: its clock, memory of a process, turns of threads and of children."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import platform
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

#: Objects that may be made before a collection looks through the youngest.
_COLLECT_AFTER = 20_000
#: More open files and sockets than this are not asked for.
_MOST_DESCRIPTORS = 65_536
#: How much later threads of the background get their turn (19 is the latest).
BACKGROUND_NICENESS = 5
#: Seconds of the turns of a thread that answers calls.
LOOP_TURN = 0.0005
#: The number of Linux's `sched_setattr`, by machine: neither Python nor each C library knows it.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_RESET_ON_FORK = 1


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


def prefer_short_turns(seconds: float) -> None:
    """Has this thread go on as soon as it wakes up, for so long at a time (at least 0.0001).

    From 6.12 on Linux lets a thread that wakes up go before one with longer turns. Else it may wait
    for a tick of the scheduler, of which there are 250 a second on most machines. On another system
    this has no effect. Threads and processes that this one starts have the usual turns.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    # struct sched_attr: size, policy, flags, niceness, priority, runtime in ns, deadline, period.
    wanted = (48, os.SCHED_OTHER, _RESET_ON_FORK, niceness, 0, round(seconds * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, struct.pack("=IIQiIQQQ", *wanted), 0)


def _give_way(niceness: int) -> None:
    """Lets other threads go before this one, where they share a processor.

    On Linux each thread has a niceness of its own; it can be raised by anybody.
    """
    thread = threading.get_native_id()
    now = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, min(19, now + niceness))


def threads_that_give_way(
    most: int, name: str, niceness: int = BACKGROUND_NICENESS
) -> ThreadPoolExecutor:
    """Returns up to `most` threads for work that calls under way go before.

    A thread of the same niceness would hold the processor for some milliseconds each time, while
    the one that answers calls waits for its turn, or for Python's lock.
    """
    return ThreadPoolExecutor(most, name, partial(_give_way, niceness))


async def run_giving_way(
    niceness: int, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program that calls under way go before from its first moment on.

    It has the niceness of the thread that starts it. A program that lowers its priority itself has
    taken tenths of a second by then to load what it needs, for which calls wait; and a process that
    forks pays for all its memory, while `subprocess` lends it to the child.

    Args:
        niceness: of the program.
        command: the program and its arguments.
        environment: its variables.

    Returns:
        How it ended, and what it told. If this is cancelled, that is raised once it has ended.
    """
    children: list[subprocess.Popen[bytes]] = []
    is_given_up = threading.Event()
    pipe = subprocess.PIPE

    def run() -> subprocess.CompletedProcess[bytes]:
        child = subprocess.Popen(  # noqa: S603 - our own programs
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment
        )
        children.append(child)
        try:
            if is_given_up.is_set():
                child.kill()
            told, complaint = child.communicate()
        except BaseException:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(command, child.returncode, told, complaint)

    # The thread lives as long as the child: Linux takes it for the child's parent.
    threads = threads_that_give_way(1, "child", niceness)
    done = asyncio.get_running_loop().run_in_executor(threads, run)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        is_given_up.set()
        for child in children:
            child.kill()
        await asyncio.wait([done])
        done.exception()  # it is of no use to anybody
        raise
    finally:
        threads.shutdown(wait=False)
