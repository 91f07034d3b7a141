"""Queries are started, followed, cancelled and kept for a week."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.lake.event_history import store_id
from opentrail.lake.queries import MAX_ACTIVE, MAX_RESULT_BYTES, MAX_STATEMENT, Queries
from opentrail.ports.queries import StoredQuery
from tests.factories import ACCOUNT, MOMENT
from tests.fakes import SettableClock, asynchronous
from tests.lake.stand_ins import MemoryQueries, StandInEngine


class World:
    def __init__(self) -> None:
        self.engine, self.store, self.clock = (
            StandInEngine(),
            MemoryQueries(),
            SettableClock(MOMENT),
        )
        self.queries = Queries(self.engine, self.store, self.clock)

    async def started(self, statement: str = "SELECT 1") -> StoredQuery:
        return await self.queries.start(statement, ACCOUNT, [ACCOUNT])

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
    assert [*world.engine.tables[0]] == ["event_history", store_id(ACCOUNT)]


@asynchronous
async def test_invalid_statement_leaves_no_query() -> None:
    world = World()
    assert await world.refused("SELECT nosuch") == "InvalidQueryStatementException"
    assert await world.refused("x" * (MAX_STATEMENT + 1)) == "InvalidQueryStatementException"
    assert (world.queries.of(ACCOUNT), world.store.stored) == ([], {})


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
    cancelled = await world.queries.cancel(query)
    assert (cancelled.status, world.engine.running) == ("CANCELLED", 0)
    with pytest.raises(CloudTrailError) as error:
        await world.queries.cancel(cancelled)
    assert error.value.code == "InactiveQueryException"


@asynchronous
async def test_only_the_owner_finds_a_query() -> None:
    world = World()
    query = await world.started()
    assert world.queries.find(query.id, ACCOUNT).id == query.id
    for query_id, owner in ((query.id, "210987654321"), ("nothing", ACCOUNT)):
        with pytest.raises(CloudTrailError) as error:
            world.queries.find(query_id, owner)
        assert error.value.code == "QueryIdNotFoundException"


@asynchronous
async def test_restart_fails_queries_that_ran() -> None:
    world = World()
    query = await world.started("slow")
    world.store.stored[query.id] = query
    again = Queries(world.engine, world.store, world.clock)
    await again.open()
    assert again.find(query.id, ACCOUNT).status == "FAILED"
    assert world.store.stored[query.id].status == "FAILED"
    await world.queries.close()


@asynchronous
async def test_queries_expire_after_a_week() -> None:
    world = World()
    old = await world.queries.wait(await world.started(), 60)
    world.clock.moment = MOMENT + timedelta(days=7, seconds=1)
    new = await world.started()
    assert [query.id for query in world.queries.of(ACCOUNT)] == [new.id]
    assert old.id not in world.store.stored


@asynchronous
async def test_oldest_results_make_room() -> None:
    world = World()
    world.store.result_bytes = MAX_RESULT_BYTES // 3
    for second in range(5):
        world.clock.moment = MOMENT + timedelta(seconds=second)
        await world.queries.wait(await world.started(), 60)
    kept = sorted(query.created - MOMENT.timestamp() for query in world.queries.of(ACCOUNT))
    assert kept == [1, 2, 3, 4]
    assert len(world.store.stored) == 4
