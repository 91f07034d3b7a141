"""The records of a sealed file, divided over several columns by what they are.

DuckDB compresses 2,048 values of a column together and can only unpack all of them, which is most
of what a page of scattered events costs. A row's record is in one of these columns, the others are
NULL there: so less has to be unpacked for it. Records of one kind share a column, where they
compress each other.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Twice as many would cost another 20 B a record, and spare little more.
PARTS = 4
COLUMNS = tuple(f"record_{part}" for part in range(PARTS))
#: Kinds beyond so many are not remembered.
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
        self._part_of: dict[tuple[str, str], int] = {}
        self._bytes = [0] * PARTS

    def part(self, event_source: str, event_name: str, size: int) -> int:
        """Returns the part of an event whose record has so many bytes.

        Whatever kind of event comes first goes to the part that has least.
        """
        kind = (event_source, event_name)
        part = self._part_of.get(kind)
        if part is None:
            part = self._bytes.index(min(self._bytes))
            if len(self._part_of) < _MOST_KINDS:
                self._part_of[kind] = part
        self._bytes[part] += size
        return part


def divided(parts: Sequence[int], records: Sequence[str]) -> list[list[str | None]]:
    """Returns the values of each column, given the parts and records of all rows."""
    pairs = list(zip(parts, records, strict=True))
    return [[record if part == own else None for part, record in pairs] for own in range(PARTS)]
