"""Searches as people and programs write them, and the records that one finds, newest first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import AGENT_SOURCE, MANAGEMENT, format_time, parse_moment
from opentrail.core.expression import (
    And,
    Compare,
    Expression,
    ExpressionError,
    Not,
    Text,
    conditions_in,
    parse,
)
from opentrail.history.event_history import History, Search
from opentrail.history.threads import in_thread


def search_in(query: Mapping[str, str], now: datetime) -> Search:
    """Returns the search by `expression`, `since`, `until`, account, Region and categories.

    Raises:
        CloudTrailError: a parameter is invalid.
    """
    start, end = (time_in(name, query.get(name), now) for name in ("since", "until"))
    if start is not None and end is not None and start > end:
        message = f"since must not be after until: {query['since']} is after {query['until']}"
        raise CloudTrailError("InvalidTimeRangeException", message)
    return Search(
        account=query.get("account"),
        region=query.get("region"),
        categories=None if query.get("categories") == "all" else (MANAGEMENT,),
        expression=_expression(query.get("expression"), now),
        start=start,
        end=end,
    )


#: Fields for searches of any call's events.
_OF_ANY_CALL = {"account", "category", "event_time", "read_only", "region"}
_NO_QUESTION = Not(Compare(("event_source",), "=", AGENT_SOURCE, is_field=True))


def listed(search: Search) -> Search:
    """Returns the search of a list: without agents' questions, unless the search requests them.

    Any condition other than time, account, Region, category, outcome and kind requests them.
    Otherwise an agent would find its own questions first.
    """
    for condition in conditions_in(search.expression) if search.expression else ():
        match condition:
            case Text():
                return search
            case Compare(path, is_field=is_field) if not is_field or path[0] not in _OF_ANY_CALL:
                return search
    parts = (search.expression, _NO_QUESTION) if search.expression else (_NO_QUESTION,)
    return replace(search, expression=And(parts))


def _expression(text: str | None, now: datetime) -> Expression | None:
    if not text:
        return None
    try:
        return parse(text, now)
    except ExpressionError as error:
        raise CloudTrailError("InvalidParameterException", str(error)) from error


def time_in(name: str, text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise CloudTrailError("InvalidTimeRangeException", f"{name} {error}") from error


#: Is called with a number of bytes, days or events that were read, and with their total.
Report = Callable[[int, int | None], None]
#: Events per page; two pages are in memory at most.
_PAGE_EVENTS = 1_000
#: Seconds after which an answer rests on the events that were read.
_READ_SECONDS = 60.0
#: Maximum events that are counted for the progress.
_MAX_TOTAL = 10**9


async def read_newest(
    history: History,
    search: Search,
    add: Callable[[Iterator[Mapping[str, Any]]], bool],
    report: Report | None = None,
) -> tuple[int, str | None]:
    """Returns the number of events read, and the time of the oldest if others were not read.

    Args:
        history: the events that the caller may see.
        search: the searched events.
        add: takes the records of a page, in a thread; returns whether it takes more.
        report: takes the number of events read, and the total; None: no reports.
    """
    end, count = time.monotonic() + _READ_SECONDS, 0
    token: str | None = None
    total: int | None = None
    while True:
        page = await history.search(search, _PAGE_EVENTS, token)
        takes_more = await in_thread(add, (orjson.loads(event.record) for event in page.events))
        count, token = count + len(page.events), page.next_token
        if token is None:
            return count, None
        if report is not None:
            total = total or (await history.count_events(search, _MAX_TOTAL)).value
            report(count, total)
        if not takes_more or time.monotonic() > end:
            return count, format_time(page.events[-1].event_time)
