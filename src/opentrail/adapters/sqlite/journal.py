"""Journal on SQLite: one database file per segment, group commit, a hash chain over the rows.

A thread owns the writing connection. The appends that arrive while a group is being committed form
the next group, so that they share the cost of a sync.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from opentrail.adapters.append_queue import Append, Appends, append_of, refuse
from opentrail.adapters.sqlite.checks import JournalChecks
from opentrail.adapters.sqlite.opening import open_newest
from opentrail.adapters.sqlite.segment_files import SegmentFiles
from opentrail.adapters.sqlite.segment_writer import SegmentWriter, is_failed_sync
from opentrail.adapters.sqlite.segments import Segment
from opentrail.core.errors import RecordRefused, StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.core.faults import crash_point
from opentrail.ports.journal import JournalEngine, KnownPositions, LostPositions

log = logging.getLogger(__name__)

SEGMENT_BYTES = 256 * 1024 * 1024
#: Maximum records per group, so that the first of them does not wait for long.
MAX_GROUP_RECORDS = 2_000
#: Maximum number of the newest entries, which are cached for followers.
MAX_NEWEST_ENTRIES = 12_000
#: Maximum bytes of their records.
MAX_NEWEST_BYTES = 16 * 1024 * 1024
#: Entries that are evicted from the cache at a time: freeing thousands takes milliseconds, in which
#: calls wait.
_EVICTED_ENTRIES = 64
#: Seconds until a failed write is tried again.
_PROBE_SECONDS = 0.25
#: Maximum seconds that a repair waits for the writing thread to start a new segment.
_ROLL_SECONDS = 30.0


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
        self._on_broken = on_broken
        self._on_written = on_written
        self._loop = loop = asyncio.get_running_loop()

        # Written under `_wake`; the writing thread is notified of each change.
        self._wake = threading.Condition()
        self._appends = Appends()
        self._is_closing = False
        #: A damaged segment that must not be written any more, and what is set after the attempt.
        self._leaving: tuple[Segment, threading.Event] | None = None

        # Has locks of its own.
        self._files = SegmentFiles(folder, lambda lost: loop.call_soon_threadsafe(on_lost, lost))
        connection, head, chain = open_newest(self._files, known)

        # Written by the loop: what followers and readers see.
        self._head = head
        self._newest: list[Entry] = []
        self._newest_bytes = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

        self._checks = JournalChecks(self._files, lambda: self._head, self._leave)

        # Written by the writing thread, from when it starts; `_writer` is read by no other either.
        self._failure: str | None = None
        self._writer = SegmentWriter(self._files, connection, head, chain, segment_bytes)
        self._thread = threading.Thread(target=self._write_groups, name="journal", daemon=True)
        self._thread.start()

    # Its state.

    @property
    def engine(self) -> JournalEngine:
        """What holds the journal."""
        return JournalEngine("sqlite")

    @property
    def head(self) -> int:
        """The position of the last durable record."""
        return self._head

    @property
    def first(self) -> int:
        """The position of the first record that is still here."""
        return self._files.segments[0].first

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now."""
        return self._failure

    @property
    def lost(self) -> list[LostPositions]:
        """The positions that are lost, in order."""
        return self._files.lost

    @property
    def is_checked(self) -> bool:
        """Whether every segment was verified since the start."""
        return self._checks.is_checked

    @property
    def unverified(self) -> str | None:
        """Why a segment could not be verified; None if that is not known."""
        return self._checks.unverified

    @property
    def backlog_seconds(self) -> float:
        """Seconds that the oldest record has waited."""
        oldest = self._appends.oldest
        return 0.0 if oldest is None else self._loop.time() - oldest

    # The way of a group, from callers to followers.

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        if self._failure or self._is_closing:
            raise RecordRefused(self._failure or "the journal is closing")
        append = append_of(entries, self._loop)
        with self._wake:
            self._appends.add(append)
            self._wake.notify()
        return await append.done

    #: What is durable has its position already.
    write = append

    def _write_groups(self) -> None:
        """Writes what is appended until the journal is closed: the writing thread."""
        is_broken = False
        while True:
            with self._wake:
                if not (self._appends or self._is_closing or self._leaving):
                    self._wake.wait(_PROBE_SECONDS if self._failure else None)
                is_over = self._is_closing and not self._appends
                leaving, self._leaving = self._leaving, None
                group = self._appends.take(MAX_GROUP_RECORDS)
            if leaving is not None:
                segment, is_left = leaving
                if segment is self._files.segments[-1] and not (is_over or is_broken):
                    is_broken = not self._start_segment(self._writer.roll)
                is_left.set()
            if is_over:
                break
            if group and is_broken:
                self._refuse(group, self._failure or "the journal is broken")
            elif group:
                try:
                    is_broken = not self._write_group(group)
                except Exception as error:  # a bug must not leave callers without an answer
                    log.exception("a group of records failed unexpectedly")
                    is_broken = True
                    self._fail(group, f"the journal failed: {error!r}", is_broken)
            elif self._failure and not is_broken:
                is_broken = not self._probe()

    def _write_group(self, group: list[Append]) -> bool:  # noqa: C901 - the whole way in one place
        """Makes a group durable and acknowledges it; returns False if a sync has failed."""
        # Each entry gets its position, and the hash of the chain before it and its record.
        position, chain = self._writer.head, self._writer.chain
        entries: list[Entry] = []
        ends: list[int] = []
        for append in group:
            for new_entry in append.entries:
                position += 1
                chain = hashlib.sha256(chain + new_entry.record).digest()
                entries.append(
                    Entry(
                        position,
                        new_entry.origin,
                        new_entry.recorded_at,
                        new_entry.account,
                        new_entry.region,
                        new_entry.category,
                        new_entry.event_id,
                        chain,
                        new_entry.record,
                    )
                )
            ends.append(position)

        # One transaction, and one sync, for all of them: they are durable, or none is written.
        # After a failed sync that is unknown, and nothing more is acknowledged (guarantee D6).
        try:
            self._writer.commit(entries)
        except (sqlite3.Error, OSError) as error:
            is_broken = is_failed_sync(error)
            if not is_broken:
                self._writer.roll_back()
            self._fail(group, f"the journal cannot be written: {error}", is_broken)
            return not is_broken
        crash_point("journal.committed")

        # Position and chain are also written outside the journal, where they are not lost with it.
        self._on_written(position, chain)
        self._appends.end_group()

        # A full segment gets a successor now, so that the next append knows whether that failed.
        self._failure = None
        is_sound = self._start_segment(self._writer.roll_if_full)

        # The loop lets the entries be read, resolves their appends, and wakes followers.
        def publish() -> None:
            self._head = position
            self._newest.extend(entries)
            for append, end in zip(group, ends, strict=True):
                self._newest_bytes += append.size
                append.succeed(end)
            while len(self._newest) > MAX_NEWEST_ENTRIES or self._newest_bytes > MAX_NEWEST_BYTES:
                evicted = self._newest[:_EVICTED_ENTRIES]
                self._newest_bytes -= sum(len(entry.record) for entry in evicted)
                del self._newest[: len(evicted)]
            waiters, self._waiters = self._waiters, []
            for after, waiter in waiters:
                if after >= position:
                    self._waiters.append((after, waiter))
                elif not waiter.done():
                    waiter.set_result(None)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(publish)
        return is_sound

    def _start_segment(self, roll: Callable[[], None]) -> bool:
        """Starts a new segment by `roll`; returns False if a sync has failed."""
        try:
            roll()
        except (sqlite3.Error, OSError) as error:
            return self._note(f"the journal cannot start a new segment: {error}", error)
        return True

    def _probe(self) -> bool:
        """Finds out whether records can be written again; returns False if a sync has failed."""
        try:
            self._writer.probe()
        except sqlite3.Error as error:
            return self._note(f"the journal cannot be written: {error}", error)
        self._failure = None
        return True

    def _note(self, reason: str, error: Exception) -> bool:
        """Notes why no records are accepted; returns False if a sync has failed."""
        self._failure = reason
        if is_failed_sync(error):
            self._loop.call_soon_threadsafe(self._on_broken, reason)
            return False
        return True

    def _fail(self, group: list[Append], reason: str, is_broken: bool) -> None:
        """Refuses a group and says why no records are accepted; ends the server if broken."""
        self._failure = reason
        self._appends.end_group()
        if is_broken:
            self._loop.call_soon_threadsafe(self._on_broken, reason)
        self._refuse(group, reason)

    def _refuse(self, group: list[Append], reason: str) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(refuse, group, reason)

    async def newest(self) -> int:
        """Returns the position of the last durable record."""
        return self.head

    async def wait_beyond(self, position: int) -> None:
        """Returns once a record after `position` is durable."""
        if self._head > position:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((position, waiter))
        await waiter

    async def read(self, after: int, limit: int, until: int | None = None) -> list[Entry]:
        """Returns up to `limit` durable entries after `after`, in order."""
        last = self._head if until is None else min(until, self._head)
        if after >= last:
            return []
        if self._newest and after + 1 >= (first := self._newest[0].position):
            return self._newest[after + 1 - first : min(last, after + limit) + 1 - first]
        return await self._checks.read_with_repair(lambda: self._files.read(after, last, limit))

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first."""
        files = self._files
        return await self._checks.read_with_repair(
            lambda: files.readers.find(files.segments, event_id)
        )

    async def close(self) -> None:
        """Returns once everything appended is durable and files are closed."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._files.readers.close)
        self._writer.close()

    # Checks and repairs of its segments.

    async def keep_checking(self) -> None:
        """Repeats `check` until every segment has been verified."""
        await self._checks.keep_checking()

    async def check(self) -> None:
        """Verifies every segment, newest first, and repairs those that are damaged.

        Raises:
            StorageFailed: a segment could not be verified or repaired; all others were.
        """
        await self._checks.check()

    async def repair(self, first: int, last: int) -> None:
        """Verifies the segments that hold positions `first`…`last`, and repairs damaged ones."""
        await self._checks.repair(first, last)

    async def trim(self, until: int, keep: int = 1) -> int:
        """Deletes the oldest segments that event history has, too; returns their number.

        Args:
            until: the last position that is also in event history.
            keep: number of newest segments that are never deleted.
        """
        return await asyncio.to_thread(self._files.trim, until, max(1, keep))

    def _leave(self, segment: Segment) -> None:
        """Makes the writing thread start a new segment; waits for it in the thread of a repair.

        Raises:
            StorageFailed: `segment` is the newest still.
        """
        is_left = threading.Event()
        with self._wake:
            if self._is_closing and not self._appends:
                is_left.set()  # nothing more is written
            else:
                self._leaving = (segment, is_left)
                self._wake.notify()
        is_left.wait(_ROLL_SECONDS)
        if segment is self._files.segments[-1]:
            reason = self._failure or "no other segment could be started"
            raise StorageFailed(f"journal segment {segment.path} is damaged: {reason}")
