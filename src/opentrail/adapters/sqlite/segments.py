"""Segments of a journal, as another process reads them while the journal is written."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Container, Iterator
from pathlib import Path

from opentrail.adapters.sqlite.rows import SELECT, entry_of
from opentrail.core.event import Entry

_CHAIN = "SELECT chain FROM entries WHERE position = ?"
_IDS = "SELECT position, event_id FROM entries WHERE position > ?"
_RECORD = "SELECT record FROM entries WHERE position = ?"


def newest(writer: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Returns position and chain of a segment's last entry, None if it holds none."""
    made = writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
    if made is None:
        return None
    found: tuple[int, bytes] | None = writer.execute(
        "SELECT position, chain FROM entries ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return found


def first_position(folder: Path) -> int:
    """Returns the first position that a journal may still hold; 1 for one that is empty."""
    return min((int(path.stem) for path in folder.glob("*.db")), default=1)


def chain_before(folder: Path, position: int) -> bytes | None:
    """Returns the chain before an entry of a journal; None if it does not hold the entry."""
    for path in sorted(folder.glob("*.db"), reverse=True):
        if int(path.stem) > position:
            continue
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            if int(path.stem) == position:
                rows = reader.execute("SELECT chain_before FROM segment").fetchall()
            else:
                rows = reader.execute(_CHAIN, (position - 1,)).fetchall()
            held = reader.execute(_CHAIN, (position,)).fetchall()
        finally:
            reader.close()
        return bytes(rows[0][0]) if rows and held else None
    return None


def records_behind(
    folder: Path, position: int, wanted: Container[str]
) -> Iterator[tuple[str, bytes]]:
    """Yields event id and record of the entries behind a position whose ids are wanted."""
    paths = sorted(folder.glob("*.db"))
    begin = bisect_right([int(path.stem) for path in paths], position + 1) - 1
    for path in paths[max(0, begin) :]:
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            if newest(reader) is None:
                continue
            found = [row for row in reader.execute(_IDS, (position,)) if row[1] in wanted]
            for number, event_id in found:
                (record,) = reader.execute(_RECORD, (number,)).fetchone()
                yield event_id, bytes(record)
        finally:
            reader.close()


def read_range(folder: Path, first: int, last: int, batch: int = 5_000) -> Iterator[list[Entry]]:
    """Yields the entries `first`…`last` in batches, from a journal another process may write."""
    after = first - 1
    paths = sorted(folder.glob("*.db"))
    # Those that end before are not opened: they may be trimmed at any moment.
    begin = bisect_right([int(path.stem) for path in paths], first) - 1
    for path in paths[max(0, begin) :]:
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            while after < last and newest(reader) is not None:
                rows = reader.execute(SELECT, (after, last, batch)).fetchall()
                if not rows:
                    break
                after = rows[-1][0]
                yield [entry_of(row) for row in rows]
        finally:
            reader.close()
