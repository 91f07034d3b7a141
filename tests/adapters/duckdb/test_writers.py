"""Records are written patiently unless there are many of them, or others need the processor."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opentrail.adapters.duckdb.writers import MOST_BYTES, SURE, Steps, Writers
from opentrail.core.errors import StorageFailed
from tests.fakes import PATIENCE, asynchronous


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


def told() -> Steps[int]:
    """Steps that take no time, and tell the niceness of their thread."""
    yield False
    return niceness()


async def niceness_of_next(writers: Writers, size: int = 1) -> int:
    with writers.writing(size) as writing:
        return await writing.do(told())


@asynchronous
async def test_few_records_leave_calls_more_turns_than_many_or_anything_else() -> None:
    with some_writers() as made:
        turns = await made.write(niceness)
        assert turns > niceness()
        for size in (0, 1, MOST_BYTES):
            assert await niceness_of_next(made, size) > turns, size
        assert await niceness_of_next(made, MOST_BYTES + 1) == turns


@asynchronous
async def test_records_that_take_long_become_more_urgent_and_at_last_do_not_give_way() -> None:
    time = Time()

    def slow(count: int, seconds: float, takes_long: bool = False) -> Steps[list[int]]:
        seen = []
        for _ in range(count):
            time.seconds += seconds
            seen.append(niceness())
            yield takes_long
        return [*seen, niceness()]

    with some_writers(time) as made:
        turns, patient = await made.write(niceness), await niceness_of_next(made)
        with made.writing(1) as writing:
            assert await writing.do(slow(2, 0.06)) == [patient] * 3
            assert await writing.do(slow(9, 0.1)) == [patient] * 2 + [turns] * 4 + [niceness()] * 4
        with made.writing(1) as writing:  # one that is not patient at first
            assert await writing.do(slow(3, 0.1, takes_long=True)) == [turns] * 2 + [niceness()] * 2


@asynchronous
async def test_records_are_patient_again_once_there_was_time_for_some_in_a_row() -> None:
    time = Time()

    def late() -> Steps[None]:
        yield True
        time.seconds += 1  # in the last step, which ends where it began

    with some_writers(time) as made:
        turns, patient = await made.write(niceness), await niceness_of_next(made)
        for _ in range(2):
            with made.writing(1) as writing:
                await writing.do(late())
            seen = [await niceness_of_next(made) for _ in range(SURE + 1)]
            assert seen == [turns] * SURE + [patient]
            for _ in range(SURE // 2):
                await niceness_of_next(made)


@asynchronous
async def test_records_do_not_wait_for_anything_else_nor_that_for_them() -> None:
    began, may_end = threading.Event(), threading.Event()

    def steps() -> Steps[bool]:
        began.set()
        yield False
        return may_end.wait(PATIENCE)

    with some_writers() as made:
        for size in (1, MOST_BYTES + 1):
            with made.writing(size) as writing:
                records = asyncio.create_task(writing.do(steps()))
                assert await made.write(began.wait, PATIENCE)
                await made.write(may_end.set)
                assert await records
            began.clear()
            may_end.clear()
            other = asyncio.create_task(made.write(may_end.wait, PATIENCE))
            await niceness_of_next(made, size)
            may_end.set()
            assert await other
            may_end.clear()


@asynchronous
async def test_what_is_given_comes_to_the_work_and_its_error_back() -> None:
    def fail(reason: str) -> Steps[None]:
        yield False
        raise StorageFailed(reason)

    with some_writers() as made:
        assert await made.write(max, 1, 3, 2) == 3
        for size in (0, MOST_BYTES + 1):
            with pytest.raises(StorageFailed, match="disk full"), made.writing(size) as writing:
                await writing.do(fail("disk full"))
