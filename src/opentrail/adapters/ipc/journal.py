"""A journal kept by another process: records go there in batches, over a link."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from opentrail.adapters.append_queue import Append, Appends, append_of
from opentrail.adapters.ipc.link import Link, LinkError, records_in, with_records
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry, from_micros, micros
from opentrail.ports.journal import JournalWriter

APPEND = "append"
#: A batch is at most this large, so that no frame is.
BATCH_RECORDS, BATCH_BYTES = 2_000, 8 * 1024 * 1024


class LinkedJournal:
    """A `JournalWriter` at the far end of a link.

    What waits while one batch is on its way forms the next, so that under load a frame carries
    many records, and without load none waits.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._appends = Appends()
        self._sending: asyncio.Task[None] | None = None
        self.head = 0
        #: Set by what the other side says.
        self.failure: str | None = None

    @property
    def backlog_seconds(self) -> float:
        """How long the record has waited that has waited longest."""
        oldest = self._appends.oldest
        return 0.0 if oldest is None else self._loop.time() - oldest

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        if self.failure:
            raise RecordRefused(self.failure)
        append = append_of(entries, self._loop)
        self._appends.add(append)
        if self._sending is None:
            self._sending = self._loop.create_task(self._send_all())
        return await append.done

    async def _send_all(self) -> None:
        try:
            while group := self._appends.take(BATCH_RECORDS, BATCH_BYTES):
                await self._send(group)
        finally:
            self._appends.ended()
            self._sending = None

    async def _send(self, group: Sequence[Append]) -> None:
        entries = [entry for append in group for entry in append.entries]
        try:
            answer = orjson.loads(await self._link.ask(APPEND, pack(entries)))
        except LinkError as error:
            _refuse(group, f"the journal's process cannot be reached: {error}")
            return
        self.failure = answer.get("failure")
        if "refused" in answer:
            _refuse(group, answer["refused"])
            return
        self.head = last = answer["position"]
        position = last - len(entries)
        for append in group:
            position += len(append.entries)
            append.succeed(position)


def _refuse(group: Sequence[Append], reason: str) -> None:
    for append in group:
        append.fail(RecordRefused(reason))


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
