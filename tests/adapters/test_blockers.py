"""Sessions with silent clients do not hold a transaction."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from opentrail.adapters.sql.databases import PostgresDatabase, SilentError, Transaction
from tests.fakes import TIMEOUT_SECONDS
from tests.postgres import database_in, shared_server

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

#: More than a socket's buffers hold.
_LARGE_ANSWER = b"SELECT repeat('x', 100000000)"


def change(transaction: Transaction) -> int:
    return transaction.change("UPDATE t SET n = n + 1")


def a_database() -> tuple[str, PostgresDatabase]:
    url = shared_server().new_database()
    database = PostgresDatabase(url)
    database.run(lambda transaction: transaction.change("CREATE TABLE t (n int)"), TIMEOUT_SECONDS)
    database.run(
        lambda transaction: transaction.change("INSERT INTO t VALUES (1)"), TIMEOUT_SECONDS
    )
    return url, database


def test_client_that_reads_no_answer_blocks_no_other() -> None:
    url, database = a_database()
    with closing(psycopg.connect(url)) as silent:
        silent.execute("UPDATE t SET n = n + 10")
        silent.pgconn.send_query(_LARGE_ANSWER)
        assert database.run(change, 10.0) == 1
        ((number,),) = database.run(lambda transaction: transaction.rows("SELECT n FROM t"), 10.0)
        assert number == 2
    database.close()


def test_a_client_behind_another_one_blocks_no_other() -> None:
    """The session between them waits for the silent one and survives."""
    url, database = a_database()
    with closing(psycopg.connect(url)) as silent, closing(psycopg.connect(url)) as between:
        silent.execute("UPDATE t SET n = n + 10")
        silent.pgconn.send_query(_LARGE_ANSWER)
        between.pgconn.send_query(b"UPDATE t SET n = n + 100; COMMIT")
        assert database.run(change, 10.0) == 1
        ((number,),) = database.run(lambda transaction: transaction.rows("SELECT n FROM t"), 10.0)
        assert number == 102
    database.close()


def test_a_copy_by_another_program_is_not_ended() -> None:
    url, database = a_database()
    with closing(psycopg.connect(url, application_name="pg_dump")) as copying:
        copying.execute("SELECT * FROM t")
        copying.pgconn.send_query(_LARGE_ANSWER)
        with pytest.raises(SilentError):
            database.run(lambda transaction: transaction.change("DROP TABLE t"), 7.0)
        sessions = shared_server().execute(
            database_in(url),
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_dump'"
            " AND datname = current_database()",
        )
        assert sessions == [(1,)]
    database.close()
