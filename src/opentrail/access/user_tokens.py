"""Personal tokens of the web console's users, for their programs."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from opentrail.access.users import ConsoleUser, ConsoleUsers
from opentrail.core.errors import UsageError
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore

#: Default days that a token is valid.
DEFAULT_DAYS = 90
MAX_DAYS = 366
#: Maximum tokens of a user.
MAX_TOKENS = 20

_KIND = "console-user-token"
#: The prefix of every token.
PREFIX = "ot_"
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}")
_SECRET_BYTES = 32
#: Characters of a token, at most.
_MAX_LENGTH = 100


@dataclass(frozen=True, slots=True)
class UserToken:
    """A token of a user, without its secret."""

    user: str
    name: str
    created: datetime
    expires: datetime


class UserTokens:
    """The tokens in a control store, each by the SHA-256 of its secret.

    A secret has 256 random bits, so it needs no slow hash. Every use reads the token and its user,
    so that removing, disabling or changing one takes effect immediately.
    """

    def __init__(self, control: ControlStore, users: ConsoleUsers, clock: Clock) -> None:
        self._tokens = Collection(control, _KIND, Codec.of(UserToken))
        self._users = users
        self._clock = clock

    async def add(self, user: str, name: str, days: int) -> tuple[UserToken, str]:
        """Creates a token, and returns it with its secret, which is not stored.

        Raises:
            UsageError: there is no such user, the name or the days are not valid, the user has a
                token of this name, or the most that a user may have.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"token must be 1 to 64 letters, digits and characters of +=,.@_-, not {name!r}"
            )
        if not 1 <= days <= MAX_DAYS:
            raise UsageError(f"days must be 1 to {MAX_DAYS}, not {days}")
        if await self._users.find(user) is None:
            raise UsageError(f"user {user!r} not found; 'opentrail users list' shows all")
        own_tokens = [token for token in await self.all() if token.user == user]
        if name in [token.name for token in own_tokens]:
            raise UsageError(f"user {user} has a token {name!r} already")
        if len(own_tokens) >= MAX_TOKENS:
            raise UsageError(f"user {user} has {MAX_TOKENS} tokens already; remove one")
        now = self._clock.now().replace(microsecond=0)
        token = UserToken(user, name, now, now + timedelta(days=days))
        secret = f"{PREFIX}{secrets.token_urlsafe(_SECRET_BYTES)}"
        await self._tokens.put(_key_of(secret), token, expected=0)
        return token, secret

    async def all(self) -> list[UserToken]:
        """Returns the tokens, by user and name, expired ones included."""
        return sorted(await self._tokens.all(), key=lambda token: (token.user, token.name))

    async def remove(self, user: str, name: str) -> None:
        """Removes a token.

        Raises:
            UsageError: the user has no such token.
        """
        if not await self._remove(user, name):
            raise UsageError(
                f"user {user!r} has no token {name!r}; 'opentrail users token list' shows all"
            )

    async def remove_all_of(self, user: str) -> None:
        """Removes all tokens of a user."""
        await self._remove(user)

    async def user_of(self, secret: str) -> ConsoleUser | None:
        """Returns the user of a token; None if it is not valid, or the user may not sign in."""
        if not secret.startswith(PREFIX) or len(secret) > _MAX_LENGTH:
            return None
        item = await self._tokens.find(_key_of(secret))
        if item is None:
            return None
        token = item.value
        user = await self._users.find(token.user)
        # A token older than its user belongs to a former user of this name.
        if user is None or not user.is_active or token.created < user.created:
            return None
        return user if self._clock.now() < token.expires else None

    async def _remove(self, user: str, name: str | None = None) -> bool:
        """Removes all tokens of a user, or its token of a name; returns whether any existed."""
        keys = [
            item.stored.key
            for item in await self._tokens.items()
            if item.value.user == user and name in (None, item.value.name)
        ]
        await self._tokens.apply(self._tokens.removals(keys))
        return bool(keys)


def _key_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
