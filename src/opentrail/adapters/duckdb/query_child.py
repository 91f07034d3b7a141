"""A process that runs one statement over event history and event data stores, and ends.

python -m opentrail.adapters.duckdb.query_child

The first line of its input is the job, as JSON (`Job`). It prints a line of JSON per step:
`{"columns": …}` once the statement is translated, then `{"outcome": …}`; or `{"refused": …}` or
`{"failed": …}`. It ends with the server, and the server ends it at its deadline. Nothing that it
attaches belongs to another account, and DuckDB is locked before the statement runs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import orjson

from opentrail.adapters.duckdb.journal_rows import (
    COLUMNS,
    create_rows,
    insert_rows,
    readable,
)
from opentrail.adapters.duckdb.store_files import create_view
from opentrail.adapters.files import sync_folder
from opentrail.adapters.journal_source import open_source
from opentrail.adapters.parent import end_with_parent
from opentrail.adapters.sealed_file_names import (
    SealedFile,
    Series,
    attaching,
    read_name,
    sealed_files,
)
from opentrail.adapters.system import sync
from opentrail.core.errors import OpentrailError, StatementRefused, StorageFailed, StoreInactive
from opentrail.core.event import from_micros
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake.dialect import engine
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.scopes import QueryTable
from opentrail.lake.dialect.statements import Translated, translate
from opentrail.lake.event_history import TABLE, VIEW, typed_table
from opentrail.lake.rendering import renderers
from opentrail.ports.event_store import DATA_CATEGORIES

#: Calls and lookups have priority over queries.
_NICENESS = 19
#: Memory that a process needs in addition to its query.
_OVERHEAD = 1 << 30
_STEP = 1_000
_LINES = orjson.OPT_APPEND_NEWLINE
#: A position beyond any journal.
_END = 2**62


#: Attempts to read event history while its files change.
_ATTEMPTS = 10
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


class Job(msgspec.Struct, frozen=True):
    """What to run, and over which events.

    Attributes:
        statement: as the user wrote it.
        tables: names and ids of the store `event_history`.
        history, journal: the folder of sealed files, and the address of the journal.
        stores: documents of created stores, by the names that the statement may have for them.
        store_files: the folder of their folders.
        until: the last position whose events they have.
        now: the time by which their events expire, in microseconds.
        accounts: the accounts whose events are visible; None: all.
        since, data_since: events recorded before these times, in microseconds, have expired.
        result: the file to write.
        memory, result_bytes: limits.
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
        return typed_table(view)


def main() -> None:
    job = msgspec.json.decode(_first_line(), type=Job)
    end_with_parent(may_be_stopped=True)
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
    try:
        _print({"outcome": _run(job, catalog, translated)})
    except duckdb.Error as error:
        _print({"failed": _reason(error, job.store_files)})
    except MemoryError:
        _print({"failed": "Query exceeded its memory"})
    except (OpentrailError, OSError) as error:
        _print({"failed": str(error)})


def _first_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            sys.exit(1)
        line += read
    return bytes(line)


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


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


def _run(job: Job, catalog: _Catalog, translated: Translated) -> dict[str, int]:
    # Statements without a table also count the events of event history.
    reads_history = catalog.reads_history or not catalog.stores
    connection, scanned = _opened(job) if reads_history else (_connect(job), 0)
    engine.prepare(connection)
    files: list[Path] = []
    for view, store in catalog.stores.items():
        folder, source = Path(job.store_files, store.id), open_source(job.journal)
        now = from_micros(job.now)
        paths, read = create_view(connection, view, store, folder, source, job.until, now)
        files += paths
        scanned += read
    # DuckDB opens the files of stores later, and no others.
    connection.execute("SET allowed_paths = $1", [[str(path) for path in files]])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    views = [*([VIEW] if reads_history else []), *catalog.stores]
    counts = " + ".join(f"(SELECT count(*) FROM {view})" for view in views)
    (events,) = connection.execute(f"SELECT {counts}").fetchone() or (0,)
    rows = _write(job, connection.execute(translated.sql), translated)
    return {"rows": rows, "events": events, "bytes": scanned}


def _connect(job: Job) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_CONFIG)
    connection.execute(f"SET memory_limit = '{job.memory >> 20}MB'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def _opened(job: Job) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Returns DuckDB with the view of the visible events, and the bytes that it reads.

    If sealing, merging or expiry replaces files during this call, it starts over, so that it has
    each event once.
    """
    folder = Path(job.history)
    for attempt in range(_ATTEMPTS):
        before = _names(folder)
        connection = _connect(job)
        try:
            scanned = _attach(connection, job)
        except StorageFailed:
            if attempt == _ATTEMPTS - 1 or _names(folder) == before:
                raise
        else:
            if _names(folder) == before:
                return connection, scanned
        connection.close()
    raise StorageFailed("event history changes too fast: try again")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if read_name(path)} if folder.is_dir() else set()


def _attach(connection: duckdb.DuckDBPyConnection, job: Job) -> int:
    """Makes the view of the visible events; returns the bytes of their files and records."""
    folder, scanned = Path(job.history), 0
    parts: list[str] = []
    covered: list[tuple[int, int]] = []
    for series in Series:
        for file in _existing(folder, series):
            if series is Series.JOURNAL:
                covered.append((file.first, file.last))
            if file.is_expired:
                continue
            name = f"file_{len(parts)}"
            try:
                connection.execute(attaching(file.path, name))
            except duckdb.Error as error:
                raise StorageFailed(
                    f"event history file {file.path.name}: {_reason(error)}"
                ) from error
            scanned += file.path.stat().st_size
            parts.append(f"SELECT {COLUMNS} FROM {name}.events")
    create_rows(connection, "tail")
    for first, last in _between(covered):
        scanned += _read_journal(connection, job.journal, first, last)
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


def _read_journal(
    connection: duckdb.DuckDBPyConnection, journal: str, first: int, last: int
) -> int:
    """Adds entries of the journal; returns the bytes of their records. Skips lost positions."""
    return sum(
        insert_rows(connection, "tail", entries)
        for entries in readable(open_source(journal), first, last)
    )


def _write(job: Job, found: duckdb.DuckDBPyConnection, translated: Translated) -> int:
    """Writes each row as a JSON list of strings, syncs the file, and returns the number of rows."""
    kinds = [column.type for column in translated.columns]
    rendered = [
        (number, render, kind)
        for number, (render, kind) in enumerate(zip(renderers(kinds), kinds, strict=True))
        if render is not None
    ]

    def shown(row: Sequence[Any]) -> Sequence[str | None]:
        texts = list(row)
        for number, render, kind in rendered:
            texts[number] = render(texts[number], kind)
        return texts

    final, rows, size = Path(job.result), 0, 0
    temporary = final.with_suffix(".tmp")
    with temporary.open("wb") as file:
        while batch := found.fetchmany(_STEP):
            lines = b"".join(orjson.dumps(shown(row), option=_LINES) for row in batch)
            size += len(lines)
            if size > job.result_bytes:
                limit = job.result_bytes >> 20
                raise StorageFailed(f"the result is larger than {limit} MB: add a LIMIT")
            file.write(lines)
            rows += len(batch)
        file.flush()
        sync(file.fileno())
    temporary.replace(final)
    sync_folder(final.parent)
    return rows


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # DuckDB's Python functions keep the connection alive, which the interpreter would report.
    os._exit(0)
