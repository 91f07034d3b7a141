"""Entries of the journal as rows of DuckDB, with the columns of event history that SQL needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Entry, micros
from opentrail.ports.journal import JournalSource

_KINDS = {
    "position": "BIGINT",
    "recorded_at": "BIGINT",
    "event_time": "BIGINT",
    "event_name": "VARCHAR",
    "event_source": "VARCHAR",
    "error_code": "VARCHAR",
    "source_ip": "VARCHAR",
    "category": "VARCHAR",
    "account": "VARCHAR",
    "region": "VARCHAR",
    "record": "VARCHAR",
}
COLUMNS = ", ".join(_KINDS)
#: Members of the record, each a column.
_MEMBERS = ("eventTime", "eventName", "eventSource", "errorCode", "sourceIPAddress", "awsRegion")
#: One call reads them all, so that DuckDB parses each record once.
_AT_ONCE = ", ".join(f"'/{name}'" for name in _MEMBERS)
_EACH = ", ".join(f"TRY(record ->> '/{name}')" for name in _MEMBERS)
_VALUES = (
    "SELECT position, recorded_at, CAST(floor(epoch(TRY_CAST(m[1] AS TIMESTAMP))) AS BIGINT),"
    " m[2], m[3], m[4], m[5], category, account, m[6], record FROM (SELECT *,"
    f" coalesce(TRY(json_extract_string(record, [{_AT_ONCE}])), [{_EACH}]) AS m"
    # In SELECT, unnest() takes twice as long.
    " FROM (SELECT * FROM unnest(?::BIGINT[]) AS a(position)"
    " POSITIONAL JOIN unnest(?::BIGINT[]) AS b(recorded_at)"
    " POSITIONAL JOIN unnest(?::VARCHAR[]) AS c(category)"
    " POSITIONAL JOIN unnest(?::VARCHAR[]) AS d(account)"
    " POSITIONAL JOIN unnest(?::VARCHAR[]) AS e(record)))"
)


def create_rows(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Makes an empty table."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _KINDS.items())
    connection.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, entries: Sequence[Entry]) -> int:
    """Adds entries to a table; returns the characters of their records."""
    records = [entry.record.decode() for entry in entries]
    values: list[list[Any]] = [
        [entry.position for entry in entries],
        [micros(entry.recorded_at) for entry in entries],
        [entry.category for entry in entries],
        [entry.account for entry in entries],
        records,
    ]
    connection.execute(f"INSERT INTO {table} {_VALUES}", values)
    return sum(map(len, records))


def create_records(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Makes an empty table for records alone, whose columns are made later."""
    connection.execute(f"CREATE OR REPLACE TABLE {table} (record VARCHAR)")


def insert_records(
    connection: duckdb.DuckDBPyConnection, table: str, entries: Sequence[Entry]
) -> int:
    """Adds the records of entries to a table; returns their characters."""
    records = [entry.record.decode() for entry in entries]
    connection.execute(f"INSERT INTO {table} FROM unnest(?::VARCHAR[])", [records])
    return sum(map(len, records))


def existing_runs(journal: JournalSource, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yields the ranges within `first`…`last` that the journal has not lost."""
    for lost in journal.lost_between(first, last):
        if lost.last is not None:
            if first < lost.first:
                yield first, lost.first - 1
            first = max(first, lost.last + 1)
    if first <= last:
        yield first, last


def readable(journal: JournalSource, first: int, last: int) -> Iterator[list[Entry]]:
    """Yields the entries `first`…`last` in order, without lost and damaged ones."""
    while first <= last:
        try:
            for entries in journal.read_range(first, last):
                yield entries
                first = entries[-1].position + 1
        except JournalDamaged as error:
            if error.position < first:
                return
            first = error.position + 1
        else:
            return
