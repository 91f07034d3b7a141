"""Databases are read without a trace in their folder."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opentrail.adapters.sql.at_rest import reading


def made(path: Path, *, is_killed: bool) -> None:
    """Makes a database with two rows; after a killed writer, one of them is only in the log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE t (x)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        writer.execute("INSERT INTO t VALUES (2)")
        if is_killed:
            shutil.copytree(path.parent, path.parent.with_name("killed"))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()}


@pytest.mark.parametrize("is_killed", [False, True])
def test_dry_run_changes_nothing(tmp_path: Path, is_killed: bool) -> None:
    folder = tmp_path / "folder with ? and %"
    folder.mkdir()
    made(folder / "a.db", is_killed=is_killed)
    folder = tmp_path / "killed" if is_killed else folder
    if is_killed:
        (folder / "a.db-shm").unlink()
        assert (folder / "a.db-wal").stat().st_size
    before = contents(folder)
    with reading(folder / "a.db", is_live=False) as reader:
        assert reader.execute("SELECT x FROM t ORDER BY x").fetchall() == [(1,), (2,)]
    assert contents(folder) == before


def test_reader_sees_uncheckpointed_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    made(path, is_killed=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("INSERT INTO t VALUES (3)")
        with reading(path, is_live=True) as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (3,)
