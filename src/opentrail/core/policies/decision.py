"""Decisions, as "Policy evaluation logic" of the IAM user guide says.

An explicit deny of any policy wins. Within an account, an identity-based or a resource-based policy
must allow; across accounts, both must. A resource-based policy that names only the caller's account
leaves the choice to the account's identity-based policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from opentrail.core.policies.document import Policy, PolicyKind, Statement
from opentrail.core.policies.request import AccessRequest, Grade


class Outcome(Enum):
    """What was decided."""

    ALLOW = "Allow"
    EXPLICIT_DENY = "ExplicitDeny"
    IMPLICIT_DENY = "ImplicitDeny"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, with the statement that made it."""

    outcome: Outcome
    #: None if nothing allows, and for the root user.
    statement: Statement | None = None
    policy: Policy | None = None
    #: The kind of policy that refuses.
    refused_by: PolicyKind | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the request may proceed."""
        return self.outcome is Outcome.ALLOW

    def reason(self, action: str) -> str:
        """Returns why a request is refused, as AWS's message ends."""
        kind = (self.refused_by or PolicyKind.IDENTITY).value
        article = "an" if kind.startswith("i") else "a"
        if self.outcome is Outcome.EXPLICIT_DENY:
            return f"with an explicit deny in {article} {kind} policy"
        return f"because no {kind} policy allows the {action} action"


@dataclass(frozen=True, slots=True)
class _Found:
    policy: Policy
    statement: Statement
    grade: Grade


def decide(
    request: AccessRequest, identity_policies: Sequence[Policy], resource_policy: Policy | None
) -> Decision:
    """Returns the decision on a request.

    Args:
        request: who wants to do what.
        identity_policies: all policies attached to the caller, its groups included.
        resource_policy: the policy of the resource, if it has one.
    """
    allows: dict[PolicyKind, _Found] = {}
    policies = [*identity_policies, *([resource_policy] if resource_policy else [])]
    for policy in policies:
        is_resource = policy.kind is PolicyKind.RESOURCE
        best = allows.get(policy.kind)
        for statement in policy.about(request.action):
            # An allow that cannot better what was found need not be evaluated.
            if not statement.is_deny and best is not None and best.grade is Grade.CALLER:
                continue
            grade = statement.grade(request.caller) if is_resource else Grade.CALLER
            if grade is Grade.NONE or not statement.applies(request):
                continue
            if statement.is_deny:
                return Decision(Outcome.EXPLICIT_DENY, statement, policy, policy.kind)
            if best is None or grade > best.grade:
                best = allows[policy.kind] = _Found(policy, statement, grade)
    return _without_deny(request, allows)


def _without_deny(request: AccessRequest, allows: dict[PolicyKind, _Found]) -> Decision:
    caller = request.caller
    of_identity, of_resource = allows.get(PolicyKind.IDENTITY), allows.get(PolicyKind.RESOURCE)
    identity_allows = of_identity is not None or caller.is_root
    names_caller = of_resource is not None and of_resource.grade is Grade.CALLER
    if caller.account is None:
        # A service or an anonymous caller has no identity-based policies.
        return _decision(names_caller, of_resource, PolicyKind.RESOURCE)
    if caller.account == request.resource_account:
        match = of_identity or (of_resource if names_caller else None)
        return _decision(identity_allows or names_caller, match, PolicyKind.IDENTITY)
    if of_resource is None:
        return Decision(Outcome.IMPLICIT_DENY, refused_by=PolicyKind.RESOURCE)
    return _decision(identity_allows, of_resource, PolicyKind.IDENTITY)


def _decision(is_allowed: bool, match: _Found | None, refused_by: PolicyKind) -> Decision:
    if not is_allowed:
        return Decision(Outcome.IMPLICIT_DENY, refused_by=refused_by)
    if match is None:
        return Decision(Outcome.ALLOW)
    return Decision(Outcome.ALLOW, match.statement, match.policy)
