"""The operations on insight selectors: their answers, and their errors."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

OTHER = "eu-west-1"
ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
DISABLED = (
    f"Trail {ARN} does not have Insights enabled. Edit the trail settings to enable Insights, and "
    "then try the operation again."
)
REFUSED = "InvalidInsightSelectorsException"
RATE, ERRORS = {"InsightType": "ApiCallRateInsight"}, {"InsightType": "ApiErrorRateInsight"}
OF_DATA = {"EventCategories": ["Data"]}
READS = {"ReadWriteType": "ReadOnly"}
OBJECTS = {"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}


async def with_trail(selectors: dict[str, Any] | None = None, **settings: Any) -> Api:
    api = Api()
    await api.ok("CreateTrail", **{"Name": "my-trail", "S3BucketName": BUCKET, **settings})
    if selectors is not None:
        await api.ok("PutEventSelectors", TrailName="my-trail", EventSelectors=[selectors])
    return api


async def put(api: Api, *selectors: dict[str, Any], name: str = "my-trail", **given: Any) -> Any:
    return await api.ok(
        "PutInsightSelectors", TrailName=name, InsightSelectors=list(selectors), **given
    )


async def got(api: Api, name: str = "my-trail", **given: Any) -> Any:
    return await api.ok("GetInsightSelectors", TrailName=name, **given)


async def has_insights(api: Api) -> bool:
    (described,) = (await api.ok("DescribeTrails"))["trailList"]
    assert (await api.ok("GetTrail", Name=ARN))["Trail"] == described
    return bool(described["HasInsightSelectors"])


# Putting and getting


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_trail_without_insights_is_refused_as_by_aws(name: str) -> None:
    api = await with_trail()
    refused = await api.error("GetInsightSelectors", TrailName=name)
    assert refused == ("InsightNotEnabledException", DISABLED)
    assert await has_insights(api) is False


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_insight_selectors_are_read_back_with_defaults(name: str) -> None:
    api = await with_trail()
    of_both = {**ERRORS, "EventCategories": ["Management"]}
    expected = {
        "TrailARN": ARN,
        "InsightSelectors": [{**RATE, "EventCategories": ["Management"]}, of_both],
    }
    assert await put(api, RATE, of_both, name=name) == expected
    assert await got(api, name) == expected
    assert await has_insights(api) is True


@asynchronous
async def test_an_empty_list_turns_insights_off() -> None:
    api = await with_trail(OBJECTS)
    await put(api, RATE, ERRORS)
    data = {**ERRORS, "EventCategories": ["Data", "Management"]}
    assert (await put(api, data))["InsightSelectors"] == [data]
    assert (await got(api))["InsightSelectors"] == [data]
    assert await put(api) == {"TrailARN": ARN, "InsightSelectors": []}
    assert (await api.error("GetInsightSelectors", TrailName=ARN))[1] == DISABLED
    assert await has_insights(api) is False


@asynchronous
async def test_other_changes_leave_insight_selectors() -> None:
    api = await with_trail()
    await put(api, RATE)
    await api.ok("StartLogging", Name="my-trail")
    await api.ok("UpdateTrail", Name="my-trail", S3BucketName="other-bucket")
    await api.ok("PutEventSelectors", TrailName="my-trail", EventSelectors=[OBJECTS])
    await api.ok("StopLogging", Name="my-trail")
    assert len((await got(api))["InsightSelectors"]) == 1
    await api.world.deliveries.stop()


@asynchronous
async def test_a_recreated_trail_starts_without_selectors() -> None:
    api = await with_trail()
    await put(api, RATE)
    await api.ok("DeleteTrail", Name="my-trail")
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    assert (await api.error("GetInsightSelectors", TrailName=ARN))[1] == DISABLED
    await api.world.deliveries.stop()


@asynchronous
async def test_shadow_trails_show_insight_selectors_and_refuse_changes() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await put(api, RATE)
    assert len((await got(api, ARN, region=OTHER))["InsightSelectors"]) == 1
    code, text = await api.error(
        "PutInsightSelectors", TrailName=ARN, InsightSelectors=[], region=OTHER
    )
    assert code == "InvalidHomeRegionException"
    assert ARN in text
    assert await has_insights(api) is True


@asynchronous
async def test_a_change_takes_effect_at_its_calls_position() -> None:
    api = await with_trail()
    await api.ok("StartLogging", Name="my-trail")
    await put(api, RATE)
    (stored,) = await api.world.registry.all()
    head = api.world.journal.head
    assert [(s.after, s.until, len(s.insight_selectors)) for s in stored.trail.spans] == [
        (1, head, 0),
        (head, None, 1),
    ]
    await api.world.deliveries.stop()


# Refusals


@pytest.mark.parametrize("operation", ["GetInsightSelectors", "PutInsightSelectors"])
@pytest.mark.parametrize(
    ("given", "code", "part"),
    [
        ({"TrailName": "absent"}, "TrailNotFoundException", "trail/absent"),
        ({"TrailName": "x"}, "InvalidTrailNameException", "too short"),
        ({"TrailName": "arn:aws:cloudtrail:nowhere"}, "CloudTrailARNInvalidException", "nowhere"),
        ({"TrailName": 5}, "SerializationException", "trailName"),
        ({}, "InvalidParameterCombinationException", "either TrailName or EventDataStore"),
        (
            {"TrailName": "my-trail", "EventDataStore": "store"},
            "InvalidParameterCombinationException",
            "TrailName and EventDataStore cannot be specified together.",
        ),
        ({"EventDataStore": "store"}, "UnsupportedOperationException", "EventDataStore"),
    ],
)
@asynchronous
async def test_call_without_trail_is_refused_as_by_aws(
    operation: str, given: dict[str, Any], code: str, part: str
) -> None:
    more = {"InsightSelectors": [RATE]} if operation == "PutInsightSelectors" else {}
    found = await Api().error(operation, **given, **more)
    assert found[0] == code
    assert part in found[1]


@asynchronous
async def test_a_trail_cannot_have_a_stores_destination() -> None:
    api = await with_trail()
    code, text = await api.error(
        "PutInsightSelectors", TrailName="my-trail", InsightSelectors=[], InsightsDestination="eds"
    )
    assert code == "InvalidParameterCombinationException"
    assert text == "TrailName and InsightsDestination cannot be specified together."


@pytest.mark.parametrize(
    ("selectors", "given", "part"),
    [
        (None, [{"InsightType": "ApiRate"}], "'insightSelectors.1.member.insightType'"),
        (None, [RATE, {}], "InsightType is required"),
        (None, [RATE, ERRORS, RATE], "ApiCallRateInsight for InsightType occurs more than once"),
        (None, [{**RATE, "EventCategories": ["Insight"]}], "eventCategories.1.member'"),
        (READS, [RATE], "a trail that logs write management events"),
        ({**OBJECTS, "IncludeManagementEvents": False}, [RATE], "write management events"),
        ({**OBJECTS, "IncludeManagementEvents": False}, [ERRORS], "that logs management events"),
        (None, [{**RATE, **OF_DATA}], "Value Data for EventCategories needs a trail"),
        (None, [ERRORS, {**RATE, **OF_DATA}], "Value Data for EventCategories needs a trail"),
    ],
)
@asynchronous
async def test_a_refused_insight_selector_changes_nothing(
    selectors: dict[str, Any] | None, given: list[dict[str, Any]], part: str
) -> None:
    api = await with_trail(selectors)
    code, text = await api.error(
        "PutInsightSelectors", TrailName="my-trail", InsightSelectors=given
    )
    assert code == REFUSED
    assert part in text
    assert await has_insights(api) is False


@pytest.mark.parametrize(
    ("selectors", "given"),
    [
        (READS, [ERRORS]),
        ({**READS, **OBJECTS}, [{**RATE, **OF_DATA}, ERRORS]),
        ({**OBJECTS, "IncludeManagementEvents": False}, [{**RATE, **OF_DATA}]),
        ({"ReadWriteType": "WriteOnly"}, [RATE, ERRORS]),
    ],
)
@asynchronous
async def test_a_trail_may_have_insights_on_its_events(
    selectors: dict[str, Any], given: list[dict[str, Any]]
) -> None:
    api = await with_trail(selectors)
    await put(api, *given)
    assert await has_insights(api) is True


@asynchronous
async def test_the_list_of_insight_selectors_is_required() -> None:
    api = await with_trail()
    code, text = await api.error("PutInsightSelectors", TrailName="my-trail")
    assert (code, "insightSelectors" in text) == ("ValidationException", True)
