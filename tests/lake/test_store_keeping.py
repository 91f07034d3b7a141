"""The files of stores follow the journal, and deleted stores go after a week."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from opentrail.core.errors import StorageFailed
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake import store_keeping
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.lake.store_registry import Stores
from opentrail.ports.control import Remove, StoreWrite
from opentrail.ports.queries import LogFile, LogFileOutcome
from tests.adapters.duckdb.test_store_files import a_store
from tests.factories import some_new_entries
from tests.fakes import MemoryControl, MemoryJournal, SettableClock, asynchronous


class MemoryFiles:
    """`StoreFiles` that know only positions, and the names of log files."""

    takes_log_files = True

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.tended: list[tuple[str, int]] = []
        self.since: datetime | None = None
        self.published: list[str] = []
        self.unpublished: list[str] = []
        self.fails = ""
        self.problems: list[str] = []
        #: Names of added log files, in order.
        self.added: list[str] = []
        #: Name of a log file → what becomes of it; without one, it has one event.
        self.outcomes: dict[str, LogFileOutcome] = {}
        self.is_tended = asyncio.Event()

    async def covered(self, store: EventDataStore) -> int:
        return self.positions.get(store.id, store.phases[0].after)

    async def tend(self, store: EventDataStore, until: int, since: datetime) -> None:
        if store.name == self.fails:
            raise StorageFailed("the disk is full")
        self.positions[store.id] = until
        self.tended.append((store.name, until))
        self.since = since
        self.is_tended.set()

    def table(self, store: EventDataStore) -> str:
        return f"/stores/{store.id}/iceberg"

    async def publish(self, store: EventDataStore) -> None:
        if store.name == self.fails:
            raise StorageFailed("the disk is full")
        self.published.append(store.name)

    async def unpublish(self, store: EventDataStore) -> None:
        self.unpublished.append(store.name)

    async def add(
        self,
        store: EventDataStore,
        until: int,
        files: Sequence[LogFile],
        between: tuple[datetime, datetime],
    ) -> list[LogFileOutcome]:
        if store.name == self.fails:
            raise StorageFailed("the disk is full")
        self.positions[store.id] = until
        self.added += [file.name for file in files]
        self.is_tended.set()
        return [self.outcomes.get(file.name, LogFileOutcome(1)) for file in files]

    async def remove(self, store: EventDataStore) -> None:
        self.positions.pop(store.id, None)


def removals(store: EventDataStore) -> list[StoreWrite]:
    return [Remove("resource-policy", store.key)]


class World:
    def __init__(self) -> None:
        self.control, self.journal, self.clock = MemoryControl(), MemoryJournal(), SettableClock()
        self.stores = Stores(self.control, self.journal.newest, self.clock, removals)
        self.files = MemoryFiles()
        self.keeper = StoreKeeper(self.stores, self.files, self.journal, self.clock)
        self.count = 0

    async def write(self, count: int) -> None:
        await self.journal.append(some_new_entries(count, self.count + 1))
        self.count += count

    async def add(self, name: str) -> EventDataStore:
        return await self.stores.add(a_store(id=f"id-of-{name}", name=name, phases=()))


@asynchronous
async def test_keeper_waits_for_the_first_store() -> None:
    world = World()
    assert await world.keeper.round() is None
    assert await world.keeper.holds() == []


@asynchronous
async def test_files_are_written_once_they_are_far_behind() -> None:
    world = World()
    await world.write(5)
    await world.add("a-store")
    await world.write(store_keeping.BEHIND - 1)
    world.keeper._tended["id-of-a-store"] = asyncio.get_running_loop().time()
    assert await world.keeper.round() == 5
    assert world.files.tended == []
    await world.write(1)
    assert await world.keeper.round() == world.journal.head
    assert world.files.tended == [("a-store", world.journal.head)]
    assert world.files.since == world.clock.now() - timedelta(days=3_653)
    assert await world.keeper.round() == world.journal.head
    assert len(world.files.tended) == 1
    await world.write(store_keeping.BEHIND)
    await world.keeper.round()
    assert len(world.files.tended) == 2
    assert world.files.since == datetime(1970, 1, 1, tzinfo=UTC)  # expiry is not due again


@asynchronous
async def test_stores_hold_the_journal_until_they_catch_up() -> None:
    world = World()
    await world.add("first")
    await world.write(10)
    await world.add("second")
    holds = await world.keeper.holds()
    assert [(hold.holder, hold.after, hold.reads_journal) for hold in holds] == [
        ("event data store first", 0, True),
        ("event data store second", 10, True),
    ]
    await world.keeper.catch_up()
    assert {hold.after for hold in await world.keeper.holds()} == {world.journal.head}


@asynchronous
async def test_failed_store_delays_no_other() -> None:
    world = World()
    for name in ("broken", "whole"):
        await world.add(name)
    await world.write(store_keeping.BEHIND)
    world.files.fails = "broken"
    await world.keeper.round()
    assert [name for name, _ in world.files.tended] == ["whole"]
    assert world.keeper.problems == ["event data store broken is not up to date: the disk is full"]
    world.files.fails = ""
    await world.keeper.round()
    assert world.keeper.problems == []


@asynchronous
async def test_federated_store_is_published_every_few_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    store = await world.add("a-store")
    await world.keeper.round()
    assert (world.files.published, world.files.unpublished) == ([], ["a-store"])
    for role in ("arn:aws:iam::123456789012:role/r", ""):
        await world.stores.change(store, partial(replace, federation_role=role))
        for _ in range(3):
            await world.keeper.round()
    assert (world.files.published, world.files.unpublished) == (["a-store"], ["a-store"] * 2)
    await world.stores.change(store, lambda current: replace(current, federation_role="role"))
    monkeypatch.setattr(store_keeping, "_PUBLISH_SECONDS", 0.0)
    for _ in range(2):
        await world.keeper.round()
    assert len(world.files.published) == 3


@asynchronous
async def test_deleted_store_goes_after_a_week() -> None:
    world = World()
    store = await world.add("a-store")
    now = world.clock.now().isoformat()
    await world.stores.change(store, lambda current: replace(current, deleted_at=now))
    world.clock.advance(timedelta(days=7).total_seconds() - 1)
    await world.keeper.round()
    assert len(await world.stores.all()) == 1
    world.clock.advance(1)
    assert await world.keeper.round() is None
    assert await world.stores.all() == []


@asynchronous
async def test_new_store_wakes_the_keeper() -> None:
    world = World()
    task = asyncio.create_task(world.keeper.run())
    await asyncio.sleep(0)
    await world.add("a-store")
    await world.write(store_keeping.BEHIND)
    async with asyncio.timeout(60):
        await world.files.is_tended.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynchronous
async def test_files_that_do_not_fit_are_written_in_parts() -> None:
    world = World()
    world.keeper = StoreKeeper(world.stores, world.files, world.journal, world.clock, lambda: 40)
    await world.add("a-store")
    await world.write(store_keeping.BEHIND)
    assert await world.keeper.round() == world.journal.head
    assert world.files.tended == [], "somebody must trim the journal between the parts"
    for end in (40, 80, 120):
        await world.keeper.catch_up()
        assert world.files.tended[-1] == ("a-store", end)
