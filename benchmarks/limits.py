"""The same look-ups without opentrail: bare DuckDB on the same files, chDB on the same events."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import venv
from pathlib import Path

import duckdb

from benchmarks.wire import percentile
from opentrail.adapters.data_directory.sealed_file_names import read_name
from opentrail.adapters.duckdb.index import Index
from opentrail.adapters.duckdb.record_columns import PARTS
from opentrail.adapters.duckdb.schema import Table, select_page, select_rows
from opentrail.ports.event_store import EventQuery

Figures = dict[str, float]
CACHE = Path(__file__).parent / ".cache"
CHDB = "chdb>=4,<5"
#: All columns, with those that opentrail keeps in an index.
_ROWS = f"""
    SELECT * EXCLUDE (part, record_0, record_1, record_2, record_3),
        record ->> 'eventID' AS event_id,
        coalesce(names, []) AS resource_names
    FROM events
    LEFT JOIN (
        SELECT -(about.first + place // {PARTS}) AS position, list(name) AS names
        FROM (SELECT name, unnest(places) AS place FROM resources), about GROUP BY ALL
    ) USING (position)
"""


def bare_duckdb(folder: Path, values: dict[str, list[str]]) -> Figures:
    """Asks each file for its page, newest first, with the statements that opentrail uses."""
    database = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
    tables = []
    for number, file in enumerate(sorted(folder.glob("import-*.duckdb"))):
        database.execute(f"ATTACH '{file}' AS f{number} (READ_ONLY)")
        newest = database.execute(f"SELECT max(event_time) FROM f{number}.events").fetchall()[0][0]
        named = read_name(file)
        assert named is not None
        index = Index(f"f{number}", named.first, named.series)
        tables.append((newest, number, Table(f"f{number}.events", index)))
    figures: Figures = {}
    worst = 0.0
    for key, drawn in values.items():
        taken = []
        for value in drawn:
            query = EventQuery(
                50,
                account="123456789012",
                region="us-east-1",
                categories=("Management",),
                attribute=(key, value),
            )
            started = time.perf_counter()
            page: list[tuple[int, int, int, int, Table]] = []
            for newest, _, table in sorted(tables, reverse=True, key=lambda item: item[:2]):
                if len(page) == 50 and newest < page[-1][0]:
                    break
                rows = database.execute(*select_page(table, query, table.keys)).fetchall()
                page = sorted([*page, *((*row, table) for row in rows)], key=_order)[:50]
            for table in {row[4] for row in page}:
                rows = [(row[2], row[3]) for row in page if row[4] is table]
                for statement, arguments in select_rows(table, rows):
                    database.execute(statement, arguments).fetchall()
            taken.append((time.perf_counter() - started) * 1000)
        figures[f"bare DuckDB, {key} p99 ms"] = percentile(taken, 0.99)
        worst = max(worst, percentile(taken, 0.99))
    database.close()
    return {**figures, "bare DuckDB, worst p99 ms": worst}


def _order(row: tuple[int, int, int, int, Table]) -> tuple[int, int]:
    return -row[0], -row[1]


def chdb(folder: Path, values: dict[str, list[str]]) -> Figures:
    """Loads the events into chDB, in order of their times, and asks the same of it."""
    python = CACHE / "chdb" / "bin" / "python"
    if not python.exists():
        venv.create(CACHE / "chdb", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", CHDB], check=True)
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        (place / "values.json").write_text(json.dumps(values))
        started = time.perf_counter()
        loading = subprocess.Popen(
            [python, Path(__file__).with_name("chdb_child.py"), work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert loading.stdin is not None
        assert loading.stdout is not None
        for number, file in enumerate(sorted(folder.glob("import-*.duckdb"))):
            part = place / f"{number}.parquet"
            with duckdb.connect(str(file), read_only=True) as database:
                database.execute(f"COPY ({_ROWS}) TO '{part}' (FORMAT parquet, COMPRESSION lz4)")
            loading.stdin.write(f"{part}\n")
            loading.stdin.flush()
            if loading.stdout.readline() != "taken\n":
                raise RuntimeError("chDB did not take the events")
            part.unlink()
        loaded = time.perf_counter() - started
        loading.stdin.close()
        told = json.loads(loading.stdout.readline())
        if loading.wait():
            raise RuntimeError("chDB ended with an error")
    figures: Figures = {"chDB, s to load": loaded, "chDB, bytes a record": told.pop("bytes")}
    for key, taken in told.items():
        figures[f"chDB, {key} p99 ms"] = percentile(taken, 0.99)
    figures["chDB, worst p99 ms"] = max(percentile(taken, 0.99) for taken in told.values())
    return figures
