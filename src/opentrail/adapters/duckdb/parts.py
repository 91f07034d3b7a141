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
#: Of more kinds than this only the larger half is remembered.
_MOST_KINDS = 10_000

_COMPRESSED = ", ".join(f"{column} VARCHAR USING COMPRESSION ZSTD" for column in COLUMNS)
#: The columns in CREATE TABLE; `record` is what the record's own column holds.
DEFINED = (
    f"part TINYINT, {_COMPRESSED},"
    f" record VARCHAR GENERATED ALWAYS AS (coalesce({', '.join(COLUMNS)})) VIRTUAL"
)
#: The columns that are stored, and their values where `part` and `record` are.
STORED = ", ".join(("part", *COLUMNS))
DIVIDED = ", ".join(("part", *(f"CASE part WHEN {part} THEN record END" for part in range(PARTS))))


class Parting:
    """Tells in which column the record of each event of a file belongs."""

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()

    def parts(self, events: Sequence[tuple[str, str, int]]) -> list[int]:
        """Returns the parts of events, given their source, name and the size of their record.

        The largest kind comes first, each to the part that has least then, by what was seen until
        now.
        """
        for source, name, size in events:
            self._bytes[source, name] += size
        part_of: dict[tuple[str, str], int] = {}
        loads = [0] * PARTS
        for kind, size in self._bytes.most_common():
            part_of[kind] = part = loads.index(min(loads))
            loads[part] += size
        if len(self._bytes) > _MOST_KINDS:
            self._bytes = Counter(dict(self._bytes.most_common(_MOST_KINDS // 2)))
        return [part_of[source, name] for source, name, _ in events]


def divided(parts: Sequence[int], records: Sequence[str]) -> list[list[str | None]]:
    """Returns the values of each column, given the parts and records of all rows."""
    pairs = list(zip(parts, records, strict=True))
    return [[record if part == own else None for part, record in pairs] for own in range(PARTS)]
