"""Whether a record is of a call that needed permission, and whether it had it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from opentrail.core.event import as_object

#: Error codes of calls that were denied, without the prefix `Client.` of EC2.
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "Forbidden",
        "ForbiddenException",
        "NotAuthorized",
        "NotAuthorizedException",
        "UnauthorizedAccess",
        "UnauthorizedException",
        "UnauthorizedOperation",
        "VpceAccessDenied",
    }
)


class CallOutcome(Enum):
    """What came of a call, as far as permissions go."""

    ALLOWED = "allowed"
    DENIED = "denied"
    #: It failed for another reason, perhaps before its permission was checked.
    FAILED = "failed"
    #: Of a service itself, or no call of an API: it needs no permission.
    NO_CALL = "no call"


def outcome_of(record: Mapping[str, Any]) -> CallOutcome:
    """Returns what came of a call."""
    identity = as_object(record.get("userIdentity"))
    if (
        record.get("eventType", "AwsApiCall") != "AwsApiCall"
        or identity.get("type") == "AWSService"
    ):
        return CallOutcome.NO_CALL
    code = record.get("errorCode")
    if not code:
        return CallOutcome.ALLOWED
    return CallOutcome.DENIED if is_denied(record) else CallOutcome.FAILED


def is_denied(record: Mapping[str, Any]) -> bool:
    """Returns whether a call lacked a permission."""
    return str(record.get("errorCode") or "").removeprefix("Client.") in _DENIED
