"""Running SQL statements over event history, and keeping their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

QueryStatus = Literal["QUEUED", "RUNNING", "FINISHED", "FAILED", "CANCELLED", "TIMED_OUT"]


class QueryStatistics(msgspec.Struct, frozen=True):
    """What a query read and found.

    Attributes:
        rows: rows of the result.
        events: visible events of the tables that it read.
        bytes: bytes of the files and records that it read.
    """

    rows: int
    events: int
    bytes: int


class StoredQuery(msgspec.Struct, frozen=True):
    """A query and its state.

    Attributes:
        accounts: the accounts whose events it sees; None: all.
        owner: the account that started it, or the console user.
        created, ended: seconds since 1970.
        columns: name and Trino type of each column.
    """

    id: str
    statement: str
    owner: str
    accounts: list[str] | None
    status: QueryStatus
    created: float
    ended: float | None = None
    error: str | None = None
    columns: list[tuple[str, str]] = []
    statistics: QueryStatistics | None = None


#: A row of a result: a text per column, None for NULL.
Row = list[str | None]


class QueryEngine(Protocol):
    """Runs statements over event history."""

    async def run(
        self,
        query: StoredQuery,
        tables: Sequence[str],
        translated: Callable[[list[tuple[str, str]]], None],
    ) -> QueryStatistics:
        """Run a statement to its end, and store its rows; cancelling ends it within a second.

        Args:
            query: the query.
            tables: names of the store `event_history`.
            translated: called with the columns once the statement is known to be valid.

        Raises:
            StatementRefused: the statement is not valid.
            QueryFailed: it failed while it ran.
        """
        ...


class QueryStore(Protocol):
    """Keeps queries and their results."""

    async def all(self) -> list[StoredQuery]:
        """Return the stored queries, oldest first."""
        ...

    async def put(self, query: StoredQuery) -> None:
        """Store a query durably."""
        ...

    async def rows(self, query_id: str, first: int, limit: int) -> list[Row]:
        """Return rows of a result, from a row number on."""
        ...

    async def size(self) -> int:
        """Return the bytes of all results."""
        ...

    async def delete(self, query_id: str) -> int:
        """Delete a query and its result; return the bytes of the result."""
        ...
