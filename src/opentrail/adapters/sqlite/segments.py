"""Segments of a journal, read while it is written, by its own process or another one."""

from __future__ import annotations

import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentrail.adapters.sqlite.rows import SELECT, entry_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry

_CHAIN = "SELECT chain FROM entries WHERE position = ?"
_IDS = "SELECT position, event_id FROM entries WHERE position > ? ORDER BY position LIMIT ?"
#: While a statement is under way, what is written cannot be moved into the database.
_IDS_AT_ONCE = 5_000
_RECORD = "SELECT record FROM entries WHERE position = ?"
_FIND = "SELECT position FROM entries WHERE event_id = ?"


@dataclass(slots=True)
class Segment:
    """A journal's file, and the position of its first entry."""

    first: int
    path: Path


class Readers:
    """Reads segments in worker threads, over one connection for each that stays open."""

    def __init__(self) -> None:
        self._open: dict[Path, sqlite3.Connection] = {}
        self._lock = threading.Lock()

    def read(self, segments: Sequence[Segment], after: int, last: int, limit: int) -> list[Entry]:
        """Returns up to `limit` entries with `after < position <= last`, in order.

        Raises:
            StorageFailed: a segment cannot be read.
        """
        entries: list[Entry] = []
        index = max(0, bisect_right([s.first for s in segments], after + 1) - 1)
        for segment in segments[index:]:
            if len(entries) >= limit or segment.first > last:
                break
            rows = self._query(segment.path, SELECT, (after, last, limit - len(entries)))
            entries.extend(entry_of(row) for row in rows)
        return entries

    def find(self, segments: Sequence[Segment], event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first.

        Raises:
            StorageFailed: a segment cannot be read.
        """
        for segment in reversed(segments):
            rows = self._query(segment.path, _FIND, (event_id,))
            if rows:
                return int(rows[0][0])
        return None

    def _query(self, path: Path, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                if path not in self._open:
                    self._open[path] = sqlite3.connect(
                        f"file:{path}?mode=ro", uri=True, check_same_thread=False
                    )
                return self._open[path].execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise StorageFailed(f"journal segment {path} cannot be read: {error}") from error

    @contextmanager
    def without(self, path: Path) -> Iterator[None]:
        """Keeps a segment from being read, so that it can be removed."""
        with self._lock:
            reader = self._open.pop(path, None)
            if reader is not None:
                reader.close()
            yield

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            for reader in self._open.values():
                reader.close()
            self._open.clear()


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
            while rows := reader.execute(_IDS, (position, _IDS_AT_ONCE)).fetchall():
                position = rows[-1][0]
                for number, event_id in rows:
                    if event_id in wanted:
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
