"""SQL queries over events: started, followed, cancelled, and their results."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from opentrail.core.errors import (
    CloudTrailError,
    ObjectStoreError,
    OpentrailError,
    QueryFailed,
    StatementRefused,
    StoreInactive,
)
from opentrail.lake.event_history import NAME, store_id
from opentrail.lake.store_registry import Stores, tables_of
from opentrail.ports.clock import Clock
from opentrail.ports.queries import (
    DeliveryStatus,
    QueryEngine,
    QueryStatus,
    QueryStore,
    QueryTables,
    ResultDelivery,
    ResultPlace,
    Row,
    StoredQuery,
)

log = logging.getLogger(__name__)

#: Maximum queries of an account or user that run at the same time, as in AWS, while no other's run.
MAX_ACTIVE: Final = 10
#: Maximum queries of all that run at the same time: the shares of ten, one after the other.
MAX_ACTIVE_OF_ALL: Final = 30
#: Maximum characters of a statement, in AWS's model.
MAX_STATEMENT = 10_000
KEPT = timedelta(days=7)
#: Maximum stored queries; the oldest are deleted.
MAX_STORED = 10_000
_DEADLINE = timedelta(hours=1)
#: Seconds between two deletions of old queries.
_EXPIRY_SECONDS = 60.0
#: Seconds between two looks at a query that another server runs or cancels.
_POLL_SECONDS = 0.5
_ACTIVE: tuple[QueryStatus, ...] = ("QUEUED", "RUNNING")
#: An id of a query, which is also the name of files.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Seconds between attempts to deliver a result, or to store the end of a query.
_RETRIES = (1, 10, 60, 600, 3_600)
_STOPPED = "the server stopped while the query ran"
_FindTables = Callable[[], Awaitable[QueryTables]]


class Queries:
    """The queries of all callers; `open` first.

    Args:
        engine: runs statements.
        store: keeps queries and results.
        clock: the time.
        delivery: writes results to S3.
        stores: the created event data stores.
        retries: seconds between attempts to deliver a result, or to store the end of a query.
    """

    def __init__(
        self,
        engine: QueryEngine,
        store: QueryStore,
        clock: Clock,
        delivery: ResultDelivery,
        stores: Stores,
        retries: Sequence[float] = _RETRIES,
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self.delivery = delivery
        self.stores = stores
        self._retries = retries
        #: The queries that run here, with state that is not stored yet.
        self._active: dict[str, StoredQuery] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()
        #: Time of the last deletion of old queries.
        self._expired = -math.inf

    async def open(self) -> None:
        """Marks queries that ran here as failed, and resumes deliveries."""
        for query in await self._store.open():
            if query.server != self._store.server:
                continue
            if query.status in _ACTIVE:
                await self._end(query, "FAILED", _STOPPED)
            elif query.place and query.status == "FINISHED" and query.place.status == "PENDING":
                self._follow(query.id, self._deliver(query, query.place))
        await self._expire()

    async def close(self) -> None:
        """Ends running queries; the next `open` resumes deliveries."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(
        self,
        statement: str,
        owner: str,
        accounts: Sequence[str] | None,
        place: ResultPlace | None = None,
        region: str | None = None,
        *,
        shared: frozenset[str] | None = None,
        reads: Sequence[str] | None = None,
    ) -> StoredQuery:
        """Starts a query, once its statement is known to be valid.

        Args:
            statement: SQL of at most `MAX_STATEMENT` characters.
            owner: who may see it: an account, or a console user.
            accounts: the accounts whose events it sees; None: all.
            place: where to deliver the result.
            region: the Region whose created stores it sees, or `EVERY_REGION`; None: none.
            shared: the ARNs of the stores that it sees, and not `event_history`; None: all.
            reads: the ARNs of the stores that it reads, on which policies decided.

        Raises:
            CloudTrailError: `InvalidQueryStatementException`, `InactiveEventDataStoreException` or
                `MaxConcurrentQueriesException`.
        """
        await self._expire()
        self._check_share(owner)
        if len(statement) > MAX_STATEMENT:
            raise _invalid(f"a statement has at most {MAX_STATEMENT:,} characters")
        now = self._clock.now().timestamp()
        own = None if accounts is None else list(accounts)
        query = StoredQuery(
            str(uuid.uuid4()),
            statement,
            owner,
            own,
            "RUNNING",
            now,
            place=place,
            server=self._store.server,
            reads=None if reads is None else list(reads),
        )
        # Counted before the next await, so that concurrent calls respect the maximum.
        self._active[query.id] = query
        valid: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tables = partial(self._tables, query, region, shared)
        task = self._follow(query.id, self._run(query, tables, valid))
        try:
            await asyncio.wait([valid, task], return_when=asyncio.FIRST_COMPLETED)
            if not valid.done():
                await task  # raises what went wrong
            valid.result()
        except StoreInactive as error:
            raise CloudTrailError("InactiveEventDataStoreException", str(error)) from None
        except StatementRefused as error:
            raise _invalid(str(error)) from None
        except asyncio.CancelledError:
            task.cancel()
            raise
        return await self.find(query.id, owner)

    def _check_share(self, owner: str) -> None:
        """Refuses a query beyond its owner's share: none locks the others out.

        The owners of running queries share `MAX_ACTIVE` equally. An owner that started more while
        it had fewer others keeps them, so there may be more, but not more than `MAX_ACTIVE_OF_ALL`.
        """
        counts = Counter(_sharer(query.owner) for query in self._active.values())
        sharer = _sharer(owner)
        own = counts[sharer]
        share = max(1, MAX_ACTIVE // len(counts.keys() | {sharer}))
        if own >= share or counts.total() >= MAX_ACTIVE_OF_ALL:
            raise CloudTrailError(
                "MaxConcurrentQueriesException",
                f"You already have {own} queries that are queued or running; your share of "
                f"{MAX_ACTIVE} is {share}.",
            )

    def _follow(self, query_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[query_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(query_id, None))
        return task

    async def _run(
        self, query: StoredQuery, tables: _FindTables, valid: asyncio.Future[None]
    ) -> None:
        """Runs a query to its end, and delivers its result."""

        def translated(columns: list[tuple[str, str]]) -> None:
            self._active[query.id] = replace(query, columns=columns)
            if not valid.done():
                valid.set_result(None)

        def progressed(percent: int) -> None:
            self._active[query.id] = replace(self._active[query.id], progress=percent)

        watch = asyncio.ensure_future(self._watch(query.id, asyncio.current_task()))
        try:
            await self._store.put(query)
            status, error = await self._ended(query, tables, translated, progressed)
        except asyncio.CancelledError:
            status, error = "CANCELLED", None
        except OpentrailError as failed:
            if not valid.done():  # the caller of `start` gets the error
                with contextlib.suppress(OpentrailError):
                    await self._store.delete(query.id)
                valid.set_exception(failed)
                return
            status, error = "FAILED", str(failed)
        except Exception as failed:  # a bug must not leave a query running
            log.exception("a query failed unexpectedly")
            status, error = "FAILED", f"the query failed: {failed!r}"
        finally:
            watch.cancel()
            current = self._active.pop(query.id, query)
        query = await self._end(current, status, error)
        if not valid.done():
            valid.set_result(None)
        if status == "FINISHED" and query.place and query.place.is_signed:
            await self._deliver(query, query.place)

    async def _watch(self, query_id: str, task: asyncio.Task[None] | None) -> None:
        """Ends a query that another server cancels."""
        while self._store.server and task is not None:
            await asyncio.sleep(_POLL_SECONDS)
            with contextlib.suppress(OpentrailError):
                query = await self._store.get(query_id)
                if query is not None and query.status == "CANCELLED":
                    task.cancel()
                    return

    async def _ended(
        self,
        query: StoredQuery,
        tables: _FindTables,
        translated: Callable[[list[tuple[str, str]]], None],
        progressed: Callable[[int], None],
    ) -> tuple[QueryStatus, str | None]:
        """Runs a statement; returns the status of its query, and why it failed."""
        try:
            async with asyncio.timeout(_DEADLINE.total_seconds()):
                statistics = await self._engine.run(query, await tables(), translated, progressed)
                await self._store.publish(query.id)
                query = replace(self._active[query.id], statistics=statistics)
                self._active[query.id] = query
                if query.place and not query.place.is_signed:
                    # Athena's clients read the file as soon as the query has finished.
                    await self.delivery.deliver(query, query.place, self._store)
                    delivered = replace(query.place, status="SUCCESS")
                    self._active[query.id] = replace(query, place=delivered)
        except TimeoutError:
            return "TIMED_OUT", "Query timed out"
        except QueryFailed as failed:
            return "FAILED", str(failed)
        except ObjectStoreError as failed:
            return "FAILED", f"the result cannot be written to S3: {failed}"
        return "FINISHED", None

    async def _deliver(self, query: StoredQuery, place: ResultPlace) -> None:
        """Delivers the result of a finished query, however often the store fails."""
        status: DeliveryStatus = "FAILED"
        for seconds in (*self._retries, None):
            try:
                await self.delivery.deliver(query, place, self._store)
            except OpentrailError as error:
                extra = {"query": query.id, "uri": place.uri, "error": str(error)}
                log.warning("a query result cannot be delivered", extra=extra)
                if seconds is not None:
                    await asyncio.sleep(seconds)
            else:
                status = "SUCCESS"
                break
        if await self._store.get(query.id):  # otherwise it has expired
            await self._store.put(replace(query, place=replace(place, status=status)))

    async def _tables(
        self, query: StoredQuery, region: str | None, shared: frozenset[str] | None
    ) -> QueryTables:
        names = await tables_of(query.statement)
        history = [NAME, *map(store_id, query.accounts or [])] if shared is None else []
        tables = QueryTables([name for name in history if name in names])
        if region is None:
            return tables
        tables = await self.stores.add_to(tables, query.statement, query.accounts, region)
        if shared is None:
            return tables
        seen = {name: each for name, each in tables.stores.items() if str(each.arn) in shared}
        return tables._replace(stores=seen)

    async def _end(self, query: StoredQuery, status: QueryStatus, error: str | None) -> StoredQuery:
        """Stores the end of a query, however often the store fails.

        A cancelled query is not retried, because a stopping server waits for it.
        """
        ended = self._clock.now().timestamp()
        query = replace(query, status=status, error=error, ended=ended)
        for seconds in () if status == "CANCELLED" else self._retries:
            try:
                await self._store.put(query)
                break
            except OpentrailError as failed:
                extra = {"query": query.id, "error": str(failed)}
                log.warning("the end of a query cannot be stored", extra=extra)
                await asyncio.sleep(seconds)
        else:
            await self._store.put(query)
        async with self._changed:
            self._changed.notify_all()
        return query

    async def _expire(self) -> None:
        """Deletes queries that are too old, too many, or whose results are too large."""
        now = self._clock.now()
        if now.timestamp() - self._expired < _EXPIRY_SECONDS:
            return
        self._expired = now.timestamp()
        oldest = (now - KEPT).timestamp()
        ended = [each for each in await self._store.all() if each.status not in _ACTIVE]
        excess = await self._store.size() - self._store.max_bytes
        for number, query in enumerate(ended):
            is_surplus = len(ended) - number > MAX_STORED or excess > 0
            if query.created >= oldest and not is_surplus:
                break
            excess -= await self._store.delete(query.id)

    async def find(self, query_id: str, owner: str) -> StoredQuery:
        """Returns a query of an owner.

        Raises:
            CloudTrailError: `QueryIdNotFoundException`.
        """
        query = self._active.get(query_id)
        if query is None and _ID.fullmatch(query_id):
            query = await self._store.get(query_id)
        if query is None or query.owner != owner:
            raise CloudTrailError("QueryIdNotFoundException", f"Query {query_id} does not exist.")
        return await self._in_time(query)

    async def of(self, owner: str) -> list[StoredQuery]:
        """Returns the queries of an owner, newest first."""
        every = await self._store.all()
        own = [await self._in_time(query) for query in every if query.owner == owner]
        return sorted(own, key=lambda query: -query.created)

    async def _in_time(self, query: StoredQuery) -> StoredQuery:
        """Returns a query, as failed if its server stopped, or did not end it in time."""
        if query.status not in _ACTIVE or query.id in self._active:
            return query
        until = query.created + 2 * _DEADLINE.total_seconds()
        now = self._clock.now().timestamp()
        if now > until:
            return replace(query, status="TIMED_OUT", error=_STOPPED, ended=until)
        if not await self._store.is_running(query.server):
            return replace(query, status="FAILED", error=_STOPPED, ended=now)
        return query

    async def wait(self, query: StoredQuery, seconds: float) -> StoredQuery:
        """Returns a query when it has ended, or after some seconds."""
        query_id = query.id
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while query.status in _ACTIVE:
                    if query_id in self._active:
                        async with self._changed:
                            await self._changed.wait_for(lambda: query_id not in self._active)
                    elif query.server != self._store.server:
                        await asyncio.sleep(_POLL_SECONDS)
                    query = await self.find(query.id, query.owner)
        return await self.find(query.id, query.owner)

    async def rows(self, query: StoredQuery, first: int, limit: int) -> list[Row]:
        """Returns rows of a query; an empty list unless it has finished.

        Raises:
            CloudTrailError: `InternalFailure`: they are damaged; the query then counts as failed.
        """
        if query.status != "FINISHED":
            return []
        try:
            return await self._store.rows(query, first, limit)
        except QueryFailed as error:
            log.error("the result of a query is damaged", extra={"query": query.id})
            await self._end(query, "FAILED", str(error))
            raise CloudTrailError("InternalFailure", str(error), 500) from error

    async def cancel(self, query: StoredQuery) -> StoredQuery:
        """Ends a running query.

        Raises:
            CloudTrailError: `InactiveQueryException`: it has ended.
        """
        if query.status not in _ACTIVE:
            raise CloudTrailError(
                "InactiveQueryException", f"Query {query.id} is {query.status}, not running."
            )
        task = self._tasks.get(query.id)
        if task is None:
            return await self._end(query, "CANCELLED", None)  # its server reads that
        task.cancel()
        await asyncio.wait([task])
        return await self.find(query.id, query.owner)


def _sharer(owner: str) -> str:
    """Returns the console user or the account that shares; another account may own the stores."""
    return owner if owner.startswith("user ") else owner.partition("/")[0]


def _invalid(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidQueryStatementException", message)
