"""Notifications about log files to a trail's SNS topic (cloudtrail-format §9.1)."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta

import msgspec

from opentrail.core.errors import ServiceError
from opentrail.core.faults import crash_point
from opentrail.core.trail import stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Stored
from opentrail.ports.metrics import Metrics
from opentrail.ports.services import Topics
from opentrail.trails.outbox import NOTICE, SUBJECT, Notice, Outbox

log = logging.getLogger(__name__)

#: The server gives a message up after this time (guarantee L5).
_MAX_AGE = timedelta(hours=24)
#: Messages that are published concurrently.
_MAX_CONCURRENT = 8


class SnsSink:
    """A sink that sends one message for each log file, at least once, in any order."""

    name = "notices"

    def __init__(
        self, control: ControlStore, topics: Topics, clock: Clock, metrics: Metrics
    ) -> None:
        self._outbox = Outbox(control, NOTICE, _MAX_AGE)
        self._topics = topics
        self._clock = clock
        self._metrics = metrics

    async def send(self, uid: str) -> None:
        """Publishes the messages of all notes.

        Raises:
            ServiceError: a topic refused or failed; its notes remain.
        """
        notes = await self._outbox.waiting(uid)
        now = self._clock.now()
        over = [note for note in notes if self._outbox.is_over(note, now)]
        if over:
            log.error("gave up on notifications", extra={"trail": uid, "count": len(over)})
            self._metrics.lost_notifications.inc(len(over))
            await self._outbox.finish(uid, over, await self._outbox.status(uid))
        by_topic: dict[str, list[Stored]] = {}
        for note in notes:  # in the order of their files, not of their times
            if note in over:
                continue
            notice = msgspec.convert(note.document, Notice)
            by_topic.setdefault(notice.topic, []).append(note)
        failure: ServiceError | None = None
        # A deleted topic must not delay the trail's current one.
        for fresh in by_topic.values():
            for start in range(0, len(fresh), _MAX_CONCURRENT):
                failed = await self._publish(uid, fresh[start : start + _MAX_CONCURRENT])
                if failed is not None:
                    failure = failed
                    break
        if failure is not None:
            raise failure

    async def _publish(self, uid: str, notes: list[Stored]) -> ServiceError | None:
        """Publishes messages concurrently; returns the first failure."""
        status = await self._outbox.status(uid)
        status.latest_attempt = stored_time(self._clock.now())
        outcomes = await asyncio.gather(*map(self._send, notes))
        published = [note for note, error in zip(notes, outcomes, strict=True) if error is None]
        failure = next((error for error in outcomes if error is not None), None)
        status.error = failure.code if failure is not None else None
        if published:
            status.latest = status.latest_attempt
        await self._outbox.finish(uid, published, status)
        self._metrics.notifications.inc(len(published))
        return failure

    async def _send(self, note: Stored) -> ServiceError | None:
        notice = msgspec.convert(note.document, Notice)
        message = {"s3Bucket": notice.bucket, "s3ObjectKey": [notice.key]}
        text = json.dumps(message, separators=(",", ":"))
        try:
            await self._topics.publish(notice.topic, SUBJECT, text)
        except ServiceError as error:
            return error
        crash_point("notice.published")
        return None
