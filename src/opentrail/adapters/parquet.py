"""Events as Parquet files that pandas, Spark and DuckDB read directly."""

from __future__ import annotations

import json
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
_ACCOUNT = {"uid": "VARCHAR"}
#: Member of an event in OCSF → its type, in the form of DuckDB's `json_transform`: the same for all
#: events, so that files can be read together. Objects with arbitrary members are JSON strings.
OCSF_COLUMNS = {
    "activity_id": "INTEGER",
    "activity_name": "VARCHAR",
    "category_uid": "INTEGER",
    "category_name": "VARCHAR",
    "class_uid": "INTEGER",
    "class_name": "VARCHAR",
    "type_uid": "BIGINT",
    "severity_id": "INTEGER",
    "status_id": "INTEGER",
    "time": "BIGINT",
    "time_dt": "TIMESTAMPTZ",
    "metadata": {
        "version": "VARCHAR",
        "profiles": ["VARCHAR"],
        "uid": "VARCHAR",
        "event_code": "VARCHAR",
        "product": {
            "name": "VARCHAR",
            "vendor_name": "VARCHAR",
            "version": "VARCHAR",
            "feature": {"name": "VARCHAR"},
        },
    },
    "cloud": {"provider": "VARCHAR", "region": "VARCHAR", "account": _ACCOUNT},
    "api": {
        "operation": "VARCHAR",
        "service": {"name": "VARCHAR"},
        "version": "VARCHAR",
        "request": {"uid": "VARCHAR", "data": "VARCHAR"},
        "response": {"data": "VARCHAR", "error": "VARCHAR", "message": "VARCHAR"},
    },
    "actor": {
        "user": {
            "uid": "VARCHAR",
            "name": "VARCHAR",
            "type": "VARCHAR",
            "uid_alt": "VARCHAR",
            "credential_uid": "VARCHAR",
            "account": _ACCOUNT,
        },
        "session": {"issuer": "VARCHAR", "created_time": "BIGINT", "is_mfa": "BOOLEAN"},
        "invoked_by": "VARCHAR",
        "idp": {"name": "VARCHAR"},
    },
    "src_endpoint": {"ip": "VARCHAR", "domain": "VARCHAR", "uid": "VARCHAR"},
    "http_request": {"user_agent": "VARCHAR"},
    "resources": [{"uid": "VARCHAR", "type": "VARCHAR", "owner": {"account": _ACCOUNT}}],
    "unmapped": "VARCHAR",
}
#: Rows per INSERT.
_STEP = 2_000
_ROW_GROUP = 10_240


def _value(name: str, kind: str) -> str:
    """Returns the expression that makes a column from a list of values."""
    return "to_timestamp(unnest(?::BIGINT[]))" if name == "event_time" else f"unnest(?::{kind}[])"


class ParquetFile:
    """A file that collects rows in memory until `finish` writes it.

    Rows have the columns of `COLUMNS`.
    """

    _create = f"CREATE TABLE events ({', '.join(f'{n} {kind}' for n, kind in COLUMNS.items())})"
    _insert_rows = f"INSERT INTO events SELECT {', '.join(_value(*c) for c in COLUMNS.items())}"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[Any, ...]] = []
        # Two threads are no faster with preserved order, and use twice the memory.
        self._database = duckdb.connect(
            ":memory:", config={"threads": 1, "preserve_insertion_order": True}
        )
        self._database.execute(self._create)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows, with values in the order of the columns.

        Raises:
            StorageFailed: they cannot be stored.
        """
        self._rows.extend(rows)
        if len(self._rows) >= _STEP:
            self._insert()

    def _insert(self) -> None:
        if self._rows:
            lists = [list(column) for column in zip(*self._rows, strict=True)]
            self._execute(self._insert_rows, lists)
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


class OcsfParquetFile(ParquetFile):
    """A file with the columns of `OCSF_COLUMNS`; a row has one value, the JSON of an event."""

    _types = json.dumps(OCSF_COLUMNS)
    _create = f"CREATE TABLE events AS SELECT unnest(json_transform('{{}}', '{_types}')) LIMIT 0"
    _insert_rows = (
        "INSERT INTO events SELECT unnest(event) FROM"  # noqa: S608
        f" (SELECT json_transform(unnest(?::VARCHAR[]), '{_types}') AS event)"
    )


#: Trino's types whose strings DuckDB can read; columns of other types stay strings.
_READ_FROM_TEXT = {
    "boolean": "BOOLEAN",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp(3)": "TIMESTAMP",
    "timestamp(6)": "TIMESTAMP",
}


def write_texts(
    path: Path, names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[str | None]]
) -> None:
    """Writes rows of strings; the columns have names and Trino's types.

    Raises:
        StorageFailed: the file cannot be written.
    """
    shown = [
        f"TRY_CAST(unnest(?::VARCHAR[]) AS {_READ_FROM_TEXT.get(kind, 'VARCHAR')})"
        f' AS "{name.replace(chr(34), chr(34) * 2)}"'
        for name, kind in zip(names, types, strict=True)
    ]
    lists = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    quoted = str(path).replace("'", "''")
    try:
        with duckdb.connect(":memory:") as database:
            database.execute(f"CREATE TABLE texts AS SELECT {', '.join(shown)}", lists)
            database.execute(f"COPY texts TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
    except duckdb.Error as error:
        raise StorageFailed(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
