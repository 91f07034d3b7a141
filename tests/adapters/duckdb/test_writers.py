"""Records are written patiently unless there are many of them, or others need the processor."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from opentrail.adapters.duckdb.writers import MOST_BYTES, Writers
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous


class Time:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


@contextmanager
def some_writers(time: Time | None = None) -> Iterator[Writers]:
    made = Writers((time or Time()).now)
    yield made
    made.close()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def told() -> Generator[None, None, int]:
    """Steps that take no time, and tell the niceness of their thread."""
    yield
    return niceness()


@asynchronous
async def test_few_records_leave_calls_more_turns_than_many_or_anything_else() -> None:
    with some_writers() as made:
        turns = await made.write(niceness)
        assert turns > niceness()
        for size in (0, 1, MOST_BYTES):
            assert await made.write_records(size, told()) > turns, size
        assert await made.write_records(MOST_BYTES + 1, told()) == turns


@asynchronous
async def test_records_that_take_long_become_more_urgent_and_then_go_before_none() -> None:
    time = Time()

    def slow(seconds: float) -> Generator[None, None, list[int]]:
        seen = []
        for _ in range(10):
            time.seconds += seconds
            seen.append(niceness())
            yield
        return seen

    with some_writers(time) as made:
        turns, patient = await made.write(niceness), await made.write_records(1, told())
        seen = await made.write_records(1, slow(0.1))
        assert seen == [patient] * 2 + [turns] * 2 + [niceness()] * 6
        # Those that follow are not patient at first, until there seems to be time again.
        assert await made.write_records(1, slow(0.1)) == [turns] * 2 + [niceness()] * 8
        assert await made.write_records(1, told()) == turns
        for _ in range(20):
            await made.write_records(1, told())
        assert await made.write_records(1, slow(0.01)) == [patient] * 10


@asynchronous
async def test_what_takes_its_turn_does_not_wait_for_what_is_written_patiently() -> None:
    began, may_end = threading.Event(), threading.Event()

    def steps() -> Generator[None, None, bool]:
        began.set()
        yield
        return may_end.wait(30)

    with some_writers() as made:
        patient = asyncio.create_task(made.write_records(1, steps()))
        assert await made.write(began.wait, 30)
        await made.write(may_end.set)
        assert await patient


@asynchronous
async def test_what_is_given_comes_to_the_work_and_its_error_back() -> None:
    def fail(reason: str) -> Generator[None, None, None]:
        yield
        raise StorageFailed(reason)

    with some_writers() as made:
        assert await made.write(max, 1, 3, 2) == 3
        for size in (0, MOST_BYTES + 1):
            with pytest.raises(StorageFailed, match="disk full"):
                await made.write_records(size, fail("disk full"))
