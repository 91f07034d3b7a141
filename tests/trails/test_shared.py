"""Several servers with the same trails; one server delivers them."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.core.errors import LeaseLost, ObjectStoreError
from opentrail.core.trail import Trail
from opentrail.ports.control import Put
from opentrail.trails.delivery_rounds import Delivered
from tests.fakes import eventually, run_skipping_time
from tests.trails.world import World, server_of

UID = "4f1c6a52-trail"


async def requests(world: World) -> int:
    return len(await world.control.scan("delivery-request"))


def test_the_working_server_delivers_for_any_other() -> None:
    async def story() -> None:
        world = World()
        worker, other = server_of(world), server_of(world.restarted())
        await worker.start()
        trail = await world.add(validation=True)
        expected = [await world.start_logging(), *await world.event(3)]
        other.ensure(trail.uid)
        world.clock.advance(60)
        delivered = await other.flush((await world.stored()).trail)
        assert sorted(delivered.logs) == sorted(world.log_keys())
        assert len(delivered.digests) == 1
        assert await requests(world) == 0
        await world.check(expected, chains=1)
        expected += await world.event(2)
        assert len((await worker.flush(trail)).logs) == 1
        await world.check(expected, chains=1)
        assert await other.known_digests(trail) == await worker.known_digests(trail)
        assert await other.holds() == await worker.holds() != []
        await worker.stop()

    run_skipping_time(story())


def test_the_working_server_sees_others_trails_and_stops() -> None:
    async def story() -> None:
        world = World()
        worker, other = server_of(world), server_of(world.restarted())
        await worker.start()
        trail = await world.add()
        expected = [await world.start_logging(), *await world.event(2)]
        stored = await world.stored()
        stopped = stored.trail.stopped("the-stop", trail.created_at)
        await world.registry.change(stored, stopped)
        await world.event(eventID="the-stop")
        expected.append("the-stop")
        other.wake(trail.uid)
        await other.close_span(trail.uid, "the-stop", world.journal.head)
        await eventually(world.log_keys, 0.1, 1)
        await world.event(2)
        await worker.flush(trail)
        await world.check(expected)
        await worker.stop()

    run_skipping_time(story())


def test_bucket_errors_reach_the_caller() -> None:
    async def story() -> None:
        world = World()
        worker, other = server_of(world), server_of(world.restarted())
        await worker.start()
        trail = await world.add()
        await world.start_logging()
        world.objects.down = "AccessDenied"
        with pytest.raises(ObjectStoreError, match="AccessDenied"):
            await other.flush(trail)
        assert await requests(world) == 0
        await worker.stop()

    run_skipping_time(story())


def test_server_that_loses_its_lease_asks_the_next() -> None:
    async def story() -> None:
        world = World()
        former, worker = server_of(world), server_of(world.restarted())
        trail = await world.add()
        expected = [await world.start_logging()]
        await former.start()

        async def move() -> None:
            await former.stop()
            await worker.start()

        moving: list[asyncio.Task[None]] = []

        async def lose(_trail: Trail) -> Delivered:
            moving.append(asyncio.create_task(move()))
            raise LeaseLost("another process has acquired the lease 'worker'")

        world.deliveries.flush = lose  # type: ignore[assignment, method-assign]
        await former.flush(trail)
        await moving[0]
        await world.check(expected)
        await worker.stop()

    run_skipping_time(story())


def test_overlong_delivery_moves_to_the_next_server() -> None:
    async def story() -> None:
        world = World()
        former, worker = server_of(world), server_of(world.restarted())
        trail = await world.add()
        expected = [await world.start_logging()]
        await former.start()
        is_ended = asyncio.Event()

        async def hang(_trail: Trail) -> Delivered:
            try:
                await asyncio.Event().wait()
            finally:
                is_ended.set()
            raise AssertionError("it was woken")

        world.deliveries.flush = hang  # type: ignore[assignment, method-assign]
        flushing = asyncio.create_task(former.flush(trail))
        await asyncio.sleep(0.1)
        await former.stop()
        assert is_ended.is_set()
        await worker.start()
        await flushing
        await world.check(expected)
        await worker.stop()

    run_skipping_time(story())


def test_without_a_working_server_the_call_fails() -> None:
    async def story() -> None:
        world = World()
        other = server_of(world)
        trail = await world.add()
        with pytest.raises(ObjectStoreError, match="no server of the cluster has delivered"):
            await other.flush(trail)
        assert await requests(world) == 0

    run_skipping_time(story())


def test_a_resumed_server_begins_at_the_others_end() -> None:
    async def story() -> None:
        world = World()
        one, two = server_of(world), server_of(world.restarted())
        trail = await world.add(validation=True)
        expected = [await world.start_logging()]
        for working in (one, two, one):
            await working.start()
            expected += await world.event(2)
            world.clock.advance(60)
            await working.flush(trail)
            await working.stop()
        await world.check(expected, chains=1)

    run_skipping_time(story())


def test_the_request_of_a_dead_server_is_dropped() -> None:
    async def story() -> None:
        world = World()
        worker = server_of(world)
        request = {"uid": UID, "asked": "2020-01-01T00:00:00Z"}
        await world.control.apply([Put("delivery-request", "a-key", request)])
        await worker.start()
        kinds = {kind for kind, _ in world.documents}
        assert kinds == {"delivery-request"}
        await eventually(lambda: not world.documents, 0.1, 2)
        await worker.stop()

    run_skipping_time(story())
