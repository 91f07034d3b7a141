"""The newest segment of a journal, as the thread that writes it has it open."""

from __future__ import annotations

import contextlib
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
        """
        try:
            self._insert(entries)
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self.roll_back()
            if self.roll() is not None:
                raise
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

    def can_write(self) -> bool:
        """Tries a write as large as a record; returns whether it succeeded."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("INSERT INTO probe (filler) VALUES (zeroblob(65536))")
            self.connection.execute("DELETE FROM probe")
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self.roll_back()
            return False
        return True

    def roll_if_full(self) -> str | None:
        """Starts a new segment if this one is full; returns why that failed."""
        if self.unchecked_bytes < min(_CHECK_BYTES, self.segment_bytes // 16):
            return None
        self.unchecked_bytes = 0
        try:
            pages = self.connection.execute("PRAGMA page_count").fetchone()[0]
        except sqlite3.Error as error:
            return f"the journal's newest segment cannot be measured: {error}"
        return self.roll() if pages * _PAGE_BYTES >= self.segment_bytes else None

    def roll(self) -> str | None:
        """Starts a new segment unless the newest is empty; returns why that failed."""
        if self.files.segments[-1].first == self.head + 1:
            return None
        try:
            connection = self.files.create(self.head + 1, self.chain)
        except (sqlite3.Error, OSError) as error:
            return f"the journal cannot start a new segment: {error}"
        previous, self.connection = self.connection, connection
        # A waiting repair may move the old segment's files, so SQLite must close them first.
        with contextlib.suppress(sqlite3.Error):
            previous.close()
        return None

    def close(self) -> None:
        """Closes the segment."""
        self.connection.close()
