"""Numbers of events for the web console: in all, over time, and by value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import Request

from opentrail.api.conditions import count_in, search_in
from opentrail.api.console.roles import seen_by
from opentrail.api.operation import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import format_time
from opentrail.history.event_history import MAX_BUCKETS

T = TypeVar("T")
Json = dict[str, Any]
#: Maximum seconds of one answer; a page shows the rest without it.
_SECONDS = 20.0
_FACETS = "eventName,username,eventSource,region,sourceIpAddress,errorCode,resourceType,account"
_BUCKETS = 60


class EventCounts:
    """The calls that count events of a search."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def total(self, request: Request) -> Json:
        """Returns the number of events, `gte` if there are more."""
        search = search_in(request.query_params, self._services.clock.now())
        found = await _in_time(seen_by(request, self._services).history.count_events(search))
        return {"value": found.value, "relation": "eq" if found.is_exact else "gte"}

    async def histogram(self, request: Request) -> Json:
        """Returns how many events succeeded and failed in each of some periods."""
        query = request.query_params
        buckets = count_in(query, "buckets", MAX_BUCKETS) or _BUCKETS
        search = search_in(query, self._services.clock.now())
        found = await _in_time(seen_by(request, self._services).history.histogram(search, buckets))
        return {
            "start": format_time(found.start),
            "end": format_time(found.end),
            "seconds": found.seconds,
            "buckets": [
                {"time": format_time(each.start), "ok": each.ok, "failed": each.failed}
                for each in found.periods
            ],
        }

    async def facets(self, request: Request) -> Json:
        """Returns the most frequent values of some fields."""
        query = request.query_params
        fields = [name for name in query.get("fields", _FACETS).split(",") if name]
        search = search_in(query, self._services.clock.now())
        found = await _in_time(seen_by(request, self._services).history.facets(search, fields))
        return {"facets": {field: _values(values) for field, values in found.items()}}

    async def values(self, request: Request) -> Json:
        """Returns the most frequent values of a field that begin with a prefix."""
        query = request.query_params
        search = search_in(query, self._services.clock.now())
        field, prefix = query.get("field", ""), query.get("prefix", "")
        return {
            "values": _values(
                await _in_time(
                    seen_by(request, self._services).history.values(field, prefix, search)
                )
            )
        }


def _values(counts: Any) -> list[Json]:
    return [{"value": value, "count": count} for value, count in counts]


async def _in_time(answer: Awaitable[T]) -> T:
    """Returns an answer; one that takes too long is cancelled.

    Raises:
        CloudTrailError: `TimedOut`.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            return await answer
    except TimeoutError as error:
        message = "Counting took too long; narrow the search."
        raise CloudTrailError("TimedOut", message, 504) from error
