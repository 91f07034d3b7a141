"""A journal's segments, read by another process while the journal is written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import segments as module
from opentrail.adapters.sqlite.segments import (
    chain_before,
    first_position,
    read_range,
    records_behind,
)
from tests.adapters.sqlite.test_journal import append_one_by_one, opened, segments
from tests.factories import event_id
from tests.fakes import GENESIS, asynchronous


@asynchronous
async def test_a_range_can_be_read_by_another_process_while_the_journal_is_written(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from opentrail.adapters.sqlite.segments import read_range\n"
        "batches = list(read_range(Path(sys.argv[1]), 5, 33, batch=10))\n"
        "print([[(e.position, e.event_id) for e in batch] for batch in batches])"
    )
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 40)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        writing = asyncio.create_task(append_one_by_one(journal, 30, 41))
        said, _ = await child.communicate()
        await writing
        assert journal.head == 70
    assert child.returncode == 0
    batches = json.loads(said.decode().replace("'", '"').replace("(", "[").replace(")", "]"))
    assert all(len(batch) <= 10 for batch in batches)
    flat = [tuple(pair) for batch in batches for pair in batch]
    assert flat == [(number, event_id(number)) for number in range(5, 34)]


@asynchronous
async def test_a_range_holds_what_append_has_acknowledged(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(1, 25):
            await append_one_by_one(journal, 1, number)
            found = [e for batch in read_range(tmp_path, 1, number) for e in batch]
            assert [e.position for e in found] == list(range(1, number + 1))
        assert [list(read_range(tmp_path, 25, 90)), list(read_range(tmp_path, 9, 8))] == [[], []]


@pytest.mark.parametrize("at_once", [1, 4, 5_000])
@asynchronous
async def test_what_is_behind_a_position_is_found_by_its_event_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "_IDS_PER_STATEMENT", at_once)
    wanted = {event_id(number) for number in (3, 12, 29)}
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        assert len(segments(tmp_path)) > 2
        records = {entry.event_id: entry.record for entry in await journal.read(0, 30)}
        for position in (0, 2, 3, 11, 12, 28, 29, 30):
            found = dict(records_behind(tmp_path, position, wanted))
            behind = {event_id(number) for number in (3, 12, 29) if number > position}
            assert found == {one: records[one] for one in behind}


@asynchronous
async def test_who_looks_for_event_ids_leaves_the_journal_free(tmp_path: Path) -> None:
    """Else what is written meanwhile cannot be moved into the database."""

    class Wanted:
        """What is wanted: nothing; asked for, it writes and has all that is written moved."""

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
        assert list(records_behind(tmp_path, 1, wanted)) == []
    assert wanted.asked == 4


@asynchronous
async def test_the_first_position_is_that_of_the_oldest_segment(tmp_path: Path) -> None:
    assert first_position(tmp_path) == 1
    async with opened(tmp_path) as journal:
        await append_one_by_one(journal, 30)
        assert first_position(tmp_path) == 1
        await journal.trim(30)
        assert first_position(tmp_path) == journal.first > 1
        assert chain_before(tmp_path, 1) is None
    assert chain_before(tmp_path, journal.first) not in (None, GENESIS)
