"""Calls of one service, from sealed files and the journal."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.duckdb.calls_at_rest import calls_of
from opentrail.adapters.sqlite.source import SqliteJournalSource
from tests.adapters.duckdb.worlds import World
from tests.factories import a_record
from tests.fakes import run

SOURCE = str(a_record()["eventSource"])


def made(folder: Path) -> World:
    async def story() -> World:
        world = World(folder)
        await world.write(30)
        await world.seal((1, 10), (11, 20))
        await world.journal.close()
        return world

    return run(story())


def positions(world: World, source: str = SOURCE) -> list[int]:
    return [
        position
        for position, _ in calls_of(
            SqliteJournalSource(world.journal_folder), world.history, source
        )
    ]


def test_calls_are_read_once_and_in_order(tmp_path: Path) -> None:
    world = made(tmp_path)
    assert positions(world) == list(range(1, 31))
    assert positions(world, "cloudtrail.amazonaws.com") == []


@pytest.mark.slow
def test_damaged_entries_are_left_out(tmp_path: Path) -> None:
    world = made(tmp_path)
    sorted(world.history.glob("*.duckdb"))[0].write_bytes(b"nothing" * 100)
    assert positions(world) == list(range(11, 31))
    (segment,) = world.journal_folder.glob("*.db")
    with closing(sqlite3.connect(segment)) as database:
        database.execute("UPDATE entries SET record = record || ' ' WHERE position = 25")
        database.commit()
    assert set(positions(world)) <= set(range(11, 31)) - {25}
    assert set(range(11, 21)) <= set(positions(world))
