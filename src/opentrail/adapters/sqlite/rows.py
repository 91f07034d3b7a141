"""Rows of a journal's segment: their schema, and entries put into them and read from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentrail.core.event import Entry, from_micros, micros

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

#: The chain at a position, and the one before a segment's first.
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
    """Returns the entry of a row that `SELECT` found."""
    position, origin, recorded_at, account, region, category, event_id, chain, record = row
    moment = from_micros(int(recorded_at))  # type: ignore[call-overload]
    return Entry(position, origin, moment, account, region, category, event_id, chain, record)  # type: ignore[arg-type]
