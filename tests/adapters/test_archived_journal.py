"""A trimmed journal and its archive read as one complete journal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.archived_journal import ArchivedJournal, NoArchive
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry
from tests.factories import a_new_entry, event_id, some_records
from tests.fakes import GENESIS, asynchronous, run

pytestmark = pytest.mark.slow

COUNT = 200


class MemoryArchive:
    """An `Archive` of these entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        return [e for e in self.entries if after < e.position <= until][:limit]

    async def find(self, event_id: str) -> int | None:
        return next((e.position for e in self.entries if e.event_id == event_id), None)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.db"))


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[tuple[SqliteJournal, list[Entry]]]:
    journal = SqliteJournal(folder, segment_bytes=24 * 1024)
    for record in some_records(COUNT):
        await journal.append([a_new_entry(record)])
    try:
        yield journal, await journal.read(0, 1_000)
    finally:
        await journal.close()


@asynchronous
async def test_trimming_deletes_whole_archived_segments(tmp_path: Path) -> None:
    async with filled(tmp_path) as (journal, entries):
        files = segments(tmp_path)
        assert len(files) > 6
        second, fourth = int(files[1].stem), int(files[3].stem)
        assert await journal.trim(second - 2) == 0
        assert await journal.trim(second - 1) == 1
        assert journal.first == second
        assert await journal.trim(fourth) == 2
        assert journal.first == fourth
        assert await journal.read(fourth - 1, 1_000) == entries[fourth - 1 :]
        # A segment without entries may exist at any moment after the last append.
        assert await journal.trim(COUNT, keep=3) > 0
        assert len(segments(tmp_path)) in (3, 4)
        await journal.trim(COUNT)
        assert len(segments(tmp_path)) in (1, 2)
        assert journal.head == COUNT
        assert await journal.append([a_new_entry(some_records(1)[0])]) == COUNT + 1


@asynchronous
async def test_a_trimmed_journal_opens_and_continues(tmp_path: Path) -> None:
    async with filled(tmp_path) as (journal, entries):
        await journal.trim(100)
        first = journal.first
    again = SqliteJournal(tmp_path)
    assert (again.first, again.head) == (first, COUNT)
    assert await again.read(first - 1, 1_000) == entries[first - 1 :]
    await again.close()


@asynchronous
async def test_the_chain_before_a_readable_position_is_known(
    tmp_path: Path,
) -> None:
    async with filled(tmp_path) as (journal, entries):
        chains = [GENESIS, *(entry.chain for entry in entries)]
        assert [
            SqliteJournalSource(tmp_path).chain_before(n) for n in range(1, COUNT + 1)
        ] == chains[:-1]
        assert SqliteJournalSource(tmp_path).chain_before(COUNT + 1) is None
        await journal.trim(100)
        first = journal.first
        assert SqliteJournalSource(tmp_path).chain_before(first - 1) is None
        assert SqliteJournalSource(tmp_path).chain_before(first) == chains[first - 1]
        assert [
            e for part in SqliteJournalSource(tmp_path).read_range(first, 150) for e in part
        ] == (entries[first - 1 : 150])


@pytest.mark.hypothesis
@settings(max_examples=25, deadline=None)
@given(
    trims=st.lists(st.integers(0, COUNT), max_size=3),
    reads=st.lists(
        st.tuples(st.integers(0, COUNT), st.integers(1, COUNT), st.none() | st.integers(0, COUNT)),
        min_size=1,
        max_size=8,
    ),
)
def test_repeated_reads_return_every_entry_once(
    whole: tuple[Path, list[Entry]], trims: list[int], reads: list[tuple[int, int, int | None]]
) -> None:
    async def story() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "journal"
            shutil.copytree(whole[0], folder)
            entries = whole[1]
            journal = SqliteJournal(folder)
            both = ArchivedJournal(journal, MemoryArchive(entries[:150]))
            for trimmed in trims:
                await journal.trim(min(trimmed, 150))
            for after, limit, until in reads:
                last = COUNT if until is None else until
                expected = [e for e in entries if after < e.position <= last]
                got: list[Entry] = []
                at = after
                while part := await both.read(at, limit, until):
                    assert len(part) <= limit
                    got.extend(part)
                    at = part[-1].position
                assert got == expected
            for position in (1, 75, COUNT):
                assert await both.find(event_id(position)) == position
            assert await both.find("none") is None
            await both.close()

    run(story())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    folder = tmp_path_factory.mktemp("whole")

    async def write() -> list[Entry]:
        async with filled(folder) as (_, entries):
            return entries

    return folder, run(write())


@asynchronous
async def test_entries_expired_in_the_archive_are_left_out(tmp_path: Path) -> None:
    async with filled(tmp_path) as (journal, entries):
        await journal.trim(100)
        first = journal.first
        both = ArchivedJournal(journal, MemoryArchive(entries[40:60]))
        assert await both.read(0, 1_000) == entries[40:60]
        assert await both.read(60, 1_000) == entries[first - 1 :]
        assert await both.read(60, 1_000, 70) == []


@asynchronous
async def test_without_an_archive_trimmed_positions_are_an_error(tmp_path: Path) -> None:
    async with filled(tmp_path) as (journal, entries):
        second = int(segments(tmp_path)[1].stem)
        await journal.trim(second - 1, 2)
        whole = ArchivedJournal(journal, NoArchive())
        assert await whole.read(second - 1, 1_000) == entries[second - 1 :]
        with pytest.raises(StorageFailed, match=f"positions 1 to {second - 1} were trimmed"):
            await whole.read(0, 1_000)
        assert await whole.find(entries[0].event_id) is None
        assert await whole.find(entries[-1].event_id) == COUNT
