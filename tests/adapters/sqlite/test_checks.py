"""Damage is found and repaired while the journal is in use."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite import segments as module
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.ports.journal import LostPositions
from tests.adapters.sqlite.test_repair import (
    COUNT,
    PAGE,
    entries,
    is_as_written,
    opened,
    overwrite,
    segments,
    written,
)
from tests.factories import a_new_entry
from tests.fakes import asynchronous

pytestmark = pytest.mark.anomaly


@asynchronous
async def test_a_new_journal_has_lost_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert (journal.head, journal.lost) == (0, [])
        await journal.check()
        assert journal.is_checked


@pytest.mark.parametrize("read_bytes", [32 << 20, 5_000])
@asynchronous
async def test_damage_does_not_stop_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(module, "_READ_BYTES", read_bytes)
    reported: list[LostPositions] = []
    journal = SqliteJournal(tmp_path, segment_bytes=1 << 30, on_lost=reported.append)
    try:
        for new in entries():
            await journal.append([new])
        (path,) = segments(tmp_path)
        with closing(sqlite3.connect(path)) as database:
            # Otherwise the log keeps the old page, and the record is restored from it.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("UPDATE entries SET record = x'00' WHERE position = 60")
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with pytest.raises(JournalDamaged, match="position 60"):
            list(SqliteJournalSource(tmp_path).read_range(1, COUNT))
        await journal.repair(50, 70)
        assert [(one.first, one.last) for one in reported] == [(60, 60)]
        found = [
            entry.position
            for batch in SqliteJournalSource(tmp_path).read_range(1, COUNT)
            for entry in batch
        ]
        assert found == [n for n in range(1, COUNT + 1) if n != 60]
        assert await journal.append([a_new_entry()]) == COUNT + 1
        assert len(segments(tmp_path)) == 2
    finally:
        await journal.close()


@asynchronous
async def test_an_irreparable_segment_does_not_delay_others(
    tmp_path: Path,
) -> None:
    before = await written(tmp_path)
    oldest, _, newer = segments(tmp_path)[:3]
    for path in (oldest, newer):
        overwrite(path, 0, b"\0" * PAGE)
    # The name of the repaired file is in use.
    unusable = newer.with_name(f"{newer.name}.repaired.tmp")
    async with opened(tmp_path) as journal:
        unusable.mkdir()
        with pytest.raises(StorageFailed, match="cannot be repaired"):
            await journal.check()
        assert not journal.is_checked
        assert oldest.with_name(f"{oldest.name}.damaged").exists()
        unusable.rmdir()
        await journal.keep_checking()
        assert journal.is_checked
        await is_as_written(journal, before)


@asynchronous
async def test_repair_does_not_wait_for_a_closed_journal(tmp_path: Path) -> None:
    await written(tmp_path, 1 << 30)
    (path,) = segments(tmp_path)
    async with opened(tmp_path, 1 << 30) as journal:
        pass
    overwrite(path, 0, b"\0" * PAGE)
    async with asyncio.timeout(60):
        with pytest.raises(StorageFailed, match="no other segment"):
            await journal.repair(1, COUNT)
