"""Sign-ins at a provider of OpenID Connect, in a control store that several servers share."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime

from opentrail.api.console.oidc import MAX_SIGN_INS, MAX_TIME, BegunSignIns
from opentrail.api.console.sessions import hash_of
from opentrail.core.errors import Conflict
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove
from opentrail.ports.identity_provider import BegunSignIn
from opentrail.ports.sealer import Sealer

_KIND = "console-sign-in"


class StoredSignIns(BegunSignIns):
    """Sign-ins in progress in a control store: a browser may come back to another server.

    Their secrets are sealed.
    """

    def __init__(self, clock: Clock, control: ControlStore, sealer: Sealer) -> None:
        super().__init__(clock)
        self._control = control
        self._sealer = sealer

    async def add(self, begun: BegunSignIn) -> None:
        """Adds a sign-in; those that are too old are removed, and the oldest of too many."""
        now, key = self._clock.now(), hash_of(begun.state).hex()
        rows = await self._control.scan(_KIND)
        moments = {row.key: datetime.fromisoformat(row.document["begun"]) for row in rows}
        old = [key for key, moment in moments.items() if moment + MAX_TIME < now]
        if len(moments) >= MAX_SIGN_INS:
            old.append(min(moments, key=lambda key: moments[key]))
        sealed = self._sealer.seal(json.dumps(asdict(begun)).encode(), _context(key))
        new = Put(_KIND, key, {"begun": now.isoformat(), "sealed": sealed}, expected=0)
        await self._control.apply([*(Remove(_KIND, key) for key in old), new])

    async def pop(self, state: str) -> BegunSignIn | None:
        """Removes a sign-in and returns it; None if there is none, or it is too old."""
        key = hash_of(state).hex()
        stored = await self._control.get(_KIND, key)
        if stored is None:
            return None
        try:
            # The first change fails if another server has removed it.
            unchanged = Put(_KIND, key, stored.document, expected=stored.version)
            await self._control.apply([unchanged, Remove(_KIND, key)])
        except Conflict:
            return None
        if datetime.fromisoformat(stored.document["begun"]) + MAX_TIME < self._clock.now():
            return None
        content = self._sealer.unseal(stored.document["sealed"], _context(key))
        return BegunSignIn(**json.loads(content))


def _context(key: str) -> str:
    """Returns what a sealed sign-in is bound to."""
    return f"console sign-in {key}"
