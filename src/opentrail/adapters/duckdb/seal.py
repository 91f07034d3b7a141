"""Work on sealed files in a child process, which is to be started with the niceness of its pace.

python -m opentrail.adapters.duckdb.seal PARENT PACE journal JOURNAL HISTORY FIRST LAST
python -m opentrail.adapters.duckdb.seal PARENT PACE merge FILE FILE...
python -m opentrail.adapters.duckdb.seal PARENT PACE check FILE...

It ends with its parent, of that process id. The pace is `idle`, which takes only what nobody else
wants of the processors, or `hurried`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import orjson

from opentrail.adapters.duckdb.crash import arm_in_child, end_with_parent
from opentrail.adapters.duckdb.files import SealedFile, attaching, is_whole, read_name
from opentrail.adapters.duckdb.index import merge_indexes
from opentrail.adapters.duckdb.partitions import ColumnPartitioning
from opentrail.adapters.duckdb.schema import SEALED_COLUMNS, insert_sealed, row_of
from opentrail.adapters.duckdb.sealed_file import Sealing, write_sealed
from opentrail.adapters.ipc.messages import pack_entries, unpack_entries
from opentrail.adapters.sqlite.segments import chain_before, lost_between, read_range
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Entry

IDLE, HURRIED = "idle", "hurried"
#: With which a child is to be started. Who reads the journal for it keeps that: it gets its turn
#: soon, and needs it for a moment only.
NICENESS = {IDLE: 10, HURRIED: 5}
#: Exit status of a child that found the journal damaged.
JOURNAL_DAMAGED = 65
#: Begins what the reader sends instead of entries.
_DAMAGED = b"damaged "
#: Entries that are inserted, and that are read, at a time.
_BATCH, _READ_BATCH = 5_000, 500


def seal(journal: Path, history: Path, first: int, last: int) -> Path:
    """Writes the journal's entries `first`…`last` to a file and returns its path.

    Raises:
        RuntimeError: the journal does not hold the whole range.
    """
    batches = read_range(journal, first, last, _BATCH)
    return _seal(history, first, last, chain_before(journal, first), batches)


def _runs(journal: Path, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yields the runs of positions between two that the journal has not lost."""
    for lost in lost_between(journal, first, last):
        if lost.last is not None:
            if first < lost.first:
                yield first, lost.first - 1
            first = max(first, lost.last + 1)
    if first <= last:
        yield first, last


def _seal(
    history: Path, first: int, last: int, before: bytes | None, batches: Iterator[list[Entry]]
) -> Path:
    if before is None:
        raise RuntimeError(f"the journal does not hold position {first}")
    parting = ColumnPartitioning()

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        for batch in batches:
            rows = [row_of(entry, attributes_of(orjson.loads(entry.record))) for entry in batch]
            for statement, arguments in insert_sealed(rows, parting):
                connection.execute(statement, arguments)

    return write_sealed(Sealing(history, first, last, chain_before=before), fill)


@contextmanager
def _read_apart(journal: Path, first: int, last: int) -> Iterator[Iterator[list[Entry]]]:
    """Gives what `read_range` does, read by a process that is not left waiting in the middle of it.

    While anybody reads, SQLite cannot move what is written into the database, and moves all of it
    at once when it can: calls wait for that. Who takes only what is left of the processors may
    stand still for seconds, with tens of megabytes written meanwhile.
    """
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    arguments = (os.getpid(), ours, theirs, journal, first, last)
    reader = forking.Process(target=_send_entries, args=arguments, daemon=True)
    reader.start()
    theirs.close()
    try:
        yield _received(ours)
    finally:
        ours.close()
        reader.kill()
        reader.join()


def _send_entries(
    parent: int, receiving: Connection, to: Connection, journal: Path, first: int, last: int
) -> None:
    end_with_parent(parent)
    receiving.close()
    try:
        for entries in read_range(journal, first, last, _READ_BATCH):
            to.send_bytes(pack_entries(entries))
    except JournalDamaged as error:
        to.send_bytes(_DAMAGED + str(error).encode())


def _received(connection: Connection) -> Iterator[list[Entry]]:
    """Yields what is sent; who writes the file counts what came."""
    batch: list[Entry] = []
    with suppress(EOFError):
        while True:
            received = connection.recv_bytes()
            if received.startswith(_DAMAGED):
                raise JournalDamaged(received.removeprefix(_DAMAGED).decode(), 0)
            batch += unpack_entries(received)
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def merge(paths: Sequence[Path]) -> Path:
    """Writes the rows of files whose ranges follow one another to one file.

    The files stay; the merged one makes them superfluous.

    Raises:
        RuntimeError: the ranges do not follow one another.
    """
    files = sorted((_named(path) for path in paths), key=lambda file: file.first)
    for before, after in itertools.pairwise(files):
        if after.first != before.last + 1 or after.is_import != before.is_import:
            raise RuntimeError(f"{after.path.name} does not follow {before.path.name}")
    with duckdb.connect(str(files[0].path), read_only=True) as first:
        (chain,) = first.execute("SELECT chain_before FROM about").fetchall()[0]

    parts = [(f"part_{file.first}", file.first) for file in files]

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        for file, (part, _) in zip(files, parts, strict=True):
            connection.execute(attaching(file.path, part))
            connection.execute(
                f"INSERT INTO made.events ({SEALED_COLUMNS})"  # noqa: S608 - ours
                f" SELECT {SEALED_COLUMNS} FROM {part}.events"
            )
            if file.is_import:
                connection.execute(
                    f"INSERT INTO made.imported SELECT * FROM {part}.imported"  # noqa: S608
                )

    def index(connection: duckdb.DuckDBPyConnection, first: int) -> None:
        merge_indexes(connection, parts, first)

    first_file, last_file = files[0], files[-1]
    folder, is_import = first_file.path.parent, first_file.is_import
    sealing = Sealing(folder, first_file.first, last_file.last, is_import, chain)
    return write_sealed(sealing, fill, index=index)


def _named(path: Path) -> SealedFile:
    file = read_name(path)
    if file is None:
        raise RuntimeError(f"{path.name} is no sealed file")
    return file


def damaged(paths: Sequence[Path]) -> list[Path]:
    """Returns the files whose content is not what their names say; those that are gone are not."""
    found = []
    for path in paths:
        try:
            if not is_whole(_named(path)):
                found.append(path)
        except FileNotFoundError:
            continue
        except OSError:  # as of a disk that cannot read it any more
            found.append(path)
    return found


def main() -> None:
    """Runs as a child: works at its pace, prints the paths that come of it."""
    parent, pace, work, *arguments = sys.argv[1:]
    end_with_parent(int(parent))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent ignores it
    arm_in_child(("history.sealed",), [os.getpid(), os.getppid()])
    if work == "journal":
        journal, history = map(Path, arguments[:2])
        first, last = map(int, arguments[2:])
        try:
            made = _sealed(journal, history, first, last, pace)
        except JournalDamaged as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(JOURNAL_DAMAGED)
    else:
        _slow_down(pace)
        paths = [Path(argument) for argument in arguments]
        made = [merge(paths)] if work == "merge" else damaged(paths)
    sys.stdout.write("".join(f"{path}\n" for path in made))


def _sealed(journal: Path, history: Path, first: int, last: int, pace: str) -> list[Path]:
    """Writes a file for each run of positions that the journal has not lost; returns the paths."""
    made = []
    for begin, end in _runs(journal, first, last):
        before = chain_before(journal, begin)
        with _read_apart(journal, begin, end) as batches:
            _slow_down(pace)
            made.append(_seal(history, begin, end, before, batches))
    return made


def _slow_down(pace: str) -> None:
    if pace == IDLE:
        # Whatever wakes up goes first, and on a processor that does this as on a free one.
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    main()
