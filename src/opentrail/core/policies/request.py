"""The input of a policy decision, and the callers that a statement's principals match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from opentrail.core.event import is_account


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of a request; for an anonymous request, `Caller()`."""

    #: None for a service and for an anonymous request.
    account: str | None = None
    #: ARN of the user, of the role session, of the federated user or of the root user.
    arn: str | None = None
    #: ARN of the role, if `arn` is a role session.
    role_arn: str | None = None
    #: Such as `cloudtrail.amazonaws.com`, if a service calls on its own behalf.
    service: str | None = None
    #: Identity provider, if IAM does not know the caller yet.
    federated: str | None = None
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request to decide on."""

    caller: Caller
    #: Such as `cloudtrail:GetTrailStatus`.
    action: str
    #: ARN, or `*` for an action without resources.
    resource: str
    #: Account that owns the resource.
    resource_account: str
    #: Condition keys in lower case → values; a key without values counts as missing.
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_ROOT = re.compile("arn:aws[a-z-]*:iam::([0-9]{12}):root")
_ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[^*?\s]+")
KINDS = ("AWS", "Service", "Federated", "CanonicalUser")


class Grade(IntEnum):
    """The match between a statement's principal and a caller."""

    #: Not at all.
    NONE = 0
    #: By its account, whose administrator must also allow the caller.
    ACCOUNT = 1
    #: By name, or because it is everyone.
    CALLER = 2


@dataclass(frozen=True, slots=True)
class NamedPrincipals:
    """The principals in a statement."""

    is_everyone: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    services: frozenset[str]
    providers: frozenset[str]

    def grade(self, caller: Caller) -> Grade:
        if self.is_everyone or self._is_named(caller):
            return Grade.CALLER
        return Grade.ACCOUNT if caller.account in self.accounts else Grade.NONE

    def excepts(self, caller: Caller) -> bool:
        """Returns whether a caller is excepted by `NotPrincipal`; its account alone does not do."""
        return self.is_everyone or self._is_named(caller)

    def _is_named(self, caller: Caller) -> bool:
        if caller.is_root and caller.account in self.accounts:
            return True
        return (
            caller.arn in self.arns
            or caller.role_arn in self.arns
            or caller.service in self.services
            or caller.federated in self.providers
        )


def read_principals(lists: Mapping[str, Sequence[str]]) -> NamedPrincipals:
    """Returns the principals of an element's lists.

    Raises:
        ValueError: the message is the invalid principal.
    """
    accounts, arns, is_everyone = set(), set(), False
    for text in lists.get("AWS", ()):
        if text == "*":
            is_everyone = True
        elif is_account(text):
            accounts.add(text)
        elif match := _ROOT.fullmatch(text):
            accounts.add(match[1])
        elif _ARN.fullmatch(text):
            arns.add(text)
        else:
            raise ValueError(f'"AWS":"{text}"')
    return NamedPrincipals(
        is_everyone,
        frozenset(accounts),
        frozenset(arns),
        frozenset(lists.get("Service", ())),
        frozenset(lists.get("Federated", ())),
    )
