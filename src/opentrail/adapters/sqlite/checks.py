"""Verifies a journal's segments at its start and during writing, and repairs damaged ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from opentrail.adapters.sqlite.repair import chain_before_of, repair
from opentrail.adapters.sqlite.salvage import has_hidden_commits
from opentrail.adapters.sqlite.segment_files import SegmentFiles, connect
from opentrail.adapters.sqlite.segments import Segment, ends_of, newest
from opentrail.adapters.sqlite.verify import SCHEMA, is_damage
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.ports.journal import UNKNOWN_CHAIN, KnownPositions, LostPositions

T = TypeVar("T")
log = logging.getLogger(__name__)


_GENESIS = b"\0" * 32
#: A connection that writes the newest segment, the last position, and the chain there.
OpenSegment = tuple[sqlite3.Connection, int, bytes]


def open_newest(files: SegmentFiles, known: KnownPositions | None) -> OpenSegment:
    """Opens the newest segment with entries; creates one if no segment has any.

    Args:
        files: the segments.
        known: positions known to others; None if the journal was never written to.

    Raises:
        StorageFailed: the journal cannot be opened.
    """
    sealed, written = (known.sealed, known.written) if known else (0, 0)
    try:
        # Positions before the oldest segment that are also missing from event history are lost.
        if known and files.segments and files.segments[0].first > sealed + 1:
            last = files.segments[0].first - 1
            reason = "segments of the journal are missing"
            files.lost_before = (LostPositions(sealed + 1, last, reason),)
        while files.segments:
            segment = files.segments[-1]
            opened = _open(files, segment, written)
            if opened is not None:
                # Positions after the newest segment that are known to others are lost; they are
                # never assigned to other records.
                connection, head, _ = opened
                if head >= written:
                    return opened
                reason = "segments of the journal are missing"
                _record_lost(files, connection, LostPositions(head + 1, written, reason))
                return connection, written, UNKNOWN_CHAIN
            # The creation of an empty segment was interrupted; it is created again when needed.
            files.remove_newest()
        if known is None:
            return files.create(1, _GENESIS), 0, _GENESIS
        # All files are lost: the journal starts after the last known position.
        connection = files.create(sealed + 1, UNKNOWN_CHAIN)
        head, reason = max(sealed, written), "all segments of the journal are missing"
        if written > sealed:
            _record_lost(files, connection, LostPositions(sealed + 1, head, reason))
        _record_lost(files, connection, LostPositions(head + 1, None, reason))
        return connection, head, UNKNOWN_CHAIN
    except (sqlite3.Error, OSError) as error:
        raise StorageFailed(f"journal in {files.folder} cannot be opened: {error}") from error


def _open(files: SegmentFiles, segment: Segment, written: int) -> OpenSegment | None:
    """Opens a segment and repairs it if necessary; returns None if it is empty.

    SQLite rolls back an unfinished transaction.
    """
    path = segment.path
    is_empty = path.stat().st_size == 0 and written >= segment.first
    if is_empty or has_hidden_commits(path):
        return _repair(files, segment, written, "the newest segment of the journal is damaged")
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path)
        last = newest(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if not is_damage(error):
            raise
        return _repair(files, segment, written, f"the newest segment of the journal: {error}")
    if last is None and len(files.segments) == 1 and segment.first > written:
        # Nothing was written yet, and nothing is missing.
        with contextlib.suppress(sqlite3.OperationalError):
            row = connection.execute("SELECT first, chain_before FROM segment").fetchone()
            last = (row[0] - 1, bytes(row[1])) if row else None
    if last is None:
        connection.close()
        return None
    connection.executescript(SCHEMA)
    return connection, *last


def _repair(files: SegmentFiles, segment: Segment, written: int, reason: str) -> OpenSegment:
    """Repairs and opens the newest segment, whose last position is unknown."""
    lost = repair(segment.path, None, chain_before_of(segment.path), reason, written)
    segment.lost = tuple(lost)
    files.report_lost(segment, lost)
    connection = connect(segment.path)
    return connection, *(newest(connection) or (segment.first - 1, UNKNOWN_CHAIN))


def _record_lost(files: SegmentFiles, connection: sqlite3.Connection, lost: LostPositions) -> None:
    """Stores lost positions in the newest segment, and reports them."""
    connection.execute("INSERT INTO lost VALUES (?, ?, ?)", (lost.first, lost.last, lost.reason))
    segment = files.segments[-1]
    segment.lost = (*segment.lost, lost)
    files.report_lost(segment, [lost])


# While the journal is written

#: Seconds between attempts to verify segments after a failure.
_PAUSE_SECONDS = 60.0
#: Maximum entries to verify at a time.
_MAX_ENTRIES = 2_000


@dataclass(slots=True)
class JournalChecks:
    """Verifies and repairs in threads of readers; `SegmentFiles.changing` is held for a repair."""

    files: SegmentFiles
    #: Returns the last durable position.
    head: Callable[[], int]
    #: Starts a newer segment than this one, or raises `StorageFailed`.
    leave: Callable[[Segment], None]
    #: Whether every segment was verified since the start. Written by the loop, like the next field.
    is_checked: bool = False
    #: Why a segment could not be verified; None if all were, or before the first attempt.
    unverified: str | None = None

    async def keep_checking(self) -> None:
        """Repeats `check` until every segment has been verified."""
        while not self.is_checked:
            try:
                await self.check()
                self.unverified = None
            except StorageFailed as error:
                self.unverified = str(error)
                log.warning("the journal could not be verified", extra={"error": str(error)})
                await asyncio.sleep(_PAUSE_SECONDS)

    async def check(self) -> None:
        """Verifies every segment, newest first, and repairs damaged ones.

        Raises:
            StorageFailed: a segment could not be verified or repaired; all others were.
        """
        failure: StorageFailed | None = None
        for segment in reversed(self.files.segments):
            try:
                await self.read_with_repair(partial(self._verify, segment))
            except StorageFailed as error:
                failure = error
        if failure is not None:
            raise failure
        self.is_checked = True

    async def repair(self, first: int, last: int) -> None:
        """Verifies the segments that hold positions `first`…`last`, and repairs damaged ones."""
        for segment, end in ends_of(self.files.segments, self.head()):
            if segment.first <= last and end >= first:
                await self.read_with_repair(partial(self._verify, segment))

    async def read_with_repair(self, work: Callable[[], T]) -> T:
        """Runs a read in a thread; repairs any damage it finds and runs it again."""
        repaired: set[int] = set()
        while True:
            try:
                return await asyncio.to_thread(work)
            except JournalDamaged as error:
                if error.position in repaired:
                    raise
                repaired.add(error.position)
                await asyncio.to_thread(self._repair, error)

    def _verify(self, segment: Segment) -> None:
        """Reads a segment from its first entry to its last.

        Raises:
            JournalDamaged: the content is damaged.
        """
        after = segment.first - 1
        while True:
            # Listed again each time: segments are added, and this one may be deleted concurrently.
            segments = [s for s in self.files.segments if s.first >= segment.first]
            if not segments or segments[0] is not segment:
                return
            _, end = next(iter(ends_of(segments, self.head())))
            if after >= end:
                return
            entries = self.files.readers.read([segment], after, end, _MAX_ENTRIES)
            after = entries[-1].position if entries else end

    def _repair(self, damage: JournalDamaged) -> None:
        """Repairs the segment of a damaged position; stops writing to it first if it is the newest.

        Raises:
            StorageFailed: the segment cannot be repaired.
        """
        with self.files.changing:
            segments = reversed(self.files.segments)
            segment = next((s for s in segments if s.first <= damage.position), None)
            if segment is None:
                return
            try:
                self._verify(segment)
            except JournalDamaged:
                pass
            else:
                return  # another thread has repaired it
            if segment is self.files.segments[-1]:
                self.leave(segment)
            last = self.files.segments[self.files.segments.index(segment) + 1].first - 1
            before = chain_before_of(segment.path)
            try:
                with self.files.readers.without(segment.path):
                    lost = repair(segment.path, last, before, str(damage))
            except (OSError, sqlite3.Error) as error:
                raise StorageFailed(
                    f"journal segment {segment.path} is damaged and cannot be repaired: {error}"
                ) from error
            fresh = [run for run in lost if run not in segment.lost]
            segment.lost = tuple(lost)
            self.files.report_lost(segment, fresh)
