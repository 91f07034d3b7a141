"""Writing one sealed file: temporary name, sync, hash, final name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from opentrail.adapters.data_directory.files import sync_file, sync_folder
from opentrail.adapters.data_directory.sealed_file_names import (
    Series,
    attaching,
    digest_of,
    stem_of,
)
from opentrail.adapters.duckdb.file_index import VALUES, fill_values
from opentrail.adapters.duckdb.index import begin_index, fill_index
from opentrail.adapters.duckdb.schema import ABOUT, FORMAT, IMPORTED, create_sealed
from opentrail.core.faults import crash_point

#: Limits of a process that writes files.
LIMITS: dict[str, str | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "384MB",
    "preserve_insertion_order": True,
}
#: Maximum characters of the records sealed to one file: all are in memory together.
MAX_TEXT = 256 << 20
#: Bytes of a block in small files; DuckDB's default of 256 KiB makes them at least 1.6 MB.
_SMALL_BLOCK = 1 << 16
_TIMES = "SELECT min(event_time), max(event_time), max(recorded_at), count(*) FROM made.events"


@dataclass(frozen=True, slots=True)
class Sealing:
    """Where a file to write begins."""

    folder: Path
    series: Series
    first: int
    #: The journal's chain before the first position.
    chain_before: bytes = b""
    #: The parts of a merged file of imported events, as its name gives them.
    parts: str | None = None
    #: Suffix of a file's name until it replaces another file.
    ending: str = ""
    #: It will have few events.
    is_small: bool = False


def write_sealed(
    sealing: Sealing,
    fill: Callable[[duckdb.DuckDBPyConnection], int],
    connection: duckdb.DuckDBPyConnection | None = None,
    index: Callable[[duckdb.DuckDBPyConnection, int], None] = fill_index,
) -> Path:
    """Writes a file, whose rows `fill` inserts with `insert_sealed`, and returns its path.

    Args:
        sealing: the start of the file.
        fill: inserts the rows through its connection argument, and returns the last position
            that the file must have.
        connection: a connection that already contains the rows; by default a new one.
        index: fills the index, given the first row's number.

    Raises:
        RuntimeError: the number of rows differs from the range's; no file is left.
    """
    temporary = sealing.folder / f"{sealing.series.value}{sealing.first}.{os.getpid()}.tmp"
    with contextlib.ExitStack() as stack:
        if connection is None:
            swap = {"temp_directory": f"{temporary}.swap"}
            connection = stack.enter_context(duckdb.connect(":memory:", config={**LIMITS, **swap}))
        # A progress bar would appear between the paths that a child prints.
        connection.execute("SET enable_progress_bar = false")
        blocks = f" (BLOCK_SIZE {_SMALL_BLOCK})" if sealing.is_small else ""
        connection.execute(attaching(temporary, "made", options=blocks))
        count, last = -1, sealing.first
        try:
            count, last = _filled(connection, sealing, fill, index)
            connection.execute("DETACH made")
        finally:
            if count < 0:
                _abandon(connection)
            expected = last - sealing.first + 1
            if count != expected:
                for path in (temporary, temporary.with_name(f"{temporary.name}.wal")):
                    path.unlink(missing_ok=True)
    if count != expected:
        raise RuntimeError(f"{count} of the {expected} entries to seal were found")
    sync_file(temporary)
    crash_point("history.sealed")
    parts = f"-{sealing.parts}" if sealing.parts else ""
    stem = stem_of(sealing.series, sealing.first, last)
    return put_in_place(temporary, stem, f"{parts}.duckdb{sealing.ending}")


def put_in_place(temporary: Path, stem: str, ending: str) -> Path:
    """Gives a synced file its final name, with its hash, and returns that."""
    target = temporary.with_name(f"{stem}-{digest_of(temporary)}{ending}")
    temporary.replace(target)
    sync_folder(target.parent)
    return target


def _filled(
    connection: duckdb.DuckDBPyConnection,
    sealing: Sealing,
    fill: Callable[[duckdb.DuckDBPyConnection], int],
    index: Callable[[duckdb.DuckDBPyConnection, int], None],
) -> tuple[int, int]:
    """Fills the attached file and returns the number of its rows, and the result of `fill`."""
    connection.execute(create_sealed())
    connection.execute(ABOUT)
    if sealing.series is Series.IMPORTED:
        connection.execute(IMPORTED)
    connection.execute(VALUES)
    begin_index(connection)
    # One transaction: otherwise each statement rewrites blocks of the previous one, and half of the
    # file stays empty.
    connection.execute("BEGIN")
    last = fill(connection)
    index(connection, sealing.first)
    fill_values(connection)
    oldest, newest, recorded, count = connection.execute(_TIMES).fetchall()[0]
    about = [FORMAT, sealing.first, last, sealing.chain_before]
    connection.execute(
        "INSERT INTO made.about VALUES (?, ?, ?, ?, ?, ?, ?)", [*about, oldest, newest, recorded]
    )
    connection.execute("COMMIT")
    connection.execute("CHECKPOINT made")
    return int(count), last


def _abandon(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends the writing of a file; a failed commit has already ended the transaction."""
    for statement in ("ROLLBACK", "DETACH made"):
        with contextlib.suppress(duckdb.Error):
            connection.execute(statement)
