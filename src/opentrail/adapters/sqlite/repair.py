"""Repairs a damaged segment: copies intact entries to a new file, and lists lost positions there.

The new file replaces the damaged one, which is renamed to `<first>.db.damaged`, with its
write-ahead log, for analysis. The next start finishes an interrupted repair.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from opentrail.adapters.data_directory.files import sync_file, sync_folder
from opentrail.adapters.data_directory.system import read_only_uri, sync_at_commit
from opentrail.adapters.entry_check import differing
from opentrail.adapters.sqlite.salvage import rows_in
from opentrail.adapters.sqlite.verify import (
    CHAIN_BEFORE,
    COLUMNS,
    SCHEMA,
    entry_of,
    inserts,
    intact_entries,
    lost_of,
)
from opentrail.core.event import Entry, micros, parse_time
from opentrail.core.faults import crash_point
from opentrail.ports.journal import UNKNOWN_CHAIN, LostPositions, first_not_lost

#: Suffixes of a repaired segment before it replaces the damaged one: complete, and partial.
_REPAIRED, _UNFINISHED = ".repaired", ".repaired.tmp"
_DAMAGED = ".damaged"
#: Maximum positions of damage between two entries of a segment.
_FARTHEST = 1_000_000
#: The last microsecond of the year 9999.
_LATEST = 253_402_300_799_000_000


def repair(
    path: Path, last: int | None, before: bytes, reason: str, known: int = 0
) -> list[LostPositions]:
    """Replaces a damaged or missing segment by a segment with all intact entries.

    Args:
        path: the segment's file, named by its first position.
        last: the last position that was written to it; None if unknown.
        before: the chain before its first position, or `UNKNOWN_CHAIN`.
        reason: the reason for the repair, for messages.
        known: a position known to be written, if `last` is unknown.

    Returns:
        The lost positions.

    Raises:
        OSError: a file cannot be read or written; the segment is unchanged.
        sqlite3.Error: the new file cannot be written; the segment is unchanged.
    """
    first = int(path.stem)
    if path.with_name(path.name + _REPAIRED).exists():
        _put_in_place(path)  # an earlier repair was interrupted
    versions = _readable_entries(path, first, last)
    end = max((known, first - 1, *versions)) if last is None else last
    entries = list(intact_entries(versions, first, end, before))
    # The losses that an earlier repair of the same segment listed.
    known_lost = [run for run in lost_of(path) if run.last is not None]
    if last is None:
        entries = _without_strays(entries, known_lost)
        end = max(known, entries[-1].position if entries else first - 1)
    holes = list(_holes(entries, known_lost, first, end))
    # The reason describes one place.
    hole_reason = reason if len(holes) == 1 else f"segment {path.name} is damaged"
    lost = [*known_lost, *(LostPositions(*hole, hole_reason) for hole in holes)]
    lost.sort(key=lambda lost_run: lost_run.first)
    if last is None:
        lost.append(LostPositions(end + 1, None, reason))
    unfinished = path.with_name(path.name + _UNFINISHED)
    unfinished.unlink(missing_ok=True)
    _write(unfinished, first, before, [_corrected(entry) for entry in entries], lost)
    unfinished.replace(path.with_name(path.name + _REPAIRED))
    sync_folder(path.parent)
    crash_point("journal.repaired")
    _put_in_place(path)
    return lost


def _without_strays(entries: list[Entry], known_lost: Sequence[LostPositions]) -> list[Entry]:
    """Omits last entries whose damaged position is far from all others."""
    for index in range(len(entries) - 1, 0, -1):
        before, after = entries[index - 1].position, entries[index].position
        is_far = after - before > _FARTHEST
        if is_far and first_not_lost(known_lost, before + 1, after - 1) is not None:
            entries = entries[:index]
    return entries


def finish_repairs(folder: Path) -> None:
    """Finishes interrupted repairs."""
    for path in folder.glob(f"*.db{_REPAIRED}"):
        _put_in_place(path.with_name(path.name.removesuffix(_REPAIRED)))


def _put_in_place(path: Path) -> None:
    for ending in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(_unused(Path(f"{path}{_DAMAGED}{ending}")))
    Path(f"{path}-shm").unlink(missing_ok=True)
    path.with_name(path.name + _REPAIRED).replace(path)
    sync_folder(path.parent)


def _unused(path: Path) -> Path:
    """Returns an unused name for a damaged file."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def _readable_entries(path: Path, first: int, last: int | None) -> dict[int, list[Entry]]:
    """Returns every version of every readable entry of a segment."""
    versions_by_position: dict[int, list[Entry]] = {}
    for row in rows_in(path, COLUMNS):
        position = row[0]
        if position < first or (last is not None and position > last):
            continue
        entry = _entry_of(row)
        versions = versions_by_position.setdefault(position, [])
        if entry is not None and entry not in versions:
            versions.append(entry)
    return versions_by_position


def _entry_of(row: tuple[Any, ...]) -> Entry | None:
    """Returns the entry in a row, with an unknown chain if missing; None without a record."""
    *described, chain, record = row
    if not isinstance(record, bytes):
        return None
    if not isinstance(chain, bytes):
        chain = UNKNOWN_CHAIN  # adjacent entries may confirm it
    position, origin, recorded_at, *texts = described
    if not isinstance(recorded_at, int) or not 0 <= recorded_at <= _LATEST:
        recorded_at = _event_time(record)
    return entry_of((position, str(origin), recorded_at, *map(str, texts), chain, record))


def _event_time(record: bytes) -> int:
    try:
        return micros(parse_time(orjson.loads(record)["eventTime"]))
    except (ValueError, TypeError, KeyError):
        return 0


def _corrected(entry: Entry) -> Entry:
    """Returns an entry whose columns match its record, which the hash chain confirms."""
    differences = differing(entry)
    return replace(
        entry,
        event_id=differences.get("event_id", entry.event_id),
        account=differences.get("account", entry.account),
        region=differences.get("region", entry.region),
        category=differences.get("category", entry.category),
    )


def _holes(
    entries: Iterable[Entry],
    known_lost: Iterable[LostPositions],
    first: int,
    last: int,
) -> Iterator[tuple[int, int]]:
    """Yields the runs of missing positions between `first` and `last`."""
    there = [(entry.position, entry.position) for entry in entries]
    there += [(run.first, run.last or 0) for run in known_lost]
    for begin, end in sorted([*there, (last + 1, last + 1)]):
        if first < begin:
            yield first, begin - 1
        first = max(first, end + 1)


def _write(
    path: Path, first: int, before: bytes, entries: list[Entry], lost: list[LostPositions]
) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("PRAGMA journal_mode = WAL")
        sync_at_commit(writer)
        writer.executescript(SCHEMA)
        writer.execute("BEGIN")
        writer.execute("INSERT INTO segment VALUES (?, ?)", (first, before))
        for statement, values in inserts(entries):
            writer.execute(statement, values)
        for run in lost:
            writer.execute("INSERT INTO lost VALUES (?, ?, ?)", (run.first, run.last, run.reason))
        writer.execute("COMMIT")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        writer.close()
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    sync_file(path)


def chain_before_of(path: Path) -> bytes:
    """Returns the segment's own chain before its first entry, or `UNKNOWN_CHAIN`."""
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as reader:
            (chain,) = reader.execute(CHAIN_BEFORE).fetchone()
        return bytes(chain)
    except (sqlite3.Error, TypeError):
        return UNKNOWN_CHAIN
