"""Incidents of unusual activity, each with its calls over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import TypedDict

import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter, report
from opentrail.api.v1.callers import OwnChanges, caller_of, seen_by
from opentrail.api.v1.routes import ADMIN, OPERATOR, VIEWER, route
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import INSIGHT, Json, format_time
from opentrail.core.expression import literal
from opentrail.core.incident_reports import IncidentReport, incidents_of
from opentrail.history.event_history import History, Search, has_all
from opentrail.history.written_searches import search_in
from opentrail.insights.findings import Expected, largest_sums, minute_of
from opentrail.insights.follower import Insights
from opentrail.ports.event_store import CallKey
from opentrail.questions.incidents import (
    incident_figures,
    incident_row,
    incidents_with_id,
    key_of,
    minute_counts,
    with_average,
)
from opentrail.who.shapes import IncidentDetail, IncidentRow

#: Source of the events about incidents that are marked as expected.
INSIGHTS_SOURCE = "insights.opentrail.internal"
#: Maximum recorded incidents that a scan compares with its own.
_MAX_RECORDS = 100_000
#: Maximum time from the start of an incident to its end.
_MAX_INCIDENT = timedelta(days=2)
_MINUTE = timedelta(minutes=1)
#: Minutes that a chart shows before an incident.
_MINUTES_BEFORE = 60
#: Minutes that a chart shows after an incident.
_MINUTES_AFTER = 30
#: Maximum characters of the note of an expected incident.
_MAX_NOTE_LENGTH = 1_000


class InsightsState(TypedDict):
    """The state of Insights, and its progress."""

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


class Scan(TypedDict):
    """The incidents that a scan of old events found, and the number of recorded ones."""

    incidents: list[IncidentRow]
    known: int


class Incidents:
    """The calls about incidents.

    Args:
        services: the features that operations use.
        insights: watches for incidents.
        account: returns the account that events about expected incidents belong to.
    """

    def __init__(
        self,
        services: Services,
        insights: Insights,
        account: Callable[[], str],
    ) -> None:
        self._services = services
        self._insights = insights
        self._changes = OwnChanges(services.journal, services.clock, account, INSIGHTS_SOURCE)

    @route("GET", "/insights/status", VIEWER, "see what Insights has learned")
    async def status(self, request: Request) -> InsightsState:
        """Returns the state of Insights, and its progress."""
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
        """Finds and records incidents in events from the time `since` on.

        Its progress counts days. It leaves out incidents that are already recorded, or that overlap
        recorded ones of the same key.
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
        rows = [
            await incident_row(history, incident, notes) for incident in incidents_of(new_records)
        ]
        return {"incidents": rows, "known": len(incidents_found) - len(new)}

    @route("GET", "/insights/{id}", VIEWER, "see one incident")
    async def show(self, request: Request) -> IncidentDetail:
        """Returns one incident with its record and its calls per minute."""
        history, now = seen_by(request, self._services).history, self._services.clock.now()
        incident = await _find(history, request, now)
        begin = incident.start - _MINUTES_BEFORE * _MINUTE
        end = min(now, _end(incident) + _MINUTES_AFTER * _MINUTE)
        counts: Sequence[tuple[datetime, int]] = ()
        if incident.extension is None:
            counts = await minute_counts(history, incident, begin, end, now)
        return {
            **await incident_figures(history, incident, await self._insights.expected.notes()),
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

        Later, Insights reports only more calls than these, or fewer.
        """
        note = body.get("note", "")
        if not isinstance(note, str) or len(note) > _MAX_NOTE_LENGTH:
            raise invalid_parameter(f"note must be a string of up to {_MAX_NOTE_LENGTH} characters")
        history, now = seen_by(request, self._services).history, self._services.clock.now()
        incident = await _find(history, request, now)
        counts = await minute_counts(history, incident, incident.start, _end(incident), now)
        largest = largest_sums([count for _, count in counts])
        start, rises = minute_of(incident.start), not incident.is_drop
        expected = Expected(incident.id, key_of(incident), start, rises, largest, note)
        asked = {"id": incident.id, "note": note}
        await self._changes.record(request, "ExpectIncident", asked)
        await self._insights.expect(expected)
        return await incident_row(history, incident, {incident.id: note})


async def _find(history: History, request: Request, now: datetime) -> IncidentReport:
    """Returns the incident that a request names by its id, or by a prefix of it.

    Raises:
        CloudTrailError: as `_find_by_id`.
    """
    incident = await _find_by_id(history, request.path_params["id"])
    return await with_average(history, incident, now)


async def _find_by_id(history: History, shared_id: str) -> IncidentReport:
    """Returns the incident whose id has this prefix.

    Raises:
        CloudTrailError: no incident, or more than one, has it.
    """
    fitting = await incidents_with_id(history, literal(shared_id) + "*")
    if not fitting:
        message = f"no incident has the id {shared_id}; 'opentrail insights' lists them"
        raise CloudTrailError("InsightNotFoundException", message, 404)
    if len(fitting) > 1:
        message = f"{shared_id} is the beginning of more than one incident's id; give more of it"
        raise invalid_parameter(message)
    return fitting[0]


def _end(incident: IncidentReport) -> datetime:
    return incident.end or incident.start + incident.minutes * _MINUTE
