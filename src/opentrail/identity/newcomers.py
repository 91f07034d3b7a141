"""Keys of which nothing is known yet: who may know more is asked at their first call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from opentrail.core.errors import OpentrailError
from opentrail.identity.known_identities import Identities, KnownIdentities
from opentrail.ports.journal import Journal

log = logging.getLogger(__name__)

#: Returns once all is known here that the other servers, or the upstream, know of a key; False if
#: they could not say.
CatchUp = Callable[[str], Awaitable[bool]]

#: Maximum seconds that a call waits for it.
_MAX_SECONDS = 5.0
#: Maximum unknown keys that are remembered, so that their later calls do not wait.
_MAX_STRANGERS = 10_000
#: Maximum characters of a key: callers may send any text as one, and no record has more of it.
_MAX_KEY_LENGTH = 1_024


class Newcomers:
    """Makes the first call of an unknown key wait until others were asked about it."""

    def __init__(self, identities: KnownIdentities, catch_up: CatchUp) -> None:
        self._identities = identities
        self._catch_up = catch_up
        self._strangers: dict[str, None] = {}

    def meet(self, access_key_id: str) -> Awaitable[None] | None:
        """Returns what ends once others were asked about a key; None if there is nothing to ask."""
        if not self._identities.is_stranger(access_key_id) or access_key_id in self._strangers:
            return None
        return self._ask(access_key_id) if len(access_key_id) <= _MAX_KEY_LENGTH else None

    async def _ask(self, access_key_id: str) -> None:
        try:
            async with asyncio.timeout(_MAX_SECONDS):
                if not await self._catch_up(access_key_id):
                    return
        except (OpentrailError, OSError, TimeoutError) as error:
            reason = str(error) or "it takes too long"
            log.warning("what others know of a key is not known", extra={"reason": reason})
            return
        if self._identities.is_stranger(access_key_id):
            if len(self._strangers) >= _MAX_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            self._strangers[access_key_id] = None


async def know_all(journal: Journal, identities: Identities, _access_key_id: str = "") -> bool:
    """Returns once the identities of all records are known that any server had when it was called.

    Raises:
        StorageFailed: the journal does not say which these are.
    """
    await identities.reach(await journal.newest())
    return True
