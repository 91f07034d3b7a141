"""Reading for several trails: every entry once and in order, cached while another trail reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.entry_matching import EntryBatch
from opentrail.core.event import Entry
from opentrail.trails.plans import BATCH, SharedReading
from tests.factories import a_data_record, a_new_entry, a_record, an_entry, event_id
from tests.fakes import MemoryJournal, asynchronous, run


class CountingJournal(MemoryJournal):
    """A journal that counts its reads, and may have trimmed positions."""

    def __init__(self, count: int, gone: Sequence[int] = ()) -> None:
        super().__init__([an_entry(n) for n in range(1, count + 1)])
        self.reads: list[tuple[int, int | None]] = []
        self._gone = frozenset(gone)

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns existing entries, at most 700 at a time."""
        self.reads.append((after, until))
        found = await super().read(after, min(limit, 700), until)
        return [entry for entry in found if entry.position not in self._gone]


async def all_of(reading: SharedReading, after: int, until: int) -> list[int]:
    positions: list[int] = []
    while after < until:
        batch, entries, reached = await reading.read(after, until)
        assert after < reached <= until
        assert set(entries) <= set(batch.entries)
        positions += [entry.position for entry in entries]
        after = reached
    return positions


@pytest.mark.campaign
@given(st.integers(0, 2_600), st.integers(0, 2_600), st.booleans())
@pytest.mark.slow
def test_every_entry_of_a_range_is_read_once(after: int, until: int, together: bool) -> None:
    async def story() -> None:
        reading = SharedReading(CountingJournal(2_600))
        if together:
            with reading.together():
                await all_of(reading, 0, 2_600)
                assert await all_of(reading, after, until) == list(range(after + 1, until + 1))
        else:
            assert await all_of(reading, after, until) == list(range(after + 1, until + 1))

    run(story())


@asynchronous
async def test_deleted_entries_are_left_out() -> None:
    reading = SharedReading(CountingJournal(2_600, gone=[1, 500, *range(1_001, 2_001), 2_600]))
    expected = [n for n in range(1, 2_600) if n not in (1, 500) and not 1_000 < n <= 2_000]
    assert await all_of(reading, 0, 2_600) == expected


@asynchronous
async def test_shared_readers_read_the_journal_once() -> None:
    journal = CountingJournal(3_000)
    reading = SharedReading(journal)
    with reading.together():
        await all_of(reading, 0, 3_000)
        once = len(journal.reads)
        with reading.together():
            await all_of(reading, 0, 3_000)
        await all_of(reading, 500, 2_500)
        assert len(journal.reads) == once
    await all_of(reading, 0, BATCH)
    assert len(journal.reads) > once, "nothing is kept once nobody reads"


@asynchronous
async def test_growing_files_are_not_cached() -> None:
    journal = CountingJournal(1_500)
    reading = SharedReading(journal)
    with reading.together():
        await all_of(reading, 0, 1_500)
        await journal.append([a_new_entry(a_record(eventID=event_id(1_501)))])
        assert await all_of(reading, 1_499, 1_501) == [1_500, 1_501]


@asynchronous
async def test_the_cache_is_limited_in_bytes() -> None:
    journal = CountingJournal(5_000)
    size = EntryBatch(await journal.read(0, BATCH)).bytes
    reading = SharedReading(journal, cached_bytes=3 * size)
    with reading.together():
        await all_of(reading, 0, 5_000)
        read = len(journal.reads)
        await all_of(reading, 4_000, 5_000)
        assert len(journal.reads) == read
        await all_of(reading, 0, 1_000)
        assert len(journal.reads) > read


def test_a_record_is_parsed_once_for_many_readers() -> None:
    entry = an_entry(5, a_data_record(eventID=event_id(5)))
    batch = EntryBatch([entry])
    record = batch.record_of(entry)
    assert (record.fields.event_name, record.event_time) == ("PutObject", "2020-01-01T09:00:00Z")
    # A position never gets other bytes; here other bytes would reveal a second read.
    other = replace(entry, record=b"never read")
    assert batch.record_of(other) is record
    with pytest.raises(ValueError, match="Expecting value"):
        _ = EntryBatch([other]).record_of(other).fields
