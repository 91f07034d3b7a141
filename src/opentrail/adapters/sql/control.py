"""ControlStore on SQLAlchemy Core: SQLite by default, PostgreSQL by the same code.

Every write is conditional in the statement itself, so that several processes may write: of two
that change the same version of a document, the second waits for the first and then finds another
version.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from opentrail.adapters.sql.migrating import is_up_to_date, migrate
from opentrail.adapters.sql.schema import DOCUMENTS
from opentrail.adapters.sql.time_limit import TimeLimits
from opentrail.core.errors import (
    Conflict,
    OpentrailError,
    StorageFailed,
    StoreUnreachable,
    UsageError,
)
from opentrail.installation import command_for
from opentrail.ports.control import Put, Stored, StoreWrite

T = TypeVar("T")

#: Seconds before each new attempt after a lost connection, a deadlock or a failed serialisation.
_RETRY_DELAYS = (0.1, 0.4, 1.0, 2.0)
#: Seconds for a transaction on PostgreSQL.
_MAX_SECONDS = 5.0
#: Seconds for a transaction after one that failed because PostgreSQL could not be reached, so that
#: what waits for it, as a stop does, fails soon.
_MAX_SECONDS_WHILE_UNREACHABLE = 2.0
#: Seconds before the next such transaction.
_PAUSE = 1.0
#: Seconds for reading a whole store.
_MAX_CHECK_SECONDS = 60.0
#: Seconds for copying a whole store.
_MAX_COPY_SECONDS = 3600.0
#: Milliseconds for a statement, kept by PostgreSQL itself, and until sent data is acknowledged.
_STATEMENT_MILLISECONDS = 4_000
#: PostgreSQL's codes of errors after which the same transaction may succeed.
_TRANSIENT = ("40001", "40P01", "53300")
#: Its codes for a server that stops or starts.
_SHUT_DOWN = ("57P01", "57P02", "57P03")
# Created once: creating a statement takes as long as running it.
_GET = sa.select(DOCUMENTS).where(
    DOCUMENTS.c.kind == sa.bindparam("kind"), DOCUMENTS.c.key == sa.bindparam("key")
)
_GET_EACH = sa.select(DOCUMENTS).where(
    DOCUMENTS.c.key == sa.bindparam("key"),
    DOCUMENTS.c.kind.in_(sa.bindparam("kinds", expanding=True)),
)


class _TransientError(Exception):
    """A transaction failed before it was committed; a new attempt may succeed."""


class _SilentError(Exception):
    """The database did not answer in time."""


class SqlControl:
    """A `ControlStore` in one table of a SQL database."""

    def __init__(self, url: str | sa.URL) -> None:
        """Opens a store.

        Args:
            url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE`.

        Raises:
            UsageError: the URL is not valid, or PostgreSQL's driver is not installed.
            StorageFailed: the database cannot be opened.
            DataTooNew: a newer version of opentrail has changed it.
        """
        self._engine = _engine(url)
        is_remote = self._engine.dialect.name != "sqlite"
        self._limits = TimeLimits(self._engine) if is_remote else None
        self._lock = asyncio.Lock()
        #: What is wrong if the last transaction failed, without names of hosts or files; else None.
        self.failure: str | None = None
        #: When the database could not be reached (time.monotonic); None once it can.
        self._unreachable_at: float | None = None
        #: Reads a SQLite file on the event loop: a thread would take longer than the read, and
        #: with a connection of its own a read waits for no write.
        self._reader = None if is_remote else _engine(url)
        try:
            with nullcontext() if self._limits is None else self._limits.limited(_MAX_SECONDS):
                is_current = is_up_to_date(self._engine)
            if not is_current:
                migrate(self._engine)
        except sa.exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise StorageFailed(f"state store cannot be opened: {_cause(error)}") from error

    @classmethod
    def in_file(cls, path: Path) -> SqlControl:
        """Returns a store in a SQLite file."""
        store = cls(sa.URL.create("sqlite", database=str(path)))
        path.chmod(0o600)
        return store

    @classmethod
    def in_read_only_file(cls, path: Path) -> SqlControl:
        """Returns a store in a SQLite file, which is not changed.

        Raises:
            StorageFailed: it cannot be read, or is of an older version.
            DataTooNew: a newer version of opentrail has changed it.
        """
        query = {"mode": "ro", "uri": "true"}
        return cls(sa.URL.create("sqlite", database=path.absolute().as_uri(), query=query))

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns the document, or None."""
        values = {"kind": kind, "key": key}
        row = await self._read(lambda connection: connection.execute(_GET, values).first())
        return _document_in(row) if row else None

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Returns the documents with this key that there are, by kind."""
        values = {"key": key, "kinds": list(kinds)}
        rows = await self._read(lambda connection: connection.execute(_GET_EACH, values).all())
        return {row.kind: _document_in(row) for row in rows}

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns the documents of a kind whose keys start with `prefix`, by key."""
        query = (
            sa.select(DOCUMENTS)
            .where(DOCUMENTS.c.kind == kind, DOCUMENTS.c.key.startswith(prefix, autoescape=True))
            .order_by(DOCUMENTS.c.key)
        )
        rows = await self._run(lambda connection: connection.execute(query).all())
        # SQLite's LIKE ignores case; keys do not.
        return [_document_in(row) for row in rows if row.key.startswith(prefix)]

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Returns only once all changes are durable; on an error none is made.

        If the connection is lost during the commit itself, `StorageFailed` says that it is not
        known whether they were made.
        """

        def change_all(connection: sa.Connection) -> None:
            blind = [c for c in changes if isinstance(c, Put) and c.expected is None]
            keys = {(change.kind, change.key) for change in changes}
            if len(blind) == len(changes) == len(keys) > 1:
                # In one order, so that two writers do not wait for each other.
                blind.sort(key=lambda put: (put.kind, put.key))
                connection.execute(_upsert(connection), [_row(put) for put in blind])
                return
            for change in changes:
                _change(connection, change)

        if changes:
            await self._run(change_all)

    async def check(self) -> None:
        """Reads the whole store.

        Raises:
            StorageFailed: it cannot be read, or something in it is not what was written.
        """

        def read_all(connection: sa.Connection) -> None:
            if connection.dialect.name == "sqlite":
                wrong = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
                if wrong != "ok":
                    raise StorageFailed(f"state store is damaged: {wrong}")
            for row in connection.execute(sa.select(DOCUMENTS)):
                _document_in(row)

        await self._run(read_all, _MAX_CHECK_SECONDS)

    async def copy_into(self, other: SqlControl) -> None:
        """Copies all documents into an empty store, as of one moment.

        Raises:
            UsageError: the other store is not empty.
        """
        rows = await self._run(
            lambda connection: connection.execute(sa.select(DOCUMENTS)).all(), _MAX_COPY_SECONDS
        )

        def fill(connection: sa.Connection) -> None:
            if connection.execute(sa.select(DOCUMENTS.c.key).limit(1)).first() is not None:
                raise UsageError("the control store to copy into is not empty")
            if rows:
                connection.execute(sa.insert(DOCUMENTS), [dict(row._mapping) for row in rows])

        await other._run(fill, _MAX_COPY_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        if self._reader is not None:
            self._reader.dispose()
        async with self._lock:
            await asyncio.to_thread(self._engine.dispose)

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        if self._reader is None:
            return await self._run(work)
        return self._in_transaction(self._reader, work)

    async def _run(
        self, work: Callable[[sa.Connection], T], max_seconds: float = _MAX_SECONDS
    ) -> T:
        began = time.monotonic()
        async with self._lock:
            if self._unreachable_at is not None and self._unreachable_at > began - _PAUSE:
                raise StoreUnreachable("the control store could not be reached a moment ago")
            try:
                result = await self._attempt(work, max_seconds)
            except StorageFailed as error:
                is_reached = not isinstance(error, StoreUnreachable)
                self.failure = f"the control store {'failed' if is_reached else 'does not answer'}"
                raise
            except OpentrailError:
                self.failure = self._unreachable_at = None
                raise
            self.failure = self._unreachable_at = None
            return result

    async def _attempt(self, work: Callable[[sa.Connection], T], max_seconds: float) -> T:
        """Runs a transaction; again if the connection is lost, unless it was lost before."""
        delays: tuple[float, ...] = _RETRY_DELAYS
        if self._unreachable_at is not None:
            delays, max_seconds = (), min(max_seconds, _MAX_SECONDS_WHILE_UNREACHABLE)
        for number in range(len(delays) + 1):
            try:
                return await asyncio.to_thread(
                    self._in_transaction, self._engine, work, max_seconds
                )
            except _SilentError as error:
                failure, cause = "did not answer in time", error.__cause__
                break
            except _TransientError as error:
                failure, cause = f"failed in {number + 1} attempts: {error}", error.__cause__
            if number < len(delays):
                await asyncio.sleep(delays[number])
        self._unreachable_at = time.monotonic()
        raise StoreUnreachable(f"state store {failure}") from cause

    def _in_transaction(
        self,
        engine: sa.Engine,
        work: Callable[[sa.Connection], T],
        max_seconds: float = _MAX_SECONDS,
    ) -> T:
        is_connected = is_committing = False
        limit = nullcontext() if self._limits is None else self._limits.limited(max_seconds)
        try:
            with limit, engine.connect() as connection:
                is_connected = True
                transaction = connection.begin()
                if max_seconds > _MAX_SECONDS and self._limits is not None:
                    milliseconds = int(max_seconds * 1000)
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
                result = work(connection)
                is_committing = True
                transaction.commit()
                return result
        except sa.exc.SQLAlchemyError as error:
            cause, state = _cause(error), _sqlstate(error)
            is_lost = self._lost_connection(error, is_connected)
            is_silent = self._limits is not None and self._limits.caused(error)
            if is_committing and is_lost:
                self._unreachable_at = time.monotonic() if is_silent else None
                raise StorageFailed(
                    "state store failed while changes were committed; it is not known whether "
                    f"they were made: {cause}"
                ) from error
            if is_silent:
                raise _SilentError from error
            if is_lost or state in _TRANSIENT:
                raise _TransientError(cause) from error
            raise StorageFailed(f"state store failed: {cause}") from error

    def _lost_connection(self, error: sa.exc.SQLAlchemyError, is_connected: bool) -> bool:
        """Returns whether the database server could not be reached, or was not any more."""
        if self._engine.dialect.name == "sqlite" or not isinstance(error, sa.exc.DBAPIError):
            return False
        state = _sqlstate(error)
        if is_connected:
            return error.connection_invalidated or state in _SHUT_DOWN
        return state is None or state in _SHUT_DOWN


def _engine(url: str | sa.URL) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # The library's text has the URL, and with it the password.
        raise UsageError("the URL of the control store is not valid") from None
    if parsed.drivername == "sqlite":
        engine = sa.create_engine(parsed, pool_size=1, max_overflow=0, hide_parameters=True)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername != "postgresql":
        raise UsageError(
            f"the control store must be sqlite or a postgresql:// URL, not {parsed.drivername}://"
        )
    arguments: dict[str, Any] = {
        "connect_timeout": int(_MAX_SECONDS),
        "application_name": "opentrail",
        "options": f"-c statement_timeout={_STATEMENT_MILLISECONDS}",
        "tcp_user_timeout": _STATEMENT_MILLISECONDS,
    }
    try:
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args={n: value for n, value in arguments.items() if n not in parsed.query},
        )
    except ImportError as error:
        raise UsageError(
            f"a control store on PostgreSQL needs the package psycopg: {command_for('postgres')}"
        ) from error


def _change(connection: sa.Connection, change: StoreWrite) -> None:
    here = sa.and_(DOCUMENTS.c.kind == change.kind, DOCUMENTS.c.key == change.key)
    if not isinstance(change, Put):
        connection.execute(sa.delete(DOCUMENTS).where(here))
        return
    row = _row(change)
    if change.expected is None:
        connection.execute(_upsert(connection), row)
        return
    if change.expected == 0:
        insert = _insert(connection).on_conflict_do_nothing()
        result = connection.execute(insert.execution_options(preserve_rowcount=True), row)
    else:
        result = connection.execute(
            sa.update(DOCUMENTS)
            .where(here, DOCUMENTS.c.version == change.expected)
            .values(version=change.expected + 1, body=row["body"], checksum=row["checksum"])
        )
    if result.rowcount != 1:
        raise Conflict(f"{change.kind} {change.key!r} was changed since it was read")


def _insert(connection: sa.Connection) -> Any:
    # Loading a dialect takes megabytes and a tenth of a second or more.
    dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    return dialect.insert(DOCUMENTS).values(
        kind=sa.bindparam("kind"),
        key=sa.bindparam("key"),
        version=1,
        body=sa.bindparam("body"),
        checksum=sa.bindparam("checksum"),
    )


def _upsert(connection: sa.Connection) -> Any:
    """Returns the statement that writes a document of any version."""
    insert = _insert(connection)
    return insert.on_conflict_do_update(
        index_elements=[DOCUMENTS.c.kind, DOCUMENTS.c.key],
        set_={
            "version": DOCUMENTS.c.version + 1,
            "body": insert.excluded.body,
            "checksum": insert.excluded.checksum,
        },
    )


def _row(put: Put) -> dict[str, str | int]:
    body = json.dumps(put.document, separators=(",", ":"))
    checksum = _checksum(put.kind, put.key, body)
    return {"kind": put.kind, "key": put.key, "body": body, "checksum": checksum}


def _document_in(row: sa.Row[tuple[str, str, int, str, int | None]]) -> Stored:
    """Returns the document in a row.

    Raises:
        StorageFailed: it is not what was written.
    """
    if row.checksum not in (None, _checksum(row.kind, row.key, row.body)):
        raise StorageFailed(f"state store is damaged: {row.kind} {row.key!r} has changed")
    try:
        return Stored(row.key, row.version, json.loads(row.body))
    except ValueError as error:
        raise StorageFailed(f"state store is damaged: {row.kind} {row.key!r}: {error}") from error


def _checksum(kind: str, key: str, body: str) -> int:
    return zlib.crc32(f"{kind}\0{key}\0{body}".encode(errors="surrogatepass"))


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip()


def _sqlstate(error: sa.exc.SQLAlchemyError) -> str | None:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return None if state is None else str(state)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Python's module would begin transactions itself, and none for a change of the schema.
    connection.isolation_level = None
    _set_wal_mode(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _set_wal_mode(connection: sqlite3.Connection) -> None:
    """Sets the journal mode; SQLite does not wait by itself for others that open a new file."""
    for delay in (*_RETRY_DELAYS, None):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if delay is None or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(delay)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
