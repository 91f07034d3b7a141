"""Journal on PostgreSQL: any process inserts whole batches, one sequencer orders them.

Durability and order are two steps. A batch is durable at its commit; then the sequencer, which runs
in one process at a time, assigns its positions.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import UUID

from opentrail.adapters.batches import Append, Batches, Followers, append_of, refuse
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.batches import (
    create_partitions,
    day_of,
    drop_oldest_partition,
    encode,
    insert_batch,
    new_batch_id,
)
from opentrail.adapters.postgres.database import (
    LEASE_SECONDS,
    PostgresLeases,
    SharedDatabase,
    has_quorum_commit,
)
from opentrail.adapters.postgres.schema import LOSE, PROBE, create_tables
from opentrail.adapters.postgres.sequencer import CHANNEL, Sequencer, continue_after
from opentrail.adapters.postgres.source import JournalExtent, PostgresJournalSource, read_extent
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import (
    JournalDamaged,
    LeaseLost,
    OpentrailError,
    RecordRefused,
    StorageFailed,
    StoreUnreachable,
)
from opentrail.core.event import Entry, NewEntry
from opentrail.ports.clock import Clock
from opentrail.ports.journal import RESTORED, JournalEngine, KnownPositions, LostPositions

log = logging.getLogger(__name__)

#: Maximum records per batch, so that the first of them does not wait long.
MAX_BATCH_RECORDS = 2_000
#: Seconds to repeat an insert before its records are refused.
MAX_INSERT_SECONDS = 15.0
#: Seconds that durable records wait for their position before others are refused.
MAX_ORDER_SECONDS = 15.0
#: Seconds between retries while PostgreSQL is unreachable.
_REPEAT_SECONDS = 0.2
#: Seconds before a failed write is retried.
_PROBE_SECONDS = 0.5
#: PostgreSQL's code for a full disk.
_DISK_FULL = "53100"
#: Seconds between the sequencer's polls for batches of other processes.
_ORDER_POLL_SECONDS: Final = 0.05
#: Seconds between two attempts to become the sequencer.
_ATTEMPT_SECONDS = 1.0
#: Seconds between polls for positions, without a notification, and for settings.
_IDLE_POLL_SECONDS: Final = 1.0
#: Seconds before a range lost with a restored backup is reported: other servers may know more of
#: it.
_RESTORED_SECONDS = 3.0
#: Seconds that `close` waits for durable entries to get a position.
_CLOSE_SECONDS = 10.0
#: Seconds between attempts to verify records after a failure.
_PAUSE_SECONDS = 60.0
#: Positions to verify at a time.
_CHECKED_POSITIONS = 2_000
_UNORDERED = "the records may be durable, and have no position yet"
_PLACES = "SELECT id, first FROM opentrail.batch WHERE id = ANY(?)"
_AROUND = (
    "SELECT (SELECT max(first) FROM opentrail.batch WHERE first <= ?),"
    " (SELECT min(first) FROM opentrail.batch WHERE first > ?)"
)
_LAST_UNORDERED = "SELECT max(n) FROM opentrail.batch WHERE first IS NULL"
_ANY_UNORDERED = "SELECT 1 FROM opentrail.batch WHERE first IS NULL AND n <= ? LIMIT 1"
_COUNT = "SELECT count FROM opentrail.batch WHERE first = ?"


class _UndoneError(Exception):
    """The insert must be undone."""


class PostgresJournal:
    """A `TrimmedJournal` on PostgreSQL, which several processes may have open.

    Args:
        url: `postgresql://USER:PASSWORD@HOST,HOST/DATABASE`.
        on_lost: called in the loop when positions are found lost.
        on_written: called in the loop with the last position and its chain, once known.
        known: positions known to others; None if they know none.
        node: this process's name among the journal's users; the same after a restart.
        lease_seconds: time after which another process orders batches if this one has ended.
        clock: decides the partition of a batch.
        trim_limit: returns, in the transaction that trims, the last position that may be trimmed.
        has_history: whether trimmed entries must be in event history here; else they are lost.

    Raises:
        UsageError: the URL is not valid, or PostgreSQL's driver is not installed.
        StorageFailed: the journal cannot be opened.
        DataTooNew: a newer version of opentrail made its tables.
    """

    def __init__(
        self,
        url: str,
        on_lost: Callable[[LostPositions], None] = lambda lost: None,
        on_written: Callable[[int, bytes], None] = lambda position, chain: None,
        known: KnownPositions | None = None,
        node: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        clock: Clock | None = None,
        trim_limit: Callable[[Transaction], int] | None = None,
        has_history: bool = True,
    ) -> None:
        self._on_lost = on_lost
        self._on_written = on_written
        self._clock = clock or SystemClock()
        self._trim_limit = trim_limit
        self._loop = asyncio.get_running_loop()
        self._node = node or secrets.token_hex(8)

        # Separate connections, so that none waits for another.
        self._inserts = SharedDatabase(url)
        self._orders = SharedDatabase(url)
        self._queries = SharedDatabase(url)
        self.source = PostgresJournalSource(url)
        self._inserts.run_blocking(create_tables)
        leases = PostgresLeases(self._orders, lease_seconds)
        self._sequencer = Sequencer(self._orders, leases, self._node)
        if known is not None:
            self._inserts.run_blocking(partial(continue_after, position=known.written))

        # Only the loop reads and writes the following fields.
        self._extent: JournalExtent = self._inserts.run_blocking(read_extent)
        #: Lost positions already reported to `on_lost`, or known at the start.
        self._reported = list(self._extent.lost)
        #: When the losses at the end were noticed.
        self._lost_since: dict[LostPositions, float] = {}
        self._quorum_commit = self._inserts.run_blocking(has_quorum_commit)
        self._quorum_commit_due = self._loop.time() + _IDLE_POLL_SECONDS
        if not self._quorum_commit:
            log.warning(
                "PostgreSQL acknowledges commits that are on no standby: "
                "set synchronous_standby_names"
            )
        # Entries trimmed for another event history are missing from both this one and the journal.
        self._lost_before: list[LostPositions] = []
        if known and has_history and self._extent.trimmed > known.sealed:
            reason = "positions were trimmed from the journal"
            self._lost_before = [LostPositions(known.sealed + 1, self._extent.trimmed, reason)]
        self._batches = Batches()
        self._has_appends = asyncio.Event()
        self._has_unordered = asyncio.Event()
        #: Batches being inserted, or durable but without a position.
        self._unordered: dict[UUID, list[Append]] = {}
        #: The batch being inserted.
        self._inserting: UUID | None = None
        #: The day whose partition existed at the last insert; None after a failed insert.
        self._day: object = None
        #: Bytes of the batch that did not fit; 0 if there is space.
        self._needed_bytes = 0
        #: Every append is durable, and has a position or has stopped waiting for one.
        self._over = asyncio.Event()
        self._followers = Followers()
        self._is_checked = False
        self._unverified: str | None = None
        self._writing = self._loop.create_task(self._write_batches())
        self._ordering = self._loop.create_task(self._keep_ordering())
        self._polling = self._loop.create_task(self._keep_polling())

    # Its state.

    @property
    def engine(self) -> JournalEngine:
        """The medium of the journal, and whether commits also reach a standby."""
        return JournalEngine("postgresql", self._quorum_commit)

    @property
    def head(self) -> int:
        """The position of the last ordered record."""
        return self._extent.head

    @property
    def first(self) -> int:
        """The position of the first stored record."""
        return self._extent.trimmed + 1

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now."""
        if self._batches.failure is None and self._seconds_unordered > MAX_ORDER_SECONDS:
            return "PostgreSQL does not answer, or the sequencer gives no positions"
        return self._batches.failure

    @property
    def lost(self) -> list[LostPositions]:
        """The lost positions, in order."""
        return [*self._lost_before, *self._extent.lost]

    @property
    def is_checked(self) -> bool:
        """Whether every stored record was verified since the start."""
        return self._is_checked

    @property
    def unverified(self) -> str | None:
        """Why records could not be verified; None if unknown."""
        return self._unverified

    @property
    def backlog_seconds(self) -> float:
        """Age in seconds of the oldest record that is not yet durable."""
        return self._batches.seconds_waited(self._loop.time())

    @property
    def _seconds_unordered(self) -> float:
        """Age in seconds of the oldest append whose batch has no position."""
        oldest = next(iter(self._unordered.values()), None)
        return self._loop.time() - oldest[0].since if oldest else 0.0

    # The road of a batch, from callers to followers.

    async def write(self, entries: Sequence[NewEntry]) -> None:
        """Returns only once the records are durable; they get their positions soon."""
        await self._append(entries, is_written=True)

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        return await self._append(entries, is_written=False)

    async def append_fenced(
        self, entries: Sequence[NewEntry], fence: Callable[[Transaction], None]
    ) -> int:
        """Like `append`, in one transaction with the check of a lease.

        Raises:
            LeaseLost: raised by `fence`; nothing is recorded.
        """
        return await self._append(entries, is_written=False, fence=fence)

    async def _append(
        self,
        entries: Sequence[NewEntry],
        is_written: bool,
        fence: Callable[[Transaction], None] | None = None,
    ) -> int:
        failure = self.failure
        if failure:
            raise RecordRefused(failure)
        if not entries:
            return self.head
        append = append_of(entries, self._loop, is_written, fence)
        self._batches.add(append)
        self._has_appends.set()
        # The sequencer may wait for a standby or for PostgreSQL; a call waits at most this long.
        try:
            async with asyncio.timeout(MAX_INSERT_SECONDS + MAX_ORDER_SECONDS):
                return await append.done
        except TimeoutError:
            raise RecordRefused(_UNORDERED) from None

    async def _write_batches(self) -> None:
        """Writes appends until the journal is closed."""
        while not self._batches.is_over:
            if batch := self._batches.take(MAX_BATCH_RECORDS):
                await self._write_batch(batch)
            elif self._batches.failure:
                await self._probe()
            else:
                self._has_appends.clear()
                await self._has_appends.wait()

    async def _write_batch(self, batch: list[Append]) -> None:
        """Makes a batch durable; its appends succeed then, or with their positions."""
        batch_id = new_batch_id(self._clock.now())
        self._unordered[batch_id] = batch
        self._inserting = batch_id
        insert = partial(self._insert, batch_id=batch_id, batch=batch)

        # Repeats the same insert until PostgreSQL has answered; it is stored once.
        try:
            await self._repeat(partial(self._inserts.run, insert))
        except LeaseLost as error:
            self._unordered.pop(batch_id, None)  # an earlier attempt may already have its position
            self._batches.end()
            batch[0].fail(error)
        except StorageFailed as error:
            log.error("refusing records", extra={"error": str(error)})
            if getattr(error.__cause__, "sqlstate", None) == _DISK_FULL:
                records = [entry for append in batch for entry in append.entries]
                self._needed_bytes = len(encode(records))
            self._fail(batch_id, f"the journal cannot be written: {error}")
        except Exception as error:  # a bug must not leave callers without an answer
            log.exception("a batch of records failed unexpectedly")
            self._fail(batch_id, f"the journal failed: {error!r}")
        else:
            self._day = day_of(batch_id)
            self._has_unordered.set()
            self._batches.end()
            for append in batch:
                if append.is_written:  # it waits for no position
                    append.succeed(self.head)
        self._inserting = None

    def _insert(self, transaction: Transaction, batch_id: UUID, batch: Sequence[Append]) -> None:
        """Inserts a batch, and creates its partition if needed.

        Raises:
            LeaseLost: raised by the fence of the batch.
        """
        fence, day = batch[0].fence, day_of(batch_id)
        if fence is not None:
            fence(transaction)
        if self._day != day:
            create_partitions(transaction, day)
        entries = [entry for append in batch for entry in append.entries]
        insert_batch(transaction, batch_id, self._node, len(entries), encode(entries))

    def _fail(self, batch_id: UUID, reason: str) -> None:
        self._unordered.pop(batch_id, None)
        refuse(self._batches.fail(reason), reason)

    async def _repeat(self, insert: Callable[[], Awaitable[None]]) -> None:
        until = self._loop.time() + MAX_INSERT_SECONDS
        while True:
            try:
                await insert()
            except StorageFailed as error:
                # PostgreSQL may have been restored from a backup without today's partition.
                self._day = None
                if not isinstance(error, StoreUnreachable) or self._loop.time() >= until:
                    raise
                log.warning("repeating an insert", extra={"error": str(error)})
                await asyncio.sleep(_REPEAT_SECONDS)
            else:
                return

    async def _probe(self) -> None:
        """Tests whether records can be written again."""
        await asyncio.sleep(_PROBE_SECONDS)
        try:
            await self._inserts.run(lambda transaction: transaction.change(PROBE))
            if self._needed_bytes:
                await self._inserts.run(self._insert_and_undo)
        except _UndoneError:
            self._needed_bytes = 0
        except StorageFailed:
            return
        self._batches.recover()

    def _insert_and_undo(self, transaction: Transaction) -> None:
        """Inserts the amount that did not fit: a row may fit where a batch does not.

        Raises:
            _UndoneError: there is space; the insert is undone.
        """
        batch_id = new_batch_id(self._clock.now())
        create_partitions(transaction, day_of(batch_id))
        # Random bytes cannot be compressed.
        body = secrets.token_bytes(self._needed_bytes)
        insert_batch(transaction, batch_id, self._node, 0, body)
        raise _UndoneError

    async def _keep_ordering(self) -> None:
        """Orders batches while no other process does."""
        while not self._over.is_set():
            self._has_unordered.clear()
            pause = _ORDER_POLL_SECONDS
            try:
                # Batches of other processes may always exist.
                while not self._over.is_set() and (
                    ordered := await self._sequencer.order(self._extent.head)
                ):
                    self._place(ordered.places)
                    self._update_extent(
                        replace(self._extent, head=ordered.head, chain=ordered.chain)
                    )
            except OpentrailError as error:
                log.warning("batches cannot be ordered", extra={"error": str(error)})
                pause = _REPEAT_SECONDS
            except Exception:  # others wait for it, and it may succeed later
                log.exception("batches could not be ordered")
                pause = _ATTEMPT_SECONDS
            woken = self._has_unordered
            if not self._sequencer.is_holder:
                # Its own batches are no reason to ask for the lease more often.
                woken, pause = self._over, _ATTEMPT_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()

    async def _keep_polling(self) -> None:
        """Polls for batches that other processes have ordered, trimmed or found lost."""
        while True:
            try:
                async with aclosing(
                    self._queries.notifications(CHANNEL, _IDLE_POLL_SECONDS)
                ) as notified:
                    async for _ in notified:
                        await self._poll()
            except OpentrailError as error:
                log.warning("the journal cannot be followed", extra={"error": str(error)})
            except Exception:  # calls wait for positions
                log.exception("the journal could not be followed")
            await asyncio.sleep(_REPEAT_SECONDS)

    async def _poll(self) -> None:
        batch_ids = list(self._unordered)
        durable = [batch_id for batch_id in batch_ids if batch_id != self._inserting]

        # Its settings may change at any time.
        is_due = self._loop.time() >= self._quorum_commit_due

        def work(transaction: Transaction) -> tuple[dict[UUID, int | None], JournalExtent]:
            firsts = transaction.rows(_PLACES, [batch_ids]) if batch_ids else []
            if is_due:
                self._quorum_commit = has_quorum_commit(transaction)
            return dict(firsts), read_extent(transaction)

        firsts, extent = await self._queries.run(work)
        if extent.head < self._extent.head:
            # A promoted standby may miss the last commits: they are lost, unless this query read
            # the state before them.
            await self._queries.run(partial(continue_after, position=self._extent.head))
        if is_due:
            self._quorum_commit_due = self._loop.time() + _IDLE_POLL_SECONDS
        self._place({batch_id: first for batch_id, first in firsts.items() if first is not None})
        self._update_extent(extent)
        for batch_id in durable:
            if batch_id not in firsts:
                await self._insert_again(batch_id)

    async def _insert_again(self, batch_id: UUID) -> None:
        """Inserts a durable batch that a promoted or restored server misses."""
        batch = self._unordered.get(batch_id)
        if batch is None:
            return  # it got its position since
        log.warning("a batch is missing; inserting it again", extra={"batch": str(batch_id)})
        self._day = None
        try:
            await self._queries.run(partial(self._insert, batch_id=batch_id, batch=batch))
        except LeaseLost as error:
            self._unordered.pop(batch_id, None)
            batch[0].fail(error)
        self._has_unordered.set()

    def _place(self, places: Mapping[UUID, int]) -> None:
        """Completes the appends of batches with these first positions."""
        for batch_id, first in places.items():
            position = first - 1
            for append in self._unordered.pop(batch_id, ()):
                position += len(append.entries)
                append.succeed(position)

    def _update_extent(self, extent: JournalExtent) -> None:
        """Merges an extent, which may be older than the known one; wakes followers."""
        known = self._extent
        lost = max(known.lost, extent.lost, key=_extent_of)
        newer = extent if extent.head > known.head else known
        head, trimmed = newer.head, max(extent.trimmed, known.trimmed)
        self._extent = JournalExtent(head, newer.chain, trimmed, lost)
        if head > known.head:
            self._on_written(head, newer.chain)
        for run in lost:
            if run not in self._reported and not self._may_grow(run, head):
                self._reported.append(run)
                log.error("positions of the journal are lost", extra={"lost": str(run)})
                self._on_lost(run)
        self._followers.wake(head)

    def _may_grow(self, lost: LostPositions, head: int) -> bool:
        """Returns whether other servers may report further losses with a restored backup."""
        if lost.reason != RESTORED or lost.last != head:
            return False
        since = self._lost_since.setdefault(lost, self._loop.time())
        return self._loop.time() - since < _RESTORED_SECONDS

    async def newest(self) -> int:
        """Returns once everything durable on any server has a position: the last one."""
        until = self._loop.time() + MAX_ORDER_SECONDS
        try:
            number, extent = await self._queries.run(_last_unordered)
        except StoreUnreachable:  # PostgreSQL may have restarted since the last poll
            number, extent = await self._queries.run(_last_unordered)
        while number is not None and self._loop.time() < until:
            await asyncio.sleep(_ORDER_POLL_SECONDS / 5)
            still = partial(_is_unordered, number=number)
            is_unordered, extent = await self._queries.run(still)
            number = number if is_unordered else None
        self._update_extent(extent)
        if number is not None:
            raise StorageFailed("the sequencer of the journal gives no positions")
        return self.head

    async def wait_beyond(self, position: int) -> None:
        """Returns once a record after `position` is durable and has its position."""
        if self.head <= position:
            await self._followers.wait_beyond(position)

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns up to `limit` entries after `after`, in order."""
        last = self.head if until is None else min(until, self.head)
        while after < last:
            end = min(last, after + limit)
            entries = await self._read_with_repair(after + 1, end)
            if entries:
                return entries
            after = end  # all of them are lost
        return []

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first."""
        return await asyncio.to_thread(self.source.find, event_id)

    async def close(self) -> None:
        """Returns once everything appended is durable and connections are closed."""
        self._batches.close()
        self._has_appends.set()
        await self._writing
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._unordered:  # noqa: ASYNC110 - another process may order them
                    await asyncio.sleep(_ORDER_POLL_SECONDS)
        # Not cancelled: a lease about to be acquired would not be released.
        self._over.set()
        self._has_unordered.set()
        await self._ordering
        self._polling.cancel()
        await asyncio.gather(self._polling, return_exceptions=True)
        for batch in self._unordered.values():
            refuse(batch, _UNORDERED)
        self._unordered.clear()
        with suppress(StorageFailed):
            await self._sequencer.close()
        for opened in (self._inserts, self._orders, self._queries, self.source):
            await opened.close()

    # Checks, repairs and trimming.

    async def keep_checking(self) -> None:
        """Repeats `check` until every stored record has been verified."""
        while not self._is_checked:
            try:
                await self.check()
                self._unverified = None
            except OpentrailError as error:
                self._unverified = str(error)
                log.warning("the journal could not be verified", extra={"error": str(error)})
                await asyncio.sleep(_PAUSE_SECONDS)

    async def check(self) -> None:
        """Verifies every stored record; damaged ones are lost.

        Raises:
            StorageFailed: PostgreSQL failed or does not answer.
            DataTooNew: a newer version of opentrail wrote a batch.
        """
        await self.repair(self.first, self.head)
        self._is_checked = True

    async def repair(self, first: int, last: int) -> None:
        """Verifies the positions `first`…`last`; damaged batches are lost."""
        first, last = max(first, self.first), min(last, self.head)
        while first <= last:
            end = min(last, first + _CHECKED_POSITIONS - 1)
            entries = await self._read_with_repair(first, end)
            first = max((entries[-1].position if entries else end) + 1, self.first)

    async def _read_with_repair(self, first: int, last: int) -> list[Entry]:
        """Reads entries; marks damaged batches as lost."""
        position = 0
        while True:
            try:
                return await asyncio.to_thread(self.source.read, first, last)
            except JournalDamaged as error:
                # The first read may have seen a damaged page that PostgreSQL has since replaced.
                if error.position == position:
                    await self._lose(error)
                position = error.position
            except StorageFailed:
                # If it was trimmed, callers learn that from `first`.
                self._update_extent(await self._queries.run(read_extent))
                raise

    async def _lose(self, damage: JournalDamaged) -> None:
        """Marks the batch of a damaged position, or the missing positions, as lost."""
        head = self.head

        def work(transaction: Transaction) -> JournalExtent:
            at = damage.position
            ((first, following),) = transaction.rows(_AROUND, [at, at])
            last = following - 1 if following else head
            if first is not None:
                ((count,),) = transaction.rows(_COUNT, [first])
                if at < first + count:
                    at, last = first, first + count - 1
            transaction.change(LOSE, [at, last, str(damage)])
            return read_extent(transaction)

        self._update_extent(await self._queries.run(work))

    async def trim(self, until: int, keep: int = 1) -> int:
        """Drops the oldest partitions that are also in the archive; returns their number."""
        count = 0

        def drop(transaction: Transaction) -> bool:
            limit = until
            if self._trim_limit is not None:
                limit = min(limit, self._trim_limit(transaction))
            return drop_oldest_partition(transaction, limit, max(1, keep))

        while await self._queries.run(drop):
            count += 1
        self._update_extent(await self._queries.run(read_extent))
        return count

    def trimmable_bytes(self, until: int, keep: int = 1) -> int:
        """Returns 0: the records are on PostgreSQL's disk."""
        return 0


def _extent_of(lost: Sequence[LostPositions]) -> tuple[int, int]:
    """Returns a number that grows with each loss."""
    return len(lost), max((run.last or run.first for run in lost), default=0)


def _last_unordered(transaction: Transaction) -> tuple[int | None, JournalExtent]:
    """Returns the number of the last batch without a position, and the journal's extent."""
    ((number,),) = transaction.rows(_LAST_UNORDERED)
    return number, read_extent(transaction)


def _is_unordered(transaction: Transaction, number: int) -> tuple[bool, JournalExtent]:
    """Returns whether a batch up to a number still has no position, and the journal's extent."""
    return bool(transaction.rows(_ANY_UNORDERED, [number])), read_extent(transaction)
