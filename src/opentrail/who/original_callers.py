"""The original caller behind the credentials of a call, and the caller's next calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

import orjson

from opentrail.core.event import Record, as_object, objects_in, parse_time
from opentrail.core.expression import Compare, literal
from opentrail.history.event_history import History, Search
from opentrail.ports.event_store import FoundEvent
from opentrail.who.sentence import Part, actor_parts, join, session_name, statement
from opentrail.who.shapes import CredentialChain, ProvenSentence

#: Maximum steps of a chain.
_MAX_STEPS = 10
#: Maximum calls that followed a call.
_MAX_NEXT = 5
#: Maximum time from a session's creation to the event of the call that issued its credentials.
_MAKING = timedelta(minutes=1)
#: Maximum events of a period to search for these calls.
_MAX_IN_WINDOW = 2_000
#: Periods after a call to search for its caller's next calls, shortest first.
_WINDOWS = tuple(timedelta(seconds=s) for s in (2, 60, 900, 7_200, 86_400, 90 * 86_400))
_PEOPLE = ("IAMUser", "Root", "SAMLUser", "WebIdentityUser", "IdentityCenterUser", "Directory")


@dataclass(frozen=True, slots=True)
class OriginalCaller:
    """The original caller: the parts of its name, empty if unknown, and the end of the chain."""

    parts: Sequence[Part]
    kind: Literal["human", "service", "unknown"]
    end: str

    @property
    def words(self) -> str | None:
        """The original caller, such as `IAM user John`."""
        return join(self.parts) or None


@dataclass(frozen=True, slots=True)
class RoleChain:
    """The records of the calls that lead back to the original caller, nearest first."""

    steps: Sequence[Record]
    origin: OriginalCaller
    #: The sessions' source identity, None without one, and their tags by key.
    source_identity: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> CredentialChain:
        """Returns sentences and evidence."""
        return {
            "steps": [statement(step) for step in self.steps],
            "origin": self.origin.words,
            "kind": self.origin.kind,
            "end": self.origin.end,
            "sourceIdentity": self.source_identity,
            "sessionTags": dict(self.tags),
        }


async def chain_of(history: History, record: Record) -> RoleChain:
    """Returns the calls that lead from the caller of a record back to the original caller."""
    steps, origin = await _steps(history, record)
    return RoleChain(steps, origin, _source_identity([record, *steps]), _session_tags(steps))


def _source_identity(records: Iterable[Record]) -> str | None:
    """Returns the source identity of the sessions in a chain, nearest first."""
    for record in records:
        context = as_object(as_object(record.get("userIdentity")).get("sessionContext"))
        parameters = as_object(record.get("requestParameters"))
        for members in (context, parameters):
            if isinstance(identity := members.get("sourceIdentity"), str) and identity:
                return identity
    return None


def _session_tags(steps: Iterable[Record]) -> dict[str, str]:
    """Returns the tags given when sessions were issued; the nearest session's tags are first.

    Requests list them; providers and earlier sessions pass them by key.
    """
    tags: dict[str, str] = {}
    for step in steps:
        parameters = as_object(step.get("requestParameters"))
        listed = [(tag.get("key"), tag.get("value")) for tag in objects_in(parameters.get("tags"))]
        by_key = [
            item
            for member in ("principalTags", "incomingTransitiveTags")
            for item in as_object(parameters.get(member)).items()
        ]
        for key, value in (*listed, *by_key):
            if key is not None:
                tags.setdefault(str(key), str(value))
    return tags


async def _steps(history: History, record: Record) -> tuple[list[Record], OriginalCaller]:
    """Returns the calls that issued credentials, nearest first, and the original caller."""
    steps: list[Record] = []
    seen: set[str] = set()
    while len(steps) < _MAX_STEPS:
        identity = as_object(record.get("userIdentity"))
        if identity.get("type") not in ("AssumedRole", "FederatedUser"):
            return steps, _origin(record)
        key = str(identity.get("accessKeyId") or identity.get("arn") or "")
        maker = await _maker(history, identity, record) if key and key not in seen else None
        if maker is None:
            return steps, _broken_end(record, identity)
        seen.add(key)
        steps.append(maker)
        record = maker
    return steps, _unknown_origin(f"more than {_MAX_STEPS} steps")


async def next_calls(history: History, event: FoundEvent, record: Record) -> list[ProvenSentence]:
    """Returns the next calls with the same access key, otherwise of the same principal.

    Args:
        history: finds the events.
        event: the call before them.
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

    Times are whole seconds. The order of two events in one second is known only if both were
    recorded, or both imported.
    """
    if other.event_time != event.event_time:
        return other.event_time > event.event_time
    return other.is_imported == event.is_imported and other.order > event.order


def _soon_after(session: Record) -> datetime | None:
    """Returns a time after a session began, before most calls that only name its key."""
    with contextlib.suppress(ValueError):
        return parse_time(str(session.get("creationDate"))) + _MAKING
    return None


async def _maker(history: History, identity: Record, record: Record) -> Record | None:
    """Returns the record of the call that issued the caller's temporary credentials."""
    key, arn = identity.get("accessKeyId"), identity.get("arn")
    name = str(key or arn)
    session = as_object(as_object(identity.get("sessionContext")).get("attributes"))
    begun = _soon_after(session)
    events = await history.events_of(name, Search(end=begun), 50) if begun else []
    makers = _makers(events, identity, record)
    if not makers:
        makers = _makers(await history.events_of(name, Search(), 50), identity, record)
    # The copy of the call in the role's account has less information about the caller.
    makers.sort(key=lambda call: as_object(call.get("userIdentity")).get("type") == "AWSAccount")
    return makers[0] if makers else None


def _makers(events: Sequence[FoundEvent], identity: Record, record: Record) -> list[Record]:
    """Returns the records of the calls among events that issued the caller's credentials."""
    key = identity.get("accessKeyId")
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
    return makers


def _origin(record: Record) -> OriginalCaller:
    """Returns the end of a chain that begins with the caller of a record."""
    kind = as_object(record.get("userIdentity")).get("type")
    caller = actor_parts(record)
    words = join(caller)
    if kind in _PEOPLE:
        return OriginalCaller(caller, "human", f"it begins with {words}")
    if words.startswith("AWS service "):
        return OriginalCaller(caller, "service", f"it begins with {words}")
    return _unknown_origin(f"the record names only {words}")


def _broken_end(record: Record, identity: Record) -> OriginalCaller:
    """Returns the end of a chain whose next record is missing, with hints about the caller."""
    context = as_object(identity.get("sessionContext"))
    issuer = as_object(context.get("sessionIssuer"))
    if identity["type"] == "FederatedUser" and issuer.get("type") in ("IAMUser", "Root"):
        vouching = {"userIdentity": {**issuer, "accountId": identity.get("accountId")}}
        return _origin(vouching)
    host = str(identity.get("invokedBy") or "")
    if not identity.get("accessKeyId") and host.endswith(".amazonaws.com"):
        return _origin({"userIdentity": {"type": "AWSService", "invokedBy": host}})
    caller, session = actor_parts(record), session_name(identity)
    role = join(part for part in caller if part.kind != "session")
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
    use = f"assumed {role} as session {session}"
    if identity["type"] == "FederatedUser":
        use = f"got the credentials of {role}"
    return _unknown_origin(f"no record of who {use}{''.join(details)}")


def _unknown_origin(reason: str) -> OriginalCaller:
    return OriginalCaller((), "unknown", f"the chain ends here: {reason}")
