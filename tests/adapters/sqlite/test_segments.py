"""Segments of a journal: their positions, and the facts about a closed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.sqlite import segments as module
from opentrail.adapters.sqlite.segments import Segment, chain_of, ends_of, holds_entries
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.event import Entry
from opentrail.ports.journal import UNKNOWN_CHAIN
from tests.adapters.sqlite.test_journal import append_one_by_one, opened, segments
from tests.fakes import asynchronous


def test_a_segment_ends_where_the_next_one_begins() -> None:
    first, second = Segment(1, Path("a")), Segment(30, Path("b"))
    assert list(ends_of([first, second], 44)) == [(first, 29), (second, 44)]
    assert list(ends_of([first, second], 0)) == [(first, 29), (second, 29)]
    assert list(ends_of([], 44)) == []


@asynchronous
async def test_chain_is_read_during_and_after_a_run(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        entries = await journal.read(0, 30)
        assert [chain_of(tmp_path, n) for n in range(1, 31)] == [e.chain for e in entries]
        assert chain_of(tmp_path, 31) == UNKNOWN_CHAIN
    assert chain_of(tmp_path, 30, is_live=False) == entries[-1].chain


@asynchronous
async def test_a_new_segment_holds_no_entries_until_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (path,) = segments(tmp_path)
        assert not holds_entries(path)
        await append_one_by_one(journal, 1)
        assert holds_entries(path)
    assert holds_entries(path, is_live=False)


@asynchronous
async def test_read_of_large_entries_has_fewer_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers can cause thousands of them, which could exceed the server's memory."""
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        all_entries = await journal.read(0, 30)
    async with opened(tmp_path) as journal:
        assert len(segments(tmp_path)) > 1
        size = sum(len(entry.record) for entry in all_entries[:4])
        monkeypatch.setattr(module, "_READ_BYTES", size + 1)
        entries: list[Entry] = []
        sizes = []
        while more := await journal.read(len(entries), 30):
            entries += more
            sizes.append(len(more))
        assert entries == all_entries
        assert set(sizes[:-1]) == {5}
        assert len(await journal.read(0, 3)) == 3
        monkeypatch.setattr(module, "_READ_BYTES", 1)
        parts = list(SqliteJournalSource(tmp_path).read_range(1, 30))
        assert parts == [[entry] for entry in all_entries]
