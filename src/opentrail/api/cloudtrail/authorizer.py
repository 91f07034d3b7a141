"""Decides whether a caller may make a call of CloudTrail's API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from opentrail.access.policies import PolicyDirectory
from opentrail.access.resource_policies import ResourcePolicies
from opentrail.api.cloudtrail.permissions import (
    ACCESS_RULES,
    EVERYTHING,
    AccessRule,
    NamedResource,
    Origin,
    Permission,
)
from opentrail.core.arns import CHANNEL, STORE, TRAIL, CloudTrailArn
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import format_time
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.identity import Identity
from opentrail.core.policies import AccessRequest, Caller, Decision, Policy, decide
from opentrail.core.trail import Trail
from opentrail.lake.channel_registry import Channels
from opentrail.lake.store_registry import Stores
from opentrail.ports.clock import Clock
from opentrail.trails.registry import TrailRegistry

_SESSION = re.compile(r"(arn:[^:]*):sts::([0-9]{12}):assumed-role/([^/]+)/(.+)")
#: `type` of a record's `userIdentity` → value of `aws:PrincipalType`.
_PRINCIPAL_TYPES = {
    "Root": "Account",
    "IAMUser": "User",
    "AssumedRole": "AssumedRole",
    "FederatedUser": "FederatedUser",
}
_OWNER = "EventDataStoreOwnerAccountId"

_Context = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class VerifiedCall:
    """A call whose signature was verified, with validated input."""

    operation: str
    input: Mapping[str, Any]
    #: The signer.
    identity: Identity
    #: Account and Region of the call.
    account: str
    region: str
    source_ip: str
    user_agent: str | None
    #: Whether the call used TLS.
    is_secure: bool


class Authorizer:
    """Decides on calls by the policies of their callers and of the resources they name.

    It reads from disk only trails and stores: if a policy of the caller reads tags, if a trail
    belongs to another account, because callers may use their organization's trails as their own,
    and if a statement may name stores.
    """

    def __init__(
        self,
        policies: PolicyDirectory,
        resource_policies: ResourcePolicies,
        trails: TrailRegistry,
        clock: Clock,
        is_trusted: Callable[[str], bool] = lambda _access_key_id: False,
        stores: Stores | None = None,
        channels: Channels | None = None,
    ) -> None:
        """Makes an authorizer.

        Args:
            policies: the policies of users and roles.
            resource_policies: the policies of resources.
            trails: the trails, with their tags.
            clock: the time for conditions.
            is_trusted: returns whether the calls of an access key need no policy.
            stores: the created event data stores, with their tags.
            channels: the channels, with their tags.
        """
        self._stores = stores
        self._channels = channels
        self._is_trusted = is_trusted
        self.resource_policies = resource_policies
        self._policies = policies
        self._trails = trails
        self._clock = clock

    async def check(
        self, call: VerifiedCall, reads: Sequence[CloudTrailArn] | None = None
    ) -> frozenset[str]:
        """Returns the ARNs of other accounts' resources that a call touches, if it is allowed.

        Args:
            call: the call.
            reads: the stores that its queries read; None: it is about no query.

        Raises:
            CloudTrailError: `AccessDeniedException`, or for a resource of another account the error
                for a missing resource.
        """
        is_trusted = self._is_trusted(call.identity.access_key_id)
        rule = ACCESS_RULES[call.operation]
        caller = caller_of(call.identity)
        policies = self._policies.policies_of(caller.arn) if caller.arn else ()
        context = _context(call, rule, caller, self._clock.now())
        reads_tags = any(policy.reads_resource_tags for policy in policies)
        origin = Origin(call.input.get(_OWNER) or call.account, call.region)
        shared = set()
        for permission in rule.permissions:
            if not permission.is_needed(call.input):
                continue
            resources = permission.resources(call.input, origin)
            if reads is not None:
                resources = _read_by_queries(resources, reads, call, origin.account)
            for resource in resources:
                resource = await self._as_shared(resource, caller)
                is_own = resource.account == caller.account
                if is_trusted and (is_own or _is_trail(resource)):
                    continue  # the operation finds no trail of another account
                tags = await self._tags(resource, caller) if reads_tags and is_own else {}
                decision = self._decide(caller, permission, resource, policies, {**context, **tags})
                if not decision.is_allowed:
                    if self._is_shared_channel(resource, caller, rule):
                        raise _insufficient_permission(resource)
                    raise _refusal(caller, rule, permission, resource, decision)
                if not is_own:
                    shared.add(resource.arn)
        return frozenset(shared)

    def may_write_objects(self, call: VerifiedCall, bucket: str, prefix: str) -> bool:
        """Returns whether policies let the caller put objects under a prefix of a bucket itself.

        Conditions on keys of S3 do not hold, since there is no such request.
        """
        if self._is_trusted(call.identity.access_key_id):
            return True
        caller = caller_of(call.identity)
        policies = self._policies.policies_of(caller.arn) if caller.arn else ()
        context = _context(call, ACCESS_RULES[call.operation], caller, self._clock.now())
        # For objects of any name, hence a name that only the pattern `*` matches.
        start = f"{prefix}/" if prefix else ""
        arn = f"arn:aws:s3:::{bucket}/{start}\0"
        request = AccessRequest(caller, "s3:PutObject", arn, call.account, context)
        return decide(request, policies, None).is_allowed

    def _is_shared_channel(self, resource: NamedResource, caller: Caller, rule: AccessRule) -> bool:
        """Returns whether events are sent to a channel of another account that has a policy."""
        return (
            rule.operation == "PutAuditEvents"
            and resource.account != caller.account
            and resource.parts is not None
            and self.resource_policies.find(resource.parts) is not None
        )

    def _decide(
        self,
        caller: Caller,
        permission: Permission,
        resource: NamedResource,
        policies: Sequence[Policy],
        context: _Context,
    ) -> Decision:
        request = AccessRequest(caller, permission.action, resource.arn, resource.account, context)
        own = self.resource_policies.find(resource.parts) if resource.parts else None
        return decide(request, policies, own)

    async def _as_shared(self, resource: NamedResource, caller: Caller) -> NamedResource:
        """Returns the resource, with a trail of the caller's organization as the caller's own."""
        if resource.account == caller.account:
            return resource
        trail = await self._trail(resource, caller)
        if trail is None:
            return resource
        return NamedResource(resource.arn, resource.parts, str(caller.account), resource.given)

    async def _tags(self, resource: NamedResource, caller: Caller) -> _Context:
        """Returns the condition keys of the tags of a trail, a store or a channel."""
        trail = await self._trail(resource, caller)
        if trail is not None:
            return _of_tags("aws:resourcetag/", trail.tags)
        arn = resource.parts
        if arn is not None and arn.type == CHANNEL and self._channels is not None:
            channel = await self._channels.at(arn)
            return {} if channel is None else _of_tags("aws:resourcetag/", channel.tags)
        store = await self._store(resource)
        return {} if store is None else _of_tags("aws:resourcetag/", store.tags)

    async def _store(self, resource: NamedResource) -> EventDataStore | None:
        """Returns the created store of a resource."""
        arn = resource.parts
        if arn is None or arn.type != STORE or self._stores is None:
            return None
        try:
            return await self._stores.find(arn.account, arn.region, str(arn))
        except CloudTrailError:
            return None  # there is no such store

    async def _trail(self, resource: NamedResource, caller: Caller) -> Trail | None:
        """Returns the trail of a resource, if the caller's account sees it."""
        arn = resource.parts
        if arn is None or arn.type != TRAIL or caller.account is None:
            return None
        try:
            return (await self._trails.find(caller.account, arn.region, str(arn))).trail
        except CloudTrailError:
            return None  # there is no such trail


def _read_by_queries(
    resources: list[NamedResource], reads: Sequence[CloudTrailArn], call: VerifiedCall, owner: str
) -> list[NamedResource]:
    """Returns the stores that the queries of a call read, whatever else it names.

    Raises:
        CloudTrailError: `EventDataStoreNotFoundException`: they read none of another account.
    """
    if not reads and owner != call.account:
        message = f"The statement names no event data store of account {owner}."
        raise CloudTrailError("EventDataStoreNotFoundException", message)
    return [NamedResource(str(arn), arn, arn.account, arn.name) for arn in reads] or resources


def _is_trail(resource: NamedResource) -> bool:
    return resource.parts is not None and resource.parts.type == TRAIL


async def check_unverified_sender(
    call: VerifiedCall, policies: ResourcePolicies, now: datetime
) -> None:
    """Returns if a caller may send events to a channel, where callers may do everything.

    That is in their account: channels of other accounts need a policy that allows the call.

    Raises:
        CloudTrailError: `ChannelNotFound` or `ChannelInsufficientPermission`.
    """
    rule, caller = ACCESS_RULES[call.operation], caller_of(call.identity)
    caller = replace(caller, account=call.account, is_root=True)
    (permission,) = rule.permissions
    for resource in permission.resources(call.input, Origin(call.account, call.region)):
        if resource.parts is None or resource.account == call.account:
            continue
        await policies.load()
        policy = policies.find(resource.parts)
        if policy is None:
            raise rule.not_found(resource, call.account)
        context = _context(call, rule, caller, now)
        request = AccessRequest(caller, permission.action, resource.arn, resource.account, context)
        if not decide(request, (), policy).is_allowed:
            raise _insufficient_permission(resource)


def _insufficient_permission(resource: NamedResource) -> CloudTrailError:
    """Returns the error of a channel whose policy does not allow a call of another account."""
    return CloudTrailError(
        "ChannelInsufficientPermission",
        f"The policy of channel {resource.given} does not allow your account to send events, or "
        "expects another external ID.",
    )


def caller_of(identity: Identity) -> Caller:
    """Returns the caller that policies see for an identity."""
    user_identity = identity.user_identity
    context = user_identity.get("sessionContext", {})
    arn = user_identity.get("arn")
    session = _SESSION.fullmatch(arn) if isinstance(arn, str) else None
    role = None
    if session is not None:
        # Only the issuer's ARN has the role's path.
        issuer = context.get("sessionIssuer", {}).get("arn")
        role = issuer or f"{session[1]}:iam::{session[2]}:role/{session[3]}"
    # A task policy, which opentrail does not know, limits a session of AssumeRoot.
    is_root = user_identity.get("type") == "Root" and "assumedRoot" not in context
    return Caller(account=identity.account, arn=arn, role_arn=role, is_root=is_root)


def _context(call: VerifiedCall, rule: AccessRule, caller: Caller, now: datetime) -> _Context:
    """Returns the condition keys of a call, without the keys of the resource."""
    user_identity = call.identity.user_identity
    kind = str(user_identity.get("type"))
    texts = {
        "aws:sourceip": call.source_ip,
        "aws:securetransport": "true" if call.is_secure else "false",
        "aws:currenttime": format_time(now),
        "aws:epochtime": str(int(now.timestamp())),
        "aws:useragent": call.user_agent,
        "aws:principalarn": caller.role_arn or caller.arn,
        "aws:principalaccount": caller.account,
        "aws:principaltype": _PRINCIPAL_TYPES.get(kind),
        "aws:username": user_identity.get("userName") if kind == "IAMUser" else None,
        "aws:userid": user_identity.get("principalId") or _name_of_session(caller),
        "aws:requestedregion": call.region,
        # Callers of opentrail call it directly, and are not services.
        "aws:viaawsservice": "false",
        "aws:principalisawsservice": "false",
        "cloudtrail:externalid": call.input.get("externalId"),
    }
    context: _Context = {key: (str(text),) for key, text in texts.items() if text}
    if rule.tags is not None and call.input.get(rule.tags):
        tags = [(str(tag["Key"]), str(tag.get("Value", ""))) for tag in call.input[rule.tags]]
        context["aws:tagkeys"] = tuple(key for key, _ in tags)
        if rule.has_tag_values:
            context.update(_of_tags("aws:requesttag/", tags))
    return context


def _name_of_session(caller: Caller) -> str | None:
    """Returns `aws:userid` of a role session with an unknown role id."""
    session = _SESSION.fullmatch(caller.arn or "")
    return f"{session[3]}:{session[4]}" if session else None


def _of_tags(prefix: str, tags: Sequence[tuple[str, str]]) -> _Context:
    """Returns the condition keys of tags.

    Raises:
        CloudTrailError: `AccessDeniedException`, if keys differ only in case, which conditions do
            not distinguish.
    """
    values: _Context = {}
    for key, value in tags:
        name = prefix + key.lower()
        if name in values:
            raise CloudTrailError(
                "AccessDeniedException", f"Several tags are {key!r} but for upper and lower case."
            )
        values[name] = (value,)
    return values


def _refusal(
    caller: Caller,
    rule: AccessRule,
    permission: Permission,
    resource: NamedResource,
    decision: Decision,
) -> CloudTrailError:
    if resource.account != caller.account:
        return rule.not_found(resource, str(caller.account))
    # AWS names no resource for an action without resource-level permissions.
    where = "" if resource.arn == EVERYTHING else f" on resource: {resource.arn}"
    return CloudTrailError(
        "AccessDeniedException",
        f"User: {caller.arn or caller.account} is not authorized to perform: {permission.action}"
        f"{where} {decision.reason(permission.action)}",
    )
