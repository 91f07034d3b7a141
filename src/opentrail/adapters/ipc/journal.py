"""The journal of another process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from opentrail.adapters.batches import Append, Batches, append_of, refuse
from opentrail.adapters.ipc.link import IpcRequest, Link, LinkError
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry
from opentrail.ports.journal import JournalWriter

log = logging.getLogger(__name__)

#: Maximum records of a batch.
BATCH_RECORDS = 2_000
#: Maximum bytes of a batch, to stay below the frame limit.
BATCH_BYTES = 8 * 1024 * 1024


class Appended(msgspec.Struct, frozen=True):
    """The position of a batch's last entry, or why the batch was refused.

    The position is 0 if not requested. `failure` is why the journal currently fails.
    """

    position: int = 0
    refused: str | None = None
    failure: str | None = None


class AppendEntries(IpcRequest[Appended], frozen=True):
    """Append a batch to the journal; with `is_written`, without waiting for its positions."""

    entries: list[NewEntry]
    is_written: bool = False


class IpcJournalWriter:
    """A `JournalWriter` whose journal is at the other end of a link.

    Records that arrive while a batch is in flight form the next one.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._batches = Batches()
        self._sending: asyncio.Task[None] | None = None
        self.head = 0
        #: Why the journal fails; set from its process's messages.
        self.failure: str | None = None

    @property
    def backlog_seconds(self) -> float:
        """The age of the oldest waiting record."""
        return self._batches.seconds_waited(self._loop.time())

    async def write(self, entries: Sequence[NewEntry]) -> None:
        """Returns only once the records are durable; they may get their positions later."""
        await self._append(entries, is_written=True)

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        return await self._append(entries, is_written=False)

    async def _append(self, entries: Sequence[NewEntry], is_written: bool) -> int:
        if self.failure:
            raise RecordRefused(self.failure)
        append = append_of(entries, self._loop, is_written)
        self._batches.add(append)
        if self._sending is None:
            self._sending = self._loop.create_task(self._send_all())
        return await append.done

    async def _send_all(self) -> None:
        try:
            while batch := self._batches.take(BATCH_RECORDS, BATCH_BYTES):
                await self._send(batch)
                self._batches.end()
        finally:
            self._batches.end()
            self._sending = None

    async def _send(self, batch: Sequence[Append]) -> None:
        entries = [entry for append in batch for entry in append.entries]
        is_written = all(append.is_written for append in batch)
        try:
            appended = await self._link.ask(AppendEntries(entries, is_written))
        except LinkError as error:
            refuse(batch, f"the journal's process cannot be reached: {error}")
            return
        except Exception as error:  # a bug must not leave callers without an answer
            log.exception("a batch of records failed unexpectedly")
            refuse(batch, f"the journal failed: {error!r}")
            return
        self.failure = appended.failure
        if appended.refused is not None:
            refuse(batch, appended.refused)
            return
        self.head = max(self.head, appended.position)
        position = appended.position - len(entries)
        for append in batch:
            position += len(append.entries)
            append.succeed(position)


async def append_to(journal: JournalWriter, request: AppendEntries) -> Appended:
    """Appends a batch of another process."""
    try:
        position = 0
        if request.is_written:
            await journal.write(request.entries)
        else:
            position = await journal.append(request.entries)
    except RecordRefused as error:
        return Appended(refused=str(error), failure=journal.failure)
    return Appended(position, failure=journal.failure)
