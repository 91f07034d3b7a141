"""Whether a call had the permissions that it needed, and why it was denied, from its record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from opentrail.core.event import Record, as_object
from opentrail.permissions.event_actions import ACTION_NAME, actions_of

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
    """The outcome of a call with respect to permissions."""

    ALLOWED = "allowed"
    DENIED = "denied"
    #: It failed for another reason, possibly before the permission check.
    FAILED = "failed"
    #: Of a service itself, or no call of an API: it needs no permission.
    NO_CALL = "no call"


def outcome_of(record: Mapping[str, Any]) -> CallOutcome:
    """Returns the outcome of a call."""
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


Verdict = Literal["explicit deny", "no policy allows it", "not recorded", "not denied"]

_POLICY_TYPES = (
    "identity-based policy",
    "permissions boundary",
    "resource-based policy",
    "resource control policy",
    "role trust policy",
    "service control policy",
    "session policy",
    "VPC endpoint policy",
)
# All are at the end of a message, since names that callers chose come before it. The forms are in
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_ENCODED = re.compile(r"Encoded authorization failure message:\s*+[\w-]*+\.?\s*+\Z")
_EXPLICIT = re.compile(
    rf"with an explicit deny in an? (?P<type>{'|'.join(_POLICY_TYPES)})(?:: arn:\S+)?\.?\s*\Z", re.I
)
_NOT_ALLOWED = re.compile(
    rf"because no (?P<type>{'|'.join(_POLICY_TYPES)}) allows the \S+ action\.?\s*\Z", re.I
)
# The caller's ARN has no spaces.
_ACTION = re.compile(
    r"(?:You are not authorized to perform this operation\. )?User(?:: \S+)? is not authorized to"
    r" perform:? (?P<action>[a-z0-9-]{1,60}:[A-Za-z0-9]{1,100})(?: on resource: (?P<resource>\S+))?"
)


@dataclass(frozen=True, slots=True)
class Denial:
    """The reason that a record gives for denying its call."""

    verdict: Verdict
    #: The needed permission, such as `iam:CreateUser`; None: unknown.
    action: str | None
    #: Whether the error message names the action; else it was derived from the event's name.
    is_action_recorded: bool
    #: The kind of policy that decided; None: not recorded.
    policy_type: str | None
    #: The resource in the error message.
    resource: str | None
    #: Changes needed to allow the call, or information missing from the record.
    missing: tuple[str, ...]


def explain(record: Record) -> Denial:
    """Returns why a call was denied."""
    message = str(record.get("errorMessage") or "")
    named = _ACTION.match(message)
    action = named["action"] if named else _action_of(record)
    resource = named["resource"] if named else None
    if not is_denied(record):
        return Denial("not denied", action, named is not None, None, resource, ())
    plain = _ENCODED.sub("", message.rstrip()).rstrip()
    explicit, not_allowed = _EXPLICIT.search(plain), _NOT_ALLOWED.search(plain)
    of_policy = explicit or not_allowed
    policy_type = _policy_type(of_policy["type"]) if of_policy else None
    verdict: Verdict = "not recorded"
    missing: list[str] = []
    if explicit:
        verdict = "explicit deny"
        missing.append(
            f"A statement of one {policy_type} denies the action. A statement that allows it does"
            " not help: the denying one must be narrowed or removed."
        )
    elif not_allowed:
        verdict = "no policy allows it"
        missing.append(f"No {policy_type} has a statement that allows the action.")
    else:
        missing.append("The record does not say which policy decided, nor whether one denies it.")
    if not named and action:
        missing.append("The action is derived from the name of the event; it may have another.")
    if plain != message.rstrip():
        missing.append(
            "The error message has an encoded part, which sts:DecodeAuthorizationMessage decodes."
        )
    return Denial(verdict, action, named is not None, policy_type, resource, tuple(missing))


def _policy_type(text: str) -> str:
    return next(known for known in _POLICY_TYPES if known.lower() == text.lower())


def _action_of(record: Mapping[str, Any]) -> str | None:
    """Returns the first permission that a call needs; None if its names are no names."""
    actions = actions_of(record)
    return actions[0] if actions and ACTION_NAME.fullmatch(actions[0]) else None
