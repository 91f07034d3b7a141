"""The machine's clock, memory of a process, and turns of its threads."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from opentrail.adapters.system import (
    BACKGROUND_NICENESS,
    SystemClock,
    prefer_short_turns,
    settle_memory,
    threads_that_give_way,
    unsettle_memory,
)


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
