"""Parquet files, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.duckdb.parquet import COLUMNS, ParquetFile
from opentrail.core.errors import StorageFailed

EVIL = "名\x00\"',\r\n\u2028\U0001f600=1"


def a_row(position: int, **changes: Any) -> tuple[Any, ...]:
    values = {
        **dict.fromkeys(COLUMNS),
        "position": position,
        "event_time": 1_577_869_200 + position,
        "read_only": position % 2 == 0,
        "resource_types": [],
        "resource_names": [],
        "record": "{}",
        **changes,
    }
    return tuple(values[name] for name in COLUMNS)


def read(path: Path) -> list[tuple[Any, ...]]:
    columns = "* REPLACE (epoch(event_time)::BIGINT AS event_time)"
    return duckdb.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()  # noqa: S608


def test_rows_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    rows = [a_row(position) for position in range(9_999, -3, -1)]
    rows.append(a_row(-3, username=EVIL, record=EVIL, account=""))
    rows.append(a_row(-4, resource_types=[None, EVIL], resource_names=["a", EVIL]))
    rows.append(a_row(-5, record="x" * 300_000))
    file = ParquetFile(path)
    for start in range(0, len(rows), 700):
        file.add(rows[start : start + 700])
    file.finish()
    found = duckdb.execute(
        "SELECT * REPLACE (epoch(event_time)::BIGINT AS event_time)"  # noqa: S608
        f" FROM read_parquet('{tmp_path}/*.parquet')"
    ).fetchall()
    assert found == rows


def test_columns_have_their_types_and_times_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    file = ParquetFile(path)
    file.add([a_row(1)])
    file.finish()
    described = duckdb.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()  # noqa: S608
    kinds = {
        name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        for name, kind, *_ in described
    }
    assert kinds == COLUMNS
    codecs = duckdb.execute(
        f"SELECT DISTINCT compression FROM parquet_metadata('{path}')"  # noqa: S608
    ).fetchall()
    assert codecs == [("ZSTD",)]
    assert read(path) == [a_row(1)]


def test_a_file_without_rows_is_a_file_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ParquetFile(path).finish()
    assert read(path) == []
    described = duckdb.execute(f"SELECT * FROM read_parquet('{path}')").description  # noqa: S608
    assert len(described or ()) == len(COLUMNS)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = ParquetFile(tmp_path / "no" / "a.parquet")
    file.add([a_row(1)])
    with pytest.raises(StorageFailed, match=r"a\.parquet"):
        file.finish()
    file.close()
