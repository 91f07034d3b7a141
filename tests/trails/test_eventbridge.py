"""The event bus: events that an event Region's rules match, at least once, in AWS's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from opentrail.core.errors import ServiceError
from opentrail.core.event import Entry
from opentrail.core.event_record import EventRecord
from opentrail.ports.metrics import Metrics
from opentrail.trails.eventbridge import EntryMatcher, EventBridgeFollower, bus_event
from tests.factories import (
    MOMENT,
    REGION,
    a_data_record,
    a_record,
    an_entry,
    an_insight_record,
    event_id,
    record_bytes,
)
from tests.fakes import (
    Fault,
    MemoryBus,
    MemoryControl,
    MemoryServices,
    SettableClock,
    asynchronous,
)

ALL = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"


class Scene:
    """A bus with rules in one Region, and a trail that excludes given events."""

    def __init__(self, *states: str) -> None:
        self.control, self.services = MemoryControl(), MemoryServices()
        self.services.rules[REGION] = frozenset(states or ("ENABLED",))
        self.clock, self.metrics = SettableClock(), Metrics()
        self.logs, self.left_out = True, set[int]()
        #: Positions passed to the selectors.
        self.looked_at: list[int] = []
        self.head = 0
        self.follower = self.another()

    def another(self) -> EventBridgeFollower:
        """Returns another process's follower."""
        return EventBridgeFollower(
            self.control,
            MemoryBus(self.services),
            self.clock,
            self.metrics,
            self._taking,
            lambda: self.head,
        )

    async def _taking(self) -> EntryMatcher | None:
        return self._taken if self.logs else None

    def _taken(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        self.looked_at.extend(entry.position for entry in entries)
        return [entry for entry in entries if entry.position not in self.left_out]

    def numbers(self, region: str = REGION) -> list[int]:
        """The positions of the events on the bus, from their ids."""
        ids = {event_id(n): n for n in range(1, 200)}
        events = self.services.bus.get(region, [])
        return [ids[json.loads(event.detail)["eventID"]] for event in events]


def entries(count: int, first: int = 1, **changes: Any) -> list[Entry]:
    return [
        an_entry(n, a_record(eventID=event_id(n), **changes)) for n in range(first, first + count)
    ]


@asynchronous
async def test_events_are_on_the_bus_in_awss_form() -> None:
    scene = Scene()
    (entry,) = entries(1)
    await scene.follower.process([entry])
    (event,) = scene.services.bus[REGION]
    assert (event.source, event.detail_type) == ("aws.iam", "AWS API Call via CloudTrail")
    assert event.time == MOMENT
    assert event.detail.encode() == entry.record


@pytest.mark.parametrize(
    ("changes", "source", "detail_type"),
    [
        ({"eventSource": "s3.amazonaws.com"}, "aws.s3", "AWS API Call via CloudTrail"),
        ({"eventSource": "monitoring.amazonaws.com"}, "aws.cloudwatch", None),
        (
            {"eventSource": "signin.amazonaws.com", "eventType": "AwsConsoleSignIn"},
            "aws.signin",
            "AWS Console Sign In via CloudTrail",
        ),
        ({"eventType": "AwsServiceEvent"}, "aws.iam", "AWS Service Event via CloudTrail"),
        ({"eventType": "AwsConsoleAction"}, "aws.iam", "AWS Console Action via CloudTrail"),
        ({"eventType": "AwsCloudTrailInsight"}, "aws.cloudtrail", "AWS Insight via CloudTrail"),
        ({"eventType": "OpentrailDetection"}, "opentrail.detections", "Opentrail Detection"),
        ({"eventType": "AwsVpceEvent"}, None, "AWS Network Activity Event via CloudTrail"),
        ({"eventType": "AwsNewThing"}, None, "AWS API Call via CloudTrail"),
    ],
    ids=lambda value: str(value),
)
def test_sources_and_kinds_have_awss_names(
    changes: dict[str, str], source: str | None, detail_type: str | None
) -> None:
    record = a_record(**changes)
    event = bus_event(EventRecord(record_bytes(record)))
    assert source in (None, event.source)
    assert detail_type in (None, event.detail_type)


@asynchronous
async def test_insights_events_match_cloudtrail_rules() -> None:
    scene = Scene("ENABLED")
    await scene.follower.process([an_entry(1, an_insight_record(), origin="insight")])
    (event,) = scene.services.bus[REGION]
    assert (event.source, event.detail_type) == ("aws.cloudtrail", "AWS Insight via CloudTrail")
    assert event.time == MOMENT


@pytest.mark.parametrize(
    ("states", "reads"), [(("ENABLED",), False), ((ALL,), True), (("ENABLED", ALL), True)], ids=str
)
@asynchronous
async def test_reads_match_only_rules_on_all_events(states: tuple[str, ...], reads: bool) -> None:
    scene = Scene(*states)
    data = an_entry(3, a_data_record(eventID=event_id(3), readOnly=True, eventName="GetObject"))
    await scene.follower.process([*entries(1), *entries(1, first=2, readOnly=True), data])
    assert scene.numbers() == ([1, 2, 3] if reads else [1, 3])


@pytest.mark.parametrize("states", [("DISABLED",), ()], ids=str)
@asynchronous
async def test_without_rules_nothing_is_put(states: tuple[str, ...]) -> None:
    scene = Scene()
    scene.services.rules[REGION] = frozenset(states)
    assert await scene.follower.cursor() == 0
    await scene.follower.process(entries(3))
    assert scene.services.bus == {}
    assert scene.looked_at == [1, 2, 3]
    assert await scene.follower.cursor() == 3
    assert await scene.another().cursor() == 0, "which costs nothing but another look"
    await scene.follower.process(entries(3))
    assert scene.looked_at == [1, 2, 3], "nor is anything selected while that is known"
    scene.clock.advance(30)
    await scene.follower.process(entries(1, first=4))
    assert await scene.another().cursor() == 4


@asynchronous
async def test_rules_are_not_requested_while_no_trail_logs() -> None:
    scene = Scene()
    scene.logs, scene.services.asked_for_rules = False, 0
    await scene.follower.process(entries(3))
    assert (await scene.follower.cursor(), scene.services.asked_for_rules) == (3, 0)
    scene.logs = True
    await scene.follower.process(entries(1, first=4))
    assert (scene.numbers(), scene.services.asked_for_rules) == ([4], 1)


@asynchronous
async def test_rules_are_requested_only_where_needed() -> None:
    scene = Scene()
    scene.left_out = set(range(1, 1_000))
    for start in range(0, 600, 100):
        many = [
            an_entry(n, a_record(eventID=event_id(n), awsRegion=f"made-up-{n}"))
            for n in range(start + 1, start + 101)
        ]
        await scene.follower.process(many)
    assert scene.services.asked_for_rules == 0


@asynchronous
async def test_rules_of_many_regions_stay_known() -> None:
    scene = Scene()
    await scene.follower.process(entries(1))
    for n in range(2, 600):
        await scene.follower.process([an_entry(n, a_record(eventID="x", awsRegion=f"made-up-{n}"))])
    asked = scene.services.asked_for_rules
    await scene.follower.process(entries(1, first=600))
    assert scene.services.asked_for_rules == asked
    assert len(scene.services.bus[REGION]) == 2


@asynchronous
async def test_a_rule_gets_selected_events_of_its_region() -> None:
    scene = Scene()
    scene.left_out = {2}
    elsewhere = an_entry(4, a_record(eventID=event_id(4), awsRegion="eu-west-1"))
    await scene.follower.process([*entries(3), elsewhere])
    assert scene.numbers() == [1, 3]
    assert scene.numbers("eu-west-1") == []


@asynchronous
async def test_new_rules_are_seen_within_half_a_minute() -> None:
    scene = Scene("DISABLED")
    await scene.follower.process(entries(1))
    scene.services.rules[REGION] = frozenset({"ENABLED"})
    scene.clock.advance(30)
    await scene.follower.process(entries(1, first=2))
    assert scene.numbers() == [2]


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_events_that_the_bus_refuses_are_resent(fault: Fault) -> None:
    scene = Scene()
    await scene.follower.process(entries(1))
    many = entries(40, first=2)
    scene.services.faults.extend([None, fault])
    with pytest.raises(ServiceError):
        await scene.follower.process(many)
    after = scene.another()
    assert await after.cursor() == 1
    await after.process(many)
    assert set(scene.numbers()) == set(range(1, 42))


@asynchronous
async def test_it_begins_at_the_head() -> None:
    scene = Scene()
    scene.head = 7
    assert await scene.follower.cursor() == 7
    scene.head = 9
    assert await scene.another().cursor() == 7
    await scene.follower.process(entries(2, first=8))
    assert await scene.another().cursor() == 9


@asynchronous
async def test_rules_are_remembered_during_an_outage() -> None:
    scene = Scene()
    await scene.follower.process(entries(1))
    scene.services.down = "ServiceUnavailable"
    after = scene.another()
    await after.cursor()
    with pytest.raises(ServiceError):
        await after.process(entries(1, first=2))
    scene.services.down = None
    await after.process(entries(1, first=2))
    assert scene.numbers() == [1, 2]


@asynchronous
async def test_an_upstream_without_event_buses_holds_nothing_up() -> None:
    scene = Scene()
    scene.services.down = "UnknownOperationException"
    await scene.follower.process(entries(3))
    assert await scene.follower.cursor() == 3


@asynchronous
async def test_old_or_oversized_events_are_counted() -> None:
    scene = Scene()
    huge = a_record(eventID=event_id(1), requestParameters={"text": "x" * 300_000})
    await scene.follower.process([an_entry(1, huge)])
    scene.clock.advance(86_401)
    await scene.follower.process(entries(1, first=2))
    assert scene.services.bus == {}
    shown = scene.metrics.exposition()
    assert b'bus_events_total{outcome="too-large"} 1.0' in shown
    assert b'bus_events_total{outcome="given-up"} 1.0' in shown


@asynchronous
async def test_accepted_events_are_not_resent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    many = entries(40)
    put, calls = MemoryBus.put, 0

    async def failing(self: MemoryBus, region: str, events: Any) -> list[int]:
        nonlocal calls
        calls += 1
        if calls % 2:
            await put(self, region, [event for n, event in enumerate(events) if n != 3])
            return [3] if len(events) > 3 else []
        return await put(self, region, events)

    monkeypatch.setattr(MemoryBus, "put", failing)
    for _ in range(20):
        try:
            await scene.follower.process(many)
        except ServiceError:
            continue
        break
    assert sorted(scene.numbers()) == list(range(1, 41))
