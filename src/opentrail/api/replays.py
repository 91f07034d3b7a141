"""Calls that were sent before: a signature is accepted for one call that changes something."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime

#: Maximum signatures that are remembered; of more, the oldest are forgotten (guarantee A4).
MOST = 100_000


class Replays:
    """The signatures of recent calls, until they are no longer valid anyway."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._seen: OrderedDict[str, datetime] = OrderedDict()

    def is_replay(self, signature: str, valid_until: datetime, now: datetime) -> bool:
        """Remembers a signature; returns whether it was seen before."""
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if signature in self._seen:
            return True
        self._seen[signature] = valid_until
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return False
