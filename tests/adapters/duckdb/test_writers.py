"""Records are written patiently unless there are many of them; everything else takes its turn."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opentrail.adapters.duckdb.writers import MOST_BYTES, Writers
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous


@contextmanager
def some_writers() -> Iterator[Writers]:
    made = Writers()
    yield made
    made.close()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@asynchronous
async def test_few_records_leave_calls_more_turns_than_many_or_anything_else() -> None:
    with some_writers() as made:
        turns = await made.write(niceness)
        assert turns > niceness()
        for size in (0, 1, MOST_BYTES):
            assert await made.write_records(size, niceness) > turns, size
        assert await made.write_records(MOST_BYTES + 1, niceness) == turns


@asynchronous
async def test_what_takes_its_turn_does_not_wait_for_what_is_written_patiently() -> None:
    began, may_end = threading.Event(), threading.Event()

    def work() -> bool:
        began.set()
        return may_end.wait(30)

    with some_writers() as made:
        patient = asyncio.create_task(made.write_records(1, work))
        assert await made.write(began.wait, 30)
        await made.write(may_end.set)
        assert await patient


@asynchronous
async def test_what_is_given_comes_to_the_work_and_its_error_back() -> None:
    def fail(reason: str) -> None:
        raise StorageFailed(reason)

    with some_writers() as made:
        for size in (0, MOST_BYTES + 1):
            assert await made.write_records(size, max, 1, 3, 2) == 3
            with pytest.raises(StorageFailed, match="disk full"):
                await made.write_records(size, fail, "disk full")
