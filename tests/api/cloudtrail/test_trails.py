"""The operations on trails: answers, effects, errors (cloudtrail-format §8)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from datetime import timedelta
from typing import Any

import pytest
import rsa

from opentrail.core.errors import ObjectStoreError, RecordRefused
from tests.api.caller import Answer, Api
from tests.factories import ACCOUNT, MOMENT, REGION, a_record, event_id
from tests.fakes import asynchronous, eventually
from tests.trails.world import BUCKET

OTHER = "eu-west-1"
ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


async def with_trail(**settings: Any) -> Api:
    api = Api()
    await api.ok("CreateTrail", **{"Name": "my-trail", "S3BucketName": BUCKET, **settings})
    return api


async def events(api: Api, count: int, **changes: Any) -> list[str]:
    first = api.world.journal.head + 1_000
    made = [a_record(eventID=event_id(n), **changes) for n in range(first, first + count)]
    await api.record(made)
    return [record["eventID"] for record in made]


async def flush(api: Api, name: str = "my-trail") -> None:
    (trail,) = [s.trail for s in await api.world.registry.all() if s.trail.name == name]
    await api.world.deliveries.flush(trail)


async def close(api: Api) -> None:
    await api.world.deliveries.stop()


# Create


@asynchronous
async def test_a_new_trail_is_echoed_with_awss_defaults() -> None:
    api = Api()
    assert await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET) == {
        "Name": "my-trail",
        "S3BucketName": BUCKET,
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": False,
        "TrailARN": ARN,
        "LogFileValidationEnabled": False,
        "IsOrganizationTrail": False,
    }


@asynchronous
async def test_settings_are_echoed() -> None:
    answer = await Api().ok(
        "CreateTrail",
        Name="my-trail",
        S3BucketName=BUCKET,
        S3KeyPrefix="audit",
        IncludeGlobalServiceEvents=True,
        IsMultiRegionTrail=True,
        EnableLogFileValidation=True,
        region=OTHER,
    )
    assert answer["S3KeyPrefix"] == "audit"
    assert answer["IsMultiRegionTrail"] is True
    assert answer["LogFileValidationEnabled"] is True
    assert answer["TrailARN"] == ARN.replace(REGION, OTHER)


@asynchronous
async def test_a_new_trail_does_not_log_yet() -> None:
    api = await with_trail()
    await events(api, 3)
    await flush(api)
    assert (await api.ok("GetTrailStatus", Name="my-trail"))["IsLogging"] is False
    assert api.world.log_keys() == [f"AWSLogs/{ACCOUNT}/CloudTrail/"]
    await close(api)


@pytest.mark.parametrize(
    ("prefix", "validation", "expected"),
    [
        ("", False, [f"AWSLogs/{ACCOUNT}/CloudTrail/"]),
        (
            "audit",
            True,
            [f"audit/AWSLogs/{ACCOUNT}/CloudTrail-Digest/", f"audit/AWSLogs/{ACCOUNT}/CloudTrail/"],
        ),
    ],
)
@asynchronous
async def test_a_new_trail_writes_awss_empty_markers(
    prefix: str, validation: bool, expected: list[str]
) -> None:
    api = await with_trail(S3KeyPrefix=prefix, EnableLogFileValidation=validation)
    held = api.world.buckets.objects[BUCKET]
    markers = {key: stored.content for key, stored in held.items() if key.endswith("/")}
    assert sorted(markers) == expected
    assert set(markers.values()) == {b""}


@asynchronous
async def test_two_trails_may_share_a_bucket() -> None:
    api = await with_trail()
    await api.ok("CreateTrail", Name="second", S3BucketName=BUCKET)
    assert len((await api.ok("ListTrails"))["Trails"]) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "ab",
            "Trail name too short. Minimum allowed length: 3 characters. "
            "Specified name length: 2 characters.",
        ),
        (
            "a" * 129,
            "Trail name too long. Maximum allowed length: 128 characters. "
            "Specified name length: 129 characters.",
        ),
        ("-my-trail", "Trail name must starts with a letter or number."),
        (".my-trail", "Trail name must starts with a letter or number."),
        ("my-trail_", "Trail name must ends with a letter or number."),
        (
            "my trail",
            "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, "
            "periods (.), hyphens (-), and underscores (_).",
        ),
        (
            "my-träil",
            "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, "
            "periods (.), hyphens (-), and underscores (_).",
        ),
    ],
)
@asynchronous
async def test_an_invalid_name_is_refused_as_by_aws(name: str, text: str) -> None:
    error = await Api().error("CreateTrail", Name=name, S3BucketName=BUCKET)
    assert error == ("InvalidTrailNameException", text)


@pytest.mark.parametrize(
    "name",
    ["my--trail", "my..trail", "my._trail", "192.168.5.4", "a/b/c", "../etc", "a\nb", "abc\n"],
)
@asynchronous
async def test_other_invalid_names_are_refused(name: str) -> None:
    code, _ = await Api().error("CreateTrail", Name=name, S3BucketName=BUCKET)
    assert code == "InvalidTrailNameException"


@pytest.mark.parametrize("name", ["abc", "a" * 128, "My.Trail-1_x", "123", "1.2.3"])
@asynchronous
async def test_names_within_the_rules_are_accepted(name: str) -> None:
    assert (await Api().ok("CreateTrail", Name=name, S3BucketName=BUCKET))["Name"] == name


@pytest.mark.parametrize(
    "bucket",
    [
        *("ab", "a" * 64, "My-bucket", "my_bucket", "my bucket", "-bucket", "bucket-", "a..b"),
        *("a.-b", "192.168.5.4", "bucket/folder", "s3://bucket", "bücket", "bucket\n", ".bucket"),
    ],
)
@asynchronous
async def test_an_invalid_bucket_name_is_refused(bucket: str) -> None:
    code, _ = await Api().error("CreateTrail", Name="my-trail", S3BucketName=bucket)
    assert code == "InvalidS3BucketNameException"


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "/audit",
            "a" * 201,
            "a//b",
            "../x",
            "a/../b",
            "./a",
            "a/..",
            "a/.",
            "a\\b",
            "a\nb",
            "a\n",
        ),
        *("a\0b", "ümlaut", "a?b", "a#b", "a%2e%2e/b", "{a}"),
    ],
)
@asynchronous
async def test_an_unsafe_prefix_is_refused(prefix: str) -> None:
    api = Api()
    code, _ = await api.error(
        "CreateTrail", Name="my-trail", S3BucketName=BUCKET, S3KeyPrefix=prefix
    )
    assert code == "InvalidS3PrefixException"
    assert api.world.buckets.stored == []


@pytest.mark.parametrize("prefix", ["a" * 200, "a/b/c", "a/", "A-b_c.d!*'()"])
@asynchronous
async def test_prefixes_within_the_rules_are_accepted(prefix: str) -> None:
    api = await with_trail(S3KeyPrefix=prefix)
    assert (await api.ok("GetTrail", Name="my-trail"))["Trail"]["S3KeyPrefix"] == prefix


@asynchronous
async def test_a_missing_bucket_is_refused_as_by_aws() -> None:
    api = Api()
    assert await api.error("CreateTrail", Name="my-trail", S3BucketName="no-such-bucket") == (
        "S3BucketDoesNotExistException",
        "S3 bucket no-such-bucket does not exist!",
    )
    assert (await api.ok("ListTrails"))["Trails"] == []


@pytest.mark.parametrize("refusal", ["AccessDenied", "403"])
@asynchronous
async def test_read_only_bucket_is_refused_as_by_aws(refusal: str) -> None:
    api = Api()
    api.world.objects.down = refusal
    assert await api.error("CreateTrail", Name="my-trail", S3BucketName=BUCKET) == (
        "InsufficientS3BucketPolicyException",
        f"Incorrect S3 bucket policy is detected for bucket: {BUCKET}",
    )


@asynchronous
async def test_name_in_use_is_refused_with_awss_message() -> None:
    api = await with_trail()
    assert await api.error("CreateTrail", Name="my-trail", S3BucketName=BUCKET) == (
        "TrailAlreadyExistsException",
        f"Trail my-trail already exists for customer: {ACCOUNT}",
    )


@asynchronous
async def test_a_sixth_trail_is_refused_as_by_aws() -> None:
    api = Api()
    for number in range(5):
        await api.ok("CreateTrail", Name=f"trail-{number}", S3BucketName=BUCKET)
    assert await api.error("CreateTrail", Name="sixth", S3BucketName=BUCKET) == (
        "MaximumNumberOfTrailsExceededException",
        f"User: {ACCOUNT} already has 5 trails in {REGION}.",
    )


@asynchronous
async def test_trail_of_all_regions_needs_room_in_each() -> None:
    api = Api()
    for number in range(5):
        await api.ok("CreateTrail", Name=f"trail-{number}", S3BucketName=BUCKET, region=OTHER)
    refused = (
        "MaximumNumberOfTrailsExceededException",
        f"User: {ACCOUNT} already has 5 trails in {OTHER}.",
    )
    new = {"Name": "my-trail", "S3BucketName": BUCKET}
    assert await api.error("CreateTrail", **new, IsMultiRegionTrail=True) == refused
    await api.ok("CreateTrail", **new)
    assert await api.error("UpdateTrail", Name="my-trail", IsMultiRegionTrail=True) == refused
    # It is in its own Region already, so it may become one of the five elsewhere.
    await api.ok("DeleteTrail", Name="trail-0", region=OTHER)
    await api.ok("UpdateTrail", Name="my-trail", IsMultiRegionTrail=True)
    await api.ok("UpdateTrail", Name="my-trail", EnableLogFileValidation=True)
    assert await api.error("CreateTrail", **{**new, "Name": "sixth"}, region=OTHER) == refused
    await close(api)


@pytest.mark.parametrize("operation", ["CreateTrail", "UpdateTrail"])
@asynchronous
async def test_a_multi_region_trail_must_take_global_services(operation: str) -> None:
    api = Api() if operation == "CreateTrail" else await with_trail()
    assert await api.error(
        operation,
        Name="my-trail",
        S3BucketName=BUCKET,
        IsMultiRegionTrail=True,
        IncludeGlobalServiceEvents=False,
    ) == (
        "InvalidParameterCombinationException",
        "Multi-Region trail must include global service events.",
    )


# Finding


@asynchronous
async def test_a_trail_is_described_with_awss_members() -> None:
    api = await with_trail(S3KeyPrefix="audit", EnableLogFileValidation=True)
    expected = {
        "Name": "my-trail",
        "S3BucketName": BUCKET,
        "S3KeyPrefix": "audit",
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": False,
        "HomeRegion": REGION,
        "TrailARN": ARN,
        "LogFileValidationEnabled": True,
        "HasCustomEventSelectors": False,
        "HasInsightSelectors": False,
        "IsOrganizationTrail": False,
    }
    for name in ("my-trail", ARN):
        assert await api.ok("GetTrail", Name=name) == {"Trail": expected}
    assert await api.ok("DescribeTrails") == {"trailList": [expected]}


@asynchronous
async def test_a_missing_prefix_is_left_out() -> None:
    api = await with_trail()
    assert "S3KeyPrefix" not in (await api.ok("GetTrail", Name="my-trail"))["Trail"]


@asynchronous
async def test_shadow_trails_are_described_unless_excluded() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await api.ok("CreateTrail", Name="single", S3BucketName=BUCKET)
    await api.ok("CreateTrail", Name="there", S3BucketName=BUCKET, region=OTHER)

    async def names(region: str, **given: Any) -> list[tuple[str, str]]:
        described = (await api.ok("DescribeTrails", region=region, **given))["trailList"]
        return sorted((trail["Name"], trail["HomeRegion"]) for trail in described)

    assert await names(REGION) == [("my-trail", REGION), ("single", REGION)]
    assert await names(OTHER) == [("my-trail", REGION), ("there", OTHER)]
    assert await names(OTHER, includeShadowTrails=True) == [("my-trail", REGION), ("there", OTHER)]
    assert await names(OTHER, includeShadowTrails=False) == [("there", OTHER)]
    assert await names("ap-south-1") == [("my-trail", REGION)]


@asynchronous
async def test_trails_are_described_by_name_at_home() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await api.ok("CreateTrail", Name="single", S3BucketName=BUCKET)

    async def names(region: str, *wanted: str) -> list[str]:
        described = await api.ok("DescribeTrails", region=region, trailNameList=list(wanted))
        return sorted(trail["Name"] for trail in described["trailList"])

    assert await names(REGION, "my-trail") == ["my-trail"]
    assert await names(REGION, ARN, "single", "nothing") == ["my-trail", "single"]
    assert await names(REGION, "my-trail", ARN) == ["my-trail"]
    assert await names(OTHER, "my-trail") == []
    assert await names(OTHER, ARN) == ["my-trail"]
    assert await names(OTHER, ARN.replace("my-trail", "single")) == ["single"]
    assert await names(OTHER) == ["my-trail"]
    assert await names(REGION, "nothing", ARN.replace("my-", "other-")) == []
    assert await names(REGION, ARN.replace(ACCOUNT, "210987654321")) == []


@asynchronous
async def test_malformed_arn_is_refused_where_names_are_accepted() -> None:
    api = await with_trail()
    code, _ = await api.error("DescribeTrails", trailNameList=["arn:aws:nonsense"])
    assert code == "CloudTrailARNInvalidException"
    for operation in ("GetTrail", "GetTrailStatus", "StartLogging", "StopLogging", "DeleteTrail"):
        code, _ = await api.error(operation, Name="arn:aws:s3:::my-bucket")
        assert code == "CloudTrailARNInvalidException", operation


@pytest.mark.parametrize(
    "operation",
    *[["GetTrail", "GetTrailStatus", "UpdateTrail", "StartLogging", "StopLogging", "DeleteTrail"]],
)
@asynchronous
async def test_an_unknown_trail_is_refused_with_awss_message(operation: str) -> None:
    api = await with_trail()
    unknown = ARN.replace("my-trail", "nothing")
    for name in ("nothing", unknown):
        assert await api.error(operation, Name=name) == (
            "TrailNotFoundException",
            f"Unknown trail: {unknown} for the user: {ACCOUNT}",
        )
    code, _ = await api.error(operation, Name="a")
    assert code == "InvalidTrailNameException"


@asynchronous
async def test_another_accounts_trail_is_reported_as_unknown() -> None:
    api = await with_trail()
    theirs = "210987654321"
    unknown = await api.error("GetTrail", Name=ARN.replace("my-trail", "none"), account=theirs)
    foreign = await api.error("GetTrail", Name=ARN, account=theirs)
    assert foreign == (unknown[0], unknown[1].replace("none", "my-trail"))


@asynchronous
async def test_trails_of_all_regions_are_listed_once() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await api.ok("CreateTrail", Name="there", S3BucketName=BUCKET, region=OTHER)
    expected = [
        {"TrailARN": ARN, "Name": "my-trail", "HomeRegion": REGION},
        {
            "TrailARN": f"arn:aws:cloudtrail:{OTHER}:{ACCOUNT}:trail/there",
            "Name": "there",
            "HomeRegion": OTHER,
        },
    ]
    for region in (REGION, OTHER, "ap-south-1"):
        listed = (await api.ok("ListTrails", region=region))["Trails"]
        assert sorted(listed, key=lambda trail: str(trail["Name"])) == expected


# Update


@asynchronous
async def test_an_update_keeps_omitted_members() -> None:
    api = await with_trail(S3KeyPrefix="audit", EnableLogFileValidation=True)
    answer = await api.ok("UpdateTrail", Name=ARN, S3BucketName="other-bucket")
    assert answer["S3BucketName"] == "other-bucket"
    assert answer["S3KeyPrefix"] == "audit"
    assert answer["LogFileValidationEnabled"] is True
    assert f"audit/AWSLogs/{ACCOUNT}/CloudTrail/" in api.world.buckets.objects["other-bucket"]


@asynchronous
async def test_an_empty_prefix_clears_it() -> None:
    api = await with_trail(S3KeyPrefix="audit")
    assert "S3KeyPrefix" not in await api.ok("UpdateTrail", Name="my-trail", S3KeyPrefix="")
    assert "S3KeyPrefix" not in (await api.ok("GetTrail", Name="my-trail"))["Trail"]


@asynchronous
async def test_becoming_multi_region_toggles_global_services() -> None:
    api = await with_trail(IncludeGlobalServiceEvents=False)
    wide = await api.ok("UpdateTrail", Name="my-trail", IsMultiRegionTrail=True)
    assert wide["IncludeGlobalServiceEvents"] is True
    narrow = await api.ok("UpdateTrail", Name="my-trail", IsMultiRegionTrail=False)
    assert narrow["IncludeGlobalServiceEvents"] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"S3BucketName": "no-such-bucket"}, "S3BucketDoesNotExistException"),
        ({"S3BucketName": "No"}, "InvalidS3BucketNameException"),
        ({"S3KeyPrefix": "/x"}, "InvalidS3PrefixException"),
    ],
)
@asynchronous
async def test_a_refused_update_changes_nothing(given: dict[str, str], expected: str) -> None:
    api = await with_trail()
    before = await api.ok("GetTrail", Name="my-trail")
    code, _ = await api.error("UpdateTrail", Name="my-trail", **given)
    assert code == expected
    assert await api.ok("GetTrail", Name="my-trail") == before


@pytest.mark.parametrize("operation", ["UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging"])
@asynchronous
async def test_trail_is_changed_only_in_its_home_region(operation: str) -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    code, _ = await api.error(operation, Name=ARN, region=OTHER)
    assert code == "InvalidHomeRegionException"
    assert (await api.ok("GetTrailStatus", Name=ARN, region=OTHER))["IsLogging"] is False
    await api.ok(operation, Name=ARN)
    await close(api)


@asynchronous
async def test_update_takes_effect_at_its_position_during_logging() -> None:
    api = await with_trail()
    await api.ok("StartLogging", Name="my-trail")
    before = ["call-2", *await events(api, 2)]
    await api.ok("UpdateTrail", Name="my-trail", S3BucketName="other-bucket")
    before.append("call-3")
    after = await events(api, 2)
    await flush(api)
    delivered = await api.world.check(before + after)
    found: dict[str, list[str]] = {}
    for log in delivered.logs:
        found.setdefault(log.bucket, []).extend(log.event_ids)
    assert found == {BUCKET: before, "other-bucket": after}
    await close(api)


# Logging


@asynchronous
async def test_logging_includes_its_own_calls() -> None:
    api = await with_trail(EnableLogFileValidation=True)
    await events(api, 2)
    await api.ok("StartLogging", Name="my-trail")
    between = await events(api, 3)
    await api.ok("StopLogging", Name="my-trail")
    await events(api, 2)
    await flush(api)
    delivered = await api.world.check(["call-2", *between, "call-3"], chains=1)
    assert delivered.event_ids[-1] == "call-3"
    await close(api)


@pytest.mark.anomaly
@pytest.mark.parametrize("operation", ["StopLogging", "UpdateTrail", "DeleteTrail"])
@asynchronous
async def test_an_unrecorded_call_does_not_delay_earlier_events(
    operation: str,
) -> None:
    """The caller gets an error (503), and may never ask again; the server is not restarted."""
    api = await with_trail()
    await api.ok("StartLogging", Name="my-trail")
    before = ["call-2", *await events(api, 2)]
    (stored,) = await api.world.registry.all()
    api.world.journal.failure = "disk full"
    with pytest.raises(RecordRefused):
        await api.call(operation, Name="my-trail")
    api.world.journal.failure = None
    await events(api, 2)
    for _ in range(3):
        await api.world.deliveries.ensure(stored.trail.uid).deliver()
        api.world.clock.advance(60)
    delivered = await api.world.verified()
    assert set(before) <= set(delivered.event_ids)
    assert len(delivered.event_ids) == len(set(delivered.event_ids))
    await close(api)


@asynchronous
async def test_starting_and_stopping_twice_changes_nothing() -> None:
    api = await with_trail()
    for operation, logging in (("StartLogging", True), ("StopLogging", False)):
        await api.ok(operation, Name="my-trail")
        first = await api.ok("GetTrailStatus", Name="my-trail")
        api.world.clock.advance(60)
        assert await api.ok(operation, Name=ARN) == {}
        again = await api.ok("GetTrailStatus", Name="my-trail")
        assert again["IsLogging"] is first["IsLogging"] is logging
        assert again["StartLoggingTime"] == first["StartLoggingTime"]
        assert again.get("StopLoggingTime") == first.get("StopLoggingTime")
    await close(api)


@asynchronous
async def test_stopping_a_trail_that_never_logged_succeeds() -> None:
    api = await with_trail()
    assert await api.ok("StopLogging", Name="my-trail") == {}
    assert "StopLoggingTime" not in await api.ok("GetTrailStatus", Name="my-trail")


@asynchronous
async def test_deleting_delivers_the_rest_and_keeps_the_files() -> None:
    api = await with_trail(EnableLogFileValidation=True)
    await api.ok("StartLogging", Name="my-trail")
    between = await events(api, 2)
    assert await api.ok("DeleteTrail", Name="my-trail") == {}
    await events(api, 2)
    assert (await api.ok("ListTrails"))["Trails"] == []
    code, _ = await api.error("GetTrailStatus", Name="my-trail")
    assert code == "TrailNotFoundException"
    # Its worker may have been faster; then there is no more work.
    for retired in await api.world.registry.retired():
        await api.world.deliveries.ensure(retired.trail.uid).deliver()
    await api.world.check(["call-2", *between, "call-3"], chains=1)
    assert await api.world.registry.retired() == []
    await close(api)


@asynchronous
async def test_a_deleted_trails_name_is_free_immediately() -> None:
    api = await with_trail()
    await api.ok("StartLogging", Name="my-trail")
    await api.ok("DeleteTrail", Name="my-trail")
    await api.ok("CreateTrail", Name="my-trail", S3BucketName="other-bucket")
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert status["IsLogging"] is False
    assert "StartLoggingTime" not in status
    await close(api)


@asynchronous
async def test_concurrent_changes_lose_nothing() -> None:
    api = await with_trail()

    async def update(prefix: str) -> Answer:
        return await api.call("UpdateTrail", Name="my-trail", S3KeyPrefix=prefix)

    answers = await asyncio.gather(*(update(f"p{number}") for number in range(4)))
    codes = [answer.error[0] for answer in answers if answer.status != 200]
    assert set(codes) <= {"ConflictException"}
    assert len(codes) < 4
    prefix = (await api.ok("GetTrail", Name="my-trail"))["Trail"]["S3KeyPrefix"]
    assert prefix in [answer.json["S3KeyPrefix"] for answer in answers if answer.status == 200]


# Status


@asynchronous
async def test_a_new_trails_status_has_only_past_events() -> None:
    api = await with_trail()
    assert await api.ok("GetTrailStatus", Name="my-trail") == {
        "IsLogging": False,
        "LatestDeliveryAttemptTime": "",
        "LatestNotificationAttemptTime": "",
        "LatestNotificationAttemptSucceeded": "",
        "LatestDeliveryAttemptSucceeded": "",
        "TimeLoggingStarted": "",
        "TimeLoggingStopped": "",
    }


@asynchronous
async def test_the_status_has_times_in_two_forms() -> None:
    api = await with_trail(EnableLogFileValidation=True)
    clock = api.world.clock
    clock.advance(10)
    await api.ok("StartLogging", Name="my-trail")
    clock.advance(10)
    await flush(api)
    clock.advance(10)
    await api.ok("StopLogging", Name="my-trail")
    status = await api.ok("GetTrailStatus", Name="my-trail")
    began = MOMENT.timestamp()
    assert status["StartLoggingTime"] == began + 10
    assert status["LatestDeliveryTime"] == began + 20
    assert status["LatestDigestDeliveryTime"] == began + 20
    assert status["StopLoggingTime"] == began + 30
    texts = [
        *("LatestDeliveryAttemptTime", "LatestDeliveryAttemptSucceeded"),
        *("TimeLoggingStarted", "TimeLoggingStopped"),
    ]
    for member in texts:
        assert ISO.match(status[member]), (member, status[member])
    assert status["TimeLoggingStarted"] == "2020-01-01T09:00:10Z"
    assert not {"LatestDeliveryError", "LatestDigestDeliveryError"} & set(status)
    await close(api)


@asynchronous
async def test_the_status_has_the_stores_error_until_success() -> None:
    api = await with_trail(EnableLogFileValidation=True)
    await api.ok("StartLogging", Name="my-trail")
    (stored,) = await api.world.registry.all()
    worker = api.world.deliveries.ensure(stored.trail.uid)
    held = api.world.buckets.objects.pop(BUCKET)
    with pytest.raises(Exception, match="NoSuchBucket"):
        await worker.deliver(flush=True)
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert status["LatestDeliveryError"] == "NoSuchBucket"
    assert "LatestDeliveryTime" not in status
    assert ISO.match(status["LatestDeliveryAttemptTime"])
    assert status["LatestDeliveryAttemptSucceeded"] == ""
    api.world.buckets.objects[BUCKET] = held
    await worker.deliver(flush=True)
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert "LatestDeliveryError" not in status
    assert status["LatestDeliveryTime"]
    await close(api)


@asynchronous
async def test_the_status_covers_the_calls_region() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    await api.ok("StartLogging", Name="my-trail")
    await flush(api)
    asked = {"Name": ARN}
    at_home = await api.ok("GetTrailStatus", **asked)
    elsewhere = await api.ok("GetTrailStatus", **asked, region=OTHER)
    assert "LatestDeliveryTime" not in elsewhere
    assert elsewhere["LatestDeliveryAttemptSucceeded"] == ""
    assert elsewhere["IsLogging"] is True
    api.world.clock.advance(60)
    await events(api, 1, awsRegion=OTHER)
    await flush(api)
    elsewhere = await api.ok("GetTrailStatus", **asked, region=OTHER)
    assert elsewhere["LatestDeliveryTime"] == at_home["LatestDeliveryTime"] + 60
    await close(api)


@asynchronous
async def test_a_shadow_trails_status_needs_its_arn() -> None:
    api = await with_trail(IsMultiRegionTrail=True)
    assert (await api.ok("GetTrailStatus", Name=ARN, region=OTHER))["IsLogging"] is False
    code, _ = await api.error("GetTrailStatus", Name="my-trail", region=OTHER)
    assert code == "TrailNotFoundException"


# Public keys


@asynchronous
async def test_public_key_is_listed_in_the_validators_form() -> None:
    api = Api()
    (key,) = (await api.ok("ListPublicKeys"))["PublicKeyList"]
    signature = await api.world.signer.sign(b"content", key["Fingerprint"])
    public = rsa.PublicKey.load_pkcs1(base64.b64decode(key["Value"]), format="DER")
    assert rsa.verify(b"content", signature, public) == "SHA-256"
    assert re.fullmatch(r"[0-9a-f]{32}", key["Fingerprint"])
    assert key["ValidityStartTime"] <= MOMENT.timestamp() < key["ValidityEndTime"]


@pytest.mark.parametrize(
    ("start", "end", "listed"),
    [
        (0, 1, True),
        (-10, -1, False),
        (-10, 0, True),
        (None, 7_200, True),
        (-86_400, 7_200, True),
        (3_650 * 86_400, None, True),
        (3_651 * 86_400, 3_652 * 86_400, False),
    ],
)
@asynchronous
async def test_keys_valid_in_the_range_are_listed(
    start: float | None, end: float | None, listed: bool
) -> None:
    began = MOMENT.timestamp()
    given = {"StartTime": start, "EndTime": end}
    times = {name: began + seconds for name, seconds in given.items() if seconds is not None}
    answer = await Api().ok("ListPublicKeys", **times)
    assert len(answer["PublicKeyList"]) == int(listed)
    assert "NextToken" not in answer


@asynchronous
async def test_a_reversed_range_of_keys_is_refused() -> None:
    code, _ = await Api().error("ListPublicKeys", StartTime=10, EndTime=9)
    assert code == "InvalidTimeRangeException"
    code, _ = await Api().error("ListPublicKeys", NextToken="no such page")
    assert code == "InvalidTokenException"


# Terraform


@asynchronous
async def test_terraform_reads_back_the_trail_it_created() -> None:
    api = await with_trail(IsMultiRegionTrail=True, EnableLogFileValidation=True)
    await api.ok("StartLogging", Name=ARN)
    (described,) = (await api.ok("DescribeTrails", trailNameList=[ARN]))["trailList"]
    assert described["TrailARN"] == ARN
    assert described["IsMultiRegionTrail"] is True
    assert (await api.ok("GetTrailStatus", Name=ARN))["IsLogging"] is True
    await api.ok("UpdateTrail", Name=ARN, S3BucketName=BUCKET, EnableLogFileValidation=False)
    await api.ok("StopLogging", Name=ARN)
    await api.ok("DeleteTrail", Name=ARN)
    assert await api.ok("DescribeTrails", trailNameList=[ARN]) == {"trailList": []}
    await close(api)


@asynchronous
async def test_times_ignore_fractions_of_a_second() -> None:
    api = await with_trail()
    api.world.clock.moment = MOMENT + timedelta(microseconds=999_999)
    await api.ok("StartLogging", Name="my-trail")
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert int(status["StartLoggingTime"]) == int(MOMENT.timestamp())
    assert status["TimeLoggingStarted"] == "2020-01-01T09:00:00Z"
    await close(api)


# Topics, log groups, keys

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:news"
GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:trail"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/logs"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
EVERYTHING = {
    "S3KeyPrefix": "audit",
    "SnsTopicName": "news",
    "CloudWatchLogsLogGroupArn": f"{GROUP}:*",
    "CloudWatchLogsRoleArn": ROLE,
    "KmsKeyId": "alias/trail",
}


def with_services(api: Api) -> Api:
    services = api.world.services
    services.topics[TOPIC] = []
    services.groups[GROUP] = {}
    services.kms |= {"alias/trail": KEY, KEY: KEY}
    return api


async def with_everything(**settings: Any) -> Api:
    api = with_services(Api())
    given = {"Name": "my-trail", "S3BucketName": BUCKET, **EVERYTHING, **settings}
    await api.ok("CreateTrail", **given)
    return api


@asynchronous
async def test_topic_log_group_role_and_key_are_echoed() -> None:
    api = with_services(Api())
    answer = await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **EVERYTHING)
    expected = {**EVERYTHING, "SnsTopicARN": TOPIC, "KmsKeyId": KEY}
    assert {name: answer[name] for name in expected} == expected
    described = (await api.ok("GetTrail", Name="my-trail"))["Trail"]
    assert {name: described[name] for name in expected} == expected


@asynchronous
async def test_an_update_with_the_same_values_changes_nothing() -> None:
    api = await with_everything()
    before = await api.ok("GetTrail", Name="my-trail")
    described = before["Trail"]
    again = {name: described[name] for name in EVERYTHING}
    await api.ok("UpdateTrail", Name="my-trail", **again)
    assert await api.ok("GetTrail", Name="my-trail") == before


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        ({"S3KeyPrefix": ""}, {"S3KeyPrefix"}),
        ({"SnsTopicName": ""}, {"SnsTopicName", "SnsTopicARN"}),
        ({"KmsKeyId": ""}, {"KmsKeyId"}),
        (
            {"CloudWatchLogsLogGroupArn": "", "CloudWatchLogsRoleArn": ""},
            {"CloudWatchLogsLogGroupArn", "CloudWatchLogsRoleArn"},
        ),
    ],
    ids=["prefix", "topic", "key", "logs"],
)
@asynchronous
async def test_an_empty_text_clears_a_setting(given: dict[str, str], gone: set[str]) -> None:
    api = await with_everything()
    before = (await api.ok("GetTrail", Name="my-trail"))["Trail"]
    answer = await api.ok("UpdateTrail", Name="my-trail", **given)
    after = (await api.ok("GetTrail", Name="my-trail"))["Trail"]
    assert set(before) - set(after) == gone
    assert not gone & set(answer)


@asynchronous
async def test_missing_resources_make_no_trail() -> None:
    for setting, value, expected in (
        ("SnsTopicName", "other", "InsufficientSnsTopicPolicyException"),
        ("SnsTopicName", "a b", "InvalidSnsTopicNameException"),
        ("KmsKeyId", "alias/other", "KmsKeyNotFoundException"),
        ("KmsKeyId", "?", "InvalidKmsKeyIdException"),
        ("CloudWatchLogsRoleArn", "", "InvalidCloudWatchLogsRoleArnException"),
        ("CloudWatchLogsLogGroupArn", "x", "InvalidCloudWatchLogsLogGroupArnException"),
    ):
        api = with_services(Api())
        given = {**EVERYTHING, setting: value}
        code, _ = await api.error("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **given)
        assert code == expected
        assert (await api.ok("ListTrails"))["Trails"] == []
        changed = await with_everything()
        before = await changed.ok("GetTrail", Name="my-trail")
        code, _ = await changed.error("UpdateTrail", Name="my-trail", **{setting: value or "x"})
        assert code == expected
        assert await changed.ok("GetTrail", Name="my-trail") == before


@asynchronous
async def test_a_trail_beyond_the_limit_changes_nothing() -> None:
    api = with_services(Api())
    for number in range(5):
        await api.ok("CreateTrail", Name=f"trail-{number}", S3BucketName=BUCKET)
    code, _ = await api.error("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **EVERYTHING)
    assert code == "MaximumNumberOfTrailsExceededException"
    assert api.world.services.topics[TOPIC] == []
    assert not any(key.startswith("audit/") for key in api.world.buckets.objects[BUCKET])


@asynchronous
async def test_files_are_encrypted_and_announced_from_the_call() -> None:
    api = with_services(await with_trail())
    await api.ok("StartLogging", Name="my-trail")
    before = await events(api, 2)
    await api.ok("UpdateTrail", Name="my-trail", **EVERYTHING)
    after = await events(api, 3)
    await flush(api)
    services = api.world.services
    stream = services.groups[GROUP][f"{ACCOUNT}_CloudTrail_{REGION}"]
    await eventually(lambda: len(stream) == 3 and len(services.topics[TOPIC]) == 2)
    objects = api.world.buckets.objects[BUCKET]
    files = [key for key in objects if key.endswith(".gz")]
    (announced,) = [key for key in files if key.startswith("audit/")]
    assert {objects[key].kms_key for key in files if key != announced} == {""}
    assert objects[announced].kms_key == KEY
    messages = [json.loads(text) for _, text in services.topics[TOPIC][1:]]
    assert messages == [{"s3Bucket": BUCKET, "s3ObjectKey": [announced]}]
    assert [json.loads(event.message)["eventID"] for event in stream] == after
    delivered = (await api.world.verified()).event_ids
    assert set(before + after) <= set(delivered)
    await close(api)


@asynchronous
async def test_the_status_has_notifications_and_log_streams() -> None:
    api = await with_everything()
    await api.ok("StartLogging", Name="my-trail")
    await events(api, 2)
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert "LatestNotificationTime" not in status
    assert status["LatestNotificationAttemptTime"] == ""
    await flush(api)
    services, control = api.world.services, api.world.control
    stream = services.groups[GROUP][f"{ACCOUNT}_CloudTrail_{REGION}"]
    await eventually(lambda: not [kind for kind, _ in control.disk if kind in ("notice", "stream")])
    status = await api.ok("GetTrailStatus", Name="my-trail")
    now = MOMENT.timestamp()
    assert status["LatestNotificationTime"] == now
    assert status["LatestCloudWatchLogsDeliveryTime"] == now
    for name in ("LatestNotificationAttemptTime", "LatestNotificationAttemptSucceeded"):
        assert ISO.match(status[name])
    for error in ("LatestNotificationError", "LatestCloudWatchLogsDeliveryError"):
        assert error not in status
    services.down = "InternalFailure"
    count = len(stream)
    await events(api, 1)
    await flush(api)

    def errors() -> list[str | None]:
        states = ("notice-state", "stream-state")
        found = [text for (kind, _), (_, text) in control.disk.items() if kind in states]
        return [json.loads(text)["error"] for text in found]

    await eventually(lambda: errors() == ["InternalFailure"] * 2)
    status = await api.ok("GetTrailStatus", Name="my-trail")
    assert status["LatestNotificationError"] == "InternalFailure"
    assert status["LatestCloudWatchLogsDeliveryError"] == "InternalFailure"
    assert len(stream) == count
    await close(api)


@asynchronous
async def test_dead_destinations_do_not_delay_each_other() -> None:
    api = await with_everything()
    await api.ok("StartLogging", Name="my-trail")
    services = api.world.services
    services.down = "InternalFailure"
    expected = await events(api, 2)
    await flush(api)
    assert set(expected) <= set((await api.world.verified()).event_ids)
    services.down, api.world.objects.down = None, "SlowDown"
    more = await events(api, 2)
    with pytest.raises(ObjectStoreError):
        await flush(api)
    stream = services.groups[GROUP][f"{ACCOUNT}_CloudTrail_{REGION}"]
    wanted = set(expected + more)
    worker = api.world.deliveries.ensure((await api.world.registry.all())[0].trail.uid)
    for wake in worker.sinks:
        wake.set()
    await eventually(lambda: wanted <= {json.loads(e.message)["eventID"] for e in stream})
    api.world.objects.down = None
    await flush(api)
    await eventually(lambda: len(services.topics[TOPIC]) == 3)
    ids = [json.loads(event.message)["eventID"] for event in stream]
    assert len(ids) == len(set(ids))
    await close(api)
