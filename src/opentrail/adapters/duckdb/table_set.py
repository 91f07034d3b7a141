"""The tables of event history, and the database they are attached to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import numpy as np

from opentrail.adapters.data_directory.sealed_file_names import (
    SCHEME,
    SealedFile,
    Series,
    attaching,
)
from opentrail.adapters.data_directory.system import low_priority_thread
from opentrail.adapters.duckdb.file_index import FileIndex, ValueFilter
from opentrail.adapters.duckdb.index import Index
from opentrail.adapters.duckdb.schema import FORMAT, HOT_COLUMNS, Table, create_hot
from opentrail.core.errors import StorageFailed
from opentrail.core.event import micros
from opentrail.ports.event_store import DATA_CATEGORIES, EventQuery

#: Rows that DuckDB inspects by default to find the type of a column.
_SAMPLE = 1_000
_TYPES: dict[str, type] = {"BIGINT": np.int64, "BOOLEAN": np.bool_}


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: Sequence[tuple[Any, ...]],
    more: Sequence[str] = (),
) -> None:
    """Inserts rows of `HOT_COLUMNS`, and of `more` columns, which hold integers."""
    kinds = {**HOT_COLUMNS, **dict.fromkeys(more, "BIGINT")}
    values = map(_column, kinds.values(), zip(*rows, strict=True))
    # DuckDB finds it by its name.
    given = dict(zip(kinds, values, strict=True))  # noqa: F841
    names = ", ".join(kinds)
    if len(rows) > _SAMPLE:
        # Otherwise it mistakes a column with a late first value for an empty one.
        connection.execute(f"SET pandas_analyze_sample = {len(rows)}")
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM given")  # noqa: S608


def _column(kind: str, values: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    if kind in _TYPES:
        return np.array(values, _TYPES[kind])
    column = np.empty(len(values), object)
    column[:] = values  # `np.array` would take lists of equal length for a second dimension
    return column


T = TypeVar("T")

_ABOUT = (
    "SELECT format, first, last, oldest, newest, newest_recorded, chain_before FROM {name}.about"
)
#: Counts of rows, of rows out of order, of data events, and of rows with expired events.
_ROWS = (
    "SELECT count(*), count(*) FILTER (abs(position) <> {first} + rowid),"
    " count(*) FILTER (category IN {data}), count(*) FILTER (category IS NULL) FROM {name}.events"
)
#: Concurrent lookup statements. DuckDB's own threads would speed up a statement that reads much,
#: and slow down the majority that read little.
PARALLEL_LOOKUPS = 3
#: Concurrent searches by expression; they may take long.
PARALLEL_SEARCHES = 2
#: Seconds before a search that has not stopped is interrupted again.
_INTERRUPT_SECONDS = 0.05
#: The oldest event time of an empty table.
_LATE = 2**62


@dataclass(slots=True, eq=False)
class EventTable:
    """A table with a range of positions; `readers` lookups are reading it.

    `oldest` and `newest` are event times in seconds, `newest_recorded` is in microseconds.
    """

    table: Table
    first: int
    last: int
    oldest: int = _LATE
    newest: int = -1
    newest_recorded: int = -1
    file: SealedFile | None = None
    chain_before: bytes = b""
    values: ValueFilter | FileIndex | None = None
    #: The file is in S3: DuckDB reads blocks of it through a cache.
    is_remote: bool = False
    is_attached: bool = True
    attaching: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: int = 0
    #: When the first rows of a hot table were inserted, by the loop's clock.
    since: float | None = None
    #: Characters of the records of a hot table.
    text: int = 0
    #: Events of a sealed file in `DATA_CATEGORIES`; expired events leave empty rows.
    data: int = 0
    expired: int = 0
    #: Bytes of a sealed file.
    size: int = 0
    #: Its file could not be merged with adjacent ones.
    is_not_merged: bool = False
    unread: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def series(self) -> Series:
        return Series.JOURNAL if self.file is None else self.file.series

    def may_contain(self, query: EventQuery) -> bool:
        """Returns False only if the table has no event of a query."""
        later = self.first > self.series.last_in(query.snapshot)
        late = query.start is not None and self.newest < query.start.timestamp()
        early = query.end is not None and self.oldest > query.end.timestamp()
        paged = query.before is not None and self.oldest > query.before[0].timestamp()
        since = query.recorded_since
        stale = since is not None and self.newest_recorded < micros(since)
        absent = (
            query.attribute is not None
            and self.values is not None
            and not self.values.may_contain(*query.attribute, query.categories)
        )
        return not (later or late or early or paged or stale or absent)


class _Stop:
    """Interrupts the statements of one search."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._is_set = False

    def now(self) -> None:
        """Interrupts the current statement; the search begins no other statement.

        DuckDB ignores this if the statement is just about to begin.
        """
        with self._lock:
            self._is_set = True
            if self._cursor is not None:
                self._cursor.interrupt()

    def watch(self, cursor: duckdb.DuckDBPyConnection | None) -> None:
        """Sets the cursor of the current statement, None after its end.

        Raises:
            InterruptedError: the search has been stopped.
        """
        with self._lock:
            self._cursor = cursor
            if cursor is not None and self._is_set:
                raise InterruptedError


class RemoteFiles(Protocol):
    """Files in S3, which DuckDB reads block by block."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB open the added files."""
        ...

    def open(self, names: Iterable[str]) -> None:
        """Find the cached parts of files with these names, and delete everything else."""
        ...

    def add(self, name: str) -> FileIndex:
        """Add a file, so that DuckDB may open it, and return its index."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def keep(self, folder: str, names: Collection[str]) -> None:
        """Remove files whose names begin with `folder`, except these."""
        ...

    def fetch(self, name: str, number: int) -> None:
        """Return once a block is in the cache folder."""
        ...

    def failure(self) -> StorageFailed | None:
        """Return why a file could not be read in this thread; None if it could."""
        ...


class NoRemoteFiles:
    """All files are on the disk."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Does nothing."""

    def open(self, names: Iterable[str]) -> None:
        """Does nothing."""

    def add(self, name: str) -> FileIndex:
        """Refuses."""
        raise self._refusal(name)

    def remove(self, name: str) -> None:
        """Does nothing."""

    def keep(self, folder: str, names: Collection[str]) -> None:
        """Does nothing."""

    def fetch(self, name: str, number: int) -> None:
        """Refuses."""
        raise self._refusal(name)

    def failure(self) -> None:
        """Returns None."""

    @staticmethod
    def _refusal(name: str) -> StorageFailed:
        return StorageFailed(f"history: {name} is in S3, which only a server with a cache reads")


NO_REMOTE_FILES = NoRemoteFiles()


class Database:
    """DuckDB in memory, with sealed files attached; statements run in a few threads.

    `remote` has files in S3.
    """

    def __init__(self, swap: Path, remote: RemoteFiles = NO_REMOTE_FILES) -> None:
        self._threads = ThreadPoolExecutor(PARALLEL_LOOKUPS, thread_name_prefix="history")
        # Searches may take long: they must not delay lookups, and lookups must not delay inserts.
        self._searches = ThreadPoolExecutor(PARALLEL_SEARCHES, thread_name_prefix="history-search")
        self._writer = low_priority_thread("history-writer")
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                # Other threads would read files in S3, but only the statement thread learns why
                # that fails; and Python must not run in them while the database closes.
                "async_threads": 0,
                # Otherwise DuckDB compresses tables in memory occasionally, and everything waits a
                # second.
                "checkpoint_threshold": "1TB",
                "memory_limit": "768MB",
                "preserve_insertion_order": True,
                "temp_directory": str(swap),
            },
        )
        # Search steps that SQL does not decide also exceed the default of 50 rows.
        self._connection.execute("SET GLOBAL late_materialization_max_rows = 10000")
        self.remote = remote
        remote.attach(self._connection)
        self._numbers = iter(range(1, 1 << 62))
        self._naming = threading.Lock()
        self._stops = threading.local()

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns the result of `work`, run in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns the result of `work`, run in the insert thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    async def search(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns the result of `work`, run in a thread for slow work.

        When cancelled, it returns only after the thread has stopped.
        """
        stop = _Stop()

        def stoppable() -> T:
            self._stops.stop = stop
            return work(*arguments)

        future = asyncio.get_running_loop().run_in_executor(self._searches, stoppable)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                stop.now()
                await asyncio.wait([future], timeout=_INTERRUPT_SECONDS)
            if not future.cancelled():
                future.exception()  # retrieved, so that asyncio does not log it
            raise

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Returns a statement's rows; for use in threads."""
        cursor = self._connection.cursor()
        stop: _Stop | None = getattr(self._stops, "stop", None)
        try:
            if stop is not None:
                stop.watch(cursor)
            return cursor.execute(statement, list(arguments)).fetchall()
        except duckdb.Error as error:
            if (failure := self.remote.failure()) is not None:
                raise failure from error
            raise
        finally:
            if stop is not None:
                stop.watch(None)
            cursor.close()

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts rows into a table in memory; for use in threads."""
        with self._connection.cursor() as cursor:
            insert_rows(cursor, table, rows)

    def new_hot(self, first: int) -> EventTable:
        """Returns an empty table in memory."""
        name = self._name("hot")
        self.execute(create_hot(name))
        return EventTable(Table(name), first, first - 1)

    def attach(self, file: SealedFile) -> EventTable:
        """Returns the table of a sealed file.

        Raises:
            StorageFailed: it cannot be read, or its content does not match its name.
        """
        name = self._name("sealed")
        try:
            self.execute(attaching(file.path, name))
            try:
                about = self.execute(_ABOUT.format(name=name))[0]
                if about[0] != FORMAT:
                    raise StorageFailed(
                        f"history: sealed file {file.path} is of format {about[0]}; this version "
                        f"reads format {FORMAT}"
                    )
                rows = self.execute(
                    _ROWS.format(name=name, first=file.first, data=DATA_CATEGORIES)
                )[0]
                values = ValueFilter(
                    self.execute(f"SELECT attribute, value, category FROM {name}.held")  # noqa: S608
                )
            except (duckdb.Error, IndexError, StorageFailed):
                self.execute(f"DETACH {name}")
                raise
        except (duckdb.Error, IndexError) as error:
            message = f"history: sealed file {file.path} cannot be read: {error}"
            raise StorageFailed(message) from error
        if rows[:2] != (file.records, 0) or about[1:3] != (file.first, file.last):
            self.execute(f"DETACH {name}")
            raise StorageFailed(
                f"history: sealed file {file.path} does not contain what its name says"
            )
        first, last, oldest, newest, recorded, chain = about[1:]
        table = Table(f"{name}.events", Index(name, first, file.series))
        attached = EventTable(
            table, first, last, oldest, newest, recorded, file, bytes(chain), values
        )
        attached.data, attached.expired = rows[2:]
        attached.size = file.path.stat().st_size
        return attached

    def shared(self, file: SealedFile, index: FileIndex) -> EventTable:
        """Returns the table of a file in S3, attached on the first lookup."""
        name = self._name("shared")
        return EventTable(
            Table(f"{name}.events", Index(name, index.first, file.series)),
            index.first,
            index.last,
            index.oldest,
            index.newest,
            index.newest_recorded,
            file,
            index.chain_before,
            index,
            is_remote=True,
            is_attached=False,
        )

    async def ensure_attached(self, table: EventTable) -> None:
        """Attaches the file of a table unless it is already attached.

        Raises:
            FilesUnreachable: it cannot be downloaded.
        """
        async with table.attaching:
            if table.is_attached or table.file is None:
                return
            name = table.table.name.partition(".")[0]
            address = f"{SCHEME}://{table.file.path.name}"
            await self.run(self.execute, f"ATTACH '{address}' AS {name} (READ_ONLY)")
            table.is_attached = True

    def release(self, table: EventTable) -> None:
        """Drops or detaches a table that has no readers."""
        if table.file is None:
            self.execute(f"DROP TABLE {table.table.name}")
        elif table.is_attached:
            self.execute(f"DETACH {table.table.name.partition('.')[0]}")

    def close(self) -> None:
        """Ends the threads and closes the database."""
        self._threads.shutdown(wait=True)
        self._searches.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        self._connection.close()

    def _name(self, kind: str) -> str:
        with self._naming:
            return f"{kind}_{next(self._numbers)}"


class TableSet:
    """The tables of one series, in order of their positions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tables: list[EventTable] = []

    @contextmanager
    def reading(self) -> Iterator[list[EventTable]]:
        """Yields the current tables; none is released inside the `with` block."""
        tables = self.tables.copy()
        for table in tables:
            table.readers += 1
        try:
            yield tables
        finally:
            for table in tables:
                table.readers -= 1
                table.unread.set()

    def sealed(self) -> list[tuple[EventTable, SealedFile]]:
        """Returns the tables of local sealed files, each with its file."""
        return [
            (table, table.file)
            for table in self.tables
            if table.file is not None and not table.is_remote
        ]

    def insert(self, *tables: EventTable) -> None:
        self.tables = sorted([*self.tables, *tables], key=_order)

    async def replace(self, old: Sequence[EventTable], *new: EventTable) -> None:
        """Replaces tables by others, and releases the old ones once they have no readers."""
        self.swap(old, *new)
        await self.release(old)

    def swap(self, old: Sequence[EventTable], *new: EventTable) -> None:
        """Makes later lookups read `new` instead of `old`, which must then be released."""
        others = [table for table in self.tables if table not in (*old, *new)]
        self.tables = sorted([*others, *new], key=_order)

    async def release(self, old: Sequence[EventTable]) -> None:
        """Releases swapped-out tables once they have no readers."""
        for table in old:
            while table.readers:
                table.unread.clear()
                await table.unread.wait()
            await self._database.run(self._database.release, table)


def _order(table: EventTable) -> tuple[int, int]:
    return table.first, table.last
