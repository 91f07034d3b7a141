"""Has exchanges recorded: assembled, durable, learned from; and counts what could not be."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentrail.capture.record.assemble import Assembled, Assembler
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.limits import to_bytes
from opentrail.core.errors import RecordRefused
from opentrail.core.event import EVENT_VERSION, MANAGEMENT, NewEntry, Record, format_time
from opentrail.core.gaps import Gap
from opentrail.core.identity import DEFAULT_ACCOUNT, KEY_OPERATIONS, Identity
from opentrail.core.trail import GLOBAL_REGION
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter, LostPositions

log = logging.getLogger(__name__)

_GAP_CHECK_SECONDS = 1.0
#: A record that waits longer than this means that the disk does not keep up.
_OVERLOAD_SECONDS = 0.5
#: While others are being written a call waits this long for more, so that fewer groups are made.
_GATHER_SECONDS = 0.0005
#: So long if nobody waits for it: an eighth less of the processor's time for each call.
_GATHER_LATER_SECONDS = 0.004
#: Calls that delete many objects make many records: after so many bytes of these, other calls have
#: their turn.
_MOST_MORE_BYTES = 512 * 1024
RECORDER_SOURCE = "recorder.opentrail.internal"


@dataclass(slots=True)
class _Waiting:
    """A call whose record is to be made; without `done` nobody waits for it."""

    exchange: Exchange
    done: asyncio.Future[int] | None
    since: float


class Recorder:
    """Records exchanges. With `refuse`, an answer leaves only after its record is durable.

    Args:
        learn: takes in what a durable record teaches about identities.
        refuse: the mode `--on-record-failure refuse`; else `allow`.
        keep_gap: keeps what is known of lost records for the next start.
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
        self._group: list[_Waiting] = []
        self._writing: set[asyncio.Task[None]] = set()
        #: Whether the last group was of several calls.
        self._is_busy = False
        #: Whether anything waits for a call of the next group.
        self._is_awaited = False

    @property
    def failure(self) -> str | None:
        """Why calls are refused now, or None."""
        return self._journal.failure if self.refuse else None

    @property
    def overloaded(self) -> bool:
        """Whether calls wait too long for the disk to accept more of them (guarantee D16)."""
        return self.refuse and self._journal.backlog_seconds > _OVERLOAD_SECONDS

    def identity(self, access_key_id: str) -> Identity:
        """Returns whom an access key id stands for."""
        return self._assembler.identity(access_key_id)

    def caller(self, exchange: Exchange) -> tuple[str, str]:
        """Returns account and Region that a call is made in."""
        return self._assembler.caller(exchange)

    async def record(self, exchange: Exchange) -> int:
        """Returns the record's position, only once it is durable.

        Raises:
            RecordRefused: there is no record.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._wait_for_group(exchange, done, is_awaited=True)
        return await done

    def record_later(self, exchange: Exchange) -> None:
        """Records after the answer (`allow`); a loss is counted and leaves a gap record."""
        self._wait_for_group(exchange, None, exchange.call.operation in KEY_OPERATIONS)

    def _wait_for_group(
        self, exchange: Exchange, done: asyncio.Future[int] | None, is_awaited: bool
    ) -> None:
        """Has calls that end at about the same time assembled one after the other.

        The same code run many times in a row takes half the time that it takes in between others,
        and each group costs a sync and two switches between threads. A call that is alone does not
        wait; one that nothing waits for leaves others more time to come.
        """
        is_first = not self._group
        self._group.append(_Waiting(exchange, done, time.perf_counter()))
        if not is_first and (self._is_awaited or not is_awaited):
            return
        self._is_awaited = is_awaited
        if self._writing or self._is_busy:
            patience = _GATHER_SECONDS if is_awaited else _GATHER_LATER_SECONDS
            asyncio.get_running_loop().call_later(patience, self._begin_group)
        else:
            self._begin_group()

    def _begin_group(self) -> None:
        if self._group:
            self._is_busy = len(self._group) > 1
            task = asyncio.get_running_loop().create_task(self._record_group())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _record_group(self) -> None:
        group, self._group = self._group, []
        made: list[tuple[_Waiting, Assembled]] = []
        size = 0
        for waiting in group:
            assembled = self._assembled(waiting)
            if assembled is None:
                continue
            made.append((waiting, assembled))
            if assembled.more:
                size += sum(len(entry.record) for entry in assembled.more)
            if size > _MOST_MORE_BYTES:
                await self._append(made)
                made, size = [], 0
        if made:
            await self._append(made)

    def _assembled(self, waiting: _Waiting) -> Assembled | None:
        try:
            assembled = self._assembler.assemble(waiting.exchange)
        except Exception as error:  # the caller is told; others go on
            log.exception("a call cannot be recorded")
            self._refuse(waiting, f"{type(error).__name__} while its record was made")
            return None
        if waiting.done is None:
            self._learn_from(assembled)
        return assembled

    async def _append(self, made: Sequence[tuple[_Waiting, Assembled]]) -> None:
        entries = [entry for _, one in made for entry in (one.entry, *one.more)]
        try:
            position = await self._journal.append(entries) - len(entries)
        except RecordRefused as error:
            for waiting, _ in made:
                self._refuse(waiting, str(error))
            return
        ended = time.perf_counter()
        for waiting, one in made:
            position += 1
            if waiting.done is not None:
                self._learn_from(one)
                if not waiting.done.done():
                    waiting.done.set_result(position)
            position += len(one.more)
            self._count(one, waiting.exchange, ended - waiting.since)
        self._metrics.journal_position.set(self._journal.head)

    def _learn_from(self, made: Assembled) -> None:
        try:
            self._learn(made.record)
        except Exception:  # the record stands, and others wait
            log.exception("nothing could be learned", extra={"eventID": made.entry.event_id})

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        if waiting.done is None:
            self._lose(waiting.exchange.completed_at, reason)
        elif not waiting.done.done():
            waiting.done.set_exception(RecordRefused(reason))

    def lose(self, exchange: Exchange, reason: str) -> int:
        """Counts a call that has no record; the result stands for its position."""
        self._lose(exchange.completed_at, reason)
        return self._journal.head

    def _lose(self, moment: datetime, reason: str) -> None:
        self.lost += 1
        self._metrics.lost.inc()
        gap = self._gap or Gap(0, moment, moment, reason)
        self._set_gap(gap.and_one(moment, reason))

    def _set_gap(self, gap: Gap | None) -> None:
        self._gap = gap
        try:
            self._keep_gap(gap)
        except OSError:
            log.exception("lost records cannot be kept for the next start")

    def _count(self, made: Assembled, exchange: Exchange, seconds: float) -> None:
        service = exchange.call.service
        name = service.name if service else "unknown"
        self._metrics.count(name, made.entry.category, seconds, len(made.more))
        if not made.decoded:
            self._metrics.undecoded.inc()

    async def close_gaps(self) -> None:
        """Runs for ever: once the journal works again, records how many records it never got."""
        while True:
            await asyncio.sleep(_GAP_CHECK_SECONDS)
            await self.close_gap()

    async def close_gap(self) -> None:
        """Records how many records were lost since the last time, if the journal takes it."""
        if self._gap is None or self._journal.failure:
            return
        gap, self._gap = self._gap, None  # what is lost meanwhile is another one
        try:
            await self._journal.append([gap_entry(gap, self._clock.now())])
        except RecordRefused:
            self._set_gap(gap.and_later(self._gap))
            return
        self._set_gap(self._gap)

    async def drain(self) -> None:
        """Returns once nothing recorded later is under way."""
        while self._writing or self._group:
            self._begin_group()
            await asyncio.gather(*self._writing, return_exceptions=True)


def gap_entry(gap: Gap, now: datetime) -> NewEntry:
    """Returns the record that tells of lost ones."""
    log.warning("records were lost", extra={"count": gap.count, "reason": gap.reason})
    details = {
        "lostRecords": gap.count,
        "firstLostAt": format_time(gap.first),
        "lastLostAt": format_time(gap.last),
        "reason": gap.reason,
    }
    return _records_lost(str(uuid.uuid4()), details, now)


def lost_entry(lost: LostPositions, now: datetime) -> NewEntry:
    """Returns the record of positions that the journal has lost; it has the same id every time."""
    name = f"opentrail:journal:{lost.first}-{lost.last}:{lost.reason}"
    details: dict[str, Any] = {"firstPosition": lost.first, "reason": lost.reason}
    if lost.last is not None:
        details |= {"lastPosition": lost.last, "lostRecords": lost.last - lost.first + 1}
    return _records_lost(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), details, now)


def _records_lost(event_id: str, details: dict[str, Any], now: datetime) -> NewEntry:
    record = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": {"accountId": DEFAULT_ACCOUNT, "invokedBy": RECORDER_SOURCE},
        "eventTime": format_time(now),
        "eventSource": RECORDER_SOURCE,
        "eventName": "RecordsLost",
        "awsRegion": GLOBAL_REGION,
        "sourceIPAddress": RECORDER_SOURCE,
        "userAgent": RECORDER_SOURCE,
        "requestParameters": None,
        "responseElements": None,
        "eventID": event_id,
        "readOnly": False,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "recipientAccountId": DEFAULT_ACCOUNT,
        "serviceEventDetails": details,
        "eventCategory": MANAGEMENT,
    }
    raw = to_bytes(record)
    return NewEntry("recorder", now, DEFAULT_ACCOUNT, GLOBAL_REGION, MANAGEMENT, event_id, raw)
