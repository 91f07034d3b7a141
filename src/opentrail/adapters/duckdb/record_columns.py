"""The records of a sealed file, split into several columns by the kind of event.

DuckDB compresses 2,048 values of a column together and can only decompress them together, which is
most of the cost of a page of scattered events. A row's record is in one of these columns, and the
others are NULL, so there is less to decompress. Records of one kind share a column, which
compresses well; a kind that makes up most of a file gets a separate column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

#: Eight would cost another 20 bytes per record, for little gain.
PARTS = 4
COLUMNS = tuple(f"record_{part}" for part in range(PARTS))
#: Maximum kinds with a remembered column: the largest ones.
_MAX_KINDS = 10_000
#: A column is overfull if its size is more than this many times the mean.
_OVERFULL = 1.25

_COMPRESSED = ", ".join(f"{column} VARCHAR USING COMPRESSION ZSTD" for column in COLUMNS)
#: The columns in CREATE TABLE; `record` is whichever is not NULL.
DEFINED = (
    f"part TINYINT, {_COMPRESSED},"
    f" record VARCHAR GENERATED ALWAYS AS (coalesce({', '.join(COLUMNS)})) VIRTUAL"
)
#: The stored columns, and their values computed from `part` and `record`.
STORED = ", ".join(("part", *COLUMNS))
DIVIDED = ", ".join(("part", *(f"CASE part WHEN {part} THEN record END" for part in range(PARTS))))


class ColumnPartitioning:
    """Chooses the column of each event's record.

    A kind keeps its column, until the column is overfull: its smaller kinds then move to others.
    """

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._part_of: dict[tuple[str, str], int] = {}

    def parts(self, events: Sequence[tuple[str, str, int]]) -> list[int]:
        """Returns the parts of events, given the source, name and record size of each."""
        for source, name, size in events:
            self._bytes[source, name] += size
        kinds = self._bytes.most_common()
        loads = [0] * PARTS
        for kind, size in kinds:
            if kind in self._part_of:
                loads[self._part_of[kind]] += size
        for kind, size in kinds:
            if kind not in self._part_of:
                self._part_of[kind] = part = loads.index(min(loads))
                loads[part] += size
        self._relieve(loads, kinds)
        parts = [self._part_of[source, name] for source, name, _ in events]
        for kind, _ in kinds[_MAX_KINDS:]:
            del self._bytes[kind], self._part_of[kind]
        return parts

    def _relieve(self, loads: list[int], kinds: Sequence[tuple[tuple[str, str], int]]) -> None:
        """Moves kinds out of an overfull part, largest first, except the largest of all."""
        mean = sum(loads) / PARTS
        fullest = loads.index(max(loads))
        if loads[fullest] <= _OVERFULL * mean:
            return
        for kind, size in [entry for entry in kinds if self._part_of[entry[0]] == fullest][1:]:
            part = loads.index(min(loads))
            if loads[part] + size < loads[fullest]:
                self._part_of[kind] = part
                loads[fullest] -= size
                loads[part] += size
            if loads[fullest] <= mean:
                return


def divided(parts: Sequence[int], records: Sequence[str]) -> list[list[str | None]]:
    """Returns the values of each column, given the parts and records of all rows."""
    pairs = list(zip(parts, records, strict=True))
    return [[record if part == own else None for part, record in pairs] for own in range(PARTS)]
