"""Partitions of the batches: created ahead, and dropped whole."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.batches import (
    create_partitions,
    drop_oldest_partition,
    new_batch_id,
)
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.postgres.journal import PostgresJournal
from opentrail.adapters.postgres.schema import create_tables
from tests.factories import event_id, some_new_entries
from tests.fakes import SettableClock, asynchronous
from tests.postgres import database_in, shared_server

pytestmark = pytest.mark.slow


def partitions(url: str) -> list[str]:
    statement = "SELECT tablename FROM pg_tables WHERE tablename ~ '^batch_[0-9]+$' ORDER BY 1"
    return [name for (name,) in shared_server().execute(database_in(url), statement)]


@asynchronous
async def test_the_partition_of_the_next_day_exists_early() -> None:
    url = shared_server().new_database()
    clock = SettableClock(SystemClock().now())
    journal = PostgresJournal(url, clock=clock)
    await journal.append(some_new_entries(1))
    today = clock.moment.date()
    names = [f"batch_{today + timedelta(days):%Y%m%d}" for days in range(3)]
    assert partitions(url) == names[:2]
    clock.moment += timedelta(days=1)
    await journal.append(some_new_entries(1, 2))
    assert partitions(url) == names
    assert [entry.event_id for entry in await journal.read(0, 9)] == [event_id(1), event_id(2)]
    await journal._inserts.run(partial(create_partitions, day=today))
    assert partitions(url) == names
    await journal.close()


@pytest.mark.slow
@asynchronous
async def test_trimming_drops_only_archived_past_days() -> None:
    url = shared_server().new_database()
    clock = SettableClock(SystemClock().now() - timedelta(days=5))
    journal = PostgresJournal(url, clock=clock)
    for number in range(6):  # two records on each of six days, ending today
        await journal.append(some_new_entries(2, 2 * number + 1))
        clock.moment += timedelta(days=1)
    entries = await journal.read(0, 100)
    assert await journal.trim(1) == 0
    assert await journal.trim(5) == 2
    assert journal.first == 5
    assert await journal.read(4, 100) == entries[4:]
    assert await journal.trim(12, keep=100) == 0
    assert await journal.trim(12) == 2, "the last two days may get batches still"
    assert await journal.read(8, 100) == entries[8:]
    assert await journal.find(event_id(3)) is None
    assert await journal.find(event_id(9)) == 9
    await journal.append(some_new_entries(1, 13))
    await journal.close()
    again = PostgresJournal(url)
    assert (again.first, again.head) == (9, 13)
    assert await again.read(8, 4) == entries[8:]
    await again.close()


@asynchronous
async def test_past_day_with_an_unordered_batch_stays() -> None:
    database = SharedDatabase(shared_server().new_database())
    moment = SystemClock().now() - timedelta(days=5)
    await database.run(create_tables)
    await database.run(partial(create_partitions, day=moment.date()))
    await database.run(
        lambda transaction: transaction.change(
            "INSERT INTO opentrail.batch (id, node, count, body) VALUES (?, 'x', 1, '')",
            [new_batch_id(moment)],
        )
    )
    drop = partial(drop_oldest_partition, until=100, keep=1)
    assert not await database.run(drop)
    await database.run(lambda t: t.change("UPDATE opentrail.batch SET first = 1"))
    assert await database.run(drop)
    await database.close()
