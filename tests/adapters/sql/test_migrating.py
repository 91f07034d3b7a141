"""Stores of every version come up to date, whole and once; newer ones are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from opentrail.adapters.sql import SqlControl
from opentrail.adapters.sql.schema import METADATA, VERSION, VERSIONS
from opentrail.core.errors import DataTooNew, StorageFailed
from opentrail.ports.control import Put, Stored
from tests.fakes import TIMEOUT_SECONDS, asynchronous
from tests.postgres import shared_server

#: A store that was written before schemas had versions; see SOURCES.md.
BEFORE = Path(__file__).parents[2] / "data" / "state-before-migrations.db"
OLD_TABLE = """
    CREATE TABLE documents (
        kind VARCHAR COLLATE "C" NOT NULL, key VARCHAR COLLATE "C" NOT NULL,
        version INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key))
"""
Url = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Url:
    """Returns what makes the URL of an empty database."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / 'state.db'}"
    return shared_server().new_database


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def execute(url: str, *statements: str) -> list[Any]:
    engine = engine_of(url)
    with engine.begin() as connection:
        done = [connection.exec_driver_sql(statement) for statement in statements]
        rows = list(done[-1].all()) if done[-1].returns_rows else []
    engine.dispose()
    return rows


def version_of(url: str) -> list[Any]:
    return execute(url, "SELECT version_num FROM opentrail_schema")


def old_store(url: str) -> None:
    execute(url, OLD_TABLE.replace('COLLATE "C"', "") if "sqlite" in url else OLD_TABLE)
    execute(url, "INSERT INTO documents VALUES ('trail', 'main', 7, '{\"n\":1}')")


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
        assert version_of(f"sqlite:///{file}") == [(VERSIONS[-1],)]


@pytest.mark.slow
@asynchronous
async def test_an_old_store_is_migrated_and_can_be_written(new_url: Url) -> None:
    url = new_url()
    old_store(url)
    store = SqlControl(url)
    assert await store.get("trail", "main") == Stored("main", 7, {"n": 1})
    await store.apply([Put("trail", "main", {"n": 2}, expected=7)])
    await store.close()
    assert version_of(url) == [(VERSIONS[-1],)]


@pytest.mark.parametrize("is_old", [True, False])
@asynchronous
async def test_a_new_and_a_migrated_store_have_the_tables_that_the_code_knows(
    new_url: Url, is_old: bool
) -> None:
    url = new_url()
    if is_old:
        old_store(url)
    await SqlControl(url).close()
    engine = engine_of(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION.name}
        )
        differences = compare_metadata(context, METADATA)
    engine.dispose()
    # Alembic leaves its own table out of what it compares.
    assert [each for each in differences if VERSION.name not in str(each)] == []


def test_a_store_of_a_newer_version_is_refused_and_left_alone(new_url: Url) -> None:
    url = new_url()
    SqlControl(url)
    execute(url, "UPDATE opentrail_schema SET version_num = '9999'")
    with pytest.raises(DataTooNew, match="schema is 9999, this version knows up to") as caught:
        SqlControl(url)
    assert "upgrade opentrail" in str(caught.value)
    assert version_of(url) == [("9999",)]


def test_another_programs_table_is_left_alone(new_url: Url) -> None:
    url = new_url()
    execute(url, "CREATE TABLE documents (id INTEGER, title TEXT)")
    with pytest.raises(StorageFailed, match="belongs to another program"):
        SqlControl(url)
    assert execute(url, "SELECT id, title FROM documents") == []


OPEN = """
import asyncio, sys
from opentrail.adapters.sql import SqlControl
store = SqlControl(sys.argv[1])
asyncio.run(store.close())
print("alembic" in sys.modules)
"""


def opened_by_processes(url: str, count: int) -> list[str]:
    """Opens a store in several processes at once; returns whether each loaded Alembic."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    outputs = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, outputs
    return [output.strip() for output, _ in outputs]


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize("is_old", [True, False])
def test_several_processes_may_open_a_store_at_once(new_url: Url, is_old: bool) -> None:
    url = new_url()
    if is_old:
        old_store(url)
    opened_by_processes(url, 4)
    assert version_of(url) == [(VERSIONS[-1],)]


@pytest.mark.slow
def test_only_a_store_to_migrate_loads_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    assert opened_by_processes(url, 1) == ["False"]
    assert opened_by_processes(url, 1) == ["False"]
    shutil.copy(BEFORE, tmp_path / "old.db")
    assert opened_by_processes(f"sqlite:///{tmp_path / 'old.db'}", 1) == ["True"]
