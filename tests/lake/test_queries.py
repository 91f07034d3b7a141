"""Queries are started, followed, cancelled and kept for a week."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from msgspec.structs import replace

from opentrail.core.errors import CloudTrailError, StorageFailed
from opentrail.lake.event_history import store_id
from opentrail.lake.queries import MAX_ACTIVE, MAX_ACTIVE_OF_ALL, MAX_STATEMENT, Queries
from opentrail.lake.store_registry import Stores
from opentrail.ports.queries import ResultPlace, StoredQuery
from tests.factories import ACCOUNT, MOMENT
from tests.fakes import MemoryControl, MemoryJournal, SettableClock, asynchronous
from tests.lake.stand_ins import MemoryQueries, StandInDelivery, StandInEngine


class World:
    def __init__(self) -> None:
        self.engine, self.store, self.clock = (
            StandInEngine(),
            MemoryQueries(),
            SettableClock(MOMENT),
        )
        self.delivery = StandInDelivery()
        self.stores = Stores(MemoryControl(), MemoryJournal().newest, self.clock)
        self.queries = self.opened()

    def opened(self) -> Queries:
        return Queries(self.engine, self.store, self.clock, self.delivery, self.stores, (0, 0))

    async def started(
        self, statement: str = "SELECT 1", place: ResultPlace | None = None
    ) -> StoredQuery:
        return await self.queries.start(statement, ACCOUNT, [ACCOUNT], place)

    async def delivered(self, query: StoredQuery) -> str:
        """Returns the status of a query's delivery, once it has ended."""
        while (found := (await self.queries.find(query.id, ACCOUNT))).place is not None:
            if found.place.status != "PENDING" or found.status not in ("RUNNING", "FINISHED"):
                return found.place.status
            await asyncio.sleep(0)
        raise AssertionError("it has no place")

    async def refused(self, statement: str = "SELECT 1") -> str:
        with pytest.raises(CloudTrailError) as error:
            await self.started(statement)
        return error.value.code


@asynchronous
async def test_query_finishes_with_its_rows() -> None:
    world = World()
    query = await world.queries.wait(await world.started(), 60)
    assert (query.status, query.columns) == ("FINISHED", [("n", "integer")])
    assert await world.queries.rows(query, 1, 1) == [["2"]]
    assert world.store.stored[query.id] == query
    assert [*world.engine.tables[0].history] == []
    await world.started(f'SELECT 1 FROM Event_History, "{store_id(ACCOUNT)}"')
    assert [*world.engine.tables[1].history] == ["event_history", store_id(ACCOUNT)]


@asynchronous
async def test_invalid_statement_leaves_no_query() -> None:
    world = World()
    assert await world.refused("SELECT nosuch") == "InvalidQueryStatementException"
    assert await world.refused("x" * (MAX_STATEMENT + 1)) == "InvalidQueryStatementException"
    assert (await world.queries.of(ACCOUNT), world.store.stored) == ([], {})


@asynchronous
async def test_failed_query_keeps_its_reason() -> None:
    world = World()
    query = await world.queries.wait(await world.started("fails"), 60)
    assert (query.status, query.error) == ("FAILED", "Division by zero")
    assert await world.queries.rows(query, 0, 10) == []


@asynchronous
async def test_eleventh_query_is_refused_until_one_ends() -> None:
    world = World()
    queries = [await world.started("slow") for _ in range(MAX_ACTIVE)]
    assert await world.refused() == "MaxConcurrentQueriesException"
    await world.queries.cancel(queries[0])
    assert (await world.started()).status in ("RUNNING", "FINISHED")
    await world.queries.close()
    assert world.engine.running == 0


@asynchronous
async def test_no_account_locks_others_out() -> None:
    world = World()
    counts = []
    for owners in (["0", "0/other"], *([f"user {number}"] for number in range(9)), ["1"]):
        started = 0
        for owner in owners:
            with contextlib.suppress(CloudTrailError):
                while True:
                    await world.queries.start("slow", owner, [ACCOUNT])
                    started += 1
        counts.append(started)
    assert counts[:3] == [MAX_ACTIVE, MAX_ACTIVE // 2, MAX_ACTIVE // 3]
    assert all(counts)
    assert sum(counts) <= MAX_ACTIVE_OF_ALL
    await world.queries.close()


@asynchronous
async def test_concurrent_starts_respect_the_limit() -> None:
    world = World()
    starts = [world.started("slow") for _ in range(MAX_ACTIVE + 5)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(each, CloudTrailError) for each in results) == 5
    await world.queries.close()


@asynchronous
async def test_cancelled_query_ends_once() -> None:
    world = World()
    query = await world.started("slow")
    assert query.progress == 42
    cancelled = await world.queries.cancel(query)
    assert (cancelled.status, world.engine.running) == ("CANCELLED", 0)
    with pytest.raises(CloudTrailError) as error:
        await world.queries.cancel(cancelled)
    assert error.value.code == "InactiveQueryException"


@asynchronous
async def test_only_the_owner_finds_a_query() -> None:
    world = World()
    query = await world.started()
    assert (await world.queries.find(query.id, ACCOUNT)).id == query.id
    for query_id, owner in ((query.id, "210987654321"), ("nothing", ACCOUNT)):
        with pytest.raises(CloudTrailError) as error:
            await world.queries.find(query_id, owner)
        assert error.value.code == "QueryIdNotFoundException"


@asynchronous
async def test_restart_fails_queries_that_ran() -> None:
    world = World()
    query = await world.started("slow")
    world.store.stored[query.id] = query
    again = world.opened()
    await again.open()
    assert (await again.find(query.id, ACCOUNT)).status == "FAILED"
    assert world.store.stored[query.id].status == "FAILED"
    await world.queries.close()


@asynchronous
async def test_queries_expire_after_a_week() -> None:
    world = World()
    old = await world.queries.wait(await world.started(), 60)
    world.clock.moment = MOMENT + timedelta(days=7, seconds=1)
    new = await world.started()
    assert [query.id for query in await world.queries.of(ACCOUNT)] == [new.id]
    assert old.id not in world.store.stored


@asynchronous
async def test_oldest_results_make_room() -> None:
    world = World()
    world.store.result_bytes = MemoryQueries.max_bytes // 3
    for minute in range(5):
        world.clock.moment = MOMENT + timedelta(minutes=minute)
        await world.queries.wait(await world.started(), 60)
    kept = sorted(query.created - MOMENT.timestamp() for query in await world.queries.of(ACCOUNT))
    assert kept == [60, 120, 180, 240]
    assert len(world.store.stored) == 4


LAKE, ATHENA = ResultPlace("s3://bucket/a", "us-east-1"), ResultPlace("s3://bucket/a")


@pytest.mark.parametrize("failures", [0, 2])
@asynchronous
async def test_result_is_delivered_however_often_the_store_fails(failures: int) -> None:
    world = World()
    world.delivery.failures = failures
    query = await world.started(place=LAKE)
    assert await world.delivered(query) == "SUCCESS"
    assert world.delivery.delivered == [(query.id, LAKE.uri)]
    assert world.store.stored[query.id] == await world.queries.find(query.id, ACCOUNT)


@asynchronous
async def test_delivery_fails_after_its_attempts() -> None:
    world = World()
    world.delivery.failures = 3
    query = await world.started(place=LAKE)
    assert await world.delivered(query) == "FAILED"
    assert (await world.queries.find(query.id, ACCOUNT)).status == "FINISHED"


@asynchronous
async def test_restart_resumes_deliveries() -> None:
    world = World()
    query = await world.started(place=LAKE)
    await world.delivered(query)
    world.store.stored[query.id] = replace(world.store.stored[query.id], place=LAKE)
    world.queries = world.opened()
    await world.queries.open()
    assert await world.delivered(query) == "SUCCESS"
    assert world.delivery.delivered == [(query.id, LAKE.uri)] * 2


@pytest.mark.parametrize("statement", ["fails", "slow"])
@asynchronous
async def test_unfinished_query_delivers_nothing(statement: str) -> None:
    world = World()
    query = await world.started(statement, LAKE)
    if statement == "slow":
        await world.queries.cancel(query)
    await world.queries.wait(query, 60)
    assert world.delivery.delivered == []


@asynchronous
async def test_athena_query_finishes_with_its_file() -> None:
    world = World()
    query = await world.queries.wait(await world.started(place=ATHENA), 60)
    assert query.status == "FINISHED"
    assert world.delivery.delivered == [(query.id, ATHENA.uri)]


@asynchronous
async def test_athena_query_fails_without_its_file() -> None:
    world = World()
    world.delivery.failures = 1
    query = await world.queries.wait(await world.started(place=ATHENA), 60)
    assert (query.status, query.error) == (
        "FAILED",
        "the result cannot be written to S3: SlowDown: 503",
    )


class Cluster:
    """Two servers with the same queries."""

    def __init__(self) -> None:
        self.one, self.two = World(), World()
        self.one.store = MemoryQueries("one")
        self.two.store = MemoryQueries("two", self.one.store.stored)
        self.one.queries, self.two.queries = self.one.opened(), self.two.opened()


@asynchronous
async def test_any_server_answers_for_a_query() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    seen = await cluster.two.queries.find(query.id, ACCOUNT)
    assert (seen.status, seen.server) == ("RUNNING", "one")
    waiting = asyncio.create_task(cluster.two.queries.wait(seen, 60))
    cluster.one.engine.go_on.set()
    ended = await waiting
    assert ended.status == "FINISHED"
    assert await cluster.two.queries.rows(ended, 0, 1) == [["1"]]
    assert [each.id for each in await cluster.two.queries.of(ACCOUNT)] == [query.id]


@asynchronous
async def test_any_server_cancels_a_query() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    cancelled = await cluster.two.queries.cancel(await cluster.two.queries.find(query.id, ACCOUNT))
    assert cancelled.status == "CANCELLED"
    ended = await cluster.one.queries.wait(query, 60)
    assert ended.status == "CANCELLED"
    assert cluster.one.engine.running == 0


@asynchronous
async def test_outage_of_the_store_delays_a_cancellation() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    cluster.one.store.failures = 1
    await cluster.two.queries.cancel(await cluster.two.queries.find(query.id, ACCOUNT))
    assert (await cluster.one.queries.wait(query, 60)).status == "CANCELLED"
    assert cluster.one.engine.running == 0


@asynchronous
async def test_end_of_a_query_survives_an_outage_of_the_store() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    cluster.one.store.failures = 2
    cluster.one.engine.go_on.set()
    seen = await cluster.two.queries.find(query.id, ACCOUNT)
    assert (await cluster.two.queries.wait(seen, 60)).status == "FINISHED"


@asynchronous
async def test_restart_of_a_server_leaves_queries_of_others() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    await cluster.two.opened().open()
    assert (await cluster.two.queries.find(query.id, ACCOUNT)).status == "RUNNING"
    await cluster.one.queries.close()


@asynchronous
async def test_query_of_a_stopped_server_fails() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    waiting = asyncio.create_task(cluster.two.queries.wait(query, 60))
    cluster.two.store.running.remove("one")
    found = await waiting
    assert (found.status, found.error) == ("FAILED", "the server stopped while the query ran")
    assert [each.status for each in await cluster.two.queries.of(ACCOUNT)] == ["FAILED"]
    assert (await cluster.one.queries.find(query.id, ACCOUNT)).status == "RUNNING"
    await cluster.one.queries.close()


@asynchronous
async def test_query_of_a_lost_server_times_out() -> None:
    cluster = Cluster()
    query = await cluster.one.started("slow")
    cluster.two.clock.moment = MOMENT + timedelta(hours=2, seconds=1)
    found = await cluster.two.queries.find(query.id, ACCOUNT)
    assert found.status == "TIMED_OUT"
    await cluster.one.queries.close()


@asynchronous
async def test_failing_store_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def fail(query: StoredQuery) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(world.store, "put", fail)
    with pytest.raises(StorageFailed):
        await world.started()
