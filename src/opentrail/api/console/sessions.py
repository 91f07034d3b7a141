"""Sessions of the web console: a user's sign-in, or a single-use link, begins one."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from opentrail.api.v1.callers import SERVER_OPERATOR, ApiCaller
from opentrail.ports.clock import Clock

#: How long an unused link is valid.
LINK_LIFETIME = timedelta(minutes=10)
#: A session ends this long after its last request.
MAX_IDLE = timedelta(minutes=30)
#: A session ends this long after it began.
MAX_SESSION = timedelta(hours=12)
#: Maximum number of unused links, and of sessions; the oldest end.
MAX_COUNT = 1_000
#: Maximum sessions of one user, so that no user ends those of others; the oldest end.
MAX_OF_USER = 100


@dataclass(slots=True)
class Session:
    """One browser that is signed in."""

    user: ApiCaller
    began: datetime
    last_used: datetime

    @property
    def expires(self) -> datetime:
        """When it ends, if no other request comes."""
        return min(self.began + MAX_SESSION, self.last_used + MAX_IDLE)


class Sessions:
    """Links and sessions in memory; a restart ends them.

    Only hashes of their secrets are kept.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: When each link expires.
        self._links: dict[bytes, datetime] = {}
        self._sessions: dict[bytes, Session] = {}

    def new_link(self) -> str:
        """Returns the secret of a single-use link, valid for ten minutes."""
        token = secrets.token_urlsafe(32)
        self._links[hash_of(token)] = self._clock.now() + LINK_LIFETIME
        drop_oldest(self._links)
        return token

    async def begin(self, link: str) -> str | None:
        """Begins a session and returns its secret; None if the link is no longer valid."""
        expires = self._links.pop(hash_of(link), None)
        if expires is None or expires < self._clock.now():
            return None
        return await self.begin_for(SERVER_OPERATOR)

    async def begin_for(self, user: ApiCaller) -> str:
        """Begins a session of a user who has signed in, and returns its secret."""
        now = self._clock.now()
        secret = secrets.token_urlsafe(32)
        own = [key for key, session in self._sessions.items() if session.user.name == user.name]
        for key in own[: 1 - MAX_OF_USER]:
            del self._sessions[key]
        self._sessions[hash_of(secret)] = Session(user, now, now)
        drop_oldest(self._sessions)
        return secret

    async def find(self, secret: str) -> Session | None:
        """Returns the session of a secret, and notes its use; None if it has ended."""
        now, key = self._clock.now(), hash_of(secret)
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.expires < now:
            del self._sessions[key]
            return None
        session.last_used = now
        return session

    async def end(self, secret: str) -> None:
        """Ends a session."""
        self._sessions.pop(hash_of(secret), None)

    async def end_all_of(self, name: str) -> int:
        """Ends the sessions of a user, and returns their number."""
        before = len(self._sessions)
        self._sessions = {
            key: session for key, session in self._sessions.items() if session.user.name != name
        }
        return before - len(self._sessions)


def hash_of(secret: str) -> bytes:
    """Returns what a link or a session is known by."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def drop_oldest(entries: dict[bytes, Any]) -> None:
    """Removes the oldest entry if there are too many."""
    if len(entries) > MAX_COUNT:
        del entries[next(iter(entries))]
