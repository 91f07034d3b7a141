"""The newest segment of a journal, as the thread that writes it has it open."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from opentrail.adapters.sqlite.rows import inserts
from opentrail.adapters.sqlite.segment_files import SegmentFiles
from opentrail.adapters.sqlite.verify import is_corrupt
from opentrail.core.event import Entry
from opentrail.core.faults import crash_point

#: Bytes that are written before the segment's size is checked again.
_CHECK_BYTES = 1024 * 1024
_PAGE_BYTES = 4096
#: SQLite's errors after which nothing on disk can be trusted.
_FAILED_SYNC = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC")
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def is_failed_sync(error: Exception) -> bool:
    """Returns whether an error of a `SegmentWriter` is that of a sync, of a file or folder."""
    if isinstance(error, OSError):
        return error.errno not in _NO_DESCRIPTOR  # then the folder was not even opened
    return getattr(error, "sqlite_errorname", "") in _FAILED_SYNC


@dataclass(slots=True)
class SegmentWriter:
    """Appends to the newest segment, and starts the next one.

    Everything in it belongs to the writing thread, from when that starts until it has ended.
    """

    files: SegmentFiles
    #: Writes the newest segment.
    connection: sqlite3.Connection
    #: Position and chain of the last durable entry.
    head: int
    chain: bytes
    #: Size at which a new segment is started.
    segment_bytes: int
    #: Bytes written since the segment's size was last checked.
    unchecked_bytes: int = 0

    def commit(self, entries: Sequence[Entry]) -> None:
        """Returns once entries are durable: in a new segment, if the current one is damaged.

        Raises:
            sqlite3.Error: they are not; their transaction may still be open.
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
        self.connection.execute("BEGIN IMMEDIATE")
        for statement, values in inserts(entries):
            self.connection.execute(statement, values)
        crash_point("journal.mid-commit")
        self.connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Leaves a transaction that failed."""
        with contextlib.suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def probe(self) -> None:
        """Tries a write as large as a record.

        Raises:
            sqlite3.Error: it failed.
        """
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
            sqlite3.Error: it cannot be created; the newest one stays.
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
