"""Unusual activity."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, TypedDict

import orjson
from msgspec import Meta
from msgspec.structs import asdict

from opentrail.core.errors import CloudTrailError
from opentrail.questions.question import Account, Asked, Question, Region, Since, Until
from opentrail.who.shapes import IncidentRow


class IncidentList(TypedDict):
    """Incidents, newest first, and the ranges missing from event history."""

    incidents: list[IncidentRow]
    missing: list[str]


class ListIncidents(Question, frozen=True, kw_only=True):
    """Returns incidents of unusual activity, newest first.

    An incident is an API with far more, or fewer, calls or errors than usual.
    """

    role: ClassVar = "viewer"
    purpose: ClassVar = "see incidents"

    since: Since | None = None
    until: Until | None = None
    account: Account | None = None
    region: Region | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="maximum number of incidents")] = 50

    async def answer(self, asked: Asked) -> IncidentList:
        """Reads the records of incidents, and counts the calls of ongoing ones."""
        from opentrail.core.event import INSIGHT
        from opentrail.core.incident_reports import incidents_of
        from opentrail.history.written_searches import search_in
        from opentrail.insights.findings import ExpectedIncidents
        from opentrail.questions.incidents import incident_row, with_average

        if self.limit > asked.max_events:
            message = f"limit must be 1 to {asked.max_events}, not {self.limit}"
            raise CloudTrailError("InvalidMaxResultsException", message)
        given = {name: value for name, value in asdict(self).items() if value is not None}
        search = replace(search_in(given, asked.now), categories=(INSIGHT,))
        # An incident has one or two records.
        events = await asked.history.latest(search, 2 * self.limit)
        incidents = incidents_of([orjson.loads(event.record) for event in events])[: self.limit]
        notes = await ExpectedIncidents(asked.control).notes()
        rows = [
            await incident_row(
                asked.history, await with_average(asked.history, incident, asked.now), notes
            )
            for incident in incidents
        ]
        return {"incidents": rows, "missing": asked.missing}
