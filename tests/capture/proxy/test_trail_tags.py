"""Trails in answers of the Resource Groups Tagging API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.capture.proxy.rewriting import TrailTags
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/"
BUCKET_ARN = "arn:aws:s3:::photos"
THEIRS = {"ResourceARN": BUCKET_ARN, "Tags": [{"Key": "cost", "Value": "7"}]}


class World:
    """An account with two trails, one of them with tags, behind an upstream's answers."""

    def __init__(self) -> None:
        self.api = Api()
        self.tags = TrailTags(self._ask, REGION)

    async def make(self) -> World:
        tags = [{"Key": "cost", "Value": "3"}, {"Key": "team", "Value": "audit"}]
        await self.api.ok("CreateTrail", Name="main", S3BucketName=BUCKET, TagsList=tags)
        await self.api.ok("CreateTrail", Name="bare", S3BucketName=BUCKET)
        other: dict[str, Any] = {"Name": "elsewhere", "S3BucketName": BUCKET, "TagsList": tags}
        await self.api.ok("CreateTrail", region="eu-west-1", **other)
        return self

    async def _ask(self, operation: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = await self.api.call(operation, **given)
        return answer.status, answer.json

    async def merged(
        self, operation: str, answer: Any, status: int = 200, **asked: Any
    ) -> tuple[int, Any] | None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        found = await self.tags.merged(operation, json.dumps(asked).encode(), status, body)
        return None if found is None else (found[0], json.loads(found[1]))

    async def tags_of(self, name: str) -> dict[str, str]:
        listed = await self.api.ok("ListTags", ResourceIdList=[ARN + name])
        (one,) = listed["ResourceTagList"]
        return {tag["Key"]: tag["Value"] for tag in one["TagsList"]}


def arns(found: tuple[int, Any] | None) -> list[str]:
    assert found is not None
    return [each["ResourceARN"] for each in found[1]["ResourceTagMappingList"]]


@asynchronous
async def test_tagged_trails_are_among_their_regions_resources() -> None:
    world = await World().make()
    theirs = {"PaginationToken": "", "ResourceTagMappingList": [THEIRS]}
    tags = [{"Key": "cost", "Value": "3"}, {"Key": "team", "Value": "audit"}]
    assert await world.merged("GetResources", theirs) == (
        200,
        {
            "PaginationToken": "",
            "ResourceTagMappingList": [THEIRS, {"ResourceARN": ARN + "main", "Tags": tags}],
        },
    )


@pytest.mark.parametrize(
    ("asked", "is_found"),
    [
        ({"ResourceTypeFilters": ["cloudtrail"]}, True),
        ({"ResourceTypeFilters": ["s3", "cloudtrail:trail"]}, True),
        ({"ResourceTypeFilters": ["s3"]}, False),
        ({"TagFilters": [{"Key": "cost"}]}, True),
        ({"TagFilters": [{"Key": "cost", "Values": ["3", "4"]}]}, True),
        ({"TagFilters": [{"Key": "cost", "Values": ["4"]}]}, False),
        ({"TagFilters": [{"Key": "cost"}, {"Key": "none"}]}, False),
        ({"ResourceARNList": [ARN + "main"]}, True),
        ({"ResourceARNList": [ARN + "bare"]}, False),
    ],
)
@asynchronous
async def test_trails_are_filtered_as_the_call_asks(asked: dict[str, Any], is_found: bool) -> None:
    world = await World().make()
    theirs: Any = {"PaginationToken": "", "ResourceTagMappingList": []}
    found = arns(await world.merged("GetResources", theirs, **asked))
    assert found == ([ARN + "main"] if is_found else [])


@asynchronous
async def test_keys_and_values_of_both_are_merged() -> None:
    world = await World().make()
    keys = await world.merged("GetTagKeys", {"PaginationToken": "", "TagKeys": ["cost", "stage"]})
    assert keys == (200, {"PaginationToken": "", "TagKeys": ["cost", "stage", "team"]})
    theirs = {"PaginationToken": "", "TagValues": ["7"]}
    values = await world.merged("GetTagValues", theirs, Key="cost")
    assert values == (200, {"PaginationToken": "", "TagValues": ["3", "7"]})


@asynchronous
async def test_trails_are_on_the_last_page() -> None:
    world = await World().make()
    page = {"PaginationToken": "more", "ResourceTagMappingList": [THEIRS]}
    assert await world.merged("GetResources", page) is None


@pytest.mark.parametrize(
    ("status", "answer", "is_absent"),
    [
        (404, b"<html>", True),
        (405, b"<Error><Code>MethodNotAllowed</Code></Error>", True),
        (400, {"__type": "UnknownOperationException"}, True),
        (501, {"__type": "InternalFailure", "message": "API action not implemented"}, True),
        (400, {"__type": "InvalidParameterException"}, False),
        (403, {"__type": "UnknownSomethingException"}, False),
        (503, b"", False),
    ],
)
@asynchronous
async def test_an_upstream_without_the_api_has_no_resources(
    status: int, answer: Any, is_absent: bool
) -> None:
    world = await World().make()
    found = await world.merged("GetResources", answer, status)
    if is_absent:
        assert arns(found) == [ARN + "main"]
    else:
        assert found is None


@asynchronous
async def test_trails_are_tagged_together_with_upstream_resources() -> None:
    world = await World().make()
    unknown = {"StatusCode": 404, "ErrorCode": "InternalServiceException", "ErrorMessage": "no"}
    theirs = {"FailedResourcesMap": {ARN + "main": unknown, "arn:aws:s3:::x": unknown}}
    named = [BUCKET_ARN, "arn:aws:s3:::x", ARN + "main", ARN + "missing"]
    found = await world.merged(
        "TagResources", theirs, ResourceARNList=named, Tags={"cost": "9", "new": "x"}
    )
    assert found is not None
    failed = found[1]["FailedResourcesMap"]
    assert set(failed) == {"arn:aws:s3:::x", ARN + "missing"}
    assert failed["arn:aws:s3:::x"] == unknown
    assert failed[ARN + "missing"]["ErrorCode"] == "InvalidParameterException"
    assert await world.tags_of("main") == {"cost": "9", "team": "audit", "new": "x"}
    removed = await world.merged(
        "UntagResources", b"", 500, ResourceARNList=[ARN + "main"], TagKeys=["cost", "none"]
    )
    assert removed == (200, {"FailedResourcesMap": {}})
    assert await world.tags_of("main") == {"team": "audit", "new": "x"}


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (200, [BUCKET_ARN]),
        (403, [ARN + "main"]),
        (400, [ARN + "main", BUCKET_ARN]),
        (200, "arn:aws:cloudtrail:us-east-1:1:trail/x"),
        (200, [7, None]),
    ],
)
@asynchronous
async def test_change_that_the_upstream_refuses_changes_no_trail(status: int, named: Any) -> None:
    world = await World().make()
    asked = {"ResourceARNList": named, "Tags": {"cost": "9"}}
    assert await world.merged("TagResources", {"FailedResourcesMap": {}}, status, **asked) is None
    assert (await world.tags_of("main"))["cost"] == "3"


@asynchronous
async def test_change_of_too_many_resources_changes_no_trail() -> None:
    world = await World().make()
    asked: dict[str, Any] = {"Tags": {"a": "b"}, "ResourceARNList": [ARN + "main"] * 21}
    assert await world.merged("TagResources", {"FailedResourcesMap": {}}, **asked) is None
    assert "a" not in await world.tags_of("main")


@asynchronous
async def test_other_values_stay_unchanged() -> None:
    world = await World().make()
    for asked in (b"", b"[]", b"{"):
        assert await world.tags.merged("GetResources", asked, 200, b"{}") is None
    assert await world.tags.merged("GetResources", b"{}", 200, b"[") is None
