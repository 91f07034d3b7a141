"""Marks: positions of the journal, between which a client reads what was recorded."""

from __future__ import annotations

from typing import Any, TypedDict

import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import caller_of
from opentrail.api.v1.conditions import count_in, position_in
from opentrail.api.v1.routes import AUDITOR, route
from opentrail.api.v1.streams import matching_events
from opentrail.history.written_searches import search_in

#: Maximum positions that one answer covers.
MAX_POSITIONS = 1_000


class Mark(TypedDict):
    """The position of the newest durable record, 0 if there is none."""

    position: int


class MarkedRecords(TypedDict):
    """Records after a mark, oldest first, up to a position."""

    position: int
    complete: bool
    records: list[Any]


class Marks:
    """The calls that set a mark and read what was recorded after it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @route("POST", "/marks", AUDITOR, "set a mark")
    async def set(self, _request: Request) -> Mark:
        """Returns the position of the newest durable record."""
        return {"position": self._services.journal.head}

    @route(
        "GET",
        "/marks/{position}/records",
        AUDITOR,
        "read the records after a mark",
        query=("expression", "account", "region", "categories", "until", "limit"),
    )
    async def records(self, request: Request) -> MarkedRecords:
        """Returns the records after a mark, oldest first, up to the mark `until` or the newest one.

        They are of all accounts and Regions unless `account`, `region` or `expression` selects.
        `position` is as far as the answer extends; unless it is `complete`, the next answer
        continues there.

        Raises:
            CloudTrailError: a parameter is invalid.
        """
        services, query = self._services, request.query_params
        journal, head = services.journal, services.journal.head
        after = position_in({"mark": request.path_params["position"]}, "mark", head) or 0
        until = position_in(query, "until", head)
        if until is None:
            until = head
        if until < after:
            raise invalid_parameter(f"until must not be before the mark {after}, but is {until}")
        limit = count_in(query, "limit", MAX_POSITIONS) or MAX_POSITIONS
        if "since" in query:
            raise invalid_parameter("records after a mark have no since")
        conditions = {name: text for name, text in query.items() if name != "until"}
        search = search_in({"categories": "all", **conditions}, services.clock.now())
        entries = await journal.read(after, limit, until)
        position = entries[-1].position if entries else until
        events = await matching_events(caller_of(request), search, entries)
        return {
            "position": position,
            "complete": position >= until,
            "records": [orjson.Fragment(event.record.encode()) for event in events],
        }
