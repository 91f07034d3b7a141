"""The tables that look-ups read, and the one database that they are attached to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from opentrail.adapters.duckdb.files import SealedFile, attaching
from opentrail.adapters.duckdb.index import Index
from opentrail.adapters.duckdb.schema import FORMAT, Table, create_hot
from opentrail.adapters.duckdb.value_filters import ValueFilter
from opentrail.adapters.system import low_priority_thread
from opentrail.core.errors import StorageFailed
from opentrail.core.event import micros
from opentrail.ports.event_store import EventQuery

T = TypeVar("T")

_ABOUT = (
    "SELECT format, first, last, oldest, newest, newest_recorded, chain_before FROM {name}.about"
)
#: How many rows there are, their first and last position, and how many are not in order.
_ROWS = (
    "SELECT count(*), min(abs(position)), max(abs(position)),"
    " count(*) FILTER (abs(position) <> {first} + rowid) FROM {name}.events"
)
#: So many statements of look-ups run side by side, and of searches by expression, which may take
#: long. DuckDB's own threads would make one statement faster where it reads much, and slower where
#: it reads little, which is most of them.
AT_ONCE, SEARCHES_AT_ONCE = 3, 2
#: A search that is to stop and has not is told again after so many seconds.
_STOP_AGAIN = 0.05
#: Before the first row of an empty table, times are these.
_LATE = 2**62


@dataclass(slots=True, eq=False)
class EventTable:
    """A table with a range of positions; `readers` look-ups are under way in it.

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
    held: ValueFilter | None = None
    readers: int = 0
    #: When its first rows came, by the loop's clock, if it is hot.
    since: float | None = None
    unread: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_import(self) -> bool:
        """Whether it holds imported events."""
        return self.file is not None and self.file.is_import

    def may_hold(self, query: EventQuery) -> bool:
        """Returns whether events that a query wants may be here, by what is known of the table."""
        first = self.first > (query.until_import if self.is_import else query.until_position)
        late = query.start is not None and self.newest < query.start.timestamp()
        early = query.end is not None and self.oldest > query.end.timestamp()
        seen = query.before is not None and self.oldest > query.before[0].timestamp()
        since = query.recorded_since
        stale = since is not None and self.newest_recorded < micros(since)
        absent = (
            query.attribute is not None
            and self.held is not None
            and not self.held.may_have(*query.attribute, query.categories)
        )
        return not (first or late or early or seen or stale or absent)


class _Stop:
    """Ends what a thread has DuckDB do, whatever it is at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._is_set = False

    def now(self) -> None:
        """Interrupts the statement under way; there is no other one after it.

        DuckDB forgets this where the cursor is there and the statement is just about to begin.
        """
        with self._lock:
            self._is_set = True
            if self._cursor is not None:
                self._cursor.interrupt()

    def watch(self, cursor: duckdb.DuckDBPyConnection | None) -> None:
        """Takes the cursor of the next statement, None when it is over.

        Raises:
            InterruptedError: there is to be no other statement.
        """
        with self._lock:
            self._cursor = cursor
            if cursor is not None and self._is_set:
                raise InterruptedError


class Database:
    """DuckDB in memory, with sealed files attached; its work is done in a few threads."""

    def __init__(self, swap: Path) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="history")
        #: What takes long must not hold up look-ups, nor they what is written.
        self._searches = ThreadPoolExecutor(SEARCHES_AT_ONCE, thread_name_prefix="history-search")
        self._writer = low_priority_thread("history-writer")
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                # Else tables in memory are compressed now and then, and everybody waits a second.
                "checkpoint_threshold": "1TB",
                "memory_limit": "768MB",
                "preserve_insertion_order": True,
                "temp_directory": str(swap),
            },
        )
        # Steps of a search that SQL does not decide are longer than the default of 50 rows, too.
        self._connection.execute("SET GLOBAL late_materialization_max_rows = 10000")
        self._numbers = iter(range(1, 1 << 62))
        self._naming = threading.Lock()
        self._stops = threading.local()

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def write(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in the one thread that writes."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *arguments)

    async def search(self, work: Callable[..., T], *arguments: Any) -> T:
        """Returns what `work` gives, done in a thread in which others may take long.

        If this is cancelled it raises that only once the thread has stopped.
        """
        stop = _Stop()

        def stoppable() -> T:
            self._stops.stop = stop
            return work(*arguments)

        done = asyncio.get_running_loop().run_in_executor(self._searches, stoppable)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                stop.now()
                await asyncio.wait([done], timeout=_STOP_AGAIN)
            if not done.cancelled():
                done.exception()  # it is of no use to anybody
            raise

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Returns a statement's rows; for use in threads."""
        cursor = self._connection.cursor()
        stop: _Stop | None = getattr(self._stops, "stop", None)
        try:
            if stop is not None:
                stop.watch(cursor)
            return cursor.execute(statement, list(arguments)).fetchall()
        finally:
            if stop is not None:
                stop.watch(None)
            cursor.close()

    def new_hot(self, first: int) -> EventTable:
        """Returns an empty table in memory."""
        name = self._name("hot")
        self.execute(create_hot(name))
        return EventTable(Table(name), first, first - 1)

    def attach(self, file: SealedFile) -> EventTable:
        """Returns the table of a sealed file.

        Raises:
            StorageFailed: it cannot be read, or does not hold what its name says.
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
                held = self.execute(_ROWS.format(name=name, first=file.first))[0]
                values = ValueFilter(
                    self.execute(f"SELECT attribute, value, category FROM {name}.held")  # noqa: S608
                )
            except (duckdb.Error, IndexError, StorageFailed):
                self.execute(f"DETACH {name}")
                raise
        except (duckdb.Error, IndexError) as error:
            message = f"history: sealed file {file.path} cannot be read: {error}"
            raise StorageFailed(message) from error
        wanted = (file.records, file.first, file.last, 0)
        if held != wanted or about[1:3] != (file.first, file.last):
            self.execute(f"DETACH {name}")
            raise StorageFailed(
                f"history: sealed file {file.path} does not hold what its name says"
            )
        first, last, oldest, newest, recorded, chain = about[1:]
        table = Table(f"{name}.events", Index(name, first, file.is_import))
        return EventTable(table, first, last, oldest, newest, recorded, file, bytes(chain), values)

    def let_go(self, source: EventTable) -> None:
        """Frees what a table holds; nobody may read it any more."""
        if source.file is None:
            self.execute(f"DROP TABLE {source.table.name}")
        else:
            self.execute(f"DETACH {source.table.name.partition('.')[0]}")

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
    """All tables: those of the journal in order of positions, and those of imported events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sources: list[EventTable] = []

    @contextmanager
    def reading(self) -> Iterator[list[EventTable]]:
        """Gives all tables, and keeps them until it is left."""
        sources = self.sources.copy()
        for source in sources:
            source.readers += 1
        try:
            yield sources
        finally:
            for source in sources:
                source.readers -= 1
                source.unread.set()

    def of_journal(self) -> list[EventTable]:
        """Returns the tables of the journal's positions, the hot ones last."""
        return [source for source in self.sources if not source.is_import]

    def full_hot(self) -> list[EventTable]:
        """Returns hot tables that nothing is added to any more."""
        return [source for source in self.of_journal() if source.file is None][:-1]

    def insert(self, source: EventTable) -> None:
        """Adds a table; in order of positions."""
        self.sources = sorted([*self.sources, source], key=_order)

    async def replace(self, old: Sequence[EventTable], *new: EventTable) -> None:
        """Puts tables in the place of others, and frees those once nobody reads them."""
        kept = [source for source in self.sources if source not in old]
        self.sources = sorted([*kept, *new], key=_order)
        for source in old:
            while source.readers:
                source.unread.clear()
                await source.unread.wait()
            await self._database.run(self._database.let_go, source)


def _order(source: EventTable) -> tuple[bool, int, int]:
    return source.is_import, source.first, source.last
