"""The operations on event configurations of trails."""

from __future__ import annotations

import pytest

from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
CONFIGURATION = {"TrailARN": ARN, "AggregationConfigurations": []}


async def with_trail() -> Api:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    return api


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_a_trail_aggregates_no_events(name: str) -> None:
    api = await with_trail()
    assert await api.ok("GetEventConfiguration", TrailName=name) == CONFIGURATION
    put = await api.ok("PutEventConfiguration", TrailName=name, AggregationConfigurations=[])
    assert put == CONFIGURATION


@asynchronous
async def test_aggregated_events_are_refused_by_name() -> None:
    api = await with_trail()
    asked = [{"EventCategory": "Data", "Templates": ["API_ACTIVITY"]}]
    code, text = await api.error(
        "PutEventConfiguration", TrailName="my-trail", AggregationConfigurations=asked
    )
    assert code == "UnsupportedOperationException"
    assert "AggregationConfigurations" in text


@pytest.mark.parametrize("operation", ["GetEventConfiguration", "PutEventConfiguration"])
@asynchronous
async def test_an_unknown_trail_is_refused(operation: str) -> None:
    code, text = await (await with_trail()).error(operation, TrailName="other")
    assert code == "TrailNotFoundException"
    assert "other" in text


@pytest.mark.parametrize("operation", ["GetEventConfiguration", "PutEventConfiguration"])
@asynchronous
async def test_a_call_names_a_trail_or_a_store(operation: str) -> None:
    api = await with_trail()
    code, _ = await api.error(operation)
    assert code in ("InvalidParameterException", "InvalidParameterCombinationException")
    store = "EXAMPLE-f852-4e8f-8bd1-bcf6cEXAMPLE"
    code, _ = await api.error(operation, TrailName="my-trail", EventDataStore=store)
    assert code == "InvalidParameterCombinationException"
