"""The shared database: several hosts, and the outcome of a failed commit."""

from __future__ import annotations

import asyncio
import sys

import pytest

from opentrail.adapters.postgres.database import SharedDatabase, has_quorum_commit, split_password
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import StorageFailed, StoreUnreachable, UsageError
from tests.fakes import TIMEOUT_SECONDS, asynchronous
from tests.postgres import database_in, own_server, shared_server

pytestmark = pytest.mark.slow


def one(transaction: Transaction) -> int:
    return int(transaction.rows("SELECT 1")[0][0])


@asynchronous
async def test_host_that_accepts_writes_is_found_among_several() -> None:
    server = shared_server()
    name = database_in(server.new_database())
    hosts = f"host=/nowhere,{server.folder}"
    database = SharedDatabase(f"postgresql://trusted@/{name}?{hosts}")
    assert await database.run(one) == 1
    await database.close()


@asynchronous
async def test_a_server_that_became_read_only_is_left() -> None:
    with own_server() as server:
        database = SharedDatabase(server.new_database())
        await database.run(lambda transaction: transaction.change("CREATE TABLE t (n integer)"))

        def add(transaction: Transaction) -> None:
            transaction.change("SET LOCAL transaction_read_only = on")
            transaction.change("INSERT INTO t VALUES (1)")

        with pytest.raises(StoreUnreachable, match="read-only"):
            await database.run(add)
        assert await database.run(one) == 1
        await database.close()


@pytest.mark.parametrize(
    "url",
    ["postgresql://a:very-secret@one:1,two:x/d", "postgresql://a:very-secret@h/d?nonsense=1"],
)
def test_an_invalid_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match="URL of the journal is not valid") as refused:
        SharedDatabase(url)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        (
            "postgresql://ann:very%20secret@one:1,two/d?a=b",
            "postgresql://ann@one:1,two/d?a=b",
            "very secret",
        ),
        ("postgresql://ann@h/d", "postgresql://ann@h/d", None),
        ("postgresql://h/d?password=p%26&host=/a%20b", "postgresql://h/d?host=%2Fa%20b", "p&"),
        ("postgresql:///d", "postgresql:///d", None),
    ],
)
def test_a_password_is_split_off(url: str, address: str, password: str | None) -> None:
    assert split_password(url) == (address, password)


def test_url_may_have_a_port_for_each_host() -> None:
    SharedDatabase("postgresql://a@one:5432,two:5433/d?target_session_attrs=read-write")


def test_without_a_driver_postgresql_is_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"a journal on PostgreSQL needs .*opentrail\[postgres\]"):
        SharedDatabase("postgresql://a@h/d")


@asynchronous
async def test_a_stopped_server_is_unreachable_until_its_restart() -> None:
    with own_server() as server:
        database = SharedDatabase(server.new_database())
        with pytest.raises(StorageFailed, match="no_such_table") as failed:
            await database.run(lambda transaction: transaction.rows("SELECT * FROM no_such_table"))
        assert not isinstance(failed.value, StoreUnreachable)
        server.stop("immediate")
        with pytest.raises(StoreUnreachable):
            await database.run(one)
        server.start()
        assert await database.run(one) == 1
        await database.close()


@asynchronous
async def test_an_unreplicated_commit_is_not_durable() -> None:
    with own_server() as server:
        url = server.new_database()
        database = SharedDatabase(url)
        await database.run(lambda transaction: transaction.change("CREATE TABLE t (n integer)"))
        assert not await database.run(has_quorum_commit)
        server.set("synchronous_standby_names", "nobody")

        def add(transaction: Transaction) -> None:
            transaction.change("INSERT INTO t VALUES (1)")

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await database.run(has_quorum_commit):
                pass

        async def add_until_standbys_are_waited_for() -> None:
            while True:  # PostgreSQL's checkpointer must also read the setting
                await database.run(add)

        with server.cancelling_the_wait_for_standbys(), pytest.raises(StoreUnreachable):
            await asyncio.wait_for(add_until_standbys_are_waited_for(), TIMEOUT_SECONDS)
        server.set("synchronous_standby_names", "")
        await database.run(add)
        await database.close()
