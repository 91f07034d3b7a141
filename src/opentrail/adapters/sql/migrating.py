"""Brings the schema of a control store up to date, by one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from opentrail.adapters.sql.schema import DOCUMENTS, METADATA, VERSION, VERSIONS
from opentrail.core.errors import DataTooNew, StorageFailed

_MIGRATIONS = Path(__file__).parent / "migrations"
#: The columns of stores that were made before schemas had versions.
_BEFORE_VERSIONS = {"kind", "key", "version", "body"}
#: Key of PostgreSQL's advisory lock that is held while the schema is changed.
_LOCK = 0x6F70656E74726C
#: Time that another process may take to change the schema.
_LOCK_MILLISECONDS = 60_000


def is_up_to_date(engine: sa.Engine) -> bool:
    """Returns whether the tables are those of this version.

    Raises:
        DataTooNew: a newer version of opentrail has changed the schema.
    """
    with engine.connect() as connection, connection.begin():
        return _version(connection) == VERSIONS[-1]


def migrate(engine: sa.Engine) -> None:
    """Creates the tables of a new store, or migrates those of an older version, in a transaction.

    Raises:
        DataTooNew: a newer version of opentrail has changed the schema.
        StorageFailed: the tables are another program's.
    """
    with engine.connect() as connection:
        # SQLite's lock: no other process may write until the transaction ends.
        connection = connection.execution_options(sqlite_begin="IMMEDIATE")
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}"))
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _migrate(connection)


def _version(connection: sa.Connection) -> str | None:
    """Returns the version of the schema; None for a new store and for one before versions.

    Raises:
        DataTooNew: it is not known here.
    """
    if not sa.inspect(connection).has_table(VERSION.name):
        return None
    version = connection.execute(sa.select(VERSION.c.version_num)).scalar()
    if version is not None and version not in VERSIONS:
        raise DataTooNew(
            f"the control store was written by a newer version of opentrail: its schema is "
            f"{version}, this version knows up to {VERSIONS[-1]}; upgrade opentrail"
        )
    return None if version is None else str(version)


def _migrate(connection: sa.Connection) -> None:
    """Changes the schema, unless another process was faster."""
    version = _version(connection)
    if version == VERSIONS[-1]:
        return
    inspector = sa.inspect(connection)
    if version is None and not inspector.has_table(DOCUMENTS.name):
        # Loading Alembic takes 9 MB and up to a second, which a new store does without.
        METADATA.create_all(connection)
        connection.execute(sa.insert(VERSION).values(version_num=VERSIONS[-1]))
        return
    columns = {column["name"] for column in inspector.get_columns(DOCUMENTS.name)}
    if version is None and columns != _BEFORE_VERSIONS:
        raise StorageFailed(
            f"table {DOCUMENTS.name!r} of the control store belongs to another program; "
            "give opentrail a database of its own"
        )
    _run_migrations(connection)


def _run_migrations(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
