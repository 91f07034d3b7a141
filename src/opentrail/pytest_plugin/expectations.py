"""Compares recorded calls with expected ones, and with policies that should allow them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from opentrail.capture.record_rules import rules
from opentrail.capture.redaction import PLACEHOLDERS, actions
from opentrail.core.errors import MalformedPolicy, UsageError
from opentrail.core.event import without_version
from opentrail.core.policies import AccessRequest, Outcome, Policy, PolicyKind, decide, parse_policy
from opentrail.permissions.event_actions import actions_of, source_label
from opentrail.permissions.needs import NeededPermission, permissions_of
from opentrail.permissions.replay import request_of
from opentrail.pytest_plugin.calls import RecordedCall, short

#: The default of expected values that may be anything.
ANY: Any = object()
#: Words that a keyword may omit at the end of a member's name.
_ENDINGS = ("name", "id", "arn", "identifier", "url")
_ACTION = re.compile(r"[\w.*?-]+:[\w*?]+")
#: Services by the names of SDKs, where these differ from event sources and prefixes of actions.
_SDK_NAMES = {"states": "stepfunctions", "elasticloadbalancing": "elbv2", "es": "opensearch"}
#: Minimum likeness of two names for an event to be near.
_LIKE = 0.6


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """Requirements on a call."""

    #: Such as `s3:PutObject`, with wildcards.
    action: str
    parameters: Mapping[str, Any]
    error: Any = ANY
    user: Any = ANY
    region: Any = ANY

    def __str__(self) -> str:
        """The parameter in the form of an argument of `assert_called`."""
        options = {"error": self.error, "user": self.user, "region": self.region}
        stated = {name: value for name, value in options.items() if value is not ANY}
        parts = [
            f"{name}={_describe(value)}" for name, value in {**self.parameters, **stated}.items()
        ]
        return " ".join([self.action, *parts])

    def matches(self, call: RecordedCall) -> bool:
        """Returns whether a call is the expected one."""
        return not self.differences(call)

    def has_action(self, call: RecordedCall) -> bool:
        """Returns whether service and name of a call match."""
        return self._has_service(call) and self._has_name(call)

    def differences(self, call: RecordedCall) -> list[str]:
        """Returns the differences between a call and the expected call."""
        differences = []
        if not self.has_action(call):
            differences.append(f"event: expected {self.action}, recorded {call.action}")
        differences += self._hidden_differences(call)
        return differences + self._shown_differences(call)

    def undecided(self, call: RecordedCall) -> list[str]:
        """Returns the differences in unrecorded values, if a call differs in no others."""
        if not self.has_action(call) or self._shown_differences(call):
            return []
        return self._hidden_differences(call)

    def _hidden_differences(self, call: RecordedCall) -> list[str]:
        """Returns the parameters that cannot be compared, since their values are hidden."""
        differences = []
        for name, value in self.parameters.items():
            members = named_members(call.parameters, name)
            if _difference(name, value, members) and (why := _why_hidden(call, name, members)):
                text = _describe(value)
                differences.append(
                    f"{name}: expected {text}, but opentrail {why}: no assertion on it can match"
                )
        return differences

    def _shown_differences(self, call: RecordedCall) -> list[str]:
        differences = []
        for name, value in self.parameters.items():
            members = named_members(call.parameters, name)
            if (members or value is not None) and not _why_hidden(call, name, members):
                differences += _difference(name, value, members)
        if self.error is not ANY:
            differences += _difference("error", self.error, [("error", call.error)])
        if self.user is not ANY:
            names = [
                ("user", caller) for caller in (call.user, call.user_arn) if caller is not None
            ]
            differences += _difference("user", self.user, names or [("user", None)])
        if self.region is not ANY:
            differences += _difference("region", self.region, [("region", call.region)])
        return differences

    def nearness(self, call: RecordedCall) -> tuple[bool, bool, int, float] | None:
        """Returns the similarity of a call, greater for more similar ones, or None."""
        name = self.action.lower().split(":", 1)[1]
        likeness = max(_likeness(name, event_name.lower()) for event_name in names_of(call))
        is_service = self._has_service(call)
        if not is_service and (likeness < _LIKE or set(name) == {"*"}):
            return None
        return is_service, self._has_name(call), -len(self.differences(call)), likeness

    def hint(self, call: RecordedCall) -> str | None:
        """Returns the expectation to write if the action is a permission, not an event name."""
        if self.has_action(call):
            return None
        if any(
            fnmatchcase(action.lower(), self.action.lower()) for action in actions_of(call.record)
        ):
            return f"{self.action} is the permission for {call.action}: name the event"
        return None

    def _has_service(self, call: RecordedCall) -> bool:
        pattern = self.action.lower().split(":", 1)[0].removesuffix(".amazonaws.com")
        return any(fnmatchcase(name, pattern) for name in _services_of(call))

    def _has_name(self, call: RecordedCall) -> bool:
        pattern = self.action.lower().split(":", 1)[1]
        return any(fnmatchcase(name.lower(), pattern) for name in names_of(call))


def expected_call(
    action: str,
    *,
    error: Any = ANY,
    user: Any = ANY,
    region: Any = ANY,
    parameters: Mapping[str, Any] | None = None,
    **members: Any,
) -> ExpectedCall:
    """Returns the call that `RecordedCalls.assert_called` expects with these arguments.

    Raises:
        UsageError: the action is not one.
    """
    __tracebackhide__ = True
    if not _ACTION.fullmatch(action):
        raise UsageError(
            "the action must be a service and the name of an event, such as 's3:PutObject' or "
            f"'iam:Create*', not {action!r}"
        )
    return ExpectedCall(action, {**members, **(parameters or {})}, error, user, region)


def _services_of(call: RecordedCall) -> set[str]:
    label = source_label(call.record)
    return {label, call.service, _SDK_NAMES.get(label, label)}


def names_of(call: RecordedCall) -> set[str]:
    """Returns the names of an event: CloudTrail's, without a version, and the SDKs' operations."""
    operations = _operations().get((source_label(call.record), call.event_name), set())
    return {call.event_name, without_version(call.event_name), *operations}


@cache
def _operations() -> dict[tuple[str, str], set[str]]:
    """Returns the operations whose events CloudTrail names differently, by source and event."""
    operations: dict[tuple[str, str], set[str]] = {}
    table = rules("names")
    for service, names in table["event_name"].items():
        source = table["event_source"].get(service, service)
        for operation, event in names.items():
            operations.setdefault((source, event), set()).add(operation)
    return operations


def named_members(parameters: Any, name: str) -> list[tuple[str, Any]]:
    """Returns the members that a keyword means, with their paths: the nearest to the top.

    `user_name`, `UserName` and `user` mean `userName`; an exact name goes before a shortened one.

    >>> named_members({"bucketName": "x", "key": "a"}, "bucket")
    [('bucketName', 'x')]
    """
    folded = _folded(name)
    for names in ({folded}, {folded + ending for ending in _ENDINGS}):
        level: list[tuple[str, Any]] = [("", parameters)]
        while level:
            deeper = [member for path, value in level for member in _members(path, value)]
            matches = [
                candidate
                for candidate in deeper
                if _folded(candidate[0].rpartition(".")[2]) in names
            ]
            if matches:
                return matches
            level = deeper
    return []


def _members(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"{path}.{name}" if path else str(name), item) for name, item in value.items()]
    if isinstance(value, list):
        return [member for item in value for member in _members(path, item)]
    return []


def _folded(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()


def _fits(expected: Any, actual: Any, member: str) -> bool:
    if isinstance(expected, re.Pattern):
        return any(expected.search(_text(item)) for item in _as_list(actual) if item is not None)
    if isinstance(expected, Callable):  # type: ignore[arg-type]
        return bool(expected(actual))
    if expected == actual:
        return True
    if isinstance(actual, list):
        return any(_fits(expected, item, member) for item in actual)
    if expected is None or actual is None or isinstance(actual, Mapping):
        return False
    text = _text(actual)
    if _text(expected) == text:
        return True
    # A resource may be expected by its name where the call has its ARN or URL.
    return _folded(member).endswith(("arn", "url")) and text.endswith(
        (f"/{expected}", f":{expected}")
    )


def _as_list(actual: Any) -> list[Any]:
    return actual if isinstance(actual, list) else [actual]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _describe(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    return getattr(value, "__name__", None) or short(value)


def _difference(name: str, expected: Any, actual: list[tuple[str, Any]]) -> list[str]:
    """Returns the differences between members' and expected values, nothing if one fits."""
    if any(_fits(expected, value, member) for member, value in actual):
        return []
    if not actual:
        return [f"{name}: expected {_describe(expected)}, not among the request's parameters"]
    values = ", ".join(dict.fromkeys(short(value) for _, value in actual))
    return [f"{name}: expected {_describe(expected)}, recorded {values}"]


def _why_hidden(call: RecordedCall, name: str, members: list[tuple[str, Any]]) -> str | None:
    """Returns why a parameter has no value to compare with; None if it has."""
    if any(_is_hidden(value) for _, value in members):
        return "hides this value"
    if not members and _folded(name) in _left_out(source_label(call.record)):
        return "does not record this member"
    return None


def _is_hidden(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_hidden, value))
    if isinstance(value, Mapping):
        return any(map(_is_hidden, value.values()))
    return isinstance(value, str) and any(mark in value for mark in PLACEHOLDERS.values())


@cache
def _left_out(source: str) -> frozenset[str]:
    """Returns the members of a service's requests that records do not have, folded."""
    removed = [name for name, action in actions(source).items() if action == "remove"]
    return frozenset(_folded(name.rpartition(".")[2]) for name in removed)


def _likeness(pattern: str, text: str) -> float:
    return 1.0 if fnmatchcase(text, pattern) else SequenceMatcher(None, pattern, text).ratio()


def nearest(expected: ExpectedCall, calls: list[RecordedCall], limit: int) -> list[RecordedCall]:
    """Returns the calls that are most like the expected one, the nearest first."""
    candidates = [(near, call) for call in calls if (near := expected.nearness(call)) is not None]
    return [
        call
        for _, call in sorted(candidates, key=lambda candidate: candidate[0], reverse=True)[:limit]
    ]


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
    """Returns statements that allow exactly the denied permissions.

    A statement has the actions that need the same resources. No statement can allow a permission
    that a Deny refuses.
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
