"""A journal moves from files to PostgreSQL, and continues there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.schema import restore_journal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import StorageFailed, UsageError
from tests.factories import event_id, some_new_entries
from tests.fakes import asynchronous
from tests.postgres import shared_server

pytestmark = pytest.mark.slow


async def a_journal(folder: Path, count: int, trimmed: int = 0) -> SqliteJournalSource:
    """Returns a journal of small segments, trimmed to a position."""
    journal = SqliteJournal(folder, segment_bytes=24 * 1024)
    for number in range(1, count + 1):
        await journal.append(some_new_entries(1, number))
    if trimmed:
        assert await journal.trim(trimmed)
    await journal.close()
    return SqliteJournalSource(folder)


@pytest.mark.slow
@pytest.mark.parametrize("trimmed", [0, 30])
@asynchronous
async def test_entries_are_the_same_and_others_follow(tmp_path: Path, trimmed: int) -> None:
    source = await a_journal(tmp_path, 60, trimmed)
    url = shared_server().new_database()
    await restore_journal(url, source, 60)
    journal = PostgresJournal(url)
    first = source.first_position()
    assert (first > 1) is bool(trimmed)
    assert (journal.first, journal.head) == (first, 60)
    expected = [entry for entries in source.read_range(first, 60) for entry in entries]
    assert await journal.read(first - 1, 100) == expected
    assert await journal.append(some_new_entries(1, 61)) == 61
    assert [entry.event_id for entry in await journal.read(59, 10)] == [event_id(60), event_id(61)]
    await journal.check()
    assert journal.lost == []
    await journal.close()


@asynchronous
async def test_only_an_empty_journal_can_be_replaced(tmp_path: Path) -> None:
    source = await a_journal(tmp_path, 0)
    url = shared_server().new_database()
    await restore_journal(url, source, 0)
    journal = PostgresJournal(url)
    assert await journal.append(some_new_entries(1)) == 1
    with pytest.raises(UsageError, match="is not empty"):
        await restore_journal(url, source, 0)
    assert [entry.position for entry in await journal.read(0, 10)] == [1]
    await journal.close()


@asynchronous
async def test_lost_positions_are_not_moved(tmp_path: Path) -> None:
    source = await a_journal(tmp_path, 60)
    segment = tmp_path / f"{1:020}.db"
    with closing(sqlite3.connect(segment)) as database:
        database.execute("UPDATE entries SET record = zeroblob(length(record)) WHERE position = 2")
        database.commit()
    repairing = SqliteJournal(tmp_path)
    await repairing.check()
    await repairing.close()
    with pytest.raises(StorageFailed, match="lost positions 2 to 2"):
        await restore_journal(shared_server().new_database(), source, 60)
