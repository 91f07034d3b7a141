"""Trails: a list with their health, their digests, and what delivers and verifies them now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.trail_states import TrailState, all_trails, find_trail, trail_state
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import caller_of, seen_by
from opentrail.api.v1.proofs import Verification, Verifications
from opentrail.api.v1.routes import AUDITOR, OPERATOR, route
from opentrail.core.event import DATA, MANAGEMENT, NETWORK_ACTIVITY, Json
from opentrail.core.event_record import EventRecord
from opentrail.core.selectors import Selection, SelectorOwner, predicate_of, read_selection
from opentrail.core.trail import Trail
from opentrail.history.event_history import Search, has_all
from opentrail.history.threads import in_thread
from opentrail.ports.event_store import FoundEvent
from opentrail.who.shapes import CountedValue

#: Verifies a trail; returns whether all is valid, and the verifier's lines.
Verify = Callable[[str], Awaitable[tuple[bool, list[str]]]]
_EXAMPLE = '{"name": "my-trail"}'
#: Maximum events that selectors are tried on, and names of events that they leave out.
_MAX_PREVIEWED, _MAX_LEFT_OUT = 10_000, 5
#: The categories of events that selectors are about.
_SELECTED = (MANAGEMENT, DATA, NETWORK_ACTIVITY)


class TrailSummary(TrailState):
    """A trail with its health, and its latest verification."""

    verified: Verification | None


class TrailList(TypedDict):
    """Trails, by name."""

    trails: list[TrailSummary]


class TrailDigests(TypedDict):
    """The digests that a trail must have: the first ones of its chains, and the newest."""

    trail: str
    chains: list[dict[str, Any]]


class DeliveredFiles(TypedDict):
    """The keys of the files that were delivered."""

    trail: str
    logFiles: list[str]
    digestFiles: list[str]


class Verified(TypedDict):
    """What the verifier says of a trail."""

    valid: bool
    lines: list[str]


class SelectorPreview(TypedDict):
    """How many of the newest events of the last day some event selectors select."""

    events: int
    selected: int
    #: Whether `events` are all of the day.
    complete: bool
    #: The most frequent names of events that are not selected.
    leftOut: list[CountedValue]


class Trails:
    """The calls about trails that the CloudTrail API does not have.

    Args:
        services: what operations use.
        verify: verifies the trail of an ARN.
        verifications: what was found last.
    """

    def __init__(self, services: Services, verify: Verify, verifications: Verifications) -> None:
        self._services = services
        self._verify = verify
        self._verifications = verifications
        #: Held by a preview, which holds thousands of events.
        self._turn = asyncio.Lock()

    @route("GET", "/trails", AUDITOR, "see trails")
    async def all(self, request: Request) -> TrailList:
        """Returns the trails that the caller may see, by name."""
        trails = await all_trails(self._services.trails, may_see=caller_of(request).may_see)
        return {"trails": [await self._summary(trail) for trail in trails]}

    @route("GET", "/trails/digests", AUDITOR, "see digests of a trail", query=("name", "account"))
    async def digests(self, request: Request) -> TrailDigests:
        """Returns the digest chains of a trail."""
        query = request.query_params
        trail = await self._find(request, query.get("name", ""), query.get("account"))
        chains = await self._services.deliveries.known_digests(trail)
        return {"trail": trail.arn, "chains": chains}

    @route(
        "POST",
        "/trails/preview",
        AUDITOR,
        "see what event selectors would have selected",
        body='{"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}',
    )
    async def preview(self, request: Request, body: Json) -> SelectorPreview:
        """Returns how many of the newest events of the last day some event selectors select.

        The body has the members of `PutEventSelectors`. Events of all Regions and of the accounts
        that the caller may see are counted, imported ones included.
        """
        selection = _selection_in(body)
        since = self._services.clock.now() - timedelta(days=1)
        history = seen_by(request, self._services).history
        search = Search(start=since, categories=_SELECTED)
        async with self._turn:
            events = await history.latest(search, _MAX_PREVIEWED)
            return await in_thread(_preview, selection, events)

    @route("POST", "/trails/verify", AUDITOR, "verify a trail", body=_EXAMPLE)
    async def verify(self, request: Request, body: Json) -> Verified:
        """Verifies the log files and digests of a trail, and returns what the verifier says."""
        trail = await self._named_in(request, body)
        is_valid, lines = await self._verify(trail.arn)
        await self._verifications.note(trail, is_valid, lines)
        return {"valid": is_valid, "lines": lines}

    @route("POST", "/trails/flush", OPERATOR, "deliver log files now", body=_EXAMPLE)
    async def flush(self, request: Request, body: Json) -> DeliveredFiles:
        """Delivers a trail's events and signs its digests now."""
        trail = await self._named_in(request, body)
        delivered = await self._services.deliveries.flush(trail)
        return {"trail": trail.arn, "logFiles": delivered.logs, "digestFiles": delivered.digests}

    async def _summary(self, trail: Trail) -> TrailSummary:
        state = await trail_state(self._services.control, trail)
        return {**state, "verified": await self._verifications.of(trail)}

    async def _named_in(self, request: Request, body: Json) -> Trail:
        """Returns the trail of `name`, perhaps of one `account`."""
        name, account = body.get("name", ""), body.get("account")
        if not isinstance(name, str):
            raise invalid_parameter("name must be a string")
        return await self._find(request, name, account if isinstance(account, str) else None)

    async def _find(self, request: Request, name: str, account: str | None) -> Trail:
        return await find_trail(self._services.trails, name, account, caller_of(request).may_see)


def _selection_in(body: Json) -> Selection:
    """Returns the selection that the members of `PutEventSelectors` describe.

    Raises:
        CloudTrailError: they are not in that form, or describe none that a trail can have.
    """
    try:
        return read_selection(body, SelectorOwner.TRAIL)
    except (AttributeError, KeyError, TypeError) as error:
        message = "EventSelectors or AdvancedEventSelectors must be as in PutEventSelectors"
        raise invalid_parameter(message) from error


def _preview(selection: Selection, events: Sequence[FoundEvent]) -> SelectorPreview:
    predicate, left_out = predicate_of(selection), Counter[str]()
    for event in events:
        record = EventRecord(event.record.encode("utf-8", "replace"))
        category = str(record.document.get("eventCategory", MANAGEMENT))
        if not predicate.matches(category, record.fields):
            left_out[event.event_name] += 1
    return {
        "events": len(events),
        "selected": len(events) - left_out.total(),
        "complete": has_all(events, _MAX_PREVIEWED),
        "leftOut": [
            {"value": value, "count": count} for value, count in left_out.most_common(_MAX_LEFT_OUT)
        ],
    }
