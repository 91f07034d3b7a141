"""The original caller behind the credentials of a call, and the caller's next calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from opentrail.core.event import Record, as_object
from opentrail.core.expression import Compare, literal
from opentrail.history.event_history import History, Search
from opentrail.ports.event_store import FoundEvent
from opentrail.who.sentence import actor, statement

#: Maximum steps of a chain.
_MAX_STEPS = 10
#: Maximum calls that followed a call.
_MAX_NEXT = 5
#: Maximum events of a period that are searched for them.
_MAX_IN_WINDOW = 2_000
#: Periods after a call in which its caller's next calls are searched for, shortest first.
_WINDOWS = tuple(timedelta(seconds=s) for s in (2, 60, 900, 7_200, 86_400, 90 * 86_400))
_PEOPLE = ("IAMUser", "Root", "SAMLUser", "WebIdentityUser", "IdentityCenterUser", "Directory")


async def origin_of(history: History, record: Record) -> dict[str, Any]:
    """Returns the calls that lead from the caller of a record back to the original caller.

    Returns:
        `steps`, nearest first; `origin` in words, or None; its `kind` (`human`, `service` or
        `unknown`); and how it `end`s.
    """
    steps: list[dict[str, Any]] = []
    seen: set[str] = set()
    while len(steps) < _MAX_STEPS:
        identity = as_object(record.get("userIdentity"))
        if identity.get("type") not in ("AssumedRole", "FederatedUser"):
            return {"steps": steps, **_origin(record)}
        key = str(identity.get("accessKeyId") or identity.get("arn") or "")
        maker = await _maker(history, identity, record) if key and key not in seen else None
        if maker is None:
            return {"steps": steps, **_broken_end(record, identity)}
        seen.add(key)
        steps.append(statement(maker))
        record = maker
    return {"steps": steps, **_unknown_origin(f"more than {_MAX_STEPS} steps")}


async def next_calls(history: History, event: FoundEvent, record: Record) -> list[dict[str, Any]]:
    """Returns the calls that followed, with the same access key, else of the same principal.

    Args:
        history: where events are looked up.
        event: the call that they followed.
        record: that call's record.
    """
    identity = as_object(record.get("userIdentity"))
    key, arn = identity.get("accessKeyId"), identity.get("arn")
    start = event.event_time
    if key:
        search = Search(attribute=("AccessKeyId", str(key)), start=start)
    elif arn:
        expression = Compare(("principal_arn",), "=", literal(str(arn)), True)
        search = Search(expression=expression, start=start)
    else:
        return []
    after: list[FoundEvent] = []
    for window in _WINDOWS:
        events = await history.latest(replace(search, end=start + window), _MAX_IN_WINDOW)
        after = [call for call in events if _follows(call, event)]
        after.sort(key=lambda call: call.order)
        if len(after) >= _MAX_NEXT:
            break
    return [statement(orjson.loads(call.record)) for call in after[:_MAX_NEXT]]


def _follows(other: FoundEvent, event: FoundEvent) -> bool:
    """Returns whether an event came after another.

    Times are whole seconds. Of two events of one second the order is known only if both were
    recorded, or both imported.
    """
    if other.event_time != event.event_time:
        return other.event_time > event.event_time
    return other.is_imported == event.is_imported and other.order > event.order


async def _maker(history: History, identity: Record, record: Record) -> Record | None:
    """Returns the record of the call that issued the caller's temporary credentials."""
    key, arn = identity.get("accessKeyId"), identity.get("arn")
    name = str(key or arn)
    events = await history.events_of(name, Search(), 50)
    session = as_object(as_object(identity.get("sessionContext")).get("attributes"))
    makers: list[Record] = []
    for event in events:
        call: Record = orjson.loads(event.record)
        if call.get("eventID") == record.get("eventID") or call.get("errorCode"):
            continue
        keys = [
            as_object(v).get("accessKeyId")
            for v in as_object(call.get("responseElements")).values()
        ]
        by_time = not key and keys and call.get("eventTime") == session.get("creationDate")
        if (key and key in keys) or by_time:
            makers.append(call)
    # The copy of the call in the role's account has less information about the caller.
    makers.sort(key=lambda call: as_object(call.get("userIdentity")).get("type") == "AWSAccount")
    return makers[0] if makers else None


def _origin(record: Record) -> dict[str, Any]:
    """Returns the end of a chain that begins with the caller of a record."""
    kind = as_object(record.get("userIdentity")).get("type")
    words = actor(record)
    if kind in _PEOPLE:
        return _known_origin(words, "human")
    if words.startswith("AWS service "):
        return _known_origin(words, "service")
    return _unknown_origin(f"the record names only {words}")


def _broken_end(record: Record, identity: Record) -> dict[str, Any]:
    """Returns the end of a chain whose next record is missing, with hints about the caller."""
    context = as_object(identity.get("sessionContext"))
    issuer = as_object(context.get("sessionIssuer"))
    if identity["type"] == "FederatedUser" and issuer.get("type") in ("IAMUser", "Root"):
        vouching = {"userIdentity": {**issuer, "accountId": identity.get("accountId")}}
        return _origin(vouching)
    host = str(identity.get("invokedBy") or "")
    if not identity.get("accessKeyId") and host.endswith(".amazonaws.com"):
        return _known_origin(f"AWS service {host}", "service")
    caller = actor(record)
    role, _, session = caller.removesuffix(")").partition(" (session ")
    hints = {
        "the session carries the source identity": context.get("sourceIdentity"),
        "the credentials were delivered to EC2 instance": (
            session if context.get("ec2RoleDelivery") else None
        ),
        "the credentials were issued to": (
            as_object(identity.get("inScopeOf")).get("credentialsIssuedTo")
        ),
    }
    details = [f"; {words} {value}" for words, value in hints.items() if value]
    return _unknown_origin(
        f"no record of who assumed {role} as session {session}{''.join(details)}"
    )


def _known_origin(words: str, kind: str) -> dict[str, Any]:
    return {"origin": words, "kind": kind, "end": f"it begins with {words}"}


def _unknown_origin(reason: str) -> dict[str, Any]:
    return {"origin": None, "kind": "unknown", "end": f"the chain ends here: {reason}"}
