"""SQLite reads the same rows as the reader without SQLite."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.sqlite.salvage import has_hidden_commits, rows_in

VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.binary(max_size=20_000),
)
ROWS = st.dictionaries(st.integers(1, 1 << 40), st.tuples(VALUES, VALUES, VALUES), max_size=40)


@pytest.mark.slow
@settings(max_examples=100)
@given(rows=ROWS, in_log=st.booleans())
def test_every_row_of_an_intact_file_is_found(
    rows: dict[int, tuple[object, ...]], in_log: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c)")
            database.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, a)")
            database.execute("INSERT INTO other VALUES (1, 'x')")
            database.executemany(
                "INSERT INTO t VALUES (?, ?, ?, ?)", [(key, *row) for key, row in rows.items()]
            )
            if not in_log:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy = Path(folder) / "copy.db"
            for ending in ("", "-wal"):
                shutil.copy(f"{path}{ending}", f"{copy}{ending}")
            expected = set(database.execute("SELECT * FROM t").fetchall())
        assert set(rows_in(copy, 4)) >= expected
        assert {row[0] for row in rows_in(copy, 4)} == set(rows)
        assert not has_hidden_commits(copy)


@pytest.mark.slow
@settings(max_examples=200)
@given(content=st.binary(max_size=9_000), size=st.integers(0, 3))
def test_no_content_is_an_error(content: bytes, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(b"\x0d" + content[: size * 3_000])
        Path(f"{path}-wal").write_bytes(content)
        list(rows_in(path, 9))
        has_hidden_commits(path)


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert list(rows_in(tmp_path / "none.db", 9)) == []
    assert not has_hidden_commits(tmp_path / "none.db")


def _log_of(path: Path, groups: list[int]) -> list[int]:
    """Writes a database with a commit for each group of rows; returns its log's sizes."""
    sizes = []
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        for count in groups:
            database.execute("BEGIN")
            database.executemany("INSERT INTO t (a) VALUES (?)", [(b"a" * 1_500,)] * count)
            database.execute("COMMIT")
            sizes.append(Path(f"{path}-wal").stat().st_size)
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{path.with_name('copy.db')}{ending}")
    return sizes


def test_unwritten_blocks_of_a_commit_are_no_damage(
    tmp_path: Path,
) -> None:
    _, before, end = _log_of(tmp_path / "a.db", [10, 10, 60])
    log = tmp_path / "copy.db-wal"
    content = log.read_bytes()
    blocks = range(-(-before // 4096), end // 4096 - 1)
    assert len(blocks) > 20
    for block in blocks:
        torn = content[: block * 4096] + bytes(4096) + content[(block + 1) * 4096 :]
        log.write_bytes(torn)
        assert not has_hidden_commits(tmp_path / "copy.db"), block


def test_flipped_and_lost_commit_bytes_are_damage(
    tmp_path: Path,
) -> None:
    _, before, _ = _log_of(tmp_path / "a.db", [10, 10, 60])
    log = tmp_path / "copy.db-wal"
    content = log.read_bytes()
    log.write_bytes(content[: before + 5_000] + b"\xff" + content[before + 5_001 :])
    assert has_hidden_commits(tmp_path / "copy.db")
    log.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    assert has_hidden_commits(tmp_path / "copy.db")


@pytest.mark.parametrize("damage", [b"\0", b"\xee"])
def test_log_is_read_after_its_damaged_head(tmp_path: Path, damage: bytes) -> None:
    _log_of(tmp_path / "a.db", [10, 10])
    log = tmp_path / "copy.db-wal"
    content = bytearray(log.read_bytes())
    content[:56] = damage * 56  # the header of the file and of its first frame
    for start in range(32 + 4120, len(content), 4120):
        content[start + 15] = 0  # the salt's last byte
    log.write_bytes(content)
    (tmp_path / "copy.db").write_bytes(b"")
    assert {row[0] for row in rows_in(tmp_path / "copy.db", 2)} == set(range(1, 21))
    assert has_hidden_commits(tmp_path / "copy.db")
