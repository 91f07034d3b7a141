"""Decides which recorded calls an IAM policy allows, and what would allow the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentrail.core.errors import MalformedPolicy, UsageError
from opentrail.core.policies import (
    AccessRequest,
    Outcome,
    Policy,
    PolicyKind,
    decide,
    parse_policy,
)
from opentrail.permissions.needs import NeededPermission, permissions_of
from opentrail.permissions.replay import request_of
from opentrail.pytest_plugin.calls import RecordedCall

PolicyDocument = Mapping[str, Any] | str | Path


@dataclass(frozen=True, slots=True)
class DeniedPermission:
    """A permission that a call needs and the policy does not give."""

    call: RecordedCall
    permission: NeededPermission
    #: As AWS's message ends: "because no identity-based policy allows …".
    reason: str
    is_explicit: bool
    #: Why statements that are about the action and the resource do not allow it, each in a line.
    failed_conditions: tuple[str, ...] = ()


def read_policy(policy: PolicyDocument) -> Policy:
    """Returns a policy from a document, its JSON text, or the path of a file.

    Raises:
        UsageError: it cannot be read or is not valid.
    """
    __tracebackhide__ = True
    name = "the policy"
    if isinstance(policy, Path):
        name = f"the policy {policy}"
        try:
            text = policy.read_text()
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    elif isinstance(policy, Mapping):
        try:
            text = json.dumps(policy)
        except TypeError as error:
            raise UsageError(f"{name} is not JSON: {error}") from error
    else:
        text = policy
        if not text.lstrip().startswith("{"):
            raise UsageError(
                "policy must be a dict, JSON text or a pathlib.Path, not the text "
                f"{text[:40]!r}; for a file: Path({text[:40]!r})"
            )
    try:
        return parse_policy(text, PolicyKind.IDENTITY, name)
    except MalformedPolicy as error:
        raise UsageError(f"{name} is not valid: {error}") from error


def denials(policy: Policy, calls: Iterable[RecordedCall]) -> list[DeniedPermission]:
    """Returns the permissions that the policy does not give, in order of the calls."""
    denied = []
    for call in calls:
        for permission in permissions_of(call.record):
            request = request_of(call.record, permission)
            decision = decide(request, [policy], None)
            if not decision.is_allowed:
                is_explicit = decision.outcome is Outcome.EXPLICIT_DENY
                reason = decision.reason(permission.action)
                failed = () if is_explicit else _failed_conditions(policy, request)
                denied.append(DeniedPermission(call, permission, reason, is_explicit, failed))
    return denied


def _failed_conditions(policy: Policy, request: AccessRequest) -> tuple[str, ...]:
    """Returns which conditions keep statements from allowing a request."""
    failures = []
    for statement in policy.about(request.action):
        if statement.is_deny or not statement.is_about_resource(request):
            continue
        name = f"{statement.sid!r}" if statement.sid else f"number {statement.index + 1}"
        for stated in statement.failed_conditions(request):
            values = " or ".join(map(repr, stated.values))
            actual = " and ".join(map(repr, request.context.get(stated.key.lower(), ())))
            says = f"the call has {actual}" if actual else "the record of the call does not say"
            failures.append(
                f"statement {name} would allow it, but its condition {stated.operator} "
                f"{stated.key} {values} does not hold: {says}"
            )
    return tuple(failures)


def smallest_statements(denied: Iterable[DeniedPermission]) -> list[dict[str, Any]]:
    """Returns statements that allow what is denied and nothing else.

    Statements have the actions that need the same resources; what a Deny refuses, none can allow.
    """
    resources: dict[str, set[str]] = {}
    for permission in denied:
        if not permission.is_explicit:
            resources.setdefault(permission.permission.action, set()).add(
                permission.permission.resource
            )
    actions: dict[tuple[str, ...], list[str]] = {}
    for action, needed in sorted(resources.items()):
        actions.setdefault(tuple(sorted(needed)), []).append(action)
    return [
        {"Effect": "Allow", "Action": _one_or_all(names), "Resource": _one_or_all(needed)}
        for needed, names in actions.items()
    ]


def _one_or_all(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)
