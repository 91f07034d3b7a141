"""The operations on event selectors: their answers, their effect, their errors."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION, a_data_record, a_record, event_id
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

OTHER = "eu-west-1"
ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
REFUSED = "InvalidEventSelectorsException"
DEFAULT = {
    "ReadWriteType": "All",
    "IncludeManagementEvents": True,
    "DataResources": [],
    "ExcludeManagementEventSources": [],
}
ONE_BUCKET = {"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::my-bucket/"]}]}
ADVANCED = [
    {
        "Name": "writes to one bucket",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "resources.ARN", "StartsWith": ["arn:aws:s3:::my-bucket/"]},
            {"Field": "readOnly", "Equals": ["false"]},
        ],
    },
    {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]},
]


async def with_trail(**settings: Any) -> Api:
    api = Api()
    await api.ok("CreateTrail", **{"Name": "my-trail", "S3BucketName": BUCKET, **settings})
    return api


async def put(api: Api, name: str = "my-trail", **given: Any) -> Any:
    return await api.ok("PutEventSelectors", TrailName=name, **given)


async def got(api: Api, name: str = "my-trail", **given: Any) -> Any:
    return await api.ok("GetEventSelectors", TrailName=name, **given)


async def is_custom(api: Api) -> bool:
    (described,) = (await api.ok("DescribeTrails"))["trailList"]
    trail = (await api.ok("GetTrail", Name=ARN))["Trail"]
    assert trail == described
    return bool(described["HasCustomEventSelectors"])


async def recorded(api: Api, number: int, **changes: Any) -> str:
    make = a_data_record if changes.pop("data", False) else a_record
    await api.record([make(eventID=event_id(1_000 + number), **changes)])
    return event_id(1_000 + number)


async def flush(api: Api) -> None:
    (stored,) = await api.world.registry.all()
    await api.world.deliveries.flush(stored.trail)


# Getting and putting


@asynchronous
async def test_an_unconfigured_trail_has_the_default_selector() -> None:
    api = await with_trail()
    assert await got(api) == {"TrailARN": ARN, "EventSelectors": [DEFAULT]}
    assert await is_custom(api) is False


@pytest.mark.parametrize("name", ["my-trail", ARN])
@asynchronous
async def test_basic_selectors_are_read_back_with_defaults(name: str) -> None:
    api = await with_trail()
    expected = {"TrailARN": ARN, "EventSelectors": [{**DEFAULT, **ONE_BUCKET}]}
    assert await put(api, name, EventSelectors=[ONE_BUCKET]) == expected
    assert await got(api, name) == expected
    assert await is_custom(api) is True


@asynchronous
async def test_advanced_selectors_are_read_back_unchanged() -> None:
    api = await with_trail()
    expected = {"TrailARN": ARN, "AdvancedEventSelectors": ADVANCED}
    assert await put(api, AdvancedEventSelectors=ADVANCED) == expected
    assert await got(api) == expected
    assert await is_custom(api) is True


@asynchronous
async def test_one_kind_clears_the_other() -> None:
    api = await with_trail()
    await put(api, EventSelectors=[ONE_BUCKET])
    await put(api, AdvancedEventSelectors=ADVANCED)
    assert list(await got(api)) == ["TrailARN", "AdvancedEventSelectors"]
    await put(api, EventSelectors=[ONE_BUCKET])
    assert list(await got(api)) == ["TrailARN", "EventSelectors"]


@asynchronous
async def test_other_changes_of_a_trail_leave_its_selectors() -> None:
    api = await with_trail()
    await put(api, AdvancedEventSelectors=ADVANCED)
    await api.ok("StartLogging", Name="my-trail")
    await api.ok("UpdateTrail", Name="my-trail", S3BucketName="other-bucket")
    await api.ok("StopLogging", Name="my-trail")
    assert (await got(api))["AdvancedEventSelectors"] == ADVANCED
    await api.world.deliveries.stop()


@asynchronous
async def test_a_recreated_trail_starts_with_default_selectors() -> None:
    api = await with_trail()
    await put(api, AdvancedEventSelectors=ADVANCED)
    await api.ok("DeleteTrail", Name="my-trail")
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET)
    assert await got(api) == {"TrailARN": ARN, "EventSelectors": [DEFAULT]}
    await api.world.deliveries.stop()


@asynchronous
async def test_shadow_trails_show_selectors_and_refuse_changes() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await put(api, EventSelectors=[ONE_BUCKET])
    assert (await got(api, ARN, region=OTHER))["EventSelectors"] == [{**DEFAULT, **ONE_BUCKET}]
    code, text = await api.error(
        "PutEventSelectors", TrailName=ARN, EventSelectors=[{}], region=OTHER
    )
    assert code == "InvalidHomeRegionException"
    assert ARN in text
    assert await is_custom(api) is True


# Refusals


@pytest.mark.parametrize("operation", ["PutEventSelectors", "GetEventSelectors"])
@asynchronous
async def test_an_unknown_trail_is_refused_with_awss_message(operation: str) -> None:
    api = await with_trail()
    unknown = ARN.replace("my-trail", "nothing")
    for name in ("nothing", unknown):
        assert await api.error(operation, TrailName=name) == (
            "TrailNotFoundException",
            f"Unknown trail: {unknown} for the user: {ACCOUNT}",
        )
    code, _ = await api.error(operation, TrailName="a")
    assert code == "InvalidTrailNameException"
    code, _ = await api.error(operation, TrailName="arn:aws:s3:::bucket")
    assert code == "CloudTrailARNInvalidException"
    code, text = await api.error(operation)
    assert (code, "trailName" in text) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "EventSelectors or AdvancedEventSelectors is required"),
        ({"EventSelectors": [{}], "AdvancedEventSelectors": ADVANCED}, "not both"),
        ({"EventSelectors": []}, "1 to 5 event selectors, but 0 are given"),
        ({"EventSelectors": [{}] * 6}, "1 to 5 event selectors, but 6 are given"),
        ({"EventSelectors": [{"ReadWriteType": "read-only"}]}, "[ReadOnly, WriteOnly, All]"),
        (
            {
                "EventSelectors": [
                    {"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::*/*"]}]}
                ]
            },
            "Value arn:aws:s3:::*/* for DataResources.Values is invalid.",
        ),
        (
            {
                "EventSelectors": [
                    {"DataResources": [{"Type": "AWS::S3::Bucket", "Values": ["arn:aws:s3"]}]}
                ]
            },
            "Value AWS::S3::Bucket for DataResources.Type is invalid.",
        ),
        (
            {
                "AdvancedEventSelectors": [
                    {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Insight"]}]}
                ]
            },
            "Value Insight for eventCategory is invalid",
        ),
        ({"AdvancedEventSelectors": [{"FieldSelectors": []}]}, "fieldSelectors"),
        (
            {"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "a b", "Equals": []}]}]},
            "Member must have length greater than or equal to 1",
        ),
    ],
)
@asynchronous
async def test_invalid_selectors_are_refused_and_change_nothing(
    given: dict[str, Any], part: str
) -> None:
    api = await with_trail()
    await put(api, AdvancedEventSelectors=ADVANCED)
    code, text = await api.error("PutEventSelectors", TrailName="my-trail", **given)
    assert code == REFUSED
    assert part in text
    assert (await got(api))["AdvancedEventSelectors"] == ADVANCED


@asynchronous
async def test_a_wrong_json_type_is_a_serialization_error() -> None:
    api = await with_trail()
    for wrong in ("all", [{"ReadWriteType": 5}], [{"IncludeManagementEvents": "true"}], [None]):
        code, _ = await api.error("PutEventSelectors", TrailName="my-trail", EventSelectors=wrong)
        assert code == "SerializationException"


@asynchronous
async def test_an_unknown_type_is_accepted_with_a_warning() -> None:
    api = await with_trail()

    def of_type(kind: str) -> list[dict[str, Any]]:
        fields = [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": [kind]},
        ]
        return [{"FieldSelectors": fields}]

    logs = unittest.TestCase()
    with logs.assertNoLogs(level="WARNING"):
        await put(api, AdvancedEventSelectors=of_type("AWS::SQS::Queue"))
    with logs.assertLogs(level="WARNING") as logged:
        await put(api, AdvancedEventSelectors=of_type("AWS::S3::Objects"))
    (warning,) = logged.records
    assert warning.types == ["AWS::S3::Objects"]  # type: ignore[attr-defined]


# Taking effect


@asynchronous
async def test_selectors_take_effect_at_their_call_during_logging() -> None:
    api = await with_trail(EnableLogFileValidation=True)
    await api.ok("StartLogging", Name="my-trail")
    expected = ["call-2", await recorded(api, 1)]
    await recorded(api, 2, data=True)
    await put(api, EventSelectors=[{**ONE_BUCKET, "ReadWriteType": "WriteOnly"}])
    expected.append("call-3")
    expected.append(await recorded(api, 3, data=True))
    await recorded(api, 4, readOnly=True)
    await put(api, EventSelectors=[{}])
    expected.append("call-4")
    await recorded(api, 5, data=True)
    expected.append(await recorded(api, 6, readOnly=True))
    await flush(api)
    await api.world.check(expected, chains=1)
    await api.world.deliveries.stop()


@asynchronous
async def test_selectors_put_before_logging_hold_from_its_start() -> None:
    api = await with_trail()
    await put(api, AdvancedEventSelectors=ADVANCED[:1])
    await api.ok("StartLogging", Name="my-trail")
    await recorded(api, 1)
    taken = await recorded(api, 2, data=True)
    await flush(api)
    await api.world.check([taken])
    await api.world.deliveries.stop()


# Terraform


@asynchronous
async def test_terraform_reads_back_only_existing_selectors() -> None:
    api = await with_trail()
    await api.ok("StartLogging", Name=ARN)
    given = {"ReadWriteType": "All", "IncludeManagementEvents": True, **ONE_BUCKET}
    kinds: list[tuple[str, list[Any]]] = [
        ("EventSelectors", [given]),
        ("AdvancedEventSelectors", ADVANCED),
    ]
    for name, selectors in kinds:
        await put(api, ARN, **{name: selectors})
        assert await is_custom(api) is True
        (read,) = [v for k, v in (await got(api, ARN)).items() if k == name]
        for asked, answered in zip(selectors, read, strict=True):
            assert asked.items() <= answered.items()
        # A second plan finds no change; removing the selectors restores the default.
        assert await got(api, ARN) == await got(api, ARN)
    put_back = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}
    await put(api, ARN, EventSelectors=[put_back])
    assert await is_custom(api) is False
    assert await got(api, ARN) == {"TrailARN": ARN, "EventSelectors": [DEFAULT]}
    await api.world.deliveries.stop()
