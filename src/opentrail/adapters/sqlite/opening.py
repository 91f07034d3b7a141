"""Opens a journal at its start: repairs the newest segment, and marks what is missing as lost."""

from __future__ import annotations

import contextlib
import sqlite3

from opentrail.adapters.sqlite.repair import chain_before_of, repair
from opentrail.adapters.sqlite.rows import SCHEMA
from opentrail.adapters.sqlite.salvage import has_hidden_commits
from opentrail.adapters.sqlite.segment_files import SegmentFiles, connect
from opentrail.adapters.sqlite.segments import Segment, newest
from opentrail.adapters.sqlite.verify import is_damage
from opentrail.core.errors import StorageFailed
from opentrail.ports.journal import UNKNOWN_CHAIN, KnownPositions, LostPositions

_GENESIS = b"\0" * 32
#: A connection that writes the newest segment, the last position, and the chain there.
OpenSegment = tuple[sqlite3.Connection, int, bytes]


def open_newest(files: SegmentFiles, known: KnownPositions | None) -> OpenSegment:
    """Opens the newest segment with entries; creates one if no segment has any.

    Args:
        files: the segments.
        known: positions that others know of; None if the journal was never written to.

    Raises:
        StorageFailed: the journal cannot be opened.
    """
    sealed, written = (known.sealed, known.written) if known else (0, 0)
    try:
        # Positions before the oldest segment that event history lacks, too, are lost.
        if known and files.segments and files.segments[0].first > sealed + 1:
            last = files.segments[0].first - 1
            reason = "segments of the journal are missing"
            files.lost_before = (LostPositions(sealed + 1, last, reason),)
        while files.segments:
            segment = files.segments[-1]
            opened = _open(files, segment, written)
            if opened is not None:
                # Positions after the newest segment that others know of are lost; they are never
                # assigned to other records.
                connection, head, _ = opened
                if head >= written:
                    return opened
                reason = "segments of the journal are missing"
                _note_lost(files, connection, LostPositions(head + 1, written, reason))
                return connection, written, UNKNOWN_CHAIN
            # The creation of a segment without entries was interrupted; it is created again when
            # needed.
            files.remove_newest()
        if known is None:
            return files.create(1, _GENESIS), 0, _GENESIS
        # All files are lost: the journal starts after the last position that is known.
        connection = files.create(sealed + 1, UNKNOWN_CHAIN)
        head, reason = max(sealed, written), "all segments of the journal are missing"
        if written > sealed:
            _note_lost(files, connection, LostPositions(sealed + 1, head, reason))
        _note_lost(files, connection, LostPositions(head + 1, None, reason))
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


def _note_lost(files: SegmentFiles, connection: sqlite3.Connection, lost: LostPositions) -> None:
    """Stores lost positions in the newest segment, and reports them."""
    connection.execute("INSERT INTO lost VALUES (?, ?, ?)", (lost.first, lost.last, lost.reason))
    segment = files.segments[-1]
    segment.lost = (*segment.lost, lost)
    files.report_lost(segment, [lost])
