"""Trails: their list with health, their digests, and calls that deliver or verify now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import caller_of, seen_by
from opentrail.api.v1.proofs import Verification, Verifications
from opentrail.api.v1.routes import AUDITOR, OPERATOR, route
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, MANAGEMENT, NETWORK_ACTIVITY, Json
from opentrail.core.event_data_store import STORE_CATEGORIES
from opentrail.core.event_record import EventRecord
from opentrail.core.selectors import Selection, SelectorOwner, predicate_of, read_selection
from opentrail.core.text import counted
from opentrail.core.trail import Trail, shown_time
from opentrail.history.event_history import Search, has_all
from opentrail.history.threads import in_thread
from opentrail.ports.control import ControlStore
from opentrail.ports.event_store import FoundEvent
from opentrail.trails.comparison import STRANGERS
from opentrail.trails.plans import load_state, load_undelivered
from opentrail.trails.registry import TrailRegistry
from opentrail.who.shapes import CountedValue


class TrailState(TypedDict):
    """A trail's settings, its status (Off, Logging, Failing) and its last deliveries."""

    arn: str
    name: str
    account: str
    bucket: str
    prefix: str
    homeRegion: str
    multiRegion: bool
    logging: bool
    status: Literal["Off", "Logging", "Failing"]
    reason: str | None
    latestDelivery: str | None
    latestDigest: str | None
    validation: bool
    insights: bool
    #: None: files are encrypted as the bucket is configured.
    kmsKey: str | None
    #: ARN of the topic that announces new files.
    topic: str | None
    #: ARN of the log group that receives events.
    logGroup: str | None


async def trail_state(control: ControlStore, trail: Trail) -> TrailState:
    """Returns a trail's settings, its status (Off, Logging, Failing) and its last deliveries."""
    state = await load_state(control, trail.uid)
    failing = state.latest_error or state.latest_digest_error
    reason = failing or (state.new_chain_reason if state.is_new_chain_current(trail) else None)
    reason = reason or await _strangers(control, trail) or await _undelivered(control, trail)
    status: Literal["Off", "Logging", "Failing"] = "Off"
    if trail.logging:
        status = "Failing" if failing else "Logging"
    return {
        "arn": trail.arn,
        "name": trail.name,
        "account": trail.account,
        "bucket": trail.bucket,
        "prefix": trail.prefix,
        "homeRegion": trail.home_region,
        "multiRegion": trail.multi_region,
        "logging": trail.logging,
        "status": status,
        "reason": reason or None,
        "latestDelivery": shown_time(state.latest_delivery) if state.latest_delivery else None,
        "latestDigest": shown_time(state.latest_digest) if state.latest_digest else None,
        "validation": trail.validation,
        "insights": bool(trail.insight_selectors),
        "kmsKey": trail.kms_key or None,
        "topic": trail.topic or None,
        "logGroup": trail.log_group or None,
    }


async def trail_problems(control: ControlStore, trails: TrailRegistry) -> list[dict[str, str]]:
    """Returns the problems of trails as `{"trail": ARN, "problem": text}`, empty if all work.

    This includes deleted trails with events left to deliver.
    """
    problems = []
    for stored in await trails.all_and_retired():
        trail = stored.trail
        if not (trail.logging or trail.spans):
            continue
        state = await load_state(control, trail.uid)
        if state.latest_error:
            text = f"log files cannot be delivered: {state.latest_error}"
            problems.append({"trail": trail.arn, "problem": text})
        if state.latest_digest_error:
            text = f"digest files cannot be written: {state.latest_digest_error}"
            problems.append({"trail": trail.arn, "problem": text})
        if state.new_chain and state.is_new_chain_current(trail):
            began = shown_time(state.new_chain)
            text = f"a new chain of digest files began at {began}: older ones in the "
            text += "bucket are not of this server or do not belong together"
            problems.append({"trail": trail.arn, "problem": text})
        elif strangers := await _strangers(control, trail):
            problems.append({"trail": trail.arn, "problem": strangers})
        if undelivered := await _undelivered(control, trail):
            problems.append({"trail": trail.arn, "problem": undelivered})
    return problems


async def _undelivered(control: ControlStore, trail: Trail) -> str | None:
    """Returns the problem of a trail whose events expired before their delivery."""
    undelivered = await load_undelivered(control, trail.uid)
    if undelivered is None or not undelivered.is_current(trail):
        return None
    first, last = undelivered.ranges[0][0], undelivered.ranges[-1][1]
    return (
        f"{counted(undelivered.count, 'event')} between positions {first} and {last} expired "
        "before delivery: those that the trail selects are in no log file"
    )


async def _strangers(control: ControlStore, trail: Trail) -> str | None:
    """Returns the problem of a trail whose bucket has digests of another installation."""
    stored = await control.get(STRANGERS, trail.uid)
    if stored is None or stored.document["started"] != trail.started_at:
        return None
    return (
        f"another installation writes digest files of this trail into bucket "
        f"{stored.document['bucket']}, such as {stored.document['key']}: auditors find two chains; "
        "use another bucket, prefix or name for one of them"
    )


async def all_trails(
    trails: TrailRegistry,
    account: str | None = None,
    may_see: Callable[[str], bool] = lambda _account: True,
) -> list[Trail]:
    """Returns the trails of one account or of all visible accounts, by name."""
    visible = [stored.trail for stored in await trails.all(account)]
    visible = [trail for trail in visible if may_see(trail.account)]
    return sorted(visible, key=lambda trail: (trail.name, trail.arn))


async def find_trail(
    trails: TrailRegistry,
    name: object,
    account: str | None,
    may_see: Callable[[str], bool] = lambda _account: True,
) -> Trail:
    """Returns the trail with a name or ARN, of one account or of any visible account.

    Raises:
        CloudTrailError: there is no such trail, or there are several.
    """
    visible = await all_trails(trails, account, may_see)
    fitting = [trail for trail in visible if name in (trail.name, trail.arn)]
    if not fitting:
        message = f"trail {name!r} not found; 'opentrail trail list' shows what there is"
        raise CloudTrailError("TrailNotFoundException", message, 404)
    if len(fitting) > 1:
        arns = ", ".join(trail.arn for trail in fitting)
        message = f"several trails are called {name!r}; name one by its ARN: {arns}"
        raise CloudTrailError("InvalidParameterException", message)
    return fitting[0]


#: Verifies a trail; returns whether all is valid, and the verifier's lines.
Verify = Callable[[str], Awaitable[tuple[bool, list[str]]]]
_EXAMPLE = '{"name": "my-trail"}'
#: Maximum events in a preview of selectors, and maximum names of events that they leave out.
_MAX_PREVIEWED, _MAX_LEFT_OUT = 10_000, 5
#: The event categories that selectors cover.
_SELECTED = {
    SelectorOwner.TRAIL: (MANAGEMENT, DATA, NETWORK_ACTIVITY),
    SelectorOwner.EVENT_DATA_STORE: STORE_CATEGORIES,
}


class TrailSummary(TrailState):
    """A trail with its health, and its latest verification."""

    verified: Verification | None


class TrailList(TypedDict):
    """Trails, by name."""

    trails: list[TrailSummary]


class UndeliveredRange(TypedDict):
    """Positions of events in no log file, and when that was found."""

    first: int
    last: int
    found: str


class TrailDigests(TypedDict):
    """The digests that a trail must have: the first digest of each chain, and the newest."""

    trail: str
    chains: list[dict[str, Any]]
    #: Positions of events that expired before delivery: they are in no log file.
    undelivered: list[UndeliveredRange]


class DeliveredFiles(TypedDict):
    """The keys of the delivered files."""

    trail: str
    logFiles: list[str]
    digestFiles: list[str]


class Verified(TypedDict):
    """The verifier's result for a trail."""

    valid: bool
    lines: list[str]


class SelectorPreview(TypedDict):
    """The number of the newest events of the last day that event selectors select."""

    events: int
    selected: int
    #: Whether `events` counts all events of the day.
    complete: bool
    #: The most frequent names of unselected events.
    leftOut: list[CountedValue]


class Trails:
    """The calls about trails that the CloudTrail API does not have.

    Args:
        services: the features that operations use.
        verify: verifies the trail of an ARN.
        verifications: the latest findings.
    """

    def __init__(self, services: Services, verify: Verify, verifications: Verifications) -> None:
        self._services = services
        self._verify = verify
        self._verifications = verifications
        #: Held by a preview, which has thousands of events in memory.
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
        undelivered = await load_undelivered(self._services.control, trail.uid)
        ranges = undelivered.ranges if undelivered else []
        found = shown_time(undelivered.found) if undelivered else ""
        return {
            "trail": trail.arn,
            "chains": chains,
            "undelivered": [
                {"first": first, "last": last, "found": found} for first, last in ranges
            ],
        }

    @route(
        "POST",
        "/trails/preview",
        AUDITOR,
        "see what event selectors would have selected",
        body='{"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}',
    )
    async def preview(self, request: Request, body: Json) -> SelectorPreview:
        """Returns the number of the newest events of the last day that event selectors select.

        The body has the members of `PutEventSelectors`. The count includes all Regions, all
        accounts that the caller may see, and imported events.
        """
        return await self.preview_of(request, body, SelectorOwner.TRAIL)

    async def preview_of(
        self, request: Request, body: Json, owner: SelectorOwner
    ) -> SelectorPreview:
        """Returns a preview of the selectors of a trail or of an event data store."""
        selection = _selection_in(body, owner)
        since = self._services.clock.now() - timedelta(days=1)
        history = seen_by(request, self._services).history
        search = Search(start=since, categories=_SELECTED[owner])
        async with self._turn:
            events = await history.latest(search, _MAX_PREVIEWED)
            return await in_thread(_preview, selection, events)

    @route("POST", "/trails/verify", AUDITOR, "verify a trail", body=_EXAMPLE)
    async def verify(self, request: Request, body: Json) -> Verified:
        """Verifies the log files and digests of a trail, and returns the verifier's lines."""
        trail = await self._named_in(request, body)
        is_valid, lines = await self._verify(trail.arn)
        await self._verifications.store(trail, is_valid, lines)
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


def _selection_in(body: Json, owner: SelectorOwner) -> Selection:
    """Returns the selection that the members of `PutEventSelectors` describe.

    Raises:
        CloudTrailError: they have another form, or describe a selection that `owner` cannot have.
    """
    try:
        return read_selection(body, owner)
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
