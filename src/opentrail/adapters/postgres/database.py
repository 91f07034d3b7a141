"""The PostgreSQL database that several machines share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from opentrail.adapters.sql.databases import (
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
MAX_SECONDS = 10.0
#: Seconds for each host to accept a connection.
_CONNECT_SECONDS = 2


class SharedDatabase:
    """A PostgreSQL server, or one of several of which one accepts writes; one connection.

    Args:
        url: `postgresql://USER:PASSWORD@HOST,HOST/DATABASE`.

    Raises:
        UsageError: the URL is not valid, or PostgreSQL's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url, "journal", _CONNECT_SECONDS)

    async def run(self, work: Callable[[Transaction], T], seconds: float = MAX_SECONDS) -> T:
        """Returns what `work` returns once its changes are durable; transactions take turns.

        Raises:
            StoreUnreachable: it is not known whether anything was changed; a later attempt may
                succeed.
            StorageFailed: nothing was changed.
        """
        return await asyncio.to_thread(self.run_blocking, work, seconds)

    def run_blocking(self, work: Callable[[Transaction], T], seconds: float = MAX_SECONDS) -> T:
        """Does what `run` does, and blocks until it is done."""
        try:
            return self._database.run(work, seconds)
        except (SilentError, TransientError, CommitUnknownError) as error:
            raise StoreUnreachable(f"PostgreSQL: {error}") from error.__cause__
        except DatabaseError as error:
            raise StorageFailed(f"PostgreSQL: {error}") from error.__cause__

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
