"""The state of the server: positions, freshness and problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import isnan
from typing import Literal, TypedDict

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.callers import caller_of, seen_by
from opentrail.api.v1.routes import ADMIN, VIEWER, route
from opentrail.core.event import Json
from opentrail.history.event_history import Search


class VisibleAfter(TypedDict):
    """Milliseconds until records of the last minute were visible; None without records."""

    p50Ms: float | None
    p99Ms: float | None


class HealthSummary(TypedDict):
    """The recorded and visible positions, the freshness, and the problems."""

    status: Literal["ok", "degraded", "failing"]
    #: The problems, in words.
    degradations: list[str]
    #: Positions up to which calls are recorded and visible.
    recorded: int
    visible: int
    events: int
    freshness: VisibleAfter
    #: Networks whose callers are not verified.
    insecureTrustedNetworks: Sequence[str]


class State:
    """The calls about the state of the server.

    Args:
        services: the features that operations use.
        health: returns the body of `/health`.
        status: returns the answer for `opentrail status`.
        freshness: returns quantiles of the seconds until recent records were visible.
    """

    def __init__(
        self,
        services: Services,
        health: Callable[[], Awaitable[Json]],
        status: Callable[[], Awaitable[Json]],
        freshness: Callable[[], list[tuple[float, float]]],
    ) -> None:
        self._services = services
        self._health = health
        self._status = status
        self._freshness = freshness

    @route(
        "GET", "/status", ADMIN, "see health, trails, disk and the last problem", token_only=True
    )
    async def status(self, _request: Request) -> Json:
        """Returns `/health` with trails, disk, freshness and the last problem."""
        return await self._status()

    @route("GET", "/health", VIEWER, "see whether the server is healthy")
    async def health(self, request: Request) -> HealthSummary:
        """Returns the recorded and visible positions, the freshness, and the problems.

        A caller limited to some accounts gets the number of their events, up to the counting limit,
        and nothing about other accounts.
        """
        state = await self._health()
        journal, history = state["journal"], state["history"]
        accounts = caller_of(request).accounts
        wrong = [f"event history is missing {reason}" for reason in state["missing"]]
        if accounts is None:
            for kind in ("dataProblems", "keyProblems", "serviceProblems"):
                wrong += state.get(kind, ())
        elif wrong:
            wrong = ["event history is missing events"]
        if journal["failure"]:
            wrong.append(f"calls are not recorded: {journal['failure']}")
        if history is not None and not history["responding"]:
            reason = history.get("failure") if accounts is None else None
            wrong.append("event history does not answer" + (f": {reason}" if reason else ""))
        if failure := state["controlStore"]["failure"]:
            wrong.append(f"trails, keys and policies are not known: {failure}")
        milliseconds = {
            share: None if isnan(seconds) else round(seconds * 1000, 1)
            for share, seconds in self._freshness()
        }
        recorded = journal["position"]
        visible = history["position"] if history else 0
        events = visible + history["imported"] if history else 0
        if accounts is not None:
            own_history = seen_by(request, self._services).history
            events = recorded = visible = (await own_history.count_events(Search())).value
        return {
            "status": state["status"],
            "degradations": wrong,
            "recorded": recorded,
            "visible": visible,
            "events": events,
            "freshness": {"p50Ms": milliseconds.get(0.5), "p99Ms": milliseconds.get(0.99)},
            "insecureTrustedNetworks": state["insecureTrustedNetworks"],
        }
