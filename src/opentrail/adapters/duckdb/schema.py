"""The one table of hot layer and sealed files, and the SQL over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.core.attributes import Resource
from opentrail.ports.event_store import EventQuery, FoundEvent, IndexedEntry

_COLUMNS = (
    ("position", "BIGINT"),
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

#: Attribute key of LookupEvents → the condition that finds it.
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
_SHOWN = (
    "position, event_time, event_id, event_name, event_source, read_only, username,"
    " access_key_id, resource_types, resource_names, record"
)


def create_table(name: str, sealed: bool) -> str:
    """Returns the statement that makes the table; sealed files compress the record with zstd."""
    columns = []
    for column, kind in _COLUMNS:
        zstd = " USING COMPRESSION ZSTD" if sealed and column == "record" else ""
        columns.append(f"{column} {kind}{zstd}")
    return f"CREATE TABLE {name} ({', '.join(columns)})"


def insert_into(name: str) -> str:
    """Returns an INSERT that takes one list per column (fast: one statement per batch)."""
    kinds = dict(_COLUMNS)
    values = [f"unnest(?::{kinds[name]}[]) AS {name}" for name in kinds]
    return f"INSERT INTO {name} SELECT {', '.join(values)}"


def column_lists(entries: Sequence[IndexedEntry]) -> list[list[Any]]:
    """Returns the arguments of `insert_into`: one list per column."""
    columns: list[list[Any]] = [[] for _ in _COLUMNS]
    for entry in entries:
        found = entry.attributes
        row = (
            entry.position,
            int(found.event_time.timestamp()),
            found.event_id,
            found.event_name,
            found.event_source,
            found.read_only,
            found.category,
            found.account,
            found.region,
            found.username,
            found.access_key_id,
            found.principal_arn,
            found.source_ip,
            found.error_code,
            [resource.type for resource in found.resources],
            [resource.name for resource in found.resources],
            entry.record.decode(),
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def select_page(table: str, query: EventQuery) -> tuple[str, list[Any]]:
    """Returns the statement and arguments that ask one table for its own newest page."""
    conditions: list[str] = ["position <= ?"]
    arguments: list[Any] = [query.until_position]
    for column, wanted in (("account", query.account), ("region", query.region)):
        if wanted is not None:
            conditions.append(f"{column} = ?")
            arguments.append(wanted)
    if query.categories is not None:
        marks = ", ".join("?" * len(query.categories))
        conditions.append(f"category IN ({marks})")
        arguments.extend(query.categories)
    if query.attribute is not None:
        key, value = query.attribute
        conditions.append(_CONDITIONS[key])
        arguments.append(value)
    if query.start is not None:
        conditions.append("event_time >= ?")
        arguments.append(query.start.timestamp())
    if query.end is not None:
        conditions.append("event_time <= ?")
        arguments.append(query.end.timestamp())
    if query.before is not None:
        moment, position = query.before
        conditions.append("(event_time < ? OR (event_time = ? AND position < ?))")
        arguments.extend([int(moment.timestamp()), int(moment.timestamp()), position])
    if query.expression is not None:
        fitting = condition_of(query.expression)
        conditions.append(f"({fitting.sql})")
        arguments.extend(fitting.arguments)
    statement = (
        f"SELECT {_SHOWN} FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608 - ours
        " ORDER BY event_time DESC, position DESC LIMIT ?"
    )
    return statement, [*arguments, query.limit]


def found_event(row: Sequence[Any]) -> FoundEvent:
    """Returns the event in a row of `select_page`."""
    types, names = row[8] or [], row[9] or []
    return FoundEvent(
        position=row[0],
        event_time=datetime.fromtimestamp(row[1], UTC),
        event_id=row[2],
        event_name=row[3],
        event_source=row[4],
        read_only=row[5],
        username=row[6],
        access_key_id=row[7],
        resources=tuple(Resource(kind, name) for kind, name in zip(types, names, strict=True)),
        record=row[10],
    )
