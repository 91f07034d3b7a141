"""The machine's clock, memory of a process, turns of its threads and of its children."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.system import (
    BACKGROUND_NICENESS,
    SystemClock,
    prefer_short_turns,
    run_giving_way,
    settle_memory,
    threads_that_give_way,
    unsettle_memory,
)
from tests.fakes import PATIENCE, asynchronous, eventually, turns


def test_the_time_is_the_machines_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def niceness() -> int:
    """Returns that of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_threads_of_the_background_come_after_the_one_that_answers() -> None:
    own = niceness()
    with (
        threads_that_give_way(1, "background") as usual,
        threads_that_give_way(1, "last", 19) as last,
    ):
        assert usual.submit(niceness).result() == min(19, own + BACKGROUND_NICENESS)
        assert last.submit(niceness).result() == 19
    assert niceness() == own


def turn() -> float:
    """Returns the seconds of this thread's turns."""
    attributes = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275, "riscv64": 275}[platform.machine()]  # sched_getattr
    assert not ctypes.CDLL(None).syscall(number, 0, attributes, 48, 0)
    return float(struct.unpack("=IIQiIQQQ", attributes.raw)[5] / 1e9)


VERSION = tuple(int(part) for part in platform.release().split(".")[:2])
has_turns = pytest.mark.skipif(
    VERSION < (6, 12) or platform.machine() not in {"x86_64", "aarch64", "riscv64"},
    reason=f"Linux {platform.release()} on {platform.machine()} has turns of one length",
)


@has_turns
def test_a_thread_can_have_short_turns_and_does_not_pass_them_on() -> None:
    def short() -> tuple[float, float, int]:
        prefer_short_turns(0.0003)
        with ThreadPoolExecutor(1) as started:
            return turn(), started.submit(turn).result(), niceness()

    usual, own = turn(), niceness()
    with threads_that_give_way(1, "background", 3) as background:
        assert background.submit(short).result() == (0.0003, usual, own + 3)
        assert background.submit(short).result() == (0.0003, usual, own + 3)
    assert turn() == usual


@has_turns
def test_what_a_system_cannot_do_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = turn()
    with monkeypatch.context() as patched:
        patched.setattr(platform, "machine", lambda: "another")
        prefer_short_turns(0.0003)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "another")
        prefer_short_turns(0.0003)
    assert turn() == usual


def test_settled_memory_is_not_looked_through() -> None:
    before = gc.get_freeze_count(), gc.get_threshold()
    try:
        settle_memory()
        assert gc.get_freeze_count() > before[0]
        assert gc.get_threshold()[0] > before[1][0]
        unsettle_memory()
        assert gc.get_freeze_count() == 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before[1])


@asynchronous
async def test_a_program_gives_way_from_the_beginning_and_tells_how_it_ended() -> None:
    program = "import os, sys; print(os.nice(0), os.environ['SAID']); sys.exit('no')"
    command = (sys.executable, "-c", program)
    done = await run_giving_way(7, command, {"SAID": "this"})
    assert done.stdout == f"{min(19, niceness() + 7)} this\n".encode()
    assert (done.stderr, done.returncode) == (b"no\n", 1)


@asynchronous
async def test_a_program_lives_as_long_as_it_takes_though_it_ends_with_its_parent() -> None:
    program = (
        "import ctypes, signal, sys, time; ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
        " time.sleep(0.3); print('there')"
    )
    done = await run_giving_way(0, (sys.executable, "-c", program), os.environ)
    assert (done.stdout, done.returncode) == (b"there\n", 0)


@asynchronous
async def test_who_is_no_longer_waited_for_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = (
        "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()}'); time.sleep(600)"
    )
    command = (sys.executable, "-c", program, str(fifo))
    running = asyncio.create_task(run_giving_way(3, command, os.environ))
    pid = int(await asyncio.to_thread(fifo.read_text))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@asynchronous
async def test_who_is_given_up_twice_while_it_starts_is_killed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting, may_start = threading.Event(), threading.Event()
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def slow(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        starting.set()
        may_start.wait(PATIENCE)
        started.append(real(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", slow)
    running = asyncio.create_task(run_giving_way(3, ("sleep", "600"), os.environ))
    await asyncio.to_thread(starting.wait, PATIENCE)
    for _ in range(2):
        running.cancel()
        await turns(3)
    with pytest.raises(asyncio.CancelledError):
        await running
    may_start.set()
    await eventually(lambda: bool(started) and started[0].returncode == -signal.SIGKILL)


@asynchronous
async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await run_giving_way(3, (str(tmp_path / "none"),), os.environ)
