"""A process that runs one statement over event history, and ends.

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
from opentrail.core.errors import JournalDamaged, OpentrailError, StatementRefused, StorageFailed
from opentrail.core.event import micros
from opentrail.lake.dialect import engine
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.scopes import Tables
from opentrail.lake.dialect.statements import Translated, translate
from opentrail.lake.event_history import TABLE, VIEW
from opentrail.lake.rendering import renderers
from opentrail.ports.event_store import DATA_CATEGORIES

#: Calls and lookups have priority over queries.
_NICENESS = 19
#: Memory of a process beyond that of the query itself.
_OVERHEAD = 1 << 30
_STEP = 1_000
_LINES = orjson.OPT_APPEND_NEWLINE
#: A position beyond any journal.
_END = 2**62
_COLUMNS = (
    "position, recorded_at, event_time, event_name, event_source, error_code, source_ip, category,"
    " account, region, record"
)
_TAIL = (
    "CREATE TABLE tail (position BIGINT, recorded_at BIGINT, event_time BIGINT, event_name VARCHAR,"
    " event_source VARCHAR, error_code VARCHAR, source_ip VARCHAR, category VARCHAR,"
    " account VARCHAR, region VARCHAR, record VARCHAR)"
)
_FILL = (
    "INSERT INTO tail SELECT position, recorded_at,"
    " CAST(floor(epoch(TRY_CAST(record ->> '/eventTime' AS TIMESTAMP))) AS BIGINT),"
    " record ->> '/eventName', record ->> '/eventSource', record ->> '/errorCode',"
    " record ->> '/sourceIPAddress', category, account, record ->> '/awsRegion', record"
    " FROM (SELECT unnest(?::BIGINT[]) AS position,"
    " unnest(?::BIGINT[]) AS recorded_at, unnest(?::VARCHAR[]) AS category,"
    " unnest(?::VARCHAR[]) AS account, unnest(?::VARCHAR[]) AS record)"
)


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


def main() -> None:
    job = msgspec.json.decode(_first_line(), type=Job)
    end_with_parent(may_be_stopped=True)
    os.umask(0o077)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory + _OVERHEAD, job.memory + _OVERHEAD))
    try:
        translated = translate(job.statement, Tables(dict.fromkeys(job.tables, TABLE)))
    except StatementRefused as error:
        _print({"refused": str(error)})
        return
    _print({"columns": [[each.name, str(lowered(each.type))] for each in translated.columns]})
    try:
        _print({"outcome": _run(job, translated)})
    except duckdb.Error as error:
        _print({"failed": _reason(error)})
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


def _reason(error: duckdb.Error) -> str:
    """Returns the first line of an error, without DuckDB's own words around it."""
    message = str(error)
    for prefix in ("ValueError: ", "Out of Memory Error: "):
        if prefix in message:
            is_memory = prefix.startswith("Out")
            return "Query exceeded its memory" if is_memory else message.split(prefix, 1)[1]
    return message.split("\n")[0].split(": ", 1)[-1]


def _run(job: Job, translated: Translated) -> dict[str, int]:
    connection, scanned = _opened(job)
    engine.prepare(connection)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    (events,) = connection.execute(f"SELECT count(*) FROM {VIEW}").fetchone() or (0,)
    rows = _write(job, connection.execute(translated.sql), translated)
    return {"rows": rows, "events": events, "bytes": scanned}


def _opened(job: Job) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Returns DuckDB with the view of the visible events, and the bytes that it reads.

    Sealing, merging and expiry may replace files meanwhile: it then starts over, so that it has
    each event once.
    """
    folder = Path(job.history)
    for attempt in range(_ATTEMPTS):
        before = _names(folder)
        connection = duckdb.connect(":memory:", config=_CONFIG)
        connection.execute(f"SET memory_limit = '{job.memory >> 20}MB'")
        connection.execute("SET enable_progress_bar = false")
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
            parts.append(f"SELECT {_COLUMNS} FROM {name}.events")
    connection.execute(_TAIL)
    for first, last in _between(covered):
        scanned += _read_journal(connection, job.journal, first, last)
    parts.append(f"SELECT {_COLUMNS} FROM tail")
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
    source, read = open_source(journal), 0
    while first <= last:
        try:
            for entries in source.read_range(first, last):
                records = [entry.record.decode() for entry in entries]
                values: list[list[Any]] = [
                    [entry.position for entry in entries],
                    [micros(entry.recorded_at) for entry in entries],
                    [entry.category for entry in entries],
                    [entry.account for entry in entries],
                    records,
                ]
                connection.execute(_FILL, values)
                read += sum(map(len, records))
                first = entries[-1].position + 1
        except JournalDamaged as error:
            if error.position < first:
                return read
            first = error.position + 1
        else:
            return read
    return read


def _write(job: Job, found: duckdb.DuckDBPyConnection, translated: Translated) -> int:
    """Writes the rows as lines of JSON, lists of texts, and syncs them; returns their number."""
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
