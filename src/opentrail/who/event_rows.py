"""Rows of events for lists, pages and answers, and the resources that events name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource, attributes_of
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Record, as_object, call_in, format_time
from opentrail.core.expression import And, Compare, Expression, Or, literal
from opentrail.core.user_agents import Agent, agent_of
from opentrail.history.event_history import History, Search
from opentrail.history.nearest import Nearest
from opentrail.history.threads import in_thread
from opentrail.ports.event_store import FoundEvent
from opentrail.who.sentence import join, method_of, parts, sentence
from opentrail.who.shapes import AgentRow, EventRow, ListedResource, NearestRow


async def find_event(history: History, event_id: str) -> FoundEvent:
    """Returns an event by its id.

    Raises:
        CloudTrailError: `EventNotFound`.
    """
    events = await history.latest(Search(attribute=("EventId", event_id)), 1)
    if not events:
        message = f"event {event_id} not found; 'opentrail lookup' lists events"
        for expired in await history.latest(Search(attribute=("EventName", "EventsExpired")), 1):
            details = as_object(orjson.loads(expired.record).get("serviceEventDetails"))
            last = f"{details.get('category')} events up to {details.get('lastEventTime')}"
            message += f"; it may have expired: {last} have"
        raise CloudTrailError("EventNotFound", message, 404)
    return events[0]


async def rows_of(events: Sequence[FoundEvent]) -> list[EventRow]:
    """Returns the rows of events; works in a thread, so that it does not delay other calls."""
    return await in_thread(lambda: [row_of(event) for event in events])


def row_of(event: FoundEvent) -> EventRow:
    """Returns the content of an event's row and page head."""
    record = orjson.loads(event.record)
    attributes = attributes_of(record)
    call = call_in(record)
    identity = as_object(call.get("userIdentity"))
    session = as_object(as_object(identity.get("sessionContext")).get("attributes"))
    is_call = "eventName" in record  # other records are about calls and have no caller
    words = parts(record)
    clause = join(words)
    method = method_of(record) if is_call else None
    agent = agent_of(record) if is_call else None
    return {
        "eventId": event.event_id,
        "eventTime": format_time(attributes.event_time),
        "eventName": event.event_name,
        "eventSource": event.event_source,
        "region": attributes.region,
        "account": attributes.account,
        "category": attributes.category,
        "readOnly": event.read_only,
        "username": event.username,
        "principalType": identity.get("type"),
        "arn": attributes.principal_arn,
        "accessKeyId": event.access_key_id,
        "sourceIp": attributes.source_ip,
        "userAgent": _text(call.get("userAgent")),
        "errorCode": attributes.error_code,
        "requestId": _text(record.get("requestID")),
        "mfa": _mfa(session, record),
        "resources": [
            {"type": resource.type, "name": resource.name} for resource in event.resources
        ],
        "sentence": sentence(record) if is_call or call is not record else clause,
        "clause": clause,
        "parts": [{"kind": part.kind, "text": part.text} for part in words],
        "method": {"kind": method.kind, "name": method.name} if method else None,
        "agent": agent_row(agent),
    }


def agent_row(agent: Agent | None) -> AgentRow | None:
    """Returns an agent in the form of documents."""
    if agent is None:
        return None
    return {
        "name": agent["name"],
        "kind": agent["kind"],
        "session": agent.get("session"),
        "delegator": agent.get("delegator"),
    }


def nearest_row(item: Nearest) -> NearestRow:
    """Returns a searched value and the most similar value in events."""
    return {
        "field": item.field,
        "label": item.label,
        "value": item.value,
        "nearest": item.nearest,
        "events": item.events,
        "difference": item.difference,
    }


def _mfa(session: Mapping[str, Any], record: Record) -> bool | None:
    used = as_object(record.get("additionalEventData")).get("MFAUsed")
    if used in ("Yes", "No"):
        return bool(used == "Yes")
    value = session.get("mfaAuthenticated")
    return None if value is None else value in (True, "true")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


#: Maximum events to count for a resource.
_MAX_COUNTED = 10_000
#: The form of IAM's unique ids, such as AIDACKCEVSQ6C2EXAMPLE.
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")


@dataclass
class ResourceNames:
    """A resource, and its newest event."""

    name: str
    type: str | None
    latest: FoundEvent
    names: list[str] = field(default_factory=list)


def also(search: Search, condition: Expression) -> Search:
    """Returns a search with another condition."""
    parts = (search.expression, condition) if search.expression else (condition,)
    return replace(search, expression=And(parts))


async def resource_row(
    history: History, counted: Search | None, each: ResourceNames
) -> ListedResource:
    """Returns the row of a resource with the number of events of a search that name it."""
    named = (Compare(("resource_names",), "=", literal(name), is_field=True) for name in each.names)
    count = (
        await history.count_events(also(counted, Or(tuple(named))), _MAX_COUNTED)
        if counted
        else None
    )
    (row,) = await rows_of([each.latest])
    return {
        "name": each.name,
        "type": each.type,
        "aliases": [name for name in each.names if name != each.name],
        "events": count.value if count else None,
        "counted": count is not None and count.is_exact,
        "latest": row,
    }


def resources_in(events: Sequence[FoundEvent]) -> list[ResourceNames]:
    """Returns the resources that events name, in order of their newest event."""
    named = [one for event in events for one in event.resources]
    types = {one.name: one.type for one in named if one.type}
    names = {(one.type, one.name) for one in named}
    found: dict[tuple[str | None, str], ResourceNames] = {}
    for event in events:
        for one in event.resources:
            if not one.name:
                continue
            kind = one.type or types.get(one.name)
            name = _main_name(kind, one.name, event.resources, names)
            known = found.setdefault((kind, name), ResourceNames(name, kind, event))
            if one.name not in known.names:
                known.names.append(one.name)
    return list(found.values())


def _main_name(
    kind: str | None, name: str, beside: Iterable[Resource], names: set[tuple[str | None, str]]
) -> str:
    """Returns the name of a resource that events call by its ARN, its URL or its unique id."""
    arn = parse_arn(name)
    if arn is not None:
        return arn.name if (kind, arn.name) in names else name
    if "://" in name:
        last = name.rpartition("/")[2]
        return last if (kind, last) in names else name
    if not _UNIQUE_ID.fullmatch(name):
        return name
    others = {
        other.name
        for other in beside
        if other.type == kind and other.name and parse_arn(other.name) is None
    } - {name}
    only = others.pop() if len(others) == 1 else name
    return name if _UNIQUE_ID.fullmatch(only) else only
