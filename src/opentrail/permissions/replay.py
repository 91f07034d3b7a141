"""What a policy would have decided about past calls, and which of its actions they used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from opentrail.core.event import as_object
from opentrail.core.policies import AccessRequest, Caller, Outcome, Policy, decide
from opentrail.core.policies.document import Statement
from opentrail.core.policies.patterns import may_overlap, meant_by
from opentrail.permissions.needs import (
    RECORDED_KEYS,
    NeededPermission,
    Needs,
    context_of,
    needs_of,
)
from opentrail.permissions.resources import EVERYTHING, account_of


class Judgement(Enum):
    """What a policy would have decided."""

    ALLOWED = "allowed"
    DENIED = "denied"
    #: It depends on what the record does not say, such as tags or the age of an MFA sign-in.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement about a call; for a call that is not allowed, about what, and why."""

    judgement: Judgement
    permission: NeededPermission | None = None
    reason: str = ""


def verdict_on(record: Mapping[str, Any], policies: Sequence[Policy]) -> Verdict:
    """Returns what policies attached to the caller, and nothing else, would have decided."""
    needs, unknown = needs_of(record), None
    for permission in needs.permissions:
        verdict = _verdict(record, permission, policies)
        if verdict.judgement is Judgement.DENIED:
            return verdict
        if verdict.judgement is Judgement.UNKNOWN:
            unknown = unknown or verdict
    return unknown or _open_verdict(needs) or Verdict(Judgement.ALLOWED)


def _open_verdict(needs: Needs) -> Verdict | None:
    """Returns the verdict on a call of which it is not known what it needs; None of others."""
    if needs.unverified:
        permission = NeededPermission(needs.unverified[0], EVERYTHING)
        reason = "AWS's authorization data does not have the action"
        return Verdict(Judgement.UNKNOWN, permission, reason)
    if needs.open:
        reason = needs.open[0] or "the record does not say what the call needs"
        return Verdict(Judgement.UNKNOWN, None, reason)
    return None


def request_of(record: Mapping[str, Any], permission: NeededPermission) -> AccessRequest:
    """Returns what policies are asked about a permission that a call needs."""
    account = account_of(record)
    arn = as_object(record.get("userIdentity")).get("arn")
    caller = Caller(account, str(arn) if arn else None)
    context = context_of(record, permission)
    return AccessRequest(caller, permission.action, asked_of(permission), account, context)


def asked_of(permission: NeededPermission) -> str:
    """Returns the resource that policies are asked about."""
    resource = permission.resource
    return meant_by(resource) if permission.is_unnamed else resource


def _verdict(
    record: Mapping[str, Any], permission: NeededPermission, policies: Sequence[Policy]
) -> Verdict:
    request = request_of(record, permission)
    decision = decide(request, policies, None)
    if key := _deciding_key(request, policies, decision.statement, decision.outcome):
        return Verdict(Judgement.UNKNOWN, permission, f"the record does not have {key}")
    if decision.is_allowed:
        return Verdict(Judgement.ALLOWED)
    is_denied_by_none = decision.outcome is Outcome.IMPLICIT_DENY
    if permission.is_unnamed and is_denied_by_none and _may_allow(permission, policies):
        return Verdict(Judgement.UNKNOWN, permission, "the record does not name it")
    return Verdict(Judgement.DENIED, permission, decision.reason(permission.action))


def _may_allow(permission: NeededPermission, policies: Sequence[Policy]) -> bool:
    """Returns whether policies allow some of the resources that a permission may be about."""
    statements = (each for policy in policies for each in policy.about(permission.action))
    return any(
        statement.is_not_resource
        or any(may_overlap(stated, permission.resource) for stated in statement.stated_resources)
        for statement in statements
        if not statement.is_deny
    )


def _deciding_key(
    request: AccessRequest,
    policies: Sequence[Policy],
    decisive: Statement | None,
    outcome: Outcome,
) -> str | None:
    """Returns a condition key that the record does not have, and that may change the outcome."""
    if decisive is not None:
        if keys := _unknown_keys(decisive):
            return keys[0]
        if outcome is Outcome.EXPLICIT_DENY:
            return None
    # Another statement might deny, or, where none allows, allow.
    for policy in policies:
        for statement in policy.about(request.action):
            may_change = statement.is_deny or outcome is Outcome.IMPLICIT_DENY
            if not may_change or not statement.is_about_resource(request):
                continue
            failed = [stated.key.lower() for stated in statement.failed_conditions(request)]
            if failed and not RECORDED_KEYS.intersection(failed):
                return failed[0]
    return None


def _unknown_keys(statement: Statement) -> list[str]:
    keys = [stated.key.lower() for stated in statement.stated_conditions]
    return [key for key in keys if key not in RECORDED_KEYS]
