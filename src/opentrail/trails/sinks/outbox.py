"""Messages about log files that wait in the state store, sent at least once (guarantee L5).

A note is written in the same transaction as what it tells of, so that none is forgotten; whoever
tells removes it afterwards. Telling never holds up files: it has rounds of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from opentrail.core.event import parse_time
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite

#: Kinds of notes: a file that a topic is to be told of; events that a log group is to get.
NOTICE, STREAM = "notice", "stream"
KINDS = (NOTICE, STREAM)


@dataclass(slots=True)
class SinkStatus:
    """How telling went, for GetTrailStatus. Times are stored times."""

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
        """Returns whether a note has waited for so long that it is given up."""
        return now - parse_time(stored.document["since"]) > self._longest

    async def how(self, uid: str) -> SinkStatus:
        """Returns how telling went."""
        return await telling(self._control, self._kind, uid)

    async def done(self, uid: str, notes: Sequence[Stored], how: SinkStatus) -> None:
        """Removes notes and keeps how it went."""
        await self._apply(uid, [Remove(self._kind, note.key) for note in notes], how)

    async def keep(self, uid: str, note: Stored, how: SinkStatus | None = None) -> None:
        """Writes a note as it is now, and how it went."""
        put = Put(self._kind, note.key, note.document)
        if how is None:
            await self._control.apply([put])
        else:
            await self._apply(uid, [put], how)

    async def failed(self, uid: str, how: SinkStatus) -> None:
        """Keeps that it failed."""
        await self._apply(uid, [], how)

    async def _apply(self, uid: str, changes: list[StoreWrite], how: SinkStatus) -> None:
        await self._control.apply([*changes, Put(f"{self._kind}-state", uid, asdict(how))])


async def telling(control: ControlStore, kind: str, uid: str) -> SinkStatus:
    """Returns how telling notes of a kind went for a trail."""
    stored = await control.get(f"{kind}-state", uid)
    return SinkStatus(**stored.document) if stored else SinkStatus()


def note_of(kind: str, uid: str, number: int, since: str, document: dict[str, Any]) -> Put:
    """Returns the change that writes a note of a trail's file with this number."""
    return Put(kind, file_key(uid, number), {**document, "since": since})


def file_key(uid: str, number: int) -> str:
    """Returns the key of what is kept of a trail's file with this number; keys sort by number."""
    return f"{uid}/{number:012d}"


async def is_empty(control: ControlStore, uid: str) -> bool:
    """Returns whether nothing of a trail is still to be told."""
    for kind in KINDS:
        if await control.scan(kind, f"{uid}/"):
            return False
    return True


async def forgetting(control: ControlStore, uid: str) -> list[StoreWrite]:
    """Returns the changes that remove whatever is kept of a trail."""
    changes: list[StoreWrite] = []
    for kind in KINDS:
        changes.append(Remove(f"{kind}-state", uid))
        changes.extend(Remove(kind, note.key) for note in await control.scan(kind, f"{uid}/"))
    return changes
