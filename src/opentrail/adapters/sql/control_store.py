"""ControlStore in one table of a SQL database: SQLite by default, PostgreSQL by the same code.

Every write is conditional in the statement itself, so that several processes may write: of two
writers of the same version of a document, the second waits for the first and then finds a newer
version.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from opentrail.adapters.sql.databases import (
    MAX_CONTROL_SECONDS,
    REVISION,
    CommitUnknownError,
    ControlDatabase,
    DatabaseError,
    Dialect,
    PostgresDatabase,
    SilentError,
    SqliteDatabase,
    Transaction,
    TransientError,
)
from opentrail.core.errors import (
    Conflict,
    DataTooNew,
    DiskFull,
    OpentrailError,
    StorageFailed,
    StoreUnreachable,
    UsageError,
)
from opentrail.ports.control import Put, Stored, StoreWrite

#: Version of the schema → the statements that migrate the previous version to it, oldest first.
MIGRATIONS = {
    # The tables of stores from before schema versions: only the version is new.
    "0001": (),
    # CRC-32 of kind, key and body; NULL in documents from before checksums.
    "0002": ("ALTER TABLE documents ADD COLUMN checksum BIGINT",),
}
_NEWEST = max(MIGRATIONS)
#: Compares keys byte by byte, whatever the database's locale.
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
#: The columns of stores from before schema versions.
_BEFORE_VERSIONS = {"kind", "key", "version", "body"}
_COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info(?)",
    "postgresql": (
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped"
    ),
}
#: Key of PostgreSQL's advisory lock, held during a change of the schema.
_LOCK = 0x6F70656E74726C
#: Milliseconds to wait for another process's change of the schema.
_LOCK_MILLISECONDS = 60_000
#: Seconds for a migration.
_MIGRATION_SECONDS = 3_600.0


def bring_up_to_date(database: ControlDatabase) -> None:
    """Creates the tables of a new store, or migrates an older store's, in a transaction.

    One process does so at a time.

    Raises:
        DataTooNew: a newer version of opentrail has changed the schema.
        StorageFailed: the tables belong to another program.
        DatabaseError: the database failed.
    """
    if database.run(_version, MAX_CONTROL_SECONDS) != _NEWEST:
        # SQLite's lock: no other process may write until the transaction ends.
        database.run(_migrate, _MIGRATION_SECONDS, is_alone=True)


def _version(transaction: Transaction) -> str | None:
    """Returns the version of the schema; None for a new store and for stores before versions.

    Raises:
        DataTooNew: it is unknown here.
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
    """Returns the names of a table's columns; empty if the table does not exist."""
    return {str(row[0]) for row in transaction.rows(_COLUMNS[transaction.dialect], [table])}


T = TypeVar("T")

#: Seconds before each new attempt after a lost connection, a deadlock or a serialisation failure.
_RETRY_DELAYS = (0.1, 0.4, 1.0, 2.0)
#: Seconds for a transaction after PostgreSQL was unreachable, and seconds before the next one. Both
#: are short so that waiting work, such as a stop, fails soon.
_MAX_SECONDS_WHILE_UNREACHABLE, _PAUSE = 2.0, 1.0
#: Seconds for reading a whole store, and for copying one.
_MAX_CHECK_SECONDS, _MAX_COPY_SECONDS = 60.0, 3600.0
_SELECT = "SELECT kind, key, version, body, checksum FROM documents"
_GET = f"{_SELECT} WHERE kind = ? AND key = ?"
_GET_EACH = _SELECT + " WHERE key = ? AND kind IN ({marks})"
_SCAN = f"{_SELECT} WHERE kind = ? AND key LIKE ? ESCAPE '/' ORDER BY key"
_PAGE = f"{_SELECT} WHERE kind = ? AND key > ? ORDER BY key LIMIT ?"
#: The versions alone would not reveal a removed and recreated document.
_REVISIONS = (
    "SELECT kind, count(*), sum(version), sum(checksum) FROM documents"
    " WHERE kind IN ({marks}) GROUP BY kind"
)
_ANY = "SELECT 1 FROM documents LIMIT 1"
_INSERT = "INSERT INTO documents (kind, key, version, body, checksum)"
_ADD = f"{_INSERT} VALUES (?, ?, ?, ?, ?)"
#: Suffix of `_INSERT` for several documents.
_EACH: dict[Dialect, str] = {
    "sqlite": "VALUES (?, ?, ?, ?, ?)",
    "postgresql": "SELECT * FROM"
    " unnest(?::varchar[], ?::varchar[], ?::integer[], ?::text[], ?::bigint[])",
}
_CREATE = f"{_ADD} ON CONFLICT (kind, key) DO NOTHING"
_OR_REPLACE = (
    "ON CONFLICT (kind, key) DO UPDATE SET"
    " version = documents.version + 1, body = excluded.body, checksum = excluded.checksum"
)
_PUT = f"{_ADD} {_OR_REPLACE}"
#: Documents per statement of a copy.
_COPIED_TOGETHER = 1_000
_REPLACE = (
    "UPDATE documents SET version = ?, body = ?, checksum = ?"
    " WHERE kind = ? AND key = ? AND version = ?"
)
_DELETE = "DELETE FROM documents WHERE kind = ? AND key = ?"
_DELETE_BELOW = "DELETE FROM documents WHERE kind = ? AND key < ?"
#: Kind, key, version, body and checksum.
Row = tuple[Any, ...]


class SqlControl:
    """A `ControlStore` in one table of a SQL database."""

    def __init__(self, place: str | Path, is_read_only: bool = False) -> None:
        """Opens a store.

        Args:
            place: `postgresql://USER:PASSWORD@HOST/DATABASE`, or a SQLite file.
            is_read_only: whether to leave the file unchanged.

        Raises:
            UsageError: the URL is not valid, or PostgreSQL's driver is not installed.
            StorageFailed: the database cannot be opened.
            DataTooNew: a newer version of opentrail has changed it.
        """
        self._database: ControlDatabase
        #: Reads a SQLite file on the event loop: a thread would take longer than the read, and with
        #: a separate connection a read waits for no write.
        self._reader: SqliteDatabase | None = None
        if isinstance(place, str):
            self._database = PostgresDatabase(place)
        else:
            self._database = SqliteDatabase(place, is_read_only)
            self._reader = SqliteDatabase(place, is_read_only)
        self._lock = asyncio.Lock()
        #: Why the last transaction failed, without host or file names; else None.
        self.failure: str | None = None
        #: When the database could not be reached (time.monotonic); None once it can.
        self._unreachable_at: float | None = None
        try:
            bring_up_to_date(self._database)
        except (DatabaseError, CommitUnknownError) as error:
            self._database.close()
            raise StorageFailed(f"state store cannot be opened: {error}") from error.__cause__

    @classmethod
    def in_file(cls, path: Path) -> SqlControl:
        """Returns a store in a SQLite file."""
        # SQLite gives its extra files the same mode, and reports a bad path itself.
        with suppress(OSError):
            path.touch(mode=0o600)
            path.chmod(0o600)
        return cls(path)

    @classmethod
    def in_read_only_file(cls, path: Path) -> SqlControl:
        """Returns a read-only store in a SQLite file.

        Raises:
            StorageFailed: it cannot be read, or has an older version.
            DataTooNew: a newer version of opentrail has changed it.
        """
        return cls(path, is_read_only=True)

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns the document; None if there is none."""
        rows = await self._read(lambda transaction: transaction.rows(_GET, [kind, key]))
        return _stored(rows[0]) if rows else None

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Returns the existing documents with this key, by kind."""
        if not kinds:
            return {}
        statement = _GET_EACH.format(marks=", ".join("?" * len(kinds)))
        rows = await self._read(lambda transaction: transaction.rows(statement, [key, *kinds]))
        return {row[0]: _stored(row) for row in rows}

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns the documents of a kind whose keys start with `prefix`, by key."""
        pattern = prefix.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"
        rows = await self._run(lambda transaction: transaction.rows(_SCAN, [kind, pattern]))
        # SQLite's LIKE ignores case; keys do not.
        return [_stored(row) for row in rows if row[1].startswith(prefix)]

    async def page(self, kind: str, after: str, count: int) -> list[Stored]:
        """Returns the first `count` documents of a kind with keys beyond `after`, by key."""
        values = [kind, after, count]
        rows = await self._run(lambda transaction: transaction.rows(_PAGE, values))
        return [_stored(row) for row in rows]

    async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
        """Returns a string for each kind; it changes with each change of a document."""
        if not kinds:
            return {}
        statement = _REVISIONS.format(marks=", ".join("?" * len(kinds)))
        rows = await self._read(lambda transaction: transaction.rows(statement, kinds))
        totals = {kind: f"{count}:{versions}:{sums}" for kind, count, versions, sums in rows}
        return {kind: totals.get(kind, "") for kind in kinds}

    async def is_empty(self) -> bool:
        """Returns whether there is no document."""
        return not await self._read(lambda transaction: transaction.rows(_ANY))

    async def revision(self) -> int:
        """Returns the number of transactions that have changed a SQLite file; 0 on PostgreSQL."""
        if self._reader is None:
            return 0
        ((revision,),) = await self._read(lambda transaction: transaction.rows(REVISION))
        return int(revision)

    def on_commit(self, call: Callable[[int], None]) -> None:
        """Calls `call` with the revision of each change of a SQLite file once durable."""
        if isinstance(self._database, SqliteDatabase):
            self._database.on_commit = call

    async def apply(
        self,
        changes: Sequence[StoreWrite],
        fence: Callable[[Transaction], None] = lambda transaction: None,
    ) -> None:
        """Returns only once all changes are durable; on an error none is made.

        If the connection is lost during the commit, `StorageFailed` says that the outcome is
        unknown.

        Args:
            changes: the changes.
            fence: called first, in the same transaction; if it raises, nothing changes.
        """

        def change_all(transaction: Transaction) -> None:
            fence(transaction)
            blind = [c for c in changes if isinstance(c, Put) and c.expected is None]
            keys = {(change.kind, change.key) for change in changes}
            if len(blind) == len(changes) == len(keys) > 1:
                # In a fixed order, so that two writers do not deadlock.
                blind.sort(key=lambda put: (put.kind, put.key))
                put_each = f"{_INSERT} {_EACH[transaction.dialect]} {_OR_REPLACE}"
                transaction.change_each(put_each, [_row(put) for put in blind])
                return
            for change in changes:
                _change(transaction, change)

        if changes:
            await self._run(change_all)

    async def remove_below(
        self,
        kind: str,
        key: str,
        fence: Callable[[Transaction], None] = lambda transaction: None,
    ) -> None:
        """Removes the documents of a kind whose keys sort before `key`; `fence` as in `apply`."""

        def remove(transaction: Transaction) -> None:
            fence(transaction)
            transaction.change(_DELETE_BELOW, [kind, key])

        await self._run(remove)

    async def check(self) -> None:
        """Reads the whole store.

        Raises:
            StorageFailed: it cannot be read or is damaged.
        """

        def read_all(transaction: Transaction) -> None:
            if transaction.dialect == "sqlite":
                ((result,),) = transaction.rows("PRAGMA integrity_check(1)")
                if result != "ok":
                    raise StorageFailed(f"state store is damaged: {result}")
            for row in transaction.rows(_SELECT):
                _stored(row)

        await self._run(read_all, _MAX_CHECK_SECONDS)

    async def copy_into(self, other: SqlControl) -> None:
        """Copies a snapshot of all documents into an empty store.

        Raises:
            UsageError: the other store is not empty.
        """
        rows = await self._run(lambda transaction: transaction.rows(_SELECT), _MAX_COPY_SECONDS)

        def fill(transaction: Transaction) -> None:
            if transaction.rows(_ANY):
                raise UsageError("the control store to copy into is not empty")
            add_each = f"{_INSERT} {_EACH[transaction.dialect]}"
            for start in range(0, len(rows), _COPIED_TOGETHER):
                transaction.change_each(add_each, rows[start : start + _COPIED_TOGETHER])

        await other._run(fill, _MAX_COPY_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        if self._reader is not None:
            self._reader.close()
        async with self._lock:
            await asyncio.to_thread(self._database.close)

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        if self._reader is None:
            return await self._run(work)
        return self._in_transaction(self._reader, work, MAX_CONTROL_SECONDS)

    async def _run(
        self, work: Callable[[Transaction], T], longest: float = MAX_CONTROL_SECONDS
    ) -> T:
        began = time.monotonic()
        async with self._lock:
            if self._unreachable_at is not None and self._unreachable_at > began - _PAUSE:
                raise StoreUnreachable("the control store could not be reached a moment ago")
            try:
                result = await self._attempt(work, longest)
            except StorageFailed:
                # A commit may have had no answer: that is not `StoreUnreachable`.
                is_reached = self._unreachable_at is None
                self.failure = f"the control store {'failed' if is_reached else 'does not answer'}"
                raise
            except OpentrailError:
                self.failure = self._unreachable_at = None
                raise
            self.failure = self._unreachable_at = None
            return result

    async def _attempt(self, work: Callable[[Transaction], T], longest: float) -> T:
        """Runs a transaction; retries lost connections, unless the last transaction failed."""
        delays: tuple[float, ...] = _RETRY_DELAYS
        if self._unreachable_at is not None:
            delays, longest = (), min(longest, _MAX_SECONDS_WHILE_UNREACHABLE)
        for number in range(len(delays) + 1):
            try:
                return await asyncio.to_thread(self._in_transaction, self._database, work, longest)
            except SilentError as error:
                failure, cause = "did not answer in time", error.__cause__
                break
            except TransientError as error:
                failure, cause = f"failed in {number + 1} attempts: {error}", error.__cause__
            if number < len(delays):
                await asyncio.sleep(delays[number])
        self._unreachable_at = time.monotonic()
        raise StoreUnreachable(f"state store {failure}") from cause

    def _in_transaction(
        self, database: ControlDatabase, work: Callable[[Transaction], T], longest: float
    ) -> T:
        try:
            return database.run(work, longest)
        except (SilentError, TransientError):
            raise
        except CommitUnknownError as error:
            self._unreachable_at = time.monotonic() if error.is_silent else None
            raise StorageFailed(
                "state store failed while changes were committed; it is not known whether "
                f"they were made: {error}"
            ) from error.__cause__
        except DatabaseError as error:
            self._unreachable_at = None
            failure = DiskFull if "disk is full" in str(error) else StorageFailed
            raise failure(f"state store failed: {error}") from error.__cause__


def _change(transaction: Transaction, change: StoreWrite) -> None:
    if not isinstance(change, Put):
        transaction.change(_DELETE, [change.kind, change.key])
        return
    row = _row(change)
    if change.expected is None:
        transaction.change(_PUT, row)
        return
    if change.expected == 0:
        changed = transaction.change(_CREATE, row)
    else:
        kind, key, _, body, checksum = row
        values = [change.expected + 1, body, checksum, kind, key, change.expected]
        changed = transaction.change(_REPLACE, values)
    if changed != 1:
        raise Conflict(f"{change.kind} {change.key!r} was changed since it was read")


def _row(put: Put) -> Row:
    """Returns the row of a new document."""
    body = json.dumps(put.document, separators=(",", ":"))
    return put.kind, put.key, 1, body, _checksum(put.kind, put.key, body)


def _stored(row: Row) -> Stored:
    """Returns the document in a row.

    Raises:
        StorageFailed: it is damaged.
    """
    kind, key, version, body, checksum = row
    if checksum not in (None, _checksum(kind, key, body)):
        raise StorageFailed(f"state store is damaged: {kind} {key!r} has changed")
    try:
        return Stored(key, version, json.loads(body))
    except ValueError as error:
        raise StorageFailed(f"state store is damaged: {kind} {key!r}: {error}") from error


def _checksum(kind: str, key: str, body: str) -> int:
    return zlib.crc32(f"{kind}\0{key}\0{body}".encode(errors="surrogatepass"))
