"""The guarantees of every journal for the child processes that read it (ports/journal.py)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from opentrail.adapters.journal_source import open_source
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.ports.journal import UNKNOWN_CHAIN, JournalSource, TrimmedJournal
from tests.factories import event_id, some_new_entries
from tests.fakes import GENESIS, asynchronous
from tests.postgres import ON_POSTGRESQL, shared_server

#: Small enough that a handful of records fills a segment.
TINY_SEGMENT = 24 * 1024
Opener = Callable[[], tuple[TrimmedJournal, JournalSource]]


@pytest.fixture(params=["sqlite", "sqlite, tiny segments", ON_POSTGRESQL])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Returns a function that opens a journal and its source."""
    if request.param == "postgresql":
        url = shared_server().new_database()
        return lambda: (PostgresJournal(url), PostgresJournalSource(url))
    size = TINY_SEGMENT if "tiny" in request.param else 1 << 30
    return lambda: (SqliteJournal(tmp_path, segment_bytes=size), SqliteJournalSource(tmp_path))


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[tuple[TrimmedJournal, JournalSource]]:
    journal, source = opener()
    try:
        yield journal, source
    finally:
        await journal.close()


async def append_one_by_one(journal: TrimmedJournal, count: int, first: int = 1) -> None:
    for new_entry in some_new_entries(count, first):
        await journal.append([new_entry])


@asynchronous
async def test_an_empty_journal_begins_at_one(opener: Opener) -> None:
    async with opened(opener) as (_, source):
        assert source.first_position() == 1
        assert source.chain_before(1) is None
        assert source.lost_between(1, 100) == []
        assert list(source.read_range(1, 100)) == []
        assert list(source.records_behind(0, {event_id(1)})) == []


@pytest.mark.slow
@asynchronous
async def test_another_process_reads_a_range_during_appends(opener: Opener) -> None:
    program = (
        "import json, sys\n"
        "from opentrail.adapters.journal_source import open_source\n"
        "batches = list(open_source(sys.argv[1]).read_range(5, 33, batch=10))\n"
        "print(json.dumps([[(e.position, e.event_id) for e in batch] for batch in batches]))"
    )
    async with opened(opener) as (journal, source):
        await append_one_by_one(journal, 40)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, source.address, stdout=asyncio.subprocess.PIPE
        )
        writing = asyncio.create_task(append_one_by_one(journal, 30, 41))
        output, _ = await child.communicate()
        await writing
    assert child.returncode == 0
    batches = json.loads(output)
    assert all(len(batch) <= 10 for batch in batches)
    flat = [tuple(pair) for batch in batches for pair in batch]
    assert flat == [(number, event_id(number)) for number in range(5, 34)]


@asynchronous
async def test_a_range_has_all_acknowledged_entries(opener: Opener) -> None:
    async with opened(opener) as (journal, source):
        for number in range(1, 25):
            await append_one_by_one(journal, 1, number)
            entries = [entry for batch in source.read_range(1, number) for entry in batch]
            assert entries == await journal.read(0, number)
        assert [list(source.read_range(25, 90)), list(source.read_range(9, 8))] == [[], []]


@asynchronous
async def test_chain_before_an_entry_belongs_to_its_predecessor(opener: Opener) -> None:
    async with opened(opener) as (journal, source):
        await append_one_by_one(journal, 3)
        await journal.append(some_new_entries(5, 4))
        chains = [GENESIS, *(entry.chain for entry in await journal.read(0, 8))]
        assert [source.chain_before(position) for position in range(1, 9)] == chains[:-1]
        assert source.chain_before(9) is None
        assert [source.chain_at(position) for position in range(1, 9)] == chains[1:]
        assert source.chain_at(9) == UNKNOWN_CHAIN


@asynchronous
async def test_later_entries_are_found_by_event_id(opener: Opener) -> None:
    wanted = {event_id(number) for number in (3, 12, 29)}
    async with opened(opener) as (journal, source):
        await append_one_by_one(journal, 10)
        await journal.append(some_new_entries(20, 11))
        records = {entry.event_id: entry.record for entry in await journal.read(0, 30)}
        for position in (0, 2, 3, 11, 12, 28, 29, 30):
            behind = {event_id(number) for number in (3, 12, 29) if number > position}
            assert dict(source.records_behind(position, wanted)) == {
                one: records[one] for one in behind
            }


@asynchronous
async def test_a_source_may_be_opened_by_its_address(opener: Opener) -> None:
    async with opened(opener) as (journal, source):
        await append_one_by_one(journal, 3)
        again = open_source(source.address)
        assert again.address == source.address
        assert list(again.read_range(1, 3)) == list(source.read_range(1, 3)) != []


def busy_segments(folder: Path) -> list[Path]:
    """Returns the segments whose log cannot be emptied."""
    busy = []
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as segment:
            if segment.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                busy.append(path)
    return busy


@asynchronous
async def test_paused_reader_holds_no_transaction_open(opener: Opener, tmp_path: Path) -> None:
    """A query may take an hour: until then, no segment could be trimmed and no table vacuumed."""
    async with opened(opener) as (journal, source):
        await append_one_by_one(journal, 30)
        reading = source.read_range(1, 30, batch=5)
        count = len(next(reading))
        if isinstance(source, PostgresJournalSource):
            database = SharedDatabase(source.address)
            open_now = "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL"
            others = f"{open_now} AND datname = current_database() AND pid <> pg_backend_pid()"
            assert await database.run(lambda transaction: transaction.rows(others)) == [(0,)]
            await database.close()
        assert not await asyncio.to_thread(busy_segments, tmp_path)
        assert 0 < count < count + sum(map(len, reading)) == 30
