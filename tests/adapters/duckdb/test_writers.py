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

pytestmark = pytest.mark.skipif(
    os.nice(0) > 8,
    reason="niceness ends at 19: threads cannot be told apart in a process of so much",
)


class Time:
    """A clock that stands still unless it is moved, and one of a thread that gets a share."""

    def __init__(self) -> None:
        self.seconds, self.share = 0.0, 1.0

    def now(self) -> float:
        return self.seconds

    def worked(self) -> float:
        return self.seconds * self.share


@contextmanager
def some_writers(time: Time | None = None) -> Iterator[Writers]:
    time = time or Time()
    made = Writers(time.now, time.worked)
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


def slow(time: Time, count: int, seconds: float, takes_long: bool = False) -> Steps[list[int]]:
    """Steps that tell the niceness of their threads, the one of the last, which ends, too."""
    seen = []
    for _ in range(count):
        time.seconds += seconds
        seen.append(niceness())
        yield takes_long
    return [*seen, niceness()]


async def patient_niceness(time: Time, writers: Writers) -> int:
    """Returns the niceness where calls leave next to nothing over."""
    time.share = 0.0
    with writers.writing(1) as writing:
        seen = await writing.do(slow(time, 1, 0.02))
    time.share = 1.0
    return seen[-1]


@asynchronous
async def test_records_that_take_long_become_more_urgent_and_at_last_do_not_give_way() -> None:
    time, own = Time(), niceness()
    with some_writers(time) as made:
        turns, spare = await made.write(niceness), await niceness_of_next(made)
        with made.writing(1) as writing:
            assert await writing.do(slow(time, 2, 0.04)) == [spare] * 3
            seen = await writing.do(slow(time, 9, 0.1))
        patient = seen[1]
        assert spare > patient > turns > own
        assert seen == [spare] + [patient] * 3 + [turns] * 4 + [own] * 2
        with made.writing(1) as writing:  # one that is not patient at first
            seen = await writing.do(slow(time, 3, 0.1, takes_long=True))
        assert seen == [turns] * 2 + [own] * 2


@asynchronous
async def test_records_are_written_in_spare_time_only_where_there_is_some() -> None:
    time = Time()
    with some_writers(time) as made:
        spare = await niceness_of_next(made)
        for share, is_enough in ((0.05, True), (0.02, False)):
            time.share = share
            with made.writing(1) as writing:
                first, *others = await writing.do(slow(time, 5, 0.01))
                few = writing.at_once
            assert first == others[0] == spare
            assert all((one == spare) == is_enough for one in others[1:]), share
        time.share = 1.0
        with made.writing(1) as writing:  # it begins as the last one ended
            assert set(await writing.do(slow(time, 2, 0.01))) == {others[-1]}
            assert writing.at_once == few
        for _ in range(SURE):
            last = await niceness_of_next(made)
        assert last == spare
        with made.writing(1) as writing:
            assert writing.at_once < few


@asynchronous
async def test_a_long_step_does_not_begin_in_a_thread_that_gets_nothing() -> None:
    time = Time()
    with some_writers(time) as made:
        spare, time.share = await niceness_of_next(made), 0.0
        with made.writing(1) as writing:
            seen = await writing.do(slow(time, 3, 0.001))
        assert seen == [spare] * 4
        with made.writing(1) as writing:
            first, *others = await writing.do(slow(time, 3, 0.001, takes_long=True))
        assert first == spare > max(others)


@asynchronous
async def test_records_are_patient_again_once_there_was_time_for_some_in_a_row() -> None:
    time = Time()

    def late() -> Steps[None]:
        yield True
        time.seconds += 1  # in the last step, which ends where it began

    with some_writers(time) as made:
        spare = await niceness_of_next(made)
        patient, turns = await patient_niceness(time, made), await made.write(niceness)
        for _ in range(SURE):
            await niceness_of_next(made)
        for _ in range(2):
            with made.writing(1) as writing:
                await writing.do(late())
            assert await niceness_of_next(made) == patient
            with made.writing(1) as writing:
                await writing.do(late())
            seen = [await niceness_of_next(made) for _ in range(SURE + 1)]
            assert seen == [turns] * SURE + [spare]
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
