"""The machine's clock, memory of a process, and turns of its threads."""

from __future__ import annotations

import gc
import os
import threading
from datetime import UTC, datetime

from opentrail.adapters.system import (
    BACKGROUND_NICENESS,
    SystemClock,
    settle_memory,
    threads_that_give_way,
    unsettle_memory,
)


def test_the_time_is_the_machines_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_threads_of_the_background_come_after_the_one_that_answers() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with (
        threads_that_give_way(1, "background") as usual,
        threads_that_give_way(1, "last", 19) as last,
    ):
        assert usual.submit(niceness).result() == min(19, own + BACKGROUND_NICENESS)
        assert last.submit(niceness).result() == 19
    assert niceness() == own


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
