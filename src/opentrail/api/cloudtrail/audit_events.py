"""Events of other services: checks of what a channel receives, and their records.

Source: "PutAuditEvents" of the API Reference; "CloudTrail Lake integrations event schema" of the
User Guide. An invalid event is refused, never truncated.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from opentrail.core.channel import Channel
from opentrail.core.errors import AuditEventRefused
from opentrail.core.event import ACTIVITY, Json, format_time
from opentrail.core.secrets.embedded import search_limit, without_secrets

#: Version of the form of the records.
AUDIT_EVENT_VERSION = "1.0"
#: Maximum bytes of an event's `eventData`.
_MAX_EVENT_BYTES = 256 * 1_024
#: Required members of `eventData` that are strings → maximum characters.
_REQUIRED = {
    "version": 256,
    "eventSource": 1_024,
    "eventName": 1_024,
    "eventTime": 64,
    "UID": 1_024,
    "recipientAccountId": 64,
}
_OPTIONAL = {"userAgent": 1_024, "errorCode": 256, "errorMessage": 256, "sourceIPAddress": 64}
_IDENTITY = {"type": 128, "principalId": 1_024}
#: Members that are objects → maximum bytes of their JSON.
_OBJECTS = {
    "requestParameters": 100 * 1_024,
    "responseElements": 100 * 1_024,
    "additionalEventData": 28 * 1_024,
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII)
#: Event sources: no letters that look like others, and no blanks around them.
_SOURCE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
#: Parts of the event sources of AWS and of opentrail.
_RESERVED_SOURCES = ("amazonaws", "opentrail.internal")
#: An event's earliest time, and how far it may be ahead of the server's clock.
_EARLIEST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_AHEAD = timedelta(days=1)


def read_audit_event(text: str, checksum: str | None, account: str, now: datetime) -> Json:
    """Returns the `eventData` of an event.

    Args:
        text: the JSON that the caller sent.
        checksum: base64 of its SHA-256, if the caller sent it.
        account: the owner of the channel.
        now: the time.

    Raises:
        AuditEventRefused: the event is invalid.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise AuditEventRefused("InvalidData", "eventData is not valid Unicode.") from error
    if checksum is not None:
        expected = base64.b64encode(hashlib.sha256(raw).digest()).decode()
        if checksum != expected:
            raise AuditEventRefused(
                "InvalidChecksum", "eventDataChecksum is not base64 of the SHA-256 of eventData."
            )
    if len(raw) > _MAX_EVENT_BYTES:
        raise _too_long("eventData", f"{_MAX_EVENT_BYTES} bytes")
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise AuditEventRefused("InvalidData", f"eventData is not JSON: {error}.") from error
    if not isinstance(event, dict):
        raise AuditEventRefused("InvalidData", "eventData must be a JSON object.")
    _check_members(event)
    if not _EARLIEST_TIME <= _read_time(event["eventTime"]) <= now + _MAX_AHEAD:
        raise _wrong("eventTime", "between 1970 and one day from now")
    if event["recipientAccountId"] != account:
        raise AuditEventRefused(
            "InvalidRecipient", f"recipientAccountId must be {account}, the owner of the channel."
        )
    return event


def _check_members(event: Json) -> None:
    _check_identity(event.get("userIdentity"))
    _check_texts(event, _REQUIRED, "", required=True)
    _check_texts(event, _OPTIONAL, "", required=False)
    for name, limit in _OBJECTS.items():
        if event.get(name) is None:
            continue
        if not isinstance(event[name], dict):
            raise _wrong(name, "a JSON object")
        if len(_to_bytes(event[name])) > limit:
            raise _too_long(name, f"{limit} bytes")
    _check_source(event["eventSource"])
    _check_address(event.get("sourceIPAddress"))


def _check_source(source: str) -> None:
    if _SOURCE.fullmatch(source) is None:
        message = "eventSource must be printable ASCII without blanks at its ends."
        raise AuditEventRefused("InvalidEventSource", message)
    for reserved in _RESERVED_SOURCES:
        if reserved in source.lower():
            message = f"eventSource must not contain {reserved}, which is reserved."
            raise AuditEventRefused("InvalidEventSource", message)


def _check_identity(identity: Any) -> None:
    if identity is None:
        raise _missing("userIdentity")
    if not isinstance(identity, dict):
        raise _wrong("userIdentity", "a JSON object")
    _check_texts(identity, _IDENTITY, "userIdentity.", required=True)
    if not isinstance(identity.get("details"), dict | None):
        raise _wrong("userIdentity.details", "a JSON object")


def _check_address(address: str | None) -> None:
    if address is None:
        return
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise _wrong("sourceIPAddress", "an IPv4 or IPv6 address") from error


def _check_texts(
    owner: Mapping[str, Any], limits: Mapping[str, int], place: str, *, required: bool
) -> None:
    for name, limit in limits.items():
        value = owner.get(name)
        if value is None:
            if required:
                raise _missing(place + name)
            continue
        if not isinstance(value, str):
            raise _wrong(place + name, "a string")
        if required and not value:
            raise _missing(place + name)
        if len(value) > limit:
            raise _too_long(place + name, f"{limit} characters")


def _read_time(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong("eventTime", "a time like 2020-01-01T09:00:00Z") from error


def record_of_audit_event(event: Json, channel: Channel, event_id: str, now: datetime) -> bytes:
    """Returns the record of an event that `read_audit_event` returned, without its secrets.

    Raises:
        AuditEventRefused: the event is nested too deeply.
    """
    record = {
        "eventVersion": AUDIT_EVENT_VERSION,
        "eventCategory": ACTIVITY,
        "eventType": "ActivityLog",
        "eventID": event_id,
        "eventTime": format_time(_read_time(event["eventTime"])),
        "awsRegion": channel.region,
        "recipientAccountId": channel.account,
        "metadata": {"ingestionTime": format_time(now), "channelARN": str(channel.arn)},
    }
    try:
        with search_limit():
            record["eventData"] = without_secrets(event)
    except RecursionError as error:
        raise _nested() from error
    return _to_bytes(record)


def _to_bytes(value: Any) -> bytes:
    try:
        # A copy: orjson's own bytes would pin the memory around them.
        return bytes(memoryview(orjson.dumps(value)))
    except TypeError as error:  # orjson's error is one
        raise _nested() from error


def _nested() -> AuditEventRefused:
    return AuditEventRefused("InvalidData", "eventData is nested too deeply.")


def _missing(name: str) -> AuditEventRefused:
    return AuditEventRefused("FieldNotFound", f"eventData must have {name}.")


def _wrong(name: str, expected: str) -> AuditEventRefused:
    return AuditEventRefused("InvalidData", f"{name} must be {expected}.")


def _too_long(name: str, limit: str) -> AuditEventRefused:
    return AuditEventRefused("FieldTooLong", f"{name} must have at most {limit}.")
