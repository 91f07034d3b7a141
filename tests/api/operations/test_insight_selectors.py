"""GetInsightSelectors and PutInsightSelectors while trails have no Insights."""

from __future__ import annotations

import pytest

from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
DISABLED = (
    f"Trail {ARN} does not have Insights enabled. Edit the trail settings to enable Insights, and "
    "then try the operation again."
)


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_a_trail_without_insights_is_refused_in_the_words_of_aws(name: str) -> None:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    refused = await api.error("GetInsightSelectors", TrailName=name)
    assert refused == ("InsightNotEnabledException", DISABLED)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"TrailName": "absent"}, "TrailNotFoundException"),
        ({"TrailName": "x"}, "InvalidTrailNameException"),
        ({"TrailName": "arn:aws:cloudtrail:nowhere"}, "CloudTrailARNInvalidException"),
        ({}, "InvalidParameterCombinationException"),
        ({"EventDataStore": "store"}, "UnsupportedOperationException"),
        ({"TrailName": 5}, "SerializationException"),
    ],
)
@asynchronous
async def test_an_unknown_trail_is_refused_as_by_aws(given: dict[str, object], code: str) -> None:
    assert (await Api().error("GetInsightSelectors", **given))[0] == code


@asynchronous
async def test_what_arrives_with_insights_says_so() -> None:
    refused = await Api().error("PutInsightSelectors", TrailName="my-trail", InsightSelectors=[])
    assert refused[0] == "UnsupportedOperationException"
    assert "PutInsightSelectors yet: it arrives with Insights" in refused[1]
