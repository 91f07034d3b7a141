"""Which members of an event's request and answer name resources: tables first, then rules.

Decisions about the members of an event are cached, because `attributes_of` runs for every call.

For members that no table has, in this order:

- `derived_members` returns those that write, from AWS's authorization data.
- An event names its own resource in members called after it: `CreateWorkGroup` in `name`,
  `workGroup`, `workGroupName`, `workGroupId` and `workGroupArn`.
- In calls that write, an ARN names a resource, of the type in the ARN; in services that
  have a table, only the service's own ARNs do.
- Calls of EC2 that only read do not name the items of their lists; nor do AWS's records.

`scripts/resource_data.py` derives the members of calls that write from AWS's authorization data,
and says what is in the file.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from opentrail.core.arns import NAMESPACES, parse_arn
from opentrail.core.event import without_version
from opentrail.core.resource_types import (
    ID_MEMBERS,
    ID_TYPES,
    OF_EVENTS,
    RESOURCE_MEMBERS,
    WRAPPERS,
)

#: Services whose members are kept: each takes up to 300 kB, and a deployment calls few.
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


#: Decisions other than a type or None: depends on the value, or the type is unknown.
IF_ARN, BY_ID, UNTYPED = "if arn", "by id", "untyped"

_OWN = re.compile(
    r"(Create|Delete|Update|Describe|Get|Put|Modify|Register|Deregister|Start|Stop|Restore"
    r"|Enable|Disable)([A-Z]\w*?)(\d.*)?",
    re.DOTALL,
)
_WRITES = ("Create", "Delete", "Update", "Put", "Modify", "Register", "Deregister")
_ENDINGS = ("", "name", "id", "arn", "identifier")
_BARE = ("name", "id", "arn")
#: Maximum members of one event; foreign records may have any.
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
    """How the members of one event are read.

    `top` decides about members of the request and the answer, `inner` about those a level deeper,
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
        """Returns the type in an ARN, or `UNTYPED`; None if it is not one of the event."""
        arn = parse_arn(text)
        if arn is None or (self._has_table and arn.service != self._source):
            return None
        return arn.type or UNTYPED


def _in_both_cases(members: Iterable[str]) -> frozenset[str]:
    """Returns members also with a capital, as later operations of EC2 have them."""
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
    """Returns how records of this event are read; `source` may end in `.amazonaws.com`."""
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
    """Returns the type of what a value names and whether it names anything, for `kind` no type."""
    if kind == BY_ID:
        resource_type = type_of_id(value)
        return resource_type, resource_type is not None
    if value[:4] == "arn:":
        arn_type = plan.type_of_arn(value)
        return (None if arn_type == UNTYPED else arn_type), arn_type is not None
    return None, kind == UNTYPED
