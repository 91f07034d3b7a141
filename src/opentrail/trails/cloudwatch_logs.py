"""Writing a trail's events to CloudWatch Logs (cloudtrail-format §9.2)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from msgspec import structs

from opentrail.core.errors import ServiceError, ServiceMissing
from opentrail.core.event import Entry, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.core.faults import crash_point
from opentrail.core.trail import stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Stored
from opentrail.ports.metrics import Metrics
from opentrail.ports.services import LogEvent, LogGroups
from opentrail.trails.outbox import STREAM, Outbox, SinkStatus
from opentrail.trails.plans import LogFilePlan, StreamNote

log = logging.getLogger(__name__)

#: `EntrySelector.entries_of`.
EntriesOf = Callable[[LogFilePlan, str, str, int], AsyncIterator[Entry]]

#: Error codes if a role may write to a stream but not read it.
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
#: Events expire after the same time as log files.
_MAX_AGE = timedelta(days=30)
#: Maximum events of one call.
_MAX_EVENTS = 10_000
#: Maximum bytes of one call.
_MAX_BYTES = 1_048_576
#: Bytes that each event adds to its record.
_MORE_BYTES = 26
#: Maximum range of the times of one call's events.
_MAX_RANGE = timedelta(hours=23)
#: Maximum bytes of an event; CloudTrail omits larger ones from log groups (cloudtrail-format §8.5).
MAX_EVENT_BYTES = 256 * 1024


@dataclass(slots=True)
class _Batch:
    """Events of one call, and the position of the last entry."""

    events: list[LogEvent] = field(default_factory=list)
    until: int = 0
    size: int = 0
    left_out: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def has_room(self, event: LogEvent, size: int) -> bool:
        if not self.events:
            return True
        oldest, newest = self._ends(event)
        return (
            len(self.events) < _MAX_EVENTS
            and self.size + size <= _MAX_BYTES
            and newest - oldest <= _MAX_RANGE
        )

    def add(self, event: LogEvent, size: int) -> None:
        self.events.append(event)
        self.size += size
        self.oldest, self.newest = self._ends(event)

    def _ends(self, event: LogEvent) -> tuple[datetime, datetime]:
        return min(self.oldest or event.time, event.time), max(
            self.newest or event.time, event.time
        )


class CloudWatchLogsSink:
    """A sink that writes every event of a trail to the stream of its account and Region, once.

    A batch is noted before it is sent. If the response is lost, the stream is searched for the
    batch, so that no event is sent twice and no event is lost.
    """

    name = "log streams"

    def __init__(
        self,
        control: ControlStore,
        groups: LogGroups,
        clock: Clock,
        metrics: Metrics,
        entries_of: EntriesOf,
    ) -> None:
        self._outbox = Outbox(control, STREAM, _MAX_AGE)
        self._groups = groups
        self._clock = clock
        self._metrics = metrics
        self._entries_of = entries_of
        #: Streams that are known to exist.
        self._existing: set[tuple[str, str]] = set()

    async def send(self, uid: str) -> None:
        """Writes the events of all notes.

        Raises:
            ServiceError: a log group refused or failed; its notes remain.
        """
        status = await self._outbox.status(uid)
        # A deleted log group must not delay the trail's current one.
        failed: dict[str, ServiceError] = {}
        for note in await self._outbox.waiting(uid):
            if self._outbox.is_over(note, self._clock.now()):
                log.error(
                    "gave up on events for a log group", extra={"trail": uid, **note.document}
                )
                await self._outbox.finish(uid, [note], status)
                continue
            events = StreamNote.of(note.document)
            if events.log_group in failed:
                continue
            try:
                await self._send(uid, note, events, status)
            except ServiceError as error:
                failed[events.log_group] = error
            else:
                await self._outbox.finish(uid, [note], status)
        for failure in failed.values():
            status.error = failure.code
            await self._outbox.finish(uid, [], status)
            raise failure

    async def _send(self, uid: str, stored: Stored, note: StreamNote, status: SinkStatus) -> None:
        """Sends the events of a note that were not sent yet, batch by batch."""
        place = (note.log_group, note.stream)
        async for batch in self._batches(note):
            status.latest_attempt = stored_time(self._clock.now())
            # A batch whose response was lost is in the stream, or is sent again.
            if batch.events and not (note.sending == batch.until and await self._has(place, batch)):
                note = structs.replace(note, sending=batch.until)
                await self._outbox.store(uid, replace(stored, document=note.document()))
                crash_point("stream.sending")
                await self._put(place, batch)
                crash_point("stream.put")
            self._count(place, batch)
            status.latest, status.error = status.latest_attempt, None
            note = structs.replace(note, sent=batch.until, sending=None)
            await self._outbox.store(uid, replace(stored, document=note.document()), status)

    async def _batches(self, note: StreamNote) -> AsyncIterator[_Batch]:
        """Yields the batches after `sent`; a retry gets the same batches."""
        batch = _Batch()
        async for entry in self._entries_of(note.plan, note.account, note.home_region, note.sent):
            if len(entry.record) > MAX_EVENT_BYTES:
                batch.left_out += 1
                batch.until = entry.position
                continue
            time = parse_time(EventRecord(entry.record).event_time)
            event = LogEvent(time, entry.record.decode())
            size = len(entry.record) + _MORE_BYTES
            if not batch.has_room(event, size):
                yield batch
                batch = _Batch()
            batch.add(event, size)
            batch.until = entry.position
        if batch.until:
            yield batch

    async def _has(self, place: tuple[str, str], batch: _Batch) -> bool:
        """Returns whether a batch is in the stream; False without permission to read it."""
        try:
            return await self._groups.holds(*place, _in_order(batch.events)[0])
        except ServiceMissing:
            return False
        except ServiceError as error:
            if error.code not in _REFUSED:
                raise
            return False

    async def _put(self, place: tuple[str, str], batch: _Batch) -> None:
        if place not in self._existing:
            await self._groups.create_stream(*place)
            self._existing.add(place)
        try:
            batch.left_out += await self._groups.put(*place, _in_order(batch.events))
        except ServiceMissing:
            self._existing.discard(place)  # it has been deleted
            raise

    def _count(self, place: tuple[str, str], batch: _Batch) -> None:
        if batch.left_out:
            about = {"group": place[0], "stream": place[1], "count": batch.left_out}
            log.warning("events are too large or too old for a log group", extra=about)
        self._metrics.streamed_events.labels("refused").inc(batch.left_out)
        self._metrics.streamed_events.labels("taken").inc(
            max(0, len(batch.events) - batch.left_out)
        )


def _in_order(events: Iterable[LogEvent]) -> list[LogEvent]:
    return sorted(events, key=lambda event: event.time)
