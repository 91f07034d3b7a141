"""Each match reaches the webhook at least once, in order, or is part of an alert."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from opentrail.core.errors import ServiceError
from opentrail.core.event import DETECTION, Entry, Record, format_time
from opentrail.detections import notifications as module
from opentrail.detections.notifications import Alerts, WebhookFollower
from opentrail.detections.webhook_forms import Alert, InsightAlert, MatchAlert
from opentrail.ports.metrics import Metrics
from tests.factories import (
    MOMENT,
    a_principal_record,
    a_record,
    an_entry,
    an_insight_record,
    event_id,
)
from tests.fakes import MemoryControl, MemoryJournal, SettableClock, asynchronous


class Hook:
    """A `Webhook` in memory."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.bodies: list[bytes] = []
        self.answers: list[bool | None] = []

    async def send(self, event_id: str, body: bytes) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if answer is None:
            raise ServiceError("WebhookFailed", "it is down")
        self.taken.append(event_id)
        self.bodies.append(body)
        return answer


def a_match(position: int) -> Entry:
    return an_entry(position, a_record(eventID=event_id(position), eventCategory=DETECTION))


def follower(control: MemoryControl, hook: Hook, metrics: Metrics | None = None) -> WebhookFollower:
    return WebhookFollower(control, hook, metrics or Metrics(), lambda: 0)


ENTRIES = [a_match(1), an_entry(2), a_match(3), a_match(4)]
IDS = [event_id(1), event_id(3), event_id(4)]


@asynchronous
async def test_only_matches_are_sent() -> None:
    control, hook, metrics = MemoryControl(), Hook(), Metrics()
    hook.answers = [True, False]
    sends = follower(control, hook, metrics)
    assert await sends.cursor() == 0
    await sends.process(ENTRIES)
    assert hook.taken == IDS
    assert metrics.webhook_events.labels("taken")._value.get() == 2
    assert metrics.webhook_events.labels("rejected")._value.get() == 1
    assert await follower(control, hook).cursor() == 4


@asynchronous
async def test_while_the_webhook_is_down_matches_wait() -> None:
    control, hook = MemoryControl(), Hook()
    hook.answers = [True, None]
    sends = follower(control, hook)
    with pytest.raises(ServiceError):
        await sends.process(ENTRIES)
    assert await sends.cursor() == 1
    again = follower(control, hook)
    await again.process(ENTRIES)
    assert hook.taken == IDS


def test_the_cursor_is_stored_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STORED_EVERY", 5)

    @asynchronous
    async def run() -> None:
        control, hook = MemoryControl(), Hook()
        sends = follower(control, hook)
        await sends.process([an_entry(4)])
        assert await sends.cursor() == 4
        assert await follower(control, hook).cursor() == 0
        await sends.process([an_entry(5)])
        assert await follower(control, hook).cursor() == 5

    run()


# Alerts


def text(alert: Alert) -> dict[str, object]:
    """A form with the follower's decisions."""
    assert isinstance(alert, MatchAlert)
    ids = [match.matched_id for match in (alert.first, alert.last)]
    return {"rule": alert.last.details["eventName"], "count": alert.count, "ids": ids}


class Alerting:
    """A restartable follower that sends alerts, with its requests and cursor."""

    def __init__(self, entries: list[Entry]) -> None:
        self.control, self.hook, self.clock = MemoryControl(), Hook(), SettableClock()
        self.metrics, self.journal = Metrics(), MemoryJournal([*entries])
        self.start()

    def start(self) -> None:
        alerts = Alerts(text, self.journal, self.clock)
        self.follower = WebhookFollower(self.control, self.hook, self.metrics, lambda: 0, alerts)

    async def read(self) -> None:
        """Passes unread entries to the follower."""
        after = await self.follower.cursor()
        await self.follower.process(await self.journal.read(after, 5_000))

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self.follower.is_due():
            await self.follower.send_held()

    def sent(self) -> list[tuple[str, int]]:
        """Returns the rule of each request, and its number of matches."""
        bodies = [json.loads(body) for body in self.hook.bodies]
        return [(body["rule"], body["count"]) for body in bodies]


def a_match_of(rule: str, position: int) -> Entry:
    details = {"eventName": rule, "eventIDs": [event_id(1_000 + position)]}
    record = a_record(eventID=event_id(position), eventCategory=DETECTION, detectionDetails=details)
    return an_entry(position, record)


BURST = [a_match_of("b" if number == 100 else "a", number) for number in range(1, 242)]


@asynchronous
async def test_a_burst_is_one_alert_and_one_digest() -> None:
    alerting = Alerting(BURST)
    await alerting.read()
    assert alerting.sent() == [("a", 1), ("b", 1)]
    assert alerting.follower.needed_after(241) == 1
    await alerting.after(59.9)
    assert len(alerting.sent()) == 2
    await alerting.after(0.1)
    assert alerting.sent()[2:] == [("a", 239)]
    digest = json.loads(alerting.hook.bodies[-1])
    assert digest["ids"] == [event_id(1_002), event_id(1_241)]
    assert alerting.hook.taken[-1] == event_id(2), "of its first match"
    taken = alerting.metrics.webhook_events.labels("taken")
    assert taken._value.get() == 241
    assert await follower(alerting.control, Hook()).cursor() == 241, "all are sent"
    assert alerting.follower.needed_after(241) == 241

    alerting.journal.disk += [a_match_of("a", 242), a_match_of("b", 243)]
    await alerting.read()
    assert alerting.sent()[3:] == [("b", 1)], "the digest began another minute"
    await alerting.after(60)
    assert alerting.sent()[4:] == [("a", 1)], "one match is no digest"
    await alerting.after(60)
    alerting.journal.disk += [a_match_of("a", 244)]
    await alerting.read()
    assert alerting.sent()[5:] == [("a", 1)]
    assert len(alerting.sent()) == 6


@asynchronous
async def test_a_crash_loses_no_waiting_alert() -> None:
    alerting = Alerting(BURST)
    await alerting.read()
    alerting.start()
    assert await alerting.follower.cursor() == 1, "before the first that waited"
    await alerting.read()
    await alerting.after(60)
    assert alerting.sent() == [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("a", 238)]


@asynchronous
async def test_a_digest_waits_for_the_webhook_and_grows() -> None:
    alerting = Alerting(BURST[:3])
    alerting.hook.answers = [True, None]
    await alerting.read()
    with pytest.raises(ServiceError):
        await alerting.after(60)
    assert alerting.follower.is_due()
    alerting.journal.disk.append(a_match_of("a", 4))
    await alerting.read()
    await alerting.after(0)
    assert alerting.sent() == [("a", 1), ("a", 3)]
    assert await follower(alerting.control, Hook()).cursor() == 4


@asynchronous
async def test_a_refused_alert_is_counted() -> None:
    alerting = Alerting(BURST[:4])
    alerting.hook.answers = [False, False]
    await alerting.read()
    await alerting.after(60)
    assert alerting.metrics.webhook_events.labels("rejected")._value.get() == 4
    assert await follower(alerting.control, Hook()).cursor() == 4


@asynchronous
async def test_an_alert_has_the_matched_event() -> None:
    matched = an_entry(1, a_record(eventID=event_id(1_002)))
    journal, found = MemoryJournal([matched]), list[Record]()

    def form(alert: Alert) -> None:
        assert isinstance(alert, MatchAlert)
        found.extend([alert.first.matched, alert.last.matched])

    alerts = Alerts(form, journal, SettableClock())
    await alerts.body(2, a_match_of("a", 2), a_match_of("a", 3))
    assert found == [json.loads(matched.record), {}], "the other is not in the journal"


@asynchronous
async def test_the_events_of_matches_are_sent_unchanged() -> None:
    control, hook = MemoryControl(), Hook()
    await follower(control, hook).process(BURST[:3])
    assert hook.bodies == [entry.record for entry in BURST[:3]]


# Insights


def an_insight(
    position: int, state: str = "Start", shared: str = "", age: timedelta = timedelta(0)
) -> Entry:
    record = an_insight_record(state)
    record |= {
        "eventID": event_id(position),
        "eventTime": format_time(MOMENT - age),
        "sharedEventID": shared or f"insight-{position}",
    }
    return an_entry(position, record)


def a_first_use(position: int) -> Entry:
    record = {**a_principal_record(), "eventID": event_id(position)}
    return an_entry(position, {**record, "eventTime": format_time(MOMENT)})


class Insights(Alerting):
    """A follower that sends alerts about insights."""

    resolves = False

    def start(self) -> None:
        alerts = Alerts(reported, self.journal, self.clock, resolves=self.resolves)
        self.follower = WebhookFollower(
            self.control, self.hook, self.metrics, lambda: 0, alerts, with_insights=True
        )


class ResolvedInsights(Insights):
    """The same for a service that resolves alerts."""

    resolves = True


def reported(alert: Alert) -> dict[str, object]:
    state = "over" if isinstance(alert, InsightAlert) and alert.is_over else "open"
    return {"rule": f"{state} {alert.dedup_key}", "count": alert.count}


FLOOD = [
    an_insight(1),
    an_insight(2),
    an_entry(3),
    an_insight(4),
    an_insight(5, "End", "insight-1"),
    an_insight(6, "End", "insight-2"),
]


@asynchronous
async def test_many_insights_become_one_alert_and_one_digest() -> None:
    alerting = Insights(FLOOD)
    await alerting.read()
    assert alerting.sent() == [("open insight-1", 1), ("over insight-1", 1)]
    await alerting.after(60)
    assert alerting.sent()[2:] == [("open insight-2", 2), ("over insight-2", 1)]
    assert alerting.metrics.webhook_events.labels("taken")._value.get() == 5


@asynchronous
async def test_a_service_that_resolves_alerts_gets_each_insight() -> None:
    alerting = ResolvedInsights([*FLOOD, a_first_use(7), a_first_use(8)])
    await alerting.read()
    states = ["open insight-1", "open insight-2", "open insight-4"]
    states += ["over insight-1", "over insight-2"]
    assert alerting.sent()[:5] == [(state, 1) for state in states]
    assert len(alerting.sent()) == 6
    await alerting.after(60)
    assert [count for _, count in alerting.sent()[5:]] == [1, 1], "one first use waited"


@asynchronous
async def test_a_crash_loses_no_insight() -> None:
    alerting = Insights(FLOOD)
    await alerting.read()
    alerting.start()
    await alerting.read()
    await alerting.after(60)
    assert alerting.sent()[2:] == [
        ("open insight-2", 1),
        ("over insight-1", 1),
        ("open insight-4", 1),
        ("over insight-2", 1),
    ]


@asynchronous
async def test_old_and_malformed_insights_are_left_out() -> None:
    old = an_insight(1, age=timedelta(days=1, seconds=1))
    strange = an_entry(2, a_record(eventCategory="Insight", eventTime=format_time(MOMENT)))
    timeless = an_entry(3, a_record(eventCategory="Insight", eventTime=7))
    alerting = Insights([old, strange, timeless, an_insight(4, age=timedelta(days=1))])
    await alerting.read()
    assert alerting.sent() == [("open insight-4", 1)]


@asynchronous
async def test_insights_are_sent_only_on_request() -> None:
    hook = Hook()
    await follower(MemoryControl(), hook).process(FLOOD)
    assert hook.bodies == []
    sends = WebhookFollower(MemoryControl(), hook, Metrics(), lambda: 0, with_insights=True)
    await sends.process(FLOOD)
    assert hook.bodies == [entry.record for entry in FLOOD if entry.category == "Insight"]
