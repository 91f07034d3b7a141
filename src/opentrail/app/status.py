"""What `opentrail status` shows: health, freshness, trails, disk, and the last problem."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from opentrail.api.services import Services
from opentrail.api.trail_states import TrailState, all_trails, trail_state
from opentrail.core.errors import OpentrailError
from opentrail.core.event import format_time
from opentrail.core.logs import LastProblem
from opentrail.core.selectors.recorded_calls import LeftOut
from opentrail.history.event_history import Search
from opentrail.settings import Settings

Json = dict[str, Any]


class ServerStatus:
    """The state of one server, for the operator of its machine.

    Args:
        settings: its settings.
        services: what operations use.
        health: returns the body of `/health`.
        quantiles: returns shares with the seconds until lookups found records, of the last minute.
        left_out: returns the calls that were left out since the server started.
        problem: knows the last problem that was logged.
        started: when the server started.
        disk: returns what records take of the disk, and how long it lasts.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        health: Callable[[], Awaitable[Json]],
        quantiles: Callable[[], list[tuple[float, float]]],
        left_out: Callable[[], Mapping[LeftOut, int]],
        problem: LastProblem,
        started: datetime,
        disk: Callable[[], Awaitable[Json]],
    ) -> None:
        self._settings = settings
        self._services = services
        self._health = health
        self._quantiles = quantiles
        self._left_out = left_out
        self._problem = problem
        self._started = started
        self._disk = disk

    async def document(self) -> Json:
        """Returns the body of `/api/v1/status`."""
        return {
            **await self._health(),
            "started": format_time(self._started),
            "upstreams": {name or "*": url for name, url in self._settings.upstream.items()},
            "newestEvent": await self._newest_event(),
            "visibleSeconds": {
                f"p{share * 100:g}": None if math.isnan(seconds) else round(seconds, 3)
                for share, seconds in self._quantiles()
            },
            "record": self._settings.record if self._settings.record == "all" else "selectors",
            "leftOut": [
                {"eventSource": source, "eventName": name, "resourceType": kind, "calls": calls}
                for (source, name, kind), calls in sorted(self._left_out().items())
            ],
            "trails": await self._trails(),
            "disk": await self._disk(),
            "lastProblem": self._problem.line,
        }

    async def _trails(self) -> list[TrailState]:
        services = self._services
        try:
            trails = await all_trails(services.trails)
            return [await trail_state(services.control, trail) for trail in trails]
        except OpentrailError:
            return []  # health says what is wrong

    async def _newest_event(self) -> str | None:
        try:
            newest = await self._services.history.latest(Search(), 1)
        except OpentrailError:
            return None  # health says what is wrong
        return format_time(newest[0].event_time) if newest else None
