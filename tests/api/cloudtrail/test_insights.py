"""Insights data: events about data events of a trail, and rates over time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.api.caller import Api
from tests.factories import (
    ABSENT,
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_record,
    an_insight_record,
    event_id,
)
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
INVALID = "InvalidParameterException"
NOW = int(MOMENT.timestamp())
OTHER_ACCOUNT = "210987654321"
OF_DATA = {"sourceEventCategory": "Data", "insightSource": ARN}
EVENTS = {"InsightSource": ARN, "DataType": "InsightsEvents"}
CALLS = {
    "EventSource": "iam.amazonaws.com",
    "EventName": "CreateUser",
    "InsightType": "ApiCallRateInsight",
}
DENIED = {**CALLS, "InsightType": "ApiErrorRateInsight", "ErrorCode": "AccessDenied"}


async def with_trail(*records: dict[str, Any]) -> Api:
    """Returns an API with `my-trail`, an hour and a half after the first of these records."""
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    await api.record(list(records))
    api.world.clock.advance(5_400)
    return api


def insight(name: str, seconds: int = 0, **changes: Any) -> dict[str, Any]:
    record = an_insight_record()
    details = {"eventName": name, **OF_DATA, **changes.pop("details", {})}
    record["insightDetails"] = {
        key: value for key, value in (record["insightDetails"] | details).items() if value != ABSENT
    }
    moment = MOMENT + timedelta(seconds=seconds)
    return {**record, "eventID": name, "eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}", **changes}


def ids(answer: Any) -> list[str]:
    return [event["EventId"] for event in answer["Events"]]


# ListInsightsData


@asynchronous
async def test_insights_about_data_events_are_listed_by_trail() -> None:
    management = {"sourceEventCategory": "Management", "insightSource": ABSENT}
    api = await with_trail(
        insight("GetObject", 1),
        insight("PutObject", 2),
        insight("RunInstances", 3, details=management),
        insight("DeleteObject", 4, details={"insightSource": f"{ARN}-2"}),
        insight("ListObjects", 5, awsRegion="eu-west-1"),
        insight("CopyObject", 6, recipientAccountId=OTHER_ACCOUNT),
        a_data_record(eventID="call"),
    )
    answer = await api.ok("ListInsightsData", **EVENTS)
    assert ids(answer) == ["PutObject", "GetObject"]
    assert answer["Events"][0]["EventSource"] == "iam.amazonaws.com"
    assert '"insightSource"' in answer["Events"][0]["CloudTrailEvent"]
    assert "NextToken" not in answer
    assert ids(await api.ok("LookupEvents", EventCategory="insight")) == ["RunInstances"]
    assert ids(await api.ok("ListInsightsData", **EVENTS, region="eu-west-1")) == ["ListObjects"]


@asynchronous
async def test_an_insights_event_without_category_is_looked_up() -> None:
    api = await with_trail(insight("RunInstances", details={"sourceEventCategory": ABSENT}))
    assert ids(await api.ok("LookupEvents", EventCategory="insight")) == ["RunInstances"]


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ({"EventId": "GetObject"}, ["GetObject"]),
        ({"EventName": "PutObject"}, ["PutObject"]),
        ({"EventName": "putobject"}, []),
        ({"EventSource": "iam.amazonaws.com"}, ["PutObject", "GetObject"]),
        ({"EventSource": "s3.amazonaws.com"}, []),
    ],
)
@asynchronous
async def test_a_dimension_narrows_the_list(dimension: dict[str, str], expected: list[str]) -> None:
    api = await with_trail(insight("GetObject", 1), insight("PutObject", 2))
    assert ids(await api.ok("ListInsightsData", **EVENTS, Dimensions=dimension)) == expected


@asynchronous
async def test_list_has_pages_and_a_closed_time_range() -> None:
    api = await with_trail(*(insight(f"Event{n}", n) for n in range(5)))
    seen: list[str] = []
    token: dict[str, str] = {}
    while len(seen) < 9:
        page = await api.ok("ListInsightsData", **EVENTS, MaxResults=2, **token)
        seen += ids(page)
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert seen == [f"Event{n}" for n in (4, 3, 2, 1, 0)]
    times = {"StartTime": NOW + 1, "EndTime": NOW + 2}
    assert ids(await api.ok("ListInsightsData", **EVENTS, **times)) == ["Event2", "Event1"]
    refused = await api.error("ListInsightsData", **EVENTS, **times, **token)
    assert refused[0] == INVALID
    assert "NextToken" in refused[1]


@pytest.mark.parametrize(
    ("given", "code", "part"),
    [
        ({"InsightSource": "my-trail"}, INVALID, "InsightSource must be the ARN of a trail"),
        ({"InsightSource": f"{ARN}-2"}, INVALID, "InsightSource is not a trail"),
        ({"InsightSource": "arn:aws:s3:::b"}, INVALID, "InsightSource is not a trail"),
        ({"InsightSource": ARN.replace(ACCOUNT, OTHER_ACCOUNT)}, INVALID, "InsightSource"),
        ({"InsightSource": "x y"}, INVALID, "insightSource"),
        ({"InsightSource": None}, "ValidationException", "insightSource"),
        ({"DataType": "Events"}, INVALID, "dataType"),
        ({"DataType": None}, "ValidationException", "dataType"),
        ({"Dimensions": {"UserName": "x"}}, INVALID, "dimensions.key"),
        ({"Dimensions": {"EventId": ""}}, INVALID, "dimensions.value"),
        ({"Dimensions": {}}, INVALID, "dimensions"),
        ({"Dimensions": {"EventId": "x", "EventName": "y"}}, INVALID, "dimensions"),
        ({"MaxResults": 51}, INVALID, "maxResults"),
        ({"MaxResults": 0}, INVALID, "maxResults"),
        ({"NextToken": "x"}, INVALID, "nextToken"),
        ({"NextToken": "xxxx"}, INVALID, "NextToken"),
        ({"StartTime": NOW + 1, "EndTime": NOW}, INVALID, "start time"),
        ({"StartTime": 1e30}, INVALID, "StartTime"),
    ],
)
@asynchronous
async def test_a_refused_list_names_the_member(given: dict[str, Any], code: str, part: str) -> None:
    refused = await (await with_trail()).error("ListInsightsData", **{**EVENTS, **given})
    assert refused[0] == code
    assert part in refused[1]


# ListInsightsMetricData


def call(number: int, seconds: int, **changes: Any) -> dict[str, Any]:
    """Returns a call of CreateUser so many seconds after `MOMENT`."""
    moment = MOMENT + timedelta(seconds=seconds)
    make = a_data_record if changes.pop("data", False) else a_record
    return make(
        **{
            "eventID": event_id(number),
            "eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": "iam.amazonaws.com",
            "eventName": "CreateUser",
            **changes,
        }
    )


SOME = [
    call(1, 0),
    call(2, 59),
    call(3, 60, errorCode="AccessDenied"),
    call(4, 130, readOnly=True, errorCode="AccessDenied"),
    call(5, 200, errorCode="Other"),
    call(6, 3_600),
    call(7, 0, eventName="DeleteUser"),
    call(8, 0, awsRegion="eu-west-1"),
    call(9, 0, recipientAccountId=OTHER_ACCOUNT),
    call(10, 0, data=True),
    call(11, 70, data=True, readOnly=True),
]


async def rates(api: Api, **given: Any) -> dict[int, float]:
    """Returns the values by seconds after `MOMENT`, rounded to a millionth."""
    answer = await api.ok("ListInsightsMetricData", **given)
    assert "NextToken" not in answer
    pairs = zip(answer["Timestamps"], answer["Values"], strict=True)
    return {time - NOW: round(value, 6) for time, value in pairs}


@asynchronous
async def test_values_are_hourly_rates_with_echoed_input() -> None:
    api = await with_trail(*SOME)
    assert await api.ok("ListInsightsMetricData", **CALLS) == {
        **CALLS,
        "Timestamps": [NOW, NOW + 3_600],
        "Values": [4 / 60, 1 / 60],
    }
    assert await rates(api, **CALLS, Period=60) == {0: 2, 60: 1, 180: 1, 3_600: 1}
    assert await rates(api, **CALLS, Period=300) == {0: 4 / 5, 3_600: 1 / 5}
    assert await rates(api, **CALLS, region="eu-west-1") == {0: round(1 / 60, 6)}
    assert await rates(api, **{**CALLS, "EventName": "GetUser"}) == {}


@asynchronous
async def test_error_rate_counts_one_error_of_all_calls() -> None:
    api = await with_trail(*SOME)
    assert await rates(api, **DENIED, Period=60) == {60: 1, 120: 1}
    answer = await api.ok("ListInsightsMetricData", **DENIED)
    assert answer["ErrorCode"] == "AccessDenied"
    assert answer["Values"] == [2 / 60]


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_a_trails_rates_count_its_data_events(name: str) -> None:
    api = await with_trail(*SOME)
    assert await rates(api, **CALLS, TrailName=name, Period=60) == {0: 1, 60: 1}
    answer = await api.ok("ListInsightsMetricData", **CALLS, TrailName=name)
    assert answer["TrailARN"] == ARN


@asynchronous
async def test_empty_periods_are_zero_on_request() -> None:
    api = await with_trail(*SOME)
    zeros = {"DataType": "FillWithZeros", "Period": 60, "StartTime": NOW, "EndTime": NOW + 240}
    assert await rates(api, **CALLS, **zeros) == {0: 2, 60: 1, 120: 0, 180: 1}
    assert await rates(api, **{**CALLS, "EventName": "GetUser"}, **zeros) == dict.fromkeys(
        (0, 60, 120, 180), 0
    )
    non_zero = {**zeros, "DataType": "NonZeroData"}
    assert await rates(api, **CALLS, **non_zero) == {0: 2, 60: 1, 180: 1}


@asynchronous
async def test_a_period_is_counted_whole() -> None:
    api = await with_trail(*SOME)
    within = {"Period": 60, "StartTime": NOW + 59, "EndTime": NOW + 61}
    assert await rates(api, **CALLS, **within) == {0: 2, 60: 1}
    exact = {"Period": 60, "StartTime": NOW + 60, "EndTime": NOW + 180}
    assert await rates(api, **CALLS, **exact) == {60: 1}
    assert await rates(api, **CALLS, StartTime=NOW, EndTime=NOW) == {}
    future = {"StartTime": NOW + 10**6, "EndTime": NOW + 10**9, "DataType": "FillWithZeros"}
    assert await rates(api, **CALLS, **future) == {}


@pytest.mark.parametrize(("period", "days"), [(60, 15), (300, 63), (3_600, 90)])
@asynchronous
async def test_values_of_longer_periods_are_kept_longer(period: int, days: int) -> None:
    api = await with_trail()
    api.world.clock.moment = MOMENT + timedelta(days=days)
    await api.record([call(1, 0), call(2, -period)])
    zeros = {"DataType": "FillWithZeros", "Period": period}
    found = await rates(api, **CALLS, **zeros)
    one = round(60 / period, 6)
    assert found == {s: 0 if s else one for s in range(0, days * 86_400, period)}
    assert await rates(api, **CALLS, Period=period, StartTime=NOW - 10**6) == {0: one}


@asynchronous
async def test_pages_of_values_show_the_first_state() -> None:
    api = await with_trail(*SOME)
    for more, expected in (
        ({}, {0: 2, 60: 1, 180: 1, 3_600: 1}),
        ({"DataType": "FillWithZeros", "StartTime": NOW, "EndTime": NOW + 300}, None),
    ):
        given = {**CALLS, "Period": 60, **more}
        whole = expected or await rates(api, **given)
        seen: dict[int, float] = {}
        token: dict[str, str] = {}
        for _ in range(9):
            page = await api.ok("ListInsightsMetricData", **given, MaxResults=2, **token)
            assert len(page["Values"]) <= 2
            seen |= {t - NOW: v for t, v in zip(page["Timestamps"], page["Values"], strict=True)}
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
            await api.record([call(100 + api.calls, 200)])
            api.world.clock.advance(120)
        assert seen == whole
        refused = await api.error("ListInsightsMetricData", **{**given, "Period": 300}, **token)
        assert refused[0] == INVALID
        api = await with_trail(*SOME)


@pytest.mark.parametrize(
    ("given", "code", "part"),
    [
        ({"Period": 120}, INVALID, "Period must be 60, 300 or 3600"),
        ({"Period": 59}, INVALID, "period"),
        ({"InsightType": "ApiRate"}, INVALID, "insightType"),
        ({"InsightType": "ApiErrorRateInsight"}, INVALID, "ErrorCode is required"),
        ({"ErrorCode": "AccessDenied"}, INVALID, "ErrorCode AccessDenied does not go with"),
        ({"ErrorCode": "<>"}, INVALID, "errorCode"),
        ({"EventName": None}, "ValidationException", "eventName"),
        ({"EventName": "a b"}, INVALID, "eventName"),
        ({"EventSource": "iam"}, INVALID, "eventSource"),
        ({"TrailName": "x"}, "InvalidTrailNameException", "too short"),
        ({"TrailName": "absent"}, INVALID, "TrailName is not a trail of this account"),
        ({"TrailName": "arn:aws:s3:::b"}, INVALID, "TrailName"),
        ({"DataType": "Zeros"}, INVALID, "dataType"),
        ({"MaxResults": 21_601}, INVALID, "maxResults"),
        ({"NextToken": "x"}, INVALID, "NextToken"),
        ({"NextToken": "x" * 5_001}, INVALID, "nextToken"),
        ({"StartTime": NOW + 1, "EndTime": NOW}, INVALID, "start time"),
        ({"EndTime": 1e30}, INVALID, "EndTime"),
    ],
)
@asynchronous
async def test_refused_rates_name_the_member(given: dict[str, Any], code: str, part: str) -> None:
    refused = await (await with_trail()).error("ListInsightsMetricData", **{**CALLS, **given})
    assert refused[0] == code
    assert part in refused[1]
