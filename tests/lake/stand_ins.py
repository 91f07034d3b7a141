"""A query engine whose queries end when a test says so, and a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from opentrail.core.errors import (
    CloudTrailError,
    ObjectStoreError,
    QueryFailed,
    StatementRefused,
    StorageFailed,
    StoreInactive,
)
from opentrail.ports.queries import (
    QueryStatistics,
    QueryStore,
    QueryTables,
    ResultPlace,
    Row,
    StoredQuery,
    ignore_progress,
)


class StandInEngine:
    """Refuses statements with `nosuch`, fails those with `fails`; others have the rows 1, 2, 3."""

    def __init__(self) -> None:
        self.tables: list[QueryTables] = []
        self.running = 0
        #: Queries with `slow` wait for it.
        self.go_on = asyncio.Event()

    async def run(
        self,
        query: StoredQuery,
        tables: QueryTables,
        translated: Callable[[list[tuple[str, str]]], None],
        progressed: Callable[[int], None] = ignore_progress,
    ) -> QueryStatistics:
        self.tables.append(tables)
        if "nosuch" in query.statement:
            raise StatementRefused("line 1:8: Column 'nosuch' cannot be resolved")
        for name, store in tables.stores.items():
            if store.deleted_at is not None:
                raise StoreInactive(f"Event data store {name} is in status {store.status}.")
        translated([("n", "integer")])
        self.running += 1
        try:
            if "slow" in query.statement:
                progressed(42)
                await self.go_on.wait()
        finally:
            self.running -= 1
        if "fails" in query.statement:
            raise QueryFailed("Division by zero")
        return QueryStatistics(3, 10, 1_000)


class MemoryQueries:
    """A `QueryStore` in memory; each result has the rows 1, 2, 3.

    Servers that share it have the same `stored`.
    """

    max_bytes = 1_000

    def __init__(self, server: str = "", stored: dict[str, StoredQuery] | None = None) -> None:
        self.server = server
        self.stored: dict[str, StoredQuery] = {} if stored is None else stored
        self.result_bytes = 6
        self.running = {"", "one", "two"}
        #: Reads and writes that still fail.
        self.failures = 0

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageFailed("the control store could not be reached a moment ago")

    async def open(self) -> list[StoredQuery]:
        return await self.all()

    async def is_running(self, server: str) -> bool:
        return server in self.running

    async def all(self) -> list[StoredQuery]:
        return sorted(self.stored.values(), key=lambda query: query.created)

    async def get(self, query_id: str) -> StoredQuery | None:
        self._fail()
        return self.stored.get(query_id)

    async def publish(self, query_id: str) -> None:
        pass

    async def put(self, query: StoredQuery) -> None:
        self._fail()
        self.stored[query.id] = query

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        rows: list[Row] = [["1"], ["2"], ["3"]]
        return rows[first : first + limit]

    async def size(self) -> int:
        return self.result_bytes * len(self.stored)

    async def delete(self, query_id: str) -> int:
        self.stored.pop(query_id, None)
        return self.result_bytes


class StandInDelivery:
    """A `ResultDelivery` that fails some times; buckets named `nosuch` are missing."""

    def __init__(self) -> None:
        self.failures = 0
        self.delivered: list[tuple[str, str]] = []
        #: Whether the caller may write, by verification.
        self.verified: list[bool | None] = []

    async def verify(self, uri: str, store_arn: str, may_write: bool | None = None) -> None:
        self.verified.append(may_write)
        if "nosuch" in uri:
            raise CloudTrailError("S3BucketDoesNotExistException", "S3 bucket nosuch")

    async def deliver(self, query: StoredQuery, place: ResultPlace, store: QueryStore) -> None:
        if self.failures:
            self.failures -= 1
            raise ObjectStoreError("SlowDown", "503")
        self.delivered.append((query.id, place.uri))
