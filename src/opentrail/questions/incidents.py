"""Incidents of unusual activity, with figures from event history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import orjson

from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, as_object, format_time
from opentrail.core.expression import And, Compare, literal
from opentrail.core.incident_reports import IncidentReport, incidents_of, sentence
from opentrail.history.event_history import CountSearch, History, Search
from opentrail.ports.event_store import CallKey
from opentrail.who.shapes import IncidentFigures, IncidentRow

#: Records to read to find out whether several incidents' ids have a prefix.
_AMBIGUOUS = 3
_MINUTE = timedelta(minutes=1)
#: Maximum minutes to count: the longest incident, and the time around it.
_MAX_MINUTES = 2_000


async def incidents_with_id(history: History, pattern: str) -> list[IncidentReport]:
    """Returns incidents whose id matches a pattern, perhaps not all."""
    same = Compare(("sharedEventID",), "=", pattern, is_field=False)
    events = await history.latest(Search(categories=(INSIGHT,), expression=same), _AMBIGUOUS)
    return incidents_of([orjson.loads(event.record) for event in events])


async def with_average(history: History, incident: IncidentReport, now: datetime) -> IncidentReport:
    """Returns an incident with its end, and an ongoing one with its calls until now."""
    if incident.end is None:
        incident = next(iter(await incidents_with_id(history, literal(incident.id))), incident)
    if incident.extension is not None:
        return incident
    minutes = min(_MAX_MINUTES, (now - incident.start) // _MINUTE)
    if incident.end is not None or minutes <= incident.minutes:
        return incident
    end = incident.start + minutes * _MINUTE
    counts = await minute_counts(history, incident, incident.start, end, now)
    return replace(incident, minutes=minutes, average=sum(count for _, count in counts) / minutes)


async def minute_counts(
    history: History, incident: IncidentReport, start: datetime, end: datetime, now: datetime
) -> Sequence[tuple[datetime, int]]:
    """Returns the calls, or errors, in each minute of a period."""
    duration = now - start + _MINUTE
    search = CountSearch(key_of(incident), 60, duration, start, end, with_zeros=True)
    return (await history.count(search, _MAX_MINUTES)).counts


def key_of(incident: IncidentReport) -> CallKey:
    """Returns the account, Region and API of an incident."""
    details = as_object(incident.record.get("insightDetails"))
    return CallKey(
        incident.account,
        incident.region,
        str(details.get("sourceEventCategory", MANAGEMENT)),
        incident.event_source,
        incident.event_name,
        incident.error_code,
    )


async def incident_row(
    history: History, incident: IncidentReport, notes: Mapping[str, str]
) -> IncidentRow:
    """Returns the row of an incident for lists; `notes` has the notes of expected ones, by id."""
    return {**await incident_figures(history, incident, notes), "minutes": incident.minutes}


async def incident_figures(
    history: History, incident: IncidentReport, notes: Mapping[str, str]
) -> IncidentFigures:
    """Returns an incident without its minutes."""
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
        "average": incident.average,
        "baseline": incident.baseline,
        "identity": incident.identity,
        "sourceIPAddress": source_ip,
        "expected": notes.get(incident.id),
        "extension": incident.extension,
    }


async def _top_source_ip(history: History, incident: IncidentReport) -> str | None:
    """Returns the most frequent source address of an incident's calls."""
    key = key_of(incident)
    source = Compare(("eventSource",), "=", key.event_source, is_field=False)
    conditions = [source]
    if key.error_code is not None:
        conditions.append(Compare(("errorCode",), "=", key.error_code, is_field=False))
    search = Search(
        account=key.account,
        region=key.region,
        categories=(DATA,) if key.category == DATA else (MANAGEMENT,),
        attribute=("EventName", key.event_name),
        expression=And(tuple(conditions)),
        start=incident.start,
        end=incident.start + incident.minutes * _MINUTE - timedelta(seconds=1),
    )
    values = await history.values("sourceIPAddress", "", search, limit=1)
    return values[0][0] if values else None
