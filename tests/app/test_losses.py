"""Losses are recorded, even if the server ends several times before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.data_directory.unrecorded_counts import GapFile, kept_gaps
from opentrail.adapters.duckdb.expiry import ExpiryNote, notes, write_note
from opentrail.app.losses import record_expired, record_gaps, record_losses
from opentrail.core.errors import RecordRefused, StorageFailed
from opentrail.core.event import NewEntry
from opentrail.core.gaps import Gap
from opentrail.ports.event_store import ExpiredEvents
from opentrail.ports.journal import LostPositions
from tests.factories import MOMENT
from tests.fakes import MemoryJournal, SettableClock, asynchronous, eventually, run_skipping_time

GAP = Gap(3, MOMENT, MOMENT, "disk full")
LOST = LostPositions(4, 6, "the segment is gone")


async def details(journal: MemoryJournal) -> list[dict[str, Any]]:
    """Returns the details in the records of the losses."""
    records = [json.loads(entry.record) for entry in await journal.read(0, 100)]
    return [record["serviceEventDetails"] for record in records]


@asynchronous
async def test_gap_of_an_earlier_run_is_recorded_once(tmp_path: Path) -> None:
    for gap in (GAP, None):
        GapFile(tmp_path).keep(gap)
    journal = MemoryJournal()
    for _start in range(2):
        await record_gaps(tmp_path, journal, SettableClock())
        assert list(kept_gaps(tmp_path)) == []
    [recorded] = await details(journal)
    assert recorded["lostRecords"] == 3
    assert recorded["reason"] == "disk full"


@asynchronous
async def test_damaged_gap_is_recorded_without_number(tmp_path: Path) -> None:
    GapFile(tmp_path).keep(GAP)
    ((file, _),) = kept_gaps(tmp_path)
    file.write_bytes(file.read_bytes()[:30])
    journal = MemoryJournal()
    await record_gaps(tmp_path, journal, SettableClock())
    [recorded] = await details(journal)
    assert list(recorded) == ["reason"]
    assert f"file lost/{file.name} is damaged" in recorded["reason"]


@asynchronous
async def test_an_unrecorded_gap_waits_for_the_next_start(tmp_path: Path) -> None:
    class FullJournal(MemoryJournal):
        async def append(self, entries: Sequence[NewEntry]) -> int:
            raise RecordRefused("disk full")

    GapFile(tmp_path).keep(GAP)
    await record_gaps(tmp_path, FullJournal(), SettableClock())
    journal = MemoryJournal()
    await record_gaps(tmp_path, journal, SettableClock())
    assert len(await details(journal)) == 1


def test_loss_is_retried_until_it_is_recorded_once() -> None:
    failures: list[Exception] = [RecordRefused("disk full"), StorageFailed("disk full")]

    class FailingJournal(MemoryJournal):
        async def append(self, entries: Sequence[NewEntry]) -> int:
            if failures:
                raise failures.pop()
            return await super().append(entries)

    async def story() -> None:
        journal, losses = FailingJournal(), asyncio.Queue[LostPositions]()
        for lost in (LOST, LOST, LostPositions(9, None, "the journal is gone")):
            losses.put_nowait(lost)
        task = asyncio.create_task(record_losses(journal, losses, SettableClock()))
        await eventually(lambda: journal.head == 2, 1)
        task.cancel()
        first, second = await details(journal)
        assert (first["firstPosition"], first["lastPosition"]) == (4, 6)
        assert first["lostRecords"] == 3
        assert "lastPosition" not in second

    run_skipping_time(story())


@asynchronous
async def test_repeated_attempts_record_an_expiry_once(tmp_path: Path) -> None:
    class FailingJournal(MemoryJournal):
        left = 1

        async def append(self, entries: Sequence[NewEntry]) -> int:
            if not self.left:
                raise RecordRefused("disk full")
            self.left -= 1
            return await super().append(entries)

    expired = [ExpiredEvents(name, "disk", 3, 1, 9, MOMENT, MOMENT) for name in ("Data", "Insight")]
    write_note(tmp_path, ExpiryNote("a.duckdb", None, 1, 9, tuple(expired)))
    journal, recorded = FailingJournal(), list[ExpiredEvents]()
    with pytest.raises(RecordRefused):
        await record_expired(tmp_path, journal, SettableClock(), recorded.append)
    assert len(list(notes(tmp_path))) == 1
    journal.left = 5
    for _start in range(2):
        await record_expired(tmp_path, journal, SettableClock(), recorded.append)
    assert [found["category"] for found in await details(journal)] == ["Data", "Insight"]
    assert list(notes(tmp_path)) == []
