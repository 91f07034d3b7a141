"""A journal whose files were lost, cut, overwritten or altered reports every loss."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.repair import repair
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core import faults
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.ports.journal import KnownPositions
from tests.factories import MOMENT, a_new_entry, a_record, event_id, some_new_entries
from tests.fakes import GENESIS, asynchronous

pytestmark = pytest.mark.anomaly

PAGE = 4096
COUNT = 120
#: Several leaf pages and several segments.
SEGMENT = 100 * 1024


@asynccontextmanager
async def opened(
    folder: Path, segment_bytes: int = SEGMENT, known: KnownPositions | None = None
) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(folder, segment_bytes=segment_bytes, known=known)
    try:
        yield journal
    finally:
        await journal.close()


def entries(count: int = COUNT, first: int = 1) -> list[NewEntry]:
    """Returns records of all sizes, some as large as several pages."""
    chance = random.Random(first)
    made = []
    for number, new in enumerate(some_new_entries(count, first)):
        size = chance.choice((10, 500, 3_000, 9_000 if number % 10 == 0 else 10))
        record = a_record(eventID=event_id(first + number), requestParameters={"k": "x" * size})
        made.append(a_new_entry(record))
        assert made[-1].event_id == new.event_id
    return made


async def written(folder: Path, segment_bytes: int = SEGMENT) -> list[Entry]:
    """Writes a journal and returns its entries."""
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - pathlib blocks as much
    async with opened(folder, segment_bytes) as journal:
        for new in entries():
            await journal.append([new])
        return await journal.read(0, 1_000)


def lost_positions(journal: SqliteJournal) -> set[int]:
    return {n for one in journal.lost if one.last for n in range(one.first, one.last + 1)}


async def is_as_written(journal: SqliteJournal, before: list[Entry]) -> set[int]:
    """Checks that every entry is unchanged or named as lost; returns the lost positions."""
    found = await journal.read(0, 10_000)
    await journal.check()
    lost = lost_positions(journal)
    by_position = {entry.position: entry for entry in before}
    for entry in found:
        if (whole := by_position.get(entry.position)) is not None:
            # No other entry confirms these two.
            assert replace(entry, origin="", recorded_at=MOMENT) == replace(
                whole, origin="", recorded_at=MOMENT
            )
    assert {entry.position for entry in found} & lost == set()
    assert {entry.position for entry in found} | lost >= set(by_position)
    return lost & set(by_position)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.db"))


def held_in_page(path: Path, page: int) -> set[int]:
    """Returns the positions whose rows lie in a page of a database, wholly or in part."""
    cut = path.with_suffix(".cut")
    shutil.copy(path, cut)
    overwrite(cut, (page - 1) * PAGE, b"\0" * PAGE)
    everything = rows_readable(path)
    gone = set()
    for position, record in everything.items():
        with closing(sqlite3.connect(cut)) as reader:
            try:
                row = reader.execute(
                    "SELECT record FROM entries WHERE position = ?", (position,)
                ).fetchone()
            except sqlite3.DatabaseError:
                row = None
        if row is None or row[0] != record:
            gone.add(position)
    cut.unlink()
    return gone


def rows_readable(path: Path) -> dict[int, bytes]:
    with closing(sqlite3.connect(path)) as reader:
        return dict(reader.execute("SELECT position, record FROM entries").fetchall())


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.mark.campaign
@asynchronous
async def test_a_page_of_zeros_costs_only_its_records(tmp_path: Path) -> None:
    before = await written(tmp_path / "whole", 1 << 30)
    (whole,) = segments(tmp_path / "whole")
    pages = whole.stat().st_size // PAGE
    leaves = 0
    for page in range(1, pages + 1):
        folder = tmp_path / f"page-{page}"
        folder.mkdir()
        path = folder / whole.name
        shutil.copy(whole, path)
        overwrite(path, (page - 1) * PAGE, b"\0" * PAGE)
        async with opened(folder, 1 << 30, KnownPositions(0, COUNT)) as journal:
            assert journal.head >= COUNT
            lost = await is_as_written(journal, before)
            position = await journal.append([a_new_entry(a_record(eventID=event_id(5_000)))])
            assert position > COUNT
        # No page holds more rows than these; upper pages hold none.
        assert len(lost) <= 8, page
        leaves += bool(lost)
        shutil.rmtree(folder)
    assert leaves > pages // 2


@pytest.mark.campaign
@asynchronous
async def test_a_flipped_byte_is_found_anywhere(tmp_path: Path) -> None:
    before = await written(tmp_path / "whole", 1 << 30)
    (whole,) = segments(tmp_path / "whole")
    content = whole.read_bytes()
    chance = random.Random(1)
    harmed = 0
    for entry in chance.sample(before, 60):
        member = b'"eventID":"' + entry.event_id.encode()
        if (at := content.find(member)) < 0:  # it spans two pages
            continue
        at += chance.randrange(len(member))
        folder = tmp_path / f"flip-{entry.position}"
        folder.mkdir()
        (folder / whole.name).write_bytes(content)
        overwrite(folder / whole.name, at, bytes([content[at] ^ 1 << chance.randrange(8)]))
        async with opened(folder, 1 << 30) as journal:
            assert await is_as_written(journal, before) == {entry.position}
            harmed += 1
        assert list(folder.glob("*.damaged"))
        shutil.rmtree(folder)
    assert harmed > 40


@asynchronous
async def test_flipped_bytes_are_reported_anywhere(tmp_path: Path) -> None:
    before = await written(tmp_path / "whole", 1 << 30)
    (whole,) = segments(tmp_path / "whole")
    content = whole.read_bytes()
    chance = random.Random(2)
    for number in range(80):
        folder = tmp_path / f"flip-{number}"
        folder.mkdir()
        (folder / whole.name).write_bytes(content)
        at = chance.randrange(len(content))
        overwrite(folder / whole.name, at, bytes([content[at] ^ 1 << chance.randrange(8)]))
        async with opened(folder, 1 << 30, KnownPositions(0, COUNT)) as journal:
            assert len(await is_as_written(journal, before)) <= 8, at
        shutil.rmtree(folder)


@pytest.mark.campaign
@asynchronous
async def test_cut_file_keeps_the_entries_before_the_cut(tmp_path: Path) -> None:
    before = await written(tmp_path / "whole", 1 << 30)
    (whole,) = segments(tmp_path / "whole")
    content = whole.read_bytes()
    kept = []
    for part in range(12):
        folder = tmp_path / f"cut-{part}"
        folder.mkdir()
        size = len(content) * part // 12 + part
        (folder / whole.name).write_bytes(content[:size])
        async with opened(folder, 1 << 30, KnownPositions(0, COUNT)) as journal:
            lost = await is_as_written(journal, before)
            assert lost
            kept.append(COUNT - len(lost))
            assert await journal.append([a_new_entry()]) > COUNT
    assert kept == sorted(kept)
    assert kept[-1] > COUNT * 3 // 4


@asynchronous
async def test_commits_after_a_damaged_log_frame_are_reported(
    tmp_path: Path,
) -> None:
    folder, copy = tmp_path / "journal", tmp_path / "copy"
    folder.mkdir()
    async with opened(folder, 1 << 30) as journal:
        for new in entries(40):
            await journal.append([new])
        before = await journal.read(0, 1_000)
        shutil.copytree(folder, copy)  # the state after a kill
    (log,) = copy.glob("*-wal")
    size = log.stat().st_size
    assert size > 40 * PAGE
    for at in (0, 32, size // 3, size // 2):
        damaged = tmp_path / f"damaged-{at}"
        shutil.copytree(copy, damaged)
        overwrite(damaged / log.name, at, b"\0" * PAGE)
        async with opened(damaged, 1 << 30) as journal:
            lost = await is_as_written(journal, before)
            assert len(lost) <= 8
            assert [one for one in journal.lost if one.last is None], "the end is not known"


@asynchronous
async def test_an_unfinished_write_ahead_log_is_not_damage(tmp_path: Path) -> None:
    folder, copy = tmp_path / "journal", tmp_path / "copy"
    folder.mkdir()
    async with opened(folder, 1 << 30) as journal:
        for new in entries(40):
            await journal.append([new])
        before = await journal.read(0, 1_000)
        shutil.copytree(folder, copy)
    (log,) = copy.glob("*-wal")
    content = log.read_bytes()
    for size in range(0, len(content), 9_001):
        (copy / log.name).write_bytes(content[:size])
        torn = tmp_path / f"torn-{size}"
        shutil.copytree(copy, torn)
        async with opened(torn, 1 << 30) as journal:
            assert journal.lost == []
            assert await journal.read(0, 1_000) == before[: journal.head]


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ("UPDATE entries SET record = x'7b7d' WHERE position = :n", False),
        ("DELETE FROM entries WHERE position = :n", False),
        ("UPDATE entries SET position = position + 1000 WHERE position = :n", False),
        ("UPDATE entries SET chain = zeroblob(32) WHERE position = :n", True),
        ("UPDATE entries SET event_id = 'other' WHERE position = :n", True),
        ("UPDATE entries SET category = 'Data' WHERE position = :n", True),
        ("UPDATE entries SET account = '210987654321' WHERE position = :n", True),
        ("UPDATE entries SET region = x'ff' WHERE position = :n", True),
        ("UPDATE entries SET recorded_at = -1 << 62 WHERE position = :n", True),
    ],
)
@asynchronous
async def test_altered_row_stays_if_the_chain_confirms_it(
    tmp_path: Path, change: str, stays: bool
) -> None:
    before = await written(tmp_path)
    for position in (1, 37, COUNT - 20):
        path = [p for p in segments(tmp_path) if int(p.stem) <= position][-1]
        with closing(sqlite3.connect(path)) as database:
            database.execute(change, {"n": position})
            database.commit()
    async with opened(tmp_path) as journal:
        await journal.check()
        lost = lost_positions(journal) & set(range(1, COUNT + 1))
        assert lost == (set() if stays else {1, 37, COUNT - 20})
        kept = [entry for entry in before if entry.position not in lost]
        assert await journal.read(0, 1_000, COUNT) == kept
        assert journal.lost or journal.is_checked


@asynchronous
async def test_an_interrupted_repair_is_finished_at_the_start(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    before = await written(tmp_path)
    path = segments(tmp_path)[1]
    with closing(sqlite3.connect(path)) as database:
        first = int(path.stem)
        database.execute("DELETE FROM entries WHERE position = ?", (first + 1,))
        database.commit()
    journal = SqliteJournal(tmp_path, segment_bytes=SEGMENT)
    faults.arm("journal.repaired", 1, die)
    try:
        with pytest.raises(Killed):
            await journal.check()
    finally:
        faults.arm("journal.repaired", 1 << 60, die)
        await journal.close()
    path.replace(path.with_name(f"{path.name}.damaged"))  # as if it had gone on a little
    async with opened(tmp_path) as journal:
        assert await is_as_written(journal, before) == {first + 1}


@asynchronous
async def test_an_unreadable_block_costs_only_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await written(tmp_path)
    path = segments(tmp_path)[1]
    page = path.stat().st_size // PAGE // 2
    overwrite(path, page * PAGE, b"\0" * PAGE)  # for SQLite, which reads on its own
    unpatched = os.pread
    refused: list[int] = []

    def pread(descriptor: int, size: int, at: int) -> bytes:
        if at <= page * PAGE < at + size and os.fstat(descriptor).st_ino == inode:
            refused.append(at)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return unpatched(descriptor, size, at)

    inode = path.stat().st_ino
    monkeypatch.setattr(os, "pread", pread)
    async with opened(tmp_path) as journal:
        lost = await is_as_written(journal, before)
    assert refused
    assert 0 < len(lost) < 10


@asynchronous
async def test_an_event_is_found_despite_damaged_segments(tmp_path: Path) -> None:
    before = await written(tmp_path)
    for path in segments(tmp_path)[1:3]:
        overwrite(path, 0, b"\0" * PAGE)
    async with opened(tmp_path) as journal:
        assert await journal.find(before[0].event_id) == 1


@pytest.mark.parametrize("column", ["chain", "chain_before"])
@asynchronous
async def test_a_chain_of_another_type_is_damage(tmp_path: Path, column: str) -> None:
    before = await written(tmp_path)
    path = segments(tmp_path)[1]
    first = int(path.stem)
    with closing(sqlite3.connect(path)) as database:
        if column == "chain":
            database.execute("UPDATE entries SET chain = 'text' WHERE position = ?", (first + 1,))
        else:
            database.execute("UPDATE segment SET chain_before = 'text'")
        database.commit()
    async with opened(tmp_path) as journal:
        after = first + 1 if column == "chain" else first - 1
        found = await journal.read(after, 1, COUNT)
        assert [entry.position for entry in found] == [after + 1]
        assert await is_as_written(journal, before) == set()


@asynchronous
async def test_entries_after_a_known_gap_survive_a_repair(
    tmp_path: Path,
) -> None:
    far = 5_000_000
    async with opened(tmp_path, 1 << 30) as journal:
        await journal.append(entries(20))
    async with opened(tmp_path, 1 << 30, KnownPositions(0, far)) as journal:
        assert await journal.append(entries(20, 21)) == far + 20
    (path,) = segments(tmp_path)
    shutil.copy(path, tmp_path / "copy")
    repair(path, None, GENESIS, "a test", far)
    found = [
        e.position for batch in SqliteJournalSource(tmp_path).read_range(1, far + 20) for e in batch
    ]
    assert found == [*range(1, 21), *range(far + 1, far + 21)]


@pytest.mark.parametrize("position", [3, 60])
@asynchronous
async def test_damaged_entries_are_lost_one_after_the_other(tmp_path: Path, position: int) -> None:
    before = await written(tmp_path, 1 << 30)
    (path,) = segments(tmp_path)
    for damaged in (position, position + 1):  # found separately
        with closing(sqlite3.connect(path)) as database:
            alter = "UPDATE entries SET record = zeroblob(length(record)) WHERE position = ?"
            database.execute(alter, (damaged,))
            database.commit()
        async with opened(tmp_path, 1 << 30) as journal:
            lost = await is_as_written(journal, before)
    assert lost == {position, position + 1}


@asynchronous
async def test_two_adjacent_damages_leave_only_records(tmp_path: Path) -> None:
    before = await written(tmp_path, 1 << 30)
    (path,) = segments(tmp_path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM entries WHERE position BETWEEN 60 AND 64")
        alter = "UPDATE entries SET record = zeroblob(length(record)) WHERE position = 65"
        database.execute(alter)
        database.commit()
        database.execute("VACUUM")
    async with opened(tmp_path, 1 << 30) as journal:
        assert await is_as_written(journal, before) == set(range(60, 66))


@asynchronous
async def test_a_failed_renaming_during_repair_costs_nothing(tmp_path: Path) -> None:
    before = await written(tmp_path)
    path = segments(tmp_path)[1]
    overwrite(path, 0, b"\0" * PAGE)

    def fail() -> None:
        path.replace(path.with_name(f"{path.name}.damaged"))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with opened(tmp_path) as journal:
        faults.arm("journal.repaired", 1, fail)
        try:
            with pytest.raises(StorageFailed, match="cannot be repaired"):
                await journal.check()
        finally:
            faults.arm("journal.repaired", 1 << 60, fail)
        await journal.check()
        assert await is_as_written(journal, before) == set()
