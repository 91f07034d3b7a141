"""Rows of a journal's segment: their schema, and their entries, verified when read.

The hash chain and the records verify entries.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from opentrail.adapters.data_directory.system import read_only_uri
from opentrail.adapters.entry_check import agrees, is_record
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Entry, from_micros, micros
from opentrail.ports.journal import UNKNOWN_CHAIN, LostPositions, first_not_lost

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  position INTEGER PRIMARY KEY, origin TEXT NOT NULL, recorded_at INTEGER NOT NULL,
  account TEXT NOT NULL, region TEXT NOT NULL, category TEXT NOT NULL,
  event_id TEXT NOT NULL, chain BLOB NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS segment (first INTEGER NOT NULL, chain_before BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS lost (first INTEGER NOT NULL, last INTEGER, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, filler BLOB);
"""
#: Rows per statement. After each statement the thread may have to wait for others, so most groups
#: need only one. (SQLite caches up to 128 prepared statements.)
_ROWS = (128, 64, *range(32, 0, -1))
_ONE_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERTS = {
    rows: f"INSERT INTO entries VALUES {', '.join([_ONE_ROW] * rows)}"  # noqa: S608 - only marks
    for rows in _ROWS
}
#: Columns of `entries`, in order.
COLUMNS = 9
SELECT = (
    "SELECT position, origin, recorded_at, account, region, category, event_id, chain, record"
    " FROM entries WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)

#: The chain at a position, and the chain before a segment's first.
CHAIN = "SELECT chain FROM entries WHERE position = ?"
CHAIN_BEFORE = "SELECT chain_before FROM segment"


def inserts(entries: Sequence[Entry]) -> Iterator[tuple[str, list[object]]]:
    """Yields the statements that insert all entries, with their values; as few as possible."""
    start = 0
    for rows in _ROWS:
        while len(entries) - start >= rows:
            values: list[object] = []
            for entry in entries[start : start + rows]:
                values.extend(_row(entry))
            yield _INSERTS[rows], values
            start += rows


def _row(entry: Entry) -> tuple[object, ...]:
    return (
        entry.position,
        entry.origin,
        micros(entry.recorded_at),
        entry.account,
        entry.region,
        entry.category,
        entry.event_id,
        entry.chain,
        entry.record,
    )


def entry_of(row: tuple[object, ...]) -> Entry:
    """Returns the entry of a row from `SELECT`."""
    position, origin, recorded_at, account, region, category, event_id, chain, record = row
    moment = from_micros(int(recorded_at))  # type: ignore[call-overload]
    return Entry(position, origin, moment, account, region, category, event_id, chain, record)  # type: ignore[arg-type]


# Verification

_LOST = "SELECT first, last, reason FROM lost ORDER BY first"
_HAS_LOST = "SELECT 1 FROM sqlite_master WHERE name = 'lost'"
#: Result codes of SQLite for a damaged or unreadable file.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR})
#: Types of the values of a row.
_TYPES = (int, str, int, str, str, str, str, bytes, bytes)


def is_damage(error: sqlite3.Error) -> bool:
    """Returns whether an error means a damaged file, rather than a busy or inaccessible one."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "decode to UTF-8" in str(error)
    return code & 0xFF in _DAMAGE or "no such table" in str(error)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Returns whether a write failed because the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE - {sqlite3.SQLITE_IOERR}


def lost_in(reader: sqlite3.Connection) -> list[LostPositions]:
    """Returns the lost positions listed in a segment, in order."""
    if reader.execute(_HAS_LOST).fetchone() is None:  # written by an older version
        return []
    return [LostPositions(*row) for row in reader.execute(_LOST)]


def lost_of(path: Path) -> list[LostPositions]:
    """Returns the lost positions listed in a segment, in order; none if unreadable."""
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as reader:
            return lost_in(reader)
    except sqlite3.Error:
        return []


def read_verified(
    reader: sqlite3.Connection, path: Path, after: int, until: int, limit: int
) -> list[Entry]:
    """Returns up to `limit` entries of one segment with `after < position <= until`, in order.

    Args:
        reader: a connection to the segment.
        path: the segment's file, named by its first position.
        after: the position before the first one to read.
        until: a written position of the segment.
        limit: maximum number of entries.

    Raises:
        JournalDamaged: an entry is missing but not listed as lost, or is damaged.
        sqlite3.Error: the segment cannot be read.
    """
    after = max(after, int(path.stem) - 1)
    rows = reader.execute(SELECT, (after, until, limit)).fetchall()
    lost = lost_in(reader)
    chain, expected = chain_at(reader, path, after), after + 1
    entries = []
    for row in rows:
        entry = _entry(row, path, expected)
        if entry.position != expected:
            _require_lost(lost, expected, entry.position - 1, path)
            chain = UNKNOWN_CHAIN
        if chain and hashlib.sha256(chain + entry.record).digest() != entry.chain:
            raise _damaged(path, entry.position, "was altered")
        if chain == UNKNOWN_CHAIN and not is_record(entry):
            raise _damaged(path, entry.position, "is not a record")
        if not agrees(entry):
            raise _damaged(path, entry.position, "disagrees with its record")
        entries.append(entry)
        chain, expected = entry.chain, entry.position + 1
    if len(rows) < limit and expected <= until:
        _require_lost(lost, expected, until, path)
    return entries


def _entry(row: tuple[object, ...], path: Path, expected: int) -> Entry:
    try:
        if not all(map(isinstance, row, _TYPES)):
            raise TypeError("a value has another type than its column")
        return entry_of(row)
    except (TypeError, ValueError, OverflowError) as error:
        raise _damaged(path, expected, "was altered") from error


def chain_at(reader: sqlite3.Connection, path: Path, position: int) -> bytes:
    """Returns the chain at a position of a segment or before it; `UNKNOWN_CHAIN` if lost.

    Raises:
        JournalDamaged: the stored chain has the wrong type.
    """
    if position < int(path.stem):
        row = reader.execute(CHAIN_BEFORE).fetchone()
    else:
        row = reader.execute(CHAIN, (position,)).fetchone()
    if row is None:
        return UNKNOWN_CHAIN
    if not isinstance(row[0], bytes):
        raise _damaged(path, max(position, int(path.stem)), "has an invalid chain")
    return row[0]


def _require_lost(lost: Sequence[LostPositions], first: int, last: int, path: Path) -> None:
    missing = first_not_lost(lost, first, last)
    if missing is not None:
        raise _damaged(path, missing, "is missing")


def _damaged(path: Path, position: int, what: str) -> JournalDamaged:
    return JournalDamaged(f"journal segment {path}: position {position} {what}", position)


def intact_entries(
    versions: Mapping[int, Sequence[Entry]], first: int, last: int, chain: bytes
) -> Iterator[Entry]:
    """Yields the intact entries in order of position.

    An entry is intact if it continues the chain of the previous entry, or if the next entry
    continues its chain. After a damaged entry, the next one must continue the chain stored with it.
    After a gap, an entry is accepted if nothing contradicts it.

    Args:
        versions: the entries by position; damaged files may have several versions.
        first: the first position.
        last: the last position.
        chain: the chain before `first`, or `UNKNOWN_CHAIN`.
    """
    expected = first
    for position in sorted(versions):
        if not first <= position <= last:
            continue
        if position != expected:
            chain = UNKNOWN_CHAIN
        stored_chains = [
            entry.chain for entry in versions.get(position - 1, ()) if entry.chain != UNKNOWN_CHAIN
        ]
        before = stored_chains if chain == UNKNOWN_CHAIN else [chain]
        entry, chain = _intact(versions[position], versions.get(position + 1, ()), before)
        if entry is not None:
            yield entry
        expected = position + 1


def _intact(
    versions: Sequence[Entry], following: Sequence[Entry], before: Sequence[bytes]
) -> tuple[Entry | None, bytes]:
    """Returns the intact version of an entry, if any, and the chain at its position.

    `before` has the chain before it, or all candidates if that is unknown.
    """
    computed = [
        (entry, hashlib.sha256(chain + entry.record).digest())
        for entry in versions
        for chain in before
    ]
    for entry, chain in computed:
        if chain == entry.chain:
            return entry, chain
    for entry, chain in computed:
        # The stored chain may be damaged instead.
        if _follows(following, chain):
            return replace(entry, chain=chain), chain
    for entry in versions:
        if _follows(following, entry.chain):
            return (None if before or not is_record(entry) else entry), entry.chain
    for entry in versions if not before else ():
        if entry.chain != UNKNOWN_CHAIN and is_record(entry):
            return entry, entry.chain
    return None, UNKNOWN_CHAIN


def _follows(following: Iterable[Entry], chain: bytes) -> bool:
    return any(hashlib.sha256(chain + e.record).digest() == e.chain for e in following)
