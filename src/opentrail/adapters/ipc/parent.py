"""Ends a child process with its parent, even if the parent was killed.

The child's standard input is a pipe, and only the parent holds its other end: it starts the child
with `stdin=PIPE`, and never closes it. The system closes it when the parent ends.

python -m opentrail.adapters.ipc.parent ARGUMENT…

runs `opentrail ARGUMENT…` as such a child.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import select
import signal
import sys
import threading
from collections.abc import Callable

_STDIN = 0
#: From Linux's `sys/prctl.h`.
_PR_SET_PDEATHSIG = 1


def _ignore(_content: bytes) -> None:
    """Does nothing."""


def wait_for_end_of_parent(received: Callable[[bytes], None] = _ignore) -> None:
    """Returns when the parent has ended, or has closed the pipe.

    Args:
        received: called with the parent's output.
    """
    while content := os.read(_STDIN, 1024):
        received(content)


def end_with_parent(
    *, may_be_stopped: bool = False, received: Callable[[bytes], None] | None = None
) -> None:
    """Kills this process when its parent ends, from a waiting thread.

    The thread runs whatever the main thread does, except during a call into C that holds the
    interpreter's lock: the process then ends after that call. DuckDB, SQLite, NumPy and zlib
    release the lock for long work. A stopped process (SIGSTOP) ends when it is continued.

    If the parent has already ended, the process ends before this returns.

    Args:
        may_be_stopped: whether Linux also ends it while it is stopped. The thread that started it
            must live as long as the parent.
        received: called in the waiting thread with the parent's output; None: there is none.
    """
    if may_be_stopped and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if received is None and select.select([_STDIN], [], [], 0)[0]:  # the end of the pipe
        _kill_when_parent_ends()
    arguments = (received or _ignore,)
    threading.Thread(
        target=_kill_when_parent_ends, args=arguments, name="parent", daemon=True
    ).start()


def _kill_when_parent_ends(received: Callable[[bytes], None] = _ignore) -> None:
    wait_for_end_of_parent(received)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    end_with_parent()
    runpy.run_module("opentrail", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
