"""Events as Parquet files that pandas, Spark and DuckDB read as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from opentrail.core.errors import StorageFailed

#: Column → its type; rows give `event_time` in seconds since 1970.
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
#: Rows per INSERT.
_STEP = 2_000
_ROW_GROUP = 10_240


class ParquetFile:
    """A file whose rows are collected in memory until `finish` writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[Any, ...]] = []
        # Two threads are not faster when the order is preserved, and use twice the memory.
        self._database = duckdb.connect(
            ":memory:", config={"threads": 1, "preserve_insertion_order": True}
        )
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        self._database.execute(f"CREATE TABLE events ({columns})")

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows, whose values are in the order of `COLUMNS`.

        Raises:
            StorageFailed: they cannot be stored.
        """
        self._rows.extend(rows)
        if len(self._rows) >= _STEP:
            self._insert()

    def _insert(self) -> None:
        if not self._rows:
            return
        values = []
        for name, kind in COLUMNS.items():
            if name == "event_time":
                values.append("to_timestamp(unnest(?::BIGINT[]))")
            else:
                values.append(f"unnest(?::{kind}[])")
        lists = [list(column) for column in zip(*self._rows, strict=True)]
        statement = f"INSERT INTO events SELECT {', '.join(values)}"
        self._execute(statement, lists)
        self._rows.clear()

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
        """Frees the memory."""
        self._database.close()
