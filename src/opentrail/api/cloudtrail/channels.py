"""The operations on channels, and the events that other services send to them."""

from __future__ import annotations

import asyncio
import uuid
from typing import NamedTuple

from opentrail.api.cloudtrail.audit_events import read_audit_event, record_of_audit_event
from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.api.cloudtrail.stores import is_history
from opentrail.core.arns import CHANNEL, STORE, read_cloudtrail_arn
from opentrail.core.channel import CUSTOM, PARTNERS, Channel, IngestionStatus
from opentrail.core.errors import AuditEventRefused, CloudTrailError, RecordRefused
from opentrail.core.event import ACTIVITY, MANAGEMENT, Json, NewEntry, new_event_id
from opentrail.core.trail import as_tag_list, epoch, read_tags, stored_time, with_tags
from opentrail.lake.channel_registry import with_settings
from opentrail.lake.event_history import NAME
from opentrail.lake.store_registry import not_found, wrong_destination

_PAGE = 1_000
_INVALID = "InvalidParameterException"
_TO_STORE = "EVENT_DATA_STORE"
_ERRORS = {"Name": _INVALID, "Destinations": _INVALID}
_CHANNEL_ARN = {"Channel": "ChannelARNInvalidException"}


async def find_channel(call: OperationCall, given: str) -> Channel:
    """Returns the channel that a call names by ARN or id.

    Raises:
        CloudTrailError: as `Channels.find`.
    """
    return await call.services.created_channels.find(call.account, call.region, given)


@operation("CreateChannel", errors={**_ERRORS, "Tags": "InvalidTagParameterException"})
async def create_channel(call: OperationCall) -> Json:
    """Creates a channel, whose events its destinations have."""
    given, source = call.input, call.input["Source"]
    if source != CUSTOM and source not in PARTNERS:
        raise CloudTrailError(
            "InvalidSourceException",
            f"Source must be {CUSTOM} or the name of a partner's source, not {source!r}.",
        )
    channel = Channel(
        id=str(uuid.uuid4()),
        name=given["Name"],
        account=call.account,
        region=call.region,
        source=source,
        stores=_stores_in(call),
        tags=with_tags((), read_tags(given.get("Tags", ()))),
    )
    await call.services.created_channels.add(channel)
    return {**_description(channel), "Tags": as_tag_list(channel.tags)}


@operation("GetChannel", errors=_CHANNEL_ARN)
async def get_channel(call: OperationCall) -> Json:
    """Returns the settings of a channel, and the latest events that it received."""
    channel = await find_channel(call, call.input["Channel"])
    status = await call.services.created_channels.status(channel)
    return {**_description(channel), "IngestionStatus": _ingestion(status) if status else {}}


@operation("ListChannels", errors={"NextToken": "InvalidNextTokenException"})
async def list_channels(call: OperationCall) -> Json:
    """Returns the channels of the account in the Region, by name."""
    channels = call.services.channels
    own = [] if channels is None else await channels.of(call.account, call.region)
    page, following = call.page("channels", own, _PAGE)
    listed = [{"ChannelArn": str(channel.arn), "Name": channel.name} for channel in page]
    return {"Channels": listed, **following}


@operation("UpdateChannel", errors={**_ERRORS, **_CHANNEL_ARN})
async def update_channel(call: OperationCall) -> Json:
    """Changes the name or the destinations of a channel."""
    given = call.input
    if set(given) == {"Channel"}:
        raise CloudTrailError(_INVALID, "At least one setting must be given.")
    channel = await find_channel(call, given["Channel"])
    stores = _stores_in(call) if "Destinations" in given else None
    changed = await call.services.created_channels.change(
        channel, lambda current: with_settings(current, given.get("Name"), stores)
    )
    return _description(changed)


@operation("DeleteChannel", errors=_CHANNEL_ARN)
async def delete_channel(call: OperationCall) -> Json:
    """Removes a channel; the stores keep its events."""
    await call.services.created_channels.remove(await find_channel(call, call.input["Channel"]))
    return {}


def _stores_in(call: OperationCall) -> tuple[str, ...]:
    """Returns the ids of the stores that a call names as destinations.

    Raises:
        CloudTrailError: `InvalidParameterException`, `EventDataStoreARNInvalidException`,
            `EventDataStoreNotFoundException`, or `InvalidEventDataStoreCategoryException`.
    """
    ids: list[str] = []
    for destination in call.input["Destinations"]:
        location = destination["Location"]
        if destination["Type"] != _TO_STORE:
            raise CloudTrailError(_INVALID, f"The type of a destination must be {_TO_STORE}.")
        arn = read_cloudtrail_arn(location)
        if arn is None or arn.type != STORE:
            message = f"{location} is not the ARN of an event data store."
            raise CloudTrailError("EventDataStoreARNInvalidException", message)
        if (arn.account, arn.region) != (call.account, call.region):
            raise not_found(location)
        if is_history(call, location):
            raise wrong_destination(NAME, MANAGEMENT)
        if arn.name in ids:
            raise CloudTrailError(_INVALID, f"Destination {location} is given more than once.")
        ids.append(arn.name)
    return tuple(ids)


def _description(channel: Channel) -> Json:
    arn = channel.arn
    return {
        "ChannelArn": str(arn),
        "Name": channel.name,
        "Source": channel.source,
        "Destinations": [
            {
                "Type": _TO_STORE,
                "Location": f"arn:aws:cloudtrail:{arn.region}:{arn.account}:{STORE}/{store}",
            }
            for store in channel.stores
        ],
    }


def _ingestion(status: IngestionStatus) -> Json:
    succeeded = status.succeeded_at
    members = {
        "LatestIngestionSuccessTime": None if succeeded is None else epoch(succeeded),
        "LatestIngestionSuccessEventID": status.succeeded_id,
        "LatestIngestionErrorCode": status.error_code,
        "LatestIngestionAttemptTime": epoch(status.attempted_at),
        "LatestIngestionAttemptEventID": status.attempted_id,
    }
    return {name: value for name, value in members.items() if value is not None}


# Events


class _Read(NamedTuple):
    """The valid and the invalid events of a request."""

    entries: list[NewEntry]
    successful: list[dict[str, str]]
    failed: list[dict[str, str]]
    status: IngestionStatus


@operation("PutAuditEvents", errors={"channelArn": "InvalidChannelARN"})
async def put_audit_events(call: OperationCall) -> Json:
    """Records the valid events of a request, all at once; they are durable before the answer."""
    channel = await _receiver(call)
    _check_events(call.input["auditEvents"])
    read = await _read(call, channel)
    if read.entries:
        try:
            await call.services.journal.append(read.entries)
        except RecordRefused as error:
            message = f"No event was recorded: {error}."
            raise CloudTrailError("ServiceUnavailable", message, 503) from error
    call.services.created_channels.note(channel, read.status)
    return {"successful": read.successful, "failed": read.failed}


async def _receiver(call: OperationCall) -> Channel:
    """Returns the channel to which a call sends events; it may belong to another account.

    Raises:
        CloudTrailError: `InvalidChannelARN` or `ChannelNotFound`.
    """
    given = call.input["channelArn"]
    arn = read_cloudtrail_arn(given)
    if arn is None or arn.type != CHANNEL:
        raise CloudTrailError("InvalidChannelARN", f"{given} is not the ARN of a channel.")
    channel = await call.services.created_channels.at(arn) if arn.region == call.region else None
    if channel is None:
        raise CloudTrailError("ChannelNotFound", f"Channel {given} does not exist.")
    return channel


def _check_events(events: list[dict[str, str]]) -> None:
    """Checks that the events of a request have different ids.

    Raises:
        CloudTrailError: `DuplicatedAuditEventId`.
    """
    ids: set[str] = set()
    for event in events:
        if event["id"] in ids:
            message = f"The id {event['id']} occurs more than once in the request."
            raise CloudTrailError("DuplicatedAuditEventId", message)
        ids.add(event["id"])


async def _read(call: OperationCall, channel: Channel) -> _Read:
    now, last_success = call.services.clock.now(), None
    entries: list[NewEntry] = []
    successful: list[dict[str, str]] = []
    failed: list[dict[str, str]] = []
    for event in call.input["auditEvents"]:
        event_id = new_event_id()
        try:
            data = read_audit_event(
                event["eventData"], event.get("eventDataChecksum"), channel.account, now
            )
            record = record_of_audit_event(data, channel, event_id, now)
        except AuditEventRefused as error:
            failed.append({"id": event["id"], "errorCode": error.code, "errorMessage": str(error)})
        else:
            place = (channel.account, channel.region)
            entries.append(NewEntry("channel", now, *place, ACTIVITY, event_id, record))
            successful.append({"id": event["id"], "eventID": event_id})
            last_success = event_id
        await asyncio.sleep(0)  # so that recording calls has priority
    at = stored_time(now)
    status = IngestionStatus(
        attempted_at=at,
        attempted_id=event_id,
        succeeded_at=at if last_success else None,
        succeeded_id=last_success,
        error_code=failed[-1]["errorCode"] if failed else None,
    )
    return _Read(entries, successful, failed, status)
