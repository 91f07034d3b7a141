"""Records exchanges: assembles, makes durable, learns; and counts lost records."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from opentrail.capture.record.assemble import Assembled, Assembler
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.lost_records import gap_entry
from opentrail.core.errors import RecordRefused
from opentrail.core.event import NewEntry, Record
from opentrail.core.gaps import Gap
from opentrail.core.identity import Identity
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter
from opentrail.ports.metrics import Metrics

log = logging.getLogger(__name__)

_GAP_CHECK_SECONDS = 1.0
#: Seconds after which a waiting record shows that the disk is too slow.
_OVERLOAD_SECONDS = 0.5
#: Seconds for which calls that end at about the same time gather for one commit. A single caller
#: never waits.
_GROUP_SECONDS = 0.002
#: Bytes of further records, such as records of deleted objects, after which other calls get a turn.
_MAX_FURTHER_BYTES = 512 * 1024
#: Bytes of bodies that yield a record within a few milliseconds, even compressed ones.
_SMALL_BYTES, _SMALL_PACKED_BYTES = 128 * 1024, 128
#: Bytes of bodies of large calls queued for the thread; above that, the records of further ones are
#: made before the records of other calls.
_MAX_LARGE_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class _Waiting:
    """A call to be recorded; without `done` its client already has the answer."""

    exchange: Exchange
    done: asyncio.Future[int] | None
    since: float
    #: Whether `done` gets the position of the record, rather than only the time of durability.
    needs_position: bool = False


class Recorder:
    """Records exchanges. With `refuse`, an answer leaves only after its record is durable.

    Args:
        learn: learns identities from a record.
        refuse: whether the mode is `--on-record-failure refuse`, not `allow`.
        keep_gap: stores the gap of lost records for the next start.
    """

    def __init__(
        self,
        journal: JournalWriter,
        assembler: Assembler,
        learn: Callable[[Record], Any],
        clock: Clock,
        metrics: Metrics,
        refuse: bool,
        keep_gap: Callable[[Gap | None], None] = lambda _gap: None,
    ) -> None:
        self._journal = journal
        self._assembler = assembler
        self._learn = learn
        self._clock = clock
        self._metrics = metrics
        self.refuse = refuse
        self.lost = 0
        self._keep_gap = keep_gap
        self._gap: Gap | None = None
        self._waiting: list[_Waiting] = []
        #: The last group had several calls, so waiting for others pays off.
        self._is_busy = False
        self._writing: set[asyncio.Task[None]] = set()
        #: Large calls take their turns: each may need many times the memory of its bodies.
        self._large = asyncio.Lock()
        self._large_bytes = 0
        #: Held for a call from reading its bodies in files until it is recorded.
        self.turn = asyncio.Lock()

    @property
    def failure(self) -> str | None:
        """Why calls are refused now, or None."""
        return self._journal.failure if self.refuse else None

    @property
    def overloaded(self) -> bool:
        """Whether records wait too long to accept further calls (guarantee D16)."""
        return self.refuse and self._journal.backlog_seconds > _OVERLOAD_SECONDS

    @property
    def position(self) -> int:
        """The last position of the journal."""
        return self._journal.head

    def identity(self, access_key_id: str) -> Identity:
        return self._assembler.identity(access_key_id)

    def caller(self, exchange: Exchange) -> tuple[str, str]:
        """Returns the account and Region of a call."""
        return self._assembler.caller(exchange)

    async def record(self, exchange: Exchange) -> int:
        """Returns the record's position, only once it is durable.

        Raises:
            RecordRefused: there is no record; the call counts as lost.
        """
        position: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(exchange, position, needs_position=True)
        return await position

    async def record_or_count(self, exchange: Exchange) -> str | None:
        """Returns None once the record is durable; else the reason, and counts the call as lost.

        Cancelling the caller also counts it as lost.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(exchange, done)
        try:
            await done
        except RecordRefused as error:
            return str(error)
        return None

    def record_later(self, exchange: Exchange) -> None:
        """Records after the answer (`allow`); a loss is counted and leaves a gap record."""
        self._add(exchange, None)

    def _add(
        self,
        exchange: Exchange,
        done: asyncio.Future[int] | None,
        needs_position: bool = False,
    ) -> None:
        """Adds a call to the group of calls that end at about the same time.

        A large one gets a separate group.
        """
        call = _Waiting(exchange, done, time.perf_counter(), needs_position)
        size = _size_if_large(exchange)
        if size and self._large_bytes < _MAX_LARGE_BYTES:
            if exchange.identity is None and exchange.credential is not None:
                # By the time the thread runs, the key may be deleted, or its user renamed.
                exchange.identity = self.identity(exchange.credential.access_key_id)
            recording = self._record_large(call, size)
        else:
            self._waiting.append(call)
            if len(self._waiting) > 1:
                return
            recording = self._record_waiting()
        task = asyncio.get_running_loop().create_task(recording)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _record_large(self, call: _Waiting, size: int) -> None:
        """Records a call in a thread: 16 MiB of small members take seconds."""
        self._large_bytes += size
        try:
            async with self._large:
                made = await asyncio.to_thread(self._assembled, call.exchange)
        finally:
            self._large_bytes -= size
        if (assembled := self._accepted(call, made)) is not None:
            await self._append([(call, assembled)])

    async def _record_waiting(self) -> None:
        if self._is_busy:
            await asyncio.sleep(_GROUP_SECONDS)
        waiting, self._waiting = self._waiting, []
        self._is_busy = len(waiting) > 1
        group: list[tuple[_Waiting, Assembled]] = []
        size = 0
        for call in waiting:
            assembled = self._accepted(call, self._assembled(call.exchange))
            if assembled is None:
                continue
            group.append((call, assembled))
            for further in assembled.more:
                size += len(further.record)
            if size > _MAX_FURTHER_BYTES:
                await self._append(group)
                group, size = [], 0
        if group:
            await self._append(group)

    def _assembled(self, exchange: Exchange) -> Assembled | Exception:
        """Returns the record, or why it cannot be made."""
        try:
            return self._assembler.assemble(exchange)
        except Exception as error:  # the other calls are recorded
            log.exception("a call cannot be recorded")
            return error

    def _accepted(self, waiting: _Waiting, made: Assembled | Exception) -> Assembled | None:
        """Returns a record to append; counts a call without one as lost."""
        if isinstance(made, Exception):
            self._refuse(waiting, f"{type(made).__name__} while its record was made")
            return None
        if waiting.done is None:
            # The client's next call may be signed with a key created by this one.
            self._learn_from(made)
        return made

    async def _append(self, group: Sequence[tuple[_Waiting, Assembled]]) -> None:
        entries: list[NewEntry] = []
        for _, assembled in group:
            entries += (assembled.entry, *assembled.more)
        position = 0
        try:
            if any(call.needs_position for call, _ in group):
                position = await self._journal.append(entries) - len(entries) + 1
            else:
                await self._journal.write(entries)
        except Exception as error:
            if not isinstance(error, RecordRefused):
                log.exception("the journal failed unexpectedly")
            for call, _ in group:
                self._refuse(call, str(error) or type(error).__name__)
            return
        self._metrics.journal_position.set(self._journal.head)
        for call, assembled in group:
            if call.done is not None:
                self._learn_from(assembled)
                if not call.done.done():
                    call.done.set_result(position)
            position += 1 + len(assembled.more)
            self._count(assembled, call)

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        """Counts a call without a record, and refuses it if its client still waits."""
        self.count_lost(waiting.exchange, reason)
        if waiting.done is not None and not waiting.done.done():
            waiting.done.set_exception(RecordRefused(reason))

    def _learn_from(self, assembled: Assembled) -> None:
        try:
            self._learn(assembled.record)
        except Exception:  # the call is recorded, and has to be answered
            log.exception(
                "learning from a call failed", extra={"eventID": assembled.entry.event_id}
            )

    def count_lost(self, exchange: Exchange, reason: str) -> None:
        """Counts a call without a record."""
        moment = exchange.completed_at
        self.lost += 1
        self._metrics.lost.inc()
        gap = self._gap or Gap(0, moment, moment, reason)
        self._set_gap(gap.and_one(moment, reason))

    def _set_gap(self, gap: Gap | None) -> None:
        self._gap = gap
        try:
            self._keep_gap(gap)
        except OSError:
            log.exception("the number of lost records cannot be stored for the next start")

    def _count(self, assembled: Assembled, waiting: _Waiting) -> None:
        service, seconds = waiting.exchange.route.service, time.perf_counter() - waiting.since
        name = service.name if service else "unknown"
        self._metrics.count(name, assembled.entry.category, seconds, len(assembled.more))
        if not assembled.decoded:
            self._metrics.undecoded.inc()

    async def close_gaps(self, ended: asyncio.Event) -> None:
        """Records lost records once the journal works again, until `ended`.

        It must not be cancelled: the next start would record the pending losses again.
        """
        while not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _GAP_CHECK_SECONDS)
            await self.close_gap()

    async def close_gap(self) -> None:
        """Records the number of records lost since the last time, if the journal works."""
        if self._gap is None or self._journal.failure:
            return
        gap, self._gap = self._gap, None  # later losses belong to another gap
        try:
            await self._journal.append([gap_entry(gap, self._clock.now(), self._assembler.account)])
        except RecordRefused:
            self._set_gap(gap.and_later(self._gap))
            return
        self._set_gap(self._gap)

    async def drain(self) -> None:
        """Returns once no recording is in progress."""
        while self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)


def _size_if_large(exchange: Exchange) -> int:
    """Returns the bytes of a large call's bodies, 0 for other calls.

    Making the record of a large call may take long enough to delay others.
    """
    size = unpacked_size = 0
    for message in (exchange.request, exchange.response):
        if message is not None:
            may_be_packed = "content-encoding" in message.headers
            ratio = _SMALL_BYTES // _SMALL_PACKED_BYTES if may_be_packed else 1
            size += len(message.body)
            unpacked_size += len(message.body) * ratio
    return size if unpacked_size > _SMALL_BYTES else 0
