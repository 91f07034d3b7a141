"""Segments of a journal, read during writing, by their own process or another one."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentrail.adapters.data_directory.system import read_only_uri
from opentrail.adapters.sql.at_rest import reading
from opentrail.adapters.sqlite.verify import CHAIN, is_damage, lost_in, read_verified
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.core.event import Entry
from opentrail.ports.journal import UNKNOWN_CHAIN, LostPositions

_FIND = "SELECT position FROM entries WHERE event_id = ?"
_SIZES = (
    "SELECT coalesce(length(record), 0) FROM entries WHERE position > ? AND position <= ?"
    " ORDER BY position LIMIT ?"
)
#: Bytes of records after which a read ends, with the current entry.
_READ_BYTES = 32 << 20


@dataclass(slots=True)
class Segment:
    """A file of the journal, the position of its first entry, and its lost positions."""

    first: int
    path: Path
    lost: tuple[LostPositions, ...] = ()


class Readers:
    """Reads segments in worker threads, over one open connection per segment."""

    def __init__(self) -> None:
        self._open: dict[Path, sqlite3.Connection] = {}
        self._lock = threading.Lock()

    def read(self, segments: Sequence[Segment], after: int, last: int, limit: int) -> list[Entry]:
        """Returns up to `limit` entries with `after < position <= last`, in order.

        Large entries reduce their number.

        Raises:
            JournalDamaged: a segment's content is damaged.
            StorageFailed: a segment cannot be read.
        """
        entries: list[Entry] = []
        size = 0
        index = max(0, bisect_right([s.first for s in segments], after + 1) - 1)
        for segment, end in ends_of(segments[index:], last):
            if len(entries) >= limit or size > _READ_BYTES or segment.first > last:
                break
            room, until = limit - len(entries), min(last, end)
            with self._reading(segment) as reader:
                more = read_limited(reader, segment.path, after, until, room, size)
            entries += more
            size += sum(len(entry.record) for entry in more)
        return entries

    def find(self, segments: Sequence[Segment], event_id: str) -> int | None:
        """Returns the position of the record with this event id, searching newest first.

        Raises:
            JournalDamaged: a segment's content is damaged.
            StorageFailed: a segment cannot be read.
        """
        for segment in reversed(segments):
            with self._reading(segment) as reader:
                row = reader.execute(_FIND, (event_id,)).fetchone()
            if row is not None:
                return int(row[0])
        return None

    @contextmanager
    def _reading(self, segment: Segment) -> Iterator[sqlite3.Connection]:
        with self._lock, damage_as_error(segment.path):
            if segment.path not in self._open:
                self._open[segment.path] = open_reader(segment.path)
            yield self._open[segment.path]

    @contextmanager
    def without(self, path: Path) -> Iterator[None]:
        """Prevents reads of a segment while it is removed."""
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


def read_limited(
    reader: sqlite3.Connection, path: Path, after: int, until: int, limit: int, size: int = 0
) -> list[Entry]:
    """Like `read_verified`, but returns fewer large entries.

    `size` is the bytes of the records read before.
    """
    rows = reader.execute(_SIZES, (after, until, limit))
    sizes = itertools.accumulate((record_size for (record_size,) in rows), initial=size)
    number = sum(total <= _READ_BYTES for total in sizes)
    return read_verified(reader, path, after, until, min(limit, number))


def ends_of(segments: Sequence[Segment], last: int) -> Iterator[tuple[Segment, int]]:
    """Yields each segment with the last position written to it.

    Args:
        segments: consecutive segments, in order.
        last: the last position of the last one.
    """
    for segment, following in itertools.zip_longest(segments, segments[1:]):
        yield segment, following.first - 1 if following else max(last, segment.first - 1)


def open_reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(read_only_uri(path), uri=True, check_same_thread=False)


@contextmanager
def damage_as_error(path: Path) -> Iterator[None]:
    """Raises SQLite's errors as damage of the segment, or as a failure that may be temporary.

    Raises:
        JournalDamaged: the segment is damaged or missing.
        StorageFailed: it cannot be read for another reason.
    """
    try:
        yield
    except sqlite3.Error as error:
        message = f"journal segment {path} cannot be read: {error}"
        if is_damage(error) or not path.exists():
            raise JournalDamaged(message, int(path.stem)) from error
        raise StorageFailed(message) from error


def newest(writer: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Returns position and chain of a segment's last entry; None for an empty one."""
    table = writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
    if table is None:
        return None
    last: tuple[int, bytes] | None = writer.execute(
        "SELECT position, chain FROM entries ORDER BY position DESC LIMIT 1"
    ).fetchone()
    # A repaired segment may end with lost positions.
    lost = max((run.last for run in lost_in(writer) if run.last is not None), default=0)
    if lost > (last[0] if last else 0):
        return lost, UNKNOWN_CHAIN
    return last


def chain_of(folder: Path, position: int, is_live: bool = True) -> bytes:
    """Returns the chain at an entry of a journal; `UNKNOWN_CHAIN` if the entry is missing."""
    for path in sorted(folder.glob("*.db"), reverse=True):
        if int(path.stem) <= position:
            with (
                contextlib.suppress(sqlite3.Error, OSError),
                reading(path, is_live) as reader,
            ):
                row = reader.execute(CHAIN, (position,)).fetchone()
                return row[0] if row and isinstance(row[0], bytes) else UNKNOWN_CHAIN
            break
    return UNKNOWN_CHAIN


def holds_entries(path: Path, is_live: bool = True) -> bool:
    """Returns whether a segment has, or had, any entry; True if it cannot be read."""
    try:
        with reading(path, is_live) as reader:
            return int(path.stem) > 1 or newest(reader) is not None
    except (sqlite3.Error, OSError):
        return True
