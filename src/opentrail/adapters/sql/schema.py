"""The tables of the control store, and how each version of them is made of the one before."""

from __future__ import annotations

from opentrail.adapters.sql.databases import MAX_SECONDS, ControlDatabase, Transaction
from opentrail.core.errors import DataTooNew, StorageFailed

#: Version of the schema → the statements that make it of the one before, oldest first.
MIGRATIONS = {
    # The tables of stores that were made before schemas had versions: only the version is new.
    "0001": (),
    # CRC-32 of kind, key and body; none in documents that were written before.
    "0002": ("ALTER TABLE documents ADD COLUMN checksum BIGINT",),
}
_NEWEST = max(MIGRATIONS)
#: Keys are compared byte by byte, whatever language the database was created for.
_TEXT = {"sqlite": "VARCHAR", "postgresql": 'VARCHAR COLLATE "C"'}
_DOCUMENTS = """
    CREATE TABLE documents (
        kind {text} NOT NULL,
        key {text} NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        checksum BIGINT,
        PRIMARY KEY (kind, key)
    )
"""
#: A table of one row.
_VERSION = "CREATE TABLE opentrail_schema (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
#: The columns of stores that were made before schemas had versions.
_BEFORE_VERSIONS = {"kind", "key", "version", "body"}
_COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info(?)",
    "postgresql": (
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped"
    ),
}
#: Key of PostgreSQL's advisory lock that is held while the schema is changed.
_LOCK = 0x6F70656E74726C
#: Milliseconds that another process may take to change the schema.
_LOCK_MILLISECONDS = 60_000
#: Seconds for a migration.
_MIGRATION_SECONDS = 3_600.0


def bring_up_to_date(database: ControlDatabase) -> None:
    """Creates the tables of a new store, or migrates those of an older version, in a transaction.

    One process does so at a time.

    Raises:
        DataTooNew: a newer version of opentrail has changed the schema.
        StorageFailed: the tables are another program's.
        DatabaseError: the database failed.
    """
    if database.run(_version, MAX_SECONDS) != _NEWEST:
        # SQLite's lock: no other process may write until the transaction ends.
        database.run(_migrate, _MIGRATION_SECONDS, is_alone=True)


def _version(transaction: Transaction) -> str | None:
    """Returns the version of the schema; None for a new store and for one before versions.

    Raises:
        DataTooNew: it is not known here.
    """
    if not _columns(transaction, "opentrail_schema"):
        return None
    rows = transaction.rows("SELECT version_num FROM opentrail_schema")
    version = str(rows[0][0]) if rows else None
    if version is not None and version not in MIGRATIONS:
        raise DataTooNew(
            f"the control store was written by a newer version of opentrail: its schema is "
            f"{version}, this version knows up to {_NEWEST}; upgrade opentrail"
        )
    return version


def _migrate(transaction: Transaction) -> None:
    """Changes the schema, unless another process was faster."""
    if transaction.dialect == "postgresql":
        transaction.change(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
        transaction.change("SET LOCAL statement_timeout = 0")
        transaction.rows("SELECT pg_advisory_xact_lock(?)", [_LOCK])
    version, columns = _version(transaction), _columns(transaction, "documents")
    if version == _NEWEST:
        return
    if version is None and columns not in (set(), _BEFORE_VERSIONS):
        raise StorageFailed(
            "table 'documents' of the control store belongs to another program; "
            "give opentrail its own database"
        )
    if not _columns(transaction, "opentrail_schema"):
        transaction.change(_VERSION)
    if columns:
        for migration in sorted(MIGRATIONS):
            if version is None or migration > version:
                for statement in MIGRATIONS[migration]:
                    transaction.change(statement)
    else:
        transaction.change(_DOCUMENTS.format(text=_TEXT[transaction.dialect]))
    transaction.change("DELETE FROM opentrail_schema")
    transaction.change("INSERT INTO opentrail_schema (version_num) VALUES (?)", [_NEWEST])


def _columns(transaction: Transaction, table: str) -> set[str]:
    """Returns the names of a table's columns; none if there is no such table."""
    return {str(row[0]) for row in transaction.rows(_COLUMNS[transaction.dialect], [table])}
