"""The journal in a folder, for child processes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from opentrail.adapters.sqlite.segments import (
    Segment,
    chain_of,
    damage_as_error,
    ends_of,
    newest,
    open_reader,
    read_limited,
)
from opentrail.adapters.sqlite.verify import CHAIN, chain_at, lost_in
from opentrail.core.event import Entry
from opentrail.ports.journal import LostPositions, lost_between

_IDS = "SELECT position, event_id FROM entries WHERE position > ? ORDER BY position LIMIT ?"
#: Maximum rows per statement: a running statement blocks checkpoints of the write-ahead log.
_IDS_PER_STATEMENT = 5_000
_RECORD = "SELECT record FROM entries WHERE position = ?"


class SqliteJournalSource:
    """A `JournalSource` of the segments in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def address(self) -> str:
        """The argument that makes a child process open this journal."""
        return str(self._folder)

    @property
    def environment(self) -> Mapping[str, str]:
        """Additional variables for a child process."""
        return {}

    def first_position(self) -> int:
        """Returns the first position that the journal may still have; 1 for an empty one."""
        return min((segment.first for segment in self._segments()), default=1)

    def chain_before(self, position: int) -> bytes | None:
        """Returns the chain before an entry; `UNKNOWN_CHAIN` after lost ones.

        Returns None if the journal does not have the entry.
        """
        for segment in reversed(self._segments()):
            if segment.first > position:
                continue
            with closing(open_reader(segment.path)) as reader, damage_as_error(segment.path):
                if reader.execute(CHAIN, (position,)).fetchone() is None:
                    return None
                return chain_at(reader, segment.path, position - 1)
        return None

    def chain_at(self, position: int) -> bytes:
        """Returns the chain at an entry; `UNKNOWN_CHAIN` if the journal does not have it."""
        return chain_of(self._folder, position)

    def lost_between(self, first: int, last: int) -> list[LostPositions]:
        """Returns the lost positions from `first` to `last`, in order."""
        runs: list[LostPositions] = []
        for segment in self._segments():
            with closing(open_reader(segment.path)) as reader, damage_as_error(segment.path):
                runs += lost_in(reader) if newest(reader) else []
        return lost_between(runs, first, last)

    def restored_between(self, first: int, last: int) -> list[LostPositions]:
        """Returns nothing: no other server has this journal."""
        return []

    def records_behind(
        self, position: int, event_ids: Container[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Yields event id and record of the entries after a position with one of these ids."""
        for segment in self._segments_from(position + 1):
            with closing(open_reader(segment.path)) as reader, damage_as_error(segment.path):
                if newest(reader) is None:
                    continue
                while rows := reader.execute(_IDS, (position, _IDS_PER_STATEMENT)).fetchall():
                    position = rows[-1][0]
                    for number, event_id in rows:
                        if event_id in event_ids:
                            (record,) = reader.execute(_RECORD, (number,)).fetchone()
                            yield event_id, bytes(record)

    def read_range(self, first: int, last: int, batch: int = 5_000) -> Iterator[list[Entry]]:
        """Yields the entries `first`…`last`, in order and verified, up to `batch` at a time.

        Large entries reduce their number.
        """
        after = first - 1
        segments = self._segments_from(first)
        for segment, end in ends_of(segments, last):
            with closing(open_reader(segment.path)) as reader, damage_as_error(segment.path):
                newest_entry = newest(reader)
                if newest_entry is None:
                    continue
                until = min(last, newest_entry[0] if segment is segments[-1] else end)
                while after < until:
                    entries = read_limited(reader, segment.path, after, until, batch)
                    if entries:
                        yield entries
                    after = entries[-1].position if entries else until

    def _segments(self) -> list[Segment]:
        return [Segment(int(path.stem), path) for path in sorted(self._folder.glob("*.db"))]

    def _segments_from(self, position: int) -> list[Segment]:
        """Returns the segment with a position, and later ones.

        Does not open earlier segments, which may be trimmed at any moment.
        """
        segments = self._segments()
        index = bisect_right([segment.first for segment in segments], position) - 1
        return segments[max(0, index) :]
