"""The permissions that each operation needs, and the members of its input that name resources.

Source: "Actions, resources, and condition keys for AWS CloudTrail" in the Service Authorization
Reference, <https://docs.aws.amazon.com/service-authorization/latest/reference/>. Of its dependent
actions, opentrail requires only `cloudtrail:AddTags`, for calls that create with tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from opentrail.api.cloudtrail.events import not_a_trail
from opentrail.api.cloudtrail.trails import resource_not_found
from opentrail.core.arns import (
    CHANNEL,
    DASHBOARD,
    STORE,
    TRAIL,
    TYPES,
    CloudTrailArn,
    read_cloudtrail_arn,
)
from opentrail.core.errors import CloudTrailError
from opentrail.trails.registry import trail_not_found

#: The resource of an action that has no resource-level permissions.
EVERYTHING = "*"
_CLOUDTRAIL = "cloudtrail"
_DATA = "cloudtrail-data"
#: Type of a channel's destination that is an event data store.
_STORE_DESTINATION = "EVENT_DATA_STORE"


class AccessLevel(Enum):
    """IAM's classification of an operation."""

    LIST = "List"
    READ = "Read"
    WRITE = "Write"
    TAGGING = "Tagging"

    @property
    def is_read_only(self) -> bool:
        """Whether the operation changes nothing."""
        return self in (AccessLevel.LIST, AccessLevel.READ)


@dataclass(frozen=True, slots=True)
class NamedResource:
    """A resource that a call names."""

    #: The ARN that policies are evaluated for: always in the same form.
    arn: str
    #: The parts of `arn`; None if the call names no valid ARN.
    parts: CloudTrailArn | None
    account: str
    #: The name or ARN in the call.
    given: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Account and Region of a call, and of resources that it names without an ARN."""

    account: str
    region: str


class Naming(Enum):
    """The form in which a member names a resource."""

    ARN = "ARN"
    #: Name of a trail or dashboard, id of an event data store or channel.
    NAME_OR_ARN = "name or ARN"
    #: Name of a resource that the call creates.
    NEW_NAME = "name"
    #: The call creates the resource's id, so policies are evaluated for any id.
    NEW_ID = "new id"


#: Returns the names of resources in a member of an input.
_Texts = Callable[[Any], list[str]]
#: Returns the error of a missing resource, from its name in the call and the account.
_Missing = Callable[[str, str], CloudTrailError]


@dataclass(frozen=True, slots=True)
class ResourceMember:
    """A member of an input that names resources."""

    member: str
    #: The types it may name: exactly one if it may be a name.
    types: tuple[str, ...]
    texts: _Texts
    naming: Naming = Naming.NAME_OR_ARN

    def named_in(self, arguments: Mapping[str, Any], origin: Origin) -> Iterator[NamedResource]:
        """Yields the resources that an input names; nothing without the member."""
        value = arguments.get(self.member)
        for text in [] if value is None else self.texts(value):
            yield self._resource(text, origin)

    def _resource(self, text: str, origin: Origin) -> NamedResource:
        parts = self._parts(text, origin)
        if parts is None:
            # The operation refuses it, because it parses ARNs with the same function.
            return NamedResource(text, None, origin.account, text)
        return NamedResource(str(parts), parts, parts.account, text)

    def _parts(self, text: str, origin: Origin) -> CloudTrailArn | None:
        is_arn = text.startswith("arn:") and self.naming is Naming.NAME_OR_ARN
        if is_arn or self.naming is Naming.ARN:
            return read_cloudtrail_arn(text)
        name = "*" if self.naming is Naming.NEW_ID else text
        return CloudTrailArn(self.types[0], origin.region, origin.account, name)


@dataclass(frozen=True, slots=True)
class Permission:
    """An action that a call needs, on every resource that its members name."""

    action: str
    members: tuple[ResourceMember, ...] = ()
    #: Member of the input; the permission is needed only with it.
    if_given: str | None = None

    def is_needed(self, arguments: Mapping[str, Any]) -> bool:
        """Returns whether a call with this input needs the permission."""
        return self.if_given is None or bool(arguments.get(self.if_given))

    def resources(self, arguments: Mapping[str, Any], origin: Origin) -> list[NamedResource]:
        """Returns the resources to decide on: every named one, otherwise `EVERYTHING`."""
        resources = [
            resource for member in self.members for resource in member.named_in(arguments, origin)
        ]
        return resources or [NamedResource(EVERYTHING, None, origin.account, EVERYTHING)]


@dataclass(frozen=True, slots=True)
class AccessRule:
    """The permissions that a caller of an operation needs."""

    service: str
    operation: str
    level: AccessLevel
    permissions: tuple[Permission, ...]
    #: Member with the tags of the request.
    tags: str | None = None
    #: Whether these tags have values.
    has_tag_values: bool = True
    #: Error of a resource that the caller's account does not have; default: the error of its type.
    missing: _Missing | None = None

    @property
    def resource_types(self) -> tuple[str, ...]:
        """The types of the operation's resources, in the order of `TYPES`."""
        members = [member for permission in self.permissions for member in permission.members]
        return tuple(kind for kind in TYPES if any(kind in member.types for member in members))

    @property
    def condition_keys(self) -> tuple[str, ...]:
        """The condition keys of calls, without the global ones."""
        keys = []
        if self.tags is not None:
            keys += ["aws:RequestTag/${TagKey}"] if self.has_tag_values else []
            keys.append("aws:TagKeys")
        tagged = {TRAIL, STORE, CHANNEL} & {*self.resource_types}
        if tagged and self.operation not in _CREATIONS:
            keys.append("aws:ResourceTag/${TagKey}")
        return (*keys, "cloudtrail:ExternalId") if self.service == _DATA else tuple(keys)

    def not_found(self, resource: NamedResource, account: str) -> CloudTrailError:
        """Returns the error of a resource that an account does not have."""
        if self.missing is not None:
            return self.missing(resource.given, account)
        if self.service == _DATA:
            return CloudTrailError("ChannelNotFound", f"Channel {resource.given} does not exist.")
        types = self.resource_types
        kind = resource.parts.type if resource.parts else ""
        if kind not in types:
            kind = next(iter(types), "")
        return _MISSING.get(kind, _any_missing)(resource.given, account)


def _any_missing(name: str, _account: str) -> CloudTrailError:
    return resource_not_found(name)


#: Type → the error of a missing resource.
_MISSING: Mapping[str, _Missing] = MappingProxyType(
    {
        TRAIL: trail_not_found,
        STORE: lambda name, _: CloudTrailError(
            "EventDataStoreNotFoundException", f"Event data store {name} does not exist."
        ),
        CHANNEL: lambda name, _: CloudTrailError(
            "ChannelNotFoundException", f"Channel {name} does not exist."
        ),
        DASHBOARD: _any_missing,
    }
)


def _one_or_all(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _destinations(value: list[dict[str, str]]) -> list[str]:
    return [
        destination["Location"]
        for destination in value
        if destination["Type"] == _STORE_DESTINATION
    ]


def _of_query(member: str) -> ResourceMember:
    """Returns a member that names a query: its resources are the stores that the query reads."""
    return ResourceMember(member, (STORE,), lambda _: [])


def _trail(member: str) -> ResourceMember:
    return ResourceMember(member, (TRAIL,), _one_or_all)


def _store(member: str) -> ResourceMember:
    return ResourceMember(member, (STORE,), _one_or_all)


def _channel(member: str) -> ResourceMember:
    return ResourceMember(member, (CHANNEL,), _one_or_all)


def _dashboard(member: str) -> ResourceMember:
    return ResourceMember(member, (DASHBOARD,), _one_or_all)


def _new(kind: str, naming: Naming) -> ResourceMember:
    return ResourceMember("Name", (kind,), _one_or_all, naming)


def _by_arn(member: str, *types: str) -> ResourceMember:
    return ResourceMember(member, types, _one_or_all, Naming.ARN)


def _of_trail_missing(member: str) -> _Missing:
    return lambda name, account: not_a_trail(member, trail_not_found(name, account))


_LIST, _READ, _WRITE, _TAGGING = AccessLevel


def _rule(level: AccessLevel, operation: str, *members: ResourceMember, **more: Any) -> AccessRule:
    permission = Permission(f"{_CLOUDTRAIL}:{operation}", members)
    return AccessRule(_CLOUDTRAIL, operation, level, (permission,), **more)


def _creation(operation: str, *members: ResourceMember, tags: str = "TagsList") -> AccessRule:
    permissions = (
        Permission(f"{_CLOUDTRAIL}:{operation}", members),
        Permission("cloudtrail:AddTags", members[:1], if_given=tags),
    )
    return AccessRule(_CLOUDTRAIL, operation, _WRITE, permissions, tags)


#: Operations that create a resource, which has no tags before.
_CREATIONS = ("CreateTrail", "CreateEventDataStore")
_POLICY_OWNERS = (CHANNEL, DASHBOARD, STORE)

_RULES = (
    _rule(
        _TAGGING, "AddTags", _by_arn("ResourceId", *TYPES), tags="TagsList", missing=_any_missing
    ),
    _rule(_WRITE, "CancelQuery", _of_query("QueryId")),
    _creation(
        "CreateChannel",
        _new(CHANNEL, Naming.NEW_ID),
        ResourceMember("Destinations", (STORE,), _destinations),
        tags="Tags",
    ),
    _creation("CreateDashboard", _new(DASHBOARD, Naming.NEW_NAME)),
    _creation("CreateEventDataStore", _new(STORE, Naming.NEW_ID)),
    _creation("CreateTrail", _new(TRAIL, Naming.NEW_NAME)),
    _rule(_WRITE, "DeleteChannel", _channel("Channel")),
    _rule(_WRITE, "DeleteDashboard", _dashboard("DashboardId")),
    _rule(_WRITE, "DeleteEventDataStore", _store("EventDataStore")),
    _rule(
        _WRITE,
        "DeleteResourcePolicy",
        _by_arn("ResourceArn", *_POLICY_OWNERS),
        missing=_any_missing,
    ),
    _rule(_WRITE, "DeleteTrail", _trail("Name")),
    _rule(_WRITE, "DeregisterOrganizationDelegatedAdmin"),
    _rule(_READ, "DescribeQuery", _of_query("QueryId")),
    _rule(_READ, "DescribeTrails"),
    _rule(_WRITE, "DisableFederation", _store("EventDataStore")),
    _rule(_WRITE, "EnableFederation", _store("EventDataStore")),
    _rule(_WRITE, "GenerateQuery", _store("EventDataStores")),
    _rule(_READ, "GetChannel", _channel("Channel")),
    _rule(_READ, "GetDashboard", _dashboard("DashboardId")),
    _rule(_READ, "GetEventConfiguration", _trail("TrailName"), _store("EventDataStore")),
    _rule(_READ, "GetEventDataStore", _store("EventDataStore")),
    _rule(_READ, "GetEventSelectors", _trail("TrailName")),
    _rule(_READ, "GetImport"),
    _rule(_READ, "GetInsightSelectors", _trail("TrailName"), _store("EventDataStore")),
    _rule(_READ, "GetQueryResults", _of_query("QueryId")),
    _rule(
        _READ, "GetResourcePolicy", _by_arn("ResourceArn", *_POLICY_OWNERS), missing=_any_missing
    ),
    _rule(_READ, "GetTrail", _trail("Name")),
    _rule(_READ, "GetTrailStatus", _trail("Name")),
    _rule(_LIST, "ListChannels"),
    _rule(_LIST, "ListDashboards"),
    _rule(_LIST, "ListEventDataStores"),
    _rule(_READ, "ListImportFailures"),
    _rule(_LIST, "ListImports"),
    _rule(
        _LIST,
        "ListInsightsData",
        _trail("InsightSource"),
        missing=_of_trail_missing("InsightSource"),
    ),
    # According to the API Reference, no action belongs to this operation.
    AccessRule(
        _CLOUDTRAIL,
        "ListInsightsMetricData",
        _READ,
        (
            Permission("cloudtrail:LookupEvents"),
            Permission("cloudtrail:ListInsightsData", (_trail("TrailName"),), if_given="TrailName"),
        ),
        missing=_of_trail_missing("TrailName"),
    ),
    _rule(_READ, "ListPublicKeys"),
    _rule(_LIST, "ListQueries", _store("EventDataStore")),
    _rule(_READ, "ListTags", _by_arn("ResourceIdList", *TYPES), missing=_any_missing),
    _rule(_LIST, "ListTrails"),
    _rule(_READ, "LookupEvents"),
    _rule(_WRITE, "PutEventConfiguration", _trail("TrailName"), _store("EventDataStore")),
    _rule(_WRITE, "PutEventSelectors", _trail("TrailName")),
    _rule(
        _WRITE,
        "PutInsightSelectors",
        _trail("TrailName"),
        _store("EventDataStore"),
        _store("InsightsDestination"),
    ),
    _rule(
        _WRITE, "PutResourcePolicy", _by_arn("ResourceArn", *_POLICY_OWNERS), missing=_any_missing
    ),
    _rule(_WRITE, "RegisterOrganizationDelegatedAdmin"),
    _rule(
        _TAGGING,
        "RemoveTags",
        _by_arn("ResourceId", *TYPES),
        tags="TagsList",
        has_tag_values=False,
        missing=_any_missing,
    ),
    _rule(_WRITE, "RestoreEventDataStore", _store("EventDataStore")),
    _rule(_READ, "SearchSampleQueries"),
    _rule(_WRITE, "StartDashboardRefresh", _dashboard("DashboardId")),
    _rule(_WRITE, "StartEventDataStoreIngestion", _store("EventDataStore")),
    _rule(_WRITE, "StartImport"),
    _rule(_WRITE, "StartLogging", _trail("Name")),
    _rule(_WRITE, "StartQuery", _of_query("QueryStatement")),
    _rule(_WRITE, "StopEventDataStoreIngestion", _store("EventDataStore")),
    _rule(_WRITE, "StopImport"),
    _rule(_WRITE, "StopLogging", _trail("Name")),
    _rule(_WRITE, "UpdateChannel", _channel("Channel")),
    _rule(_WRITE, "UpdateDashboard", _dashboard("DashboardId")),
    _rule(_WRITE, "UpdateEventDataStore", _store("EventDataStore")),
    _rule(_WRITE, "UpdateTrail", _trail("Name")),
    AccessRule(
        _DATA,
        "PutAuditEvents",
        _WRITE,
        (Permission(f"{_DATA}:PutAuditEvents", (_channel("channelArn"),)),),
    ),
)

#: Operation → the permissions that its caller needs.
ACCESS_RULES: Mapping[str, AccessRule] = MappingProxyType({rule.operation: rule for rule in _RULES})
