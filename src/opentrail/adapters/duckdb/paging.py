"""Pages of events, gathered from several tables."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.adapters.duckdb.index import KNOWN, MAX_PLACES, probe
from opentrail.adapters.duckdb.lookup_pool import SEARCH_SECONDS, LookupPool
from opentrail.adapters.duckdb.record_columns import PARTS
from opentrail.adapters.duckdb.schema import Table, by_column, found_event, select_page, select_rows
from opentrail.adapters.duckdb.table_set import (
    PARALLEL_LOOKUPS,
    PARALLEL_SEARCHES,
    Database,
    EventTable,
)
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.expression import Expression, holds
from opentrail.ports.event_store import PAGE_TEXT, EventQuery, FoundEvent

#: Rows to read in the first step where SQL alone cannot decide.
_FIRST_STEP = 200
#: Tables that get a separate statement each.
_PROBED_ALONE = 2
#: Maximum rows of a step.
_MAX_STEP = 5_000
#: Records of a page to read at a time; a page of large ones may end early.
_READ_ROWS = 500

#: The number of a row, and its record column.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Key:
    """The sort key of an event and its place; also the event itself once read."""

    seconds: int
    position: int
    table: EventTable
    row: int
    part: int
    event: FoundEvent | None = None

    @classmethod
    def of(cls, event: FoundEvent, table: EventTable) -> _Key:
        """Returns the key of an event already read."""
        return cls(int(event.event_time.timestamp()), event.position, table, -1, 0, event)


class Pages:
    """Finds the newest events that match a query, in as few tables as possible."""

    def __init__(self, database: Database, pool: LookupPool) -> None:
        self._database = database
        self._pool = pool

    async def page(self, tables: Sequence[EventTable], query: EventQuery) -> list[FoundEvent]:
        """Reads each table's own newest page, newest table first, until the rest is older.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        # DuckDB decompresses records by the thousand, so the first step finds only the keys of the
        # page, and the second reads the records.
        keys = await self._page_keys(tables, query)
        is_search = query.expression is not None
        page: list[FoundEvent] = []
        for start in range(0, len(keys), _READ_ROWS):
            part = keys[start : start + _READ_ROWS]
            events = {key.position: key.event for key in part if key.event is not None}
            places: dict[EventTable, list[Place]] = {}
            for key in part:
                if key.event is None:
                    places.setdefault(key.table, []).append((key.row, key.part))
            reading = [
                (table, self._events, statement)
                for table, rows in places.items()
                for statement in select_rows(table.table, rows)
            ]
            read = await self._pool.run_all(reading, is_search)
            events |= {event.position: event for event in read}
            page += [events[key.position] for key in part]
            if _text(page) > PAGE_TEXT:
                break
        # The page ends with the event whose record exceeds the limit.
        sizes = itertools.accumulate(len(event.record) for event in page)
        return page[: 1 + sum(size <= PAGE_TEXT for size in sizes)]

    async def _page_keys(self, tables: Sequence[EventTable], query: EventQuery) -> list[_Key]:
        keys: list[_Key] = []
        is_search = query.expression is not None
        waiting = [table for table in tables if table.may_contain(query)]
        waiting.sort(key=lambda table: (table.file is None, table.newest), reverse=True)
        places: dict[EventTable, list[Place] | None] = {}
        # The hot table, then the newest file alone: usually the page is full after these.
        for size in itertools.chain((1, 1, 2), itertools.repeat(PARALLEL_LOOKUPS)):
            if len(keys) == query.limit or _text(key.event for key in keys) > PAGE_TEXT:
                waiting = [table for table in waiting if table.newest >= keys[-1].seconds]
            if unknown := [table for table in waiting if table not in places]:
                # The first two tables get separate statements, all others share one; files in S3
                # are read only a few at a time, because the page may fill up first.
                most = 1 if len(places) < _PROBED_ALONE else len(unknown)
                if any(table.is_remote for table in unknown[:most]):
                    most = min(most, PARALLEL_LOOKUPS)
                places |= await self._probe(unknown[:most], query)
                waiting = [table for table in waiting if places.get(table) != []]
            if not waiting:
                break
            max_tables = min(size, PARALLEL_SEARCHES) if is_search else size
            wave = [table for table in waiting if table in places][:max_tables]
            waiting = [table for table in waiting if table not in wave]
            room = query.limit - len(keys)
            new_keys = await self._pool.run_all(
                [(table, self._keys, (table, query, room, places[table])) for table in wave],
                is_search,
            )
            keys = sorted(
                [*keys, *new_keys], key=lambda key: (key.seconds, key.position), reverse=True
            )
            del keys[query.limit :]
        return keys

    def _keys(
        self, table: EventTable, query: EventQuery, room: int, places: Sequence[Place] | None
    ) -> list[_Key]:
        """Returns the keys of a table's newest page.

        Args:
            table: the table.
            query: the query.
            room: the number of events missing from the page.
            places: the only rows that may have the query's attribute, None for all.
        """
        index, expression = table.table.index, query.expression
        if expression is not None and not condition_of(expression, index).exact:
            matching = self._select_matching(table.table, query, expression)
            return [_Key.of(event, table) for event in matching]
        key, value = query.attribute or (None, None)
        is_id = index is not None and key == "EventId"
        if is_id or (places is not None and len(places) <= min(room, _READ_ROWS)):
            # Probably all of them belong on the page: this step reads their records.
            events = self._known_events(table.table, query, places)
            if is_id:
                # Other ids may have the same hash.
                events = [event for event in events if event.event_id == value]
            return [_Key.of(event, table) for event in events]
        rows = None if places is None else [row for row, _ in places]
        rows_found = self._database.execute(
            *select_page(table.table, query, table.table.keys, rows)
        )
        return [_Key(seconds, position, table, *place) for seconds, position, *place in rows_found]

    def _known_events(
        self, table: Table, query: EventQuery, places: Sequence[Place] | None
    ) -> list[FoundEvent]:
        wide = replace(query, limit=_MAX_STEP)
        if places is None:
            return self._events(*select_page(table, wide))
        return [
            event
            for column, rows in by_column(table, places)
            for event in self._events(*select_page(table, wide, f"position, {column}", rows))
        ]

    async def _probe(
        self, tables: Sequence[EventTable], query: EventQuery
    ) -> dict[EventTable, list[Place] | None]:
        """Returns the candidate rows of each table for the query's attribute, None for all."""
        rows_of: dict[EventTable, list[Place] | None] = dict.fromkeys(tables)
        key, value = query.attribute or ("", "")
        indexed = [(table, table.table.index) for table in tables if table.table.index is not None]
        if key not in KNOWN or not indexed:
            return rows_of
        statement = probe([index for _, index in indexed], key, value, query.categories)
        places: dict[int, list[int]] = {}
        probed = [table for table, _ in indexed]
        for number, part in await self._pool.run(probed, self._database.execute, *statement):
            places.setdefault(number, []).extend(part)
        for number, table in enumerate(probed):
            candidates = places.get(number, [])
            if len(candidates) <= MAX_PLACES:
                rows_of[table] = [divmod(place, PARTS) for place in candidates]
        return rows_of

    def _events(self, statement: str, arguments: Sequence[Any]) -> list[FoundEvent]:
        return [found_event(row) for row in self._database.execute(statement, arguments)]

    def _select_matching(
        self, table: Table, query: EventQuery, expression: Expression
    ) -> list[FoundEvent]:
        """Evaluates an expression on the rows that SQL selected, newest first, in growing steps."""
        key, value = query.attribute or (None, None)
        event_id = value if key == "EventId" else None  # other ids may have the same hash
        page: list[FoundEvent] = []
        text = 0
        step, before = max(query.limit, _FIRST_STEP), query.before
        deadline = time.monotonic() + SEARCH_SECONDS
        while True:
            if time.monotonic() > deadline:
                raise StorageFailed(f"history: the search took more than {SEARCH_SECONDS:.0f} s")
            part = replace(query, limit=step, before=before)
            rows = self._database.execute(*select_page(table, part))
            for event in map(found_event, rows):
                if event_id not in (None, event.event_id):
                    continue
                record = orjson.loads(event.record)
                if holds(expression, attributes_of(record), record):
                    page.append(event)
                    text += len(event.record)
                    if len(page) == query.limit or text > PAGE_TEXT:
                        return page
            if len(rows) < step:
                return page
            before = (event.event_time, event.position)
            # A step of large records does not grow the next one.
            if sum(len(record) for _, record in rows) <= PAGE_TEXT:
                step = min(step * 4, _MAX_STEP)
            else:
                step = _FIRST_STEP


def _text(events: Iterable[FoundEvent | None]) -> int:
    """Returns the number of characters of the records read for events."""
    return sum(len(event.record) for event in events if event is not None)
