"""One sealed file: complete with its description, or missing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import duckdb
import pytest

from opentrail.adapters.data_directory.sealed_file_names import Series, read_name
from opentrail.adapters.duckdb import sealed_file
from opentrail.adapters.duckdb.record_columns import ColumnPartitioning
from opentrail.adapters.duckdb.schema import FORMAT, insert_sealed, row_of
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.core.attributes import attributes_of
from opentrail.core.event import micros
from tests.factories import MOMENT, a_record, an_entry, some_records

ROWS = [row_of(an_entry(n, r), attributes_of(r)) for n, r in enumerate(some_records(5), 1)]


def fill(connection: duckdb.DuckDBPyConnection, last: int = 5) -> int:
    for statement, arguments in insert_sealed(ROWS, ColumnPartitioning()):
        connection.execute(statement, arguments)
    return last


def test_a_file_describes_its_content(tmp_path: Path) -> None:
    path = write_sealed(Sealing(tmp_path, Series.JOURNAL, 1, chain_before=b"c" * 32), fill)
    with duckdb.connect(str(path), read_only=True) as database:
        about = database.execute("SELECT * FROM about").fetchall()
    start = int(MOMENT.timestamp())
    times = [row[3] for row in ROWS]
    assert (min(times), max(times)) == (start + 1, start + 5)
    assert about == [(FORMAT, 1, 5, b"c" * 32, min(times), max(times), micros(MOMENT))]


@pytest.mark.parametrize("last", [4, 6])
def test_another_number_of_rows_is_refused(tmp_path: Path, last: int) -> None:
    with pytest.raises(RuntimeError, match=f"5 of the {last} entries"):
        write_sealed(Sealing(tmp_path, Series.JOURNAL, 1), partial(fill, last=last))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_filling_leaves_nothing(tmp_path: Path) -> None:
    def fail(connection: duckdb.DuckDBPyConnection) -> int:
        fill(connection)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_sealed(Sealing(tmp_path, Series.JOURNAL, 1), fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_records_beyond_the_memory_leave_only_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sealed_file.LIMITS, "memory_limit", "24MB")
    record = json.dumps(a_record(requestParameters={"a": "x" * 240_000}))
    rows = [(*row[:-1], record) for row in ROWS]

    def fill_large(connection: duckdb.DuckDBPyConnection) -> int:
        for _ in range(40):
            for statement, arguments in insert_sealed(rows, ColumnPartitioning()):
                connection.execute(statement, arguments)
        return 200

    with pytest.raises(duckdb.Error, match="MiB used"):
        write_sealed(Sealing(tmp_path, Series.JOURNAL, 1), fill_large)
    assert list(tmp_path.iterdir()) == []


def test_imported_events_have_separate_files(tmp_path: Path) -> None:
    path = write_sealed(Sealing(tmp_path, Series.IMPORTED, 1), fill)
    named = read_name(path)
    assert named is not None
    assert named.series is Series.IMPORTED
    with duckdb.connect(str(path), read_only=True) as database:
        assert database.execute("SELECT * FROM imported").fetchall() == []
