"""What event history can be searched by: the columns that a record gives (cloudtrail-facts §4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, Record, as_object, parse_time
from opentrail.core.resource_types import RESOURCE_MEMBERS

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


#: Names are looked for down to `instancesSet.items[].instanceId`, in so many items of a list.
_DEEPEST, _MOST_ITEMS = 2, 100


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that an event touched; the type may be unknown."""

    type: str | None
    name: str


@dataclass(frozen=True, slots=True)
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
    resources: tuple[Resource, ...]


def attributes_of(record: Record) -> Attributes:
    """Returns the columns of `record`.

    Raises:
        KeyError, ValueError: `eventTime`, `eventName` or `eventSource` is missing or malformed.
    """
    identity = as_object(record.get("userIdentity"))
    management = record.get("managementEvent")
    category = record.get("eventCategory") or (DATA if management is False else MANAGEMENT)
    details = as_object(record.get("insightDetails")) if category == INSIGHT else {}
    return Attributes(
        event_id=str(record.get("eventID", "")),
        event_time=parse_time(record["eventTime"]),
        event_name=str(details.get("eventName") or record["eventName"]),
        event_source=str(details.get("eventSource") or record["eventSource"]),
        read_only=_as_bool(record.get("readOnly")),
        category=str(category),
        account=str(record.get("recipientAccountId") or identity.get("accountId") or ""),
        region=str(record.get("awsRegion", "")),
        username=username_of(record),
        access_key_id=_text(identity.get("accessKeyId")),
        principal_arn=_text(identity.get("arn")),
        source_ip=_text(record.get("sourceIPAddress")),
        error_code=_text(record.get("errorCode")),
        resources=resources_of(record),
    )


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) and value != "" else None


def _as_bool(value: object) -> bool:
    return value is True or value == "true"


def username_of(record: Record) -> str | None:
    """Returns what LookupEvents shows as `Username` (cloudtrail-facts §4).

    >>> username_of({"userIdentity": {"type": "AssumedRole", "principalId": "AROA:etl"}})
    'etl'
    """
    identity = as_object(record.get("userIdentity"))
    kind = identity.get("type")
    if kind == "Root":
        return "root"
    if kind in ("AssumedRole", "FederatedUser"):
        return str(identity.get("principalId", "")).partition(":")[2] or None
    if identity.get("userName"):
        return str(identity["userName"])
    return None


def resources_of(record: Record) -> tuple[Resource, ...]:
    """Returns the resources that a record names, each once, in order of discovery."""
    found: dict[tuple[str | None, str], Resource] = {}
    for resource in _named_resources(record):
        found.setdefault((resource.type, resource.name), resource)
    return tuple(found.values())


def _named_resources(record: Record) -> Iterator[Resource]:
    source = str(record.get("eventSource", "")).partition(".")[0]
    table = RESOURCE_MEMBERS.get(source, {})
    for part in (record.get("requestParameters"), record.get("responseElements")):
        if isinstance(part, Mapping):
            yield from _from_members(part, table, 0)
    listed = record.get("resources")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping):
            name = entry.get("ARN") or entry.get("ARNPrefix") or entry.get("arn")
            if name:
                yield Resource(_text(entry.get("type")), str(name))


def _from_members(
    part: Mapping[str, Any], table: Mapping[str, str], depth: int
) -> Iterator[Resource]:
    for member, value in part.items():
        kind = table.get(member)
        if kind and isinstance(value, str) and value:
            yield Resource(kind, value)
        elif isinstance(value, Mapping) and (depth == 0 or "items" in value):
            yield from _from_members(value, table, depth + 1)
            if isinstance(value.get("arn"), str) and _type_of_member(member, table):
                yield Resource(_type_of_member(member, table), value["arn"])
        elif depth < _DEEPEST and member == "items" and isinstance(value, list):
            for item in value[:_MOST_ITEMS]:
                if isinstance(item, Mapping):
                    yield from _from_members(item, table, depth + 1)


def _type_of_member(member: str, table: Mapping[str, str]) -> str | None:
    """Returns the type of an answer's wrapper, such as `user` in `{"user": {"arn": …}}`."""
    return table.get(f"{member}Name") or table.get(f"{member}Id")
