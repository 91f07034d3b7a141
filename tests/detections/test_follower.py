"""New events are matched once, whatever happens between two steps."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from opentrail.core.errors import RecordRefused
from opentrail.core.event import Entry, parse_time
from opentrail.detections import enabled_rules as module
from opentrail.detections.enabled_rules import DetectionFollower, EnabledRule, EnabledRules
from opentrail.detections.rules import (
    Correlation,
    DetectionRule,
    Like,
    Matches,
    OneOf,
    RuleSelection,
)
from opentrail.ports.follow import catch_up
from opentrail.ports.metrics import Metrics
from tests.detections.test_enabled_rules import an_enabled_rule
from tests.factories import a_new_entry, a_record, an_insight_record, event_id
from tests.fakes import (
    Breaker,
    MemoryControl,
    MemoryJournal,
    PowerCutError,
    SettableClock,
    asynchronous,
)

SELECTION = RuleSelection("users", OneOf("eventName", ("CreateUser",)), ("userIdentity.arn",))
THREE = an_enabled_rule(
    "three",
    condition=None,
    correlation=Correlation("event_count", (SELECTION,), 60, 3),
)


class World:
    """A journal, enabled rules, and a restartable follower."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.documents: dict[Any, Any] = {}
        self.metrics, self.clock = Metrics(), SettableClock()
        self.restart()

    def restart(self, breaker: Breaker | None = None) -> None:
        self.journal = MemoryJournal(self.entries, breaker)
        self.control = MemoryControl(self.documents, breaker)
        self.rules = EnabledRules(self.control)
        self.follower = DetectionFollower(
            self.control, self.rules, self.journal, self.clock, self.metrics
        )

    async def enable(self, *rules: EnabledRule) -> None:
        for rule in rules:
            await self.rules.put(rule.rule.name, rule)

    async def record(self, first: int, last: int, **changes: Any) -> None:
        """Records events, one every ten seconds."""
        records = [
            a_record(
                eventID=event_id(n), eventTime=f"2020-01-01T09:{n // 6:02}:{n % 6}0Z", **changes
            )
            for n in range(first, last)
        ]
        await self.journal.append([a_new_entry(record) for record in records])

    async def follow(self) -> None:
        """Lets the follower read all entries, in batches of two."""
        while await self.follower.cursor() < len(self.entries):
            cursor = await self.follower.cursor()
            await self.follower.process(await self.journal.read(cursor, 2))

    def matches(self) -> list[tuple[str, list[int]]]:
        """Returns rule and numbers of events of each recorded match, in order."""
        documents = [json.loads(entry.record) for entry in self.entries]
        return [
            (details["eventName"], [int(each[-12:], 16) for each in details["eventIDs"]])
            for document in documents
            if (details := document.get("detectionDetails"))
        ]


@asynchronous
async def test_new_events_are_matched() -> None:
    world = World()
    await world.enable(an_enabled_rule(), THREE)
    await world.record(0, 4)
    await world.record(4, 6, eventName="DeleteUser")
    await world.follow()
    assert sum(name == "users" for name, _ in world.matches()) == 4
    [events] = [events for name, events in world.matches() if name == "three"]
    assert len(events) == 3


@asynchronous
async def test_events_before_enabling_are_not_matched() -> None:
    world = World()
    await world.record(0, 3)
    await world.enable(an_enabled_rule(after=3))
    await world.follow()
    assert world.matches() == []
    await world.record(3, 4)
    await world.follow()
    await world.enable(an_enabled_rule("later", after=len(world.entries)))
    await world.record(4, 5)
    await world.follow()
    assert Counter(name for name, _ in world.matches()) == {"users": 2, "later": 1}


@asynchronous
async def test_rule_counts_survive_changes_of_other_rules() -> None:
    world = World()
    await world.enable(THREE)
    await world.record(0, 2)
    await world.follow()
    await world.enable(an_enabled_rule("other", after=len(world.entries)))
    await world.record(2, 3)
    await world.follow()
    assert sorted(name for name, _ in world.matches()) == ["other", "three"]
    await world.rules.delete("other")
    await world.record(3, 4)
    await world.follow()
    assert len(world.matches()) == 2


@asynchronous
async def test_matches_and_insights_are_not_matched() -> None:
    world = World()
    await world.enable(an_enabled_rule(condition=Like("*", "eventID")))
    await world.record(0, 1)
    await world.journal.append(
        [a_new_entry(an_insight_record()), a_new_entry(a_record(), origin="import")]
    )
    await world.follow()
    await world.follow()
    assert len(world.matches()) == 1


@pytest.mark.slow
def test_a_crash_loses_and_doubles_no_match() -> None:
    async def run(world: World, breaker: Breaker) -> None:
        world.restart(breaker)
        with suppress(PowerCutError):
            await world.follow()

    breakers = []

    @asynchronous
    async def crash(at: int, done: bool) -> None:
        world = World()
        await world.enable(an_enabled_rule(), THREE)
        world.clock.advance(60)
        await world.record(0, 2)
        await world.follow()
        await world.record(2, 5)
        await world.record(20, 24)
        breaker = Breaker(at, done)
        await run(world, breaker)
        await run(world, Breaker())
        names = Counter(name for name, _ in world.matches())
        assert names == {"users": 9, "three": 2}, (at, done)
        assert len({entry.event_id for entry in world.entries}) == len(world.entries)
        breakers.append(breaker)

    for done in (False, True):
        for at in range(1, 80):
            crash(at, done)
    assert sum(breaker.tripped for breaker in breakers) > 20
    assert not breakers[-1].tripped, "every step was one to crash at"


@asynchronous
async def test_while_the_journal_refuses_records_matches_wait() -> None:
    world = World()
    await world.enable(THREE)
    await world.record(0, 3)
    world.journal.failure = "the disk is full"
    with pytest.raises(RecordRefused):
        await world.follow()
    world.journal.failure = None
    await catch_up(world.journal, world.follower)
    assert [name for name, _ in world.matches()] == ["three"]


def test_rule_matching_everything_does_not_fill_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PER_HOUR", 2)

    @asynchronous
    async def run() -> None:
        world = World()
        await world.enable(an_enabled_rule())
        await world.record(0, 5)
        await world.follow()
        assert len(world.matches()) == 2
        assert world.metrics.detections.labels("suppressed")._value.get() == 3
        world.clock.advance(3_600)
        await world.record(5, 6)
        await world.follow()
        assert len(world.matches()) == 3

    run()


@asynchronous
async def test_an_inapplicable_rule_does_not_stop_others() -> None:
    world = World()
    await world.enable(
        an_enabled_rule("broken", condition=Matches("eventName", "(?=a)")), an_enabled_rule()
    )
    await world.record(0, 1)
    await world.follow()
    assert [name for name, _ in world.matches()] == ["users"]


@asynchronous
async def test_an_invalid_time_is_replaced_by_the_recordings() -> None:
    world = World()
    await world.enable(THREE)
    await world.journal.append(
        [a_new_entry(a_record(eventID=event_id(n), eventTime="soon")) for n in range(3)]
    )
    await world.follow()
    assert [name for name, _ in world.matches()] == ["three"]


def test_groups_of_two_accounts_are_apart() -> None:
    @asynchronous
    async def run() -> None:
        world = World()
        rule = DetectionRule(
            "three",
            "Three",
            correlation=Correlation(
                "event_count", (RuleSelection("u", SELECTION.condition),), 60, 3
            ),
        )
        await world.enable(EnabledRule(rule, 0, "", ""))
        await world.record(0, 2)
        await world.record(2, 3, recipientAccountId="999999999999")
        await world.follow()
        assert world.matches() == []

    run()


@asynchronous
async def test_invalid_unicode_is_matched() -> None:
    world = World()
    by_agent = RuleSelection("u", Matches("userAgent", "^tool.*x$"), ("userAgent",))
    await world.enable(
        an_enabled_rule("regex", condition=by_agent.condition),
        an_enabled_rule("object", condition=Like('*"note":*', "requestParameters")),
        an_enabled_rule(
            "two", condition=None, correlation=Correlation("event_count", (by_agent,), 60, 2)
        ),
    )
    hostile = {"userAgent": "tool \ud800 x", "requestParameters": {"note": "\udfff", "n": 10**30}}
    entries = []
    for number in range(2):
        record = a_record(eventID=event_id(number), **hostile)
        raw = json.dumps(record).encode()
        entries.append(replace(a_new_entry(a_record(eventID=event_id(number))), record=raw))
    await world.journal.append(entries)
    await world.follow()
    assert Counter(name for name, _ in world.matches()) == {"regex": 2, "object": 2, "two": 1}


@asynchronous
async def test_an_unreadable_event_does_not_stop_others() -> None:
    world = World()
    await world.enable(an_enabled_rule())
    raw = json.dumps({**a_record(), "requestParameters": 0}).encode()
    raw = raw.replace(
        b'"requestParameters": 0', b'"requestParameters": ' + b"[" * 9_999 + b"]" * 9_999
    )
    await world.journal.append([replace(a_new_entry(a_record(eventID=event_id(7))), record=raw)])
    await world.record(0, 1)
    await world.follow()
    names = [
        details["eventName"]
        for entry in world.entries[1:]
        if (details := json.loads(entry.record).get("detectionDetails"))
    ]
    assert names == ["users"]
    assert world.metrics.detections.labels("failed")._value.get() == 1


@asynchronous
async def test_counted_events_are_needed_while_others_may_follow() -> None:
    world = World()
    await world.enable(THREE)
    await world.record(0, 2)
    await world.follow()
    world.clock.moment = parse_time("2020-01-01T09:00:30Z")
    assert world.follower.needed_after(2) == 0
    world.clock.advance(2 * 3_600)
    assert world.follower.needed_after(2) == 2
