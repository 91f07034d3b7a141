"""The shared tables: made once, and unused by a version that does not know them."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.schema import VERSION, create_tables
from opentrail.core.errors import DataTooNew
from tests.factories import some_new_entries
from tests.fakes import asynchronous
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow


@asynchronous
async def test_processes_that_start_concurrently_make_the_tables_once() -> None:
    url = shared_server().new_database()
    databases = [SharedDatabase(url) for _ in range(5)]
    await asyncio.gather(*(database.run(create_tables) for database in databases))
    rows = shared_server().execute(database_in(url), "SELECT version FROM opentrail.version")
    assert rows == [(VERSION,)]
    for database in databases:
        await database.close()


@pytest.mark.slow
@asynchronous
async def test_owner_of_the_schema_needs_no_other_permission() -> None:
    server = shared_server()
    name = database_in(server.new_database())
    role = f"owner_of_{name}"
    server.execute(name, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    server.execute(name, f"CREATE SCHEMA opentrail AUTHORIZATION {role}")
    journal = PostgresJournal(server.url(name, f"{role}:secret"))
    assert await journal.append(some_new_entries(2)) == 2
    await journal.close()


@asynchronous
async def test_tables_of_a_newer_version_are_refused() -> None:
    url = shared_server().new_database()
    database = SharedDatabase(url)
    await database.run(create_tables)
    shared_server().execute(database_in(url), "UPDATE opentrail.version SET version = 99")
    with pytest.raises(DataTooNew, match="99"):
        await database.run(create_tables)
    await database.close()
