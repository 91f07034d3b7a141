"""Sends matches to a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from opentrail.core.event import DETECTION, Entry
from opentrail.core.event_record import EventRecord
from opentrail.detections.matching import json_of
from opentrail.detections.webhook_forms import Alert, Match
from opentrail.follow import StoredCursor
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Journal
from opentrail.ports.services import Webhook

#: Entries after which the cursor is stored though none was sent.
_STORED_EVERY = 10_000
#: Time between two alerts about a rule.
QUIET = timedelta(minutes=1)


class Alerts:
    """Alerts in the form of a service that alerts people.

    Args:
        form: returns the body of an alert, as JSON has it.
        journal: has the events that matched.
        clock: says when the minute of a rule is over.
        console_url: where users open the console, if that is known.
    """

    def __init__(
        self,
        form: Callable[[Alert], Any],
        journal: Journal,
        clock: Clock,
        console_url: str | None = None,
    ) -> None:
        self._form, self._journal, self._console_url = form, journal, console_url
        self.clock = clock

    async def body(self, count: int, first: Entry, last: Entry) -> bytes:
        """Returns the body for the matches of a rule."""
        matches = await self._match(first), await self._match(last)
        return json_of(self._form(Alert(count, *matches, self._console_url)))

    async def _match(self, entry: Entry) -> Match:
        match = Match(EventRecord(entry.record).document)
        position = await self._journal.find(match.matched_id)
        for found in await self._journal.read(position - 1, 1) if position else ():
            if found.event_id == match.matched_id:
                return replace(match, matched=EventRecord(found.record).document)
        return match


@dataclass(slots=True)
class _Held:
    """The matches of a rule that wait for the end of its minute."""

    until: datetime
    count: int = 0
    first: Entry | None = None
    last: Entry | None = None

    def add(self, match: Entry) -> None:
        self.count, self.first, self.last = self.count + 1, self.first or match, match


class WebhookFollower:
    """A follower that sends each match at least once, in order.

    What the webhook refuses is counted and left out; while it does not answer, matches wait.
    As alerts, the matches of a rule within a minute of its last alert become one, which
    `send_held` sends once the minute is over. The stored cursor stays before all that wait.

    Args:
        control: has the cursor.
        webhook: gets the matches.
        metrics: count them.
        head: returns the last position of the journal.
        alerts: makes alerts of matches; None: the webhook gets their events.
    """

    name = "webhook"

    def __init__(
        self,
        control: ControlStore,
        webhook: Webhook,
        metrics: Metrics,
        head: Callable[[], int],
        alerts: Alerts | None = None,
    ) -> None:
        self._webhook, self._metrics, self._alerts = webhook, metrics, alerts
        #: The last position that was read, and the cursor as it is stored.
        self._cursor: int | None = None
        self._stored = StoredCursor(control, "webhook", head)
        #: By rule: what waits, or that its minute is not over.
        self._held: dict[str, _Held] = {}
        self._lock = asyncio.Lock()

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        if self._cursor is None:
            self._cursor = await self._stored.position()
        return self._cursor

    async def process(self, entries: Sequence[Entry]) -> None:
        """Sends the matches among entries, one by one, or holds them.

        Raises:
            ServiceError: the webhook accepts none now; it may have the one that was sent.
        """
        async with self._lock:
            taken_until = await self.cursor()
            for entry in entries:
                if entry.category == DETECTION and entry.position > taken_until:
                    await self._take(entry)
            self._cursor = entries[-1].position
            if self._safe() - await self._stored.position() >= _STORED_EVERY:
                await self._stored.store(self._safe())

    def is_due(self) -> bool:
        """Returns whether the minute of a rule is over."""
        return bool(self._due())

    async def send_held(self) -> None:
        """Sends what waits for minutes that are over.

        Raises:
            ServiceError: the webhook accepts nothing now; the rest waits.
        """
        async with self._lock:
            for rule, held in self._due():
                if held.first is None or held.last is None:
                    del self._held[rule]
                else:
                    await self._send(rule, held.count, held.first, held.last)
                    await self._stored.store(self._safe())

    def _due(self) -> list[tuple[str, _Held]]:
        if self._alerts is None:
            return []
        now = self._alerts.clock.now()
        return [(rule, held) for rule, held in self._held.items() if held.until <= now]

    def _safe(self) -> int:
        """Returns the position up to which nothing waits."""
        firsts = [held.first.position for held in self._held.values() if held.first]
        return min((first - 1 for first in firsts), default=self._cursor or 0)

    async def _take(self, entry: Entry) -> None:
        """Sends a match or holds it."""
        rule = ""
        if self._alerts is not None:
            rule = EventRecord(entry.record).document["detectionDetails"]["eventName"]
        held = self._held.get(rule)
        if held is not None:
            held.add(entry)
        else:
            await self._send(rule, 1, entry, entry)
        self._cursor = entry.position
        if held is None:
            await self._stored.store(self._safe())

    async def _send(self, rule: str, count: int, first: Entry, last: Entry) -> None:
        """Sends matches of a rule, whose minute then begins."""
        alerts, body = self._alerts, first.record
        if alerts is not None:
            body = await alerts.body(count, first, last)
        is_accepted = await self._webhook.send(first.event_id, body)
        self._metrics.webhook_events.labels("taken" if is_accepted else "rejected").inc(count)
        if alerts is not None:
            self._held[rule] = _Held(alerts.clock.now() + QUIET)
