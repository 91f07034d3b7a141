"""Events on the default event bus of their Region (cloudtrail-format §9.3)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from opentrail.core.batching import batches
from opentrail.core.errors import ServiceError
from opentrail.core.event import MANAGEMENT, Entry, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.metrics import Metrics
from opentrail.ports.services import BusEvent, EventBus

log = logging.getLogger(__name__)

#: Kind of the document with the cursor.
_KIND = "event-bus"
#: Its key.
_KEY = "place"
#: State of rules that get all but read-only management events.
_ENABLED = "ENABLED"
#: State of rules that get all events.
_ALL = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
_MATCHING = frozenset({_ENABLED, _ALL})
#: Duration for which the rules of a Region are cached.
_KNOWN_FOR = timedelta(seconds=30)
#: Maximum Regions without rules in the cache.
_MAX_REGIONS = 200
#: Interval at which the cursor is stored while no events are sent.
_KEPT_EVERY = timedelta(seconds=30)
#: Events expire after this time (guarantee L5).
_MAX_AGE = timedelta(hours=24)
#: Maximum events of one call (cloudtrail-format §9.3).
_MAX_EVENTS = 10
#: Maximum bytes of one call.
_MAX_BYTES = 256 * 1024
#: Bytes that each event adds to its record.
_MORE_BYTES = 200
_DETAIL_TYPES = {
    "AwsApiCall": "AWS API Call via CloudTrail",
    "AwsConsoleSignIn": "AWS Console Sign In via CloudTrail",
    "AwsConsoleAction": "AWS Console Action via CloudTrail",
    "AwsServiceEvent": "AWS Service Event via CloudTrail",
    "AwsCloudTrailInsight": "AWS Insight via CloudTrail",
    "AwsVpceEvent": "AWS Network Activity Event via CloudTrail",
    "OpentrailDetection": "Opentrail Detection",
}
_INSIGHT = "AwsCloudTrailInsight"
_DETECTION = "OpentrailDetection"
#: Event sources that have another name on the bus.
_SOURCES = {"monitoring": "cloudwatch"}

#: Returns the entries that a logging trail selects.
EntryMatcher = Callable[[Sequence[Entry]], Sequence[Entry]]


class BusCursor(msgspec.Struct, frozen=True):
    """The last position of events on the bus, as the control store has it."""

    #: The last position that was processed.
    position: int
    #: Region → the states of its rules.
    rules: dict[str, list[str]]


class EventBridgeFollower:
    """A follower that puts events on the bus, at least once, if a trail selects them.

    Only Regions with rules get events. A service without `ListRules` has no rules.

    Args:
        matcher: returns the matcher of all logging trails, None while no trail logs.
    """

    name = "event bus"

    def __init__(
        self,
        control: ControlStore,
        bus: EventBus,
        clock: Clock,
        metrics: Metrics,
        matcher: Callable[[], Awaitable[EntryMatcher | None]],
        head: Callable[[], int],
    ) -> None:
        self._control = control
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._matcher = matcher
        self._head = head
        self._cursor: int | None = None
        #: Positions after the cursor whose events are on the bus.
        self._put_already: set[int] = set()
        self._kept_at = clock.now()
        #: Region → states of its rules, and the time of the request for them.
        self._states: dict[str, frozenset[str]] = {}
        self._asked_at: dict[str, datetime] = {}

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        if self._cursor is not None:
            return self._cursor
        stored = await self._control.get(_KIND, _KEY)
        if stored is None:
            self._cursor = self._head()
            await self._store_cursor(self._cursor)
            return self._cursor
        cursor = msgspec.convert(stored.document, BusCursor)
        self._states = {region: frozenset(states) for region, states in cursor.rules.items()}
        self._cursor = cursor.position
        return self._cursor

    async def process(self, entries: Sequence[Entry]) -> None:
        """Puts entries on the bus if rules may match them.

        Raises:
            ServiceError: the bus refused or failed; the caller must process the whole batch again.
        """
        events_by_region = await self._events_of(entries)
        for region, events in events_by_region.items():
            for batch in batches(events, _size_of, _MAX_BYTES, _MAX_EVENTS):
                await self._put(region, batch)
        self._cursor = entries[-1].position
        self._put_already.clear()
        # Entries that no rule matches may be processed again.
        if events_by_region or self._clock.now() - self._kept_at >= _KEPT_EVERY:
            await self._store_cursor(self._cursor)

    async def _events_of(self, entries: Sequence[Entry]) -> dict[str, list[tuple[int, BusEvent]]]:
        """Returns by Region the events that rules may match."""
        events_by_region: dict[str, list[tuple[int, BusEvent]]] = {}
        matches = await self._matcher()
        if matches is None:
            return events_by_region
        has_rules = {region: self._may_have_rules(region) for region in {e.region for e in entries}}
        selected = matches([entry for entry in entries if has_rules[entry.region]])
        # Only for Regions of selected events: callers may name any Region.
        states = {
            region: await self._rule_states(region) for region in {e.region for e in selected}
        }
        for entry in selected:
            matching = states[entry.region] & _MATCHING
            if not matching or entry.position in self._put_already or self._is_unsendable(entry):
                continue
            record = EventRecord(entry.record)
            only_reads = entry.category == MANAGEMENT and record.fields.read_only
            if _ALL in matching or not only_reads:
                event = (entry.position, bus_event(record))
                events_by_region.setdefault(entry.region, []).append(event)
        return events_by_region

    def _may_have_rules(self, region: str) -> bool:
        """Returns False only if the cache shows that a Region has no such rules."""
        return not self._is_known(region) or bool(self._states[region] & _MATCHING)

    def _is_known(self, region: str) -> bool:
        time = self._asked_at.get(region)
        return time is not None and self._clock.now() - time < _KNOWN_FOR

    def _is_unsendable(self, entry: Entry) -> bool:
        """Returns whether an event is too late or too large for the bus, and counts it."""
        if self._clock.now() - entry.recorded_at > _MAX_AGE:
            self._metrics.bus_events.labels("given-up").inc()
            return True
        if len(entry.record) > _MAX_BYTES - _MORE_BYTES:
            self._metrics.bus_events.labels("too-large").inc()
            return True
        return False

    async def _rule_states(self, region: str) -> frozenset[str]:
        if self._is_known(region):
            return self._states[region]
        if len(self._asked_at) >= _MAX_REGIONS:
            self._asked_at = {name: at for name, at in self._asked_at.items() if self._states[name]}
            self._states = {name: self._states[name] for name in self._asked_at}
        self._asked_at[region] = self._clock.now()
        try:
            self._states[region] = await self._bus.rule_states(region)
        except ServiceError as error:
            rules = self._states.setdefault(region, frozenset())
            log.log(
                logging.WARNING if rules else logging.DEBUG,
                "rules of an event bus cannot be read",
                extra={"region": region, "error": str(error)},
            )
        return self._states[region]

    async def _put(self, region: str, events: Sequence[tuple[int, BusEvent]]) -> None:
        failed = await self._bus.put(region, [event for _, event in events])
        refused = frozenset(failed)
        self._put_already.update(
            position for number, (position, _) in enumerate(events) if number not in refused
        )
        self._metrics.bus_events.labels("taken").inc(len(events) - len(failed))
        if failed:
            raise ServiceError(
                "PutEventsFailed", f"{len(failed)} of {len(events)} events in {region}"
            )

    async def _store_cursor(self, position: int) -> None:
        rules = {region: sorted(states) for region, states in self._states.items() if states}
        document = msgspec.to_builtins(BusCursor(position, rules))
        await self._control.apply([Put(_KIND, _KEY, document)])
        self._kept_at = self._clock.now()


def bus_event(record: EventRecord) -> BusEvent:
    """Returns an event in AWS's form for buses."""
    kind = record.fields.event_type
    name = record.fields.event_source.removesuffix(".amazonaws.com")
    source = "cloudtrail" if kind == _INSIGHT else _SOURCES.get(name, name)
    return BusEvent(
        "opentrail.detections" if kind == _DETECTION else f"aws.{source}",
        _DETAIL_TYPES.get(kind or "", _DETAIL_TYPES["AwsApiCall"]),
        parse_time(record.event_time),
        record.raw.decode(),
    )


def _size_of(event: tuple[int, BusEvent]) -> int:
    return len(event[1].detail.encode()) + _MORE_BYTES
