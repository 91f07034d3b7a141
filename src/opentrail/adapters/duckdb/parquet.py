"""Events as Parquet files that pandas, Spark and DuckDB read as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from opentrail.core.errors import StorageFailed

#: Column → its type; `event_time` comes in as seconds since 1970.
COLUMNS = {
    "position": "BIGINT",
    "event_time": "TIMESTAMPTZ",
    "event_id": "VARCHAR",
    "event_name": "VARCHAR",
    "event_source": "VARCHAR",
    "read_only": "BOOLEAN",
    "username": "VARCHAR",
    "access_key_id": "VARCHAR",
    "account": "VARCHAR",
    "region": "VARCHAR",
    "category": "VARCHAR",
    "source_ip": "VARCHAR",
    "error_code": "VARCHAR",
    "principal_arn": "VARCHAR",
    "resource_types": "VARCHAR[]",
    "resource_names": "VARCHAR[]",
    "record": "VARCHAR",
}
#: Rows are put into the table so many at a time.
_STEP = 2_000
_ROW_GROUP = 10_240


class ParquetFile:
    """One file: rows gather in memory, in columns, until it is written at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[Any, ...]] = []
        # Two threads would write no faster in order, and hold twice as much.
        self._database = duckdb.connect(
            ":memory:", config={"threads": 1, "preserve_insertion_order": True}
        )
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        self._database.execute(f"CREATE TABLE events ({columns})")

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows, whose values are in the order of `COLUMNS`.

        Raises:
            StorageFailed: there is no room for them.
        """
        self._waiting.extend(rows)
        if len(self._waiting) >= _STEP:
            self._insert()

    def _insert(self) -> None:
        if not self._waiting:
            return
        values = []
        for name, kind in COLUMNS.items():
            if name == "event_time":
                values.append("to_timestamp(unnest(?::BIGINT[]))")
            else:
                values.append(f"unnest(?::{kind}[])")
        lists = [list(column) for column in zip(*self._waiting, strict=True)]
        statement = f"INSERT INTO events SELECT {', '.join(values)}"
        self._execute(statement, lists)
        self._waiting.clear()

    def _execute(self, statement: str, lists: Sequence[Any] = ()) -> None:
        try:
            self._database.execute(statement, lists)
        except duckdb.Error as error:
            raise StorageFailed(f"{self._path} cannot be written: {error}") from error

    def finish(self) -> None:
        """Writes the file.

        Raises:
            StorageFailed: it cannot be written.
        """
        quoted = str(self._path).replace("'", "''")
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}"
        self._insert()
        self._execute(f"COPY events TO '{quoted}' ({options})")
        self.close()

    def close(self) -> None:
        """Frees what was gathered."""
        self._database.close()
