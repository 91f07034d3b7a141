"""Messages about log files that wait in the state store, sent at least once (guarantee L5).

A note is written in the same transaction as the file's state, so that no message is lost; the sink
removes it after sending. Sinks have their own rounds, so that they do not delay log files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import msgspec

from opentrail.core.event import Json, parse_time
from opentrail.core.logfile import DeliveryPlace
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite

#: Kind of note: a log file to announce to a topic.
NOTICE = "notice"
#: Kind of note: events to send to a log group.
STREAM = "stream"
KINDS = (NOTICE, STREAM)
#: Subject of messages to a topic.
SUBJECT = "[Amazon CloudTrail] New log file delivered"
#: First message to a topic.
FIRST_MESSAGE = "CloudTrail validation message."


def stream_name(place: DeliveryPlace) -> str:
    """Returns the name of the stream that events of a place go to."""
    owner = f"{place.organization}_" if place.organization else ""
    return f"{owner}{place.account}_CloudTrail_{place.region}"


class Notice(msgspec.Struct, frozen=True):
    """A log file to announce to a topic: the members of its note."""

    topic: str
    bucket: str
    key: str


@dataclass(slots=True)
class SinkStatus:
    """The results of a sink for GetTrailStatus. Times are stored times."""

    latest_attempt: str | None = None
    latest: str | None = None
    error: str | None = None


class Outbox:
    """The notes of one kind."""

    def __init__(self, control: ControlStore, kind: str, longest: timedelta) -> None:
        self._control = control
        self._kind = kind
        self._longest = longest

    async def waiting(self, uid: str) -> list[Stored]:
        """Returns the notes of a trail, oldest first."""
        return await self._control.scan(self._kind, f"{uid}/")

    def is_over(self, stored: Stored, now: datetime) -> bool:
        """Returns whether a note has expired."""
        return now - parse_time(stored.document["since"]) > self._longest

    async def status(self, uid: str) -> SinkStatus:
        """Returns the status of a trail's notes."""
        return status_of(await self._control.get(state_kind(self._kind), uid))

    async def finish(self, uid: str, notes: Sequence[Stored], status: SinkStatus) -> None:
        """Removes notes, if any, and stores the status."""
        await self._apply(uid, [Remove(self._kind, note.key) for note in notes], status)

    async def store(self, uid: str, note: Stored, status: SinkStatus | None = None) -> None:
        """Stores a note and the status."""
        put = Put(self._kind, note.key, note.document)
        if status is None:
            await self._control.apply([put])
        else:
            await self._apply(uid, [put], status)

    async def _apply(self, uid: str, changes: list[StoreWrite], status: SinkStatus) -> None:
        await self._control.apply([*changes, Put(state_kind(self._kind), uid, asdict(status))])


def state_kind(kind: str) -> str:
    """Returns the kind of document with the status of notes of a kind; its key is the trail."""
    return f"{kind}-state"


def status_of(stored: Stored | None) -> SinkStatus:
    """Returns the status in a document; without one nothing was sent yet."""
    return SinkStatus(**stored.document) if stored else SinkStatus()


def note_of(kind: str, uid: str, number: int, since: str, document: Json) -> Put:
    """Returns the change that writes a note of a trail's file with this number."""
    return Put(kind, file_key(uid, number), {**document, "since": since})


def file_key(uid: str, number: int) -> str:
    """Returns the key of documents about a trail's file; keys sort by its number."""
    return f"{uid}/{number:012d}"


async def is_empty(control: ControlStore, uid: str) -> bool:
    """Returns whether a trail has no notes."""
    for kind in KINDS:
        if await control.scan(kind, f"{uid}/"):
            return False
    return True


async def removals_of(control: ControlStore, uid: str) -> list[StoreWrite]:
    """Returns the changes that remove the notes and statuses of a trail."""
    changes: list[StoreWrite] = []
    for kind in KINDS:
        changes.append(Remove(state_kind(kind), uid))
        changes.extend(Remove(kind, note.key) for note in await control.scan(kind, f"{uid}/"))
    return changes
