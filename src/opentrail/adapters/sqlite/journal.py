"""Journal on SQLite: one database file per segment, group commit, a hash chain over the rows.

A thread owns the writing connection. The appends that arrive while a group is being committed form
the next group, so that they share the cost of a sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from opentrail.adapters.append_queue import Append, Appends, append_of
from opentrail.adapters.files import sync_folder
from opentrail.adapters.sqlite.repair import chain_before_of, finish_repairs, repair
from opentrail.adapters.sqlite.rows import SCHEMA, inserts
from opentrail.adapters.sqlite.salvage import has_hidden_commits
from opentrail.adapters.sqlite.segments import Readers, Segment, ends_of, newest
from opentrail.adapters.sqlite.verify import UNKNOWN, is_corrupt, is_damage, lost_in
from opentrail.core.errors import JournalDamaged, RecordRefused, StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.core.faults import reach
from opentrail.ports.journal import LostPositions

T = TypeVar("T")

log = logging.getLogger(__name__)

SEGMENT_BYTES = 256 * 1024 * 1024
#: Maximum records per group, so that the first of them does not wait for long.
GROUP_RECORDS = 2_000
#: Maximum records and bytes of the newest entries, which are cached for followers.
TAIL_RECORDS, TAIL_BYTES = 12_000, 16 * 1024 * 1024
_CHECK_BYTES = 1024 * 1024
#: Pages of the write-ahead log per checkpoint, during which the next group waits. SQLite's default
#: of 1,000 takes 8 ms where a sync takes 0.3 ms.
_CHECKPOINT_PAGES = 250
#: Entries that are evicted from the cache at a time.
_EVICTED = 64
#: Seconds until a failed append is tried again.
_PROBE_SECONDS = 0.25
#: Longest wait for the writing thread to start a new segment.
_ROLL_SECONDS = 30.0
#: Seconds until segments are verified again if one of them could not be.
_CHECK_PAUSE = 60.0
#: Entries per batch of a verification.
_VERIFIED = 2_000
_GENESIS = b"\0" * 32


@dataclass(frozen=True, slots=True)
class KnownPositions:
    """Positions that others know of; a journal that does not have them has lost files.

    `sealed` is the last position whose record is also in event history, `written` a position that
    was written.
    """

    sealed: int = 0
    written: int = 0


class SqliteJournal:
    """A `Journal` in a folder.

    Args:
        folder: its segments.
        on_broken: is called once if a sync fails: nothing may be acknowledged after that.
        segment_bytes: size at which a new segment is started.
        known: positions that others know of; None if the journal was never written to.
        on_lost: is called in the loop when positions turn out to be lost.
        on_written: is called by the writing thread with position and chain of the last record that
            is durable, before that is acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        on_broken: Callable[[str], None] = lambda reason: None,
        segment_bytes: int = SEGMENT_BYTES,
        known: KnownPositions | None = None,
        on_lost: Callable[[LostPositions], None] = lambda lost: None,
        on_written: Callable[[int, bytes], None] = lambda position, chain: None,
    ) -> None:
        self._on_written = on_written
        self._folder = folder
        self._on_lost = on_lost
        self._on_broken = on_broken
        self._segment_bytes = segment_bytes
        self._loop = asyncio.get_running_loop()
        self._appends = Appends()
        self._wake = threading.Condition()
        self._closing = self._broken = False
        self._failure: str | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        #: Bytes written since the segment's size was last checked.
        self._unchecked = 0
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._readers = Readers()
        #: `_listing` is held to change the list of segments, `_changing` to delete or repair one.
        self._listing, self._changing = threading.Lock(), threading.Lock()
        #: Asks the writing thread for a new segment; the thread clears it after its attempt.
        self._roll_due = False
        self._rolled = threading.Condition()
        #: The writing thread has ended; set by itself, with `_rolled` held.
        self._has_ended = False
        #: Every segment was verified since the start; else why one could not be, if that is known.
        self.is_checked = False
        self.unverified: str | None = None
        finish_repairs(folder)
        self._segments = self._find_segments()
        self._lost_before = self._missing_before(known)
        self._writer, self._head, self._chain = self._open_last(known)
        self._durable = self._head
        self._thread = threading.Thread(target=self._write_groups, name="journal", daemon=True)
        self._thread.start()

    @property
    def head(self) -> int:
        """The position of the last durable record."""
        return self._durable

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now."""
        return self._failure

    @property
    def lost(self) -> list[LostPositions]:
        """The positions that are lost, in order."""
        return [*self._lost_before, *(one for s in self._segments for one in s.lost)]

    @property
    def backlog_seconds(self) -> float:
        """Seconds that the oldest record has waited."""
        oldest = self._appends.oldest
        return 0.0 if oldest is None else self._loop.time() - oldest

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        if self._failure or self._closing:
            raise RecordRefused(self._failure or "the journal is closing")
        append = append_of(entries, self._loop)
        with self._wake:
            self._appends.add(append)
            self._wake.notify()
        return await append.done

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns up to `limit` durable entries after `after`, in order."""
        last = self._durable if until is None else min(until, self._durable)
        if after >= last:
            return []
        if self._tail and after + 1 >= (first := self._tail[0].position):
            return self._tail[after + 1 - first : min(last, after + limit) + 1 - first]
        return await self._repairing(lambda: self._readers.read(self._segments, after, last, limit))

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first."""
        return await self._repairing(lambda: self._readers.find(self._segments, event_id))

    async def check(self) -> None:
        """Verifies every segment, newest first, and repairs those that are damaged.

        Raises:
            StorageFailed: a segment could not be verified or repaired; all others were.
        """
        failure: StorageFailed | None = None
        for segment in reversed(self._segments):
            try:
                await self._repairing(lambda segment=segment: self._verify(segment))  # type: ignore[misc]
            except StorageFailed as error:
                failure = error
        if failure is not None:
            raise failure
        self.is_checked = True

    async def keep_checking(self) -> None:
        """Repeats `check` until every segment has been verified."""
        while not self.is_checked:
            try:
                await self.check()
                self.unverified = None
            except StorageFailed as error:
                self.unverified = str(error)
                log.warning("the journal could not be verified", extra={"error": str(error)})
                await asyncio.sleep(_CHECK_PAUSE)

    async def repair(self, first: int, last: int) -> None:
        """Verifies the segments that hold positions `first`…`last`, and repairs damaged ones."""
        for segment, end in ends_of(self._segments, self._durable):
            if segment.first <= last and end >= first:
                await self._repairing(lambda segment=segment: self._verify(segment))  # type: ignore[misc]

    async def _repairing(self, work: Callable[[], T]) -> T:
        """Runs a read in a thread; repairs the damage that it finds and runs it again."""
        repaired: set[int] = set()
        while True:
            try:
                return await asyncio.to_thread(work)
            except JournalDamaged as error:
                if error.position in repaired:
                    raise
                repaired.add(error.position)
                await asyncio.to_thread(self._repair, error)

    @property
    def first(self) -> int:
        """The position of the first record that is still here."""
        return self._segments[0].first

    async def trim(self, until: int, keep: int = 1) -> int:
        """Deletes the oldest segments all of whose entries are at most at `until`.

        Args:
            until: the last position that is also in event history.
            keep: number of newest segments that are never deleted.

        Returns:
            The number of deleted segments.
        """
        return await asyncio.to_thread(self._trim, until, max(1, keep))

    async def wait_beyond(self, position: int) -> None:
        """Returns once a record after `position` is durable."""
        if self._durable > position:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((position, waiter))
        await waiter

    async def close(self) -> None:
        """Returns once everything appended is durable and files are closed."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.close)
        self._writer.close()

    # The writing thread.

    def _write_groups(self) -> None:
        while True:
            with self._wake:
                if not self._appends and not self._closing and not self._roll_due:
                    self._wake.wait(_PROBE_SECONDS if self._failure else None)
                if not self._appends and self._closing:
                    break
                group = self._appends.take(GROUP_RECORDS)
            if self._roll_due:
                self._roll()
            if group:
                self._write_group(group)
            elif self._failure and not self._broken:
                self._probe()
        with self._rolled:
            self._has_ended = True
            self._rolled.notify_all()

    def _write_group(self, group: list[Append]) -> None:
        if self._broken:
            self._report(group, [], RecordRefused(self._failure or "the journal is broken"))
            return
        chain, position, ends = self._chain, self._head, []
        entries: list[Entry] = []
        for append in group:
            for entry in append.entries:
                position += 1
                chain = hashlib.sha256(chain + entry.record).digest()
                entries.append(_numbered(position, entry, chain))
            ends.append(position)
        try:
            self._commit(entries)
        except sqlite3.Error as error:
            self._refuse(group, error)
            return
        reach("journal.committed")
        self._on_written(position, chain)
        self._head, self._chain, self._failure = position, chain, None
        self._appends.ended()
        self._unchecked += sum(append.size for append in group)
        self._roll_if_full()  # first, so that who appends next knows whether it failed
        self._report(group, ends, None, entries)

    def _commit(self, entries: Sequence[Entry]) -> None:
        """Returns once entries are durable: in a new segment, if the present one is damaged."""
        try:
            self._insert(entries)
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self._leave_transaction()
            if not self._roll():
                raise
            self._insert(entries)

    def _insert(self, entries: Sequence[Entry]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for statement, values in inserts(entries):
            self._writer.execute(statement, values)
        reach("journal.mid-commit")
        self._writer.execute("COMMIT")

    def _leave_transaction(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _refuse(self, group: list[Append], error: sqlite3.Error) -> None:
        """Rolls the group back; after a failed sync acknowledges nothing more (guarantee D6)."""
        name = getattr(error, "sqlite_errorname", "")
        self._failure = f"the journal cannot be written: {error}"
        self._appends.ended()
        if name in ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC"):
            self._broken = True
        else:
            self._leave_transaction()
        self._report(group, [], RecordRefused(self._failure))
        if self._broken:
            self._loop.call_soon_threadsafe(self._on_broken, self._failure)

    def _probe(self) -> None:
        """Tries a write as large as a record, to accept calls again once there is space."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute("INSERT INTO probe (filler) VALUES (zeroblob(65536))")
            self._writer.execute("DELETE FROM probe")
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            self._leave_transaction()
            return
        self._failure = None

    def _report(
        self,
        group: list[Append],
        ends: list[int],
        error: Exception | None,
        entries: Sequence[Entry] = (),
    ) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, group, ends, error, entries)

    def _settle(
        self,
        group: list[Append],
        ends: list[int],
        error: Exception | None,
        entries: Sequence[Entry],
    ) -> None:
        self._cache(entries)
        head = self._durable
        for index, append in enumerate(group):
            if error is not None:
                append.fail(error)
            else:
                append.succeed(ends[index])
        waiters, self._waiters = self._waiters, []
        for position, waiter in waiters:
            if head <= position:
                self._waiters.append((position, waiter))
            elif not waiter.done():
                waiter.set_result(None)

    def _cache(self, entries: Sequence[Entry]) -> None:
        """Caches durable entries and evicts the oldest.

        Evicts a few at a time: freeing thousands takes milliseconds, in which calls wait.
        """
        if not entries:
            return
        self._durable = entries[-1].position
        for entry in entries:
            self._tail.append(entry)
            self._tail_bytes += len(entry.record)
        while len(self._tail) > TAIL_RECORDS or self._tail_bytes > TAIL_BYTES:
            oldest = self._tail[:_EVICTED]
            self._tail_bytes -= sum(len(entry.record) for entry in oldest)
            del self._tail[: len(oldest)]

    def _roll_if_full(self) -> None:
        if self._unchecked < min(_CHECK_BYTES, self._segment_bytes // 16):
            return
        self._unchecked = 0
        pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
        if pages * 4096 >= self._segment_bytes:
            self._roll()

    def _roll(self) -> bool:
        """Starts a new segment unless the newest is empty; returns whether it succeeded."""
        try:
            if self._segments[-1].first == self._head + 1:
                return True
            writer = self._create(self._head + 1, self._chain)
            old, self._writer = self._writer, writer
            # A waiting repair may move the old segment's files, so SQLite must close them first.
            with contextlib.suppress(sqlite3.Error):
                old.close()
            return True
        except (sqlite3.Error, OSError) as error:
            self._failure = f"the journal cannot start a new segment: {error}"
            return False
        finally:
            with self._rolled:
                self._roll_due = False
                self._rolled.notify_all()

    # Segments.

    def _find_segments(self) -> list[Segment]:
        files = sorted(self._folder.glob("*.db"))
        return [Segment(int(file.stem), file, _lost_of(file)) for file in files]

    def _missing_before(self, known: KnownPositions | None) -> tuple[LostPositions, ...]:
        """Returns the positions before the oldest segment that event history lacks too."""
        if known is None or not self._segments or self._segments[0].first <= known.sealed + 1:
            return ()
        last = self._segments[0].first - 1
        return (LostPositions(known.sealed + 1, last, "segments of the journal are missing"),)

    def _open_last(self, known: KnownPositions | None) -> tuple[sqlite3.Connection, int, bytes]:
        """Opens the newest segment with entries; SQLite rolls back an unfinished transaction.

        The creation of a segment without entries was interrupted; it is created again when needed.
        """
        written = known.written if known else 0
        try:
            while self._segments:
                segment = self._segments[-1]
                opened = self._opened(segment, written)
                if opened is not None:
                    return self._with_missing(*opened, written)
                _remove(segment.path)
                self._segments.pop()
            if known is None:
                return self._create(1, _GENESIS), 0, _GENESIS
            return self._begin_again(known)
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(f"journal in {self._folder} cannot be opened: {error}") from error

    def _opened(
        self, segment: Segment, written: int
    ) -> tuple[sqlite3.Connection, int, bytes] | None:
        """Opens a segment and repairs it if necessary; returns None if it is empty."""
        path = segment.path
        is_empty = path.stat().st_size == 0 and written >= segment.first
        if is_empty or has_hidden_commits(path):
            return self._repaired(segment, written, "the newest segment of the journal is damaged")
        writer: sqlite3.Connection | None = None
        try:
            writer = _connect(path)
            last = newest(writer)
        except sqlite3.Error as error:
            if writer is not None:
                writer.close()
            if not is_damage(error):
                raise
            return self._repaired(segment, written, f"the newest segment of the journal: {error}")
        if last is None and len(self._segments) == 1 and segment.first > written:
            # Nothing was written yet, and nothing is missing.
            last = _begin_of(writer)
        if last is None:
            writer.close()
            return None
        writer.executescript(SCHEMA)
        return writer, *last

    def _repaired(
        self, segment: Segment, written: int, reason: str
    ) -> tuple[sqlite3.Connection, int, bytes]:
        """Repairs and opens the newest segment, whose last position is unknown."""
        lost = repair(segment.path, None, chain_before_of(segment.path), reason, written)
        segment.lost = tuple(lost)
        self._report_lost(segment.path, lost)
        writer = _connect(segment.path)
        return writer, *(newest(writer) or (segment.first - 1, UNKNOWN))

    def _with_missing(
        self, writer: sqlite3.Connection, head: int, chain: bytes, written: int
    ) -> tuple[sqlite3.Connection, int, bytes]:
        """Marks positions after the newest segment as lost if others know that they were written.

        They are never assigned to other records.
        """
        if head >= written:
            return writer, head, chain
        missing = LostPositions(head + 1, written, "segments of the journal are missing")
        self._note_lost(writer, self._segments[-1], missing)
        return writer, written, UNKNOWN

    def _begin_again(self, known: KnownPositions) -> tuple[sqlite3.Connection, int, bytes]:
        """Starts a journal whose files are all lost, after the last position that is known."""
        writer = self._create(known.sealed + 1, UNKNOWN)
        segment, reason = self._segments[-1], "all segments of the journal are missing"
        head = max(known.sealed, known.written)
        if known.written > known.sealed:
            self._note_lost(writer, segment, LostPositions(known.sealed + 1, head, reason))
        self._note_lost(writer, segment, LostPositions(head + 1, None, reason))
        return writer, head, UNKNOWN

    def _note_lost(self, writer: sqlite3.Connection, segment: Segment, lost: LostPositions) -> None:
        writer.execute("INSERT INTO lost VALUES (?, ?, ?)", (lost.first, lost.last, lost.reason))
        segment.lost = (*segment.lost, lost)
        self._report_lost(segment.path, [lost])

    # Verification and repair, in threads of readers.

    def _verify(self, segment: Segment) -> None:
        """Reads a segment from its first entry to its last.

        Raises:
            JournalDamaged: the content is not what was written.
        """
        after = segment.first - 1
        while True:
            # Read each time: segments are added, and this one may be deleted, meanwhile.
            segments = [s for s in self._segments if s.first >= segment.first]
            if not segments or segments[0] is not segment:
                return
            _, end = next(iter(ends_of(segments, self._durable)))
            if after >= end:
                return
            entries = self._readers.read([segment], after, end, _VERIFIED)
            after = entries[-1].position if len(entries) == _VERIFIED else end

    def _repair(self, damage: JournalDamaged) -> None:
        """Repairs the segment of a damaged position; the newest one is no longer written then.

        Raises:
            StorageFailed: the segment cannot be repaired.
        """
        with self._changing:
            segment = next(
                (s for s in reversed(self._segments) if s.first <= damage.position), None
            )
            if segment is None:
                return
            try:
                self._verify(segment)
            except JournalDamaged:
                pass
            else:
                return  # another thread has repaired it
            if segment is self._segments[-1]:
                self._roll_and_wait(segment)
            last = self._segments[self._segments.index(segment) + 1].first - 1
            before = chain_before_of(segment.path)
            try:
                with self._readers.without(segment.path):
                    lost = repair(segment.path, last, before, str(damage))
            except (OSError, sqlite3.Error) as error:
                raise StorageFailed(
                    f"journal segment {segment.path} is damaged and cannot be repaired: {error}"
                ) from error
            fresh = [one for one in lost if one not in segment.lost]
            segment.lost = tuple(lost)
            self._report_lost(segment.path, fresh)

    def _roll_and_wait(self, segment: Segment) -> None:
        with self._wake:
            self._roll_due = True
            self._wake.notify()
        with self._rolled:
            self._rolled.wait_for(lambda: not self._roll_due or self._has_ended, _ROLL_SECONDS)
        if segment is self._segments[-1]:
            reason = self._failure or "no other segment could be started"
            raise StorageFailed(f"journal segment {segment.path} is damaged: {reason}")

    def _report_lost(self, path: Path, lost: Sequence[LostPositions]) -> None:
        damaged = {"segment": path.name, "lost": [(one.first, one.last) for one in lost]}
        log.error("journal segment was damaged", extra=damaged)
        for one in lost:
            self._loop.call_soon_threadsafe(self._on_lost, one)

    def _create(self, first: int, chain: bytes) -> sqlite3.Connection:
        path = self._folder / f"{first:020d}.db"
        try:
            writer = _connect(path)
            writer.executescript(SCHEMA)
            writer.execute("INSERT INTO segment VALUES (?, ?)", (first, chain))
            sync_folder(self._folder)
        except (sqlite3.Error, OSError):
            _remove(path)
            raise
        with self._listing:
            self._segments = [*self._segments, Segment(first, path)]
        return writer

    def _trim(self, until: int, keep: int) -> int:
        with self._changing:
            segments = self._segments
            ends = [segment.first - 1 for segment in segments[1:]]
            count = sum(end <= until for end in ends[: len(segments) - keep])
            for segment in segments[:count]:
                # Oldest first, each durably, so that the remaining segments have no gap.
                with self._listing:
                    self._segments = self._segments[1:]
                with self._readers.without(segment.path):
                    _remove(segment.path)
                sync_folder(self._folder)
            return count


def _connect(path: Path) -> sqlite3.Connection:
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA synchronous = FULL")
    writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return writer


def _begin_of(writer: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Returns position and chain before the first entry; None if the segment is incomplete."""
    with contextlib.suppress(sqlite3.OperationalError):
        found = writer.execute("SELECT first, chain_before FROM segment").fetchone()
        return (found[0] - 1, bytes(found[1])) if found else None
    return None


def _lost_of(path: Path) -> tuple[LostPositions, ...]:
    """Returns the lost positions that a segment lists; () if it cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            return tuple(lost_in(reader))
    except sqlite3.Error:
        return ()


def _remove(path: Path) -> None:
    """Removes a segment with its write-ahead log and shared memory file."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if not file.is_dir():
            file.unlink(missing_ok=True)


def _numbered(position: int, entry: NewEntry, chain: bytes) -> Entry:
    return Entry(
        position,
        entry.origin,
        entry.recorded_at,
        entry.account,
        entry.region,
        entry.category,
        entry.event_id,
        chain,
        entry.record,
    )
