"""Records are written in spare time as long as there is some; everything else takes its turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from opentrail.adapters.duckdb import writers
from opentrail.adapters.duckdb.writers import FEWEST_BYTES, MOST_BYTES, Writers
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous

SPARE, TURNS = "history-spare", "history-writer"


class Clock:
    """Seconds that pass only by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


@contextmanager
def some_writers(now: Callable[[], float] = time.monotonic) -> Iterator[Writers]:
    made = Writers(now)
    yield made
    made.close()


def thread() -> str:
    """Returns the name of the pool whose thread runs this."""
    return threading.current_thread().name.rpartition("_")[0]


@asynchronous
async def test_records_are_written_in_spare_time_unless_they_are_very_few_or_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers, "_LONGEST_WAIT", 60.0)
    with some_writers() as made:
        for size, expected in (
            (0, TURNS),
            (FEWEST_BYTES - 1, TURNS),
            (FEWEST_BYTES, SPARE),
            (MOST_BYTES, SPARE),
            (MOST_BYTES + 1, TURNS),
        ):
            assert await made.write_records(size, thread) == expected, size
        assert await made.write(thread) == TURNS


@asynchronous
async def test_where_others_do_not_leave_the_processor_records_take_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers, "_LONGEST_WAIT", -1.0)  # as if they had not
    with some_writers() as made:
        for _ in range(3):
            assert await made.write_records(MOST_BYTES, thread) == TURNS


@asynchronous
async def test_after_a_slow_write_records_take_their_turn_for_a_while_then_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers, "_LONGEST_WAIT", 60.0)
    clock = Clock()

    def work(seconds: float) -> str:
        clock.seconds += seconds
        return thread()

    with some_writers(clock.now) as made:
        for pause in (10.0, 20.0, 40.0):
            assert await made.write_records(MOST_BYTES, work, 0.3) == SPARE
            clock.seconds += pause - 1
            assert await made.write_records(MOST_BYTES, work, 0.3) == TURNS
            clock.seconds += 1
        assert await made.write_records(MOST_BYTES, work, 0.2) == SPARE
        assert await made.write_records(MOST_BYTES, work, 0.3) == SPARE
        clock.seconds += 10
        assert await made.write_records(MOST_BYTES, work, 0.2) == SPARE


@asynchronous
async def test_what_is_given_comes_to_the_work_and_its_error_back() -> None:
    def fail(reason: str) -> None:
        raise StorageFailed(reason)

    with some_writers() as made:
        for size in (0, MOST_BYTES):
            assert await made.write_records(size, max, 1, 3, 2) == 3
            with pytest.raises(StorageFailed, match="disk full"):
                await made.write_records(size, fail, "disk full")
