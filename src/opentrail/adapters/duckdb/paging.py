"""Pages of events, gathered from several tables."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.adapters.duckdb.index import KNOWN, MOST_PLACES, probe
from opentrail.adapters.duckdb.lookup_pool import LookupPool
from opentrail.adapters.duckdb.partitions import PARTS
from opentrail.adapters.duckdb.schema import (
    Table,
    by_column,
    found_event,
    select_page,
    select_rows,
)
from opentrail.adapters.duckdb.table_set import AT_ONCE, SEARCHES_AT_ONCE, Database, EventTable
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.expression import Expression, holds
from opentrail.ports.event_store import EventQuery, FoundEvent

#: Rows that are looked through at a time for what SQL cannot decide.
_FIRST_STEP, _LONGEST_STEP = 200, 5_000
#: Nobody waits for longer.
_LONGEST_SEARCH = 100.0


@dataclass(frozen=True, slots=True)
class _Key:
    """Where an event belongs in a page, and where it is; the event, if it was read already."""

    seconds: int
    position: int
    source: EventTable
    row: int
    part: int
    event: FoundEvent | None = None

    @classmethod
    def of(cls, event: FoundEvent, source: EventTable) -> _Key:
        """Returns the key of an event that was read already."""
        return cls(int(event.event_time.timestamp()), event.position, source, -1, 0, event)


class Pages:
    """Finds the newest events that a query describes, in as few tables as that takes."""

    def __init__(self, database: Database, asking: LookupPool) -> None:
        self._database = database
        self._asking = asking

    async def page(self, sources: Sequence[EventTable], query: EventQuery) -> list[FoundEvent]:
        """Asks each table for its own newest page, newest table first, until the rest is older.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        # Records are unpacked by the thousand: only those of the page are read, in a second step.
        keys: list[_Key] = []
        is_search = query.expression is not None
        asked = [source for source in sources if source.may_hold(query)]
        asked.sort(key=lambda source: (source.file is None, source.newest), reverse=True)
        known: dict[EventTable, list[tuple[int, int]] | None] = {}
        waiting = asked
        # The hot table, then the newest file alone: mostly a page is full then.
        for size in itertools.chain((1, 1, 2), itertools.repeat(AT_ONCE)):
            if len(keys) == query.limit:
                waiting = [source for source in waiting if source.newest >= keys[-1].seconds]
            if unknown := [source for source in waiting if source not in known]:
                # What the first two have is found alone, what all the others have at once.
                known |= await self._known(unknown if len(known) > 1 else unknown[:1], query)
                waiting = [source for source in waiting if known.get(source) != []]
            if not waiting:
                break
            most = min(size, SEARCHES_AT_ONCE) if is_search else size
            wave = [source for source in waiting if source in known][:most]
            waiting = [source for source in waiting if source not in wave]
            room = query.limit - len(keys)
            found = await self._asking.all(
                [(source, self._keys, (source, query, room, known[source])) for source in wave],
                is_search,
            )
            keys = sorted(
                [*keys, *found], key=lambda key: (key.seconds, key.position), reverse=True
            )
            del keys[query.limit :]
        events = {key.position: key.event for key in keys if key.event is not None}
        wanted: dict[EventTable, list[tuple[int, int]]] = {}
        for key in keys:
            if key.event is None:
                wanted.setdefault(key.source, []).append((key.row, key.part))
        reading = [
            (source, self._events, statement)
            for source, rows in wanted.items()
            for statement in select_rows(source.table, rows)
        ]
        events |= {event.position: event for event in await self._asking.all(reading, is_search)}
        return [events[key.position] for key in keys]

    def _keys(
        self,
        source: EventTable,
        query: EventQuery,
        room: int,
        known: Sequence[tuple[int, int]] | None,
    ) -> list[_Key]:
        table = source.table
        expression = query.expression
        if expression is not None and not condition_of(expression, table.index).exact:
            fitting = self._select_fitting(table, query, expression)
            return [_Key.of(event, source) for event in fitting]
        key, value = query.attribute or (None, None)
        is_id = table.index is not None and key == "EventId"
        if is_id or (known is not None and len(known) <= room):
            # As far as is known all belong on the page: their records are read at once.
            events = self._known_events(table, query, known)
            if is_id:
                # The index knows ids by their hashes: others may have the same.
                events = [event for event in events if event.event_id == value]
            return [_Key.of(event, source) for event in events]
        few = None if known is None else [row for row, _ in known]
        found = self._database.execute(*select_page(table, query, table.keys, few))
        return [_Key(seconds, position, source, *place) for seconds, position, *place in found]

    def _known_events(
        self, table: Table, query: EventQuery, known: Sequence[tuple[int, int]] | None
    ) -> list[FoundEvent]:
        wide = replace(query, limit=_LONGEST_STEP)
        if known is None:
            return self._events(*select_page(table, wide))
        return [
            event
            for column, rows in by_column(table, known)
            for event in self._events(*select_page(table, wide, f"position, {column}", rows))
        ]

    async def _known(
        self, sources: Sequence[EventTable], query: EventQuery
    ) -> dict[EventTable, list[tuple[int, int]] | None]:
        """Returns the rows of each source that may have the query's attribute, with their parts.

        None if any row may have it.
        """
        known: dict[EventTable, list[tuple[int, int]] | None] = dict.fromkeys(sources)
        key, value = query.attribute or ("", "")
        indexed = [source for source in sources if source.table.index is not None]
        if key not in KNOWN or not indexed:
            return known
        indexes = [source.table.index for source in indexed if source.table.index is not None]
        asked = probe(indexes, key, value, query.categories)
        places: dict[int, list[int]] = {}
        for number, part in await self._asking.among(indexed, self._database.execute, *asked):
            places.setdefault(number, []).extend(part)
        for number, source in enumerate(indexed):
            found = places.get(number, [])
            if len(found) <= MOST_PLACES:
                known[source] = [divmod(place, PARTS) for place in found]
        return known

    def _events(self, statement: str, arguments: Sequence[Any]) -> list[FoundEvent]:
        return [found_event(row) for row in self._database.execute(statement, arguments)]

    def _select_fitting(
        self, table: Table, query: EventQuery, expression: Expression
    ) -> list[FoundEvent]:
        """Looks through what SQL leaves over, newest first, in growing steps."""
        page: list[FoundEvent] = []
        step, before = max(query.limit, _FIRST_STEP), query.before
        end = time.monotonic() + _LONGEST_SEARCH
        while True:
            if time.monotonic() > end:
                raise StorageFailed(f"history: the search took more than {_LONGEST_SEARCH:.0f} s")
            part = replace(query, limit=step, before=before)
            rows = self._database.execute(*select_page(table, part))
            for event in map(found_event, rows):
                record = orjson.loads(event.record)
                if holds(expression, attributes_of(record), record):
                    page.append(event)
                    if len(page) == query.limit:
                        return page
            if len(rows) < step:
                return page
            before = (event.event_time, event.position)
            step = min(step * 4, _LONGEST_STEP)
