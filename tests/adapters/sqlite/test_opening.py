"""A journal opens whatever its last process has left, and despite later losses."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import SqliteJournal
from opentrail.core.errors import StorageFailed
from opentrail.ports.journal import KnownPositions
from tests.adapters.sqlite import test_repair as damaged
from tests.adapters.sqlite.test_journal import (
    append_one_by_one,
    first_break_of_chain,
    opened,
    rows,
    segments,
)
from tests.adapters.sqlite.test_repair import COUNT, entries, is_as_written, written
from tests.factories import a_new_entry, event_id
from tests.fakes import asynchronous, run


def _no_file(_file: Path) -> None:
    pass


def _an_empty_file(file: Path) -> None:
    file.touch()


def _a_database_without_tables(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")


def _tables_without_a_name(file: Path) -> None:
    older = segments(file.parent)[0]
    with closing(sqlite3.connect(older)) as source:
        statements = [row[0] for row in source.execute("SELECT sql FROM sqlite_master")]
    with closing(sqlite3.connect(file)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


@pytest.mark.anomaly
@pytest.mark.parametrize(
    "half_made", [_no_file, _an_empty_file, _a_database_without_tables, _tables_without_a_name]
)
def test_an_incomplete_segment_is_finished_at_the_start(tmp_path: Path, half_made: object) -> None:
    async def before() -> int:
        async with opened(tmp_path) as journal:
            await append_one_by_one(journal, 23)
            return journal.head

    async def after() -> None:
        async with opened(tmp_path) as journal:
            assert journal.head == 23
            await append_one_by_one(journal, 20, 24)
            assert journal.head == 43
        async with opened(tmp_path) as journal:
            found = [(e.position, e.event_id) for e in await journal.read(0, 100)]
            assert found == [(number, event_id(number)) for number in range(1, 44)]

    head = run(before())
    newest = segments(tmp_path)[-1]
    if int(newest.stem) == head + 1 and not rows(newest):
        newest.unlink()
    assert callable(half_made)
    half_made(tmp_path / f"{head + 1:020d}.db")
    run(after())
    assert first_break_of_chain(tmp_path) is None


@asynchronous
async def test_missing_folder_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nowhere"):
        SqliteJournal(tmp_path / "nowhere")


@pytest.mark.slow
@asynchronous
async def test_missing_segments_are_named_with_reserved_numbers(
    tmp_path: Path,
) -> None:
    before = await written(tmp_path / "whole")
    names = [path.name for path in segments(tmp_path / "whole")]
    assert len(names) >= 4
    for gone in (*[[name] for name in names], names[1:3], names[-2:], names[:2], names):
        folder = tmp_path / "-".join(gone)[:200]
        shutil.copytree(tmp_path / "whole", folder)
        for name in gone:
            (folder / name).unlink()
        async with damaged.opened(folder, known=KnownPositions(0, COUNT)) as journal:
            lost = await is_as_written(journal, before)
            ranges = {
                n
                for name, following in zip(names, [*names[1:], f"{COUNT + 1}.db"], strict=True)
                for n in range(int(name[:-3]), int(following[:-3]))
                if name in gone
            }
            assert lost == ranges
            assert await journal.append([a_new_entry()]) == COUNT + 1
        async with damaged.opened(folder, known=KnownPositions(0, COUNT)) as journal:
            assert await is_as_written(journal, before) == ranges
            assert journal.head == COUNT + 1


@asynchronous
async def test_a_missing_journal_continues_after_the_sealed_files(tmp_path: Path) -> None:
    async with damaged.opened(tmp_path, known=KnownPositions(sealed=700, written=720)) as journal:
        assert journal.head == 720
        assert [(one.first, one.last) for one in journal.lost] == [(701, 720), (721, None)]
        assert await journal.read(700, 10) == []
        assert await journal.append(entries(2)) == 722
        assert [entry.position for entry in await journal.read(700, 10)] == [721, 722]


@asynchronous
async def test_a_reopened_empty_journal_has_lost_nothing(
    tmp_path: Path,
) -> None:
    for known in (None, KnownPositions(0, 0), KnownPositions(0, 0)):
        async with damaged.opened(tmp_path, known=known) as journal:
            assert (journal.head, journal.lost) == (0, [])
