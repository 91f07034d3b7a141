"""An incident in event history."""

from __future__ import annotations

from opentrail.questions.incidents import incidents_with_id, minute_counts
from tests.api.v1.test_incidents import SHARED, at, calls
from tests.factories import an_insight_record
from tests.fakes import asynchronous, utc


@asynchronous
async def test_incidents_calls_are_counted_by_minute() -> None:
    now = "2020-01-01T10:00:00Z"
    burst = calls("2020-01-01T09:00:05Z", "2020-01-01T09:00:59Z", "2020-01-01T09:01:00Z")
    api = await at(now, *burst, an_insight_record())
    (incident,) = await incidents_with_id(api.history, SHARED)
    end = utc("2020-01-01T09:03:00Z")
    counts = await minute_counts(api.history, incident, incident.start, end, utc(now))
    assert [count for _, count in counts] == [2, 1, 0]
