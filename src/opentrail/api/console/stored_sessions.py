"""Sessions of the web console in a control store that several servers share."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from opentrail.access.users import ConsoleRole
from opentrail.api.console.sessions import (
    MAX_COUNT,
    MAX_OF_USER,
    Session,
    Sessions,
    drop_oldest,
    hash_of,
)
from opentrail.api.v1.callers import ApiCaller
from opentrail.core.errors import Conflict, StorageFailed
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore, Document, Stored

_KIND = "console-session"
#: Maximum age of a copy: what ends on another server ends here within a second.
_MAX_AGE = timedelta(milliseconds=500)
#: A session that is used is written once in this time.
_USE_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A session as it was in the store."""

    session: Session
    version: int
    read_at: datetime


class StoredSessions(Sessions):
    """Sessions in a control store, by the hashes of their secrets; links are in memory.

    A link has the address of the server that made it, so no other server needs to know it.
    """

    def __init__(self, clock: Clock, control: ControlStore) -> None:
        super().__init__(clock)
        self._stored = Collection(control, _KIND, Codec(_session_of, _document_of))
        self._copies: dict[bytes, _Copy] = {}

    async def begin_for(self, user: ApiCaller) -> str:
        """Begins a session of a user who has signed in, and returns its secret."""
        now, secret = self._clock.now(), secrets.token_urlsafe(32)
        begun = {item.stored.key: item.value for item in await self._stored.items()}
        oldest_first = sorted(begun, key=lambda key: begun[key].began)
        own = [key for key in oldest_first if begun[key].user.name == user.name]
        ended = {key for key in oldest_first if begun[key].expires < now}
        ended.update(own[: 1 - MAX_OF_USER], oldest_first[: 1 - MAX_COUNT])
        new = self._stored.addition(hash_of(secret).hex(), Session(user, now, now))
        await self._stored.apply([*self._stored.removals(ended), new])
        return secret

    async def find(self, secret: str) -> Session | None:
        """Returns the session of a secret, and notes its use; None if it has ended."""
        now, key = self._clock.now(), hash_of(secret)
        copy = self._copies.get(key)
        if copy is None or now - copy.read_at >= _MAX_AGE:
            copy = await self._read(key, now)
        if copy is None or copy.session.expires < now:
            return None
        if now - copy.session.last_used >= _USE_INTERVAL:
            await self._note_use(key, copy, now)
        return copy.session

    async def end(self, secret: str) -> None:
        """Ends a session."""
        key = hash_of(secret)
        await self._stored.apply(self._stored.removals([key.hex()]))
        self._copies.pop(key, None)

    async def end_all_of(self, name: str) -> int:
        """Ends the sessions of a user, and returns their number."""
        items = await self._stored.items()
        keys = [item.stored.key for item in items if item.value.user.name == name]
        await self._stored.apply(self._stored.removals(keys))
        for key in keys:
            self._copies.pop(bytes.fromhex(key), None)
        return len(keys)

    async def _read(self, key: bytes, now: datetime) -> _Copy | None:
        """Returns a session as it is in the store, or as it was while that cannot be read."""
        former = self._copies.get(key)
        try:
            item = await self._stored.find(key.hex())
        except StorageFailed:
            if former is None:
                raise
            copy = replace(former, read_at=now)
        else:
            self._copies.pop(key, None)
            if item is None:
                return None
            copy = _Copy(item.value, item.stored.version, now)
        self._copies[key] = copy
        drop_oldest(self._copies)
        return copy

    async def _note_use(self, key: bytes, copy: _Copy, now: datetime) -> None:
        session = replace(copy.session, last_used=now)
        # It may have been used on another server, or have ended there; or it is noted later.
        with contextlib.suppress(Conflict, StorageFailed):
            await self._stored.put(key.hex(), session, expected=copy.version)
            self._copies[key] = _Copy(session, copy.version + 1, now)


def _session_of(stored: Stored) -> Session:
    document = stored.document
    accounts, subject = document["accounts"], document.get("subject")
    user = ApiCaller(
        document["user"],
        ConsoleRole.parse(document["role"]),
        None if accounts is None else tuple(accounts),
        document["has_password"],
        None if subject is None else (subject[0], subject[1]),
    )
    began, last_used = (datetime.fromisoformat(document[name]) for name in ("began", "last_used"))
    return Session(user, began, last_used)


def _document_of(session: Session) -> Document:
    user = session.user
    return {
        "user": user.name,
        "role": str(user.role),
        "accounts": None if user.accounts is None else list(user.accounts),
        "has_password": user.has_password,
        "subject": None if user.subject is None else list(user.subject),
        "began": session.began.isoformat(),
        "last_used": session.last_used.isoformat(),
    }
