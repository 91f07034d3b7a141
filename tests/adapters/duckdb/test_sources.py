"""Tables that look-ups read: none goes while it is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pytest

from opentrail.adapters.duckdb.sources import Database, Shelf
from tests.fakes import asynchronous, turns


@asynchronous
async def test_a_table_that_is_replaced_stays_until_the_last_reader_has_gone(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "swap")
    shelf = Shelf(database)
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
    shelf = Shelf(database)
    hot = [database.new_hot(first) for first in (41, 1, 21)]
    for source in hot:
        shelf.insert(source)
    assert [source.first for source in shelf.sources] == [1, 21, 41]
    assert [source.first for source in shelf.full_hot()] == [1, 21]
    database.close()
