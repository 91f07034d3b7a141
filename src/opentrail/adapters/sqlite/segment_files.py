"""The files of a journal: its segments, its lost positions, and the segment being written."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentrail.adapters.data_directory.files import sync_folder
from opentrail.adapters.data_directory.system import sync_at_commit
from opentrail.adapters.sqlite.repair import finish_repairs
from opentrail.adapters.sqlite.segments import Readers, Segment
from opentrail.adapters.sqlite.verify import SCHEMA, inserts, is_corrupt, lost_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry
from opentrail.core.faults import crash_point
from opentrail.ports.journal import LostPositions, first_not_lost

log = logging.getLogger(__name__)

#: A record is in the write-ahead log before it is in its segment.
_WRITTEN_TWICE: Final = 2

#: Pages of the write-ahead log per checkpoint, during which the next group waits. SQLite's default
#: of 1,000 takes 8 ms where a sync takes 0.3 ms.
_CHECKPOINT_PAGES = 250


class SegmentFiles:
    """The segments in a folder, at least one once the journal is open.

    Args:
        folder: the segments; interrupted repairs are finished first.
        on_lost: called, in any thread, when positions are found lost.
    """

    def __init__(self, folder: Path, on_lost: Callable[[LostPositions], object]) -> None:
        self.folder = folder
        self._on_lost = on_lost
        finish_repairs(folder)
        #: Oldest first. Any thread may read it; it is replaced, under `_listing`, never changed.
        self.segments = [
            Segment(int(file.stem), file, tuple(lost_of(file)))
            for file in sorted(folder.glob("*.db"))
        ]
        self._listing = threading.Lock()
        #: Lost positions before the oldest segment; set before any thread starts.
        self.lost_before: tuple[LostPositions, ...] = ()
        #: Held to delete or repair a segment, and to change its losses.
        self.changing = threading.Lock()
        self.readers = Readers()

    @property
    def lost(self) -> list[LostPositions]:
        """The lost positions, in order."""
        return [*self.lost_before, *(lost for s in self.segments for lost in s.lost)]

    def read(self, after: int, last: int, limit: int) -> list[Entry]:
        """Returns up to `limit` entries with `after < position <= last`, in order.

        Raises:
            JournalDamaged: a segment's content is damaged.
            StorageFailed: a segment cannot be read, or a position was trimmed.
        """
        segments = self.segments  # one listing, because segments may be trimmed concurrently
        end = min(last, segments[0].first - 1)
        if (trimmed := first_not_lost(self.lost_before, after + 1, end)) is not None:
            raise StorageFailed(f"journal in {self.folder}: position {trimmed} was trimmed")
        return self.readers.read(segments, after, last, limit)

    def report_lost(self, segment: Segment, lost: Sequence[LostPositions]) -> None:
        """Logs and reports positions of a segment found lost."""
        ranges = [(run.first, run.last) for run in lost]
        about = {"segment": segment.path.name, "lost": ranges}
        log.error("journal segment was damaged", extra=about)
        for run in lost:
            self._on_lost(run)

    def create(self, first: int, chain: bytes) -> sqlite3.Connection:
        """Returns a connection that writes a new segment, now the newest.

        Raises:
            sqlite3.Error: it cannot be created; no part of it remains.
            OSError: likewise.
        """
        path = self.folder / f"{first:020d}.db"
        try:
            connection = connect(path)
            connection.executescript(SCHEMA)
            connection.execute("INSERT INTO segment VALUES (?, ?)", (first, chain))
            sync_folder(self.folder)
        except (sqlite3.Error, OSError):
            _remove(path)
            raise
        with self._listing:
            self.segments = [*self.segments, Segment(first, path)]
        return connection

    def remove_newest(self) -> None:
        """Removes a segment whose creation was interrupted; runs before any thread starts."""
        *self.segments, newest = self.segments
        _remove(newest.path)

    def trim(self, until: int, keep: int) -> int:
        """Deletes the oldest segments that end at most at `until`, except the `keep` newest."""
        with self.changing:
            trimmable = self._trimmable(until, keep)
            for segment in trimmable:
                # Oldest first, each durably, so that no gap remains between segments.
                with self._listing:
                    self.segments = self.segments[1:]
                with self.readers.without(segment.path):
                    _remove(segment.path)
                sync_folder(self.folder)
            return len(trimmable)

    def trimmable_bytes(self, until: int, keep: int) -> int:
        """Returns the bytes on disk of the segments that `trim` would delete."""
        files = [file for part in self._trimmable(until, keep) for file in _files_of(part.path)]
        total = 0
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += file.stat().st_blocks * 512
        return total

    def _trimmable(self, until: int, keep: int) -> list[Segment]:
        segments = self.segments
        ends = [segment.first - 1 for segment in segments[1:]]
        return segments[: sum(end <= until for end in ends[: len(segments) - keep])]


def connect(path: Path) -> sqlite3.Connection:
    """Returns a connection that writes a segment, with a sync at each commit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    sync_at_commit(connection)
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection


def _remove(path: Path) -> None:
    """Removes a segment with its other files."""
    for file in _files_of(path):
        if not file.is_dir():
            file.unlink(missing_ok=True)


def _files_of(path: Path) -> tuple[Path, Path, Path]:
    """Returns a segment, its write-ahead log and its shared memory file."""
    return path, Path(f"{path}-wal"), Path(f"{path}-shm")


# The segment that is written

#: Bytes to write before the segment's size is checked again.
_CHECK_BYTES = 1024 * 1024
_PAGE_BYTES = 4096
#: SQLite's errors after which nothing on disk can be trusted.
_FAILED_SYNC = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC")
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def is_failed_sync(error: Exception) -> bool:
    """Returns whether a `SegmentWriter` error came from a sync of a file or folder."""
    if isinstance(error, OSError):
        return error.errno not in _NO_DESCRIPTOR  # then not even the folder was opened
    return getattr(error, "sqlite_errorname", "") in _FAILED_SYNC


@dataclass(slots=True)
class SegmentWriter:
    """Appends to the newest segment, and starts the next one.

    The writing thread owns all its state, from its start to its end.
    """

    files: SegmentFiles
    #: Writes the newest segment.
    connection: sqlite3.Connection
    #: Position and chain of the last durable entry.
    head: int
    chain: bytes
    #: Size at which a new segment is started.
    segment_bytes: int
    #: Bytes of the disk that are left to other files.
    reserved_bytes: int = 0
    #: Bytes written since the segment's size was last checked.
    unchecked_bytes: int = 0

    def commit(self, entries: Sequence[Entry]) -> None:
        """Returns once entries are durable: in a new segment, if the current one is damaged.

        Raises:
            sqlite3.Error: they are not durable; their transaction may still be open.
            OSError: likewise.
        """
        try:
            self._insert(entries)
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self.roll_back()
            self.roll()
            self._insert(entries)
        if entries:
            self.head, self.chain = entries[-1].position, entries[-1].chain
        self.unchecked_bytes += sum(len(entry.record) for entry in entries)

    def _insert(self, entries: Sequence[Entry]) -> None:
        self._require_space(sum(len(entry.record) for entry in entries))
        self.connection.execute("BEGIN IMMEDIATE")
        for statement, values in inserts(entries):
            self.connection.execute(statement, values)
        crash_point("journal.mid-commit")
        self.connection.execute("COMMIT")

    def _require_space(self, size: int) -> None:
        """Returns if the disk has room for records, and still for other files.

        Trails must be able to deliver, and event history to write its files: only then can events
        expire, and records fit again.

        Raises:
            sqlite3.OperationalError: it has not.
        """
        if not self.reserved_bytes:
            return
        disk = os.statvfs(self.files.folder)
        if disk.f_bavail * disk.f_frsize < self.reserved_bytes + _WRITTEN_TWICE * size:
            raise sqlite3.OperationalError("database or disk is full")

    def roll_back(self) -> None:
        """Leaves a transaction that failed."""
        with contextlib.suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def probe(self) -> None:
        """Attempts a write as large as a record.

        Raises:
            sqlite3.Error: it failed.
        """
        self._require_space(0)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("INSERT INTO probe (filler) VALUES (zeroblob(65536))")
            self.connection.execute("DELETE FROM probe")
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.roll_back()
            raise

    def roll_if_full(self) -> None:
        """Starts a new segment if this one is full.

        Raises:
            sqlite3.Error: as `roll`, or its size cannot be read.
            OSError: as `roll`.
        """
        if self.unchecked_bytes < min(_CHECK_BYTES, self.segment_bytes // 16):
            return
        self.unchecked_bytes = 0
        pages = self.connection.execute("PRAGMA page_count").fetchone()[0]
        if pages * _PAGE_BYTES >= self.segment_bytes:
            self.roll()

    def roll(self) -> None:
        """Starts a new segment unless the newest is empty.

        Raises:
            sqlite3.Error: it cannot be created; the current one stays the newest.
            OSError: the folder could not be synced; likewise.
        """
        if self.files.segments[-1].first == self.head + 1:
            return
        connection = self.files.create(self.head + 1, self.chain)
        previous, self.connection = self.connection, connection
        # A waiting repair may move the old segment's files, so SQLite must close them first.
        with contextlib.suppress(sqlite3.Error):
            previous.close()

    def close(self) -> None:
        """Closes the segment."""
        self.connection.close()
