"""Decisions that policies would have made about past calls, and the actions used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from opentrail.core.event import Json, as_object
from opentrail.core.policies import AccessRequest, Caller, Outcome, Policy, decide, parse_policies
from opentrail.core.policies.document import Statement
from opentrail.core.policies.patterns import may_overlap, meant_by
from opentrail.permissions.generate import CallKind, GeneratedPolicy
from opentrail.permissions.needs import (
    RECORDED_KEYS,
    NeededPermission,
    Needs,
    context_of,
    needs_of,
    permissions_of,
)
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from opentrail.permissions.resource_arns import EVERYTHING, account_of


class Judgement(Enum):
    """A policy's decision about a past call."""

    ALLOWED = "allowed"
    DENIED = "denied"
    #: The verdict depends on facts outside the record, such as tags or the age of an MFA sign-in.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement about a call; unless it is allowed, with the permission and the reason."""

    judgement: Judgement
    permission: NeededPermission | None = None
    reason: str = ""


def verdict_on(record: Mapping[str, Any], policies: Sequence[Policy]) -> Verdict:
    """Returns the decision of policies attached to the caller, without any others."""
    needs, unknown = needs_of(record), None
    for permission in needs.permissions:
        verdict = _verdict(record, permission, policies)
        if verdict.judgement is Judgement.DENIED:
            return verdict
        if verdict.judgement is Judgement.UNKNOWN:
            unknown = unknown or verdict
    return unknown or _open_verdict(needs) or Verdict(Judgement.ALLOWED)


def _open_verdict(needs: Needs) -> Verdict | None:
    """Returns the verdict on a call whose needs are unknown; None for other calls."""
    if needs.unverified:
        permission = NeededPermission(needs.unverified[0], EVERYTHING)
        reason = "AWS's authorization data does not have the action"
        return Verdict(Judgement.UNKNOWN, permission, reason)
    if needs.open:
        reason = needs.open[0] or "the record does not name the needed permissions"
        return Verdict(Judgement.UNKNOWN, None, reason)
    return None


def request_of(record: Mapping[str, Any], permission: NeededPermission) -> AccessRequest:
    """Returns the access request for a needed permission of a call."""
    account = account_of(record)
    arn = as_object(record.get("userIdentity")).get("arn")
    caller = Caller(account, str(arn) if arn else None)
    context = context_of(record, permission)
    return AccessRequest(caller, permission.action, asked_of(permission), account, context)


def asked_of(permission: NeededPermission) -> str:
    """Returns the resource of the access request."""
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


#: Requests to generated policies come from callers of the account that has the resources.
_ACCOUNT = "000000000000"


@dataclass(slots=True)
class Difference:
    """Calls about which policy and record differ in the same way."""

    action: str
    reason: str
    calls: int
    #: Of the newest call.
    resource: str
    event_id: str
    time: str

    def document(self) -> Json:
        """Returns it as JSON."""
        return {
            "action": self.action,
            "reason": self.reason,
            "calls": self.calls,
            "resource": self.resource,
            "eventId": self.event_id,
            "eventTime": self.time,
        }


@dataclass(slots=True)
class ReplayedCalls:
    """Counts of calls by the policies' decisions, and the calls whose outcome differs."""

    was_allowed: Counter[Judgement] = field(default_factory=Counter)
    was_denied: Counter[Judgement] = field(default_factory=Counter)
    newly_denied: list[Difference] = field(default_factory=list)
    newly_allowed: list[Difference] = field(default_factory=list)
    unknown: list[Difference] = field(default_factory=list)

    def document(self) -> Json:
        """Returns it as JSON."""
        return {
            "allowedCalls": {key.value: self.was_allowed[key] for key in Judgement},
            "deniedCalls": {key.value: self.was_denied[key] for key in Judgement},
            "newlyDenied": [each.document() for each in self.newly_denied],
            "newlyAllowed": [each.document() for each in self.newly_allowed],
            "unknown": [each.document() for each in self.unknown],
        }


class PolicyReplay:
    """Counts the decisions that policies would have made about the calls of one principal.

    Args:
        policies: all policies attached to the principal.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies
        self._known: dict[tuple[int, str, str], Difference] = {}
        self._replayed = ReplayedCalls()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds calls, newest first; calls that failed for another reason do not count."""
        for record in records:
            outcome = outcome_of(record)
            if outcome in (CallOutcome.ALLOWED, CallOutcome.DENIED):
                self._add(record, outcome is CallOutcome.ALLOWED)

    def _add(self, record: Mapping[str, Any], is_allowed: bool) -> None:
        replayed = self._replayed
        verdict = verdict_on(record, self._policies)
        counts = replayed.was_allowed if is_allowed else replayed.was_denied
        counts[verdict.judgement] += 1
        if verdict.judgement is Judgement.UNKNOWN:
            differences = replayed.unknown
        elif is_allowed and verdict.judgement is Judgement.DENIED:
            differences = replayed.newly_denied
        elif not is_allowed and verdict.judgement is Judgement.ALLOWED:
            differences = replayed.newly_allowed
        else:
            return
        difference = _difference(record, verdict)
        key = (id(differences), difference.action, difference.reason)
        if key in self._known:
            self._known[key].calls += 1
        else:
            self._known[key] = difference
            differences.append(difference)

    def result(self) -> ReplayedCalls:
        """Returns the counts of the calls so far; the most frequent differences come first."""
        replayed = self._replayed
        for differences in (replayed.newly_denied, replayed.newly_allowed, replayed.unknown):
            differences.sort(key=lambda each: -each.calls)
        return replayed


def refused_by(made: GeneratedPolicy, calls: Mapping[CallKind, int]) -> int:
    """Returns the number of allowed calls that a generated policy would or might have refused.

    Gaps of the policy do not count: `unverified` and `unmapped` list them.
    """
    policies = parse_policies(made.documents)
    refused: dict[NeededPermission, bool] = {}

    def is_refused(permission: NeededPermission) -> bool:
        if permission not in refused:
            refused[permission] = not decide(_request_of(permission), policies, None).is_allowed
        return refused[permission]

    return sum(
        count
        for call, count in calls.items()
        if call.outcome is CallOutcome.ALLOWED and any(map(is_refused, call.needs.permissions))
    )


def _request_of(permission: NeededPermission) -> AccessRequest:
    """Returns the request for a generated policy, whose conditions depend on permissions only."""
    condition = permission.condition
    context = {condition.key.lower(): (condition.value,)} if condition else {}
    resource = asked_of(permission)
    return AccessRequest(Caller(_ACCOUNT), permission.action, resource, _ACCOUNT, context)


def _difference(record: Mapping[str, Any], verdict: Verdict) -> Difference:
    needed = verdict.permission or next(iter(permissions_of(record)), None)
    action = needed.action if needed else str(record.get("eventName"))
    resource = needed.resource if needed else "*"
    event_id, time = str(record.get("eventID")), str(record.get("eventTime"))
    return Difference(action, verdict.reason, 1, resource, event_id, time)
