"""Tables that lookups read: none is dropped during a read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.data_directory.sealed_file_names import (
    Series,
    digest_of,
    read_name,
    stem_of,
)
from opentrail.adapters.duckdb.schema import FORMAT
from opentrail.adapters.duckdb.table_set import PARALLEL_SEARCHES, Database, TableSet
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous, turns


@asynchronous
async def test_replaced_table_stays_until_its_last_reader_leaves(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "swap")
    tables = TableSet(database)
    old, new = database.new_hot(1), database.new_hot(1)
    tables.insert(old)
    with tables.reading() as first:
        with tables.reading():
            replacing = asyncio.create_task(tables.replace([old], new))
            await turns()
            assert tables.tables == [new]
        await turns()
        assert first == [old]
        assert database.execute(f"FROM {old.table.name}") == []
    await replacing
    with pytest.raises(duckdb.CatalogException):
        database.execute(f"FROM {old.table.name}")
    database.close()


@asynchronous
async def test_tables_are_in_order_of_their_positions(tmp_path: Path) -> None:
    database = Database(tmp_path / "swap")
    tables = TableSet(database)
    hot = [database.new_hot(first) for first in (41, 1, 21)]
    for table in hot:
        tables.insert(table)
    assert [table.first for table in tables.tables] == [1, 21, 41]
    database.close()


@pytest.mark.parametrize("other", [FORMAT - 1, FORMAT + 1])
def test_file_of_another_format_is_named_with_both(tmp_path: Path, other: int) -> None:
    made = tmp_path / "made"
    with duckdb.connect(str(made)) as file:
        file.execute(
            "CREATE TABLE about (format INTEGER, first BIGINT, last BIGINT, chain_before BLOB,"
            " oldest BIGINT, newest BIGINT, newest_recorded BIGINT)"
        )
        file.execute("INSERT INTO about VALUES (?, 1, 5, NULL, 0, 0, 0)", [other])
    named = read_name(
        made.rename(tmp_path / f"{stem_of(Series.JOURNAL, 1, 5)}-{digest_of(made)}.duckdb")
    )
    assert named is not None
    database = Database(tmp_path / "swap")
    with pytest.raises(StorageFailed, match=f"format {other}; this version reads format {FORMAT}"):
        database.attach(named)
    database.close()


_ENDLESS = "SELECT count(*) FROM range(100000000000000) WHERE hash(range) = 0"


@asynchronous
async def test_a_search_cancelled_before_its_statement_stops(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "swap")
    reached, go_on = threading.Event(), threading.Event()

    class Late(list[Any]):
        """Arguments that the query reads once its cursor exists and before it starts."""

        def __iter__(self) -> Iterator[Any]:
            reached.set()
            go_on.wait()
            return iter(())

    search = asyncio.create_task(database.search(database.execute, _ENDLESS, Late()))
    await asyncio.to_thread(reached.wait)
    search.cancel()
    await turns()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await search
    database.close()


@asynchronous
async def test_cancelled_searches_stop_and_delay_no_others(tmp_path: Path) -> None:
    database = Database(tmp_path / "swap")
    begun = threading.Semaphore(0)

    def endless() -> list[tuple[Any, ...]]:
        begun.release()
        return database.execute(_ENDLESS)

    searches = [asyncio.create_task(database.search(endless)) for _ in range(2 * PARALLEL_SEARCHES)]
    for _ in range(PARALLEL_SEARCHES):
        await asyncio.to_thread(begun.acquire)
    assert await database.run(database.execute, "SELECT 1") == [(1,)]
    for search in searches:
        search.cancel()
    assert all(
        isinstance(one, asyncio.CancelledError)
        for one in await asyncio.gather(*searches, return_exceptions=True)
    )
    assert await database.search(database.execute, "SELECT 2") == [(2,)]
    database.close()
