"""Sends matches to a webhook."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from opentrail.core.event import DETECTION, Entry
from opentrail.metrics import Metrics
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.services import Webhook

#: Kind of the document with the cursor.
_KIND = "webhook"
#: Its key.
_KEY = "place"
#: Entries after which the cursor is stored though none was sent.
_STORED_EVERY = 10_000


class WebhookCursor(msgspec.Struct, frozen=True):
    """How far matches are sent, as the control store has it."""

    position: int


class WebhookFollower:
    """A follower that sends each match at least once, in order.

    What the webhook refuses is counted and left out; while it does not answer, matches wait.
    """

    name = "webhook"

    def __init__(
        self,
        control: ControlStore,
        webhook: Webhook,
        metrics: Metrics,
        head: Callable[[], int],
    ) -> None:
        self._control, self._webhook, self._metrics, self._head = control, webhook, metrics, head
        #: The cursor, and as it is stored.
        self._cursor: int | None = None
        self._stored = 0

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        if self._cursor is None:
            stored = await self._control.get(_KIND, _KEY)
            if stored is None:
                await self._store(self._head())
            else:
                self._stored = msgspec.convert(stored.document, WebhookCursor).position
            self._cursor = self._stored
        return self._cursor

    async def process(self, entries: Sequence[Entry]) -> None:
        """Sends the matches among entries, one by one.

        Raises:
            ServiceError: the webhook accepts none now; it may have the one that was sent.
        """
        sent_until = await self.cursor()
        for entry in entries:
            if entry.category == DETECTION and entry.position > sent_until:
                is_accepted = await self._webhook.send(entry.event_id, entry.record)
                self._metrics.webhook_events.labels("taken" if is_accepted else "rejected").inc()
                await self._store(entry.position)
                self._cursor = entry.position
        self._cursor = entries[-1].position
        if self._cursor - self._stored >= _STORED_EVERY:
            await self._store(self._cursor)

    async def _store(self, position: int) -> None:
        document = msgspec.to_builtins(WebhookCursor(position))
        await self._control.apply([Put(_KIND, _KEY, document)])
        self._stored = position
