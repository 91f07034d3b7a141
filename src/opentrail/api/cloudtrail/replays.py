"""Signatures of calls that changed something, in the control store until they expire."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta

from opentrail.core.errors import CloudTrailError, Conflict
from opentrail.core.event import format_time
from opentrail.ports.control import ControlStore, Put

#: Time after its first use in which the same server accepts a signature again: AWS's SDKs sign
#: equal calls of the same second equally.
MOMENT = timedelta(seconds=2)
_KIND = "signature"
#: Difference of clocks in a cluster, and the time between removals of expired signatures.
_MAX_SKEW, _REMOVAL_INTERVAL = timedelta(minutes=15), timedelta(minutes=1)


class Replays:
    """Refuses a used signature, on every server with the same control store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        #: Unique to this server and its start.
        self._server = uuid.uuid4().hex
        self._removed_at = datetime.min.replace(tzinfo=UTC)

    async def use(self, signature: str, valid_until: datetime, now: datetime) -> None:
        """Returns once a signature is durably stored.

        Raises:
            CloudTrailError: it was used before: more than `MOMENT` ago, or on another server.
            StorageFailed: it cannot be stored.
        """
        if now - self._removed_at >= _REMOVAL_INTERVAL:
            self._removed_at = now
            await self._control.remove_below(_KIND, format_time(now - _MAX_SKEW))
        digest = hashlib.sha256(signature.encode()).hexdigest()
        key = f"{format_time(valid_until)}/{digest}"
        first = {"server": self._server, "usedAt": now.timestamp()}
        try:
            await self._control.apply([Put(_KIND, key, first, expected=0)])
        except Conflict as conflict:
            stored = await self._control.get(_KIND, key)
            # Without a document, another server has just removed the expired one.
            used_at = stored.document["usedAt"] if stored else 0.0
            if stored is None or abs(now.timestamp() - used_at) > MOMENT.total_seconds():
                raise CloudTrailError(
                    "InvalidSignatureException", "This request was received before; sign it again."
                ) from conflict
            if stored.document["server"] != self._server:
                # SDKs sign again after this error.
                message = "Another server received this request; sign it again."
                raise CloudTrailError("ServiceUnavailable", message, 503) from conflict
