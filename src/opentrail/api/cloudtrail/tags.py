"""The operations on tags (cloudtrail-format §8.4)."""

from __future__ import annotations

from dataclasses import replace

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.arns import TRAIL, TYPES, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.resource_tags import as_tag_list, read_tags, with_tags, without_tags
from opentrail.trails.registry import StoredTrail

_MAX_RESOURCES = 20
_ERRORS = {"TagsList": "InvalidTagParameterException"}


@operation("AddTags", errors=_ERRORS)
async def add_tags(call: OperationCall) -> Json:
    """Adds tags to a trail; those with keys that it has already get new values."""
    added = read_tags(call.input["TagsList"])
    stored = await _find_tagged(call, call.input["ResourceId"], to_change=True)
    trail = replace(stored.trail, tags=with_tags(stored.trail.tags, added))
    await call.services.trails.change(stored, trail)
    return {}


@operation("RemoveTags", errors=_ERRORS)
async def remove_tags(call: OperationCall) -> Json:
    """Removes the tags with these keys from a trail."""
    removed = [str(tag["Key"]) for tag in call.input["TagsList"]]
    stored = await _find_tagged(call, call.input["ResourceId"], to_change=True)
    trail = replace(stored.trail, tags=without_tags(stored.trail.tags, removed))
    await call.services.trails.change(stored, trail)
    return {}


@operation("ListTags")
async def list_tags(call: OperationCall) -> Json:
    """Returns the tags of up to 20 trails."""
    arns = call.input["ResourceIdList"]
    if len(arns) > _MAX_RESOURCES:
        raise CloudTrailError(
            "InvalidParameterException",
            f"ResourceIdList must have at most {_MAX_RESOURCES} ARNs, not {len(arns)}.",
        )
    if call.input.get("NextToken"):
        raise CloudTrailError("InvalidTokenException", "There are no further pages of tags.")
    trails = [(arn, await _find_tagged(call, arn, to_change=False)) for arn in arns]
    return {
        "ResourceTagList": [
            {"ResourceId": arn, "TagsList": as_tag_list(stored.trail.tags)}
            for arn, stored in trails
        ]
    }


async def _find_tagged(call: OperationCall, arn: str, to_change: bool) -> StoredTrail:
    """Returns the trail with an ARN.

    Raises:
        CloudTrailError: `CloudTrailARNInvalidException`, `ResourceTypeNotSupportedException`,
            `ResourceNotFoundException`, `NotOrganizationMasterAccountException`,
            `InvalidHomeRegionException`.
    """
    parts = read_cloudtrail_arn(arn)
    if parts is None:
        raise CloudTrailError(
            "CloudTrailARNInvalidException", f"ResourceId {arn!r} is not the ARN of a resource."
        )
    if parts.type not in TYPES:
        raise CloudTrailError(
            "ResourceTypeNotSupportedException", f"Resources of type {parts.type} have no tags."
        )
    try:
        if parts.type == TRAIL and to_change:
            return await call.trail_to_change(arn)
        if parts.type == TRAIL:
            return await call.services.trails.find(call.account, call.region, arn)
    except CloudTrailError as error:
        if error.code != "TrailNotFoundException":
            raise
    raise resource_not_found(arn)


def resource_not_found(arn: str) -> CloudTrailError:
    """Returns the error of a resource that an account does not have."""
    return CloudTrailError("ResourceNotFoundException", f"Resource {arn} does not exist.")
