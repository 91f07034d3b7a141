"""Journal on SQLite: one database file per segment, group commit, a hash chain over the rows.

A thread owns the writing connection. Appends that arrive during a commit form the next batch and
share the cost of a sync.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from opentrail.adapters.batches import Append, Batches, Followers, append_of, refuse
from opentrail.adapters.sqlite.checks import JournalChecks, open_newest
from opentrail.adapters.sqlite.segment_files import SegmentFiles, SegmentWriter, is_failed_sync
from opentrail.adapters.sqlite.segments import Segment
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry, NewEntry
from opentrail.core.faults import crash_point
from opentrail.ports.journal import JournalEngine, KnownPositions, LostPositions

log = logging.getLogger(__name__)

SEGMENT_BYTES = 256 * 1024 * 1024
#: Maximum records per batch, so that the first of them does not wait long.
MAX_BATCH_RECORDS = 2_000
#: Maximum newest entries cached for followers.
MAX_NEWEST_ENTRIES = 12_000
#: Maximum bytes of their records.
MAX_NEWEST_BYTES = 16 * 1024 * 1024
#: Entries to evict from the cache at a time: freeing thousands takes milliseconds, in which calls
#: wait.
_EVICTED_ENTRIES = 64
#: Seconds before a failed write is retried.
_PROBE_SECONDS = 0.25
#: Maximum seconds that a repair waits for the writing thread to start a new segment.
_ROLL_SECONDS = 30.0


class SqliteJournal:
    """A `Journal` in a folder.

    Args:
        folder: its segments.
        on_broken: called once if a sync fails: nothing may be acknowledged after that.
        segment_bytes: size at which a new segment is started.
        known: positions known to others; None if the journal was never written to.
        on_lost: called in the loop when positions are found lost.
        on_written: called by the writing thread with position and chain of the last durable record,
            before that is acknowledged.
        reserved_bytes: bytes of the disk that are left to other files.
    """

    def __init__(
        self,
        folder: Path,
        on_broken: Callable[[str], None] = lambda reason: None,
        segment_bytes: int = SEGMENT_BYTES,
        known: KnownPositions | None = None,
        on_lost: Callable[[LostPositions], None] = lambda lost: None,
        on_written: Callable[[int, bytes], None] = lambda position, chain: None,
        reserved_bytes: int = 0,
    ) -> None:
        self._on_broken = on_broken
        self._on_written = on_written
        self._loop = loop = asyncio.get_running_loop()

        # Written under `_wake`; the writing thread is notified of each change.
        self._wake = threading.Condition()
        self._batches = Batches()
        #: A damaged segment that must no longer be written, and an event set after the repair.
        self._leaving: tuple[Segment, threading.Event] | None = None

        # It does its own locking.
        self._files = SegmentFiles(folder, lambda lost: loop.call_soon_threadsafe(on_lost, lost))
        connection, head, chain = open_newest(self._files, known)

        # Written by the loop: the head that followers and readers see.
        self._head = head
        self._newest: list[Entry] = []
        self._newest_bytes = 0
        self._followers = Followers()

        self._checks = JournalChecks(self._files, lambda: self._head, self._leave)

        # Used by the writing thread alone, from when it starts.
        self._writer = SegmentWriter(
            self._files, connection, head, chain, segment_bytes, reserved_bytes
        )
        self._thread = threading.Thread(target=self._write_batches, name="journal", daemon=True)
        self._thread.start()

    # Its state.

    @property
    def engine(self) -> JournalEngine:
        """The medium of the journal."""
        return JournalEngine("sqlite")

    @property
    def head(self) -> int:
        """The position of the last durable record."""
        return self._head

    @property
    def first(self) -> int:
        """The position of the first stored record."""
        return self._files.segments[0].first

    @property
    def failure(self) -> str | None:
        """Why the journal accepts no records now."""
        return self._batches.failure

    @property
    def lost(self) -> list[LostPositions]:
        """The lost positions, in order."""
        return self._files.lost

    @property
    def is_checked(self) -> bool:
        """Whether every segment was verified since the start."""
        return self._checks.is_checked

    @property
    def unverified(self) -> str | None:
        """Why a segment could not be verified; None if unknown."""
        return self._checks.unverified

    @property
    def backlog_seconds(self) -> float:
        """Age in seconds of the oldest waiting record."""
        return self._batches.seconds_waited(self._loop.time())

    # The road of a batch, from callers to followers.

    async def append(self, entries: Sequence[NewEntry]) -> int:
        """Returns only once the records are durable; the result is the last one's position."""
        append = append_of(entries, self._loop)
        with self._wake:
            self._batches.add(append)
            self._wake.notify()
        return await append.done

    #: Durable entries already have their position.
    write = append

    def _write_batches(self) -> None:
        """Writes appends until the journal is closed: the writing thread."""
        is_over = False
        while not is_over:
            with self._wake:
                if self._batches.is_idle and self._leaving is None:
                    self._wake.wait(_PROBE_SECONDS if self._batches.needs_probe else None)
                leaving, self._leaving = self._leaving, None
                batch = [] if leaving else self._batches.take(MAX_BATCH_RECORDS)
                is_over = self._batches.is_over and not batch
            try:
                if leaving is not None:
                    segment, is_left = leaving
                    is_stuck = is_over or self._batches.is_broken
                    if segment is self._files.segments[-1] and not is_stuck:
                        self._start_segment(self._writer.roll)
                    is_left.set()
                elif batch:
                    self._write_batch(batch)
                elif self._batches.needs_probe and not is_over:
                    self._probe()
            except Exception as error:  # a bug must not leave callers without an answer
                log.exception("a batch of records failed unexpectedly")
                self._fail(f"the journal failed: {error!r}", for_good=True)

    def _write_batch(self, batch: list[Append]) -> None:
        """Makes a batch durable and acknowledges it."""
        # Each entry gets its position, and the hash of the previous chain and its record.
        position, chain = self._writer.head, self._writer.chain
        entries: list[Entry] = []
        ends: list[int] = []
        for append in batch:
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

        # One transaction and one sync make either all records durable or write nothing. After a
        # failed sync the outcome is unknown, and nothing more is acknowledged (guarantee D6).
        try:
            self._writer.commit(entries)
        except (sqlite3.Error, OSError) as error:
            if not is_failed_sync(error):
                self._writer.roll_back()
            self._fail(f"the journal cannot be written: {error}", is_failed_sync(error))
            return
        crash_point("journal.committed")

        # Position and chain are also written outside the journal, to survive its loss.
        self._on_written(position, chain)
        self._batches.end()

        # A full segment gets a successor now, so that the next append knows whether that failed.
        try:
            self._start_segment(self._writer.roll_if_full)
        finally:
            self._in_loop(partial(self._publish, batch, entries, ends))

    def _publish(self, batch: list[Append], entries: list[Entry], ends: list[int]) -> None:
        """Lets entries be read, completes their appends and wakes followers: in the loop."""
        self._head = ends[-1]
        self._newest.extend(entries)
        for append, end in zip(batch, ends, strict=True):
            self._newest_bytes += append.size
            append.succeed(end)
        while len(self._newest) > MAX_NEWEST_ENTRIES or self._newest_bytes > MAX_NEWEST_BYTES:
            evicted = self._newest[:_EVICTED_ENTRIES]
            self._newest_bytes -= sum(len(entry.record) for entry in evicted)
            del self._newest[: len(evicted)]
        self._followers.wake(self._head)

    def _start_segment(self, roll: Callable[[], None]) -> None:
        """Starts a new segment by `roll`."""
        try:
            roll()
        except (sqlite3.Error, OSError) as error:
            self._fail(f"the journal cannot start a new segment: {error}", is_failed_sync(error))

    def _probe(self) -> None:
        """Tests whether records can be written again."""
        try:
            self._writer.probe()
        except sqlite3.Error as error:
            self._fail(f"the journal cannot be written: {error}", is_failed_sync(error))
        else:
            with self._wake:
                self._batches.recover()

    def _fail(self, reason: str, for_good: bool) -> None:
        """Refuses waiting appends with the reason; ends the server if the journal is broken."""
        with self._wake:
            refused = self._batches.fail(reason, for_good)
        if for_good:
            self._in_loop(partial(self._on_broken, reason))
        self._in_loop(partial(refuse, refused, reason))

    def _in_loop(self, callback: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    async def newest(self) -> int:
        """Returns the position of the last durable record."""
        return self.head

    async def wait_beyond(self, position: int) -> None:
        """Returns once a record after `position` is durable."""
        if self._head <= position:
            await self._followers.wait_beyond(position)

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
            self._batches.close()
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._files.readers.close)
        self._writer.close()

    # Checks and repairs of its segments.

    async def keep_checking(self) -> None:
        """Repeats `check` until every segment has been verified."""
        await self._checks.keep_checking()

    async def check(self) -> None:
        """Verifies every segment, newest first, and repairs damaged ones.

        Raises:
            StorageFailed: a segment could not be verified or repaired; all others were.
        """
        await self._checks.check()

    async def repair(self, first: int, last: int) -> None:
        """Verifies the segments that hold positions `first`…`last`, and repairs damaged ones."""
        await self._checks.repair(first, last)

    async def trim(self, until: int, keep: int = 1) -> int:
        """Deletes the oldest segments that are also in event history; returns their number.

        Args:
            until: the last position in event history.
            keep: number of newest segments that are never deleted.
        """
        return await asyncio.to_thread(self._files.trim, until, max(1, keep))

    def trimmable_bytes(self, until: int, keep: int = 1) -> int:
        """Returns the bytes that the same `trim` would free."""
        return self._files.trimmable_bytes(until, max(1, keep))

    def _leave(self, segment: Segment) -> None:
        """Makes the writing thread start a new segment; waits for it in the repair thread.

        Raises:
            StorageFailed: `segment` is still the newest.
        """
        is_left = threading.Event()
        with self._wake:
            if self._batches.is_over:
                is_left.set()  # nothing more is written
            else:
                self._leaving = (segment, is_left)
                self._wake.notify()
        is_left.wait(_ROLL_SECONDS)
        if segment is self._files.segments[-1]:
            reason = self._batches.failure or "no other segment could be started"
            raise StorageFailed(f"journal segment {segment.path} is damaged: {reason}")
