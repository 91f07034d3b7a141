"""The Parquet files of an event data store: written, merged and read.

Each file has the selected events of a range of the journal
(`adapters/data_directory/sealed_file_names.py`); a mark covers a range without events. The control
store lists a store's files; positions after the last listed one are in the journal only. Separate
files have the events that `StartImport` copies, and count them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import orjson

from opentrail.adapters.data_directory.files import sync_file
from opentrail.adapters.data_directory.sealed_file_names import (
    Series,
    read_name,
    stem_of,
)
from opentrail.adapters.duckdb.expiry import mark_expired
from opentrail.adapters.duckdb.journal_rows import (
    create_records,
    existing_runs,
    insert_records,
    readable,
)
from opentrail.adapters.duckdb.sealed_file import LIMITS, put_in_place
from opentrail.adapters.duckdb.store_folders import (
    SETTINGS,
)
from opentrail.core.entry_matching import EntryBatch
from opentrail.core.event import MANAGEMENT, Entry
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.core.faults import crash_point
from opentrail.lake.dialect import engine
from opentrail.lake.event_history import typed
from opentrail.ports.journal import JournalSource

_BATCH = 1_000
#: Maximum records, and their bytes, in a file before it is merged.
_FILE_RECORDS, _FILE_TEXT = 40_000, 64 << 20
#: Records whose columns DuckDB makes at a time, and their maximum bytes: it needs 20 times as many.
_CHUNK_RECORDS, _CHUNK_TEXT = 2_048, 4 << 20
_FORMAT = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 20480"
#: The same for merged files, whose records may be large: a row group is in memory.
_MERGED_FORMAT = f"{_FORMAT}, ROW_GROUP_SIZE_BYTES '64MB'"
_ROWS = "store_rows"
#: Attempts to read the journal while the server trims it.
_ATTEMPTS = 10


def fill(journal: JournalSource, folder: Path, first: int, until: int) -> None:
    """Writes files with the selected events of a range of the journal.

    Args:
        journal: has the events.
        folder: where the files are made, with the store's settings.
        first: the first position.
        until: the last position.

    Raises:
        RuntimeError: a position of the range is missing in the journal.
    """
    store = EventDataStore.from_document(orjson.loads((folder / SETTINGS).read_bytes()))
    with _writing(folder, store.family) as connection:
        for phase, begin, last in store.phases_of(first, until):
            _fill(connection, journal, folder, store, phase, begin, last)


@contextmanager
def _writing(folder: Path, family: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yields a connection that can make the columns of a family's events."""
    with duckdb.connect(":memory:", config=_config(folder)) as connection:
        # A progress bar would appear in the output of the child.
        connection.execute("SET enable_progress_bar = false")
        engine.prepare(connection, typed(_ROWS, family))
        yield connection


def _config(folder: Path) -> dict[str, str | int | float | list[str]]:
    return {**LIMITS, "temp_directory": str(folder / f"{os.getpid()}.tmp.swap")}


def _scan(paths: Sequence[Path | str]) -> str:
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{names}], hive_partitioning = false)"


def _fill(
    connection: duckdb.DuckDBPyConnection,
    journal: JournalSource,
    folder: Path,
    store: EventDataStore,
    phase: Phase | None,
    first: int,
    last: int,
) -> None:
    """Writes the events that a phase selects of a range; a mark where there are none."""
    while first <= last:
        create_records(connection, _ROWS)
        until = last
        if phase is not None and phase.selectors is not None:
            until = _select(connection, journal, store, phase, first, last)
        (count,) = connection.execute(f"SELECT count(*) FROM {_ROWS}").fetchone() or (0,)
        if count:
            _write(connection, typed(_ROWS, store.family), folder, Series.JOURNAL, first, until)
        else:
            mark_expired(folder, Series.JOURNAL, first, until)
        first = until + 1


def _select(
    connection: duckdb.DuckDBPyConnection,
    journal: JournalSource,
    store: EventDataStore,
    phase: Phase,
    first: int,
    last: int,
) -> int:
    """Adds rows until there are enough for a file; returns the last position read."""
    size = _FileSize()
    matches = store.matcher(phase)
    for begin, end in existing_runs(journal, first, last):
        for entries in _whole(journal, begin, end):
            batch, selected = EntryBatch(entries), list[Entry]()
            for entry in entries:
                if matches(entry, batch):
                    selected.append(entry)
                    size.add(entry.record)
                if size.is_full:
                    break
            insert_records(connection, _ROWS, selected)
            if size.is_full:
                return entry.position
    return last


class _FileSize:
    """Counts the records for a file."""

    def __init__(self) -> None:
        self._records = self._text = self._chunk = 0

    def add(self, record: bytes) -> None:
        if self._records % _CHUNK_RECORDS == 0:
            self._chunk = 0
        self._records += 1
        self._text += len(record)
        self._chunk += len(record)

    @property
    def is_full(self) -> bool:
        return (
            self._records >= _FILE_RECORDS or self._text >= _FILE_TEXT or self._chunk >= _CHUNK_TEXT
        )


def _whole(journal: JournalSource, first: int, last: int) -> Iterator[list[Entry]]:
    """Yields the entries of a range.

    Raises:
        RuntimeError: one is missing.
    """
    for entries in journal.read_range(first, last, _BATCH):
        if entries[-1].position - first + 1 != len(entries):
            break
        yield entries
        first = entries[-1].position + 1
    if first <= last:
        raise RuntimeError(f"the journal does not hold position {first}")


def _write(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    folder: Path,
    series: Series,
    first: int,
    last: int,
    layout: str = _FORMAT,
) -> Path:
    temporary = folder / f"{series.value}{first}.{os.getpid()}.tmp"
    path = str(temporary).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{path}' ({layout})")
    temporary.chmod(0o600)
    sync_file(temporary)
    crash_point("store.written")
    return put_in_place(temporary, stem_of(series, first, last), ".parquet")


def merged(folder: Path, paths: Sequence[Path]) -> Path:
    """Writes a file with the events of adjacent files, in order."""
    first, *_, last = sorted(
        (file for path in paths if (file := read_name(path)) is not None),
        key=lambda file: file.first,
    )
    with duckdb.connect(":memory:", config=_config(folder)) as connection:
        connection.execute("SET enable_progress_bar = false")
        # Otherwise DuckDB does not limit the bytes of a row group. One thread keeps the order.
        connection.execute("SET preserve_insertion_order = false")
        place = (folder, first.series, first.first, last.last)
        return _write(connection, f"SELECT * FROM {_scan(paths)}", *place, _MERGED_FORMAT)


# Copied events


class Additions:
    """Writes files with events of log files; each has a number, which its file's name counts.

    An event whose id the store has is not added again, so an interrupted step can be repeated.

    Args:
        connection: DuckDB.
        folder: where the files are made.
        begin: the number of the first event.
        existing: the store's files.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        begin: int,
        existing: Sequence[Path],
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._next = begin
        self._files = list(existing)
        #: Id → time and record of each event to write.
        self._events: dict[str, tuple[datetime, str]] = {}
        self._size = _FileSize()

    def add(self, event_id: str, time: datetime, record: bytes) -> None:
        """Adds an event; writes a file once there are enough."""
        if event_id in self._events:
            return
        self._events[event_id] = (time, record.decode())
        self._size.add(record)
        if self._size.is_full:
            self.write()

    def write(self) -> None:
        """Writes the events whose id no event of the store has."""
        if not self._events:
            return
        connection = self._connection
        connection.execute(f"CREATE OR REPLACE TABLE {_ROWS} (id VARCHAR, record VARCHAR)")
        events = iter(self._events.items())
        while batch := list(itertools.islice(events, _BATCH)):
            connection.execute(
                f"INSERT INTO {_ROWS} SELECT * FROM unnest($1::VARCHAR[]) AS a(id)"
                " POSITIONAL JOIN unnest($2::VARCHAR[]) AS b(record)",
                [[event_id for event_id, _ in batch], [record for _, (_, record) in batch]],
            )
        times = [time for time, _ in self._events.values()]
        if self._files:
            # The column has whole seconds.
            bounds = (min(times) - timedelta(seconds=1), max(times))
            connection.execute(
                f"DELETE FROM {_ROWS} WHERE id IN (SELECT eventid FROM {_scan(self._files)}"
                f" SEMI JOIN {_ROWS} ON eventid = id WHERE eventtime BETWEEN $1 AND $2)",
                [time.astimezone(UTC).replace(tzinfo=None) for time in bounds],
            )
        (count,) = connection.execute(f"SELECT count(*) FROM {_ROWS}").fetchone() or (0,)
        if count:
            place = (self._folder, Series.IMPORTED, self._next, self._next + count - 1)
            self._files.append(_write(connection, typed(_ROWS, MANAGEMENT), *place))
            self._next += count
        self._events, self._size = {}, _FileSize()


@contextmanager
def adding(folder: Path, begin: int, existing: Sequence[Path]) -> Iterator[Additions]:
    """Yields what writes files with events of log files; they are durable at the end."""
    with _writing(folder, MANAGEMENT) as connection:
        additions = Additions(connection, folder, begin, existing)
        yield additions
        additions.write()


# Reading


def _read_tail(
    connection: duckdb.DuckDBPyConnection,
    tail: str,
    journal: JournalSource,
    store: EventDataStore,
    phase: Phase | None,
    first: int,
    last: int,
) -> int:
    """Adds the rows that a phase selects of a range; returns the characters of their records."""
    if phase is None or phase.selectors is None:
        return 0
    matches, read = store.matcher(phase), 0
    for entries in readable(journal, first, last):
        batch = EntryBatch(entries)
        selected = [entry for entry in entries if matches(entry, batch)]
        read += insert_records(connection, tail, selected)
    return read


class Contents(NamedTuple):
    """The files of a store: paths or addresses, their bytes, and the last position in them."""

    files: Sequence[Path | str]
    bytes: int
    covered: int


def create_view(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    store: EventDataStore,
    contents: Callable[[], Contents],
    journal: JournalSource,
    until: int,
    now: datetime,
) -> tuple[Sequence[Path | str], int]:
    """Makes the view of a store's events up to a position, with the columns of `typed`.

    Args:
        connection: DuckDB.
        view: the name.
        store: the store.
        contents: returns its files; called again if the journal has been trimmed.
        journal: has the events behind the files.
        until: the last position.
        now: the time by which events expire.

    Returns:
        The files that it reads, and the bytes of these and of the records from the journal.
    """
    tail = f"{view}_tail"
    for _ in range(_ATTEMPTS):
        files, read, end = contents()
        begin = end + 1
        create_records(connection, tail)
        for phase, first, last in store.phases_of(begin, until):
            read += _read_tail(connection, tail, journal, store, phase, first, last)
        if begin > until or journal.first_position() <= begin:
            break
        # The server has just written these positions to a file, and trimmed the journal.
    # The columns of these are made where the statement uses them.
    parts = [typed(tail, store.family)]
    if files:
        parts.insert(0, f"SELECT * FROM {_scan(files)}")
    since = store.kept_since(now).replace(tzinfo=None).isoformat(" ")
    connection.execute(
        f"CREATE VIEW {view} AS SELECT * FROM ({' UNION ALL '.join(parts)})"
        f" WHERE eventtime IS NULL OR eventtime >= TIMESTAMP '{since}'"
    )
    return files, read
