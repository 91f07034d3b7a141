"""What past calls would have become under other policies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentrail.core.policies import (
    AccessRequest,
    Caller,
    Policy,
    PolicyKind,
    decide,
    parse_policy,
)
from opentrail.permissions.generate import CallKind, GeneratedPolicy
from opentrail.permissions.needs import NeededPermission, permissions_of
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from opentrail.permissions.replay import Judgement, Verdict, asked_of, verdict_on

#: Generated policies are asked about callers of the account that has the resources.
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

    def document(self) -> dict[str, Any]:
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
    """Counts of calls by what policies would have decided, and where that differs."""

    was_allowed: Counter[Judgement] = field(default_factory=Counter)
    was_denied: Counter[Judgement] = field(default_factory=Counter)
    newly_denied: list[Difference] = field(default_factory=list)
    newly_allowed: list[Difference] = field(default_factory=list)
    unknown: list[Difference] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Returns it as JSON."""
        return {
            "allowedCalls": {key.value: self.was_allowed[key] for key in Judgement},
            "deniedCalls": {key.value: self.was_denied[key] for key in Judgement},
            "newlyDenied": [each.document() for each in self.newly_denied],
            "newlyAllowed": [each.document() for each in self.newly_allowed],
            "unknown": [each.document() for each in self.unknown],
        }


def backtest(records: Iterable[Mapping[str, Any]], policies: Sequence[Policy]) -> ReplayedCalls:
    """Returns what policies would have decided about the calls of one principal.

    Args:
        records: its records, newest first; calls that failed for another reason do not count.
        policies: all that is attached to the principal.
    """
    tested = ReplayedCalls()
    known: dict[tuple[int, str, str], Difference] = {}
    for record in records:
        outcome = outcome_of(record)
        if outcome not in (CallOutcome.ALLOWED, CallOutcome.DENIED):
            continue
        verdict = verdict_on(record, policies)
        is_allowed = outcome is CallOutcome.ALLOWED
        (tested.was_allowed if is_allowed else tested.was_denied)[verdict.judgement] += 1
        if verdict.judgement is Judgement.UNKNOWN:
            differences = tested.unknown
        elif is_allowed and verdict.judgement is Judgement.DENIED:
            differences = tested.newly_denied
        elif not is_allowed and verdict.judgement is Judgement.ALLOWED:
            differences = tested.newly_allowed
        else:
            continue
        difference = _difference(record, verdict)
        key = (id(differences), difference.action, difference.reason)
        if key in known:
            known[key].calls += 1
        else:
            known[key] = difference
            differences.append(difference)
    for differences in (tested.newly_denied, tested.newly_allowed, tested.unknown):
        differences.sort(key=lambda each: -each.calls)
    return tested


def refused_by(made: GeneratedPolicy, calls: Mapping[CallKind, int]) -> int:
    """Returns how many allowed calls a generated policy would have refused, or perhaps.

    What the policy leaves open does not count: `unverified` and `unmapped` list it.
    """
    policies = [
        parse_policy(json.dumps(document), PolicyKind.IDENTITY) for document in made.documents
    ]
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
    """Returns what a generated policy is asked: its conditions are those of permissions alone."""
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
