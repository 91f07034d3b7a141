"""A webhook's messages on matches and insights, in the forms of services that alert people."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from opentrail.core.event import Json, Record, as_object, format_time, parse_time
from opentrail.core.incident_reports import IncidentReport, sentence

#: Maximum characters of a value in a sentence.
_MAX_VALUE = 300
#: Maximum characters of PagerDuty's `summary`.
_MAX_SUMMARY = 1_024
#: Characters of names and ARNs; a value with others is quoted.
_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}-._:/@+=,")
#: PagerDuty's severities of Sigma's levels.
_SEVERITIES = {"critical": "critical", "high": "error", "medium": "warning"}
#: Alertmanager resolves the alert of an incident whose end it never hears of after this time.
_MAX_INCIDENT = timedelta(days=2)


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
class MatchAlert:
    """One request's matches of a rule, with the first and the last match.

    Args:
        count: the number of matches.
        first: the first match.
        last: the last match; the first one again if there is no other.
        console_url: where users open the console, if that is known.
    """

    count: int
    first: Match
    last: Match
    console_url: str | None = None

    end, is_over = None, False

    @property
    def event_id(self) -> str:
        """The id of the first match, which is the same if the alert is sent again."""
        return str(self.first.record["eventID"])

    dedup_key = event_id

    @property
    def labels(self) -> dict[str, str]:
        """With the event id, each alert is new to Alertmanager."""
        return {"event_id": self.event_id}

    @property
    def name(self) -> str:
        """The rule."""
        return str(self.last.details["eventName"])

    @property
    def level(self) -> str:
        """The rule's level."""
        return str(self.last.details["level"])

    @property
    def title(self) -> str:
        """The rule's title."""
        return _printable(_truncate(self.last.details["title"], _MAX_VALUE))

    @property
    def text(self) -> str:
        """One sentence: the matched event. Values cannot be mistaken for its words."""
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

    @property
    def source(self) -> str:
        """The source of the last matched event."""
        return _value(self.last.details.get("matchedEventSource"))

    @property
    def begin(self) -> str | None:
        """The time of the first match."""
        return self.first.time

    @property
    def time(self) -> str | None:
        """The time of the last match."""
        return self.last.time

    @property
    def link(self) -> tuple[str, str] | None:
        """The page of the last matched event."""
        return _link(self.console_url, "events", self.last.matched_id, "Open the event")


@dataclass(frozen=True, slots=True)
class InsightAlert:
    """One request's insights of one type that began, or ended, or are first uses.

    Args:
        count: the number of insights.
        first: the first insight, from the record of its start or of its end.
        last: the last insight; the first one again if there is no other.
        console_url: where users open the console, if that is known.
    """

    count: int
    first: IncidentReport
    last: IncidentReport
    console_url: str | None = None

    level = "medium"

    @property
    def event_id(self) -> str:
        """The id of the first insight's event, which is the same if the alert is sent again."""
        return str(self.first.record["eventID"])

    @property
    def dedup_key(self) -> str:
        """The id that the start and the end of the insight share."""
        return self.first.id

    @property
    def labels(self) -> dict[str, str]:
        """The same for the start and the end of the insight."""
        return {"insight_id": self.dedup_key}

    @property
    def name(self) -> str:
        """The type, such as `ApiCallRateInsight`."""
        return self.last.insight_type

    @property
    def title(self) -> str:
        """Whether it began, has ended, or is a first use."""
        if self.is_over:
            return "Unusual activity has ended"
        return "First use" if self.last.is_first_use else "Unusual activity"

    @property
    def text(self) -> str:
        """One sentence: the unusual activity and its start. Values as in `MatchAlert.text`."""
        head = f"{self.title} ({_value(self.name)})"
        if self.count == 1:
            return f"{head}: {_described_insight(self.last)}."
        span = f"{self.count:,} times between {self.begin} and {self.time}"
        first, last = _described_insight(self.first), _described_insight(self.last)
        return f"{head} {span}; first: {first}; last: {last}."

    @property
    def source(self) -> str:
        """The service whose calls are unusual."""
        return _value(self.last.event_source)

    @property
    def begin(self) -> str:
        """When the first insight began."""
        return format_time(self.first.start)

    @property
    def time(self) -> str:
        """When the last insight began."""
        return format_time(self.last.start)

    @property
    def end(self) -> str | None:
        """When the insight ended, or will have ended."""
        if self.last.is_first_use:
            return None
        return format_time(self.last.end or self.last.start + _MAX_INCIDENT)

    @property
    def is_over(self) -> bool:
        """Whether the insight has ended."""
        return self.last.end is not None and not self.last.is_first_use

    @property
    def link(self) -> tuple[str, str] | None:
        """The page of the last insight."""
        return _link(self.console_url, "insights", self.last.id, "Open the insight")


Alert = MatchAlert | InsightAlert


def slack(alert: Alert) -> Json:
    """Returns the message for an incoming webhook of Slack."""
    text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"{text}\n{alert.link[0]}" if alert.link else text, "mrkdwn": False}


def teams(alert: Alert) -> Json:
    """Returns the message for a workflow of Teams: an Adaptive Card.

    A `TextRun` has no Markdown. Functions such as `{{DATE(…)}}` do not work with a space.
    """
    text = re.sub(r"\{(?=\{)", "{ ", alert.text)
    card: Json = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]}],
    }
    if alert.link:
        url, title = alert.link
        card["actions"] = [{"type": "Action.OpenUrl", "title": title, "url": url}]
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def pagerduty(alert: Alert, routing_key: str) -> Json:
    """Returns the event for PagerDuty's Events API v2."""
    if alert.is_over:
        return {
            "routing_key": routing_key,
            "event_action": "resolve",
            "dedup_key": alert.dedup_key,
        }
    body: Json = {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": alert.dedup_key,
        "client": "opentrail",
        "payload": {
            "summary": _truncate(alert.text, _MAX_SUMMARY),
            "severity": _SEVERITIES.get(alert.level, "info"),
            "source": alert.source,
            "class": alert.name,
            "custom_details": {"text": alert.text, "matches": alert.count},
        },
    }
    if alert.time:
        body["payload"]["timestamp"] = alert.time
    if alert.link:
        url, title = alert.link
        body["links"] = [{"href": url, "text": title}]
    return body


def alertmanager(alert: Alert) -> list[Json]:
    """Returns the alerts for `POST /api/v2/alerts` of Alertmanager."""
    one: Json = {
        "labels": {"alertname": alert.name, "severity": alert.level, **alert.labels},
        "annotations": {"summary": alert.title, "description": alert.text},
    }
    if alert.begin:
        one["startsAt"] = alert.begin
    if alert.end:
        one["endsAt"] = alert.end
    if alert.link:
        one["generatorURL"] = alert.link[0]
    return [one]


#: Forms that need no more than the alert.
FORMS: Mapping[str, Callable[[Alert], Any]] = {
    "slack": slack,
    "teams": teams,
    "alertmanager": alertmanager,
}
#: Forms of services whose alerts are open until resolved.
RESOLVING = frozenset({"pagerduty", "alertmanager"})


def _link(console_url: str | None, page: str, name: str, title: str) -> tuple[str, str] | None:
    if console_url is None:
        return None
    return f"{console_url}/console/{page}/{quote(name, safe='', errors='replace')}", title


def _described_insight(incident: IncidentReport) -> str:
    """Returns the unusual activity and its start."""
    safe = replace(
        incident,
        event_source=_value(incident.event_source),
        event_name=_value(incident.event_name),
        error_code=None if incident.error_code is None else _value(incident.error_code),
        identity=None if incident.identity is None else _value(incident.identity),
        account=_value(incident.account),
        extension=incident.extension
        and {
            name: _value(value) if isinstance(value, str) else value
            for name, value in incident.extension.items()
        },
    )
    when = f"at {format_time(incident.start)}"
    if not incident.is_first_use:
        when = f"since {format_time(incident.start)}"
        if incident.end is not None:
            when = f"from {format_time(incident.start)} to {format_time(incident.end)}"
    where = f"in account {safe.account}, {_value(incident.region)}"
    return f"{_printable(sentence(safe))}, {when} {where} (insight {_value(incident.id)})"


def _described(match: Match) -> str:
    """Returns the event in words: who called what, when, from where."""
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
    return _printable(json.dumps(_truncate(text, _MAX_VALUE), ensure_ascii=False))


def _printable(text: str) -> str:
    r"""Returns a string with control characters escaped, such as marks of text direction.

    >>> print(_printable("a\x07b\u202ec"))
    a\u0007b\u202ec
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _truncate(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"
