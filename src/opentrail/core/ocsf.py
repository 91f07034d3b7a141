"""Events in the form of the Open Cybersecurity Schema Framework: class API Activity, version 1.5.

The members follow OCSF's own example mapping of CloudTrail's records; members without a place there
are in `unmapped`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from opentrail.core.event import (
    ACTIVITY,
    Json,
    as_object,
    flattened,
    format_time,
    micros,
    objects_in,
    parse_time,
)

VERSION = "1.5.0"
_CATEGORY, _CLASS = 6, 6003
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
#: Verb at the start of an event name → activity.
_ACTIVITIES = {
    **dict.fromkeys(("Create", "Put", "Run", "Add", "Allocate", "Import", "Register"), _CREATE),
    **dict.fromkeys(("Delete", "Terminate", "Remove", "Release", "Deregister"), _DELETE),
    **dict.fromkeys(("Get", "List", "Describe", "Head", "Lookup", "Query", "Scan"), _READ),
}
_NAMES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
#: Members of a record that have a dedicated place.
_MAPPED = frozenset(
    {
        *("eventTime", "eventName", "eventSource", "eventVersion", "eventID", "eventType"),
        *("eventCategory", "awsRegion", "recipientAccountId", "sourceIPAddress", "userAgent"),
        *("requestID", "apiVersion", "requestParameters", "responseElements", "errorCode"),
        *("errorMessage", "userIdentity", "vpcEndpointId", "resources"),
    }
)


def ocsf_event(record: Mapping[str, Any]) -> Json:
    """Returns an event of the class API Activity (6003)."""
    record = flattened(record)
    activity = _activity_of(record)
    error = record.get("errorCode") or record.get("errorMessage")
    event_time = str(record["eventTime"])
    event: Json = {
        "activity_id": activity,
        "activity_name": _NAMES[activity],
        "category_uid": _CATEGORY,
        "category_name": "Application Activity",
        "class_uid": _CLASS,
        "class_name": "API Activity",
        "type_uid": _CLASS * 100 + activity,
        "severity_id": 1,
        "status_id": 2 if error else 1,
        "time": _milliseconds(event_time),
        "time_dt": format_time(parse_time(event_time)),
        "metadata": _metadata_of(record),
        "cloud": {
            "provider": "AWS",
            **_given(region=record.get("awsRegion")),
            **_account(record.get("recipientAccountId")),
        },
        "api": _api_of(record),
        "actor": _actor_of(as_object(record.get("userIdentity")), record),
        "src_endpoint": _source_of(record),
        **_given(resources=_resources_of(record)),
        **_given(unmapped={k: v for k, v in record.items() if k not in _MAPPED}),
    }
    if agent := record.get("userAgent"):
        event["http_request"] = {"user_agent": str(agent)}
    return event


def _activity_of(record: Mapping[str, Any]) -> int:
    if record.get("readOnly") is True:
        return _READ
    name = str(record.get("eventName", ""))
    return next((act for verb, act in _ACTIVITIES.items() if name.startswith(verb)), _UPDATE)


def _metadata_of(record: Mapping[str, Any]) -> Json:
    feature = _given(name=record.get("eventCategory"))
    return {
        "version": VERSION,
        "profiles": ["cloud", "datetime"],
        **_given(uid=record.get("eventID"), event_code=record.get("eventType")),
        "product": {
            "name": "CloudTrail",
            "vendor_name": "AWS",
            **_given(version=record.get("eventVersion"), feature=feature),
        },
    }


def _api_of(record: Mapping[str, Any]) -> Json:
    error = record.get("errorCode")
    request = _given(uid=record.get("requestID"), data=as_object(record.get("requestParameters")))
    response = _given(
        data=as_object(record.get("responseElements")),
        error=error,
        message=record.get("errorMessage"),
    )
    # Insights and detections name the API in their details.
    details = as_object(record.get("insightDetails")) or as_object(record.get("detectionDetails"))
    named = {**details, **record}
    return {
        "operation": str(named.get("eventName", "")),
        "service": {"name": str(named.get("eventSource", ""))},
        **_given(version=record.get("apiVersion"), response=response),
        # A request of OCSF has an id.
        **({"request": request} if "uid" in request else {}),
    }


def _actor_of(identity: Mapping[str, Any], record: Mapping[str, Any]) -> Json:
    context = as_object(identity.get("sessionContext"))
    attributes = as_object(context.get("attributes"))
    user = {
        **_given(
            uid=identity.get("arn"),
            name=identity.get("userName"),
            type=identity.get("type"),
            uid_alt=identity.get("principalId"),
            credential_uid=identity.get("accessKeyId"),
        ),
        **_account(identity.get("accountId")),
    }
    session: Json = _given(issuer=as_object(context.get("sessionIssuer")).get("arn"))
    with suppress(KeyError, ValueError):  # imported records may have any string here
        session["created_time"] = _milliseconds(str(attributes["creationDate"]))
    if "mfaAuthenticated" in attributes:
        session["is_mfa"] = attributes["mfaAuthenticated"] == "true"
    federation = as_object(context.get("webIdFederationData"))
    provider = identity.get("identityProvider") or federation.get("federatedProvider")
    actor = _given(session=session, invoked_by=identity.get("invokedBy"))
    if provider:
        actor["idp"] = {"name": str(provider)}
    if record.get("eventCategory") == ACTIVITY and "uid_alt" in user:
        user["name"] = user["uid_alt"]  # such an identity has no other name
    if {"uid", "name", "account"} & user.keys():
        actor["user"] = user
    # An actor of OCSF has at least one of these; without any, it is the source address.
    return (
        actor
        if {"user", "session", "invoked_by"} & actor.keys()
        else {
            **actor,
            "invoked_by": str(record.get("sourceIPAddress") or "unknown"),
        }
    )


def _source_of(record: Mapping[str, Any]) -> Json:
    address = str(record.get("sourceIPAddress") or "unknown")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"domain": address, **_given(uid=record.get("vpcEndpointId"))}
    return {"ip": address, **_given(uid=record.get("vpcEndpointId"))}


def _resources_of(record: Mapping[str, Any]) -> list[Json]:
    resources = record.get("resources")
    listed = objects_in(resources)
    return [
        {
            "uid": str(one["ARN"]),
            **_given(type=one.get("type")),
            **({"owner": _account(one.get("accountId"))} if one.get("accountId") else {}),
        }
        for one in listed
        if one.get("ARN")
    ]


def _account(account: object) -> Json:
    return {"account": {"uid": str(account)}} if account else {}


def _given(**members: Any) -> Json:
    """Returns the members that have a value, as strings."""
    return {
        name: value if isinstance(value, dict | list | bool) else str(value)
        for name, value in members.items()
        if value not in (None, "", {}, [])
    }


def _milliseconds(text: str) -> int:
    return micros(parse_time(text)) // 1000
