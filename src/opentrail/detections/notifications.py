"""Sends matches to a webhook, in the forms of the services that alert people."""

from __future__ import annotations

import asyncio
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from opentrail.core.event import DETECTION, Entry, Record, as_object, format_time, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.detections.matching import json_of
from opentrail.follow import StoredCursor
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Journal
from opentrail.ports.services import Webhook

#: Maximum characters of a value in a sentence.
_MAX_VALUE = 300
#: Maximum characters of PagerDuty's `summary`.
_MAX_SUMMARY = 1_024
#: Characters of names and ARNs; a value with others is quoted.
_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}-._:/@+=,")
#: PagerDuty's severities of Sigma's levels.
_SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning"}


@dataclass(frozen=True, slots=True)
class Match:
    """A match of a rule.

    Args:
        record: the event of the match.
        matched: the matched event, of several the last; empty if the journal has it no longer.
    """

    record: Record
    matched: Record = field(default_factory=dict)

    @property
    def time(self) -> str | None:
        """When the matched event happened; None if its record has no proper time."""
        try:
            return format_time(parse_time(str(self.record.get("eventTime"))))
        except ValueError:
            return None

    @property
    def matched_id(self) -> str:
        """The id of the matched event; of several the last."""
        return str(self.details["eventIDs"][-1])

    @property
    def details(self) -> Record:
        """Its `detectionDetails`."""
        details: Record = self.record["detectionDetails"]
        return details


@dataclass(frozen=True, slots=True)
class Alert:
    """What one request says: the matches of a rule, of which the first and the last are named.

    Args:
        count: the number of matches.
        first: the first one.
        last: the last one; the first one again if there is no other.
        console_url: where users open the console, if that is known.
    """

    count: int
    first: Match
    last: Match
    console_url: str | None = None

    @property
    def event_id(self) -> str:
        """The id of the first match, which is the same if the alert is sent again."""
        return str(self.first.record["eventID"])

    @property
    def link(self) -> str | None:
        """The console's page of the last matched event."""
        if self.console_url is None:
            return None
        event = quote(self.last.matched_id, safe="", errors="replace")
        return f"{self.console_url}/console/events/{event}"

    @property
    def title(self) -> str:
        """The rule's title."""
        return _printable(_cut(self.last.details["title"], _MAX_VALUE))

    @property
    def text(self) -> str:
        """One sentence: what happened. Values cannot be mistaken for its words."""
        details = self.last.details
        rule = f"rule {_value(details['eventName'])}"
        if author := details.get("author"):
            rule += f" by {_value(author)}"
        head = f"{self.title} ({details['level']}, {rule})"
        if self.count == 1:
            return f"{head}: {_described(self.last)}."
        span = f"{self.count:,} times between {self.first.time} and {self.last.time}"
        first, last = _described(self.first), _described(self.last)
        return f"{head} matched {span}; first: {first}; last: {last}."


def slack(alert: Alert) -> dict[str, Any]:
    """Returns the message for an incoming webhook of Slack."""
    text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"{text}\n{alert.link}" if alert.link else text, "mrkdwn": False}


def teams(alert: Alert) -> dict[str, Any]:
    """Returns the message for a workflow of Teams: an Adaptive Card.

    A `TextRun` has no Markdown. Functions such as `{{DATE(…)}}` do not work with a space.
    """
    text = re.sub(r"\{(?=\{)", "{ ", alert.text)
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]}],
    }
    if alert.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the event", "url": alert.link}]
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def pagerduty(alert: Alert, routing_key: str) -> dict[str, Any]:
    """Returns the event for PagerDuty's Events API v2."""
    details = alert.last.details
    body: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": alert.event_id,
        "client": "opentrail",
        "payload": {
            "summary": _cut(alert.text, _MAX_SUMMARY),
            "severity": _SEVERITIES.get(details["level"], "info"),
            "source": _value(details.get("matchedEventSource")),
            "class": details["eventName"],
            "custom_details": {"text": alert.text, "matches": alert.count},
        },
    }
    if alert.last.time:
        body["payload"]["timestamp"] = alert.last.time
    if alert.link:
        body["links"] = [{"href": alert.link, "text": "Open the event"}]
    return body


def alertmanager(alert: Alert) -> list[dict[str, Any]]:
    """Returns the alerts for `POST /api/v2/alerts` of Alertmanager.

    With the event id among the labels, each alert is one that Alertmanager does not know yet.
    """
    details = alert.last.details
    one: dict[str, Any] = {
        "labels": {
            "alertname": details["eventName"],
            "severity": details["level"],
            "event_id": alert.event_id,
        },
        "annotations": {"summary": alert.title, "description": alert.text},
    }
    if alert.first.time:
        one["startsAt"] = alert.first.time
    if alert.link:
        one["generatorURL"] = alert.link
    return [one]


#: Forms that need no more than the alert.
FORMS: Mapping[str, Callable[[Alert], Any]] = {
    "slack": slack,
    "teams": teams,
    "alertmanager": alertmanager,
}


def _described(match: Match) -> str:
    """Returns what happened: who called what, when, from where."""
    record, details = match.record, match.details
    if principals := details.get("principals"):
        who = _value(principals[0])
        if others := len(principals) - 1:
            who += f" (and {others} more)"
    elif key := as_object(match.matched.get("userIdentity")).get("accessKeyId"):
        who = f"an unknown caller with the access key {_value(key)}"
    else:
        who = "an unknown caller"
    called = f"{who} called {_value(details.get('matchedEventName'))}"
    called += f" of {_value(details.get('matchedEventSource'))}"
    if (address := match.matched.get("sourceIPAddress")) is not None:
        called += f" from {_value(address)}"
    called += f" at {match.time or 'an unknown time'}"
    called += f" in account {_value(record['recipientAccountId'])}, {_value(record['awsRegion'])}"
    event = f"event {_value(match.matched_id)}"
    if (count := len(details["eventIDs"])) > 1:
        event += f", the last of {count}"
    return f"{called} ({event})"


def _value(value: Any) -> str:
    """Returns a value of a record, in quotes if it is not plainly one word.

    >>> print(_value("arn:aws:iam::123456789012:user/admin"), _value("*x* <!channel>"))
    arn:aws:iam::123456789012:user/admin "*x* <!channel>"
    """
    text = str(value)
    if text and len(text) <= _MAX_VALUE and _PLAIN.issuperset(text):
        return text
    return _printable(json.dumps(_cut(text, _MAX_VALUE), ensure_ascii=False))


def _printable(text: str) -> str:
    r"""Returns a text in which control characters, such as those of direction, are escaped.

    >>> print(_printable("a\x07b\u202ec"))
    a\u0007b\u202ec
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


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
