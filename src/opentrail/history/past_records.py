"""The records of a search, read newest first as far as one answer may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from opentrail.core.event import format_time
from opentrail.history.event_history import History, Search
from opentrail.history.threads import in_thread

#: Is called with a number of bytes, days or events that were read, and with their total.
Report = Callable[[int, int | None], None]
#: Events per page; two pages are in memory at most.
_PAGE_EVENTS = 1_000
#: Seconds after which an answer rests on the events that were read.
_MAX_SECONDS = 60.0
#: Maximum events that are counted for the progress.
_MAX_TOTAL = 10**9


async def read_newest(
    history: History,
    search: Search,
    add: Callable[[Iterator[Mapping[str, Any]]], bool],
    report: Report | None = None,
) -> tuple[int, str | None]:
    """Returns how many events were read, and the time of the oldest if others were not.

    Args:
        history: what the caller may see.
        search: which events.
        add: takes the records of a page, in a thread; returns whether it takes more.
        report: takes how many events were read, and of how many; None: it is not followed.
    """
    end, count = time.monotonic() + _MAX_SECONDS, 0
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
