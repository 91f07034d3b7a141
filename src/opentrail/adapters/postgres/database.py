"""The shared PostgreSQL database of several machines, and the leases in one of its tables.

`FencedControl` is a control store that only the holder of a lease can change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sql.databases import (
    CommitUnknownError,
    DatabaseError,
    PostgresDatabase,
    SilentError,
    Transaction,
    TransientError,
)
from opentrail.core.errors import LeaseLost, StorageFailed, StoreUnreachable
from opentrail.ports.control import Lease, Stored, StoreWrite

T = TypeVar("T")

#: Seconds for a transaction, which may try several hosts.
MAX_TRANSACTION_SECONDS = 10.0
#: PostgreSQL's code for a statement timeout.
_STATEMENT_TIMEOUT = "57014"
_REPLICATION = (
    "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names')"
)
#: Seconds for each host to accept a connection.
_CONNECT_SECONDS = 2


def has_quorum_commit(transaction: Transaction) -> bool:
    """Returns whether commits of this user are on a standby's disk when they are acknowledged."""
    ((commit, standbys),) = transaction.rows(_REPLICATION)
    return commit in ("on", "remote_apply") and bool(standbys.strip())


def split_password(url: str) -> tuple[str, str | None]:
    """Returns a `postgresql://` URL without its password, and the password, if any."""
    parts = urlsplit(url)
    caller, _, hosts = parts.netloc.rpartition("@")
    user, _, password = caller.partition(":")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    secret = parameters.pop("password", unquote(password) or None)
    query = urlencode(parameters, quote_via=quote)
    netloc = f"{user}@{hosts}" if user else hosts
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}", secret


class SharedDatabase:
    """A connection to a PostgreSQL server, or to the writable one among several.

    Args:
        url: `postgresql://USER:PASSWORD@HOST,HOST/DATABASE`.

    Raises:
        UsageError: the URL is not valid, or PostgreSQL's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "journal", _CONNECT_SECONDS)
        self._turn = asyncio.Lock()

    async def run(
        self, work: Callable[[Transaction], T], seconds: float = MAX_TRANSACTION_SECONDS
    ) -> T:
        """Returns the result of `work` once its changes are durable; transactions take turns.

        Raises:
            StoreUnreachable: the outcome is unknown; a later attempt may succeed.
            StorageFailed: nothing was changed.
        """
        # Transactions take turns, so that waiting ones occupy no thread.
        async with self._turn:
            return await asyncio.to_thread(self.run_blocking, work, seconds)

    def run_blocking(
        self, work: Callable[[Transaction], T], seconds: float = MAX_TRANSACTION_SECONDS
    ) -> T:
        """Like `run`, but blocks until done."""
        try:
            return self._database.run(work, seconds)
        except (SilentError, TransientError, CommitUnknownError) as error:
            raise StoreUnreachable(f"PostgreSQL: {error}") from error.__cause__
        except DatabaseError as error:
            # A statement waits for another transaction, such as the first attempt of an insert
            # whose commit waits for a standby.
            is_late = getattr(error.__cause__, "sqlstate", None) == _STATEMENT_TIMEOUT
            failure = StoreUnreachable if is_late else StorageFailed
            raise failure(f"PostgreSQL: {error}") from error.__cause__

    async def notifications(self, channel: str, seconds: float) -> AsyncGenerator[None, None]:
        """Yields after each notification, and after `seconds` without one; once at the start.

        Raises:
            StoreUnreachable: the connection was lost.
        """
        driver = self._database.driver
        try:
            connection = await driver.AsyncConnection.connect(
                **self._database.parameters, autocommit=True
            )
            async with connection:
                await connection.execute(f"LISTEN {channel}".encode())
                yield
                while True:
                    async for _ in connection.notifies(timeout=seconds, stop_after=1):
                        pass
                    yield
        except driver.Error as error:
            raise StoreUnreachable(f"PostgreSQL: {error}") from error

    async def close(self) -> None:
        """Closes the connection."""
        await asyncio.to_thread(self._database.close)


# Leases

#: Seconds before a lease expires without renewal.
LEASE_SECONDS = 5.0
_UNTIL = "clock_timestamp() + make_interval(secs => ?)"
_ACQUIRE = f"""
    INSERT INTO opentrail.lease AS held (name, holder, epoch, until) VALUES (?, ?, 1, {_UNTIL})
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, epoch = held.epoch + 1, until = excluded.until
    WHERE held.until <= clock_timestamp() OR held.holder = excluded.holder
    RETURNING epoch
"""  # noqa: S608 - ours
#: Checks the holder as well: an epoch is reused if the commit that assigned it was lost.
_IS_HELD = "name = ? AND epoch = ? AND holder = ?"
_RENEW = f"UPDATE opentrail.lease SET until = {_UNTIL} WHERE {_IS_HELD}"  # noqa: S608 - ours
_HOLDER = "SELECT holder FROM opentrail.lease WHERE name = ? AND until > clock_timestamp()"
_RELEASE = f"UPDATE opentrail.lease SET until = '-infinity' WHERE {_IS_HELD}"  # noqa: S608 - ours


class PostgresLeases:
    """`Leases` in a table.

    Args:
        database: has the tables of `schema`.
        seconds: duration of a lease without renewal.
    """

    def __init__(self, database: SharedDatabase, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self.seconds = seconds

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Returns the lease with a new epoch; None if another holder has it."""
        values = (name, holder, self.seconds)
        rows = await self._database.run(lambda transaction: transaction.rows(_ACQUIRE, values))
        return Lease(name, holder, rows[0][0]) if rows else None

    async def renew(self, lease: Lease) -> bool:
        """Extends a lease; returns False if another process has acquired it."""
        try:
            await self._database.run(lambda transaction: self.fence(transaction, lease))
        except LeaseLost:
            return False
        return True

    async def release(self, lease: Lease) -> None:
        """Ends a lease, so that another process can acquire it immediately."""
        values = (lease.name, lease.epoch, lease.holder)
        await self._database.run(lambda transaction: transaction.change(_RELEASE, values))

    async def holder(self, name: str) -> str | None:
        """Returns the holder of a lease; None without one."""
        rows = await self._database.run(lambda transaction: transaction.rows(_HOLDER, [name]))
        return str(rows[0][0]) if rows else None

    def fence(self, transaction: Transaction, lease: Lease) -> None:
        """Extends a lease and locks it until the transaction ends; must be its first statement.

        Raises:
            LeaseLost: another process has acquired it.
        """
        values = (self.seconds, lease.name, lease.epoch, lease.holder)
        if transaction.change(_RENEW, values) != 1:
            raise LeaseLost(f"another process has acquired the lease {lease.name!r}")


class FencedControl:
    """A `ControlStore` that checks a lease in the transaction of each change.

    Args:
        control: the store, in the database of the leases.
        leases: the leases.
    """

    def __init__(self, control: SqlControl, leases: PostgresLeases) -> None:
        self._control = control
        self._leases = leases
        #: The lease, while this process takes itself for its holder.
        self.lease: Lease | None = None

    async def get(self, kind: str, key: str) -> Stored | None:
        """Returns the document, or None."""
        return await self._control.get(kind, key)

    async def get_each(self, kinds: Sequence[str], key: str) -> dict[str, Stored]:
        """Returns the existing documents with this key, by kind."""
        return await self._control.get_each(kinds, key)

    async def scan(self, kind: str, prefix: str = "") -> list[Stored]:
        """Returns the documents of a kind whose keys start with `prefix`, by key."""
        return await self._control.scan(kind, prefix)

    async def page(self, kind: str, after: str, count: int) -> list[Stored]:
        """Returns the first `count` documents of a kind with keys beyond `after`, by key."""
        return await self._control.page(kind, after, count)

    async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
        """Returns a string for each kind; it changes with each change of a document."""
        return await self._control.revisions(kinds)

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        """Returns only once all changes are durable; on an error none is made.

        Raises:
            LeaseLost: this process does not hold the lease.
        """
        await self._control.apply(changes, self._fence())

    async def remove_below(self, kind: str, key: str) -> None:
        """Removes the documents of a kind whose keys sort before `key`.

        Raises:
            LeaseLost: this process does not hold the lease.
        """
        await self._control.remove_below(kind, key, self._fence())

    def _fence(self) -> Callable[[Transaction], None]:
        if (lease := self.lease) is None:
            raise LeaseLost("this server does not hold the lease")
        return lambda transaction: self._leases.fence(transaction, lease)

    async def close(self) -> None:
        """Does nothing: the store stays open."""
