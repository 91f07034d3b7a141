"""Queries over tables: parallel and complete; an unreadable table is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pytest

from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    is_intact,
    read_name,
)
from opentrail.adapters.duckdb import lookup_pool as module
from opentrail.adapters.duckdb.lookup_pool import Damaged, LookupPool
from opentrail.adapters.duckdb.table_set import PARALLEL_LOOKUPS, Database, EventTable
from opentrail.core.errors import StorageFailed
from tests.adapters.duckdb.test_index import a_file
from tests.fakes import TIMEOUT_SECONDS, asynchronous

pytestmark = pytest.mark.slow


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "swap")
    yield made
    made.close()


def a_sealed(database: Database, folder: Path) -> tuple[EventTable, SealedFile]:
    file = read_name(a_file(folder, 1, 9, Series.JOURNAL))
    assert file is not None
    return database.attach(file), file


def fail(*_: object) -> NoReturn:
    raise duckdb.IOException("it cannot be read")


@asynchronous
async def test_parallel_work_returns_results_in_order(database: Database) -> None:
    hot, together = (
        database.new_hot(1),
        threading.Barrier(PARALLEL_LOOKUPS, timeout=TIMEOUT_SECONDS),
    )

    def work(number: int) -> list[int]:
        together.wait()
        return [number, number]

    pieces = [(hot, work, (number,)) for number in range(PARALLEL_LOOKUPS)]
    assert await LookupPool(database).run_all(pieces) == [
        n for n in range(PARALLEL_LOOKUPS) for _ in range(2)
    ]
    assert await LookupPool(database).run_all([]) == []


@asynchronous
async def test_pool_waits_for_the_others_after_a_failure(database: Database) -> None:
    hot, failed, ended = database.new_hot(1), threading.Event(), threading.Event()

    def fail_now() -> list[int]:
        failed.set()
        fail()

    def end_later() -> list[int]:
        assert failed.wait(TIMEOUT_SECONDS)
        ended.set()
        return []

    with pytest.raises(StorageFailed, match="it cannot be read"):
        await LookupPool(database).run_all([(hot, fail_now, ()), (hot, end_later, ())])
    assert ended.is_set()


@asynchronous
async def test_an_unchanged_file_is_not_damaged(database: Database, tmp_path: Path) -> None:
    source, _ = a_sealed(database, tmp_path)
    pool = LookupPool(database)
    with pytest.raises(StorageFailed):
        await pool.run([source], fail)


@asynchronous
async def test_file_that_changed_is_damaged_and_compared_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, file = a_sealed(database, tmp_path)
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    compared: list[Path] = []
    still_run, all_have_failed = PARALLEL_LOOKUPS, threading.Event()
    run = database.run

    async def count(*work: Any) -> list[Any]:
        nonlocal still_run
        try:
            return await run(*work)
        finally:
            still_run -= 1
            if not still_run:
                all_have_failed.set()

    def compare(seen: SealedFile) -> bool:
        compared.append(seen.path)
        assert all_have_failed.wait(TIMEOUT_SECONDS)
        return is_intact(seen)

    monkeypatch.setattr(database, "run", count)
    monkeypatch.setattr(module, "is_intact", compare)
    pool = LookupPool(database)
    with pytest.raises(Damaged) as error:
        await pool.run_all([(source, fail, ())] * PARALLEL_LOOKUPS)
    assert error.value.table is source
    assert compared == [file.path]
    with pytest.raises(Damaged):
        await pool.run([source], fail)
    assert len(compared) == 2, "later it is compared again"
    file.path.unlink()
    with pytest.raises(Damaged):
        await pool.run([source], fail, is_search=True)
