"""The sequencer: one process orders batches, and a resumed one changes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres import sequencer as module
from opentrail.adapters.postgres.batches import (
    create_partitions,
    encode,
    insert_batch,
    new_batch_id,
)
from opentrail.adapters.postgres.database import PostgresLeases, SharedDatabase
from opentrail.adapters.postgres.schema import create_tables
from opentrail.adapters.postgres.sequencer import Sequencer
from opentrail.adapters.postgres.source import PostgresJournalSource
from opentrail.core.event import NewEntry
from opentrail.ports.journal import RESTORED, LostPositions
from tests.factories import event_id, some_new_entries
from tests.fakes import asynchronous, eventually
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow

_WAITS_FOR_LEASE = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND query LIKE 'UPDATE opentrail.lease%'"
)


class World:
    """A database into which batches are inserted without a journal."""

    def __init__(self) -> None:
        self.url = shared_server().new_database()
        self.database = SharedDatabase(self.url)
        self.database.run_blocking(create_tables)
        today = SystemClock().now().date()
        self.database.run_blocking(lambda transaction: create_partitions(transaction, today))

    def insert(self, entries: list[NewEntry], body: bytes | None = None) -> None:
        insert = partial(
            insert_batch,
            batch_id=new_batch_id(SystemClock().now()),
            node="x",
            count=len(entries),
            body=body or encode(entries),
        )
        self.database.run_blocking(insert)

    def sequencer(self, holder: str, seconds: float) -> Sequencer:
        database = SharedDatabase(self.url)
        return Sequencer(database, PostgresLeases(database, seconds), holder)

    def execute(self, statement: str) -> list[Any]:
        return shared_server().execute(database_in(self.url), statement)

    def event_ids(self) -> list[str]:
        source = PostgresJournalSource(self.url)
        return [entry.event_id for part in source.read_range(1, 1_000) for entry in part]


@pytest.mark.slow
@asynchronous
async def test_batches_get_positions_in_the_order_of_insertion() -> None:
    world = World()
    entries = some_new_entries(100)
    for start in range(0, 100, 2):
        world.insert(entries[start : start + 2])
    sequencer = world.sequencer("a", 60.0)
    first = await sequencer.order(0)
    assert first is not None
    assert first.head == 2 * len(first.places) < 100
    second = await sequencer.order(0)
    assert second is not None
    assert second.head == 100
    assert await sequencer.order(0) is None
    assert world.event_ids() == [event_id(number) for number in range(1, 101)]


@pytest.mark.slow
@asynchronous
async def test_a_waiting_sequencer_creates_the_next_partition() -> None:
    world = World()
    entries = some_new_entries(4)
    sequencer = world.sequencer("a", 60.0)
    world.insert(entries[:2])
    assert await sequencer.order(0) is not None
    world.insert(entries[2:])
    later = SystemClock().now().date() + timedelta(days=3)
    with psycopg.connect(world.url) as connection:
        connection.execute("SELECT * FROM opentrail.lease FOR UPDATE")
        ordering = asyncio.create_task(sequencer.order(2))
        await eventually(lambda: world.execute(_WAITS_FOR_LEASE) != [])
        await world.database.run(lambda transaction: create_partitions(transaction, later))
    ordered = await ordering
    assert ordered is not None
    assert ordered.head == 4


@pytest.mark.slow
@asynchronous
async def test_a_resumed_sequencer_changes_nothing() -> None:
    world = World()
    entries = some_new_entries(6)
    paused, other = world.sequencer("a", 0.0), world.sequencer("b", 60.0)
    world.insert(entries[:2])
    assert await paused.order(0) is not None
    world.insert(entries[2:4])
    assert await other.order(0) is not None
    world.insert(entries[4:])
    before = world.execute("SELECT * FROM opentrail.journal")
    assert await paused.order(0) is None
    assert not paused.is_holder
    assert world.execute("SELECT * FROM opentrail.journal") == before
    assert world.execute("SELECT count(*) FROM opentrail.batch WHERE first IS NULL") == [(1,)]
    assert await other.order(0) is not None
    assert world.event_ids() == [event_id(number) for number in range(1, 7)]
    epochs = world.execute("SELECT epoch FROM opentrail.batch ORDER BY first")
    assert epochs == [(1,), (2,), (2,)]


@asynchronous
async def test_servers_name_one_range_after_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node names the head it knew before a new batch gets a position."""
    world = World()
    sequencer = world.sequencer("a", 60.0)
    world.insert(some_new_entries(2))
    assert await sequencer.order(5) is None
    await world.database.run(lambda transaction: module.continue_after(transaction, 7))
    assert await sequencer.order(5) is None
    lost = PostgresJournalSource(world.url).restored_between(1, 100)
    assert lost == [LostPositions(1, 7, RESTORED)]
    monkeypatch.setattr(module, "_RESTORED_SECONDS", 0.0)
    ordered = await sequencer.order(5)
    assert ordered is not None
    assert (ordered.head, [*ordered.places.values()]) == (9, [8])
    await world.database.run(lambda transaction: module.continue_after(transaction, 12))
    lost = PostgresJournalSource(world.url).restored_between(1, 100)
    assert [(one.first, one.last) for one in lost] == [(1, 7), (10, 12)]


@asynchronous
async def test_a_closed_sequencer_leaves_the_lease_to_another() -> None:
    world = World()
    one, other = world.sequencer("a", 60.0), world.sequencer("b", 60.0)
    world.insert(some_new_entries(1))
    assert await one.order(0) is not None
    world.insert(some_new_entries(1, 2))
    assert await other.order(0) is None
    await one.close()
    assert await other.order(0) is not None


@pytest.mark.parametrize("body", [b"\x01nonsense", b"\xffnonsense"])
@asynchronous
async def test_batch_damaged_before_its_order_is_lost_alone(
    body: bytes,
) -> None:
    world = World()
    entries = some_new_entries(6)
    world.insert(entries[:2])
    world.insert(entries[2:4], body=body)
    world.insert(entries[4:])
    assert await world.sequencer("a", 60.0).order(0) is not None
    source = PostgresJournalSource(world.url)
    assert [(run.first, run.last) for run in source.lost_between(1, 6)] == [(3, 4)]
    assert world.event_ids() == [event_id(number) for number in (1, 2, 5, 6)]


@asynchronous
async def test_positions_missing_after_a_promotion_are_not_reused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RESTORED_SECONDS", 0.0)
    world = World()
    entries = some_new_entries(6)
    world.insert(entries[:2])
    sequencer = world.sequencer("a", 60.0)
    assert await sequencer.order(0) is not None
    world.insert(entries[4:])
    ordered = await sequencer.order(4)  # the lost primary had 3 and 4
    assert ordered is not None
    assert ordered.head == 6
    source = PostgresJournalSource(world.url)
    assert [(run.first, run.last) for run in source.lost_between(1, 6)] == [(3, 4)]
    assert world.event_ids() == [event_id(number) for number in (1, 2, 5, 6)]


@pytest.mark.slow
@asynchronous
async def test_large_batches_are_ordered_in_several_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    bodies = [encode(some_new_entries(2, number)) for number in (1, 3, 5, 7, 9)]
    for number in (1, 3, 5, 7, 9):
        world.insert(some_new_entries(2, number))
    monkeypatch.setattr(module, "_MAX_BYTES", len(bodies[0]) + len(bodies[1]) - 1)
    sequencer = world.sequencer("a", 60.0)
    heads = []
    while ordered := await sequencer.order(0):
        heads.append(ordered.head)
    assert heads == [4, 8, 10]
    monkeypatch.setattr(module, "_MAX_BYTES", 1)
    world.insert(some_new_entries(2, 11))
    assert await sequencer.order(0) is not None
    assert world.event_ids() == [event_id(number) for number in range(1, 13)]
