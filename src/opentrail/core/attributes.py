"""The columns of a record by which event history can be searched (cloudtrail-format §6)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from opentrail.core.event import (
    DATA,
    FOUND_DETAILS,
    MANAGEMENT,
    Json,
    Record,
    as_object,
    is_account,
    parse_time,
)
from opentrail.core.resource_rules import IF_ARN, UNTYPED, Kinds, ResourceRule, named_by, plan_of
from opentrail.core.user_agents import agent_of
from opentrail.core.value_class import value_class

#: LookupEvents' attribute keys, case-sensitive, in AWS's order.
LOOKUP_KEYS = (
    "EventId",
    "EventName",
    "ReadOnly",
    "Username",
    "ResourceType",
    "ResourceName",
    "EventSource",
    "AccessKeyId",
)


#: Maximum depth at which names are searched (`instancesSet.items[].groupSet.items[].groupId`).
_NAME_DEPTH = 2
#: Maximum items of one list.
_MAX_ITEMS = 100


class Resource(NamedTuple):
    """A resource of an event; the type may be unknown.

    A named tuple, because several are made for every call: a frozen dataclass takes twice as long.
    """

    type: str | None
    name: str


#: `Resource(…)` without a Python frame, in half the time.
_new = tuple.__new__


@value_class(frozen=True, slots=True)
class Attributes:
    """The searchable columns of one record."""

    event_id: str
    event_time: datetime
    event_name: str
    event_source: str
    read_only: bool
    category: str
    account: str
    region: str
    username: str | None
    access_key_id: str | None
    principal_arn: str | None
    source_ip: str | None
    error_code: str | None
    #: The name of the agent that made the call, as it says.
    agent: str | None
    resources: tuple[Resource, ...]


def attributes_of(record: Record) -> Attributes:
    """Returns the columns of `record`.

    Raises:
        KeyError, ValueError: `eventTime`, `eventName` or `eventSource` is missing or malformed.
    """
    identity = as_object(record.get("userIdentity"))
    management = record.get("managementEvent")
    accounts = record.get("recipientAccountId"), identity.get("accountId")
    category = record.get("eventCategory") or (DATA if management is False else MANAGEMENT)
    details = as_object(record.get(FOUND_DETAILS.get(str(category), "")))
    agent = agent_of(record)
    return Attributes(
        event_id=str(record.get("eventID", "")),
        event_time=parse_time(record["eventTime"]),
        event_name=str(details.get("eventName") or record["eventName"]),
        event_source=str(details.get("eventSource") or record["eventSource"]),
        read_only=_as_bool(record.get("readOnly")),
        category=str(category),
        account=next((str(account) for account in accounts if is_account(account)), ""),
        region=str(record.get("awsRegion", "")),
        username=username_of(record),
        access_key_id=_text(identity.get("accessKeyId")),
        principal_arn=_text(identity.get("arn")),
        source_ip=_text(record.get("sourceIPAddress")),
        error_code=_text(record.get("errorCode")),
        agent=agent["name"] if agent else None,
        resources=resources_of(record),
    )


def _text(value: Any) -> str | None:
    if value.__class__ is str or value is None:
        return value or None
    return str(value) if isinstance(value, (str, int, float)) else None


def _as_bool(value: object) -> bool:
    return value is True or value == "true"


def username_of(record: Record) -> str | None:
    """Returns what LookupEvents shows as `Username` (cloudtrail-format §6).

    >>> username_of({"userIdentity": {"type": "AssumedRole", "principalId": "AROA:etl"}})
    'etl'
    """
    identity = as_object(record.get("userIdentity"))
    kind = identity.get("type")
    if kind == "Root":
        return "root"
    if kind in ("AssumedRole", "FederatedUser"):
        session = str(identity.get("principalId", "")).partition(":")[2]
        return session or _session_in(str(identity.get("arn", "")))
    return _text(identity.get("userName"))


def _session_in(arn: str) -> str | None:
    """Returns the session in `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`."""
    parts = arn.split("/")
    return parts[-1] or None if len(parts) > 1 else None


def resources_of(record: Record) -> tuple[Resource, ...]:
    """Returns the resources that a record names, each once, in order of discovery."""
    plan = plan_of(
        str(record.get("eventSource", "")),
        str(record.get("eventName", "")),
        _as_bool(record.get("readOnly")),
    )
    resources: dict[Resource, None] = {}
    parts = (record.get("requestParameters"), record.get("responseElements"))
    for part, root in zip(parts, plan.roots, strict=True):
        if part.__class__ is dict:
            _collect(part, plan.top, plan, 0, resources)
            if part.get(root).__class__ is dict:
                _collect(part[root], plan.top, plan, 0, resources)
    stated = record.get("resources")
    if stated and stated.__class__ is list:
        for entry in stated:
            if entry.__class__ is dict:
                name = entry.get("ARN") or entry.get("ARNPrefix") or entry.get("arn")
                if name:
                    resources[_new(Resource, (_text(entry.get("type")), str(name)))] = None
    return tuple(resources)


def _collect(
    part: Json,
    kinds: Kinds,
    plan: ResourceRule,
    depth: int,
    resources: dict[Resource, None],
) -> None:
    """Adds the resources that the members of an object name to `resources`, in order."""
    for member, value in part.items():
        kind_of_value = value.__class__
        if kind_of_value is str:
            kind = kinds[member]
            if kind is not None and value:
                _add(plan, kind, value, resources)
        elif kind_of_value is dict:
            _collect_object(member, value, kinds, plan, depth, resources)
        elif kind_of_value is list and value:
            _collect_list(member, value, kinds[member], plan, depth, resources)


def _add(plan: ResourceRule, kind: str, value: str, resources: dict[Resource, None]) -> None:
    if kind[:5] == "AWS::":
        resources[_new(Resource, (kind, value))] = None
        return
    if kind is IF_ARN and value[:4] != "arn:":
        return
    resource_type, names = named_by(plan, kind, value)
    if names:
        resources[Resource(resource_type, value)] = None


def _collect_object(
    member: str,
    value: Json,
    kinds: Kinds,
    plan: ResourceRule,
    depth: int,
    resources: dict[Resource, None],
) -> None:
    if "items" in value:
        if plan.lists and depth < _NAME_DEPTH:
            _collect(value, plan.inner, plan, depth, resources)
        return
    if "content" in value and value["content"].__class__ is str:
        # EC2's XML turned to JSON: {"tag": 1, "content": "vpc-…"} (cloudtrail-format §4.2).
        kind = kinds[member]
        if kind is not None and value["content"]:
            _add(plan, kind, value["content"], resources)
    elif "item" in value and member in plan.name_lists:
        names = value["item"]  # {"flowLogIdSet": {"item": "fl-…"}}, or a list of ids
        names = names if names.__class__ is list else [names]
        _collect_list(member, names, kinds[member], plan, depth, resources)
    if depth:
        return
    wrapped = plan.wrappers[member]
    _collect(value, plan.top if wrapped else plan.inner, plan, depth + 1, resources)
    arn = value.get("arn")
    if wrapped and arn and arn.__class__ is str:
        resources[Resource(None if wrapped is UNTYPED else wrapped, arn)] = None


def _collect_list(
    member: str,
    value: list[Any],
    kind: str | None,
    plan: ResourceRule,
    depth: int,
    resources: dict[Resource, None],
) -> None:
    if member == "items" or (depth < _NAME_DEPTH and member in plan.entry_lists):
        for item in value[:_MAX_ITEMS]:
            if item.__class__ is dict:
                _collect(item, plan.inner, plan, depth + 1, resources)
    elif kind is IF_ARN or (kind is not None and member in plan.name_lists):
        for item in value[:_MAX_ITEMS]:
            # EC2 has {"content": …}, see `_collect_object`.
            name = item.get("content") if item.__class__ is dict else item
            if name and name.__class__ is str:
                _add(plan, kind, name, resources)
