"""The policy directory: identity-based policies, and the users and roles they are attached to.

Policies that an account has made itself are in the control store, all of an account in one
document, so that attached policies always exist. AWS's managed policies are built in: only the
policies below, and only their statements about CloudTrail's actions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from opentrail.core.errors import MalformedPolicy, StorageFailed, UsageError
from opentrail.core.event import Json, is_account
from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.ports.collection import Codec, KnownCollection, retry_on_conflict
from opentrail.ports.control import ControlStore, Document

POLICIES_KIND = "account-policies"
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")
_USER = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):(user/\S+)")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/(?:\S+/)?([^\s/]+)")
_SESSION = re.compile(r"arn:aws[a-z-]*:sts::([0-9]{12}):assumed-role/([^\s/]+)/\S+")
#: IAM's quota of characters of a managed policy, without white space.
_MAX_CHARACTERS = 6144
#: IAM's quota of policies of a principal.
_MAX_ATTACHED = 10


def _allow(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_READ_ONLY = ("cloudtrail:Describe*", "cloudtrail:Get*", "cloudtrail:List*")

#: Name → document of AWS's managed policies, reduced to the actions of CloudTrail.
AWS_MANAGED: Mapping[str, str] = MappingProxyType(
    {
        "AWSCloudTrail_FullAccess": _allow("cloudtrail:*"),
        "AWSCloudTrail_ReadOnlyAccess": _allow(*_READ_ONLY, "cloudtrail:LookupEvents"),
        "AdministratorAccess": _allow("*"),
        "ReadOnlyAccess": _allow(*_READ_ONLY, "cloudtrail:LookupEvents"),
        "SecurityAudit": _allow(
            "cloudtrail:DescribeTrails",
            "cloudtrail:GetEventSelectors",
            "cloudtrail:GetInsightSelectors",
            "cloudtrail:GetTrail",
            "cloudtrail:GetTrailStatus",
            "cloudtrail:ListTags",
            "cloudtrail:ListTrails",
            "cloudtrail:LookupEvents",
        ),
    }
)
_MANAGED = {
    name: parse_policy(text, PolicyKind.IDENTITY, f"arn:aws:iam::aws:policy/{name}")
    for name, text in AWS_MANAGED.items()
}


@dataclass(frozen=True, slots=True)
class CustomerPolicy:
    """A policy that an account has made itself."""

    account: str
    name: str
    #: The JSON document as given.
    document: str

    @property
    def arn(self) -> str:
        """The policy's ARN, as IAM forms it."""
        return f"arn:aws:iam::{self.account}:policy/{self.name}"


@dataclass(frozen=True, slots=True)
class PolicyAttachment:
    """The policies of a user or role, by name."""

    #: ARN of the user or role.
    principal: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Account:
    """An account's policies, compiled."""

    #: Name → document and policy.
    policies: Mapping[str, tuple[str, Policy]]
    #: Principal → policies.
    attached: Mapping[str, tuple[Policy, ...]]


class PolicyDirectory:
    """The identity-based policies in a control store.

    `policies_of` answers from memory; `load` reads other processes' changes. Changes are
    compare-and-set, so that several processes may make them concurrently.
    """

    def __init__(self, control: ControlStore) -> None:
        codec: Codec[Document] = Codec(lambda stored: stored.document, dict)
        self._accounts: KnownCollection[Document, _Account] = KnownCollection(
            control, POLICIES_KIND, codec, view=self._compile
        )

    async def load(self) -> None:
        """Reads all policies.

        Raises:
            StorageFailed: a policy in the store is not valid; the earlier policies stay in effect.
        """
        await self._accounts.load()

    def policies_of(self, principal: str) -> tuple[Policy, ...]:
        """Returns the policies of a user, or of the role of a session; none for other principals.

        Args:
            principal: the ARN of a user, a role or a role session.
        """
        place = _place(principal)
        if place is None:
            return ()
        account = self._accounts.known.get(place[0])
        return () if account is None else account.attached.get(place[1], ())

    async def put_policy(self, account: str, name: str, document: str) -> CustomerPolicy:
        """Creates a policy, or replaces it wherever it is attached.

        Args:
            account: the account's 12 digits.
            name: 1 to 128 letters, digits and `_+=,.@-`, and not an AWS managed policy's name.
            document: JSON, at most 6,144 characters without white space.

        Raises:
            MalformedPolicy: the document is not a valid identity-based policy.
            UsageError: the account, the name or the document's size is not valid.
        """
        _check_name(account, name)
        if len(re.sub(r"\s", "", document)) > _MAX_CHARACTERS:
            raise UsageError(
                f"policy {name} must have at most {_MAX_CHARACTERS} characters without white space"
            )
        parse_policy(document, PolicyKind.IDENTITY, name)

        def change(stored: Json) -> None:
            stored["policies"][name] = document

        await self._change(account, change)
        return CustomerPolicy(account, name, document)

    async def delete_policy(self, account: str, name: str) -> None:
        """Removes a policy that is not attached.

        Raises:
            UsageError: there is no such policy, or it is attached.
        """

        def change(stored: Json) -> None:
            if name not in stored["policies"]:
                raise UsageError(f"policy {name!r} not found in account {account}")
            users = [a["principal"] for a in stored["attached"].values() if name in a["policies"]]
            if users:
                raise UsageError(
                    f"policy {name} is attached to {', '.join(sorted(users))}; detach it first"
                )
            del stored["policies"][name]

        await self._change(account, change)

    async def attach(self, principal: str, name: str) -> PolicyAttachment:
        """Attaches a policy of the principal's account, or an AWS managed one; idempotent.

        Args:
            principal: ARN of a user or role. A role is identified by its name without its path:
                the ARNs of its sessions do not have the path.
            name: name of the policy.

        Raises:
            UsageError: the principal is not a user or role, there is no such policy, or the
                principal has 10 policies already.
        """
        account, key = _place_of_user_or_role(principal)

        def change(stored: Json) -> None:
            if name not in stored["policies"] and name not in AWS_MANAGED:
                policy_names = ", ".join(sorted([*stored["policies"], *AWS_MANAGED]))
                raise UsageError(
                    f"policy {name!r} not found in account {account}: it has {policy_names}"
                )
            empty = {"principal": principal, "policies": []}
            names = stored["attached"].setdefault(key, empty)["policies"]
            if name not in names:
                names.append(name)
            if len(names) > _MAX_ATTACHED:
                raise UsageError(f"{principal} has {_MAX_ATTACHED} policies already")

        document = await self._change(account, change)
        return _attachment(document["attached"][key])

    async def detach(self, principal: str, name: str) -> None:
        """Detaches a policy.

        Raises:
            UsageError: the policy is not attached to the principal.
        """
        account, key = _place_of_user_or_role(principal)

        def change(stored: Json) -> None:
            names = stored["attached"].get(key, {}).get("policies", [])
            if name not in names:
                raise UsageError(f"policy {name!r} is not attached to {principal}")
            names.remove(name)
            if not names:
                del stored["attached"][key]

        await self._change(account, change)

    async def list_policies(self, account: str | None = None) -> list[CustomerPolicy]:
        """Returns the policies that accounts have made, of one or all, by account and name."""
        return [
            CustomerPolicy(key, name, text)
            for key, document in await self._documents(account)
            for name, text in sorted(document["policies"].items())
        ]

    async def list_attachments(self, account: str | None = None) -> list[PolicyAttachment]:
        """Returns the attachments in one account or all."""
        return [
            _attachment(attached)
            for _, document in await self._documents(account)
            for _, attached in sorted(document["attached"].items())
        ]

    async def _documents(self, account: str | None) -> Iterable[tuple[str, Json]]:
        return [
            (item.stored.key, item.value)
            for item in await self._accounts.items()
            if account in (None, item.stored.key)
        ]

    async def _change(self, account: str, change: Callable[[Json], None]) -> Json:
        """Applies a change to an account's document; returns the document."""

        async def attempt() -> Json:
            item = await self._accounts.find(account)
            document = item.value if item else {"policies": {}, "attached": {}}
            change(document)
            await self._accounts.put(account, document, item.stored.version if item else 0)
            return document

        failure = f"the policies of account {account} are being changed by others; try again"
        async with self._accounts.turn:
            return await retry_on_conflict(attempt, failure)

    def _compile(self, account: str, document: Mapping[str, Any]) -> _Account:
        current = self._accounts.known.get(account)
        former = current.policies if current else {}
        policies: dict[str, tuple[str, Policy]] = {}
        for name, text in document["policies"].items():
            if name in former and former[name][0] == text:
                policies[name] = former[name]  # keeps its cached values
                continue
            arn = CustomerPolicy(account, name, text).arn
            try:
                policies[name] = text, parse_policy(text, PolicyKind.IDENTITY, arn, is_stored=True)
            except MalformedPolicy as error:
                raise StorageFailed(f"policy {arn} in the store is not valid: {error}") from error
        all_policies = {**_MANAGED, **{name: policy for name, (_, policy) in policies.items()}}
        attached: dict[str, tuple[Policy, ...]] = {}
        for key, attachment in document["attached"].items():
            if missing := set(attachment["policies"]) - set(all_policies):
                raise StorageFailed(f"policies {sorted(missing)} of {account}/{key} do not exist")
            attached[key] = tuple(all_policies[name] for name in attachment["policies"])
        return _Account(policies, attached)


@lru_cache(4096)
def _place(principal: str) -> tuple[str, str] | None:
    """Returns the account of a user, role or role session, and its key there."""
    if match := _USER.fullmatch(principal):
        return match[1], match[2]
    if match := _ROLE.fullmatch(principal) or _SESSION.fullmatch(principal):
        return match[1], f"role/{match[2]}"
    return None


def _place_of_user_or_role(principal: str) -> tuple[str, str]:
    place = _place(principal)
    if place is None or _SESSION.fullmatch(principal):
        raise UsageError(
            f"{principal!r} is not a user or role: arn:aws:iam::ACCOUNT:user/NAME or "
            "arn:aws:iam::ACCOUNT:role/NAME"
        )
    return place


def _attachment(attached: Mapping[str, Any]) -> PolicyAttachment:
    return PolicyAttachment(attached["principal"], tuple(attached["policies"]))


def _check_name(account: str, name: str) -> None:
    if not is_account(account):
        raise UsageError(f"an account is 12 digits, not {account!r}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"a policy's name is 1 to 128 letters, digits and _+=,.@-, not {name!r}")
    if name in AWS_MANAGED:
        raise UsageError(f"{name} is the name of an AWS managed policy")
