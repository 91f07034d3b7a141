"""The searchable columns of a record in event history (cloudtrail-format §6).

Members of an event's request and answer name resources: tables first, then rules. These decisions
are cached, because `attributes_of` runs for every call. For members in no table, in order:

- `derived_members` returns members of calls that write, from AWS's authorization data.
- An event names its own resource in members called after it: `CreateWorkGroup` in `name`,
  `workGroup`, `workGroupName`, `workGroupId` and `workGroupArn`.
- In calls that write, an ARN names a resource, of the type in the ARN; in services that
  have a table, only the service's own ARNs do.
- Calls of EC2 that only read do not name the items of their lists; nor do AWS's records.

`scripts/resource_data.py` derives the members of calls that write from AWS's authorization data,
and documents the file.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from opentrail.core.arns import NAMESPACES, parse_arn
from opentrail.core.event import (
    DATA,
    FOUND_DETAILS,
    MANAGEMENT,
    Json,
    Record,
    as_object,
    call_in,
    is_account,
    parse_time,
    without_version,
)
from opentrail.core.resource_types import (
    ID_MEMBERS,
    ID_TYPES,
    OF_EVENTS,
    RESOURCE_MEMBERS,
    WRAPPERS,
)
from opentrail.core.user_agents import agent_of
from opentrail.core.value_class import value_class

#: Services whose members are cached: each takes up to 300 kB, and a deployment calls few.
_CACHED_SERVICES = 64


class DerivedMembers(NamedTuple):
    """The members of one event that name resources, each with a type, or "" if it is unknown."""

    #: Of the request and the answer.
    top: Mapping[str, str]
    #: Of structures in them, and of the entries of `entry_lists`.
    inner: Mapping[str, str]
    #: Members that are lists of names.
    name_lists: frozenset[str]
    #: Members that are lists of structures, whose members are read.
    entry_lists: frozenset[str]


_NONE = DerivedMembers({}, {}, frozenset(), frozenset())


@cache
def _lines() -> Mapping[bytes, bytes]:
    packed = files("opentrail.core").joinpath("members.json.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines()
    return {source: events for source, _, events in (line.partition(b"\t") for line in lines)}


@lru_cache(_CACHED_SERVICES)
def _events_of(source: str) -> Mapping[str, Mapping[str, str]]:
    events = _lines().get(source.encode(errors="replace"))
    return json.loads(events) if events else {}


def derived_members(source: str, event_name: str) -> DerivedMembers:
    """Returns the members of an event; none if it only reads, or is unknown.

    Args:
        source: of the event, without `.amazonaws.com`.
        event_name: with the version of the API or without.

    >>> derived_members("monitoring", "DeleteAlarms").top
    {'alarmNames': 'AWS::CloudWatch::Alarm'}
    """
    members = _events_of(source).get(without_version(event_name))
    if not members:
        return _NONE
    plain = {member.rstrip("[]{}"): resource_type for member, resource_type in members.items()}
    inner = {member[1:]: each for member, each in plain.items() if member[0] == "."}
    return DerivedMembers(
        {member: each for member, each in plain.items() if member[0] != "."},
        inner,
        frozenset(member.strip(".[]") for member in members if member.endswith("[]")),
        frozenset(member[:-2] for member in members if member.endswith("{}")),
    )


#: Decisions other than a type or None: it depends on the value, or the type is unknown.
IF_ARN, BY_ID, UNTYPED = "if arn", "by id", "untyped"

_OWN = re.compile(
    r"(Create|Delete|Update|Describe|Get|Put|Modify|Register|Deregister|Start|Stop|Restore"
    r"|Enable|Disable)([A-Z]\w*?)(\d.*)?",
    re.DOTALL,
)
_WRITES = ("Create", "Delete", "Update", "Put", "Modify", "Register", "Deregister")
_ENDINGS = ("", "name", "id", "arn", "identifier")
_BARE = ("name", "id", "arn")
#: Maximum members of one event; foreign records may have any number.
_MAX_MEMBERS = 128
#: Maximum events in the cache.
_MAX_RULES = 2_048


class Kinds(dict[str, str | None]):
    """Member → type, decided on first use."""

    def __init__(self, plan: ResourceRule, top: bool) -> None:
        super().__init__()
        self._plan, self._top = plan, top

    def __missing__(self, member: str) -> str | None:
        kind = self._plan.decide(member, self._top)
        if len(self) < _MAX_MEMBERS:
            self[member] = kind
        return kind


class Wrappers(dict[str, str | None]):
    """Member that wraps a resource in an answer → type."""

    def __init__(self, plan: ResourceRule) -> None:
        super().__init__()
        self._plan = plan

    def __missing__(self, member: str) -> str | None:
        kind = self._plan.wrapped(member)
        if len(self) < _MAX_MEMBERS:
            self[member] = kind
        return kind


class ResourceRule:
    """Rules for the members of one event.

    `top` decides about members of the request and the answer, `inner` about members a level deeper,
    `wrappers` about objects such as `user` in `{"user": {"arn": …}}`. `name_lists` are members with
    names, `entry_lists` with objects; `roots` are objects with all of the request and of the
    answer; `lists` says whether `items` of EC2 are read.
    """

    __slots__ = (
        "_derived",
        "_has_table",
        "_own",
        "_own_is_known",
        "_own_type",
        "_reads",
        "_source",
        "_table",
        "_verb",
        "_wrappers",
        "entry_lists",
        "inner",
        "lists",
        "name_lists",
        "roots",
        "top",
        "wrappers",
    )

    def __init__(self, source: str, event_name: str, reads: bool) -> None:
        self._source, self._reads = source, reads
        self._has_table = source in RESOURCE_MEMBERS
        self._table = _table_of(source, event_name)
        self._derived = derived = derived_members(source, event_name)
        self.name_lists = _in_both_cases(derived.name_lists)
        self.entry_lists = _in_both_cases(derived.entry_lists)
        self._wrappers: Mapping[str, str] = WRAPPERS.get(source, {})
        own = _OWN.fullmatch(event_name)
        self._verb = own.group(1) if own else ""
        self._own = own.group(2).lower() if own else None
        #: Whether the table has the member that names the event's resource.
        self._own_is_known = bool(self._own) and any(
            name.lower() in (f"{self._own}name", f"{self._own}id", f"{self._own}arn")
            for name in self._table
        )
        namespace = NAMESPACES.get(source)
        self._own_type = f"AWS::{namespace}::{own.group(2)}" if own and namespace else UNTYPED
        self.roots = (f"{event_name}Request", f"{event_name}Response")
        self.lists = not (source == "ec2" and reads)
        self.top, self.inner = Kinds(self, True), Kinds(self, False)
        self.wrappers = Wrappers(self)

    def decide(self, member: str, top: bool) -> str | None:
        """Returns a type, `BY_ID`, `IF_ARN` or `UNTYPED`; None if it names no resource."""
        name = member[:1].lower() + member[1:]
        if name in self._table:
            return self._table[name]
        if self._source == "ec2" and name in ID_MEMBERS:
            return BY_ID
        derived = self._derived.top if top else self._derived.inner
        if name in derived:
            return derived[name] or UNTYPED
        if self._is_own(name.lower(), top):
            return self._own_type
        return None if self._reads else IF_ARN

    def _is_own(self, name: str, top: bool) -> bool:
        if self._own is None or self._own_is_known or (self._has_table and self._reads):
            return False
        if name.startswith(self._own) and name[len(self._own) :] in _ENDINGS:
            return True
        return top and not self._has_table and name in _BARE and self._verb in _WRITES

    def wrapped(self, member: str) -> str | None:
        """Returns the type of an object in this member; None if it is unknown."""
        resource_type = self._wrappers.get(member) or self._table.get(f"{member}Name")
        resource_type = resource_type or self._table.get(f"{member}Id")
        if resource_type:
            return resource_type
        own = self._own is not None and not self._has_table and member.lower() == self._own
        return self._own_type if own else None

    def type_of_arn(self, text: str) -> str | None:
        """Returns the type in an ARN, or `UNTYPED`; None if it is not one of the event's."""
        arn = parse_arn(text)
        if arn is None or (self._has_table and arn.service != self._source):
            return None
        return arn.type or UNTYPED


def _in_both_cases(members: Iterable[str]) -> frozenset[str]:
    """Returns members also with an initial capital, as in later operations of EC2."""
    return frozenset(each for name in members for each in (name, name[:1].upper() + name[1:]))


def _table_of(source: str, event_name: str) -> dict[str, str | None]:
    table: dict[str, str | None] = dict(RESOURCE_MEMBERS.get(source, {}))
    for word, members in OF_EVENTS.get(source, {}).items():
        if word in event_name:
            table.update(members)
            break
    return table


_plans: dict[tuple[str, str, bool], ResourceRule] = {}


def plan_of(source: str, event_name: str, reads: bool) -> ResourceRule:
    """Returns the rules for records of this event; `source` may end in `.amazonaws.com`."""
    key = (source, event_name, reads)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MAX_RULES:
            _plans.clear()
        plan = _plans[key] = ResourceRule(source.partition(".")[0], event_name, reads)
    return plan


def type_of_id(text: str) -> str | None:
    """Returns the type of an EC2 resource by the prefix of its id.

    >>> type_of_id("i-0abc")
    'AWS::EC2::Instance'
    """
    return ID_TYPES.get(text.partition("-")[0])


def named_by(plan: ResourceRule, kind: str, value: Any) -> tuple[str | None, bool]:
    """Returns the type of the resource that a value names, and whether it names one.

    `kind` is not a type.
    """
    if kind == BY_ID:
        resource_type = type_of_id(value)
        return resource_type, resource_type is not None
    if value[:4] == "arn:":
        arn_type = plan.type_of_arn(value)
        return (None if arn_type == UNTYPED else arn_type), arn_type is not None
    return None, kind == UNTYPED


# Columns

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
    #: The name of the agent that made the call, as the agent gives it.
    agent: str | None
    resources: tuple[Resource, ...]


def account_of(record: Record) -> str:
    """Returns the account whose event a record is; "" if the record does not say.

    >>> account_of({"recipientAccountId": "123456789012"})
    '123456789012'
    """
    identity = as_object(call_in(record).get("userIdentity"))
    accounts = record.get("recipientAccountId"), identity.get("accountId")
    return next((str(account) for account in accounts if is_account(account)), "")


def attributes_of(record: Record) -> Attributes:
    """Returns the columns of `record`.

    Raises:
        KeyError, ValueError: `eventTime`, `eventName` or `eventSource` is missing or malformed.
    """
    management = record.get("managementEvent")
    call = call_in(record)
    identity = as_object(call.get("userIdentity"))
    category = record.get("eventCategory") or (DATA if management is False else MANAGEMENT)
    details = as_object(record.get(FOUND_DETAILS.get(str(category), "")))
    agent = agent_of(record)
    return Attributes(
        event_id=str(record.get("eventID", "")),
        event_time=parse_time(record["eventTime"]),
        event_name=str(details.get("eventName") or call.get("eventName") or record["eventName"]),
        event_source=str(
            details.get("eventSource") or call.get("eventSource") or record["eventSource"]
        ),
        read_only=_as_bool(record.get("readOnly")),
        category=str(category),
        account=account_of(record),
        region=str(record.get("awsRegion", "")),
        username=username_of(record) if call is record else _text(identity.get("principalId")),
        access_key_id=_text(identity.get("accessKeyId")),
        principal_arn=_text(identity.get("arn")),
        source_ip=_text(call.get("sourceIPAddress")),
        error_code=_text(call.get("errorCode")),
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
    """Returns the `Username` that LookupEvents shows (cloudtrail-format §6).

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
