"""Insights from the journal to its records, with the real watching process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opentrail.app.wings.insights import WatchProcess
from opentrail.core.event import INSIGHT, Entry, NewEntry, format_time
from opentrail.core.insight_types import PRINCIPAL_TYPES
from opentrail.insights import follower
from opentrail.insights.findings import Expected, ExpectedIncidents, minute_of
from opentrail.insights.follower import Insights
from opentrail.ports.control import Put, Remove
from opentrail.ports.event_store import CallKey
from opentrail.ports.follow import BATCH
from tests.factories import (
    ACCOUNT,
    AGENT,
    REGION,
    a_new_entry,
    a_record,
    an_assumed_role,
    an_entry,
    an_iam_user,
)
from tests.fakes import (
    MemoryControl,
    MemoryEvents,
    MemoryJournal,
    SettableClock,
    asynchronous,
    eventually,
    utc,
)

#: A Monday.
NOW = utc("2024-01-29T10:00:00Z")
MINUTE = timedelta(minutes=1)
LAUNCHES = CallKey(ACCOUNT, REGION, "Management", "ec2.amazonaws.com", "RunInstances")
CODEX = {"userAgent": f"{AGENT} app/agent-codex"}
DEPLOY = an_assumed_role("deploy", session="i-0abc")


class World:
    """A journal with its event store, and Insights that follow it."""

    def __init__(self, folder: Path, types: Sequence[str] = ()) -> None:
        self.types = types
        self.clock = SettableClock(NOW)
        self.journal = MemoryJournal()
        self.store = MemoryEvents()
        self.folder = folder
        self.control = MemoryControl()
        #: Whether Insights events are enabled.
        self.wanted = True
        self.random = random.Random(2)
        self.restart()

    def restart(self) -> None:
        self.watch = WatchProcess(self.folder, "balanced", self.types)
        self.insights = Insights(
            self.watch,
            self.store,
            self.journal,
            self.clock,
            self._visible,
            self._sources,
            ExpectedIncidents(self.control),
            of_principals=bool(self.types),
        )

    async def _visible(self, position: int) -> None:
        await self.store.add(await self.journal.read(self.store.position, position))

    async def _sources(self, key: CallKey, in_past: bool) -> Sequence[str | None]:
        return [None] if self.wanted or in_past else []

    def launches(self, count: int, minute: datetime, **changes: Any) -> list[NewEntry]:
        """Returns calls within a minute, recorded two seconds later."""
        entries = []
        for _ in range(count):
            moment = minute + timedelta(seconds=self.random.randrange(60))
            record = a_record(
                eventSource="ec2.amazonaws.com",
                eventName="RunInstances",
                eventTime=format_time(moment),
                eventID=f"{self.random.getrandbits(128):032x}",
                **changes,
            )
            entries.append(a_new_entry(record, recorded_at=moment + timedelta(seconds=2)))
        return sorted(entries, key=lambda entry: entry.recorded_at)

    async def fortnight(self) -> None:
        """Fills the journal with fifteen days of ordinary calls."""
        entries: list[NewEntry] = []
        for hour in range(15 * 24, 0, -1):
            for _ in range(self.random.randrange(4)):
                minute = NOW - timedelta(hours=hour) + self.random.randrange(60) * MINUTE
                identity = an_iam_user(self.random.choice(["John", "Ann"]))
                entries += self.launches(1, minute, userIdentity=identity)
        await self.journal.append(entries)

    async def follow(self) -> None:
        """Processes everything, like `opentrail.ports.follow`."""
        cursor = await self.insights.cursor()
        while entries := await self.journal.read(cursor, BATCH):
            await self.insights.process(entries)
            cursor = entries[-1].position
        await self.insights.tick()

    async def pass_minutes(self, minutes: int, calls: int = 0, **changes: Any) -> None:
        """Lets minutes pass, each with this number of calls."""
        for _ in range(minutes):
            await self.journal.append(self.launches(calls, self.clock.now(), **changes))
            self.clock.advance(60)
            await self.follow()
        self.clock.advance(45)
        await self.follow()
        self.clock.advance(15)

    def found(self) -> list[dict[str, Any]]:
        """Returns the records of Insights, in order of their positions."""
        return [json.loads(e.record) for e in self.journal.disk if e.category == INSIGHT]


@asynccontextmanager
async def world(folder: Path, types: Sequence[str] = ()) -> AsyncIterator[World]:
    made = World(folder, types)
    await made.fortnight()
    await made.watch.start()
    try:
        yield made
    finally:
        await made.watch.stop()


@pytest.mark.slow
@asynchronous
async def test_a_burst_is_recorded_with_start_and_end(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        assert w.found() == []
        await w.pass_minutes(2, 7, userIdentity=DEPLOY)
        (start,) = w.found()
        assert start["eventTime"] == "2024-01-29T10:00:00Z"
        await w.pass_minutes(3, 7, userIdentity=DEPLOY)
        await w.pass_minutes(20)
        _, end = w.found()
        assert end["sharedEventID"] == start["sharedEventID"]
        assert end["eventID"] != start["eventID"]
        assert end["insightDetails"]["state"] == "End"
        for record in (start, end):
            check_figures(record, w.journal.disk)


def check_figures(record: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Compares the figures of a record with plain counting."""
    details = record["insightDetails"]
    context = details["insightContext"]
    minutes = context["statistics"]["insightDuration"]
    edge = utc(record["eventTime"])
    begin = NOW if details["state"] == "Start" else edge - minutes * MINUTE
    assert begin == NOW
    before = context["statistics"]["baselineDuration"]
    assert before == 10_080
    periods = {
        "insight": (begin, begin + minutes * MINUTE, minutes),
        "baseline": (begin - before * MINUTE, begin, before),
    }
    for name, (first, last, length) in periods.items():
        events = [json.loads(entry.record) for entry in entries if entry.category == "Management"]
        events = [event for event in events if first <= utc(event["eventTime"]) < last]
        assert context["statistics"][name]["average"] == round(len(events) / length, 10)
        arns = Counter(
            event["userIdentity"]["arn"].removesuffix("/i-0abc") for event in events
        ).most_common()
        shown = next(a for a in context["attributions"] if a["attribute"] == "userIdentityArn")
        assert {each["value"]: each["average"] for each in shown[name]} == {
            arn: round(count / length, 10) for arn, count in arns
        }


@pytest.mark.slow
@asynchronous
async def test_an_incident_ends_after_insights_is_disabled(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        await w.pass_minutes(3, 9, userIdentity=DEPLOY)
        w.wanted = False
        await w.pass_minutes(20)
        assert [r["insightDetails"]["state"] for r in w.found()] == ["Start", "End"]


@pytest.mark.slow
@asynchronous
async def test_unwanted_incident_is_never_recorded(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        w.wanted = False
        await w.pass_minutes(3, 9, userIdentity=DEPLOY)
        w.wanted = True
        await w.pass_minutes(20)
        assert w.found() == []


@pytest.mark.slow
@asynchronous
async def test_expected_incident_is_reported_only_if_larger(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        await w.pass_minutes(5, 9, userIdentity=DEPLOY)
        await w.pass_minutes(60)
        (start, _) = w.found()
        burst = Expected(
            start["sharedEventID"], LAUNCHES, minute_of(NOW), True, [9, 45, 45, 46, 60]
        )
        await w.insights.expect(burst)
        for calls, records in ((9, 2), (30, 4)):
            await w.watch.stop()
            w.restart()  # the mark outlives the process
            await w.watch.start()
            await w.follow()
            await w.pass_minutes(3, calls, userIdentity=DEPLOY)
            await w.pass_minutes(300)
            assert len(w.found()) == records, calls


@pytest.mark.slow
@asynchronous
async def test_scan_of_old_events_finds_the_same_incidents(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        await w.pass_minutes(5, 9, userIdentity=DEPLOY)
        await w.pass_minutes(60)
        start, end = w.found()
        ((found, over),) = await w.insights.scan(NOW - timedelta(days=2))
        assert found.start == minute_of(NOW)
        events = await w.insights.record([(found, over)])
        assert [each.event_id for each in events] == [start["eventID"], end["eventID"]]
        assert w.found() == [start, end]  # no event is recorded twice
        assert await w.insights.scan(NOW + timedelta(minutes=30)) == []


@pytest.mark.slow
@asynchronous
async def test_the_status_shows_learned_and_watched_keys(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.insights.status()).state == "off"
        await w.follow()
        status = await w.insights.status()
        assert (status.state, status.learned, status.days) == ("watching", 28, 28)
        assert (status.keys, status.incidents) == (1, 0)
        assert status.known_since is not None
        assert NOW - timedelta(days=15) <= status.known_since < NOW - timedelta(days=14)
        await w.pass_minutes(3, 9, userIdentity=DEPLOY)
        status = await w.insights.status()
        assert (status.watched_until, status.incidents) == (NOW + 3 * MINUTE, 1)


@pytest.mark.slow
@asynchronous
async def test_a_clock_once_ahead_costs_no_finding(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.follow()
        await w.journal.append(w.launches(1, NOW + timedelta(days=2)))
        w.clock.advance(2 * 86_400)
        await w.follow()
        w.clock.advance(-2 * 86_400)
        await w.follow()
        status = await w.insights.status()
        assert status.watched_until is not None
        assert status.watched_until <= NOW
        await w.pass_minutes(3, 9, userIdentity=DEPLOY)
        assert len(w.found()) == 1


@pytest.mark.slow
@asynchronous
async def test_an_unreadable_mark_only_delays_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "_TICK_SECONDS", 0.01)
    async with world(tmp_path) as w:
        await w.follow()
        await w.control.apply([Put("expected-incident", "damaged", {"key": 1})])
        running = asyncio.create_task(w.insights.run())
        try:
            await eventually(lambda: "insights failed, trying again" in caplog.text)
            await w.control.apply([Remove("expected-incident", "damaged")])
            await w.journal.append(w.launches(99, w.clock.now(), userIdentity=DEPLOY))
            await w.insights.process(await w.journal.read(await w.insights.cursor(), BATCH))
            w.clock.advance(120)
            await eventually(w.found)
            assert not running.done()
        finally:
            running.cancel()


@pytest.mark.campaign
@pytest.mark.parametrize("stops", [(1, 3), (0, 2, 4)], ids=["stop", "kill"])
@asynchronous
async def test_a_restart_or_a_crash_changes_no_record(tmp_path: Path, stops: Sequence[int]) -> None:
    records = []
    for name, breaks in (("undisturbed", ()), ("stopped", stops)):
        async with world(tmp_path / name) as w:
            await w.follow()
            for minute in range(18):
                await w.pass_minutes(1, 9 if minute < 5 else 0, userIdentity=DEPLOY)
                if minute in breaks and minute % 2:
                    await w.watch.stop()
                    w.restart()
                    await w.watch.start()
                elif minute in breaks:
                    assert w.watch.pid is not None
                    os.kill(w.watch.pid, signal.SIGKILL)  # a new one starts
            records.append([(r["eventID"], r["eventTime"]) for r in w.found()])
    assert len(records[0]) == 2
    assert records[1] == records[0]


@pytest.mark.campaign
@asynchronous
async def test_principal_incidents_are_recorded_once_despite_stops(tmp_path: Path) -> None:
    found = []
    for stops in ((), (0, 1, 2)):
        async with world(tmp_path / f"{len(stops)}", PRINCIPAL_TYPES) as w:
            await w.follow()
            assert w.found() == [], "nothing that was learned is new"
            john = an_iam_user("John")
            for minute in range(3):
                changes = {1: {"awsRegion": "eu-west-3"}, 2: CODEX}.get(minute, {})
                await w.pass_minutes(
                    1, 12, userIdentity=john, errorCode="Client.UnauthorizedOperation", **changes
                )
                if minute in stops and minute % 2:
                    await w.watch.stop()
                    w.restart()
                    await w.watch.start()
                elif minute in stops:
                    assert w.watch.pid is not None
                    os.kill(w.watch.pid, signal.SIGKILL)
            await w.pass_minutes(20)
            records = [r for r in w.found() if "extension" in r["insightDetails"]]
            found.append([(r["eventID"], r["insightDetails"]) for r in records])
    assert [(d["insightType"], d["state"]) for _, d in found[0]] == [
        ("OpenTrail.NewRegion", "Start"),
        ("OpenTrail.AccessDenied", "Start"),
        ("OpenTrail.NewAgent", "Start"),
        ("OpenTrail.AccessDenied", "End"),
    ]
    assert found[1] == found[0]


@pytest.mark.slow
@asynchronous
async def test_an_import_is_known_and_hides_nothing_new(tmp_path: Path) -> None:
    async with world(tmp_path, PRINCIPAL_TYPES) as w:
        await w.follow()
        ann = an_iam_user("Ann")
        (past,) = w.launches(1, NOW - timedelta(days=9), userIdentity=ann, awsRegion="eu-west-3")
        w.store.add_imported(an_entry(-1, json.loads(past.record), recorded_at=past.recorded_at))
        await w.insights.tick()
        # Recorded before Insights has learned again, and not counted before.
        await w.journal.append(w.launches(1, NOW, userIdentity=ann, awsRegion="eu-north-1"))
        await w.insights.tick()
        await w.journal.append(w.launches(1, NOW, userIdentity=ann, awsRegion="eu-west-3"))
        await w.follow()
        assert [r["insightDetails"]["extension"]["value"] for r in w.found()] == ["eu-north-1"]
