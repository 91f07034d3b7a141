"""Event counts: in all, over time, and by value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Literal, TypedDict, TypeVar

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.conditions import count_in
from opentrail.api.v1.routes import SEARCH, VIEWER, route
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import format_time
from opentrail.history.event_history import MAX_BUCKETS, Histogram, History, Search
from opentrail.history.written_searches import listed, search_in
from opentrail.who.shapes import CountedValue

T = TypeVar("T")
#: Maximum seconds of one answer; a page shows the rest without it.
_ANSWER_SECONDS = 20.0
_FACETS = "eventName,username,eventSource,region,sourceIpAddress,errorCode,resourceType,account"
_BUCKETS = 60
#: Most frequent values of a field in an answer.
_MAX_VALUES = 20


class Count(TypedDict):
    """A number of events; with `gte` there are more."""

    value: int
    relation: Literal["eq", "gte"]


class PeriodCount(TypedDict):
    """The numbers of successful and failed events in a period."""

    time: str
    ok: int
    failed: int


class EventHistogram(TypedDict):
    """Events over time; each period lasts some seconds."""

    start: str
    end: str
    seconds: int
    buckets: list[PeriodCount]


class Facets(TypedDict):
    """The most frequent values of each field."""

    facets: dict[str, list[CountedValue]]


class SearchOverview(TypedDict):
    """The number of events, their histogram, and the most frequent values of each field."""

    count: int
    histogram: EventHistogram
    facets: dict[str, list[CountedValue]]


class Values(TypedDict):
    """The most frequent values of a field."""

    values: list[CountedValue]


class EventCounts:
    """The calls that count events of a search."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @route("GET", "/events/count", VIEWER, "count events", query=SEARCH)
    async def total(self, request: Request) -> Count:
        """Returns the number of events, `gte` if there are more."""
        history, search = self._asked(request)
        count = await _in_time(history.count_events(search))
        return {"value": count.value, "relation": "eq" if count.is_exact else "gte"}

    @route(
        "GET",
        "/events/histogram",
        VIEWER,
        "count events over time",
        query=(*SEARCH, "buckets"),
    )
    async def histogram(self, request: Request) -> EventHistogram:
        """Returns the numbers of successful and failed events in each period."""
        buckets = count_in(request.query_params, "buckets", MAX_BUCKETS) or _BUCKETS
        history, search = self._asked(request)
        return _histogram(await _in_time(history.histogram(search, buckets)))

    @route("GET", "/events/facets", VIEWER, "count values of events", query=(*SEARCH, "fields"))
    async def facets(self, request: Request) -> Facets:
        """Returns the most frequent values of some fields."""
        history, search = self._asked(request)
        fields = _fields_in(request.query_params)
        facets = await _in_time(history.facets(search, fields, _MAX_VALUES))
        return {"facets": {field: _values(values) for field, values in facets.items()}}

    @route(
        "GET",
        "/events/overview",
        VIEWER,
        "count events, over time and by value",
        query=(*SEARCH, "buckets", "fields"),
    )
    async def overview(self, request: Request) -> SearchOverview:
        """Returns the exact count, the histogram and the facets in the time of one query."""
        query = request.query_params
        buckets = count_in(query, "buckets", MAX_BUCKETS) or _BUCKETS
        fields = _fields_in(query)
        history, search = self._asked(request)
        histogram, facets = await _in_time(history.overview(search, fields, buckets, _MAX_VALUES))
        return {
            "count": sum(period.ok + period.failed for period in histogram.periods),
            "histogram": _histogram(histogram),
            "facets": {field: _values(values) for field, values in facets.items()},
        }

    @route(
        "GET", "/values", VIEWER, "see values that events have", query=(*SEARCH, "field", "prefix")
    )
    async def values(self, request: Request) -> Values:
        """Returns the most frequent values of a field that begin with a prefix."""
        history = seen_by(request, self._services).history
        search = search_in(request.query_params, self._services.clock.now())
        field = request.query_params.get("field", "")
        prefix = request.query_params.get("prefix", "")
        values = await _in_time(history.values(field, prefix, search, _MAX_VALUES))
        return {"values": _values(values)}

    def _asked(self, request: Request) -> tuple[History, Search]:
        """Returns the history that the caller may see, and the search of a request."""
        history = seen_by(request, self._services).history
        return history, listed(search_in(request.query_params, self._services.clock.now()))


def _fields_in(query: Mapping[str, str]) -> list[str]:
    return [name for name in query.get("fields", _FACETS).split(",") if name]


def _histogram(result: Histogram) -> EventHistogram:
    return {
        "start": format_time(result.start),
        "end": format_time(result.end),
        "seconds": result.seconds,
        "buckets": [
            {"time": format_time(period.start), "ok": period.ok, "failed": period.failed}
            for period in result.periods
        ],
    }


def _values(counts: Any) -> list[CountedValue]:
    return [{"value": value, "count": count} for value, count in counts]


async def _in_time(answer: Awaitable[T]) -> T:
    """Returns an answer; cancels it after `_ANSWER_SECONDS`.

    Raises:
        CloudTrailError: `TimedOut`.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await answer
    except TimeoutError as error:
        message = "Counting took too long; narrow the search."
        raise CloudTrailError("TimedOut", message, 504) from error
