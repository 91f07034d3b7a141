"""A journal kept by another process: records go there in batches, over a link."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from opentrail.adapters.link import Link, LinkError, records_in, with_records
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry, from_micros, micros
from opentrail.ports.journal import QUEUE_BYTES, QUEUE_RECORDS, JournalWriter

APPEND = "append"
#: A batch is at most this large, so that no frame is.
BATCH_RECORDS, BATCH_BYTES = 2_000, 8 * 1024 * 1024


@dataclass(slots=True)
class _Waiting:
    entries: Sequence[NewEntry]
    size: int
    done: asyncio.Future[int]
    since: float


class LinkedJournal:
    """A `JournalWriter` at the far end of a link.

    What waits while one batch is on its way forms the next, so that under load a frame carries
    many records, and without load none waits.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._queue: list[_Waiting] = []
        self._queued_records = self._queued_bytes = 0
        self._sending: asyncio.Task[None] | None = None
        self._under_way: float | None = None
        self.head = 0
        #: Set by what the other side says.
        self.failure: str | None = None

    @property
    def backlog_seconds(self) -> float:
        """How long the record has waited that has waited longest."""
        oldest = self._under_way or (self._queue[0].since if self._queue else None)
        return 0.0 if oldest is None else self._loop.time() - oldest

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        if self.failure:
            raise RecordRefused(self.failure)
        size = sum(len(entry.record) for entry in entries)
        if self._queue and (
            self._queued_records + len(entries) > QUEUE_RECORDS
            or self._queued_bytes + size > QUEUE_BYTES
        ):
            raise RecordRefused("too many records wait for the disk")
        waiting = _Waiting(entries, size, self._loop.create_future(), self._loop.time())
        self._queue.append(waiting)
        self._queued_records += len(entries)
        self._queued_bytes += size
        if self._sending is None:
            self._sending = self._loop.create_task(self._send_all())
        return await waiting.done

    async def _send_all(self) -> None:
        try:
            while self._queue:
                batch = self._take_batch()
                self._under_way = batch[0].since
                await self._send(batch)
        finally:
            self._sending = self._under_way = None

    def _take_batch(self) -> list[_Waiting]:
        records = size = count = 0
        for waiting in self._queue:
            if count and (records >= BATCH_RECORDS or size + waiting.size > BATCH_BYTES):
                break
            count += 1
            records += len(waiting.entries)
            size += waiting.size
        batch, self._queue = self._queue[:count], self._queue[count:]
        self._queued_records -= records
        self._queued_bytes -= size
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        entries = [entry for waiting in batch for entry in waiting.entries]
        try:
            answer = orjson.loads(await self._link.ask(APPEND, pack(entries)))
        except LinkError as error:
            _refuse(batch, f"the journal's process cannot be reached: {error}")
            return
        self.failure = answer.get("failure")
        if "refused" in answer:
            _refuse(batch, answer["refused"])
            return
        self.head = last = answer["position"]
        position = last - len(entries)
        for waiting in batch:
            position += len(waiting.entries)
            if not waiting.done.done():
                waiting.done.set_result(position)


def _refuse(batch: list[_Waiting], reason: str) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(RecordRefused(reason))


async def append_packed(journal: JournalWriter, entries: Sequence[NewEntry]) -> bytes:
    """Appends what came over a link, and returns the answer for it."""
    try:
        position = await journal.append(entries)
    except RecordRefused as error:
        return orjson.dumps({"refused": str(error), "failure": journal.failure})
    return orjson.dumps({"position": position, "failure": journal.failure})


def pack(entries: Sequence[NewEntry]) -> bytes:
    """Returns entries as bytes."""
    described = [
        (
            entry.origin,
            micros(entry.recorded_at),
            entry.account,
            entry.region,
            entry.category,
            entry.event_id,
        )
        for entry in entries
    ]
    return with_records(described, [entry.record for entry in entries])


def unpack(packed: bytes) -> list[NewEntry]:
    """Returns the entries in `packed`; the inverse of `pack`."""
    entries = []
    for row, record in records_in(packed):
        origin, recorded_at, account, region, category, event_id = row
        moment = from_micros(recorded_at)
        entries.append(NewEntry(origin, moment, account, region, category, event_id, record))
    return entries
