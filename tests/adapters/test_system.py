"""The machine's clock, memory of a process, and turns of its threads."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from opentrail.adapters.system import (
    BACKGROUND_NICENESS,
    SystemClock,
    settle_memory,
    take_spare_time,
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
    with threads_that_give_way(1, "background") as background:
        assert background.submit(niceness).result() == min(19, own + BACKGROUND_NICENESS)
    assert niceness() == own


def test_a_thread_can_take_spare_time_alone() -> None:
    def policy() -> int:
        return os.sched_getscheduler(threading.get_native_id())

    own = policy()
    with ThreadPoolExecutor(1, "spare", take_spare_time) as spare:
        assert spare.submit(policy).result() == os.SCHED_IDLE
    assert policy() == own


def test_where_that_is_forbidden_the_thread_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with ThreadPoolExecutor(1, "spare", take_spare_time) as spare:
        assert spare.submit(niceness).result() == 19


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
