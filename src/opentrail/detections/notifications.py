"""Sends matches and insights to a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from opentrail.core.event import DETECTION, INSIGHT, Entry, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.core.incident_reports import IncidentReport, incidents_of
from opentrail.detections.matching import json_of
from opentrail.detections.webhook_forms import Alert, InsightAlert, Match, MatchAlert
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.follow import StoredCursor
from opentrail.ports.journal import Journal
from opentrail.ports.metrics import Metrics
from opentrail.ports.services import Webhook

#: Entries after which the cursor is stored though none was sent.
_STORED_EVERY = 10_000
#: Time between two alerts about a rule, or about insights of a type.
QUIET = timedelta(minutes=1)
#: Insights that are recorded later than this are left out: a scan of old events found them.
_OLD = timedelta(days=1)
#: A group of events that share alerts: the matches of a rule, or insights.
Group = tuple[str, ...]


class Alerts:
    """Alerts in the form of a service that alerts people.

    Args:
        form: returns the body of an alert, in JSON's form.
        journal: has the events that matched.
        clock: the time, to know when the minute of a rule is over.
        console_url: where users open the console, if that is known.
        resolves: whether an alert is open in the service until it is resolved.
    """

    def __init__(
        self,
        form: Callable[[Alert], Any],
        journal: Journal,
        clock: Clock,
        console_url: str | None = None,
        resolves: bool = False,
    ) -> None:
        self._form, self._journal, self._console_url = form, journal, console_url
        self._resolves = resolves
        self.clock = clock

    def group(self, entry: Entry) -> Group | None:
        """Returns the group whose events share alerts; None if the event gets no alert.

        In a service that resolves alerts, each insight that will end has its own group.
        """
        if entry.category == DETECTION:
            return (DETECTION, EventRecord(entry.record).document["detectionDetails"]["eventName"])
        if (insight := _insight(entry)) is None:
            return None
        group = (INSIGHT, insight.insight_type, insight.record["insightDetails"]["state"])
        return (*group, insight.id) if self._resolves and not insight.is_first_use else group

    async def body(self, count: int, first: Entry, last: Entry) -> bytes:
        """Returns the body for events of a group."""
        return json_of(self._form(await self._alert(count, first, last)))

    async def _alert(self, count: int, first: Entry, last: Entry) -> Alert:
        insights = _insight(first), _insight(last)
        if insights[0] is not None and insights[1] is not None:
            return InsightAlert(count, insights[0], insights[1], self._console_url)
        matches = await self._match(first), await self._match(last)
        return MatchAlert(count, *matches, self._console_url)

    async def _match(self, entry: Entry) -> Match:
        match = Match(EventRecord(entry.record).document)
        position = await self._journal.find(match.matched_id)
        for found in await self._journal.read(position - 1, 1) if position else ():
            if found.event_id == match.matched_id:
                return replace(match, matched=EventRecord(found.record).document)
        return match


def _insight(entry: Entry) -> IncidentReport | None:
    """Returns the insight that an event reports; None for other events."""
    if entry.category != INSIGHT:
        return None
    return next(iter(incidents_of([orjson.loads(entry.record)])), None)


def _is_new(entry: Entry) -> bool:
    """Returns whether something unusual was found while it happened."""
    with suppress(LookupError, TypeError, ValueError):
        time = parse_time(orjson.loads(entry.record)["eventTime"])
        return entry.recorded_at - time <= _OLD
    return False


@dataclass(slots=True)
class _Held:
    """The events of a group that wait for the end of its minute."""

    until: datetime
    count: int = 0
    first: Entry | None = None
    last: Entry | None = None

    def add(self, match: Entry) -> None:
        self.count, self.first, self.last = self.count + 1, self.first or match, match


class WebhookFollower:
    """A follower that sends each match, and each new insight if enabled, at least once, in order.

    It counts and skips events that the webhook refuses; while the webhook does not answer, events
    wait. As alerts, the events of a group within a minute of its last alert become one, which
    `send_held` sends after the minute. The stored cursor stays before all waiting events.

    Args:
        control: has the cursor.
        webhook: gets the events.
        metrics: count them.
        head: returns the last position of the journal.
        alerts: makes alerts of events; None: the webhook gets the events.
        with_insights: whether the webhook also gets insights.
    """

    name = "webhook"

    def __init__(
        self,
        control: ControlStore,
        webhook: Webhook,
        metrics: Metrics,
        head: Callable[[], int],
        alerts: Alerts | None = None,
        with_insights: bool = False,
    ) -> None:
        self._webhook, self._metrics, self._alerts = webhook, metrics, alerts
        self._with_insights = with_insights
        #: The last position read, and the stored cursor.
        self._cursor: int | None = None
        self._stored = StoredCursor(control, "webhook", head)
        #: By group: the waiting events, or a sign that its minute is not over.
        self._held: dict[Group, _Held] = {}
        self._lock = asyncio.Lock()

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        if self._cursor is None:
            self._cursor = await self._stored.position()
        return self._cursor

    async def process(self, entries: Sequence[Entry]) -> None:
        """Sends the matches and insights among entries, one by one, or holds them.

        Raises:
            ServiceError: the webhook accepts none now; it may have the last event sent.
        """
        async with self._lock:
            taken_until = await self.cursor()
            for entry in entries:
                if entry.position > taken_until and self._is_wanted(entry):
                    await self._take(entry)
            self._cursor = entries[-1].position
            if self._safe() - await self._stored.position() >= _STORED_EVERY:
                await self._stored.store(self._safe())

    def _is_wanted(self, entry: Entry) -> bool:
        if entry.category == INSIGHT:
            return self._with_insights and _is_new(entry)
        return entry.category == DETECTION

    def is_due(self) -> bool:
        """Returns whether the minute of a group is over."""
        return bool(self._due())

    async def send_held(self) -> None:
        """Sends the events whose minute is over.

        Raises:
            ServiceError: the webhook accepts nothing now; the rest waits.
        """
        async with self._lock:
            for group, held in self._due():
                if held.first is None or held.last is None:
                    del self._held[group]
                else:
                    await self._send(group, held.count, held.first, held.last)
                    await self._stored.store(self._safe())

    def needed_after(self, cursor: int) -> int:
        """Returns the position after which events wait, or may be read again after a crash."""
        return min(cursor, self._safe())

    def _due(self) -> list[tuple[Group, _Held]]:
        if self._alerts is None:
            return []
        now = self._alerts.clock.now()
        return [(group, held) for group, held in self._held.items() if held.until <= now]

    def _safe(self) -> int:
        """Returns the position up to which nothing waits."""
        firsts = [held.first.position for held in self._held.values() if held.first]
        return min((first - 1 for first in firsts), default=self._cursor or 0)

    async def _take(self, entry: Entry) -> None:
        """Sends an event or holds it."""
        group = self._alerts.group(entry) if self._alerts is not None else ()
        if group is None:
            return
        held = self._held.get(group)
        if held is not None:
            held.add(entry)
        else:
            await self._send(group, 1, entry, entry)
        self._cursor = entry.position
        if held is None:
            await self._stored.store(self._safe())

    async def _send(self, group: Group, count: int, first: Entry, last: Entry) -> None:
        """Sends events of a group, whose minute then begins."""
        alerts, body = self._alerts, first.record
        if alerts is not None:
            body = await alerts.body(count, first, last)
        is_accepted = await self._webhook.send(first.event_id, body)
        self._metrics.webhook_events.labels("taken" if is_accepted else "rejected").inc(count)
        if alerts is not None:
            self._held[group] = _Held(alerts.clock.now() + QUIET)
