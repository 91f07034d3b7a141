"""The records of a sealed file, divided over several columns by what they are.

DuckDB compresses 2,048 values of a column together and can only unpack all of them, which is most
of what a page of scattered events costs. A row's record is in one of these columns, the others are
NULL there: so less has to be unpacked for it. Records of one kind share a column, where they
compress each other; a kind that is most of a file, as writing objects may be, has one for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

#: Twice as many would cost another 20 B a record, and spare little more.
PARTS = 4
COLUMNS = tuple(f"record_{part}" for part in range(PARTS))
#: Of more kinds than this only the largest are remembered.
_MOST_KINDS = 10_000
#: A part with so many times the mean has too much.
_TOO_MUCH = 1.25

_COMPRESSED = ", ".join(f"{column} VARCHAR USING COMPRESSION ZSTD" for column in COLUMNS)
#: The columns in CREATE TABLE; `record` is what the record's own column holds.
DEFINED = (
    f"part TINYINT, {_COMPRESSED},"
    f" record VARCHAR GENERATED ALWAYS AS (coalesce({', '.join(COLUMNS)})) VIRTUAL"
)
#: The columns that are stored, and their values where `part` and `record` are.
STORED = ", ".join(("part", *COLUMNS))
DIVIDED = ", ".join(("part", *(f"CASE part WHEN {part} THEN record END" for part in range(PARTS))))


class ColumnPartitioning:
    """Tells in which column the record of each event of a file belongs.

    A kind stays where it is: only when one column has much more than the others do the smaller
    kinds there move, so that little lies beside what is most.
    """

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._part_of: dict[tuple[str, str], int] = {}

    def parts(self, events: Sequence[tuple[str, str, int]]) -> list[int]:
        """Returns the parts of events, given their source, name and the size of their record."""
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
        found = [self._part_of[source, name] for source, name, _ in events]
        for kind, _ in kinds[_MOST_KINDS:]:
            del self._bytes[kind], self._part_of[kind]
        return found

    def _relieve(self, loads: list[int], kinds: Sequence[tuple[tuple[str, str], int]]) -> None:
        """Moves all but the largest kind out of a part that has too much, the largest first."""
        mean = sum(loads) / PARTS
        fullest = loads.index(max(loads))
        if loads[fullest] <= _TOO_MUCH * mean:
            return
        for kind, size in [one for one in kinds if self._part_of[one[0]] == fullest][1:]:
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
