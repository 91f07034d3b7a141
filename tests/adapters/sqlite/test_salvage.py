"""Rows that are read without SQLite are those that SQLite reads."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

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


@settings(max_examples=200)
@given(content=st.binary(max_size=9_000), size=st.integers(0, 3))
def test_no_content_is_an_error(content: bytes, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        path.write_bytes(b"\x0d" + content[: size * 3_000])
        Path(f"{path}-wal").write_bytes(content)
        list(rows_in(path, 9))
        has_hidden_commits(path)


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert list(rows_in(tmp_path / "none.db", 9)) == []
    assert not has_hidden_commits(tmp_path / "none.db")
