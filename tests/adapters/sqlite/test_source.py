"""A journal's segments, read by child processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import source as module
from opentrail.adapters.sqlite.source import SqliteJournalSource
from tests.adapters.sqlite.test_journal import append_one_by_one, opened, segments
from tests.factories import event_id
from tests.fakes import GENESIS, asynchronous


@pytest.mark.parametrize("at_once", [1, 4, 5_000])
@asynchronous
async def test_later_entries_are_found_by_event_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "_IDS_PER_STATEMENT", at_once)
    wanted = {event_id(number) for number in (3, 12, 29)}
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        assert len(segments(tmp_path)) > 2
        records = {entry.event_id: entry.record for entry in await journal.read(0, 30)}
        for position in (0, 2, 3, 11, 12, 28, 29, 30):
            found = dict(SqliteJournalSource(tmp_path).records_behind(position, wanted))
            behind = {event_id(number) for number in (3, 12, 29) if number > position}
            assert found == {one: records[one] for one in behind}


@asynchronous
async def test_event_id_searches_do_not_block_the_journal(tmp_path: Path) -> None:
    """Otherwise a checkpoint could not move new pages into the database."""

    class Wanted:
        """An empty set of wanted ids; asking it writes a row and moves all rows by a checkpoint."""

        asked = 0

        def __contains__(self, _event_id: object) -> bool:
            self.asked += 1
            with writer:
                writer.execute("INSERT INTO probe (filler) VALUES (zeroblob(1))")
            (is_busy, *_) = writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            assert not is_busy
            return False

    wanted = Wanted()
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 5)
    with closing(sqlite3.connect(tmp_path / f"{1:020d}.db", timeout=5)) as writer:
        assert list(SqliteJournalSource(tmp_path).records_behind(1, wanted)) == []
    assert wanted.asked == 4


@asynchronous
async def test_the_first_position_comes_from_the_oldest_segment(tmp_path: Path) -> None:
    assert SqliteJournalSource(tmp_path).first_position() == 1
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        assert SqliteJournalSource(tmp_path).first_position() == 1
        await journal.trim(30)
        assert SqliteJournalSource(tmp_path).first_position() == journal.first > 1
        assert SqliteJournalSource(tmp_path).chain_before(1) is None
    assert SqliteJournalSource(tmp_path).chain_before(journal.first) not in (None, GENESIS)
