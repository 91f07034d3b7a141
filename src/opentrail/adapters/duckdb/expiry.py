"""Expiry of sealed files, safe against crashes and full disks.

`<name>.expiry` lists the expiring events of a file. It is durable before anything is deleted, the
next start completes it, and it stays until `EventsExpired` is recorded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from opentrail.adapters.data_directory.files import sync_file, sync_folder
from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    expired_name,
    read_name,
    remove,
)
from opentrail.adapters.data_directory.system import sync
from opentrail.core.faults import crash_point
from opentrail.ports.event_store import ExpiredEvents, ExpiryReason

log = logging.getLogger(__name__)

#: Suffix of a file without its expired events, before it replaces the original.
THINNED = ".thin"
_NOTE = ".expiry"
#: The next note: its blocks are already allocated, because the disk may be full later.
_SPARE = "spare.note"
_SIZE = 4096
_CONTENTS = (
    "SELECT category, count(*), min(abs(position)), max(abs(position)), min(event_time),"
    " max(event_time) FROM {table} WHERE category IS NOT NULL GROUP BY category ORDER BY category"
)


class ExpiryNote(msgspec.Struct, frozen=True):
    """Events of a sealed file that expire; `new` is the file without them, None if all expire."""

    old: str
    new: str | None
    #: First number of the range marked as expired.
    first: int
    last: int
    events: tuple[ExpiredEvents, ...]


def contents_of(table: str, series: Series, reason: ExpiryReason) -> tuple[str, Any]:
    """Returns the statement that lists a table's events, and the function that parses a row."""

    def events(row: Sequence[Any]) -> ExpiredEvents:
        category, count, first, last, oldest, newest = row
        sign = -1 if series is Series.IMPORTED else 1
        times = (datetime.fromtimestamp(oldest, UTC), datetime.fromtimestamp(newest, UTC))
        return ExpiredEvents(category, reason, count, sign * first, sign * last, *times)

    return _CONTENTS.format(table=table), events


def reserve_note(folder: Path) -> None:
    """Creates the file of the next note.

    Raises:
        OSError: the disk has no room even for this.
    """
    spare = folder / _SPARE
    if spare.exists() and spare.stat().st_size == _SIZE:
        return
    spare.unlink(missing_ok=True)
    descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, b" " * _SIZE)
        sync(descriptor)
    except OSError:
        spare.unlink()
        raise
    finally:
        os.close(descriptor)


def write_note(folder: Path, note: ExpiryNote) -> None:
    """Makes a note durable without allocating disk space."""
    reserve_note(folder)
    spare = folder / _SPARE
    with spare.open("r+b", buffering=0) as file:
        file.write(msgspec.json.encode(note).ljust(_SIZE))
    sync_file(spare)
    spare.replace(folder / f"{note.old}{_NOTE}")
    sync_folder(folder)
    crash_point("history.expiring")


def notes(folder: Path) -> Iterator[tuple[Path, ExpiryNote]]:
    """Yields the notes whose expiry is not recorded yet."""
    for path in sorted(folder.glob(f"*{_NOTE}")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=ExpiryNote)
        except msgspec.MsgspecError as error:
            log.error("note of an expiry damaged", extra={"file": path.name, "error": str(error)})


def finish(folder: Path) -> None:
    """Completes expiries interrupted by a crash."""
    for _, note in notes(folder):
        old = read_name(folder / note.old)
        if note.new is not None:
            put_thinned(folder, note.new)
        elif old is not None:
            mark_expired(folder, old.series, note.first, note.last)
        if note.new is None or (folder / note.new).exists():
            remove([folder / note.old])


def put_thinned(folder: Path, name: str) -> None:
    """Gives a thinned file its final name, unless it has it."""
    thinned = folder / f"{name}{THINNED}"
    if thinned.exists():
        thinned.replace(folder / name)
        sync_folder(folder)
        crash_point("history.thinned")


def mark_expired(folder: Path, series: Series, first: int, last: int) -> None:
    """Creates the empty file whose name marks a range as expired.

    A mark of the journal's positions replaces the marks that it overlaps or continues.
    """
    marks: list[SealedFile] = []
    if series is Series.JOURNAL:
        files = (read_name(path) for path in folder.glob("*.expired"))
        marks = [file for file in files if file is not None and file.series is series]
        if any(mark.first <= first and last <= mark.last for mark in marks):
            return
        for mark in sorted(marks, key=lambda mark: mark.first, reverse=True):
            if mark.first <= last + 1 and first <= mark.last + 1:
                first, last = min(first, mark.first), max(last, mark.last)
    name = expired_name(series, first, last)
    (folder / name).touch(mode=0o600)
    sync_folder(folder)
    crash_point("history.expired")
    remove(m.path for m in marks if first <= m.first and m.last <= last and m.path.name != name)
