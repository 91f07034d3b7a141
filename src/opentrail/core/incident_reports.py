"""Incidents for people: the start and the end of each, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from opentrail.core.event import as_object, parse_time
from opentrail.core.insight_types import (
    ACCESS_DENIED,
    API_FAN_OUT,
    BURST_TYPES,
    END,
    NEW_AGENT,
    NEW_API,
    NEW_PRINCIPAL,
    NEW_REGION,
    NEW_USER_AGENT,
    START,
    WINDOW_MINUTES,
)
from opentrail.core.text import counted

#: Words for the periods of a rate, with their lengths in minutes.
_PERIODS = (("a minute", 1), ("an hour", 60), ("a day", 1440), ("a week", 10_080))
#: The least rate shown per period, except for the longest period.
_MIN_RATE = 0.1
_MINUTE = timedelta(minutes=1)
#: Times around an incident that must be in the calendar, which counts its calls.
_AROUND = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """An incident, from the records of its start and its end, if it has ended.

    `average` and `baseline` are calls per minute. In an incident of a type about principals they
    are the type's count in 15 minutes, and `extension` is the record's. A first use ends
    immediately.
    """

    id: str
    account: str
    region: str
    event_source: str
    event_name: str
    insight_type: str
    error_code: str | None
    start: datetime
    end: datetime | None
    minutes: int
    average: float
    baseline: float
    identity: str | None
    record: Mapping[str, Any]
    extension: Mapping[str, Any] | None = None

    @property
    def calls(self) -> int:
        """The number of calls, or of errors."""
        return round(self.average * self.minutes)

    @property
    def is_first_use(self) -> bool:
        """Whether it is a first use, which has no end."""
        return self.extension is not None and self.extension["type"] not in BURST_TYPES

    @property
    def is_drop(self) -> bool:
        """Whether there were fewer calls than usual."""
        return self.average < self.baseline


def incidents_of(records: Iterable[Mapping[str, Any]]) -> list[IncidentReport]:
    """Returns the incidents of Insights records, newest first.

    Skips imported records without the form of Insights records.
    """
    by_id: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        state = as_object(record.get("insightDetails")).get("state")
        if state in (START, END):
            by_id.setdefault(str(record.get("sharedEventID")), {})[state] = record
    incidents = []
    for shared, states in by_id.items():
        with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            incident = _incident(shared, states)
            sentence(incident)
            _ = incident.start - _AROUND, incident.start + incident.minutes * _MINUTE + _AROUND
            incidents.append(incident)
    return sorted(incidents, key=lambda incident: (incident.start, incident.id), reverse=True)


def _incident(shared: str, records: Mapping[str, Mapping[str, Any]]) -> IncidentReport:
    record = records.get(END) or records[START]
    details, time = record["insightDetails"], parse_time(record["eventTime"])
    of = partial(
        IncidentReport,
        id=shared,
        account=str(record.get("recipientAccountId", "")),
        region=str(record.get("awsRegion", "")),
        event_source=str(details["eventSource"]),
        event_name=str(details["eventName"]),
        insight_type=str(details["insightType"]),
        record=record,
    )
    if extension := as_object(details.get("extension")):
        start = parse_time(extension["start"])
        return of(
            error_code=None,
            start=start,
            end=time if END in records or extension["type"] not in BURST_TYPES else None,
            minutes=max(1, (time - start) // _MINUTE),
            average=extension["observed"],
            baseline=extension["usual"],
            identity=extension.get("principal"),
            extension=extension,
        )
    context, error = details["insightContext"], details.get("errorCode")
    statistics = context["statistics"]
    minutes = max(1, int(statistics["insightDuration"]))
    begun = parse_time(records[START]["eventTime"]) if START in records else None
    return of(
        error_code=None if error is None else str(error),
        start=begun or time - minutes * _MINUTE,
        end=time if END in records else None,
        minutes=minutes,
        average=statistics["insight"]["average"],
        baseline=statistics["baseline"]["average"],
        identity=_top(context.get("attributions", ()), "userIdentityArn"),
    )


def _top(attributions: Iterable[Mapping[str, Any]], attribute: str) -> str | None:
    for attribution in attributions:
        if attribution.get("attribute") == attribute and attribution.get("insight"):
            return str(attribution["insight"][0]["value"])
    return None


def sentence(incident: IncidentReport, source_ip: str | None = None) -> str:
    """Returns a description of the incident, in one sentence.

    Args:
        incident: the incident.
        source_ip: the source of most calls.
    """
    if incident.extension is not None:
        return _sentence_of_principal(incident, incident.extension)
    service = incident.event_source.removesuffix(".amazonaws.com").upper()
    subject = f"{service} {incident.event_name}"
    noun = "call" if incident.error_code is None else f"{incident.error_code} error"
    calls = counted(incident.calls, noun)
    minutes = f"{incident.minutes} minute{'' if incident.minutes == 1 else 's'}"
    text = f"{subject}: {calls} in {minutes}, {usual_rate(incident.baseline)}"
    if incident.identity is not None and not incident.is_drop:
        text += f", mostly by {short_identity(incident.identity)}"
        if source_ip is not None:
            text += f" from {source_ip}"
    return text


def _sentence_of_principal(incident: IncidentReport, extension: Mapping[str, Any]) -> str:
    by = _named(incident.identity)
    who = by[:1].upper() + by[1:]
    value, observed = extension.get("value"), f"{extension['observed']:,}"
    days = f"{extension['days']} day{'' if extension['days'] == 1 else 's'}"
    first = f"for the first time in {days}"
    before = f"in {WINDOW_MINUTES} minutes, at most {extension['usual']:,} in the {days} before"
    sentences = {
        NEW_API: f"{who} called {value} {first}",
        NEW_REGION: f"Account {incident.account} used {value} {first}, by {by}",
        NEW_PRINCIPAL: f"{who} used account {incident.account} {first}",
        NEW_USER_AGENT: f"{who} used {value} {first}",
        NEW_AGENT: f"{who} called through {value} {first}",
        ACCESS_DENIED: f"{who} was denied {observed} calls {before}",
        API_FAN_OUT: f"{who} called {observed} different APIs {before}",
    }
    return sentences.get(extension["type"], f"{who}: {incident.insight_type}")


def _named(arn: str | None) -> str:
    """Returns a short name of an identity for a sentence.

    >>> _named("arn:aws:iam::123456789012:user/john"), _named(None)
    ('IAM user john', 'a service')
    """
    name = short_identity(arn) if arn else "a service"
    return f"IAM {name}" if name.startswith("user ") else name


def usual_rate(per_minute: float) -> str:
    """Returns a baseline in words.

    >>> usual_rate(20), usual_rate(0.3), usual_rate(0.018)
    ('usually 20 a minute', 'usually 0.3 a minute', 'usually 1.1 an hour')
    >>> usual_rate(0.0001), usual_rate(0)
    ('usually 0.1 a day', 'usually none')
    """
    if not per_minute:
        return "usually none"
    for words, minutes in _PERIODS:
        rate = per_minute * minutes
        if rate >= _MIN_RATE or words == _PERIODS[-1][0]:
            return f"usually {rate:.1f}".removesuffix(".0") + f" {words}"
    raise AssertionError


def short_identity(arn: str) -> str:
    """Returns a short name of an identity.

    >>> short_identity("arn:aws:sts::123456789012:assumed-role/deploy")
    'role deploy'
    >>> short_identity("arn:aws:iam::123456789012:user/team/Mary")
    'user Mary'
    >>> short_identity("arn:aws:iam::123456789012:root")
    'root'
    >>> short_identity("autoscaling.amazonaws.com")
    'autoscaling.amazonaws.com'
    """
    if not arn.startswith("arn:"):
        return arn
    kind, slash, name = arn.rpartition(":")[2].partition("/")
    kind = {"assumed-role": "role", "federated-user": "federated user"}.get(kind, kind)
    return f"{kind} {name.rpartition('/')[2]}" if slash else kind
