"""Writes and checks sealed files, in a child process of low priority.

    python -m opentrail.adapters.duckdb.seal journal JOURNAL HISTORY FIRST LAST
    python -m opentrail.adapters.duckdb.seal merge FILE FILE...
    python -m opentrail.adapters.duckdb.seal thin FILE
    python -m opentrail.adapters.duckdb.seal check FILE...
    python -m opentrail.adapters.duckdb.seal index FILE...
    python -m opentrail.adapters.duckdb.seal store JOURNAL FOLDER FIRST LAST
    python -m opentrail.adapters.duckdb.seal merge-store FOLDER FILE FILE...

`store` writes the events that an event data store selects to files in a folder. It ends with its
parent: its standard input is a pipe from the parent.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until the work begins, since loading makes long-lived objects

import itertools
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import duckdb
import orjson

from opentrail.adapters.data_directory.sealed_file_names import (
    SealedFile,
    Series,
    attaching,
    is_whole,
    parts_of,
    read_name,
)
from opentrail.adapters.data_directory.system import (
    restore_garbage_collection,
    tune_garbage_collection,
)
from opentrail.adapters.duckdb.children import JOURNAL_DAMAGED
from opentrail.adapters.duckdb.expiry import THINNED
from opentrail.adapters.duckdb.file_index import write_index
from opentrail.adapters.duckdb.index import merge_indexes, thin_index
from opentrail.adapters.duckdb.journal_rows import existing_runs
from opentrail.adapters.duckdb.record_columns import ColumnPartitioning
from opentrail.adapters.duckdb.schema import SEALED_COLUMNS, insert_sealed, row_of
from opentrail.adapters.duckdb.sealed_file import MAX_TEXT, Sealing, write_sealed
from opentrail.adapters.ipc.child import arm_in_child
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.adapters.journal_source import open_source
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Entry
from opentrail.ports.event_store import DATA_CATEGORIES
from opentrail.ports.journal import JournalSource

#: Entries per read. Each read is a separate transaction: SQLite cannot checkpoint its write-ahead
#: log while one is open.
_BATCH = 1_000
#: Fewer entries, or bytes to merge, make a small file.
_FEW = 40_000
_SMALL_BYTES = 16 << 20


def seal(journal: JournalSource, history: Path, first: int, last: int) -> list[Path]:
    """Writes the journal's entries `first`…`last` to files and returns their paths.

    One file, or several for large records.

    Raises:
        RuntimeError: part of the range is missing from the journal.
    """
    paths: list[Path] = []
    batches = journal.read_range(first, last, _BATCH)
    while first <= last:
        before = journal.chain_before(first)
        if before is None:
            raise RuntimeError(f"the journal does not hold position {first}")
        is_small = last - first < _FEW
        sealing = Sealing(history, Series.JOURNAL, first, before, is_small=is_small)
        paths.append(write_sealed(sealing, partial(_fill, batches, last)))
        first = _sealed_file(paths[-1]).last + 1
    return paths


def _fill(batches: Iterator[list[Entry]], last: int, connection: duckdb.DuckDBPyConnection) -> int:
    """Inserts entries up to `last`, or until a file is full, and returns the last position."""
    partitioning = ColumnPartitioning()
    text = 0
    for entries in batches:
        rows = [row_of(entry, attributes_of(orjson.loads(entry.record))) for entry in entries]
        for statement, arguments in insert_sealed(rows, partitioning):
            connection.execute(statement, arguments)
        text += sum(len(entry.record) for entry in entries)
        if text > MAX_TEXT:
            return entries[-1].position
    return last


def merge(paths: Sequence[Path]) -> Path:
    """Writes the rows of files with adjacent ranges to one file; the caller deletes them.

    Raises:
        RuntimeError: the ranges are not adjacent.
    """
    files = sorted((_sealed_file(path) for path in paths), key=lambda file: file.first)
    for before, after in itertools.pairwise(files):
        if after.first != before.last + 1 or after.series is not before.series:
            raise RuntimeError(f"{after.path.name} does not follow {before.path.name}")
    with duckdb.connect(str(files[0].path), read_only=True) as first:
        (chain,) = first.execute("SELECT chain_before FROM about").fetchall()[0]

    parts = [(f"part_{file.first}", file.first) for file in files]

    def fill(connection: duckdb.DuckDBPyConnection) -> int:
        for file, (part, _) in zip(files, parts, strict=True):
            connection.execute(attaching(file.path, part))
            connection.execute(
                f"INSERT INTO made.events ({SEALED_COLUMNS})"  # noqa: S608 - ours
                f" SELECT {SEALED_COLUMNS} FROM {part}.events"
            )
            if file.series is Series.IMPORTED:
                connection.execute(
                    f"INSERT INTO made.imported SELECT * FROM {part}.imported"  # noqa: S608
                )
        return files[-1].last

    def index(connection: duckdb.DuckDBPyConnection, first: int) -> None:
        merge_indexes(connection, parts, first)

    start = files[0]
    merged = parts_of(files) if start.series is Series.IMPORTED else None
    is_small = sum(path.stat().st_size for path in paths) < _SMALL_BYTES
    place = (start.path.parent, start.series, start.first)
    sealing = Sealing(*place, chain, merged, is_small=is_small)
    return write_sealed(sealing, fill, index=index)


def thin(path: Path) -> Path:
    """Writes a file without its data events; the caller replaces the file with it.

    Their rows stay, empty, because a row's number is its position.
    """
    file, kept = _sealed_file(path), f"category NOT IN {DATA_CATEGORIES}"
    with duckdb.connect(str(path), read_only=True) as connection:
        (chain,) = connection.execute("SELECT chain_before FROM about").fetchall()[0]

    def fill(connection: duckdb.DuckDBPyConnection) -> int:
        connection.execute(attaching(path, "part"))
        columns = [f"CASE WHEN {kept} THEN {name} END" for name in SEALED_COLUMNS.split(", ")]
        connection.execute(
            f"INSERT INTO made.events ({SEALED_COLUMNS})"  # noqa: S608 - ours
            f" SELECT {', '.join(columns)} FROM part.events"
        )
        if file.series is Series.IMPORTED:
            connection.execute("INSERT INTO made.imported SELECT * FROM part.imported")
        return file.last

    def index(connection: duckdb.DuckDBPyConnection, _first: int) -> None:
        thin_index(connection, "part", kept)

    parts = parts_of([file]) if file.series is Series.IMPORTED else None
    sealing = Sealing(path.parent, file.series, file.first, chain, parts, THINNED, is_small=True)
    return write_sealed(sealing, fill, index=index)


def _sealed_file(path: Path) -> SealedFile:
    file = read_name(path)
    if file is None:
        raise RuntimeError(f"{path.name} is not a sealed file")
    return file


def damaged(paths: Sequence[Path]) -> list[Path]:
    """Returns the files whose content does not match the hash in their name."""
    damaged_paths = []
    for path in paths:
        try:
            if not is_whole(_sealed_file(path)):
                damaged_paths.append(path)
        except FileNotFoundError:
            continue  # merged or expired since
        except OSError:  # the disk cannot read it
            damaged_paths.append(path)
    return damaged_paths


def main() -> None:
    """Prints the paths of written or damaged files."""
    tune_garbage_collection()
    work, *arguments = sys.argv[1:]
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent ignores it
    arm_in_child(("history.sealed", "store.written"))
    try:
        paths = _work(work, arguments)
    except JournalDamaged as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(JOURNAL_DAMAGED)
    finally:
        restore_garbage_collection()
    sys.stdout.write("".join(f"{path}\n" for path in paths))


def _work(work: str, arguments: Sequence[str]) -> list[Path]:
    if work == "journal":
        journal, history, first, last = arguments
        source = open_source(journal)
        runs = existing_runs(source, int(first), int(last))
        return [path for run in runs for path in seal(source, Path(history), *run)]
    if work == "store":
        # Imported here: other work needs no SQL dialect.
        from opentrail.adapters.duckdb.store_files import fill

        journal, folder, first, last = arguments
        fill(open_source(journal), Path(folder), int(first), int(last))
        return []
    files = [Path(argument) for argument in arguments]
    if work == "merge-store":
        from opentrail.adapters.duckdb.store_files import merged

        return [merged(files[0], files[1:])]
    if work == "index":
        return [write_index(file) for file in files]
    works = {"merge": lambda: [merge(files)], "thin": lambda: [thin(files[0])]}
    return works.get(work, lambda: damaged(files))()


if __name__ == "__main__":
    main()
