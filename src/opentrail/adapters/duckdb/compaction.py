"""Which sealed files are merged next."""

from __future__ import annotations

from collections.abc import Sequence

from opentrail.adapters.duckdb.files import MAX_FILE_BYTES
from opentrail.adapters.duckdb.table_set import EventTable

#: Adjacent files of about one size that are merged.
MERGED_FILES = 8
#: Maximum records of a merged file.
MERGED_RECORDS = 1_200_000
#: Files with at most this many records are of size class 0; each class is eight times the last.
_SMALLEST = 4_096


def next_merge(tables: Sequence[EventTable], max_bytes: int = MAX_FILE_BYTES) -> list[EventTable]:
    """Returns the adjacent tables to merge next, oldest first; an empty list if there are too few.

    So files grow eightfold, as in a log-structured merge tree, and a record is rewritten only a
    few times.

    Args:
        tables: those of one series, in order.
        max_bytes: bytes that a merged file may have.
    """
    run: list[EventTable] = []
    for table in tables:
        is_apart = table.is_remote or table.is_not_merged
        if table.file is None or is_apart or table.file.records * 2 > MERGED_RECORDS:
            run = []
            continue
        # The records of a thinned file are no chain.
        is_adjacent = bool(run) and run[-1].last + 1 == table.first
        is_adjacent = is_adjacent and bool(run[-1].expired) == bool(table.expired)
        run = [*run, table] if is_adjacent else [table]
        # A larger file before smaller ones waits for others of its size.
        while _size_class(run[0]) > max(_size_class(other) for other in run[1:] or run[:1]):
            run = run[1:]
        if len(run) >= MERGED_FILES:
            return _limited(run, max_bytes)
    return []


def _size_class(table: EventTable) -> int:
    records, size = table.last - table.first + 1, 0
    while records > _SMALLEST * MERGED_FILES**size:
        size += 1
    return size


def _limited(run: Sequence[EventTable], max_bytes: int) -> list[EventTable]:
    """Returns the first tables that make a file of at most `MERGED_RECORDS` and `max_bytes`."""
    merged: list[EventTable] = []
    records = size = 0
    for table in run:
        records += table.last - table.first + 1
        size += table.size
        if merged and (records > MERGED_RECORDS or size > max_bytes):
            break
        merged.append(table)
    return merged if len(merged) > 1 else []
