"""What a webhook gets of matches, in the forms of the services that alert people."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from opentrail.core.event import Record, as_object, format_time, parse_time

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
