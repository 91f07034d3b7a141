"""Tables that look-ups read: none goes while it is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.duckdb.files import digest_of, read_name, stem_of
from opentrail.adapters.duckdb.schema import FORMAT
from opentrail.adapters.duckdb.table_set import SEARCHES_AT_ONCE, Database, TableSet
from opentrail.core.errors import StorageFailed
from tests.fakes import asynchronous, turns


@asynchronous
async def test_a_table_that_is_replaced_stays_until_the_last_reader_has_gone(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "swap")
    shelf = TableSet(database)
    old, new = database.new_hot(1), database.new_hot(1)
    shelf.insert(old)
    with shelf.reading() as first:
        with shelf.reading():
            replacing = asyncio.create_task(shelf.replace([old], new))
            await turns()
            assert shelf.sources == [new]
        await turns()
        assert first == [old]
        assert database.execute(f"FROM {old.table.name}") == []
    await replacing
    with pytest.raises(duckdb.CatalogException):
        database.execute(f"FROM {old.table.name}")
    database.close()


@asynchronous
async def test_tables_stand_in_order_of_their_positions(tmp_path: Path) -> None:
    database = Database(tmp_path / "swap")
    shelf = TableSet(database)
    hot = [database.new_hot(first) for first in (41, 1, 21)]
    for source in hot:
        shelf.insert(source)
    assert [source.first for source in shelf.sources] == [1, 21, 41]
    assert [source.first for source in shelf.full_hot()] == [1, 21]
    database.close()


@pytest.mark.parametrize("other", [FORMAT - 1, FORMAT + 1])
def test_a_file_of_another_format_is_named_with_both(tmp_path: Path, other: int) -> None:
    made = tmp_path / "made"
    with duckdb.connect(str(made)) as file:
        file.execute(
            "CREATE TABLE about (format INTEGER, first BIGINT, last BIGINT, chain_before BLOB,"
            " oldest BIGINT, newest BIGINT, newest_recorded BIGINT)"
        )
        file.execute("INSERT INTO about VALUES (?, 1, 5, NULL, 0, 0, 0)", [other])
    named = read_name(made.rename(tmp_path / f"{stem_of(1, 5, False)}-{digest_of(made)}.duckdb"))
    assert named is not None
    database = Database(tmp_path / "swap")
    with pytest.raises(StorageFailed, match=f"format {other}; this version reads format {FORMAT}"):
        database.attach(named)
    database.close()


_FOR_EVER = "SELECT count(*) FROM range(100000000000000) WHERE hash(range) = 0"


@asynchronous
async def test_a_search_that_is_given_up_just_before_its_statement_begins_stops(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "swap")
    reached, go_on = threading.Event(), threading.Event()

    class Late(list[Any]):
        """Arguments that are asked for when the cursor is there and does nothing yet."""

        def __iter__(self) -> Iterator[Any]:
            reached.set()
            go_on.wait()
            return iter(())

    search = asyncio.create_task(database.search(database.execute, _FOR_EVER, Late()))
    await asyncio.to_thread(reached.wait)
    search.cancel()
    await turns()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await search
    database.close()


@asynchronous
async def test_searches_that_are_given_up_stop_and_hold_up_nobody(tmp_path: Path) -> None:
    database = Database(tmp_path / "swap")
    begun = threading.Semaphore(0)

    def for_ever() -> list[tuple[Any, ...]]:
        begun.release()
        return database.execute(_FOR_EVER)

    searches = [asyncio.create_task(database.search(for_ever)) for _ in range(2 * SEARCHES_AT_ONCE)]
    for _ in range(SEARCHES_AT_ONCE):
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
