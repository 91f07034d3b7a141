"""The newest segment grows until it or the disk is full, or a new one is requested."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.core.errors import RecordRefused
from tests.adapters.sqlite.test_journal import (
    TINY_SEGMENT,
    append_one_by_one,
    append_until_refused,
    first_break_of_chain,
    opened,
    segments,
)
from tests.factories import event_id, some_new_entries
from tests.fakes import asynchronous, eventually, fill, run, small_disk, turns


@asynchronous
async def test_the_segment_size_may_change_later(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=1 << 30) as journal:
        await append_one_by_one(journal, 30)
    assert len(segments(tmp_path)) == 1
    async with opened(tmp_path, segment_bytes=TINY_SEGMENT) as journal:
        await append_one_by_one(journal, 30, 31)
    assert len(segments(tmp_path)) > 3
    assert first_break_of_chain(tmp_path) is None
    async with opened(tmp_path, segment_bytes=1 << 30) as journal:
        assert [e.position for e in await journal.read(0, 100)] == list(range(1, 61))


@pytest.mark.anomaly
@asynchronous
async def test_a_full_disk_refuses_records_and_recovers_automatically(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2_000) as disk:
        async with opened(disk, segment_bytes=1 << 30) as journal:
            await append_one_by_one(journal, 5)
            filler = fill(disk)
            acknowledged = await append_until_refused(journal, 6) - 1
            assert journal.failure is not None
            assert "full" in journal.failure
            assert journal.head == acknowledged
            with pytest.raises(RecordRefused):
                await journal.append(some_new_entries(100, 2_000))
            kept = [entry.position for entry in await journal.read(0, 2_000)]
            assert kept == list(range(1, acknowledged + 1))

            filler.unlink()
            await eventually(lambda: journal.failure is None)
            await append_one_by_one(journal, 5, acknowledged + 1)
            assert journal.head == acknowledged + 5
        assert first_break_of_chain(disk) is None
        async with opened(disk) as journal:
            found = [entry.event_id for entry in await journal.read(0, 2_000)]
            assert found == [event_id(number) for number in range(1, acknowledged + 6)]


@pytest.mark.anomaly
@asynchronous
async def test_reserved_space_is_left_to_other_files(tmp_path: Path) -> None:
    reserved = 500_000
    with small_disk(tmp_path / "disk", 2_000) as disk:
        async with opened(disk, segment_bytes=1 << 30, reserved_bytes=reserved) as journal:
            acknowledged = await append_until_refused(journal, 1) - 1
            assert acknowledged > 100
            other = disk / "other"
            other.write_bytes(bytes(reserved // 2))
            with pytest.raises(RecordRefused, match="disk is full"):
                await journal.append(some_new_entries(1, 2_000))
            await turns()
            assert journal.failure is not None, "a probe leaves the space as well"
        async with opened(disk) as journal:
            await append_one_by_one(journal, 5, acknowledged + 1)


@pytest.mark.anomaly
@pytest.mark.parametrize("kilobytes_left", [0, 16, 24, 32, 48, 64, 80, 96, 112, 136])
def test_a_full_disk_anywhere_leaves_a_whole_journal(tmp_path: Path, kilobytes_left: int) -> None:
    """The remaining space decides what fails: a row, a new segment's file, its tables, its name."""

    async def story(disk: Path) -> None:
        async with opened(disk) as journal:
            await append_one_by_one(journal, 5)
            filler = fill(disk, kilobytes_left)
            last = await append_until_refused(journal, 6)
            filler.unlink()
            await eventually(lambda: journal.failure is None)
            await append_one_by_one(journal, 20, last)
            head = journal.head
            assert head == last + 19
        async with opened(disk) as journal:
            expected = [(number, event_id(number)) for number in range(1, head + 1)]
            assert [(e.position, e.event_id) for e in await journal.read(0, 1_000)] == expected
            for position, name in expected:
                assert [e.event_id for e in await journal.read(position - 1, 1)] == [name]
            assert await journal.append(some_new_entries(1)) == head + 1

    with small_disk(tmp_path / "disk", 1_500) as disk:
        run(story(disk))


@pytest.mark.anomaly
@asynchronous
async def test_a_failed_new_segment_is_started_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 1)
        for number in range(2, 60):
            (tmp_path / f"{number:020d}.db").mkdir()
        stuck = await append_until_refused(journal, 2) - 1
        assert journal.head == stuck
        assert "new segment" in (journal.failure or "")
        assert 1 < stuck < 60
        assert [entry.position for entry in await journal.read(0, 100)] == [*range(1, stuck + 1)]
        for number in range(2, 60):
            (tmp_path / f"{number:020d}.db").rmdir()
        await eventually(lambda: journal.failure is None)
        await append_one_by_one(journal, 20, stuck + 1)
    assert len(segments(tmp_path)) > 3
    assert first_break_of_chain(tmp_path) is None
