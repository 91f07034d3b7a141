"""Insights in the JSON API behind the command line: incidents, each with its calls over time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf
from typing import Any

import orjson

from opentrail.api.operation import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, as_object, format_time
from opentrail.core.expression import And, Compare
from opentrail.history.event_history import CountSearch, History, Search
from opentrail.insights.expected import Expected, largest_sums
from opentrail.insights.findings import minute_of
from opentrail.insights.follower import Insights
from opentrail.insights.incidents import IncidentReport, incidents_of, sentence
from opentrail.ports.event_store import CallKey

#: Characters of an incident's id.
_ID = re.compile("[0-9a-f-]{1,36}")
#: Maximum records that are compared with what a scan finds, and the longest time from the start of
#: an incident to its end.
_MAX_RECORDS, _MAX_INCIDENT = 100_000, timedelta(days=2)
#: Records that are read to see whether more than one incident has an id that begins so.
_AMBIGUOUS = 3
#: Maximum calls of an incident that are read to find out where most came from.
_MAX_CALLS = 500
_MINUTE = timedelta(minutes=1)
#: Maximum minutes of a chart: those of the longest incident, and those around it.
_MAX_MINUTES = 2_000
#: Minutes that a chart shows before and after an incident.
_BEFORE, _AFTER = 60, 30


async def describe(insights: Insights) -> dict[str, Any]:
    """Returns what Insights is doing, and how far it is."""
    status = await insights.status()
    since, until = status.known_since, status.watched_until
    return {
        "state": status.state,
        "daysLearned": status.learned,
        "daysToLearn": status.days,
        "knownSince": format_time(since) if since else None,
        "watchedUntil": format_time(until) if until else None,
        "keys": status.keys,
        "unwatchedCalls": status.unwatched,
        "openIncidents": status.incidents,
        "daysScanned": status.scanned[0] if status.scanned else None,
        "daysToScan": status.scanned[1] if status.scanned else None,
    }


async def list_incidents(services: Services, search: Search, limit: int) -> list[dict[str, Any]]:
    """Returns up to `limit` incidents of a period, newest first, each with a sentence."""
    history, now = services.history, services.clock.now()
    found = await history.latest(search, 2 * limit)  # each has one record, or two
    incidents = incidents_of([orjson.loads(event.record) for event in found])[:limit]
    notes = await services.insights.expected.notes()
    return [
        await _shown(history, await _whole(history, incident, now), notes) for incident in incidents
    ]


async def show_incident(services: Services, shared_id: str) -> dict[str, Any]:
    """Returns an incident with its records' figures and its calls of each minute.

    Raises:
        CloudTrailError: no incident, or more than one, has an id that begins so.
    """
    history, now = services.history, services.clock.now()
    incident = await _whole(history, await find_incident(history, shared_id), now)
    begin = incident.start - _BEFORE * _MINUTE
    end = min(now, _end(incident) + _AFTER * _MINUTE)
    counts: Sequence[tuple[datetime, int]] = ()
    if incident.extension is None:
        counts = await _counts(history, incident, begin, end, now)
    return {
        **await _shown(history, incident, await services.insights.expected.notes()),
        "record": incident.record,
        "minutes": [[format_time(moment), count] for moment, count in counts],
        "from": format_time(begin),
        "until": format_time(end),
    }


async def scan(services: Services, since: datetime) -> dict[str, Any]:
    """Finds and records the incidents in events that are stored.

    Returns:
        The incidents found, and the number of those left out because they, or others of the same
        key that overlap them, are recorded already.

    Raises:
        CloudTrailError: Insights is off.
    """
    insights, history = services.insights, services.history
    if (await insights.status()).state == "off":
        message = "Insights is off: start the server with --insights on"
        raise CloudTrailError("InsightNotEnabledException", message)
    found = await insights.scan(since)
    search = Search(categories=(INSIGHT,), start=since - _MAX_INCIDENT)
    records = [orjson.loads(each.record) for each in await history.latest(search, _MAX_RECORDS)]
    known: dict[CallKey, list[tuple[int, float]]] = {}
    for incident in incidents_of(records):
        end = minute_of(incident.end) if incident.end else inf
        known.setdefault(key_of(incident), []).append((minute_of(incident.start), end))
    new = [
        (start, end)
        for start, end in found
        if not any(
            first < (end.end or inf) and start.start < last
            for first, last in known.get(start.key, ())
        )
    ]
    made = [orjson.loads(entry.record) for entry in await insights.record(new)]
    notes = await insights.expected.notes()
    incidents = [await _shown(history, incident, notes) for incident in incidents_of(made)]
    return {"incidents": incidents, "known": len(found) - len(new)}


async def expect_incident(services: Services, shared_id: str, note: str) -> dict[str, Any]:
    """Marks an incident as expected: only more calls than these are reported again.

    Raises:
        CloudTrailError: no incident, or more than one, has an id that begins so.
    """
    history, now = services.history, services.clock.now()
    incident = await _whole(history, await find_incident(history, shared_id), now)
    counts = await _counts(history, incident, incident.start, _end(incident), now)
    largest = largest_sums([count for _, count in counts])
    start, rises = minute_of(incident.start), not incident.is_drop
    key = key_of(incident)
    await services.insights.expect(Expected(incident.id, key, start, rises, largest, note))
    return await _shown(history, incident, {incident.id: note})


async def find_incident(history: History, shared_id: str) -> IncidentReport:
    """Returns the incident whose id begins so.

    Raises:
        CloudTrailError: no incident, or more than one, has such an id.
    """
    found = []
    if _ID.fullmatch(shared_id):
        begins = Compare(("sharedEventID",), "=", f"{shared_id}*", is_field=False)
        found = await history.latest(Search(categories=(INSIGHT,), expression=begins), _AMBIGUOUS)
    fitting = incidents_of([orjson.loads(event.record) for event in found])
    if not fitting:
        message = f"no incident has the id {shared_id}; 'opentrail insights' lists them"
        raise CloudTrailError("InsightNotFoundException", message, 404)
    if len(fitting) > 1:
        message = f"{shared_id} is the beginning of more than one incident's id; give more of it"
        raise CloudTrailError("InvalidParameterException", message)
    return fitting[0]


async def _whole(history: History, incident: IncidentReport, now: datetime) -> IncidentReport:
    """Returns an incident with its end, or if it is going on, with its calls up to now."""
    if incident.end is None:
        incident = await find_incident(history, incident.id)
    if incident.extension is not None:
        return incident
    minutes = min(_MAX_MINUTES, (now - incident.start) // _MINUTE)
    if incident.end is not None or minutes <= incident.minutes:
        return incident
    end = incident.start + minutes * _MINUTE
    counts = await _counts(history, incident, incident.start, end, now)
    return replace(incident, minutes=minutes, average=sum(each for _, each in counts) / minutes)


def _end(incident: IncidentReport) -> datetime:
    return incident.end or incident.start + incident.minutes * _MINUTE


async def _counts(
    history: History, incident: IncidentReport, start: datetime, end: datetime, now: datetime
) -> Sequence[tuple[datetime, int]]:
    """Returns the calls, or errors, in each minute of a period."""
    kept = now - start + _MINUTE
    search = CountSearch(key_of(incident), 60, kept, start, end, with_zeros=True)
    return (await history.count(search, _MAX_MINUTES)).counts


def key_of(incident: IncidentReport) -> CallKey:
    """Returns what an incident is about."""
    details = as_object(incident.record.get("insightDetails"))
    return CallKey(
        incident.account,
        incident.region,
        str(details.get("sourceEventCategory", MANAGEMENT)),
        incident.event_source,
        incident.event_name,
        incident.error_code,
    )


async def _shown(
    history: History, incident: IncidentReport, notes: Mapping[str, str]
) -> dict[str, Any]:
    source_ip = None
    if incident.extension is None:
        source_ip = await _top_source_ip(history, incident)
    return {
        "id": incident.id,
        "sentence": sentence(incident, source_ip),
        "state": "over" if incident.end else "open",
        "start": format_time(incident.start),
        "end": format_time(incident.end) if incident.end else None,
        "account": incident.account,
        "region": incident.region,
        "eventSource": incident.event_source,
        "eventName": incident.event_name,
        "insightType": incident.insight_type,
        "errorCode": incident.error_code,
        "minutes": incident.minutes,
        "average": incident.average,
        "baseline": incident.baseline,
        "identity": incident.identity,
        "sourceIPAddress": source_ip,
        "expected": notes.get(incident.id),
        "extension": incident.extension,
    }


async def _top_source_ip(history: History, incident: IncidentReport) -> str | None:
    """Returns the address from which most of an incident's calls came."""
    key = key_of(incident)
    source = Compare(("eventSource",), "=", key.event_source, is_field=False)
    wanted = [source]
    if key.error_code is not None:
        wanted.append(Compare(("errorCode",), "=", key.error_code, is_field=False))
    search = Search(
        account=key.account,
        region=key.region,
        categories=(DATA,) if key.category == DATA else (MANAGEMENT,),
        attribute=("EventName", key.event_name),
        expression=And(tuple(wanted)),
        start=incident.start,
        end=incident.start + incident.minutes * _MINUTE - timedelta(seconds=1),
    )
    found = await history.latest(search, _MAX_CALLS)
    addresses = Counter(_address(orjson.loads(event.record)) for event in found)
    addresses.pop(None, None)
    return addresses.most_common(1)[0][0] if addresses else None


def _address(record: Mapping[str, Any]) -> str | None:
    address = record.get("sourceIPAddress")
    return address if isinstance(address, str) else None
