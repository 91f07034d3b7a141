"""The guarantees of all leases (ports/control.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from opentrail.adapters.postgres.database import PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import LeaseLost
from opentrail.ports.control import Lease, Leases
from tests.fakes import TIMEOUT_SECONDS, MemoryLeases, asynchronous
from tests.postgres import ON_POSTGRESQL, shared_server

#: Long enough that no lease expires in a test, and so short that each has expired already.
LONG = 3_600.0
SHORT = 0.0


class World(Protocol):
    """Leases, and effects of their holders."""

    @property
    def leases(self) -> Leases: ...

    async def act(self, lease: Lease, effect: str) -> None:
        """Has an effect in a transaction that checks the epoch; raises `LeaseLost`."""
        ...

    async def effects(self) -> list[str]:
        """Returns the effects so far."""
        ...

    async def close(self) -> None: ...


@dataclass
class MemoryWorld:
    leases: MemoryLeases
    done: list[str] = field(default_factory=list)

    async def act(self, lease: Lease, effect: str) -> None:
        self.leases.fence(lease)
        self.done.append(effect)

    async def effects(self) -> list[str]:
        return list(self.done)

    async def close(self) -> None:
        pass


class PostgresWorld:
    def __init__(self, url: str, seconds: float) -> None:
        self._database = SharedDatabase(url)
        self._database.run_blocking(create_tables)
        self._database.run_blocking(
            lambda transaction: transaction.change("CREATE TABLE IF NOT EXISTS effect (name text)")
        )
        self.leases = PostgresLeases(self._database, seconds)

    async def act(self, lease: Lease, effect: str) -> None:
        def work(transaction: Transaction) -> None:
            self.leases.fence(transaction, lease)
            transaction.change("INSERT INTO effect VALUES (?)", [effect])

        await self._database.run(work)

    async def effects(self) -> list[str]:
        rows = await self._database.run(lambda t: t.rows("SELECT name FROM effect"))
        return [name for (name,) in rows]

    async def close(self) -> None:
        await self._database.close()


Open = Callable[[float], World]


@pytest.fixture(params=["memory", ON_POSTGRESQL])
def open_world(request: pytest.FixtureRequest) -> Open:
    """Returns a function that makes worlds with leases of this length, shared in a test."""
    if request.param == "memory":
        first = MemoryLeases()
        done: list[str] = []
        return lambda seconds: MemoryWorld(first.lasting(seconds), done)
    url = shared_server().new_database()
    return lambda seconds: PostgresWorld(url, seconds)


@asynchronous
async def test_one_process_of_two_holds_a_lease(open_world: Open) -> None:
    one, other = open_world(LONG), open_world(LONG)
    lease = await one.leases.acquire("sequencer", "a")
    assert lease is not None
    assert (lease.name, lease.holder) == ("sequencer", "a")
    assert await other.leases.acquire("sequencer", "b") is None
    assert await other.leases.acquire("sealing", "b") is not None
    assert await one.leases.renew(lease)
    await one.act(lease, "mine")
    assert await other.effects() == ["mine"]
    await one.close()
    await other.close()


@asynchronous
async def test_released_lease_is_free_and_fences_its_holder(
    open_world: Open,
) -> None:
    one, other = open_world(LONG), open_world(LONG)
    former = await one.leases.acquire("sequencer", "a")
    assert former is not None
    await one.leases.release(former)
    lease = await other.leases.acquire("sequencer", "b")
    assert lease is not None
    assert lease.epoch > former.epoch
    with pytest.raises(LeaseLost, match="sequencer"):
        await one.act(former, "late")
    assert not await one.leases.renew(former)
    await one.leases.release(former)
    assert await one.leases.acquire("sequencer", "a") is None
    await other.act(lease, "mine")
    assert await one.effects() == ["mine"]
    await one.close()
    await other.close()


@asynchronous
async def test_a_holder_that_wakes_up_late_changes_nothing(
    open_world: Open,
) -> None:
    paused, other = open_world(SHORT), open_world(LONG)
    former = await paused.leases.acquire("sequencer", "a")
    assert former is not None
    lease = await other.leases.acquire("sequencer", "b")
    assert lease is not None
    with pytest.raises(LeaseLost):
        await paused.act(former, "late")
    assert await paused.effects() == []
    assert await other.leases.renew(lease)
    await paused.close()
    await other.close()


@asynchronous
async def test_an_expired_free_lease_is_still_the_holders(
    open_world: Open,
) -> None:
    world = open_world(SHORT)
    lease = await world.leases.acquire("sequencer", "a")
    assert lease is not None
    await world.act(lease, "mine")
    assert await world.leases.renew(lease)
    assert await world.effects() == ["mine"]
    await world.close()


@asynchronous
async def test_holder_that_acquires_again_gets_a_new_epoch(open_world: Open) -> None:
    """It acquires again if it does not know the outcome of the first attempt."""
    world = open_world(LONG)
    first = await world.leases.acquire("sequencer", "a")
    second = await world.leases.acquire("sequencer", "a")
    assert first is not None
    assert second is not None
    assert second.epoch > first.epoch
    with pytest.raises(LeaseLost):
        await world.act(first, "late")
    await world.close()


@asynchronous
async def test_one_of_many_processes_gets_a_free_lease(open_world: Open) -> None:
    worlds = [open_world(LONG) for _ in range(8)]
    async with asyncio.timeout(TIMEOUT_SECONDS):
        leases = await asyncio.gather(
            *(world.leases.acquire("sequencer", str(n)) for n, world in enumerate(worlds))
        )
    assert sum(lease is not None for lease in leases) == 1
    for world in worlds:
        await world.close()
