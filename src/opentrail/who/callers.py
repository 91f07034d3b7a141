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

#: Maximum steps of a chain, following calls, and events searched for them.
_MAX_STEPS, _MAX_NEXT, _MAX_IN_WINDOW = 10, 5, 2_000
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
    return {"steps": steps, **_ends(f"more than {_MAX_STEPS} steps")}


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
        found = await history.latest(replace(search, end=start + window), _MAX_IN_WINDOW)
        after = sorted((one for one in found if _follows(one, event)), key=lambda one: one.order)
        if len(after) >= _MAX_NEXT:
            break
    return [statement(orjson.loads(one.record)) for one in after[:_MAX_NEXT]]


def _follows(one: FoundEvent, event: FoundEvent) -> bool:
    """Returns whether an event came after another.

    Times are whole seconds. Of two events of one second the order is known only if both were
    recorded, or both imported.
    """
    if one.event_time != event.event_time:
        return one.event_time > event.event_time
    return one.is_imported == event.is_imported and one.order > event.order


async def _maker(history: History, identity: Record, record: Record) -> Record | None:
    """Returns the record of the call that issued the caller's temporary credentials."""
    key, arn = identity.get("accessKeyId"), identity.get("arn")
    name = str(key or arn)
    found = await history.about(name, Search(), 50)
    session = as_object(as_object(identity.get("sessionContext")).get("attributes"))
    makers: list[Record] = []
    for event in found:
        made: Record = orjson.loads(event.record)
        if made.get("eventID") == record.get("eventID") or made.get("errorCode"):
            continue
        keys = [
            as_object(v).get("accessKeyId")
            for v in as_object(made.get("responseElements")).values()
        ]
        by_time = not key and keys and made.get("eventTime") == session.get("creationDate")
        if (key and key in keys) or by_time:
            makers.append(made)
    # The copy of the call in the role's account has less information about the caller.
    makers.sort(key=lambda made: as_object(made.get("userIdentity")).get("type") == "AWSAccount")
    return makers[0] if makers else None


def _origin(record: Record) -> dict[str, Any]:
    """Returns the end of a chain that begins with the caller of a record."""
    kind = as_object(record.get("userIdentity")).get("type")
    words = actor(record)
    if kind in _PEOPLE:
        return _begins(words, "human")
    if words.startswith("AWS service "):
        return _begins(words, "service")
    return _ends(f"the record names only {words}")


def _broken_end(record: Record, identity: Record) -> dict[str, Any]:
    """Returns the end of a chain whose next record is missing, with hints about the caller."""
    context = as_object(identity.get("sessionContext"))
    issuer = as_object(context.get("sessionIssuer"))
    if identity["type"] == "FederatedUser" and issuer.get("type") in ("IAMUser", "Root"):
        vouching = {"userIdentity": {**issuer, "accountId": identity.get("accountId")}}
        return _origin(vouching)
    host = str(identity.get("invokedBy") or "")
    if not identity.get("accessKeyId") and host.endswith(".amazonaws.com"):
        return _begins(f"AWS service {host}", "service")
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
    known = [f"; {words} {value}" for words, value in hints.items() if value]
    return _ends(f"no record of who assumed {role} as session {session}{''.join(known)}")


def _begins(words: str, kind: str) -> dict[str, Any]:
    return {"origin": words, "kind": kind, "end": f"it begins with {words}"}


def _ends(reason: str) -> dict[str, Any]:
    return {"origin": None, "kind": "unknown", "end": f"the chain ends here: {reason}"}
