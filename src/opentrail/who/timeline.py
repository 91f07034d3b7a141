"""A timeline: events in order of time, with similar calls in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from opentrail.core.event import Record, as_object
from opentrail.history.event_history import History
from opentrail.ports.event_store import FoundEvent
from opentrail.who.original_callers import chain_of
from opentrail.who.sentence import Part, join, parts

#: Members of records that are the same in an entry.
_SAME = ("userAgent", "eventSource", "errorCode")
#: Maximum pause between two calls of one entry.
_PAUSE = timedelta(minutes=15)
#: Maximum event ids, and names of resources, of an entry.
_MAX_LISTED = 20
#: Maximum sessions whose original callers are found.
_MAX_ORIGINS = 50


@dataclass(slots=True)
class CallGroup:
    """Calls of one operation by one caller with one outcome, made in quick succession."""

    first: FoundEvent
    #: The record of the first call.
    record: Record
    #: The last call.
    last: FoundEvent
    #: The sentence about the first call.
    parts: list[Part]
    calls: int = 0
    clauses: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    event_ids: list[str] = field(default_factory=list)
    resources: dict[str, None] = field(default_factory=dict)
    #: The original caller behind a session, in words, if it is recorded.
    behind: str | None = None

    def add(self, event: FoundEvent, words: Sequence[Part]) -> None:
        """Adds a later call."""
        self.calls += 1
        self.last = event
        self.clauses.add(join(words))
        self.objects.update(part.text for part in words if part.kind == "object")
        if len(self.event_ids) < _MAX_LISTED:
            self.event_ids.append(event.event_id)
        for resource in event.resources:
            if len(self.resources) < _MAX_LISTED:
                self.resources[resource.name] = None

    @property
    def words(self) -> str:
        """The action: `IAM user John created 3 IAM users through the AWS CLI`."""
        if len(self.clauses) == 1:
            times = "" if self.calls == 1 else f", {self.calls:,} times"
            return join(self.parts) + times
        types = [part.text for part in self.parts if part.kind == "object-type"]
        if len(types) == 1 == sum(part.kind == "object" for part in self.parts):
            several = Part("object", f"{len(self.objects):,} {_plural(types[0].strip())}")
            words = [
                several if part.kind == "object" else part
                for part in self.parts
                if part.kind != "object-type"
            ]
            times = f", {self.calls:,} times" if self.calls != len(self.objects) else ""
            return join(words) + times
        more = self.calls - 1
        return f"{join(self.parts)}, and {more:,} more such call{'s' if more > 1 else ''}"


def entries_of(events: Iterable[FoundEvent]) -> list[CallGroup]:
    """Returns the entries of a timeline, in the order of their first calls.

    Args:
        events: oldest first.
    """
    entries: list[CallGroup] = []
    open_entries: dict[tuple[object, ...], CallGroup] = {}
    for event in events:
        record: Record = orjson.loads(event.record)
        words = parts(record)
        kind = _kind_of(event, record)
        entry = open_entries.get(kind)
        if entry is None or event.event_time - entry.last.event_time > _PAUSE:
            entry = open_entries[kind] = CallGroup(event, record, event, words)
            entries.append(entry)
        entry.add(event, words)
    return entries


async def name_original_callers(history: History, entries: Iterable[CallGroup]) -> None:
    """Sets the original caller of each session, if recorded."""
    behind: dict[str, str | None] = {}
    for entry in entries:
        identity = as_object(entry.record.get("userIdentity"))
        if identity.get("type") not in ("AssumedRole", "FederatedUser"):
            continue
        session = "|".join(map(str, _credentials_of(identity)))
        if session not in behind and len(behind) < _MAX_ORIGINS:
            origin = (await chain_of(history, entry.record)).origin
            behind[session] = origin.words
        entry.behind = behind.get(session)


def _kind_of(event: FoundEvent, record: Record) -> tuple[object, ...]:
    """Returns the properties that the calls of an entry share."""
    identity = as_object(record.get("userIdentity"))
    caller = identity.get("arn") or identity.get("principalId") or identity.get("invokedBy")
    members = (caller, *_credentials_of(identity), *map(record.get, _SAME), event.event_name)
    return tuple(map(str, members))


def _credentials_of(identity: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the identity of credentials; sessions with one name may have different callers."""
    context = as_object(identity.get("sessionContext"))
    created = as_object(context.get("attributes")).get("creationDate")
    return identity.get("arn"), identity.get("accessKeyId"), created


def _plural(words: str) -> str:
    """Returns the plural of an everyday name of a resource type.

    >>> _plural("IAM policy"), _plural("S3 bucket"), _plural("network ACL")
    ('IAM policies', 'S3 buckets', 'network ACLs')
    """
    if words.endswith("y") and words[-2:-1] not in "aeiou":
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith(("s", "x", "ch")) else f"{words}s"
