"""Marks: positions of the journal, between which a client reads what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from opentrail.api.conditions import count_in, position_in, search_in
from opentrail.api.operation import Services
from opentrail.api.streams import matching
from opentrail.core.errors import CloudTrailError

#: Maximum positions that one answer covers.
MAX_POSITIONS = 1_000


def set_mark(services: Services) -> dict[str, Any]:
    """Returns the position of the newest durable record, 0 if there is none."""
    return {"position": services.journal.head}


async def read_records(services: Services, mark: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Returns the records after a mark, oldest first, up to the mark `until` or the newest one.

    They are of all accounts and Regions unless `account`, `region` or `expression` selects.
    `position` is as far as the answer extends; unless it is `complete`, the next answer continues
    there.

    Raises:
        CloudTrailError: a parameter is invalid.
    """
    journal = services.journal
    head = journal.head
    after = position_in({"mark": mark}, "mark", head) or 0
    until = position_in(query, "until", head)
    if until is None:
        until = head
    if until < after:
        raise CloudTrailError(
            "InvalidParameterException",
            f"until must not be before the mark {after}, but is {until}",
        )
    limit = count_in(query, "limit", MAX_POSITIONS) or MAX_POSITIONS
    if "since" in query:
        raise CloudTrailError("InvalidParameterException", "records after a mark have no since")
    conditions = {name: text for name, text in query.items() if name != "until"}
    search = search_in({"categories": "all", **conditions}, services.clock.now())
    entries = await journal.read(after, limit, until)
    position = entries[-1].position if entries else until
    found = await asyncio.to_thread(matching, search, entries)
    return {
        "position": position,
        "complete": position >= until,
        "records": [orjson.Fragment(event.record.encode()) for event in found],
    }
