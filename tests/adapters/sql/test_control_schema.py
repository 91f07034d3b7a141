"""Stores of every version come up to date, whole and once; newer ones are refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.sql.control_store import MIGRATIONS, SqlControl
from opentrail.core.errors import DataTooNew, StorageFailed
from opentrail.ports.control import Put, Stored
from tests.fakes import TIMEOUT_SECONDS, asynchronous
from tests.postgres import ON_POSTGRESQL, database_in, shared_server

NEWEST = max(MIGRATIONS)
#: A store from before schemas had versions; see SOURCES.md.
BEFORE = Path(__file__).parents[2] / "data" / "state-before-migrations.db"
OLD_TABLE = """
    CREATE TABLE documents (
        kind VARCHAR COLLATE "C" NOT NULL, key VARCHAR COLLATE "C" NOT NULL,
        version INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key))
"""
Place = str | Path
NewPlace = Callable[[], Place]


@pytest.fixture(params=["sqlite", ON_POSTGRESQL])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> NewPlace:
    """Returns a function that names an empty database, by URL or file."""
    if request.param == "sqlite":
        return lambda: tmp_path / "state.db"
    return shared_server().new_database


def execute(place: Place, *statements: str) -> list[Any]:
    """Runs statements over a new connection, and returns the rows of the last one."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements][-1]
    server = shared_server()
    return [server.execute(database_in(place), statement) for statement in statements][-1]


#: Name, type and nullability of each column; the columns of the primary key.
TABLES = {
    "sqlite": (
        "SELECT name, type, \"notnull\", pk FROM pragma_table_info('documents') ORDER BY name",
    ),
    "postgresql": (
        "SELECT column_name, data_type, is_nullable, collation_name FROM"
        " information_schema.columns WHERE table_name = 'documents' ORDER BY column_name",
        "SELECT column_name FROM information_schema.key_column_usage"
        " WHERE table_name = 'documents' ORDER BY ordinal_position",
    ),
}


def version_of(place: Place) -> list[Any]:
    return execute(place, "SELECT version_num FROM opentrail_schema")


def old_store(place: Place) -> None:
    execute(place, OLD_TABLE.replace('COLLATE "C"', "") if isinstance(place, Path) else OLD_TABLE)
    execute(place, "INSERT INTO documents VALUES ('trail', 'main', 7, '{\"n\":1}')")


@asynchronous
async def test_a_store_from_before_versions_keeps_all_documents(tmp_path: Path) -> None:
    file = Path(shutil.copy(BEFORE, tmp_path / "state.db"))
    for _ in range(2):
        store = SqlControl.in_file(file)
        assert await store.scan("trail") == [
            Stored("main", 1, {"name": "main", "bucket": "b"}),
            Stored("ä/\U0001f600", 1, {"text": "Zoë \0 \u2028"}),
        ]
        assert await store.get("mark", "journal") == Stored("journal", 4, {"position": 3})
        await store.close()
        assert version_of(file) == [(NEWEST,)]


@pytest.mark.slow
@asynchronous
async def test_old_store_is_migrated_and_can_be_written(new_place: NewPlace) -> None:
    place = new_place()
    old_store(place)
    store = SqlControl(place)
    assert await store.get("trail", "main") == Stored("main", 7, {"n": 1})
    await store.apply([Put("trail", "main", {"n": 2}, expected=7)])
    await store.close()
    assert version_of(place) == [(NEWEST,)]


@pytest.mark.slow
@asynchronous
async def test_migrated_store_has_a_new_ones_tables(tmp_path: Path) -> None:
    for kind, queries in TABLES.items():
        tables = []
        for is_old in (True, False):
            place: Place = tmp_path / f"{is_old}.db"
            if kind == "postgresql":
                place = shared_server().new_database()
            if is_old:
                old_store(place)
            await SqlControl(place).close()
            tables.append([execute(place, query) for query in queries])
        assert tables[0] == tables[1]
        assert len(tables[0][0]) == 5


def test_store_of_a_newer_version_is_refused_unchanged(new_place: NewPlace) -> None:
    place = new_place()
    SqlControl(place)
    execute(place, "UPDATE opentrail_schema SET version_num = '9999'")
    with pytest.raises(DataTooNew, match="schema is 9999, this version knows up to") as caught:
        SqlControl(place)
    assert "upgrade opentrail" in str(caught.value)
    assert version_of(place) == [("9999",)]


def test_another_programs_table_is_left_alone(new_place: NewPlace) -> None:
    place = new_place()
    execute(place, "CREATE TABLE documents (id INTEGER, title TEXT)")
    with pytest.raises(StorageFailed, match="belongs to another program"):
        SqlControl(place)
    assert execute(place, "SELECT id, title FROM documents") == []


OPEN = """
import asyncio, sys
from pathlib import Path
from opentrail.adapters.sql.control_store import SqlControl
place = sys.argv[1]
asyncio.run(SqlControl(place if "://" in place else Path(place)).close())
"""


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize("is_old", [True, False])
def test_several_processes_may_open_a_store_concurrently(new_place: NewPlace, is_old: bool) -> None:
    place = new_place()
    if is_old:
        old_store(place)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(place)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=TIMEOUT_SECONDS)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert version_of(place) == [(NEWEST,)]


@asynchronous
async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    file = Path(shutil.copy(BEFORE, tmp_path / "state.db"))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE VIEW opentrail_schema AS SELECT 1 AS other")
    with pytest.raises(StorageFailed):
        SqlControl.in_file(file)
    with closing(sqlite3.connect(file)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(documents)")]
    assert columns == ["kind", "key", "version", "body"]
