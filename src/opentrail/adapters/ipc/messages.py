"""What the server and its history process say to each other, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import orjson

from opentrail.adapters.ipc.link import records_in, with_records
from opentrail.core.attributes import Resource
from opentrail.core.event import Entry, from_micros, micros
from opentrail.core.expression import from_document, to_document
from opentrail.ports.event_store import EventQuery, FoundEvent

#: What the server asks.
OPEN, ADD, LOOKUP, READ, FIND = "open", "add", "lookup", "read", "find"
SHOW_IMPORTS, EXPIRE, STATE, CLOSE = "show-imports", "expire", "state", "close"
#: What the server asks an import worker.
STAGE, COMMIT = "stage", "commit"
#: What the history process asks.
REPAIR_JOURNAL = "repair-journal"

_MOMENTS = ("start", "end", "recorded_since")
_PLAIN = tuple(
    field.name
    for field in fields(EventQuery)
    if field.name not in (*_MOMENTS, "before", "expression")
)


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """Returns entries as bytes."""
    described = [
        (
            entry.position,
            entry.origin,
            micros(entry.recorded_at),
            entry.account,
            entry.region,
            entry.category,
            entry.event_id,
            entry.chain.hex(),
        )
        for entry in entries
    ]
    return with_records(described, [entry.record for entry in entries])


def unpack_entries(packed: bytes) -> list[Entry]:
    """Returns the entries in `packed`; the inverse of `pack_entries`."""
    entries = []
    for row, record in records_in(packed):
        position, origin, recorded_at, account, region, category, event_id, chain = row
        moment, raw = from_micros(recorded_at), bytes.fromhex(chain)
        entries.append(
            Entry(position, origin, moment, account, region, category, event_id, raw, record)
        )
    return entries


def pack_query(query: EventQuery) -> bytes:
    """Returns a query as JSON."""
    document: dict[str, Any] = {name: getattr(query, name) for name in _PLAIN}
    for name in _MOMENTS:
        moment: datetime | None = getattr(query, name)
        document[name] = moment and moment.isoformat()
    document["before"] = query.before and [query.before[0].isoformat(), query.before[1]]
    document["expression"] = query.expression and to_document(query.expression)
    return orjson.dumps(document)


def unpack_query(packed: bytes) -> EventQuery:
    """Returns the query in `packed`; the inverse of `pack_query`."""
    document = orjson.loads(packed)
    for name in _MOMENTS:
        document[name] = document[name] and datetime.fromisoformat(document[name])
    for name in ("attribute", "categories"):
        document[name] = None if document[name] is None else tuple(document[name])
    if document["before"] is not None:
        moment, position = document["before"]
        document["before"] = datetime.fromisoformat(moment), position
    document["expression"] = document["expression"] and from_document(document["expression"])
    return EventQuery(**document)


def pack_found(found: Sequence[FoundEvent]) -> bytes:
    """Returns found events as JSON."""
    return orjson.dumps(
        [
            (
                event.position,
                int(event.event_time.timestamp()),
                event.event_id,
                event.event_name,
                event.event_source,
                event.read_only,
                event.username,
                event.access_key_id,
                [(resource.type, resource.name) for resource in event.resources],
                event.record,
            )
            for event in found
        ]
    )


def unpack_found(packed: bytes) -> list[FoundEvent]:
    """Returns the found events in `packed`; the inverse of `pack_found`."""
    found = []
    for row in orjson.loads(packed):
        row[1] = datetime.fromtimestamp(row[1], UTC)
        row[8] = tuple(Resource(kind, name) for kind, name in row[8])
        found.append(FoundEvent(*row))
    return found
