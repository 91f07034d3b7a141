"""The operations on tags of trails, event data stores and channels (cloudtrail-format §8.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from opentrail.api.cloudtrail.channels import find_channel
from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.api.cloudtrail.stores import find_store
from opentrail.api.cloudtrail.trails import resource_not_found
from opentrail.core.arns import CHANNEL, STORE, TRAIL, TYPES, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.trail import Tags, as_tag_list, read_tags, with_tags, without_tags
from opentrail.lake.store_registry import inactive

_MAX_RESOURCES = 20
_ERRORS = {"TagsList": "InvalidTagParameterException"}
_MISSING = (
    *("TrailNotFoundException", "EventDataStoreNotFoundException"),
    "ChannelNotFoundException",
)


@operation("AddTags", errors=_ERRORS)
async def add_tags(call: OperationCall) -> Json:
    """Adds tags to a trail, store or channel; existing keys get new values."""
    added = read_tags(call.input["TagsList"])
    await _change(call, lambda tags: with_tags(tags, added))
    return {}


@operation("RemoveTags", errors=_ERRORS)
async def remove_tags(call: OperationCall) -> Json:
    """Removes the tags with these keys from a trail, store or channel."""
    removed = [str(tag["Key"]) for tag in call.input["TagsList"]]
    await _change(call, lambda tags: without_tags(tags, removed))
    return {}


@operation("ListTags")
async def list_tags(call: OperationCall) -> Json:
    """Returns the tags of up to 20 trails, stores and channels."""
    arns = call.input["ResourceIdList"]
    if len(arns) > _MAX_RESOURCES:
        raise CloudTrailError(
            "InvalidParameterException",
            f"ResourceIdList must have at most {_MAX_RESOURCES} ARNs, not {len(arns)}.",
        )
    if call.input.get("NextToken"):
        raise CloudTrailError("InvalidTokenException", "There are no further pages of tags.")
    return {
        "ResourceTagList": [
            {"ResourceId": arn, "TagsList": as_tag_list(await _tags(call, arn))} for arn in arns
        ]
    }


async def _tags(call: OperationCall, arn: str) -> Tags:
    """Returns the tags of a resource.

    Raises:
        CloudTrailError: as `_type`, or `ResourceNotFoundException`.
    """
    try:
        kind = _type(arn)
        if kind == TRAIL:
            return (await call.services.trails.find(call.account, call.region, arn)).trail.tags
        if kind == CHANNEL:
            return (await find_channel(call, arn)).tags
        return (await find_store(call, arn)).tags
    except CloudTrailError as error:
        raise resource_not_found(arn) if error.code in _MISSING else error from None


async def _change(call: OperationCall, change: Callable[[Tags], Tags]) -> None:
    """Changes the tags of a resource.

    Raises:
        CloudTrailError: as `_tags`, `InactiveEventDataStoreException`,
            `NotOrganizationMasterAccountException`, `InvalidHomeRegionException`.
    """
    arn, services = call.input["ResourceId"], call.services
    try:
        kind = _type(arn)
        if kind == CHANNEL:
            await services.created_channels.change(
                await find_channel(call, arn),
                lambda current: replace(current, tags=change(current.tags)),
            )
            return
        if kind == TRAIL:
            stored = await call.trail_to_change(arn)
            trail = replace(stored.trail, tags=change(stored.trail.tags))
            await services.trails.change(stored, trail)
            return
        store = await find_store(call, arn)
    except CloudTrailError as error:
        raise resource_not_found(arn) if error.code in _MISSING else error from None
    if store.deleted_at is not None:
        raise inactive(store)
    await call.services.created_stores.change(
        store, lambda current: replace(current, tags=change(current.tags))
    )


def _type(arn: str) -> str:
    """Returns the type of a resource that may have tags.

    Raises:
        CloudTrailError: `CloudTrailARNInvalidException`, `ResourceTypeNotSupportedException`, or
            `ResourceNotFoundException`.
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
    if parts.type not in (TRAIL, STORE, CHANNEL):
        raise resource_not_found(arn)
    return parts.type
