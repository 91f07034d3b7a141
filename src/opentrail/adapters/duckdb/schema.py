"""The tables of the hot layer and of sealed files, and the SQL over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from opentrail.adapters.duckdb.expressions import SqlCondition, all_of, condition_of, exactly
from opentrail.adapters.duckdb.index import INSERT_KEYS, Index
from opentrail.adapters.duckdb.record_columns import (
    COLUMNS,
    DEFINED,
    STORED,
    ColumnPartitioning,
    divided,
)
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.event import Entry, from_micros, micros
from opentrail.ports.event_store import DATA_CATEGORIES, EventQuery, FoundEvent

_COLUMNS = (
    ("position", "BIGINT"),
    ("origin", "VARCHAR"),
    ("recorded_at", "BIGINT"),  # microseconds since 1970
    ("event_time", "BIGINT"),  # seconds since 1970
    ("event_id", "VARCHAR"),
    ("event_name", "VARCHAR"),
    ("event_source", "VARCHAR"),
    ("read_only", "BOOLEAN"),
    ("category", "VARCHAR"),
    ("account", "VARCHAR"),
    ("region", "VARCHAR"),
    ("username", "VARCHAR"),
    ("access_key_id", "VARCHAR"),
    ("principal_arn", "VARCHAR"),
    ("source_ip", "VARCHAR"),
    ("error_code", "VARCHAR"),
    ("resource_types", "VARCHAR[]"),
    ("resource_names", "VARCHAR[]"),
    ("record", "VARCHAR"),
)

#: The columns of a table in memory, and their types.
HOT_COLUMNS = dict(_COLUMNS)
#: Columns omitted from a sealed file: its index and the records contain their values.
_INDEXED = ("event_id", "resource_names")
#: The columns of a sealed file's table, without the records.
_SEALED = tuple(column for column in _COLUMNS[:-1] if column[0] not in _INDEXED)
#: All columns of a sealed file's table, in order.
SEALED_COLUMNS = ", ".join((*(name for name, _ in _SEALED), STORED))

#: Attribute key of LookupEvents → its condition.
_CONDITIONS = {
    "EventId": "event_id = ?",
    "EventName": "event_name = ?",
    "EventSource": "event_source = ?",
    "ReadOnly": "read_only = (? = 'true')",
    "Username": "username = ?",
    "AccessKeyId": "access_key_id = ?",
    "ResourceType": "list_contains(resource_types, ?)",
    "ResourceName": "list_contains(resource_names, ?)",
}
_SHOWN = "position, record"
_NAMES = [name for name, _ in _COLUMNS]
_SOURCE, _NAME, _RECORD = map(_NAMES.index, ("event_source", "event_name", "record"))

#: The fields of a journal entry, for a range of positions of a table.
ENTRIES = (
    "SELECT position, origin, recorded_at, account, region, category, record"
    " FROM {table} WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)
#: The columns whose values come from the record itself.
FROM_RECORD = ", ".join(name for name, _ in _SEALED[3:])
#: The description of a sealed file: one row.
ABOUT = (
    "CREATE TABLE made.about (format INTEGER, first BIGINT, last BIGINT, chain_before BLOB,"
    " oldest BIGINT, newest BIGINT, newest_recorded BIGINT)"
)
#: The imported files: the SHA-256 of their contents, and the report of their import.
IMPORTED = "CREATE TABLE made.imported (sha256 VARCHAR, name VARCHAR, outcome VARCHAR)"
FORMAT = 5


@dataclass(frozen=True, slots=True)
class Table:
    """A table of events; the table of a sealed file has an index."""

    name: str
    index: Index | None = None

    @property
    def keys(self) -> str:
        """The sort columns of rows, and the place of a row's record."""
        return f"event_time, position, rowid, {'0' if self.index is None else 'part'}"


def create_hot(name: str, more: Mapping[str, str] = {}) -> str:
    """Returns the statement that creates a table in memory; `more` adds columns and types."""
    kinds = {**HOT_COLUMNS, **more}
    return f"CREATE TABLE {name} ({', '.join(f'{column} {kinds[column]}' for column in kinds)})"


def create_sealed() -> str:
    """Returns the statement that creates a sealed file's table."""
    columns = (f"{name} {kind}" for name, kind in _SEALED)
    return f"CREATE TABLE made.events ({', '.join(columns)}, {DEFINED})"


def insert_sealed(
    rows: Sequence[tuple[Any, ...]], partitioning: ColumnPartitioning
) -> Iterator[tuple[str, list[list[Any]]]]:
    """Yields statements and arguments that insert rows into a sealed file and its keys."""
    lists = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in HOT_COLUMNS]
    columns = dict(zip(HOT_COLUMNS, lists, strict=True))
    parts = parts_of(rows, partitioning)
    indexed = [columns.pop(name) for name in _INDEXED]
    keys = [columns["position"], columns["category"], parts, *indexed]
    records = columns.pop("record")
    record_columns = {"part": "TINYINT", **dict.fromkeys(COLUMNS, "VARCHAR")}
    values = [*columns.values(), parts, *divided(parts, records)]
    yield _insert("made.events", {**dict(_SEALED), **record_columns}), values
    yield INSERT_KEYS, keys


def parts_of(rows: Sequence[Sequence[Any]], partitioning: ColumnPartitioning) -> list[int]:
    """Returns the number of the record column of each row."""
    return partitioning.parts([(row[_SOURCE], row[_NAME], len(row[_RECORD])) for row in rows])


def _insert(name: str, kinds: Mapping[str, str]) -> str:
    values = [f"unnest(?::{kinds[name]}[]) AS {name}" for name in kinds]
    return f"INSERT INTO {name} ({', '.join(kinds)}) SELECT {', '.join(values)}"


def row_of(entry: Entry, attributes: Attributes) -> tuple[Any, ...]:
    """Returns the row of an entry; the entry's fields take precedence over the record's."""
    key = (entry.position, entry.origin, micros(entry.recorded_at))
    owner = (entry.category, entry.account, entry.region)
    return _row(key, entry.event_id, owner, attributes, entry.record)


def imported_row(number: int, attributes: Attributes, raw: bytes) -> tuple[Any, ...]:
    """Returns the row of an imported record."""
    owner = (attributes.category, attributes.account, attributes.region)
    return _row((number, "import", 0), attributes.event_id, owner, attributes, raw)


def _row(
    key: tuple[int, str, int],
    event_id: str,
    owner: tuple[str, str, str],
    attributes: Attributes,
    record: bytes,
) -> tuple[Any, ...]:
    """Returns a row: position, origin and recording time, then the other columns in order."""
    return (
        *key,
        int(attributes.event_time.timestamp()),
        event_id,
        attributes.event_name,
        attributes.event_source,
        attributes.read_only,
        *owner,
        attributes.username,
        attributes.access_key_id,
        attributes.principal_arn,
        attributes.source_ip,
        attributes.error_code,
        [resource.type for resource in attributes.resources],
        [resource.name for resource in attributes.resources],
        record.decode(),
    )


def entry_of(row: Sequence[Any], chain: bytes) -> Entry:
    """Returns the journal entry in a row of `ENTRIES`."""
    position, origin, recorded_at, account, region, category, record = row
    moment = from_micros(recorded_at)
    raw = record.encode()
    event_id = str(orjson.loads(raw).get("eventID", ""))
    return Entry(position, origin, moment, account, region, category, event_id, chain, raw)


def conditions_of(query: EventQuery) -> tuple[list[str], list[Any]]:
    """Returns the conditions of a query, and their arguments.

    Omits attribute, expression and `before`.
    """
    conditions: list[str] = ["position BETWEEN ? AND ?"]
    arguments: list[Any] = [-query.snapshot.imported, query.snapshot.recorded]
    since = query.recorded_since
    for sql, value in (
        ("recorded_at >= ?", since and micros(since)),
        ("account = ?", query.account),
        ("region = ?", query.region),
        ("event_time >= ?", query.start and query.start.timestamp()),
        ("event_time <= ?", query.end and query.end.timestamp()),
    ):
        if value is not None:
            conditions.append(sql)
            arguments.append(value)
    if query.data_since is not None:
        conditions.append(f"(recorded_at >= ? OR category NOT IN {DATA_CATEGORIES})")
        arguments.append(micros(query.data_since))
    if query.categories is not None:
        marks = ", ".join("?" * len(query.categories))
        conditions.append(f"category IN ({marks})")
        arguments.extend(query.categories)
    return conditions, arguments


def matching(table: Table, query: EventQuery) -> SqlCondition:
    """Returns the condition of a query's events in a table, except `before`."""
    conditions, arguments = conditions_of(query)
    parts = [exactly(" AND ".join(conditions), *arguments)]
    if query.attribute is not None:
        sql, values = _attribute(table, *query.attribute)
        is_id = table.index is not None and query.attribute[0] == "EventId"
        parts.append(SqlCondition(sql, tuple(values)) if is_id else exactly(sql, *values))
    if query.expression is not None:
        parts.append(condition_of(query.expression, table.index))
    return all_of(parts)


def select_page(
    table: Table,
    query: EventQuery,
    columns: str = _SHOWN,
    rows: Sequence[int] | None = None,
) -> tuple[str, list[Any]]:
    """Returns the statement and arguments that read one table's own newest page.

    Args:
        table: the table.
        query: the query.
        columns: the columns to read.
        rows: the candidate rows for the query's attribute, if known. If they fit on the page, the
            result is unordered.
    """
    conditions, arguments = conditions_of(query)
    if rows is not None:
        conditions.append("rowid IN (SELECT unnest(?::BIGINT[]))")
        arguments.append(list(rows))
    elif query.attribute is not None:
        sql, values = _attribute(table, *query.attribute)
        conditions.append(sql)
        arguments.extend(values)
    if query.before is not None:
        moment, position = query.before
        conditions.append("(event_time < ? OR (event_time = ? AND position < ?))")
        arguments.extend([int(moment.timestamp()), int(moment.timestamp()), position])
    if query.expression is not None:
        fitting = condition_of(query.expression, table.index)
        conditions.append(f"({fitting.sql})")
        arguments.extend(fitting.arguments)
    statement = f"SELECT {columns} FROM {table.name} WHERE {' AND '.join(conditions)}"  # noqa: S608 - ours
    if rows is None or len(rows) > query.limit:
        statement += " ORDER BY event_time DESC, position DESC LIMIT ?"
        arguments.append(query.limit)
    return statement, arguments


def _attribute(table: Table, key: str, value: str) -> tuple[str, list[Any]]:
    """Returns the condition of a lookup attribute; an id may also match other ids."""
    if table.index is not None and key == "EventId":
        return table.index.has_id(value)
    if table.index is not None and key == "ResourceName":
        return table.index.has_resource(value)
    return _CONDITIONS[key], [value]


def select_rows(
    table: Table, rows: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, list[list[int]]]]:
    """Yields statements and arguments that read the records of rows, one for each record column.

    Args:
        table: the table.
        rows: the number of each row, and its part, as in `Table.keys`.
    """
    for column, numbers in by_column(table, rows):
        yield (
            f"SELECT position, {column} FROM {table.name}"  # noqa: S608 - ours
            " WHERE rowid IN (SELECT unnest(?::BIGINT[]))",
            [numbers],
        )


def by_column(table: Table, rows: Sequence[tuple[int, int]]) -> Iterator[tuple[str, list[int]]]:
    """Yields record columns, each with the numbers of its rows."""
    columns = COLUMNS if table.index is not None else ("record",)
    for part, column in enumerate(columns):
        if numbers := [row for row, own in rows if own == part]:
            yield column, numbers


def found_event(row: Sequence[Any]) -> FoundEvent:
    """Returns the event in a row of `select_page`."""
    position, record = row
    return FoundEvent.of(position, attributes_of(orjson.loads(record)), record)
