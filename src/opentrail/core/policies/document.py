"""Policy documents: read, checked and compiled by the "Grammar of the IAM JSON policy language".

Messages are AWS's where known; others name the wrong member.

Decisions are as in "Policy evaluation logic" of the IAM user guide. An explicit deny of any policy
wins. Within an account, an identity-based or a resource-based policy must allow; across accounts,
both must. A resource-based policy that names only the caller's account leaves the choice to the
account's identity-based policies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from opentrail.core.errors import MalformedPolicy
from opentrail.core.event import Json
from opentrail.core.policies.condition_operators import Condition, ConditionError, condition
from opentrail.core.policies.patterns import TextMatcher, globs, like_any
from opentrail.core.policies.request import (
    KINDS,
    AccessRequest,
    Caller,
    Grade,
    NamedPrincipals,
    read_principals,
)

_VERSIONS = ("2012-10-17", "2008-10-17")
_MEMBERS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_MEMBERS = frozenset(
    {
        *("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"),
        *("Principal", "NotPrincipal", "Condition"),
    }
)
_SID = re.compile("[0-9A-Za-z]*")
_VENDOR = re.compile("[a-zA-Z0-9-]+")
_SYNTAX = "Syntax errors in policy."


class PolicyKind(Enum):
    """The thing a policy is attached to."""

    IDENTITY = "identity-based"
    RESOURCE = "resource-based"


@dataclass(frozen=True, slots=True)
class StatedCondition:
    """A condition as written in its document."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, compiled."""

    sid: str | None
    index: int
    is_deny: bool
    #: Of the element `Principal`; None in identity-based policies, and with `NotPrincipal`.
    principals: NamedPrincipals | None
    excepted: NamedPrincipals | None
    actions: re.Pattern[str]
    is_not_action: bool
    resources: TextMatcher
    is_not_resource: bool
    conditions: tuple[Condition, ...]
    #: The same, as written in the document.
    stated_conditions: tuple[StatedCondition, ...] = ()
    #: The patterns of `Resource` or `NotResource`, as written in the document.
    stated_resources: tuple[str, ...] = ()

    def grade(self, caller: Caller) -> Grade:
        """Returns the statement's match for a caller."""
        if self.principals is not None:
            return self.principals.grade(caller)
        if self.excepted is not None and self.excepted.excepts(caller):
            return Grade.NONE
        return Grade.CALLER

    def is_about(self, action: str) -> bool:
        """Returns whether an action matches."""
        return (self.actions.fullmatch(action) is None) is self.is_not_action

    def is_about_resource(self, request: AccessRequest) -> bool:
        """Returns whether the resource matches."""
        matches = self.resources(request.resource, request.context)
        return matches is not self.is_not_resource

    def failed_conditions(self, request: AccessRequest) -> tuple[StatedCondition, ...]:
        """Returns the failed conditions."""
        return tuple(
            stated
            for stated, holds in zip(self.stated_conditions, self.conditions, strict=True)
            if not holds(request.context)
        )

    def applies(self, request: AccessRequest) -> bool:
        """Returns whether resource and conditions match."""
        context = request.context
        if self.resources(request.resource, context) is self.is_not_resource:
            return False
        # A loop: a generator takes twice as long.
        for holds in self.conditions:  # noqa: SIM110
            if not holds(context):
                return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A compiled policy; it is equal to itself only."""

    kind: PolicyKind
    #: Its name or ARN, for messages.
    name: str
    statements: tuple[Statement, ...]
    #: Whether a condition or variable may read a tag of the resource.
    reads_resource_tags: bool = False

    @lru_cache(maxsize=4096)  # noqa: B019 - policies are few, and the cache is bounded
    def about(self, action: str) -> tuple[Statement, ...]:
        """Returns the statements whose actions match."""
        return tuple(statement for statement in self.statements if statement.is_about(action))


def parse_policy(
    text: str | bytes, kind: PolicyKind, name: str = "", is_stored: bool = False
) -> Policy:
    """Returns a compiled policy.

    Args:
        text: the document.
        kind: the kind of its attachment.
        name: its name or ARN, for messages.
        is_stored: whether it was accepted before: a condition with an unknown operator then never
            matches, instead of making the document invalid.

    Raises:
        MalformedPolicy: the document is not valid.
    """
    document = _json(text)
    if unknown := sorted(set(document) - _MEMBERS):
        raise MalformedPolicy(f"Unknown field {unknown[0]}")
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise MalformedPolicy("Policy document must be version 2012-10-17 or greater.")
    if not isinstance(document.get("Id", ""), str):
        raise MalformedPolicy("Id must be a string")
    statement_element = document.get("Statement")
    if statement_element is None:
        raise MalformedPolicy("Missing required field Statement")
    documents = statement_element if isinstance(statement_element, list) else [statement_element]
    if not documents or not all(isinstance(item, dict) for item in documents):
        raise MalformedPolicy(_SYNTAX)
    reader = _Reader(kind, version == _VERSIONS[0], is_stored)
    statements = tuple(reader.statement(item, index) for index, item in enumerate(documents))
    sids = [statement.sid for statement in statements if statement.sid]
    if len(sids) != len(set(sids)):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
    reads_tags = "aws:resourcetag/" in json.dumps(document).lower()
    return Policy(kind, name, statements, reads_tags)


def parse_policies(value: object, name: str = "") -> list[Policy]:
    """Returns the identity-based policies of parsed JSON: of a document, or of a list of them.

    Raises:
        MalformedPolicy: a document is not valid.
    """
    documents = documents_in(value)
    return [parse_policy(json.dumps(each), PolicyKind.IDENTITY, name) for each in documents]


def documents_in(value: object) -> list[Any]:
    """Returns the documents of parsed JSON: one, or a list's items."""
    return value if isinstance(value, list) else [value]


def _json(text: str | bytes) -> Json:
    try:
        document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy(_SYNTAX) from error
    if not isinstance(document, dict):
        raise MalformedPolicy(_SYNTAX)
    return document


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """Refuses a repeated member: its meaning is undefined."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the statements of one document."""

    kind: PolicyKind
    with_variables: bool
    is_stored: bool

    def statement(self, document: Mapping[str, Any], index: int) -> Statement:
        if unknown := sorted(set(document) - _STATEMENT_MEMBERS):
            raise MalformedPolicy(f"Unknown field {unknown[0]}")
        sid = document.get("Sid")
        if sid is not None and not isinstance(sid, str):
            raise MalformedPolicy("Sid must be a string")
        if sid and self.kind is PolicyKind.IDENTITY and not _SID.fullmatch(sid):
            raise MalformedPolicy(
                "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the "
                "regular expression [0-9A-Za-z]*"
            )
        if "Effect" not in document:
            raise MalformedPolicy("Missing required field Effect")
        if document["Effect"] not in ("Allow", "Deny"):
            raise MalformedPolicy(f"Invalid effect: {_as_text(document['Effect'])}")
        principals, excepted = self._principals(document)
        stated = _stated_conditions(document.get("Condition", {}))
        return Statement(
            sid or None,
            index,
            document["Effect"] == "Deny",
            principals,
            excepted,
            self._actions(document),
            "NotAction" in document,
            self._resources(document),
            "NotResource" in document,
            tuple(self._condition(stated_condition) for stated_condition in stated),
            stated,
            tuple(_texts(document.get("Resource", document.get("NotResource")), "Resource")),
        )

    def _principals(
        self, document: Mapping[str, Any]
    ) -> tuple[NamedPrincipals | None, NamedPrincipals | None]:
        element = _one_of(document, "Principal", "NotPrincipal")
        if self.kind is PolicyKind.IDENTITY:
            if element is not None:
                raise MalformedPolicy("Policy document should not specify a principal.")
            return None, None
        if element is None:
            raise MalformedPolicy("Missing required field Principal")
        if element == "NotPrincipal" and document["Effect"] == "Allow":
            raise MalformedPolicy("Allow with NotPrincipal is not supported.")
        stated = document[element]
        if stated == "*":
            stated = {"AWS": "*"}
        if not isinstance(stated, dict) or not stated:
            raise MalformedPolicy("Invalid principal in policy")
        if unknown := sorted(set(stated) - set(KINDS)):
            raise MalformedPolicy(f'Invalid principal in policy: "{unknown[0]}"')
        lists = {kind: _texts(texts, element) for kind, texts in stated.items()}
        try:
            principals = read_principals(lists)
        except ValueError as error:
            raise MalformedPolicy(f"Invalid principal in policy: {error}") from error
        return (principals, None) if element == "Principal" else (None, principals)

    def _actions(self, document: Mapping[str, Any]) -> re.Pattern[str]:
        element = _one_of(document, "Action", "NotAction")
        if element is None or not (patterns := _texts(document[element], element)):
            raise MalformedPolicy("Policy statement must contain actions.")
        for pattern in patterns:
            _check_action(pattern)
        return globs(patterns, re.IGNORECASE | re.ASCII)

    def _resources(self, document: Mapping[str, Any]) -> TextMatcher:
        element = _one_of(document, "Resource", "NotResource")
        if element is None or not (patterns := _texts(document[element], element)):
            raise MalformedPolicy("Policy statement must contain resources.")
        for pattern in patterns:
            if pattern != "*" and not re.match("arn:|\\*|\\?", pattern):
                raise MalformedPolicy(f'Resource {pattern} must be in ARN format or "*".')
        return like_any(patterns, self.with_variables)

    def _condition(self, stated: StatedCondition) -> Condition:
        if ":" not in stated.key:
            raise MalformedPolicy(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            )
        try:
            return condition(stated.operator, stated.key, stated.values, self.with_variables)
        except ConditionError as error:
            if self.is_stored:
                return _never
            raise MalformedPolicy(
                f"Condition {stated.operator} of {stated.key}: {error}"
            ) from error


def _stated_conditions(conditions: Any) -> tuple[StatedCondition, ...]:
    if not isinstance(conditions, dict) or not all(
        isinstance(keys, dict) for keys in conditions.values()
    ):
        raise MalformedPolicy(_SYNTAX)
    return tuple(
        StatedCondition(operator, key, tuple(_values(values, key)))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


def _never(_context: object) -> bool:
    return False


def _one_of(document: Mapping[str, Any], *elements: str) -> str | None:
    """Returns the one existing element of two exclusive elements."""
    present = [element for element in elements if element in document]
    if len(present) > 1:
        raise MalformedPolicy(f"{elements[0]} and {elements[1]} exclude each other.")
    return present[0] if present else None


def _check_action(pattern: str) -> None:
    if pattern == "*":
        return
    vendor, colon, rest = pattern.partition(":")
    if not colon:
        raise MalformedPolicy(
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
        )
    if ":" in rest:
        raise MalformedPolicy("Actions/Condition can contain only one colon.")
    if not _VENDOR.fullmatch(vendor) or not rest:
        raise MalformedPolicy(f"Vendor {vendor} is not valid")


def _texts(value: Any, element: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in values):
        raise MalformedPolicy(f"{element} must be a string or a list of strings")
    return values


def _values(value: Any, key: str) -> list[str]:
    """Returns a condition's values as strings; JSON's numbers and Booleans have one form each."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | bool | int | float) for item in values):
        raise MalformedPolicy(f"the values of {key} must be strings, numbers or Booleans")
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in values]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Outcome(Enum):
    """The decision."""

    ALLOW = "Allow"
    EXPLICIT_DENY = "ExplicitDeny"
    IMPLICIT_DENY = "ImplicitDeny"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, with the statement behind it."""

    outcome: Outcome
    #: None if nothing allows, and for the root user.
    statement: Statement | None = None
    policy: Policy | None = None
    #: The kind of the refusing policy.
    refused_by: PolicyKind | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the request may proceed."""
        return self.outcome is Outcome.ALLOW

    def reason(self, action: str) -> str:
        """Returns the reason of a refusal, in the words of AWS's message."""
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
        request: the request.
        identity_policies: all policies attached to the caller, its groups included.
        resource_policy: the policy of the resource, if it has one.
    """
    allows: dict[PolicyKind, _Found] = {}
    policies = [*identity_policies, *([resource_policy] if resource_policy else [])]
    for policy in policies:
        is_resource = policy.kind is PolicyKind.RESOURCE
        best = allows.get(policy.kind)
        for statement in policy.about(request.action):
            # Skip an allow that cannot improve the result.
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
