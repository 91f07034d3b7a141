"""The two databases of a control store: their transactions and errors."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from opentrail.adapters.data_directory.system import read_only_uri, sync_at_commit
from opentrail.core.errors import UsageError
from opentrail.core.version import command_for

log = logging.getLogger(__name__)

#: The sessions that block a session, directly or not, and wait for their client. They belong to the
#: same user, and have written something or are opentrail's own: a `pg_dump` with a slow disk is not
#: ended. A session that waits for a standby does not wait for its client.
_END_SILENT_BLOCKERS = """
    WITH RECURSIVE blocker (pid) AS (
        SELECT unnest(pg_blocking_pids(%s))
        UNION SELECT unnest(pg_blocking_pids(blocker.pid)) FROM blocker
    )
    SELECT pid, application_name, client_addr::text, pg_terminate_backend(pid)
    FROM blocker JOIN pg_stat_activity USING (pid)
    WHERE usename = current_user AND wait_event_type = 'Client'
    AND (backend_xid IS NOT NULL OR application_name = current_setting('application_name'))
    AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


class SilentBlockers:
    """Sessions whose client was paused, cut off or lost power within a transaction.

    PostgreSQL ends most of them by `idle_in_transaction_session_timeout`. That timeout does not
    apply to a partly received message, or to a client that does not read the answer.

    Args:
        connect: opens a connection of the same user.
        seconds: maximum silence of a client that blocks others.
    """

    def __init__(self, connect: Callable[[], Any], seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        #: Held by the thread that looks for them.
        self._looking = threading.Lock()

    def end(self, blocked: int) -> None:
        """Ends the sessions that block another one, in a thread: PostgreSQL may not answer.

        Args:
            blocked: the process id of the blocked session on PostgreSQL.
        """
        if self._looking.acquire(blocking=False):
            threading.Thread(
                target=self._end, args=[blocked], name="silent blockers", daemon=True
            ).start()

    def _end(self, blocked: int) -> None:
        try:
            with closing(self._connect()) as connection:
                ended = connection.execute(_END_SILENT_BLOCKERS, [blocked, self._seconds])
                for pid, application, address, _ in ended.fetchall():
                    log.warning(
                        "ended a session of a silent client that blocked other sessions",
                        extra={"pid": pid, "application": application, "address": address},
                    )
        except Exception as error:  # noqa: BLE001 - the driver is optional; a retry may succeed
            log.debug("blocking sessions unknown", extra={"error": str(error)})
        finally:
            self._looking.release()


#: Seconds until a connection opened during the close is closed as well.
_CLOSE_RETRY_SECONDS = 0.5
#: Seconds between two calls of `on_slow`.
_SLOW_SECONDS = 1.0
#: The shortest connect timeout of PostgreSQL's client library, in seconds.
_MIN_CONNECT_SECONDS = 2


class TimeLimit:
    """Cuts off a slow transaction by closing its connection.

    PostgreSQL's own limits do not help while it is frozen or its machine is down: the driver would
    wait for its answer forever.

    Args:
        on_slow: called each second of a block, in a thread; must return immediately.
    """

    def __init__(self, on_slow: Callable[[], None] = lambda: None) -> None:
        self._on_slow = on_slow
        #: psycopg's connection, once it is open.
        self.connection: Any = None
        #: Whether the last block took too long.
        self.has_expired = False
        self._seconds = 0.0

    @property
    def connect_seconds(self) -> int:
        """Seconds for connecting within the block."""
        return max(int(self._seconds), _MIN_CONNECT_SECONDS)

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Closes the connection if the block takes longer; a pending request then fails."""
        self._seconds, self.has_expired = seconds, False
        ended = threading.Event()

        end = time.monotonic() + seconds

        def watch() -> None:
            while not ended.wait(min(_SLOW_SECONDS, end - time.monotonic())):
                if time.monotonic() < end:
                    self._on_slow()
                    continue
                self.has_expired = True
                self._hang_up()
                if ended.wait(_CLOSE_RETRY_SECONDS):
                    return

        watcher = threading.Thread(target=watch, name="time limit", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _hang_up(self) -> None:
        connection = self.connection
        if connection is None or connection.closed:
            return
        with suppress(Exception):  # it may be closed already, and the limit must continue
            # A copy of the descriptor is closed here; the driver closes its own.
            copy = socket.socket(fileno=os.dup(connection.fileno()))
            try:
                copy.shutdown(socket.SHUT_RDWR)
            finally:
                copy.close()


T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]

#: Seconds for a transaction on PostgreSQL.
MAX_CONTROL_SECONDS = 5.0
#: Seconds before each new attempt to set the journal mode of a new SQLite file.
_BUSY_DELAYS = (0.1, 0.4, 1.0, 2.0)
#: Seconds that SQLite waits for another writer.
_LOCK_SECONDS = 5.0
#: Milliseconds for a statement, enforced by PostgreSQL, and until sent data is acknowledged.
_STATEMENT_MILLISECONDS = 4_000
#: Milliseconds that a transaction waits for its client, which may be paused or dead; PostgreSQL
#: then ends it, to release its locks. See `SilentBlockers` for the exceptions.
_IDLE_MILLISECONDS = 3_000
#: Milliseconds for a transaction, enforced by PostgreSQL from version 17 on.
_TRANSACTION_MILLISECONDS = 8_000
_HAS_TRANSACTION_TIMEOUT = 17_00_00
#: Transactions with a longer limit run without other servers, such as a migration.
_MAX_LIMITED_SECONDS = 10.0
#: Seconds for a connection that looks for blocking sessions.
_MAX_BLOCKER_QUERY_SECONDS = 2
#: Session settings of PostgreSQL; those in the URL follow and win. PostgreSQL detects a dead client
#: machine within 4 s.
_SESSION_SETTINGS = {
    "statement_timeout": _STATEMENT_MILLISECONDS,
    "idle_in_transaction_session_timeout": _IDLE_MILLISECONDS,
    "tcp_user_timeout": _STATEMENT_MILLISECONDS,
    "tcp_keepalives_idle": 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 2,
}
#: The same on the client's side.
_CLIENT_SETTINGS = {
    "tcp_user_timeout": _STATEMENT_MILLISECONDS,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
}
#: Returns the number of transactions that have changed a SQLite file. SQLite's recovery ends
#: silently at the first damaged frame of the write-ahead log; a smaller number reveals that.
REVISION = "PRAGMA user_version"
#: The number of revisions, after which they restart at 0: a signed 32-bit integer.
_REVISIONS = 1 << 31
#: PostgreSQL's codes of errors after which the same transaction may succeed.
_TRANSIENT = ("40001", "40P01", "53300")
#: Its codes for a server that stops or starts.
_SHUT_DOWN = ("57P01", "57P02", "57P03")
#: Its code for a server that is now a standby and accepts no writes.
_READ_ONLY = "25006"


class DatabaseError(Exception):
    """A transaction failed, and changed nothing."""


class TransientError(DatabaseError):
    """The same transaction may succeed if retried."""


class SilentError(DatabaseError):
    """The database did not answer in time."""


class CommitUnknownError(Exception):
    """The commit failed or was not replicated as configured: the changes may have been made."""

    def __init__(self, cause: str, is_silent: bool) -> None:
        super().__init__(cause)
        #: Whether the database did not answer in time.
        self.is_silent = is_silent


class Transaction:
    """A transaction that has begun. Statements have `?` for values."""

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self.dialect = dialect
        self._cursor = cursor

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Returns the rows of a query."""
        self._cursor.execute(self._own(statement), tuple(values))
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Runs a statement and returns the number of changed rows."""
        self._cursor.execute(self._own(statement), tuple(values))
        return int(self._cursor.rowcount)

    def change_each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Changes several rows.

        On SQLite the statement runs once for each row. On PostgreSQL it runs once, and each of its
        values is an array of a column: `unnest(?::bigint[], ?::text[])`. The driver's pipeline is
        not used: it keeps PostgreSQL from detecting a stopped client.
        """
        each = [tuple(values) for values in rows]
        if self.dialect == "sqlite":
            self._cursor.executemany(statement, each)
        elif each:
            self._cursor.execute(
                self._own(statement), [list(column) for column in zip(*each, strict=True)]
            )

    def _own(self, statement: str) -> str:
        return statement if self.dialect == "sqlite" else statement.replace("?", "%s")


class ControlDatabase(Protocol):
    """A database with at most one connection; transactions of several threads take turns."""

    @property
    def dialect(self) -> Dialect:
        """Which one it is."""
        ...

    def run(self, work: Callable[[Transaction], T], seconds: float, is_alone: bool = False) -> T:
        """Return the result of `work` once its changes are durable; on an error none is made.

        Args:
            work: runs the statements.
            seconds: deadline with a remote database, including the wait for the turn.
            is_alone: whether to keep other processes from writing, on SQLite.

        Raises:
            TransientError, SilentError, DatabaseError: nothing was changed.
            CommitUnknownError: the outcome is unknown.
        """
        ...

    def close(self) -> None:
        """Close the connection; the next transaction opens a new one."""
        ...


class SqliteDatabase:
    """A SQLite file."""

    dialect: Dialect = "sqlite"

    def __init__(self, file: Path, is_read_only: bool = False) -> None:
        self._file = file
        self._is_read_only = is_read_only
        #: Called with the revision of each durable transaction.
        self.on_commit: Callable[[int], None] = lambda revision: None
        #: Held for a transaction: a cancelled task leaves its thread at work.
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Callable[[Transaction], T], seconds: float, is_alone: bool = False) -> T:
        """Runs a transaction; see `ControlDatabase`."""
        with self._turn:
            try:
                connection = self._connected()
                changes, revision = connection.total_changes, None
                connection.execute("BEGIN IMMEDIATE" if is_alone else "BEGIN")
                try:
                    result = work(Transaction(connection.cursor(), self.dialect))
                    if connection.total_changes != changes:
                        revision = _next_revision(connection)
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise DatabaseError(str(error)) from error
            if revision is not None:
                self.on_commit(revision)
            return result

    def close(self) -> None:
        """Closes the connection."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            # `run` begins transactions; threads use the connection in turn.
            connection = sqlite3.connect(
                read_only_uri(self._file) if self._is_read_only else self._file,
                timeout=_LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                uri=self._is_read_only,
            )
            try:
                _set_wal_mode(connection)
                sync_at_commit(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection


class PostgresDatabase:
    """A database of a PostgreSQL server."""

    dialect: Dialect = "postgresql"

    def __init__(
        self,
        url: str,
        purpose: str = "control store",
        connect_seconds: int = int(MAX_CONTROL_SECONDS),
    ) -> None:
        """Stores the address of a database; the first transaction connects to it.

        Args:
            url: `postgresql://USER:PASSWORD@HOST,HOST/DATABASE?NAME=VALUE`.
            purpose: the purpose of the database, for messages.
            connect_seconds: deadline for each host to accept a connection.

        Raises:
            UsageError: the driver is not installed, or the URL is not valid.
        """
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise UsageError(
                f"a {purpose} on PostgreSQL needs the package psycopg: {command_for('postgres')}"
            ) from error
        self.driver = psycopg
        try:
            for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
                _ = urlsplit(f"//{host}").port
            given: dict[str, Any] = conninfo_to_dict(url)
        except (ValueError, psycopg.Error):
            # Their messages contain the URL, and with it the password.
            raise _invalid_url(purpose) from None
        self.parameters: dict[str, Any] = {
            "connect_timeout": connect_seconds,
            "application_name": "opentrail",
            **_CLIENT_SETTINGS,
            # With several hosts, skip standbys.
            "target_session_attrs": "read-write",
            **given,
            "options": " ".join(
                [*(f"-c {name}={value}" for name, value in _SESSION_SETTINGS.items())]
                + ([given["options"]] if "options" in given else [])
            ),
        }
        self._blockers = SilentBlockers(self._connect, _IDLE_MILLISECONDS / 1_000)
        self._limit = TimeLimit(self._end_blockers)
        #: Held for a transaction: a cancelled task leaves its thread at work.
        self._turn = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        #: The process of the connection on PostgreSQL.
        self._session: int | None = None
        #: PostgreSQL's warnings since the commit began.
        self._warning: str | None = None

    def run(self, work: Callable[[Transaction], T], seconds: float, is_alone: bool = False) -> T:
        """Runs a transaction; see `ControlDatabase`."""
        end = time.monotonic() + seconds
        if not self._turn.acquire(timeout=seconds):
            raise SilentError("another transaction has not ended")
        try:
            return self._run(work, end - time.monotonic())
        finally:
            self._turn.release()

    def _run(self, work: Callable[[Transaction], T], seconds: float) -> T:
        is_connected = is_committing = False
        try:
            with self._limit.limited(seconds):
                connection = self._connected()
                is_connected = True
                try:
                    with connection.cursor() as cursor:
                        if seconds > MAX_CONTROL_SECONDS:
                            cursor.execute(_longer(connection, int(seconds * 1000)))
                        result = work(Transaction(cursor, self.dialect))
                    is_committing, self._warning = True, None
                    connection.commit()
                    if self._warning is not None:
                        # An operator has ended the wait for standbys.
                        raise CommitUnknownError(self._warning, is_silent=False)
                except BaseException:
                    with suppress(self.driver.Error):
                        connection.rollback()
                    raise
                return result
        except self.driver.Error as error:
            cause, state = str(error).strip(), error.sqlstate
            is_timeout = isinstance(error, self.driver.errors.ConnectionTimeout)
            is_silent = self._limit.has_expired or is_timeout
            is_lost = state in _SHUT_DOWN or (self._is_broken if is_connected else state is None)
            if self._is_broken or state == _READ_ONLY:
                self._disconnect()
            if is_committing and is_lost:
                raise CommitUnknownError(cause, is_silent) from error
            if is_silent:
                raise SilentError(cause) from error
            if is_lost or state in (*_TRANSIENT, _READ_ONLY):
                raise TransientError(cause) from error
            raise DatabaseError(cause) from error

    def close(self) -> None:
        """Closes the connection."""
        with self._turn:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._session = self._limit.connection = None
        if connection is not None:
            with suppress(self.driver.Error):
                connection.close()

    @property
    def _is_broken(self) -> bool:
        connection = self._connection
        return connection is not None and (connection.closed or connection.broken)

    def _connected(self) -> Any:
        if self._connection is None or self._is_broken:
            self._disconnect()
            asked = int(self.parameters["connect_timeout"])
            connection = self._connect(min(asked, self._limit.connect_seconds))
            self._limit.connection = connection
            try:
                if connection.info.server_version >= _HAS_TRANSACTION_TIMEOUT:
                    # Earlier versions would refuse a connection with it.
                    connection.execute(f"SET transaction_timeout = {_TRANSACTION_MILLISECONDS}")
                connection.autocommit = False
            except self.driver.Error:
                connection.close()
                raise
            connection.add_notice_handler(self._store_warning)
            self._session = connection.info.backend_pid
            self._connection = connection
        return self._connection

    def _connect(self, seconds: int = _MAX_BLOCKER_QUERY_SECONDS) -> Any:
        """Returns a new connection without transactions."""
        return self.driver.connect(
            **{**self.parameters, "connect_timeout": seconds}, autocommit=True
        )

    def _end_blockers(self) -> None:
        """Ends sessions that have long blocked the transaction, if their client is silent."""
        if self._session is not None:
            self._blockers.end(self._session)

    def _store_warning(self, diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warning = diagnostic.message_primary


def _invalid_url(purpose: str = "control store") -> UsageError:
    return UsageError(f"the URL of the {purpose} is not valid")


def _next_revision(connection: sqlite3.Connection) -> int:
    """Increments the number of transactions that have changed the file, and returns it."""
    ((former,),) = connection.execute(REVISION)
    revision = (int(former) + 1) % _REVISIONS
    connection.execute(f"PRAGMA user_version = {revision}")
    return revision


def revisions_behind(revision: int, other: int) -> int:
    """Returns the number of transactions between a revision and a later one, or 0."""
    behind = (other - revision) % _REVISIONS
    return behind if behind < _REVISIONS // 2 else 0


def _longer(connection: Any, milliseconds: int) -> str:
    """Returns the statements for a slow transaction."""
    statement = f"SET LOCAL statement_timeout = {milliseconds}"
    is_limited = connection.info.server_version >= _HAS_TRANSACTION_TIMEOUT
    if is_limited and milliseconds > _MAX_LIMITED_SECONDS * 1_000:
        # PostgreSQL does not change a running timeout, so this disables it first.
        for value in (0, milliseconds):
            statement += f"; SET LOCAL transaction_timeout = {value}"
    return statement


def _set_wal_mode(connection: sqlite3.Connection) -> None:
    """Sets the journal mode; SQLite does not wait for other openers of a new file."""
    for delay in (*_BUSY_DELAYS, None):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if delay is None or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(delay)
        else:
            return
