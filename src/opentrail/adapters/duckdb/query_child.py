"""A process that runs one statement over event history and event data stores, and ends.

python -m opentrail.adapters.duckdb.query_child

The first line of its input is the job, as JSON (`Job`). It prints a line of JSON per step:
`{"columns": …}` once the statement is translated, `{"progress": …}` with the percent that are
done, then `{"outcome": …}`; or `{"refused": …}`,
`{"failed": …}`, or `{"changed": …}` if files were replaced. For each missing block of a file in
S3, it prints `{"block": [NAME, NUMBER]}`, and the server answers with a line: empty, or what went
wrong. It ends with the server, and the server ends it at its deadline. Nothing that it
attaches belongs to another account, and DuckDB is locked before the statement runs.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # until the work begins, since loading makes long-lived objects

import hashlib
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import orjson

from opentrail.adapters.data_directory.files import sync_folder
from opentrail.adapters.data_directory.sealed_file_names import (
    SCHEME,
    SealedFile,
    Series,
    attaching,
    read_name,
    sealed_files,
)
from opentrail.adapters.data_directory.system import sync, tune_garbage_collection
from opentrail.adapters.duckdb.journal_rows import (
    COLUMNS,
    create_rows,
    insert_rows,
    readable,
)
from opentrail.adapters.duckdb.store_files import Contents, create_view
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.adapters.journal_source import open_source
from opentrail.core.errors import (
    DISK_FULL,
    FilesChanged,
    FilesUnreachable,
    OpentrailError,
    StatementRefused,
    StorageFailed,
    StoreInactive,
)
from opentrail.core.event import from_micros
from opentrail.core.event_data_store import ALONE, EventDataStore
from opentrail.lake.dialect import engine
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.scopes import QueryTable
from opentrail.lake.dialect.statements import Translated, translate
from opentrail.lake.event_history import TABLE, VIEW, typed, typed_table
from opentrail.lake.rendering import renderers, row_of
from opentrail.ports.event_store import DATA_CATEGORIES

if TYPE_CHECKING:
    from opentrail.adapters.duckdb.block_cache import FetchedBlocks

#: Calls and lookups have priority over queries.
_NICENESS = 19
#: Memory that a process needs in addition to its query.
_OVERHEAD = 1 << 30
_STEP = 1_000
_LINES = orjson.OPT_APPEND_NEWLINE
#: A position beyond any journal.
_END = 2**62


#: Seconds between two looks at the progress.
_REPORT_SECONDS = 0.5
#: Held while a line is printed.
_printing = threading.Lock()
#: Column of event history → member of the record itself.
_OWN_MEMBERS = {
    "event_source": "eventSource",
    "event_name": "eventName",
    "error_code": "errorCode",
    "source_ip": "sourceIPAddress",
}
#: Attempts to read event history while its files change.
_ATTEMPTS = 10
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


#: First and last position of a file in S3, and its name; None: there are no events.
SharedPart = tuple[int, int, str | None]


class Job(msgspec.Struct, frozen=True):
    """What to run, and over which events.

    Attributes:
        statement: as the user wrote it.
        tables: names and ids of the store `event_history`.
        history, journal: the folder of sealed files, and the address of the journal.
        stores: documents of created stores, by the names that the statement may have for them.
        store_files: the folder in which their names begin, if they are not in S3.
        until: the last position whose events they have.
        now: the time by which their events expire, in microseconds.
        accounts: the accounts whose events are visible; None: all.
        since, data_since: events recorded before these times, in microseconds, have expired.
        result: the file to write.
        memory, result_bytes: limits.
        cache: the folder with blocks of files in S3, if there are such files.
        shared_history: files of event history in S3; None: all are in `history`.
        store_parts: the last position in the files of each store, and their names, by id.
    """

    statement: str
    tables: list[str]
    history: str
    journal: str
    accounts: list[str] | None
    since: int
    data_since: int | None
    result: str
    memory: int
    result_bytes: int
    stores: dict[str, dict[str, Any]] = {}
    store_files: str = ""
    until: int = 0
    now: int = 0
    cache: str = ""
    shared_history: list[SharedPart] | None = None
    store_parts: dict[str, tuple[int, list[str]]] = {}


class _Catalog:
    """The tables that a statement may read, and which it reads."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.reads_history = False
        #: View → store.
        self.stores: dict[str, EventDataStore] = {}

    def table(self, name: str) -> QueryTable | None:
        name = name.lower()
        if name in self._job.tables:
            self.reads_history = True
            return TABLE
        if name not in self._job.stores:
            return None
        store = EventDataStore.from_document(self._job.stores[name])
        if store.deleted_at is not None:
            raise StoreInactive(f"Event data store {store.name} is in status {store.status}.")
        view = f"store_{store.id.replace('-', '_')}"
        self.stores[view] = store
        return typed_table(view, store.family)


def main() -> None:
    tune_garbage_collection()
    job = msgspec.json.decode(_first_line(), type=Job)
    answers = _Answers()
    end_with_parent(may_be_stopped=True, received=answers.receive)
    os.umask(0o077)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory + _OVERHEAD, job.memory + _OVERHEAD))
    catalog = _Catalog(job)
    try:
        translated = translate(job.statement, catalog)
    except StoreInactive as error:
        _print({"inactive": str(error)})
        return
    except StatementRefused as error:
        _print({"refused": str(error)})
        return
    _print({"columns": [[each.name, str(lowered(each.type))] for each in translated.columns]})
    blocks = _blocks(job, catalog, answers)
    try:
        _print({"outcome": _run(job, catalog, translated, blocks)})
    except FilesChanged as error:
        _print({"changed": str(error)})
    except (duckdb.Error, MemoryError, OpentrailError, OSError) as error:
        unreadable = blocks is not None and blocks.failed is not None
        _print({"failed": FilesUnreachable.public_text if unreadable else _failure(error, job)})


def _first_line() -> bytes:
    """Returns the first line of the input; the server writes more only as an answer."""
    line = bytearray()
    while not line.endswith(b"\n"):
        read = os.read(0, 1 << 16)
        if not read:
            sys.exit(1)
        line += read
    return bytes(line)


class _Answers:
    """The server's answers to requests for blocks."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""

    def receive(self, content: bytes) -> None:
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._lines.put(line)

    def fetch(self, name: str, number: int) -> None:
        """Returns once a block is in the cache folder.

        Raises:
            FilesUnreachable: the server cannot download it.
        """
        _print({"block": [name, number]})
        if error := self._lines.get():
            raise FilesUnreachable(error.decode())


def _blocks(job: Job, catalog: _Catalog, answers: _Answers) -> FetchedBlocks | None:
    """Returns the files in S3 that the statement reads."""
    if not job.cache:
        return None
    # Imported here: only members of a cluster have its dependencies.
    from opentrail.adapters.duckdb.block_cache import FetchedBlocks

    blocks = FetchedBlocks(Path(job.cache), answers.fetch)
    history = job.shared_history if catalog.reads_history else None
    names = [name for _, _, name in history or () if name is not None]
    names += [name for each in catalog.stores.values() for name in job.store_parts[each.id][1]]
    for name in names:
        try:
            blocks.add(name)
        except FileNotFoundError:
            _print({"changed": f"the index of {name} is gone"})
            sys.exit(0)
    return blocks


def _print(answer: dict[str, Any]) -> None:
    with _printing:
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


def _failure(error: Exception, job: Job) -> str:
    if isinstance(error, MemoryError):
        return "Query exceeded its memory"
    if "No space left on device" in str(error):
        return DISK_FULL
    return _reason(error, job.store_files) if isinstance(error, duckdb.Error) else str(error)


def _reason(error: duckdb.Error, folder: str = "") -> str:
    """Returns the first line of an error, without DuckDB's own words around it.

    An error about a file in `folder` does not name it.
    """
    message = str(error)
    if folder and folder in message:
        return "a file of an event data store cannot be read: run opentrail verify-store"
    for prefix in ("ValueError: ", "Out of Memory Error: "):
        if prefix in message:
            is_memory = prefix.startswith("Out")
            return "Query exceeded its memory" if is_memory else message.split(prefix, 1)[1]
    return message.split("\n")[0].split(": ", 1)[-1]


def _run(
    job: Job,
    catalog: _Catalog,
    translated: Translated,
    blocks: FetchedBlocks | None = None,
) -> dict[str, int | str]:
    connection, scanned = (
        _opened(job, blocks) if catalog.reads_history else (_connect(job, blocks), 0)
    )
    tables = [typed(view, store.family) for view, store in catalog.stores.items()]
    engine.prepare(connection, " ".join([translated.sql, *tables]))
    files: list[Path | str] = []
    for view, store in catalog.stores.items():
        contents, source = _contents(job, store, blocks), open_source(job.journal)
        now = from_micros(job.now)
        places, read = create_view(connection, view, store, contents, source, job.until, now)
        files += places
        scanned += read
    # DuckDB opens the files of stores later, and no others.
    connection.execute("SET allowed_paths = $1", [[str(path) for path in files]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    views = [*([VIEW] if catalog.reads_history else []), *catalog.stores]
    counts = " + ".join(f"(SELECT count(*) FROM {view})" for view in views) or "0"
    (events,) = connection.execute(f"SELECT {counts}").fetchone() or (0,)
    threading.Thread(target=_report, args=(connection,), name="progress", daemon=True).start()
    rows, digest = _write(job, connection, translated)
    return {"rows": rows, "events": events, "bytes": scanned, "sha256": digest}


def _report(connection: duckdb.DuckDBPyConnection) -> None:
    """Prints the percent that are done, whenever it has grown."""
    known = 0
    while True:
        time.sleep(_REPORT_SECONDS)
        percent = int(connection.query_progress())
        if percent > known:
            known = percent
            _print({"progress": percent})


def _contents(
    job: Job, store: EventDataStore, blocks: FetchedBlocks | None
) -> Callable[[], Contents]:
    """Returns the function that finds the files of a store.

    Raises:
        StorageFailed: one is missing.
    """
    end, names = job.store_parts[store.id]
    if blocks is not None:
        places: list[Path | str] = [f"{SCHEME}://{name}" for name in names]
        size = sum(blocks.index_of(name).size for name in names)
    else:
        places = [Path(job.store_files, name) for name in names]
        try:
            size = sum(Path(place).stat().st_size for place in places)
        except OSError as error:
            raise StorageFailed(f"event data store {store.name}: {error}") from error
    listed = [Contents(places, size, end)]

    def once() -> Contents:
        if not listed:
            raise FilesChanged(f"the files of event data store {store.name} were replaced")
        return listed.pop()

    return once


def _connect(job: Job, blocks: FetchedBlocks | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_CONFIG)
    if blocks is not None:
        blocks.attach(connection)
    connection.execute(f"SET memory_limit = '{job.memory >> 20}MB'")
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    return connection


def _opened(job: Job, blocks: FetchedBlocks | None) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Returns DuckDB with the view of the visible events, and the bytes that it reads.

    If sealing, merging or expiry replaces files during this call, it starts over, so that it has
    each event once.
    """
    folder = Path(job.history)
    for attempt in range(_ATTEMPTS):
        before = _names(folder)
        connection = _connect(job, blocks)
        try:
            scanned = _attach(connection, job, blocks)
        except (StorageFailed, OSError):
            if attempt == _ATTEMPTS - 1 or _names(folder) == before:
                raise
        else:
            if _names(folder) == before:
                return connection, scanned
        connection.close()
    raise StorageFailed("event history changes too fast: try again")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if read_name(path)} if folder.is_dir() else set()


def _attach(connection: duckdb.DuckDBPyConnection, job: Job, blocks: FetchedBlocks | None) -> int:
    """Makes the view of the visible events; returns the bytes of their files and records."""
    files, covered = _history_files(job, blocks)
    parts = [
        part
        for number, (place, _, condition) in enumerate(files)
        for part in _rows(connection, _attached(connection, place, number), condition)
    ]
    scanned = sum(size for _, size, _ in files)
    create_rows(connection, "tail")
    for first, last in _between(covered):
        scanned += _read_journal(connection, job, first, last)
    parts.append(f"SELECT {COLUMNS} FROM tail")
    conditions = [f"(recorded_at >= {job.since} OR recorded_at = 0)"]
    if job.data_since is not None:
        conditions.append(f"(recorded_at >= {job.data_since} OR category NOT IN {DATA_CATEGORIES})")
    if job.accounts is not None:
        visible = ", ".join(f"'{int(account):012}'" for account in job.accounts)
        conditions.append(f"account IN ({visible or 'NULL'})")
    view = f"CREATE VIEW {VIEW} AS SELECT * FROM ({' UNION ALL '.join(parts)})"
    connection.execute(f"{view} WHERE {' AND '.join(conditions)}")
    return scanned


def _history_files(
    job: Job, blocks: FetchedBlocks | None
) -> tuple[list[tuple[Path | str, int, str]], list[tuple[int, int]]]:
    """Returns place, bytes and condition of each file, and the positions that need no journal."""
    files: list[tuple[Path | str, int, str]] = []
    covered: list[tuple[int, int]] = []
    end = 0
    if blocks is not None and job.shared_history:
        end = job.shared_history[-1][1]
        covered.append((1, end))  # the cluster has expired all earlier positions
        names = [name for _, _, name in job.shared_history if name is not None]
        files += [(f"{SCHEME}://{name}", blocks.index_of(name).size, "true") for name in names]
    for series in Series:
        for file in _existing(Path(job.history), series):
            is_recorded, condition = series is Series.JOURNAL, "true"
            if is_recorded and file.last <= end:
                continue  # replaced by files in S3
            if is_recorded and file.first <= end:
                condition = f"position > {end}"
            if is_recorded:
                covered.append((max(file.first, end + 1), file.last))
            if not file.is_expired:
                files.append((file.path, file.path.stat().st_size, condition))
    return files, covered


def _attached(connection: duckdb.DuckDBPyConnection, place: Path | str, number: int) -> str:
    """Attaches a file; returns the table of its events."""
    name = f"file_{number}"
    try:
        connection.execute(attaching(place, name))
    except duckdb.Error as error:
        raise StorageFailed(f"event history file {Path(place).name}: {_reason(error)}") from error
    return f"{name}.events"


def _rows(connection: duckdb.DuckDBPyConnection, table: str, condition: str) -> list[str]:
    """Returns the queries of a file's rows.

    The columns of some events have values from within their records: Insights events name the
    unusual call, and events of channels the other service's. Their records have the events' own.
    Without CASE, DuckDB compares the columns of other events before it reads records.
    """
    found = connection.execute(f"SELECT 1 FROM {table} WHERE category IN {ALONE} LIMIT 1")
    if found.fetchone() is None:
        return [f"SELECT {COLUMNS} FROM {table} WHERE {condition}"]
    own = COLUMNS
    for column, member in _OWN_MEMBERS.items():
        own = own.replace(column, f"record ->> '/{member}' AS {column}")
    return [
        f"SELECT {COLUMNS} FROM {table} WHERE {condition} AND category NOT IN {ALONE}",
        f"SELECT {own} FROM {table} WHERE {condition} AND category IN {ALONE}",
    ]


def _existing(folder: Path, series: Series) -> list[SealedFile]:
    return sealed_files(folder, series) if folder.is_dir() else []


def _between(covered: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the ranges of positions that no file has; the last one is open."""
    after = 0
    for first, last in covered:
        if first > after + 1:
            yield after + 1, first - 1
        after = max(after, last)
    yield after + 1, _END


def _read_journal(connection: duckdb.DuckDBPyConnection, job: Job, first: int, last: int) -> int:
    """Adds entries of the journal; returns the bytes of their records. Skips lost positions."""
    source = open_source(job.journal)
    read = sum(
        insert_rows(connection, "tail", entries) for entries in readable(source, first, last)
    )
    if job.shared_history is not None and source.first_position() > first:
        raise FilesChanged("the journal was trimmed to a newer file of event history")
    return read


def _write(
    job: Job, connection: duckdb.DuckDBPyConnection, translated: Translated
) -> tuple[int, str]:
    """Writes each row as a JSON list of strings, and syncs the file.

    Returns:
        The number of rows, and the SHA-256 of the file.
    """
    final, rows, size, digest = Path(job.result), 0, 0, hashlib.sha256()
    temporary = final.with_suffix(".tmp")
    with temporary.open("wb") as file:
        for lines, count in _lines(connection, translated):
            size += len(lines)
            if size > job.result_bytes:
                limit = job.result_bytes >> 20
                raise StorageFailed(f"the result is larger than {limit} MB: add a LIMIT")
            file.write(lines)
            digest.update(lines)
            rows += count
        file.flush()
        sync(file.fileno())
    temporary.replace(final)
    sync_folder(final.parent)
    return rows, digest.hexdigest()


def _lines(
    connection: duckdb.DuckDBPyConnection, translated: Translated
) -> Iterator[tuple[bytes, int]]:
    """Yields the rows of a result and their number.

    DuckDB shows rows in half the time of Python, but not all types.
    """
    kinds = [column.type for column in translated.columns]
    row = row_of(kinds)
    if row is not None:
        columns = ", ".join(f"r{n}" for n in range(len(kinds)))
        found = connection.execute(f"SELECT {row} FROM ({translated.sql}) AS result({columns})")
        while batch := found.fetchmany(_STEP):
            yield "".join([f"{line}\n" for (line,) in batch]).encode(), len(batch)
        return
    rendered = [(number, render) for number, render in enumerate(renderers(kinds)) if render]
    found = connection.execute(translated.sql)
    while batch := found.fetchmany(_STEP):
        texts = [list(values) for values in batch]
        for number, render in rendered:
            for values in texts:
                values[number] = render(values[number])
        yield b"".join([orjson.dumps(values, option=_LINES) for values in texts]), len(texts)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # DuckDB's Python functions keep the connection alive, which the interpreter would report.
    os._exit(0)
