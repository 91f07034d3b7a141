"""Incidents of unusual activity, each with its calls over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Any, TypedDict

import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import Json, invalid_parameter
from opentrail.api.v1.callers import caller_of, seen_by
from opentrail.api.v1.conditions import count_in, max_events
from opentrail.api.v1.own_events import OwnChanges
from opentrail.api.v1.progress import report
from opentrail.api.v1.routes import ADMIN, OPERATOR, VIEWER, route
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, as_object, format_time
from opentrail.core.expression import And, Compare, literal
from opentrail.history.event_history import PAGE, CountSearch, History, Search, has_all
from opentrail.history.written_searches import search_in
from opentrail.insights.findings import Expected, largest_sums, minute_of
from opentrail.insights.follower import Insights
from opentrail.insights.incident_summaries import IncidentReport, incidents_of, sentence
from opentrail.ports.event_store import CallKey

#: Source of the events about incidents that are marked as expected.
INSIGHTS_SOURCE = "insights.opentrail.internal"
#: Characters of an incident's id.
#: Maximum records that are compared with what a scan finds.
_MAX_RECORDS = 100_000
#: Maximum time from the start of an incident to its end.
_MAX_INCIDENT = timedelta(days=2)
#: Records that are read to see whether a prefix is of more than one incident's id.
_AMBIGUOUS = 3
_MINUTE = timedelta(minutes=1)
#: Maximum minutes of a chart: those of the longest incident, and those around it.
_MAX_MINUTES = 2_000
#: Minutes that a chart shows before an incident.
_MINUTES_BEFORE = 60
#: Minutes that a chart shows after an incident.
_MINUTES_AFTER = 30
#: Maximum characters of the note of an expected incident.
_MAX_NOTE_LENGTH = 1_000


class InsightsState(TypedDict):
    """What Insights is doing, and its progress."""

    state: str
    daysLearned: int
    daysToLearn: int
    knownSince: str | None
    watchedUntil: str | None
    #: Totals of all accounts; None: the caller may not see all of them.
    keys: int | None
    unwatchedCalls: int | None
    unwatchedUses: int | None
    openIncidents: int | None
    daysScanned: int | None
    daysToScan: int | None


class IncidentFigures(TypedDict):
    """An incident of unusual activity."""

    id: str
    sentence: str
    #: `open` or `over`.
    state: str
    start: str
    end: str | None
    account: str
    region: str
    eventSource: str
    eventName: str
    insightType: str
    errorCode: str | None
    #: Calls, or errors, in each minute, and how many are usual.
    average: float
    baseline: float
    identity: str | None
    sourceIPAddress: str | None
    #: The note with which it was marked as expected; None: it was not.
    expected: str | None
    extension: Mapping[str, Any] | None


class IncidentRow(IncidentFigures):
    """An incident in a list."""

    #: Its minutes up to now, or to its end.
    minutes: int


_Period = TypedDict("_Period", {"from": str, "until": str})


class IncidentDetail(IncidentFigures, _Period):
    """An incident with its record, and its calls of each minute in a period around it."""

    record: Mapping[str, Any]
    #: Time and number of calls of each minute.
    minutes: list[tuple[str, int]]


class IncidentList(TypedDict):
    """Incidents, newest first, and what event history lacks."""

    incidents: list[IncidentRow]
    missing: list[str]


class Scan(TypedDict):
    """The incidents that were found in old events, and the number of those that were recorded."""

    incidents: list[IncidentRow]
    known: int


class Incidents:
    """The calls about incidents.

    Args:
        services: what operations use.
        insights: what watches.
        account: returns the account in which it is recorded who marks an incident as expected.
        missing: returns a description of each range that event history lacks.
    """

    def __init__(
        self,
        services: Services,
        insights: Insights,
        account: Callable[[], str],
        missing: Callable[[], list[str]],
    ) -> None:
        self._services = services
        self._insights = insights
        self._changes = OwnChanges(services.journal, services.clock, account, INSIGHTS_SOURCE)
        self._missing = missing

    @route(
        "GET",
        "/insights",
        VIEWER,
        "see incidents",
        query=("since", "until", "account", "region", "limit"),
    )
    async def list(self, request: Request) -> IncidentList:
        """Returns incidents of unusual activity, newest first."""
        query, now = request.query_params, self._services.clock.now()
        search = replace(search_in(query, now), categories=(INSIGHT,))
        limit = count_in(query, "limit", max_events(request)) or PAGE
        history = seen_by(request, self._services).history
        events = await history.latest(search, 2 * limit)  # each has one record, or two
        incidents = incidents_of([orjson.loads(event.record) for event in events])[:limit]
        notes = await self._insights.expected.notes()
        rows = [
            await _row_of(history, await _with_average(history, incident, now), notes)
            for incident in incidents
        ]
        return {"incidents": rows, "missing": self._missing()}

    @route("GET", "/insights/status", VIEWER, "see what Insights has learned")
    async def status(self, request: Request) -> InsightsState:
        """Returns what Insights is doing, and how far it is."""
        status = await self._insights.status()
        since, until = status.known_since, status.watched_until
        sees_all = caller_of(request).accounts is None
        return {
            "state": status.state,
            "daysLearned": status.learned,
            "daysToLearn": status.days,
            "knownSince": format_time(since) if since else None,
            "watchedUntil": format_time(until) if until else None,
            "keys": status.keys if sees_all else None,
            "unwatchedCalls": status.unwatched if sees_all else None,
            "unwatchedUses": status.unwatched_uses if sees_all else None,
            "openIncidents": status.incidents if sees_all else None,
            "daysScanned": status.scanned[0] if status.scanned else None,
            "daysToScan": status.scanned[1] if status.scanned else None,
        }

    @route(
        "POST",
        "/insights/scan",
        ADMIN,
        "find and record incidents in old events",
        query=("since",),
        token_only=True,
        is_followed=True,
    )
    async def scan(self, request: Request) -> Scan:
        """Finds and records incidents in old events; `since` is when they begin.

        Days are its progress. Incidents that are recorded already, or overlap recorded ones of the
        same key, are left out.
        """
        since = search_in(request.query_params, self._services.clock.now()).start
        if since is None:
            raise invalid_parameter("since must be given")
        history, insights = seen_by(request, self._services).history, self._insights
        state = (await insights.status()).state
        if state == "elsewhere":
            message = "The server that delivers trails watches: 'opentrail status' names it"
            raise CloudTrailError("InsightNotEnabledException", message)
        if state == "off":
            message = "Insights is off: start the server with --insights on"
            raise CloudTrailError("InsightNotEnabledException", message)
        incidents_found = await insights.scan(since, partial(report, request))
        search = Search(categories=(INSIGHT,), start=since - _MAX_INCIDENT)
        events = await history.latest(search, _MAX_RECORDS)
        if not has_all(events, _MAX_RECORDS):
            raise invalid_parameter("since must be later: too many incidents are recorded after it")
        recorded: dict[CallKey, list[tuple[int, float]]] = {}
        for incident in incidents_of([orjson.loads(event.record) for event in events]):
            end = minute_of(incident.end) if incident.end else inf
            recorded.setdefault(key_of(incident), []).append((minute_of(incident.start), end))
        new = [
            (start, end)
            for start, end in incidents_found
            if not any(
                first < (end.end or inf) and start.start < last
                for first, last in recorded.get(start.key, ())
            )
        ]
        new_records = [orjson.loads(entry.record) for entry in await insights.record(new)]
        notes = await insights.expected.notes()
        rows = [await _row_of(history, incident, notes) for incident in incidents_of(new_records)]
        return {"incidents": rows, "known": len(incidents_found) - len(new)}

    @route("GET", "/insights/{id}", VIEWER, "see one incident")
    async def show(self, request: Request) -> IncidentDetail:
        """Returns one incident with its record and its calls of each minute."""
        history, now = seen_by(request, self._services).history, self._services.clock.now()
        incident = await _find(history, request, now)
        begin = incident.start - _MINUTES_BEFORE * _MINUTE
        end = min(now, _end(incident) + _MINUTES_AFTER * _MINUTE)
        counts: Sequence[tuple[datetime, int]] = ()
        if incident.extension is None:
            counts = await _counts(history, incident, begin, end, now)
        return {
            **await _figures(history, incident, await self._insights.expected.notes()),
            "record": incident.record,
            "minutes": [(format_time(moment), count) for moment, count in counts],
            "from": format_time(begin),
            "until": format_time(end),
        }

    @route(
        "POST",
        "/insights/{id}/expected",
        OPERATOR,
        "mark an incident as expected",
        body='{"note": "load test"}',
    )
    async def expect(self, request: Request, body: Json) -> IncidentRow:
        """Marks an incident as expected, with a note.

        Only more calls than these, or fewer, are reported again.
        """
        note = body.get("note", "")
        if not isinstance(note, str) or len(note) > _MAX_NOTE_LENGTH:
            raise invalid_parameter(f"note must be a string of up to {_MAX_NOTE_LENGTH} characters")
        history, now = seen_by(request, self._services).history, self._services.clock.now()
        incident = await _find(history, request, now)
        counts = await _counts(history, incident, incident.start, _end(incident), now)
        largest = largest_sums([count for _, count in counts])
        start, rises = minute_of(incident.start), not incident.is_drop
        expected = Expected(incident.id, key_of(incident), start, rises, largest, note)
        asked = {"id": incident.id, "note": note}
        await self._changes.record(request, "ExpectIncident", asked)
        await self._insights.expect(expected)
        return await _row_of(history, incident, {incident.id: note})


async def _find(history: History, request: Request, now: datetime) -> IncidentReport:
    """Returns the incident that a request names by its id, or by a prefix of it.

    Raises:
        CloudTrailError: as `_find_by_id`.
    """
    incident = await _find_by_id(history, request.path_params["id"])
    return await _with_average(history, incident, now)


async def _find_by_id(history: History, shared_id: str) -> IncidentReport:
    """Returns the incident whose id has this prefix.

    Raises:
        CloudTrailError: no incident, or more than one, has it.
    """
    fitting = await _incidents(history, literal(shared_id) + "*")
    if not fitting:
        message = f"no incident has the id {shared_id}; 'opentrail insights' lists them"
        raise CloudTrailError("InsightNotFoundException", message, 404)
    if len(fitting) > 1:
        message = f"{shared_id} is the beginning of more than one incident's id; give more of it"
        raise invalid_parameter(message)
    return fitting[0]


async def _incidents(history: History, pattern: str) -> list[IncidentReport]:
    """Returns incidents whose id matches a pattern, perhaps not all."""
    same = Compare(("sharedEventID",), "=", pattern, is_field=False)
    events = await history.latest(Search(categories=(INSIGHT,), expression=same), _AMBIGUOUS)
    return incidents_of([orjson.loads(event.record) for event in events])


async def _with_average(
    history: History, incident: IncidentReport, now: datetime
) -> IncidentReport:
    """Returns an incident with its end, or if it is going on, with its calls up to now."""
    if incident.end is None:
        incident = next(iter(await _incidents(history, literal(incident.id))), incident)
    if incident.extension is not None:
        return incident
    minutes = min(_MAX_MINUTES, (now - incident.start) // _MINUTE)
    if incident.end is not None or minutes <= incident.minutes:
        return incident
    end = incident.start + minutes * _MINUTE
    counts = await _counts(history, incident, incident.start, end, now)
    return replace(incident, minutes=minutes, average=sum(count for _, count in counts) / minutes)


def _end(incident: IncidentReport) -> datetime:
    return incident.end or incident.start + incident.minutes * _MINUTE


async def _counts(
    history: History, incident: IncidentReport, start: datetime, end: datetime, now: datetime
) -> Sequence[tuple[datetime, int]]:
    """Returns the calls, or errors, in each minute of a period."""
    duration = now - start + _MINUTE
    search = CountSearch(key_of(incident), 60, duration, start, end, with_zeros=True)
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


async def _row_of(
    history: History, incident: IncidentReport, notes: Mapping[str, str]
) -> IncidentRow:
    return {**await _figures(history, incident, notes), "minutes": incident.minutes}


async def _figures(
    history: History, incident: IncidentReport, notes: Mapping[str, str]
) -> IncidentFigures:
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
    """Returns the address from which most of an incident's calls came."""
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
