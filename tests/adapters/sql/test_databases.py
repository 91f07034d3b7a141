"""A transaction is whole on either database, and its failures are distinguished."""

from __future__ import annotations

import threading
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.sql.databases import (
    ControlDatabase,
    DatabaseError,
    PostgresDatabase,
    SilentError,
    SqliteDatabase,
    Transaction,
    TransientError,
)
from opentrail.core.errors import Conflict
from tests.fakes import TIMEOUT_SECONDS
from tests.postgres import ON_POSTGRESQL, shared_server


@pytest.fixture(params=["sqlite", ON_POSTGRESQL])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> ControlDatabase:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path / "a.db")
    return PostgresDatabase(shared_server().new_database())


def create(transaction: Transaction) -> None:
    transaction.change("CREATE TABLE t (n INTEGER PRIMARY KEY)")


def numbers(transaction: Transaction) -> list[int]:
    return [row[0] for row in transaction.rows("SELECT n FROM t ORDER BY n")]


def test_failed_work_is_undone(database: ControlDatabase) -> None:
    database.run(create, TIMEOUT_SECONDS)
    database.run(
        lambda transaction: transaction.change("INSERT INTO t VALUES (?)", [1]),
        TIMEOUT_SECONDS,
    )

    def fails(transaction: Transaction) -> None:
        assert transaction.change("INSERT INTO t VALUES (?)", [2]) == 1
        raise Conflict("not now")

    with pytest.raises(Conflict):
        database.run(fails, TIMEOUT_SECONDS)
    assert database.run(numbers, TIMEOUT_SECONDS) == [1]
    database.close()
    assert database.run(numbers, TIMEOUT_SECONDS, is_alone=True) == [1]
    database.close()


def test_a_commit_of_sqlite_reaches_the_disk(tmp_path: Path) -> None:
    """`fullfsync` matters only on macOS; see `system.sync`."""
    database = SqliteDatabase(tmp_path / "a.db")
    for pragma, value in (("PRAGMA synchronous", 2), ("PRAGMA fullfsync", 1)):
        ((setting,),) = database.run(methodcaller("rows", pragma), TIMEOUT_SECONDS)
        assert setting == value
    database.close()


def test_a_failed_statement_undoes_its_transaction(database: ControlDatabase) -> None:
    database.run(create, TIMEOUT_SECONDS)

    def fails(transaction: Transaction) -> None:
        transaction.change("INSERT INTO t VALUES (1)")
        transaction.change("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(DatabaseError, match="nowhere") as failed:
        database.run(fails, TIMEOUT_SECONDS)
    assert type(failed.value) is DatabaseError
    assert database.run(numbers, TIMEOUT_SECONDS) == []
    database.close()


@pytest.mark.slow
def test_a_database_without_answer_in_time_is_silent() -> None:
    database = PostgresDatabase(shared_server().new_database())
    with pytest.raises(SilentError):
        database.run(lambda transaction: transaction.rows("SELECT pg_sleep(3)"), 0.3)
    database.run(create, TIMEOUT_SECONDS)
    database.close()


def test_a_lost_connection_is_worth_another_attempt() -> None:
    database = PostgresDatabase(shared_server().new_database())
    with pytest.raises(TransientError):
        database.run(
            lambda transaction: transaction.rows("SELECT pg_terminate_backend(pg_backend_pid())"),
            TIMEOUT_SECONDS,
        )
    database.run(create, TIMEOUT_SECONDS)
    database.close()


def test_transactions_of_two_threads_take_turns(database: ControlDatabase) -> None:
    """A cancelled task leaves its transaction to a thread, and the next one begins."""
    database.run(create, TIMEOUT_SECONDS)
    begun, may_end = threading.Event(), threading.Event()

    def slow(transaction: Transaction) -> None:
        transaction.change("INSERT INTO t VALUES (1)")
        begun.set()
        assert may_end.wait(TIMEOUT_SECONDS)
        raise Conflict("and it is undone")

    def first() -> None:
        with pytest.raises(Conflict):
            database.run(slow, 30)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(TIMEOUT_SECONDS)
    second = threading.Thread(
        target=lambda: database.run(lambda t: t.change("INSERT INTO t VALUES (2)"), 30)
    )
    second.start()
    may_end.set()
    thread.join(TIMEOUT_SECONDS)
    second.join(TIMEOUT_SECONDS)
    assert database.run(numbers, TIMEOUT_SECONDS) == [2]
    database.close()


def test_the_wait_for_a_turn_also_counts() -> None:
    """A transaction without an answer of PostgreSQL delays the next one no longer than that."""
    database = PostgresDatabase(shared_server().new_database())
    begun, may_end = threading.Event(), threading.Event()

    def slow(transaction: Transaction) -> None:
        begun.set()
        assert may_end.wait(TIMEOUT_SECONDS)

    thread = threading.Thread(target=lambda: database.run(slow, 30))
    thread.start()
    assert begun.wait(TIMEOUT_SECONDS)
    try:
        with pytest.raises(SilentError, match="another transaction"):
            database.run(create, 0.05)
    finally:
        may_end.set()
        thread.join(TIMEOUT_SECONDS)
    database.run(create, TIMEOUT_SECONDS)
    database.close()


def test_one_statement_changes_several_rows() -> None:
    """With a driver in pipeline mode, PostgreSQL does not notice a stopped client."""
    database = PostgresDatabase(shared_server().new_database())
    database.run(create, TIMEOUT_SECONDS)

    def add(transaction: Transaction) -> list[tuple[Any, ...]]:
        transaction.change_each("INSERT INTO t SELECT * FROM unnest(?::int[])", [[1], [2], [3]])
        transaction.change_each("INSERT INTO t SELECT * FROM unnest(?::int[])", [])
        return transaction.rows("SELECT n, cmin::text FROM t ORDER BY n")

    assert database.run(add, TIMEOUT_SECONDS) == [(1, "0"), (2, "0"), (3, "0")]
    database.close()


def test_url_options_keep_session_time_limits() -> None:
    url = shared_server().new_database()
    database = PostgresDatabase(f"{url}&options=-c%20lock_timeout%3D2s")
    names = ["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"]

    def settings(transaction: Transaction) -> list[str]:
        return [str(transaction.rows(f"SHOW {name}")[0][0]) for name in names]

    assert database.run(settings, 5.0) == ["4s", "3s", "2s"]
    database.close()


def test_newer_versions_limit_transaction_time() -> None:
    database = PostgresDatabase(shared_server().new_database())
    statement = "SELECT setting FROM pg_settings WHERE name = 'transaction_timeout'"

    def limit(transaction: Transaction) -> list[str]:
        return [setting for (setting,) in transaction.rows(statement)]

    usual, longer = database.run(limit, 5.0), database.run(limit, 60.0)
    assert usual in ([], ["8000"])
    assert len(longer) == len(usual)
    assert all(int(milliseconds) > 50_000 for milliseconds in longer)
    assert database.run(limit, 5.0) == usual
    database.close()
