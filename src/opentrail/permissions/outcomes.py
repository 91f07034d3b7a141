"""Whether a record is of a call that needed permission, and whether it had it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from opentrail.core.event import as_object
from opentrail.core.insight_types import DENIED


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
    is_denied = any(fnmatchcase(str(code), pattern) for pattern in DENIED)
    return CallOutcome.DENIED if is_denied else CallOutcome.FAILED
