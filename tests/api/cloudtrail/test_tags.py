"""The operations on tags: effects, answers, errors (cloudtrail-format §8.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"


def tags(**given: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given.items()]


async def with_trail(**settings: Any) -> Api:
    api = Api()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, **settings)
    return api


async def listed(api: Api, arn: str = ARN, **given: Any) -> list[dict[str, str]]:
    (found,) = (await api.ok("ListTags", ResourceIdList=[arn], **given))["ResourceTagList"]
    assert found["ResourceId"] == arn
    tags: list[dict[str, str]] = found["TagsList"]
    return tags


@asynchronous
async def test_a_new_trail_has_its_tags() -> None:
    assert await listed(await with_trail()) == []
    api = await with_trail(TagsList=tags(team="audit", stage="test"))
    assert await listed(api) == tags(stage="test", team="audit")


@asynchronous
async def test_tags_are_added_replaced_and_removed() -> None:
    api = await with_trail(TagsList=tags(team="audit", stage="test"))
    assert await api.ok("AddTags", ResourceId=ARN, TagsList=tags(stage="live", cost="7")) == {}
    assert await listed(api) == tags(cost="7", stage="live", team="audit")
    removed = [{"Key": "team"}, {"Key": "cost", "Value": "other"}, {"Key": "never"}]
    assert await api.ok("RemoveTags", ResourceId=ARN, TagsList=removed) == {}
    assert await listed(api) == tags(stage="live")


@asynchronous
async def test_updates_leave_tags_unchanged() -> None:
    api = await with_trail(TagsList=tags(team="audit"))
    await api.ok("UpdateTrail", Name="my-trail", S3KeyPrefix="audit")
    await api.ok("StartLogging", Name="my-trail")
    assert await listed(api) == tags(team="audit")
    await api.world.deliveries.stop()


@asynchronous
async def test_tags_are_listed_everywhere_and_changed_at_home() -> None:
    api = await with_trail(TagsList=tags(team="audit"))
    assert await listed(api, region="eu-west-1") == tags(team="audit")
    for operation in ("AddTags", "RemoveTags"):
        code, _ = await api.error(
            operation, ResourceId=ARN, TagsList=tags(a="b"), region="eu-west-1"
        )
        assert code == "InvalidHomeRegionException"


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        ("my-trail", "CloudTrailARNInvalidException"),
        ("arn:aws:s3:::bucket", "CloudTrailARNInvalidException"),
        (ARN.replace("my-trail", "other"), "ResourceNotFoundException"),
        (ARN.replace(ACCOUNT, "210987654321"), "ResourceNotFoundException"),
        (ARN.replace("trail/", "channel/"), "ResourceNotFoundException"),
        (ARN.replace("trail/", "query/"), "ResourceTypeNotSupportedException"),
    ],
)
@asynchronous
async def test_untagged_resources_are_named(arn: str, code: str) -> None:
    api = await with_trail()
    assert (await api.error("ListTags", ResourceIdList=[arn]))[0] == code
    for operation in ("AddTags", "RemoveTags"):
        found, message = await api.error(operation, ResourceId=arn, TagsList=tags(a="b"))
        assert found == code
        assert arn in message or "no tags" in message


@asynchronous
async def test_wrong_tags_change_nothing() -> None:
    api = await with_trail(TagsList=tags(team="audit"))
    for wrong in (tags(**{"aws:x": "1"}), [*tags(a="1"), *tags(a="2")], tags(a="b#c")):
        code, _ = await api.error("AddTags", ResourceId=ARN, TagsList=wrong)
        assert code == "InvalidTagParameterException"
        code, _ = await api.error("CreateTrail", Name="second", S3BucketName=BUCKET, TagsList=wrong)
        assert code == "InvalidTagParameterException"
    many = tags(**{f"k{n}": "v" for n in range(50)})
    code, _ = await api.error("AddTags", ResourceId=ARN, TagsList=many)
    assert code == "TagsLimitExceededException"
    assert await listed(api) == tags(team="audit")
    assert len((await api.ok("ListTrails"))["Trails"]) == 1


@asynchronous
async def test_a_call_lists_at_most_twenty_resources() -> None:
    api = await with_trail()
    code, _ = await api.error("ListTags", ResourceIdList=[ARN] * 21)
    assert code == "InvalidParameterException"
    code, _ = await api.error("ListTags", ResourceIdList=[ARN], NextToken="x")
    assert code == "InvalidTokenException"
