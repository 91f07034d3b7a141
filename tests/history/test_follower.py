"""Lookups wait for durable events, and are throttled if these stay invisible."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.core.errors import CloudTrailError, StorageFailed
from opentrail.history.history_follower import HistoryFollower
from opentrail.ports.metrics import Metrics
from tests.factories import entries_of, some_records
from tests.fakes import MemoryEvents, SettableClock, asynchronous, at, run_skipping_time, turns


def a_follower(head: int) -> HistoryFollower:
    return HistoryFollower(MemoryEvents(), SettableClock(), Metrics(), at(head))


@asynchronous
async def test_waiting_for_the_newest_event_hurries_the_follower() -> None:
    follower = a_follower(2)
    waiting = asyncio.ensure_future(follower.until_newest())
    await turns()
    assert follower.flush_now.is_set()
    assert not waiting.done()
    await follower.process(entries_of(some_records(2)))
    await waiting
    assert await follower.cursor() == 2


def test_lookup_without_newest_events_is_throttled() -> None:
    with pytest.raises(CloudTrailError) as refused:
        run_skipping_time(a_follower(2).until_newest())
    assert refused.value.code == "ThrottlingException"


@asynchronous
async def test_waiters_get_their_own_position() -> None:
    follower = a_follower(0)
    waiting = asyncio.ensure_future(follower.until_visible(3))
    await follower.process(entries_of(some_records(2)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await follower.process(entries_of(some_records(1, first=3), first=3))
    await waiting


@asynchronous
async def test_lookup_is_throttled_without_journal() -> None:
    async def newest() -> int:
        raise StorageFailed("PostgreSQL does not answer")

    follower = HistoryFollower(MemoryEvents(), SettableClock(), Metrics(), newest)
    with pytest.raises(CloudTrailError) as refused:
        await follower.until_newest()
    assert refused.value.code == "ThrottlingException"


@pytest.mark.slow
@asynchronous
async def test_it_is_known_whether_a_position_becomes_visible() -> None:
    follower = a_follower(0)
    await follower.process(entries_of(some_records(2)))
    assert await follower.is_visible(2)
    asked = asyncio.ensure_future(follower.is_visible(3))
    await turns()
    await follower.process(entries_of(some_records(1, first=3), first=3))
    assert await asked
    assert not await follower.is_visible(4)


@asynchronous
async def test_events_read_again_after_a_start_are_a_problem() -> None:
    follower = a_follower(0)
    assert follower.problems == []
    follower.expect(30_000, sealed=19_999)
    assert "10,001 events" in follower.problems[0]
    follower.expect(30_000, sealed=0)
    follower.catch_up_to(9_999)
    assert follower.problems == [], "it takes less than a second"
    follower.catch_up_to(10_002)
    assert follower.problems == [
        "event history reads 10,002 events again after a start: lookups wait"
    ]
    await follower.process(entries_of(some_records(2)))
    assert "10,000 events" in follower.problems[0]
    await follower.process(entries_of(some_records(10_000, first=3), first=3))
    assert follower.problems == []
