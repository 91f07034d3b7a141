"""The PostgreSQL database that several machines share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from opentrail.adapters.databases import (
    CommitUnknownError,
    DatabaseError,
    PostgresDatabase,
    SilentError,
    Transaction,
    TransientError,
)
from opentrail.core.errors import StorageFailed, StoreUnreachable

T = TypeVar("T")

#: Seconds for a transaction, in which each of several hosts may be tried.
MAX_TRANSACTION_SECONDS = 10.0
#: PostgreSQL's code for a statement that took too long.
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
    """Returns a `postgresql://` URL without its password, and the password if it has one."""
    parts = urlsplit(url)
    caller, _, hosts = parts.netloc.rpartition("@")
    user, _, password = caller.partition(":")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    secret = parameters.pop("password", unquote(password) or None)
    query = urlencode(parameters, quote_via=quote)
    netloc = f"{user}@{hosts}" if user else hosts
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}", secret


class SharedDatabase:
    """A PostgreSQL server, or one of several of which one accepts writes; one connection.

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
        """Returns what `work` returns once its changes are durable; transactions take turns.

        Raises:
            StoreUnreachable: it is not known whether anything was changed; a later attempt may
                succeed.
            StorageFailed: nothing was changed.
        """
        # Transactions take turns: none that waits occupies a thread.
        async with self._turn:
            return await asyncio.to_thread(self.run_blocking, work, seconds)

    def run_blocking(
        self, work: Callable[[Transaction], T], seconds: float = MAX_TRANSACTION_SECONDS
    ) -> T:
        """Does what `run` does, and blocks until it is done."""
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
