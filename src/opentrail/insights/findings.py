"""Findings: unusual activity of a key or a principal, and their records (cloudtrail-format §11.2).

An incident can be marked as expected; that suppresses later ones up to its size.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import orjson

from opentrail.core.event import INSIGHT, Json, NewEntry, format_time
from opentrail.core.insight_types import END, NEW_REGION, START, insight_type
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore
from opentrail.ports.event_store import CallKey, EventStore, Snapshot, ValueCount, ValueCounts

#: Widths in minutes of the windows in which the detector looks for more calls than usual.
WINDOWS = (1, 5, 15, 60, 240)


@dataclass(frozen=True, slots=True)
class Detection:
    """Unusual activity of a key: its start, or its end if that is known.

    Times are minutes since 1970. `found` is the minute after whose events it was found, and `since`
    the first minute that is known about anything.
    """

    number: int
    key: CallKey
    start: int
    found: int
    rises: bool
    end: int | None
    since: int


@dataclass(frozen=True, slots=True)
class PrincipalFinding:
    """A first use, or the start or the end of a burst, of a type beyond AWS's two.

    `start` and `end` are seconds since 1970; only a burst that is over has an end. `usual` is what
    the type's count in the `days` before, `observed` its count now. The other members come from
    the event that the finding is about.
    """

    number: int
    type: str
    account: str
    region: str
    principal: str | None
    value: str | None
    event_source: str
    event_name: str
    event_id: str | None
    start: int
    end: int | None
    usual: int
    observed: int
    days: int


class WatchState(msgspec.Struct, frozen=True):
    """The progress of a watch. `now` is the last closed minute, `since` the first known one."""

    is_learned: bool = False
    #: Position of the last entry, and number of the last imported event, that are counted.
    cursor: int = 0
    imported: int = 0
    now: int = 0
    since: int = 0
    keys: int = 0
    #: Calls that are not counted, because there were too many keys.
    unwatched: int = 0
    incidents: int = 0
    #: Findings not acknowledged yet.
    findings: tuple[Detection, ...] = ()
    principal_findings: tuple[PrincipalFinding, ...] = ()
    #: Uses that the types about principals do not watch, because there were too many values.
    unwatched_uses: int = 0


def minute_of(moment: datetime) -> int:
    """Returns minutes since 1970.

    >>> minute_of(datetime(1970, 1, 1, 1, 0, 59, tzinfo=UTC))
    60
    """
    return int(moment.timestamp()) // 60


def time_of(minute: int) -> datetime:
    """Returns the beginning of a minute; the inverse of `minute_of`.

    >>> minute_of(time_of(29_000_000))
    29000000
    """
    return datetime.fromtimestamp(minute * 60, UTC)


#: Duration of an incident's mark.
COUNTS = timedelta(days=90)
_KIND = "expected-incident"


class Expected(msgspec.Struct, frozen=True):
    """An expected incident. `largest` are its largest numbers of calls in each of `WINDOWS`.

    For `COUNTS` after its start, only more calls than these are unusual; after a drop, no drop is.
    """

    id: str
    key: CallKey
    start: int
    rises: bool
    largest: list[float]
    note: str = ""


def largest_sums(counts: Sequence[int]) -> list[float]:
    """Returns the largest number of calls in each of `WINDOWS`.

    >>> largest_sums([1, 5, 2])
    [5.0, 8.0, 8.0, 8.0, 8.0]
    """
    return [
        float(max(sum(counts[at : at + width]) for at in range(max(1, len(counts) - width + 1))))
        for width in WINDOWS
    ]


class ExpectedIncidents(Collection[Expected]):
    """The marks, in the control store, by incident; a second mark replaces the first one."""

    def __init__(self, control: ControlStore) -> None:
        super().__init__(control, _KIND, Codec.of(Expected))

    async def notes(self) -> dict[str, str]:
        """Returns the notes of all marked incidents by id."""
        return {mark.id: mark.note for mark in await self.all()}

    async def that_count(self, now: datetime) -> list[Expected]:
        """Returns the marks that still count."""
        oldest = minute_of(now - COUNTS)
        return [mark for mark in await self.all() if mark.start >= oldest]


# Records

#: Minutes before an incident over which the baseline is averaged.
BASELINE_MINUTES = 10_080
#: Values of each attribution.
_TOP = 5
INSIGHT_EVENT_VERSION = "1.09"
_NAMESPACE = uuid.UUID("9d3f4c06-7c1e-5b7e-9c55-0f6f6b1c8e52")
_MINUTE = timedelta(minutes=1)


def shared_event_id(key: CallKey, start: int, source: str | None = None) -> str:
    """Returns the id that the start and the end of an incident share.

    Args:
        key: the key with unusual calls.
        start: the minute of its beginning, since 1970.
        source: the ARN of the trail, for insights about data events.
    """
    parts = (key.account, key.region, key.category, key.event_source, key.event_name)
    return str(
        uuid.uuid5(_NAMESPACE, orjson.dumps([*parts, key.error_code, start, source]).decode())
    )


def event_id(shared: str, state: str) -> str:
    """Returns the id of one of the two events of an incident."""
    return str(uuid.uuid5(_NAMESPACE, f"{shared} {state}"))


def start_id(key: CallKey, start: int, source: str | None) -> str:
    """Returns the id of the event of an incident's start; arguments as for `shared_event_id`."""
    return event_id(shared_event_id(key, start, source), START)


async def insight_event(
    store: EventStore, snapshot: Snapshot, finding: Detection, now: datetime, source: str | None
) -> NewEntry:
    """Returns the event of a finding, with averages and attributions of the stored events.

    Args:
        store: the events.
        snapshot: the events that count.
        finding: the start or the end of an incident.
        now: when the record is made.
        source: the ARN of the trail, for insights about data events.
    """
    key = finding.key
    state = START if finding.end is None else END
    begin = time_of(finding.start)
    end = time_of(finding.found + 1 if finding.end is None else finding.end)
    minutes = max(1, (end - begin) // _MINUTE)
    baseline_minutes = min(BASELINE_MINUTES, finding.start - finding.since)
    before = begin - baseline_minutes * _MINUTE
    usual, unusual = await asyncio.gather(
        store.count_values(key, before, begin, snapshot, limit=_TOP),
        store.count_values(key, begin, end, snapshot, limit=_TOP),
    )
    shared = shared_event_id(key, finding.start, source)
    details: Json = {
        "state": state,
        "eventSource": key.event_source,
        "eventName": key.event_name,
        "insightType": "ApiCallRateInsight" if key.error_code is None else "ApiErrorRateInsight",
    }
    if key.error_code is not None:
        details["errorCode"] = key.error_code
    details["sourceEventCategory"] = key.category
    if source is not None:
        details["insightSource"] = source
    details["insightContext"] = {
        "statistics": {
            "baseline": {"average": average(usual.events, baseline_minutes)},
            "insight": {"average": average(unusual.events, minutes)},
            "insightDuration": minutes,
            "baselineDuration": baseline_minutes,
        },
        "attributions": _attributions(key, unusual, minutes, usual, baseline_minutes),
    }
    time = begin if finding.end is None else end
    return insight_entry(now, key.account, key.region, time, shared, details)


def insight_entry(
    now: datetime, account: str, region: str, time: datetime, shared: str, details: Json
) -> NewEntry:
    """Returns the event with some details; `now` is the record's time, `time` the event's."""
    own_id = event_id(shared, details["state"])
    record = {
        "eventVersion": INSIGHT_EVENT_VERSION,
        "eventTime": format_time(time),
        "awsRegion": region,
        "eventID": own_id,
        "eventType": "AwsCloudTrailInsight",
        "recipientAccountId": account,
        "sharedEventID": shared,
        "insightDetails": details,
        "eventCategory": INSIGHT,
    }
    return NewEntry("insight", now, account, region, INSIGHT, own_id, orjson.dumps(record))


def average(events: int, minutes: int) -> float:
    """Returns events per minute.

    >>> average(36, 2), average(1, 10080), average(0, 0)
    (18, 9.92063e-05, 0)
    """
    mean = round(events / minutes, 10) if minutes else 0
    return int(mean) if mean == int(mean) else mean


def _attributions(
    key: CallKey, insight: ValueCounts, minutes: int, baseline: ValueCounts, before: int
) -> list[Json]:
    """Returns the attributes that divide the calls; errors have no error code."""
    names = {"userIdentityArn": "user_identity_arn", "userAgent": "user_agent"}
    if key.error_code is None:
        names["errorCode"] = "error_code"
    return [
        {
            "attribute": name,
            "insight": _averages(getattr(insight, member), minutes),
            "baseline": _averages(getattr(baseline, member), before),
        }
        for name, member in names.items()
    ]


def _averages(counts: Sequence[ValueCount], minutes: int) -> list[Json]:
    return [{"value": value, "average": average(count, minutes)} for value, count in counts]


_BURSTS_NAMESPACE = uuid.UUID("1f0a2f5e-6d0e-5e0c-8a44-6b8d0c1c5f27")


def shared_burst_id(finding: PrincipalFinding) -> str:
    """Returns the id that the start and the end of a burst share; it is unique per UTC day."""
    subject = None if finding.type == NEW_REGION else finding.principal
    day = _time(finding.start).date().isoformat()
    parts = [finding.type, finding.account, subject, day]
    return str(uuid.uuid5(_BURSTS_NAMESPACE, orjson.dumps(parts).decode()))


def principal_event(finding: PrincipalFinding, now: datetime) -> NewEntry:
    """Returns the event of a finding; `now` is when the record is made."""
    state = START if finding.end is None else END
    shared = shared_burst_id(finding)
    details: Json = {
        "state": state,
        "eventSource": finding.event_source,
        "eventName": finding.event_name,
        "insightType": insight_type(finding.type),
        "extension": _extension(finding),
    }
    time = _time(finding.start if finding.end is None else finding.end)
    return insight_entry(now, finding.account, finding.region, time, shared, details)


def _extension(finding: PrincipalFinding) -> Json:
    members = {
        "type": finding.type,
        "principal": finding.principal,
        "value": finding.value,
        "eventID": finding.event_id,
        "start": format_time(_time(finding.start)),
        "usual": finding.usual,
        "observed": finding.observed,
        "days": finding.days,
    }
    return {name: value for name, value in members.items() if value is not None}


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
