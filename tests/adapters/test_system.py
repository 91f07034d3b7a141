"""The machine's clock, memory of a process, priority of its threads."""

from __future__ import annotations

import gc
import os
import threading
from datetime import UTC, datetime

import pytest

from opentrail.adapters.system import (
    SystemClock,
    low_priority_thread,
    settle_memory,
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


def test_a_thread_of_low_priority_has_a_higher_niceness() -> None:
    own = niceness()
    with low_priority_thread("background") as thread:
        assert thread.submit(niceness).result() == min(19, own + 5)
    assert niceness() == own


@pytest.mark.slow
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
