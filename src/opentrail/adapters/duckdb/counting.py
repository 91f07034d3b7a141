"""Counts of events by kind, time and value, over several tables."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import orjson

from opentrail.adapters.duckdb.expressions import (
    AGENT_MEMBERS,
    SqlCondition,
    lower_of,
    pattern_of,
)
from opentrail.adapters.duckdb.lookup_pool import SEARCH_SECONDS, LookupPool
from opentrail.adapters.duckdb.schema import conditions_of, matching, select_rows
from opentrail.adapters.duckdb.table_set import Database, EventTable
from opentrail.core.arns import ROLE_SESSION
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.expression import holds
from opentrail.core.user_agents import FAMILY, agent_in, words_of
from opentrail.ports.event_store import (
    NO_ERROR,
    CallCounts,
    CallKey,
    CountedField,
    EventOverview,
    EventQuery,
    PeriodCounts,
    PrincipalActivity,
    PrincipalCounts,
    Snapshot,
    ValueCount,
    ValueCounts,
)

#: The condition of the events in each table, and its arguments.
Conditions = Mapping[EventTable, tuple[str, Sequence[Any]]]

_INSTANT = timedelta(microseconds=1)
_KIND = "account, region, category, event_source, event_name, error_code, read_only"
#: One row per kind: its minutes and the numbers of its events, as lists.
_CALLS = (
    f"SELECT {_KIND}, list(minute ORDER BY minute), list(events ORDER BY minute) FROM"  # noqa: S608
    f" (SELECT {_KIND}, event_time // 60 AS minute, count(*) AS events FROM ({{events}})"
    " GROUP BY ALL) GROUP BY ALL"
)
_PERIODS = "SELECT event_time // {0} * {0} AS start, count(*) FROM ({1}) GROUP BY 1 ORDER BY 1"

_AGENT, _INVOKER, _PRINCIPAL = range(1, 4)
_MEMBERS = "['$.userAgent', '$.userIdentity.invokedBy', '$.userIdentity.principalId']"
#: NULL for a record that DuckDB rejects, such as one with an escaped lone surrogate.
_FOUND = f"TRY(json_extract_string(record, {_MEMBERS}))"
_WITHOUT_SESSION = f"regexp_replace(principal_arn, '{ROLE_SESSION}', '\\1')"
_VALUED = f"principal_arn, error_code, {_FOUND} AS found"
#: One row per attribute (by its number) and value, and number 3 for all events.
_VALUES = f"""
WITH of_key AS (
    SELECT coalesce(
        {_WITHOUT_SESSION},
        nullif(found[{_INVOKER}], ''),
        nullif(found[{_PRINCIPAL}], '')
    ) AS arn, nullif(found[{_AGENT}], '') AS agent, coalesce(error_code, '{NO_ERROR}') AS code
    FROM ({{events}})
), counted AS (
    SELECT CASE WHEN grouping(arn) = 0 THEN 0 WHEN grouping(agent) = 0 THEN 1
        WHEN grouping(code) = 0 THEN 2 ELSE 3 END AS number,
        coalesce(arn, agent, code) AS value, count(*) AS events
    FROM of_key GROUP BY GROUPING SETS ((arn), (agent), (code), ())
)
SELECT number, value, events FROM counted WHERE value IS NOT NULL OR number = 3
QUALIFY row_number() OVER (PARTITION BY number ORDER BY events DESC, value) <= ?
ORDER BY number, events DESC, value
"""  # noqa: S608 - ours
_USER = "account, region, event_source, event_name, principal, family, error_code, members"
_AGENT_FAMILY = (
    f"nullif(regexp_extract(TRY(json_extract_string(record, '$.userAgent')), '{FAMILY}', 1), '')"
)
_ANY_AGENT = pattern_of(words_of(lambda _: True))
_USED = (
    f"account, region, event_source, event_name, {_WITHOUT_SESSION} AS principal,"
    f" {_AGENT_FAMILY} AS family, error_code,"
    f" CASE WHEN regexp_matches(array_to_string({AGENT_MEMBERS}, ' '), '{_ANY_AGENT}')"
    f" THEN {AGENT_MEMBERS} END AS members, event_time"
)
#: One row per kind, principal, program and content of the members that name agents, if they may
#: name one; like `_CALLS`.
_PRINCIPALS = (
    f"SELECT {_USER}, list(minute ORDER BY minute), list(events ORDER BY minute) FROM"  # noqa: S608
    f" (SELECT {_USER}, event_time // 60 AS minute, count(*) AS events FROM ({{events}})"
    " GROUP BY ALL) GROUP BY ALL"
)

_LIMITED = "SELECT count(*) FROM (FROM ({events}) LIMIT ?)"
_HISTOGRAM = (
    "SELECT event_time - (event_time % {0} + {0}) % {0} AS start, count(*) - count(error_code),"
    " count(error_code) FROM ({1}) GROUP BY 1 ORDER BY 1"
)
_LISTED = (
    "SELECT principal_arn, count(*), count(error_code), min(event_time), max(event_time)"
    " FROM ({events}) WHERE principal_arn <> '' GROUP BY 1 ORDER BY 5 DESC, 1 LIMIT ?"
)
#: One row per field (by its number) and value.
_TOP = f"""
WITH matched AS NOT MATERIALIZED ({{{{events}}}}), counted AS ({{counted}})
SELECT number, value, events FROM counted
WHERE value <> '' AND starts_with({lower_of("value")}, {lower_of("?")})
QUALIFY row_number() OVER (PARTITION BY number ORDER BY events DESC, value) <= ?
ORDER BY number, events DESC, value
"""  # noqa: S608 - ours
_COUNTED: dict[str, str] = {
    field: f"SELECT {{}} AS number, {field} AS value, count(*) AS events FROM matched GROUP BY ALL"  # noqa: S608
    for field in get_args(CountedField)
    if field != "agent"
}
# Few events differ in their lists: these are counted first.
_COUNTED["resource_types"] = (
    "SELECT {} AS number, value, CAST(sum(events) AS BIGINT) AS events FROM"
    " (SELECT unnest(list_distinct(resource_types)) AS value, events FROM"
    " (SELECT resource_types, count(*) AS events FROM matched GROUP BY ALL)) GROUP BY ALL"
)

#: One row for each different content of the members that name agents.
_AGENTS = "SELECT members, count(*) FROM ({events}) WHERE members IS NOT NULL GROUP BY ALL"

#: Rows to search at a time where SQL cannot decide.
_WINDOW = 250_000
#: Records to read per step.
_STEP = 5_000
_AMONG = "position IN (SELECT unnest(?::BIGINT[]))"


def events_between(
    start: datetime, end: datetime, snapshot: Snapshot, recorded_since: datetime | None = None
) -> EventQuery:
    """Returns the query of all events with `start <= event time < end`."""
    return EventQuery(
        limit=0,
        snapshot=snapshot,
        start=start,
        end=end - _INSTANT,  # a query contains its end
        recorded_since=recorded_since,
    )


class Counts:
    """Counts events, each time by one statement over all possible tables."""

    def __init__(self, database: Database, pool: LookupPool) -> None:
        self._database = database
        self._pool = pool

    async def limited(self, tables: Sequence[EventTable], query: EventQuery) -> int:
        """Returns the number of events of a query, up to its limit.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        conditions = await self._matching(tables, query, query.limit)
        rows = await self._query_rows(conditions, "1", _LIMITED, query.limit)
        return sum(events for (events,) in rows)

    async def histogram(
        self, tables: Sequence[EventTable], query: EventQuery, seconds: int
    ) -> list[PeriodCounts]:
        """Returns the number of events with and without an error code in each period.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        return await self._periods(await self._matching(tables, query), seconds)

    async def top_values(
        self,
        tables: Sequence[EventTable],
        query: EventQuery,
        fields: Sequence[CountedField],
        limit: int,
        prefix: str,
    ) -> dict[CountedField, list[ValueCount]]:
        """Returns the most frequent values of fields.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        if not fields:
            return {}
        return await self._values(await self._matching(tables, query), fields, limit, prefix)

    async def overview(
        self,
        tables: Sequence[EventTable],
        query: EventQuery,
        seconds: int,
        fields: Sequence[CountedField],
        limit: int,
    ) -> EventOverview:
        """Returns the results of `histogram` and `top_values`, reading records once for both.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        conditions = await self._matching(tables, query)
        periods = await self._periods(conditions, seconds)
        return EventOverview(periods, await self._values(conditions, fields, limit))

    async def listed_principals(
        self, tables: Sequence[EventTable], query: EventQuery, limit: int
    ) -> list[PrincipalActivity]:
        """Returns the most recent callers, newest first.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        columns = "principal_arn, error_code, event_time"
        rows = await self._query_rows(await self._matching(tables, query), columns, _LISTED, limit)
        return [
            PrincipalActivity(
                *(arn, events, failed),
                *(datetime.fromtimestamp(time, UTC) for time in times),
            )
            for arn, events, failed, *times in rows
        ]

    async def calls(self, tables: Sequence[EventTable], query: EventQuery) -> list[CallCounts]:
        """Returns the counts of all kinds of management and data events by minute.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        calls_query = replace(query, categories=(MANAGEMENT, DATA))
        rows = await self._rows(tables, calls_query, [], f"{_KIND}, event_time", _CALLS)
        return [CallCounts(*row) for row in rows]

    async def principals(
        self, tables: Sequence[EventTable], query: EventQuery
    ) -> list[PrincipalCounts]:
        """Returns the counts of management and data events by principal and minute.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        calls_query = replace(query, categories=(MANAGEMENT, DATA))
        rows = await self._rows(tables, calls_query, [], _USED, _PRINCIPALS)
        by_kind: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
        for *kind, error_code, members, minutes, counts in rows:
            agent = agent_in(*members) if members else None
            name = agent["name"] if agent else None
            by_kind[*kind, name, error_code].update(dict(zip(minutes, counts, strict=True)))
        counted: list[tuple[Any, ...]] = [
            (*kind, sorted(events), [events[minute] for minute in sorted(events)])
            for kind, events in by_kind.items()
        ]
        return [PrincipalCounts(*row) for row in counted]

    async def by_period(
        self, tables: Sequence[EventTable], key: CallKey, query: EventQuery, period: int
    ) -> list[tuple[datetime, int]]:
        """Returns the number of a key's events in each period of `period` seconds.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        counting = _PERIODS.format(int(period), "{events}")
        rows = await self._rows(tables, *_of_key(query, key), "event_time", counting)
        return [(datetime.fromtimestamp(start, UTC), events) for start, events in rows]

    async def values(
        self, tables: Sequence[EventTable], key: CallKey, query: EventQuery, limit: int
    ) -> ValueCounts:
        """Returns the number of a key's events and their most frequent values.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        rows = await self._rows(tables, *_of_key(query, key), _VALUED, _VALUES, limit)
        counts: list[list[ValueCount]] = [[], [], [], []]
        for number, value, events in rows:
            counts[number].append((value, events))
        *values, totals = counts
        return ValueCounts(sum(events for _, events in totals), *values)

    async def _periods(self, conditions: Conditions, seconds: int) -> list[PeriodCounts]:
        counting = _HISTOGRAM.format(int(seconds), "{events}")
        rows = await self._query_rows(conditions, "event_time, error_code", counting)
        return [
            PeriodCounts(datetime.fromtimestamp(start, UTC), *counts) for start, *counts in rows
        ]

    async def _values(
        self, conditions: Conditions, fields: Sequence[CountedField], limit: int, prefix: str = ""
    ) -> dict[CountedField, list[ValueCount]]:
        values: dict[CountedField, list[ValueCount]] = {field: [] for field in fields}
        names = [field for field in values if field != "agent"]
        if len(names) < len(values):
            values["agent"] = await self._agents(conditions, limit, prefix)
        if not names:
            return values
        statements = [_COUNTED[name].format(number) for number, name in enumerate(names)]
        counting = _TOP.format(counted=" UNION ALL ".join(statements))
        for number, value, events in await self._query_rows(
            conditions, ", ".join(names), counting, prefix, limit
        ):
            values[names[number]].append((value, events))
        return values

    async def _agents(self, conditions: Conditions, limit: int, prefix: str) -> list[ValueCount]:
        """Returns the most frequent agents."""
        events_by_name: Counter[str] = Counter()
        rows = await self._query_rows(conditions, f"{AGENT_MEMBERS} AS members", _AGENTS)
        for members, events in rows:
            agent = agent_in(*members)
            if agent is not None and agent["name"].lower().startswith(prefix.lower()):
                events_by_name[agent["name"]] += events
        return sorted(events_by_name.items(), key=lambda item: (-item[1], item[0]))[:limit]

    async def _rows(
        self,
        tables: Sequence[EventTable],
        query: EventQuery,
        more: Sequence[tuple[str, str | None]],
        columns: str,
        counting: str,
        *arguments: Any,
    ) -> list[tuple[Any, ...]]:
        """Returns the rows of a statement over the events of a query.

        Args:
            tables: the tables.
            query: the query.
            more: further conditions, each with its argument, if any.
            columns: the columns of the events.
            counting: the statement, with `{events}` in place of the events.
            arguments: its further arguments.
        """
        conditions, values = conditions_of(query)
        conditions += [condition for condition, _ in more]
        values += [value for _, value in more if value is not None]
        where = " AND ".join(conditions), values
        conditions_by_table = {table: where for table in tables if table.may_contain(query)}
        return await self._query_rows(conditions_by_table, columns, counting, *arguments)

    async def _query_rows(
        self,
        conditions: Conditions,
        columns: str,
        counting: str,
        *arguments: Any,
    ) -> list[tuple[Any, ...]]:
        """Returns the rows of a statement over the events of tables; see `_rows`.

        Args:
            conditions: the condition of each table's events, and its arguments.
            columns: the columns of the events.
            counting: the statement.
            arguments: its further arguments.
        """
        if not conditions:
            return []
        events = " UNION ALL ".join(
            f"SELECT {columns} FROM {table.table.name} WHERE {where}"  # noqa: S608 - ours
            for table, (where, _) in conditions.items()
        )
        values = [value for _, values in conditions.values() for value in values]
        return await self._pool.run(
            list(conditions),
            self._database.execute,
            counting.replace("{events}", events),
            [*values, *arguments],
            is_search=True,
        )

    async def _matching(
        self, tables: Sequence[EventTable], query: EventQuery, enough: float = math.inf
    ) -> dict[EventTable, tuple[str, list[Any]]]:
        """Returns the condition of a query's events in each possible table.

        Args:
            tables: the tables.
            query: the query.
            enough: the number of events after which reading stops.
        """
        query = replace(query, before=None)
        conditions: dict[EventTable, tuple[str, list[Any]]] = {}
        deadline = time.monotonic() + SEARCH_SECONDS
        matches = 0
        for table in tables:
            if not table.may_contain(query):
                continue
            condition = matching(table.table, query)
            where, arguments = condition.certain
            conditions[table] = where, list(arguments)
            if not condition.exact and matches < enough:
                decided = await self._pool.run(
                    [table],
                    self._decide,
                    *(table, query, condition, deadline, enough - matches),
                    is_search=True,
                )
                matches += len(decided)
                conditions[table] = f"({where}) OR {_AMONG}", [*arguments, decided]
        return conditions

    def _decide(
        self,
        table: EventTable,
        query: EventQuery,
        condition: SqlCondition,
        deadline: float,
        enough: float,
    ) -> list[int]:
        """Returns the positions of events that match by their records, where SQL cannot decide."""
        name, part = table.table.name, "0" if table.table.index is None else "part"
        certain, values = condition.certain
        undecided = (
            f"SELECT rowid, {part} FROM {name} WHERE rowid >= ? AND rowid < ?"  # noqa: S608 - ours
            f" AND ({condition.sql}) AND NOT coalesce(({certain}), FALSE)"
        )
        positions: list[int] = []
        for first in range(0, table.last - table.first + 1, _WINDOW):
            window = [first, first + _WINDOW, *condition.arguments, *values]
            rows = self._database.execute(undecided, window)
            for begin in range(0, len(rows), _STEP):
                if time.monotonic() > deadline:
                    raise StorageFailed(f"history: counting took more than {SEARCH_SECONDS:.0f} s")
                for statement in select_rows(table.table, rows[begin : begin + _STEP]):
                    positions += [
                        position
                        for position, record in self._database.execute(*statement)
                        if _is_match(query, record)
                    ]
                if len(positions) >= enough:
                    return positions
        return positions


def _is_match(query: EventQuery, record: str) -> bool:
    """Returns whether an event matches, if its columns do."""
    decoded = orjson.loads(record)
    attributes = attributes_of(decoded)
    key, value = query.attribute or (None, None)
    if key == "EventId" and attributes.event_id != value:  # other ids may have the same hash
        return False
    return query.expression is None or holds(query.expression, attributes, decoded)


def _of_key(query: EventQuery, key: CallKey) -> tuple[EventQuery, list[tuple[str, str | None]]]:
    """Returns the query of a key's events, and the conditions that queries cannot express."""
    more: list[tuple[str, str | None]] = [
        ("event_name = ?", key.event_name),
        ("event_source = ?", key.event_source),
    ]
    if key.error_code is not None:
        more.append(("error_code = ?", key.error_code))
    elif key.only_writes:
        more.append(("NOT read_only", None))
    # The attribute rules out files without it; the condition is in `more`.
    attribute = ("EventName", key.event_name)
    return replace(
        query,
        account=key.account,
        region=key.region,
        categories=(key.category,),
        attribute=attribute,
    ), more
