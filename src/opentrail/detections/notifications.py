"""Sends matches to a webhook."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentrail.core.event import DETECTION, Entry
from opentrail.follow import StoredCursor
from opentrail.metrics import Metrics
from opentrail.ports.control import ControlStore
from opentrail.ports.services import Webhook

#: Entries after which the cursor is stored though none was sent.
_STORED_EVERY = 10_000


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
        self._webhook, self._metrics = webhook, metrics
        #: The cursor, and as it is stored.
        self._cursor: int | None = None
        self._stored = StoredCursor(control, "webhook", head)

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        if self._cursor is None:
            self._cursor = await self._stored.position()
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
                self._cursor = await self._stored.store(entry.position)
        self._cursor = entries[-1].position
        if self._cursor - await self._stored.position() >= _STORED_EVERY:
            await self._stored.store(self._cursor)
