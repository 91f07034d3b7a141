"""The operations on trails, and public keys of digests."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.organization import not_management_account
from opentrail.core.selectors import Selection
from opentrail.core.trail import (
    Trail,
    check_bucket_name,
    check_prefix,
    check_trail_name,
    epoch,
    read_tags,
    shown_time,
    topic_arn,
    with_tags,
)
from opentrail.trails.outbox import NOTICE, STREAM, SinkStatus, state_kind, status_of
from opentrail.trails.plans import DELIVERY, DeliveryState, state_of

#: Members that UpdateTrail clears if they are empty → their settings.
_TEXTS = {
    "S3KeyPrefix": "prefix",
    "KmsKeyId": "kms_key",
    "CloudWatchLogsLogGroupArn": "log_group",
    "CloudWatchLogsRoleArn": "log_role",
}


@operation("CreateTrail", errors={"TagsList": "InvalidTagParameterException"})
async def create_trail(call: OperationCall) -> Json:
    """Creates a trail, which delivers nothing before StartLogging."""
    arguments = call.input
    check_trail_name(arguments["Name"])
    organization = None
    if arguments.get("IsOrganizationTrail"):
        organization = await call.services.organizations.managed_by(call.account)
    trail = Trail(
        uid=str(uuid.uuid4()),
        name=arguments["Name"],
        account=organization.management_account if organization else call.account,
        home_region=call.region,
        bucket=arguments["S3BucketName"],
        include_global_services=arguments.get("IncludeGlobalServiceEvents", True),
        multi_region=arguments.get("IsMultiRegionTrail", False),
        validation=arguments.get("EnableLogFileValidation", False),
        created_at=call.now(),
        tags=with_tags((), read_tags(arguments.get("TagsList", ()))),
        organization=organization.id if organization else "",
        accounts=tuple(sorted(organization.accounts)) if organization else (),
    )
    trail = await _with_checked_settings(call, trail, None)
    await call.services.trails.add(trail)
    return _settings(trail)


@operation("UpdateTrail")
async def update_trail(call: OperationCall) -> Json:
    """Changes settings of a trail from this call on; delivery continues."""
    arguments = call.input
    stored = await call.trail_to_change(arguments["Name"])
    before = stored.trail
    multi_region = arguments.get("IsMultiRegionTrail", before.multi_region)
    # A multi-Region trail includes global service events; a trail that stops being
    # multi-Region no longer does (cloudtrail-format §8.1).
    default_global = before.include_global_services
    if multi_region != before.multi_region:
        default_global = multi_region
    trail = replace(
        before,
        bucket=arguments.get("S3BucketName") or before.bucket,
        include_global_services=arguments.get("IncludeGlobalServiceEvents", default_global),
        multi_region=multi_region,
        validation=arguments.get("EnableLogFileValidation", before.validation),
    )
    trail = await _with_checked_settings(call, await _with_organization(call, trail), before)
    reconfigured = trail.reconfigured(call.event_id, call.services.journal.head, call.now())
    await call.services.trails.change(stored, reconfigured)
    call.close_span_when_recorded(reconfigured)
    return _settings(trail)


@operation("DeleteTrail")
async def delete_trail(call: OperationCall) -> Json:
    """Deletes a trail; opentrail still delivers the events that it logged until this call."""
    stored = await call.trail_to_change(call.input["Name"])
    closed = replace(stored.trail.stopped(call.event_id, call.now()), deleted=True)
    await call.services.trails.retire(stored, closed)
    call.close_span_when_recorded(closed)
    call.services.deliveries.wake(closed.uid)
    return {}


@operation("GetTrail")
async def get_trail(call: OperationCall) -> Json:
    """Returns one trail by name or ARN."""
    stored = await call.services.trails.find(call.account, call.region, call.input["Name"])
    return {"Trail": _description(stored.trail)}


@operation("DescribeTrails")
async def describe_trails(call: OperationCall) -> Json:
    """Returns the trails of the Region, with shadow trails unless they are excluded.

    An ARN also finds a trail of another Region.
    """
    visible = [t.trail for t in await call.services.trails.visible(call.account, call.region)]
    names = call.input.get("trailNameList")
    if names:
        for name in names:
            if name.startswith("arn:"):
                await _check_arn(call, name)
        visible = [
            stored.trail
            for stored in await call.services.trails.all(call.account)
            if stored.trail.arn in names
            or (
                stored.trail.name in names
                and (stored.trail.account, stored.trail.home_region) == (call.account, call.region)
            )
        ]
    if call.input.get("includeShadowTrails") is False:
        visible = [t for t in visible if t.home_region == call.region or not t.multi_region]
    return {"trailList": [_description(trail) for trail in visible]}


@operation("ListTrails")
async def list_trails(call: OperationCall) -> Json:
    """Returns name, ARN and home Region of the trails that the account sees, in all Regions."""
    trails = [t.trail for t in await call.services.trails.all(call.account)]
    return {
        "Trails": [
            {"TrailARN": trail.arn, "Name": trail.name, "HomeRegion": trail.home_region}
            for trail in trails
        ]
    }


@operation("StartLogging")
async def start_logging(call: OperationCall) -> Json:
    """Starts delivery with the event of this call."""
    stored = await call.trail_to_change(call.input["Name"])
    if not stored.trail.logging:
        started = stored.trail.started(await call.services.journal.newest(), call.now())
        await call.services.trails.change(stored, started)
        call.services.deliveries.ensure(started.uid)
    return {}


@operation("StopLogging")
async def stop_logging(call: OperationCall) -> Json:
    """Stops delivery after the event of this call; event history keeps all events."""
    stored = await call.trail_to_change(call.input["Name"])
    if stored.trail.logging:
        stopped = stored.trail.stopped(call.event_id, call.now())
        await call.services.trails.change(stored, stopped)
        call.close_span_when_recorded(stopped)
    return {}


@operation("GetTrailStatus")
async def get_trail_status(call: OperationCall) -> Json:
    """Returns whether a trail logs, and the results of its deliveries."""
    stored = await call.services.trails.find(call.account, call.region, call.input["Name"])
    trail = stored.trail
    notices, streams = state_kind(NOTICE), state_kind(STREAM)
    stored_states = await call.services.control.get_each((DELIVERY, notices, streams), trail.uid)
    state = state_of(stored_states.get(DELIVERY))
    notified = status_of(stored_states.get(notices))
    streamed = status_of(stored_states.get(streams))
    status: Json = {"IsLogging": trail.logging}
    # In another account or Region, the status describes the files there.
    delivered = state.latest_delivery
    place = replace(trail.home, account=call.account, region=call.region)
    if place != trail.home:
        delivered = state.deliveries.get(place.key)
    for member, moment in (
        ("LatestDeliveryTime", delivered),
        ("LatestNotificationTime", notified.latest),
        ("LatestCloudWatchLogsDeliveryTime", streamed.latest),
        ("StartLoggingTime", trail.started_at),
        ("StopLoggingTime", trail.stopped_at),
        ("LatestDigestDeliveryTime", state.latest_digest),
    ):
        if moment is not None:
            status[member] = epoch(moment)
    for member, error in (
        ("LatestDeliveryError", state.latest_error),
        ("LatestDigestDeliveryError", state.latest_digest_error or _new_chain(trail, state)),
        ("LatestNotificationError", notified.error),
        ("LatestCloudWatchLogsDeliveryError", streamed.error),
    ):
        if error:
            status[member] = error
    status.update(_legacy_status(trail, state, notified, delivered))
    return status


def _new_chain(trail: Trail, state: DeliveryState) -> str | None:
    """Returns the error of a restarted chain, until logging starts again."""
    return "NewDigestChain" if state.is_new_chain_current(trail) else None


def _legacy_status(
    trail: Trail, state: DeliveryState, notified: SinkStatus, delivered: str | None
) -> Json:
    """Returns the string members that AWS has for old clients; unset ones are empty."""
    times = {
        "LatestDeliveryAttemptTime": state.latest_attempt,
        "LatestNotificationAttemptTime": notified.latest_attempt,
        "LatestNotificationAttemptSucceeded": notified.latest,
        "LatestDeliveryAttemptSucceeded": delivered,
        "TimeLoggingStarted": trail.started_at,
        "TimeLoggingStopped": trail.stopped_at,
    }
    return {name: shown_time(time) if time else "" for name, time in times.items()}


@operation("ListPublicKeys")
async def list_public_keys(call: OperationCall) -> Json:
    """Returns the public keys whose validity overlaps the time range (now by default)."""
    start = call.time("StartTime") or call.services.clock.now()
    end = call.time("EndTime") or max(start, call.services.clock.now())
    if start > end:
        raise CloudTrailError(
            "InvalidTimeRangeException", "The start time must not be after the end time."
        )
    if call.input.get("NextToken"):
        raise CloudTrailError("InvalidTokenException", "There are no further pages of keys.")
    keys = [
        {
            "Value": base64.b64encode(key.public_der).decode(),
            "ValidityStartTime": int(key.valid_from.timestamp()),
            "ValidityEndTime": int(key.valid_until.timestamp()),
            "Fingerprint": key.fingerprint,
        }
        for key in await call.services.signer.keys()
        if key.valid_from <= end and key.valid_until >= start
    ]
    return {"PublicKeyList": keys}


async def _with_organization(call: OperationCall, trail: Trail) -> Trail:
    """Returns the trail, made an organization trail or an account's trail as the call requests.

    Only the management account may change one into the other.
    """
    is_wanted = call.input.get("IsOrganizationTrail", bool(trail.organization))
    if is_wanted == bool(trail.organization):
        return trail
    if not is_wanted and call.account == trail.account:
        return replace(trail, organization="", accounts=())
    organization = await call.services.organizations.managed_by(call.account)
    if call.account != organization.management_account:
        raise not_management_account()
    return replace(
        trail, organization=organization.id, accounts=tuple(sorted(organization.accounts))
    )


async def _with_checked_settings(call: OperationCall, trail: Trail, before: Trail | None) -> Trail:
    """Returns the trail with the strings of a call, after checking and testing its settings."""
    texts = {name: call.input[member] for member, name in _TEXTS.items() if member in call.input}
    trail = replace(trail, **texts)
    if "SnsTopicName" in call.input:
        name = call.input["SnsTopicName"]
        arn = topic_arn(name, trail.home_region, call.account) if name else ""
        trail = replace(trail, topic_name=name, topic=arn)
    check_bucket_name(trail.bucket)
    if trail.prefix:
        check_prefix(trail.prefix)
    if trail.multi_region and not trail.include_global_services:
        raise CloudTrailError(
            "InvalidParameterCombinationException",
            "Multi-Region trail must include global service events.",
        )
    if before is None or (trail.multi_region and not before.multi_region):
        await call.services.trails.check_room(trail, is_new=before is None)
    return await call.services.destinations.verify(trail, before, call.account)


async def _check_arn(call: OperationCall, arn: str) -> None:
    try:
        await call.services.trails.find(call.account, call.region, arn)
    except CloudTrailError as error:
        if error.code != "TrailNotFoundException":
            raise


def _settings(trail: Trail) -> Json:
    """Returns the settings in the form that CreateTrail and UpdateTrail return."""
    settings: Json = {"Name": trail.name, "S3BucketName": trail.bucket}
    for member, value in (
        ("S3KeyPrefix", trail.prefix),
        ("SnsTopicName", trail.topic_name),
        ("SnsTopicARN", trail.topic),
        ("CloudWatchLogsLogGroupArn", trail.log_group),
        ("CloudWatchLogsRoleArn", trail.log_role),
        ("KmsKeyId", trail.kms_key),
    ):
        if value:
            settings[member] = value
    settings.update(
        IncludeGlobalServiceEvents=trail.include_global_services,
        IsMultiRegionTrail=trail.multi_region,
        TrailARN=trail.arn,
        LogFileValidationEnabled=trail.validation,
        IsOrganizationTrail=bool(trail.organization),
    )
    return settings


def _description(trail: Trail) -> Json:
    """Returns the Trail shape (cloudtrail-format §8.3)."""
    return {
        **_settings(trail),
        "HomeRegion": trail.home_region,
        "HasCustomEventSelectors": Selection.from_document(trail.selectors).custom,
        "HasInsightSelectors": bool(trail.insight_selectors),
    }


_INVALID = "InvalidParameterException"


@operation("RegisterOrganizationDelegatedAdmin", errors={"MemberAccountId": _INVALID})
async def register_delegated_admin(call: OperationCall) -> Json:
    """Lets a member account manage the organization's trails."""
    await call.services.organizations.register(call.account, call.input["MemberAccountId"])
    return {}


@operation("DeregisterOrganizationDelegatedAdmin", errors={"DelegatedAdminAccountId": _INVALID})
async def deregister_delegated_admin(call: OperationCall) -> Json:
    """Stops a member account from managing the organization's trails."""
    await call.services.organizations.deregister(
        call.account, call.input["DelegatedAdminAccountId"]
    )
    return {}


def resource_not_found(arn: str) -> CloudTrailError:
    """Returns the error of a resource that an account does not have."""
    return CloudTrailError("ResourceNotFoundException", f"Resource {arn} does not exist.")
