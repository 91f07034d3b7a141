"""The tables that several machines share, in a schema of their own."""

from __future__ import annotations

from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import DataTooNew

#: Version of the tables that this version of opentrail makes and knows.
VERSION = 1
#: Key of the advisory lock that is held while tables are created.
_LOCK = 0x6F70656E7472
#: Not `to_regclass`, which may not see what another process has committed since.
_EXISTS = "SELECT 1 FROM pg_tables WHERE schemaname = 'opentrail' AND tablename = 'version'"
_TABLES = (
    "CREATE SCHEMA IF NOT EXISTS opentrail",
    "CREATE TABLE opentrail.version (version integer NOT NULL)",
    f"INSERT INTO opentrail.version VALUES ({VERSION})",  # noqa: S608 - a number
    """
    CREATE TABLE opentrail.lease (
        name text PRIMARY KEY,
        holder text NOT NULL,
        epoch bigint NOT NULL,
        until timestamptz NOT NULL
    )
    """,
)


def create_tables(transaction: Transaction) -> None:
    """Creates the tables, unless they are there.

    Raises:
        DataTooNew: a newer version of opentrail has made them.
    """
    if not transaction.rows(_EXISTS):
        transaction.rows("SELECT pg_advisory_xact_lock(?)", [_LOCK])
        if not transaction.rows(_EXISTS):
            for statement in _TABLES:
                transaction.change(statement)
    ((version,),) = transaction.rows("SELECT version FROM opentrail.version")
    if version > VERSION:
        raise DataTooNew(
            f"the journal on PostgreSQL was made by a newer version of opentrail: its tables have "
            f"version {version}, this version knows up to {VERSION}; upgrade opentrail"
        )
