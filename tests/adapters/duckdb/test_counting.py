"""Counts over files and hot tables; the store's contract tests their content."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.duckdb import counting as module
from opentrail.adapters.duckdb.table_set import PARALLEL_LOOKUPS, PARALLEL_SEARCHES
from opentrail.core.expression import parse
from opentrail.ports.event_store import CallKey, EventQuery, PeriodCounts, Snapshot
from tests.adapters.duckdb.worlds import ALL, world
from tests.factories import ACCOUNT, MOMENT, REGION
from tests.fakes import TIMEOUT_SECONDS, MemoryEvents, asynchronous, turns

pytestmark = pytest.mark.slow

_KEY = CallKey(ACCOUNT, REGION, "Management", "iam.amazonaws.com", "CreateUser")
_WHOLE = (MOMENT, MOMENT + timedelta(days=1))


@asynchronous
async def test_a_kind_is_counted_over_all_its_tables(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(100)
        await here.seal((1, 40), (41, 90))
        plain = MemoryEvents()
        await plain.add(await here.entries())
        async with here.opened() as store:
            counted = await store.count_calls(*_WHOLE)
            assert sorted(counted, key=repr) == sorted(await plain.count_calls(*_WHOLE), key=repr)
            assert await store.count_key(_KEY, *_WHOLE, 10) == await plain.count_key(
                _KEY, *_WHOLE, 10
            )
            assert await store.count_values(_KEY, *_WHOLE) == await plain.count_values(
                _KEY, *_WHOLE
            )


@asynchronous
async def test_imported_events_are_counted_with_the_recorded_ones(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(4)
        await here.imports(3, 2)
        async with here.opened() as store:
            assert await store.count_key(_KEY, *_WHOLE, 3600) == [(MOMENT, 2 + 5)]
            snapshot = Snapshot(recorded=0, imported=3)
            assert await store.count_key(_KEY, *_WHOLE, 3600, snapshot) == [(MOMENT, 3)]


@asynchronous
async def test_a_repeated_field_is_counted_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(3)
        async with here.opened() as store:
            assert await store.top_values(ALL, ["account", "account"], 5) == {
                "account": [(ACCOUNT, 3)]
            }


@asynchronous
async def test_counts_of_a_search_include_imported_events(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(4)
        await here.imports(3, 2)
        async with here.opened() as store:
            for text in ("", "is:success", "requestParameters.userName=Mary"):
                query = replace(ALL, expression=parse(text, MOMENT))
                assert await store.count(query) == 4 + 5
                assert await store.histogram(query, 3600) == [PeriodCounts(MOMENT, 4 + 5, 0)]
                assert await store.top_values(query, ["event_name"], 1) == {
                    "event_name": [("CreateUser", 2 + 5)]
                }
            query = replace(query, snapshot=Snapshot(recorded=0, imported=3))
            assert await store.count(query) == 3


@asynchronous
async def test_records_that_decide_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW", 7)
    monkeypatch.setattr(module, "_STEP", 3)
    async with world(tmp_path) as here:
        await here.write(60)
        await here.seal((1, 15), (16, 40))
        await here.imports(9)
        async with here.opened() as store:
            by_record = parse("requestParameters.userName=Mary NOT name=DeleteUser", MOMENT)
            query = replace(ALL, expression=by_record)
            assert await store.count(query) == 30 + 9
            assert await store.count(replace(query, limit=10)) == 10
            with monkeypatch.context() as patched:
                read: list[str] = []

                def noted(_query: EventQuery, record: str) -> bool:
                    read.append(record)
                    return True

                patched.setattr(module, "_is_match", noted)
                assert await store.count(replace(query, limit=10)) == 10
                assert len(read) < 10 + 3, "no more records are read than are needed"
            assert await store.top_values(query, ["event_name"], 5) == {
                "event_name": [("CreateUser", 30 + 9)]
            }


@asynchronous
async def test_cancelled_counts_stop_and_delay_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "SELECT 0, count(*) FROM range(100000000000000), ({1}) WHERE hash(range) = 0"
    async with world(tmp_path) as here:
        await here.write(10)
        async with here.opened() as store:
            begun, execute = threading.Semaphore(0), store._database.execute

            def noted(*arguments: Any) -> list[tuple[Any, ...]]:
                begun.release()
                return execute(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(module, "_PERIODS", endless)
                patched.setattr(store._database, "execute", noted)
                counts = [
                    asyncio.create_task(store.count_key(_KEY, *_WHOLE, 3600))
                    for _ in range(2 * PARALLEL_SEARCHES)
                ]
                for _ in range(PARALLEL_SEARCHES):
                    assert await asyncio.to_thread(begun.acquire, timeout=TIMEOUT_SECONDS)
                for count in counts:
                    count.cancel()
                ended = await asyncio.gather(*counts, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended)
            assert await store.count_key(_KEY, *_WHOLE, 3600) == [(MOMENT, 5)]


@asynchronous
async def test_cancelling_stops_the_reading_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    read: list[str] = []

    def blocked(_query: EventQuery, record: str) -> bool:
        read.append(record)
        begun.set()
        return released.wait(TIMEOUT_SECONDS)

    monkeypatch.setattr(module, "_STEP", 1)
    monkeypatch.setattr(module, "_is_match", blocked)
    async with world(tmp_path) as here:
        await here.write(10)
        async with here.opened() as store:
            query = replace(ALL, expression=parse("requestParameters.userName=Mary", MOMENT))
            counting = asyncio.create_task(store.count(query))
            assert await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
            counting.cancel()
            await turns()
            released.set()
            with pytest.raises(asyncio.CancelledError):
                await counting
            assert len(read) == 1


@asynchronous
async def test_counting_does_not_wait_for_lookups(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.write(10)
        async with here.opened() as store:
            done = threading.Event()
            busy = [
                asyncio.create_task(store._database.run(done.wait, TIMEOUT_SECONDS))
                for _ in range(PARALLEL_LOOKUPS)
            ]
            assert await store.count_key(_KEY, *_WHOLE, 3600) == [(MOMENT, 5)]
            assert not any(task.done() for task in busy)
            done.set()
            await asyncio.gather(*busy)
