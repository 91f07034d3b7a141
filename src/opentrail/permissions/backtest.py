"""What past calls would have become under other policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentrail.core.policies import AccessRequest, Caller, Policy, decide, parse_policies
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


class PolicyReplay:
    """Counts what policies would have decided about the calls of one principal.

    Args:
        policies: all that is attached to the principal.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = policies
        self._known: dict[tuple[int, str, str], Difference] = {}
        self._replayed = ReplayedCalls()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds calls, newest first; those that failed for another reason do not count."""
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
    """Returns how many allowed calls a generated policy would have refused, or perhaps.

    What the policy leaves open does not count: `unverified` and `unmapped` list it.
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
