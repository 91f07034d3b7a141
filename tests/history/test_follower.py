"""Look-ups wait for what is durable, but not for ever."""

from __future__ import annotations

import asyncio

from opentrail.history.follower import HistoryFollower
from opentrail.metrics import Metrics
from tests.factories import entries_of, some_records
from tests.fakes import MemoryEvents, SettableClock, asynchronous


def a_follower(head: int) -> HistoryFollower:
    return HistoryFollower(MemoryEvents(), SettableClock(), Metrics(), lambda: head)


@asynchronous
async def test_who_waits_for_the_newest_hurries_the_follower() -> None:
    follower = a_follower(2)
    waiting = asyncio.ensure_future(follower.until_newest())
    await asyncio.sleep(0)
    assert follower.flush_now.is_set()
    assert not waiting.done()
    await follower.process(entries_of(some_records(2)))
    await waiting
    assert await follower.cursor() == 2


@asynchronous
async def test_what_does_not_come_is_not_waited_for_for_ever() -> None:
    async with asyncio.timeout(60):
        await a_follower(2).until_newest()


@asynchronous
async def test_what_waits_for_a_position_gets_it_and_not_an_earlier_one() -> None:
    follower = a_follower(0)
    waiting = asyncio.ensure_future(follower.until_visible(3))
    await follower.process(entries_of(some_records(2)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await follower.process(entries_of(some_records(1, first=3), first=3))
    await waiting
