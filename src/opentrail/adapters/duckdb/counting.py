"""Counts of events by kind, time and value, over several tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from opentrail.adapters.duckdb.lookup_pool import LookupPool
from opentrail.adapters.duckdb.schema import conditions_of
from opentrail.adapters.duckdb.table_set import Database, EventTable
from opentrail.core.arns import ROLE_SESSION
from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.user_agents import FAMILY
from opentrail.ports.event_store import (
    NO_ERROR,
    CallCounts,
    CallKey,
    EventQuery,
    PrincipalCounts,
    Snapshot,
    ValueCount,
    ValueCounts,
)

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
#: One row per attribute (by its number) and value, and one of number 3 for all events.
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
_USER = "account, region, event_source, event_name, principal, agent, error_code"
_AGENT_FAMILY = (
    f"nullif(regexp_extract(TRY(json_extract_string(record, '$.userAgent')), '{FAMILY}', 1), '')"
)
_USED = (
    f"account, region, event_source, event_name, {_WITHOUT_SESSION} AS principal,"
    f" {_AGENT_FAMILY} AS agent, error_code, event_time"
)
#: One row per kind, principal and program, as in `_CALLS`.
_PRINCIPALS = (
    f"SELECT {_USER}, list(minute ORDER BY minute), list(events ORDER BY minute) FROM"  # noqa: S608
    f" (SELECT {_USER}, event_time // 60 AS minute, count(*) AS events FROM ({{events}})"
    " GROUP BY ALL) GROUP BY ALL"
)


def events_between(
    start: datetime, end: datetime, snapshot: Snapshot, recorded_since: datetime | None
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
    """Counts events, each time by one statement over all tables that may have them."""

    def __init__(self, database: Database, pool: LookupPool) -> None:
        self._database = database
        self._pool = pool

    async def calls(self, tables: Sequence[EventTable], query: EventQuery) -> list[CallCounts]:
        """Returns the counts of all kinds of management and data events by minute.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        counted = replace(query, categories=(MANAGEMENT, DATA))
        rows = await self._rows(tables, counted, [], f"{_KIND}, event_time", _CALLS)
        return [CallCounts(*row) for row in rows]

    async def principals(
        self, tables: Sequence[EventTable], query: EventQuery
    ) -> list[PrincipalCounts]:
        """Returns the counts of management and data events by principal and minute.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        counted = replace(query, categories=(MANAGEMENT, DATA))
        rows = await self._rows(tables, counted, [], _USED, _PRINCIPALS)
        return [PrincipalCounts(*row) for row in rows]

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
        """Returns the number of a key's events, and their most frequent values.

        Raises:
            Damaged: a sealed file cannot be read.
        """
        rows = await self._rows(tables, *_of_key(query, key), _VALUED, _VALUES, limit)
        found: list[list[ValueCount]] = [[], [], [], []]
        for number, value, events in rows:
            found[number].append((value, events))
        *values, whole = found
        return ValueCounts(sum(events for _, events in whole), *values)

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
            more: further conditions, each with its argument, if it has one.
            columns: the columns of the events.
            counting: the statement, with `{events}` in place of the events.
            arguments: its further arguments.
        """
        read = [table for table in tables if table.may_contain(query)]
        if not read:
            return []
        conditions, values = conditions_of(query)
        conditions += [condition for condition, _ in more]
        values += [value for _, value in more if value is not None]
        where = " AND ".join(conditions)
        events = " UNION ALL ".join(
            f"SELECT {columns} FROM {table.table.name} WHERE {where}"  # noqa: S608 - ours
            for table in read
        )
        statement = counting.replace("{events}", events)
        everything = [*values * len(read), *arguments]
        return await self._pool.one(
            read, self._database.execute, statement, everything, is_search=True
        )


def _of_key(query: EventQuery, key: CallKey) -> tuple[EventQuery, list[tuple[str, str | None]]]:
    """Returns the query of a key's events, and the conditions that no query has."""
    more: list[tuple[str, str | None]] = [
        ("event_name = ?", key.event_name),
        ("event_source = ?", key.event_source),
    ]
    if key.error_code is not None:
        more.append(("error_code = ?", key.error_code))
    elif key.only_writes:
        more.append(("NOT read_only", None))
    # The attribute rules out files that do not have it; the condition is among `more`.
    attribute = ("EventName", key.event_name)
    return replace(
        query,
        account=key.account,
        region=key.region,
        categories=(key.category,),
        attribute=attribute,
    ), more
