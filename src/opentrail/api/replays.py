"""Detects replayed calls: a signature is valid for one call that changes something.

Times are signed in whole seconds, so two equal calls of one caller within a second have the same
signature. Therefore a signature is accepted again for a moment.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

#: Maximum signatures that are remembered; of more, the oldest are forgotten (guarantee A4).
MAX_SIGNATURES = 100_000
#: How long after its first call a signature is accepted again.
MOMENT = timedelta(seconds=2)


class Replays:
    """The signatures of recent calls, until they are no longer valid anyway."""

    def __init__(self, most: int = MAX_SIGNATURES) -> None:
        self._most = most
        #: Signature → when it came first, and until when it is valid.
        self._seen: OrderedDict[str, tuple[datetime, datetime]] = OrderedDict()

    def is_replay(self, signature: str, valid_until: datetime, now: datetime) -> bool:
        """Remembers a signature; returns whether it came first more than a moment ago."""
        while self._seen and next(iter(self._seen.values()))[1] < now:
            self._seen.popitem(last=False)
        first, _ = self._seen.setdefault(signature, (now, valid_until))
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return now - first > MOMENT
