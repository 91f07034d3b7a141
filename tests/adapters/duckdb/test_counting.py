"""Counts over files and hot tables; what they contain is tested by the store's contract."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.duckdb import counting as module
from opentrail.adapters.duckdb.table_set import PARALLEL_LOOKUPS, PARALLEL_SEARCHES
from opentrail.ports.event_store import CallKey, Snapshot
from tests.adapters.duckdb.worlds import world
from tests.factories import ACCOUNT, MOMENT, REGION
from tests.fakes import TIMEOUT_SECONDS, MemoryEvents, asynchronous

pytestmark = pytest.mark.slow

_KEY = CallKey(ACCOUNT, REGION, "Management", "iam.amazonaws.com", "CreateUser")
_WHOLE = (MOMENT, MOMENT + timedelta(days=1))


@asynchronous
async def test_a_kind_is_counted_over_all_tables_that_have_it(tmp_path: Path) -> None:
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
async def test_counts_that_are_cancelled_stop_and_delay_no_others(
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
async def test_counting_does_not_wait_for_look_ups(tmp_path: Path) -> None:
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
