from __future__ import annotations

import json
from typing import Any

from opentrail.insights.findings import (
    Detection,
    average,
    event_id,
    insight_event,
    minute_of,
    shared_event_id,
)
from opentrail.ports.event_store import PRESENT, CallKey
from tests.factories import ACCOUNT, REGION, a_record, an_entry
from tests.fakes import MemoryEvents, asynchronous, utc

START = minute_of(utc("2024-01-29T10:00:00Z"))
KEY = CallKey(ACCOUNT, REGION, "Management", "iam.amazonaws.com", "CreateUser")
TRAIL = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/payments"


def a_detection(key: CallKey = KEY, end: int | None = None, since: int = 0) -> Detection:
    return Detection(1, key, START, START + 1, True, end, since)


async def record_of(
    store: MemoryEvents, detection: Detection, source: str | None = None
) -> dict[str, Any]:
    now = utc("2024-01-29T10:05:00Z")
    event = await insight_event(store, PRESENT, detection, now, source)
    assert (event.origin, event.category, event.recorded_at) == ("insight", "Insight", now)
    record: dict[str, Any] = json.loads(event.record)
    assert record["eventID"] == event.event_id
    return record


async def a_store(**changes: Any) -> MemoryEvents:
    """Returns a store with 6 events in the first two minutes, and 2 in the hours before."""
    times = [f"2024-01-29T10:0{n // 3}:{n:02}Z" for n in range(6)]
    times += ["2024-01-29T09:00:00Z", "2024-01-29T08:00:00Z"]
    records = [
        a_record(eventTime=time, eventID=f"{number:032x}", **changes)
        for number, time in enumerate(times)
    ]
    store = MemoryEvents()
    await store.add([an_entry(number, record) for number, record in enumerate(records, 1)])
    return store


@asynchronous
async def test_a_call_rate_has_three_attributions() -> None:
    record = await record_of(await a_store(), a_detection())
    details = record["insightDetails"]
    assert record["eventTime"] == "2024-01-29T10:00:00Z"
    assert details["insightType"] == "ApiCallRateInsight"
    assert "errorCode" not in details
    context = details["insightContext"]
    assert context["statistics"] == {
        "baseline": {"average": round(2 / 10_080, 10)},
        "insight": {"average": 3},
        "insightDuration": 2,
        "baselineDuration": 10_080,
    }
    names = [each["attribute"] for each in context["attributions"]]
    assert names == ["userIdentityArn", "userAgent", "errorCode"]
    assert context["attributions"][2]["insight"] == [{"value": "null", "average": 3}]


@asynchronous
async def test_an_error_rate_names_its_code() -> None:
    key = CallKey(ACCOUNT, REGION, "Management", "iam.amazonaws.com", "CreateUser", "AccessDenied")
    record = await record_of(await a_store(errorCode="AccessDenied"), a_detection(key))
    details = record["insightDetails"]
    assert (details["insightType"], details["errorCode"]) == ("ApiErrorRateInsight", "AccessDenied")
    assert len(details["insightContext"]["attributions"]) == 2


@asynchronous
async def test_the_end_is_about_the_whole_incident() -> None:
    record = await record_of(await a_store(), a_detection(end=START + 3))
    assert record["eventTime"] == "2024-01-29T10:03:00Z"
    statistics = record["insightDetails"]["insightContext"]["statistics"]
    assert (statistics["insight"]["average"], statistics["insightDuration"]) == (2, 3)


@asynchronous
async def test_a_short_history_makes_a_short_baseline() -> None:
    record = await record_of(await a_store(), a_detection(since=START - 90))
    statistics = record["insightDetails"]["insightContext"]["statistics"]
    assert statistics["baselineDuration"] == 90
    assert statistics["baseline"]["average"] == round(1 / 90, 10)


@asynchronous
async def test_an_insight_about_data_events_names_its_trail() -> None:
    record = await record_of(await a_store(), a_detection(), TRAIL)
    assert record["insightDetails"]["insightSource"] == TRAIL
    assert record["sharedEventID"] != shared_event_id(KEY, START)


def test_ids_follow_from_the_key_and_the_start() -> None:
    shared = shared_event_id(KEY, START)
    assert shared == shared_event_id(KEY, START)
    assert shared != shared_event_id(KEY, START + 1)
    assert event_id(shared, "Start") != event_id(shared, "End")


def test_whole_averages_are_whole_numbers() -> None:
    assert json.dumps([average(36, 2), average(1, 3), average(0, 0)]) == "[18, 0.3333333333, 0]"
