"""Workers: rounds on time, power cuts at every operation, restarts, the end of a trail."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from opentrail.core.errors import ObjectStoreError, ServiceError, StorageFailed, StoreUnreachable
from opentrail.core.trail import stored_time
from opentrail.ports.control import Stored, StoreWrite
from opentrail.ports.objects import NewObject
from opentrail.trails.delivery_rounds import MAX_PAUSE_SECONDS, repeat
from tests.factories import MOMENT, a_data_record
from tests.fakes import (
    Breaker,
    Fault,
    MemoryControl,
    PowerCutError,
    StoredObject,
    asynchronous,
    eventually,
    run_skipping_time,
    turns,
)
from tests.trails.world import BUCKET, DELIVERY_INTERVAL, World, server_of

OTHER = "eu-west-1"
INTERVAL = DELIVERY_INTERVAL.total_seconds()
UID = "4f1c6a52-trail"

#: Makes a world with work for the worker; returns the events to deliver.
Scene = Callable[[World], Awaitable[list[str]]]


async def first_delivery(world: World) -> list[str]:
    await world.add(validation=True, multi_region=True)
    expected = [await world.start_logging()]
    expected += await world.event(2, awsRegion=OTHER)
    world.clock.advance(60)
    return expected


async def a_later_round(world: World) -> list[str]:
    expected = await first_delivery(world)
    await world.deliver(flush=True)
    world.clock.advance(3_600)
    expected += await world.event(2)
    expected += await world.event(1, awsRegion=OTHER)
    return expected


async def stopped(world: World) -> list[str]:
    expected = await a_later_round(world)
    expected.append(await world.stop_logging())
    await world.event(3)
    world.clock.advance(60)
    return expected


async def moved_to_another_bucket(world: World) -> list[str]:
    expected = await a_later_round(world)
    expected.append(await world.update(bucket="other-bucket"))
    expected += await world.event(2)
    world.clock.advance(60)
    return expected


async def deleted(world: World) -> list[str]:
    expected = await a_later_round(world)
    expected.append(await world.delete())
    await world.event(3)
    world.clock.advance(60)
    return expected


async def an_outage_with_plans(world: World) -> list[str]:
    expected = await a_later_round(world)
    world.objects.faults.append(Fault.LOST_ANSWER)
    with pytest.raises(ObjectStoreError):
        await world.deliver(flush=True)
    expected += await world.event(2)
    world.clock.advance(60)
    return expected


SCENES = [
    first_delivery,
    a_later_round,
    stopped,
    moved_to_another_bucket,
    deleted,
    an_outage_with_plans,
]


# Power cuts: "fail the n-th operation, for all n"


@pytest.mark.anomaly
@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
@asynchronous
async def test_power_cut_anywhere_keeps_files_and_chains_whole(
    scene: Scene, carried_out: bool
) -> None:
    for cut in itertools.count(1):
        world = World()
        expected = await scene(world)
        breaker = Breaker(at=cut, done=carried_out)
        with suppress(PowerCutError):
            await world.restarted(breaker).deliver(flush=True)
        world.clock.advance(90)
        after = world.restarted()
        for _ in range(2):
            await after.deliver(flush=True)
            world.clock.advance(60)
        await after.check(expected, chains=1)
        assert not [key for kind, key in world.documents if kind in ("plan", "log")], cut
        if not breaker.tripped:
            break
    assert cut > 10


@pytest.mark.anomaly
@pytest.mark.parametrize("scene", [stopped, deleted])
@asynchronous
async def test_repeated_power_cuts_lose_and_double_nothing(scene: Scene) -> None:
    for distance in range(3, 12):
        world = World()
        expected = await scene(world)
        for later in range(200):
            world.clock.advance(2)
            breaker = Breaker(at=distance + later)
            with suppress(PowerCutError):
                await world.restarted(breaker).deliver(flush=True)
            if not breaker.tripped:
                break
        await world.restarted().deliver(flush=True)
        await world.check(expected, chains=1)


@pytest.mark.anomaly
@pytest.mark.parametrize("scene", SCENES)
@asynchronous
async def test_any_failed_put_delivers_each_event_once(scene: Scene) -> None:
    for fault in (Fault.UNAVAILABLE, Fault.LOST_ANSWER):
        failed = 0
        for number in range(10):
            world = World()
            expected = await scene(world)
            world.objects.faults.extend([None] * number)
            world.objects.faults.append(fault)
            try:
                await world.deliver(flush=True)
            except ObjectStoreError:
                failed += 1
            world.objects.faults.clear()
            for _ in range(2):
                world.clock.advance(60)
                await world.deliver(flush=True)
            await world.check(expected, chains=1)
        assert failed >= 2


# A call that ends a stretch, with a power cut in the middle of it


async def a_call_cut_short(world: World, recorded: bool) -> list[str]:
    """A StopLogging whose state was committed; its record perhaps, its position not."""
    await world.add(validation=True)
    expected = [await world.start_logging(), *await world.event(3)]
    stored = await world.stored()
    now = stored_time(world.clock.now())
    await world.registry.change(stored, stored.trail.stopped("the-stop", now))
    if recorded:
        expected += await world.event(eventID="the-stop", eventName="StopLogging")
        expected[-1] = "the-stop"
        await world.event(2)
    return expected


@pytest.mark.anomaly
@pytest.mark.parametrize("recorded", [True, False])
@asynchronous
async def test_an_interrupted_stop_ends_at_record_or_deadline(
    recorded: bool,
) -> None:
    world = World()
    expected = await a_call_cut_short(world, recorded)
    world = world.restarted()
    await world.deliveries.start()
    delivered = await world.deliveries.ensure(UID).deliver()
    assert bool(delivered.logs) is recorded
    world.clock.advance(60)
    await world.deliveries.ensure(UID).deliver()
    await world.event(3)
    await world.deliveries.ensure(UID).deliver(flush=True)
    await world.check(expected, chains=1)
    await world.deliveries.stop()


@pytest.mark.anomaly
@asynchronous
async def test_new_server_does_not_end_an_open_span() -> None:
    """The server that answered the call keeps running, while the trail moves to another one."""
    world = World()
    expected = await a_call_cut_short(world, recorded=False)
    other = world.restarted()
    await other.deliveries.start()
    await other.deliveries.ensure(UID).deliver(flush=True)
    expected += await world.event(2)
    expected += await world.event(eventID="the-stop", eventName="StopLogging")
    expected[-1] = "the-stop"
    # The answering server must not deliver too early: both would plan the same files.
    await server_of(world).close_span(UID, "the-stop", world.journal.head)
    await world.event(2)
    await other.deliveries.ensure(UID).deliver(flush=True)
    await other.check(expected, chains=1)
    await other.deliveries.stop()


@pytest.mark.anomaly
@asynchronous
async def test_unseen_entries_are_not_skipped() -> None:
    """Another server has settled the end of a span, and this one's journal is behind it."""
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    stored = await world.stored()
    now = stored_time(world.clock.now())
    ended = stored.trail.stopped("the-stop", now).with_closed_span(
        "the-stop", world.journal.head + 2
    )
    await world.registry.change(stored, ended)
    await world.deliver()
    expected += await world.event(2)
    await world.event(2)
    await world.deliver()
    await world.check(expected)


@pytest.mark.anomaly
@asynchronous
async def test_an_unrecorded_start_and_stop_leave_nothing() -> None:
    world = World()
    trail = await world.add(validation=True)
    await world.event(5)
    stored = await world.stored()
    now = stored_time(world.clock.now())
    empty = trail.started(world.journal.head, now).stopped("never-recorded", now)
    await world.registry.change(stored, empty)
    world = world.restarted()
    await world.deliveries.start()
    for _ in range(4):
        world.clock.advance(60)
        await world.deliveries.ensure(UID).deliver(flush=True)
    delivered = await world.check([], chains=None)
    assert len(delivered.digests) <= 1
    assert (await world.stored()).trail.spans == ()
    await world.deliveries.stop()


@pytest.mark.anomaly
@asynchronous
async def test_a_deleted_trail_without_files_is_forgotten() -> None:
    world = World()
    trail = await world.add()
    await world.event(5)
    stored = await world.stored()
    now = stored_time(world.clock.now())
    closed = trail.started(world.journal.head, now).stopped("never-recorded", now)
    await world.registry.retire(stored, replace(closed, deleted=True))
    world = world.restarted()
    await world.deliveries.start()
    await world.deliveries.ensure(UID).deliver()
    world.clock.advance(60)
    await world.deliveries.ensure(UID).deliver()
    assert await world.registry.retired() == []
    await world.deliveries.stop()


# Rounds


@asynchronous
async def test_a_worker_without_a_trail_is_finished() -> None:
    world = World()
    worker = world.worker("never-there")
    done = await worker.deliver()
    assert (done.logs, done.digests) == ([], [])
    assert worker.finished
    await worker.run(INTERVAL)


@asynchronous
async def test_only_one_round_runs_at_a_time() -> None:
    world = World()
    expected = await first_delivery(world)
    rounds = await asyncio.gather(*(world.deliver(flush=number == 2) for number in range(5)))
    assert sum(len(done.logs) for done in rounds) == 2
    await world.check(expected, chains=1)


@asynchronous
async def test_a_round_returns_its_files() -> None:
    world = World()
    await first_delivery(world)
    done = await world.deliver(flush=True)
    assert sorted(done.logs) == world.log_keys()
    assert sorted(done.digests) == world.digest_keys()
    assert len(done.logs) == len(done.digests) == 2


@asynchronous
async def test_deleted_trail_that_never_logged_is_removed_immediately() -> None:
    world = World()
    trail = await world.add()
    stored = await world.stored()
    await world.registry.retire(stored, replace(trail, deleted=True))
    await world.deliver()
    assert world.documents == {}
    assert world.worker().finished


def test_events_are_delivered_every_interval() -> None:
    async def story() -> None:
        world = World()
        await world.add()
        expected = [await world.start_logging()]
        await world.deliveries.start()
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(1, 5):
            has_next = partial(_has_logs, world, number)
            await eventually(has_next, 5, 2 * INTERVAL)
            waited = loop.time() - started
            assert number * INTERVAL - 1 <= waited <= number * INTERVAL + 10
            expected += await world.event()
            world.clock.advance(INTERVAL)
        await world.deliveries.stop()
        await world.check(expected[:-1])

    run_skipping_time(story())


def test_a_worker_survives_a_failing_start() -> None:
    class Failing(MemoryControl):
        failures = 1

        async def get(self, kind: str, key: str) -> Stored | None:
            if kind == "delivery" and self.failures:
                self.failures -= 1
                raise StoreUnreachable("PostgreSQL does not answer")
            return await super().get(kind, key)

    async def story() -> None:
        world = World()
        await world.add()
        expected = [await world.start_logging()]
        failing = Failing(world.documents)
        world.deliveries._control = failing
        await world.deliveries.start()
        await eventually(world.log_keys, 1, 3 * INTERVAL)
        assert failing.failures == 0
        await world.deliveries.stop()
        await world.check(expected)

    run_skipping_time(story())


def test_a_woken_worker_delivers_immediately() -> None:
    async def story() -> None:
        world = World()
        await world.add()
        expected = [await world.start_logging()]
        await world.deliveries.start()
        world.deliveries.ensure(UID).wake.set()
        await eventually(world.log_keys, 0.01, 1)
        await world.deliveries.stop()
        await world.check(expected)

    run_skipping_time(story())


def test_settling_a_stop_delivers_the_rest_immediately() -> None:
    async def story() -> None:
        world = World()
        await world.add(validation=True)
        expected = [await world.start_logging()]
        await world.deliveries.start()
        stored = await world.stored()
        now = stored_time(world.clock.now())
        await world.registry.change(stored, stored.trail.stopped("the-stop", now))
        await world.event(eventID="the-stop")
        expected.append("the-stop")
        await world.deliveries.close_span(UID, "the-stop", world.journal.head)
        await world.event(2)
        await eventually(world.digest_keys, 0.01, 1)
        await world.deliveries.stop()
        await world.check(expected, chains=1)

    run_skipping_time(story())


@pytest.mark.slow
def test_delivery_resumes_soon_after_a_long_outage() -> None:
    async def story() -> None:
        world = World()
        await world.add(validation=True)
        expected = [await world.start_logging()]
        await world.deliveries.start()
        world.objects.down = "SlowDown"
        loop = asyncio.get_running_loop()
        ended = loop.time() + 86_400
        while loop.time() < ended:
            await asyncio.sleep(600)
            world.clock.advance(600)
            expected += await world.event()
        assert (await world.state()).latest_error == "SlowDown"
        tries = world.objects.calls
        assert 86_400 / 600 < tries < 86_400 / 60
        world.objects.down = None
        await eventually(lambda: len(world.digest_keys()) >= 24, 1, 2 * INTERVAL)
        await world.deliveries.stop()
        await world.check(expected, chains=1)

    run_skipping_time(story())


def test_temporary_failure_of_the_store_spares_the_worker() -> None:
    class Failing(MemoryControl):
        failing = False

        async def apply(self, changes: list[StoreWrite]) -> None:  # type: ignore[override]
            if self.failing:
                raise StorageFailed("state store failed: disk full")
            await super().apply(changes)

    async def story() -> None:
        world = World()
        expected = await first_delivery(world)
        world.control.__class__ = Failing
        await world.deliveries.start()
        assert isinstance(world.control, Failing)
        world.control.failing = True
        await asyncio.sleep(10 * INTERVAL)
        world.control.failing = False
        await eventually(lambda: len(world.log_keys()) == 2, 1, 2 * INTERVAL)
        await world.deliver(flush=True)
        await world.deliveries.stop()
        await world.check(expected, chains=1)

    run_skipping_time(story())


def test_one_trails_dead_bucket_delays_no_other() -> None:
    async def story() -> None:
        world = World()
        await world.add()
        await world.add(name="second", uid="second")
        moved = await world.stored()
        await world.registry.change(moved, replace(moved.trail, bucket="no-such-bucket"))
        await world.start_logging()
        expected = [await world.start_logging("second"), *await world.event(2)]
        await world.deliveries.start()
        await eventually(world.log_keys, 5, 2 * INTERVAL)
        await world.deliveries.stop()
        assert (await world.state()).latest_error == "NoSuchBucket"
        assert (await world.state("second")).latest_error is None
        await world.check(expected)

    run_skipping_time(story())


# All trails together


@asynchronous
async def test_flushing_delivers_and_signs_immediately() -> None:
    world = World()
    expected = await first_delivery(world)
    await world.deliveries.start()
    done = await world.deliveries.flush((await world.stored()).trail)
    assert (len(done.logs), len(done.digests)) == (2, 2)
    await world.check(expected, chains=1)
    await world.deliveries.stop()


@asynchronous
async def test_flushing_a_failing_bucket_raises_its_error() -> None:
    world = World()
    await first_delivery(world)
    world.objects.down = "AccessDenied"
    with pytest.raises(ObjectStoreError, match="AccessDenied"):
        await world.deliveries.flush((await world.stored()).trail)
    await world.deliveries.stop()


@asynchronous
async def test_trail_has_one_worker_until_it_is_finished() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    first = world.deliveries.ensure(UID)
    assert world.deliveries.ensure(UID) is first
    await world.delete()
    await first.deliver()
    assert first.finished
    first.wake.set()
    await turns(50)
    assert world.deliveries.ensure(UID) is not first
    await world.deliveries.stop()


@asynchronous
async def test_retired_trails_are_delivered_after_a_restart() -> None:
    world = World()
    expected = await deleted(world)
    world = world.restarted()
    await world.deliveries.start()
    world.deliveries.ensure(UID).wake.set()
    await eventually(lambda: world.documents == {})
    await world.check(expected, chains=1)
    await world.deliveries.stop()


@asynchronous
async def test_lost_bucket_is_recreated_and_its_chain_restarts() -> None:
    world = World()
    await first_delivery(world)
    await world.deliver(flush=True)
    world.buckets.objects.clear()
    world.buckets.stored.clear()
    world = world.restarted()
    assert await world.deliveries.remake_lost_buckets() == [BUCKET]
    assert await world.deliveries.remake_lost_buckets() == []
    world.clock.advance(3_600)
    later = await world.event(2)
    await world.deliver(flush=True)
    await world.check(later, chains=1)


@asynchronous
async def test_existing_buckets_are_left_alone() -> None:
    world = World()
    expected = await first_delivery(world)
    await world.deliver(flush=True)
    assert await world.deliveries.remake_lost_buckets() == []
    world.clock.advance(3_600)
    await world.deliver()
    await world.check(expected, chains=1)


@asynchronous
async def test_stopping_ends_all_workers_in_time() -> None:
    world = World()
    await first_delivery(world)
    await world.deliveries.start()
    await world.deliveries.stop()
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
    assert world.clock.now() > MOMENT


# Buckets no longer in use


@asynchronous
async def test_missing_bucket_delays_no_file_for_the_next() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    await world.event(2)
    world.buckets.objects.pop(BUCKET)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    await world.update(bucket="other-bucket")
    await world.event(2)
    for _ in range(2):
        with pytest.raises(ObjectStoreError):
            await world.deliver()
    assert len([key for key in world.buckets.objects["other-bucket"] if key.endswith(".gz")]) == 1


@asynchronous
async def test_digest_for_a_missing_bucket_delays_no_files() -> None:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    await world.deliver(flush=True)
    await world.stop_logging()
    await world.deliver()
    world.buckets.objects.pop(BUCKET)
    stored = await world.stored()
    await world.registry.change(stored, replace(stored.trail, bucket="other-bucket"))
    world.clock.advance(60)
    await world.start_logging()
    await world.event(2)
    with suppress(ObjectStoreError):
        await world.deliver()
    world.clock.advance(60)
    await world.event(2)
    with suppress(ObjectStoreError):
        await world.deliver()
    assert len([key for key in world.buckets.objects["other-bucket"] if key.endswith(".gz")]) == 2


@asynchronous
async def test_an_unwritable_file_delays_no_digest() -> None:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    stuck: list[str] = []
    put = world.objects.put

    async def all_but_one(new: NewObject) -> None:
        if not stuck and new.key.endswith(".json.gz") and "/CloudTrail/" in new.key:
            stuck.append(new.key)
        if new.key in stuck:
            raise ObjectStoreError("ObjectMismatch", "somebody else's object is there")
        await put(new)

    world.objects.put = all_but_one  # type: ignore[method-assign]
    for hour in range(3):
        await world.event(2)
        with pytest.raises(ObjectStoreError, match="somebody else"):
            await world.deliver()
        assert len(world.digest_keys()) == hour
        world.clock.advance(3_600)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert len(world.digest_keys()) == 3
    state = await world.state()
    assert (state.latest_error, state.latest_digest_error) == ("ObjectMismatch", None)
    world.objects.put = put  # type: ignore[method-assign]
    await world.deliver()
    await world.stop_logging()
    await world.deliver()
    await world.check([entry.event_id for entry in world.entries], chains=1)


@asynchronous
async def test_the_last_digest_waits_for_its_files() -> None:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    await world.event(2)
    await world.stop_logging()
    put = world.objects.put

    async def no_logs(new: NewObject) -> None:
        if "/CloudTrail-Digest/" not in new.key:
            raise ObjectStoreError("AccessDenied", "not now")
        await put(new)

    world.objects.put = no_logs  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(ObjectStoreError):
            await world.deliver()
        world.clock.advance(3_600)
    assert world.digest_keys() == []
    world.objects.put = put  # type: ignore[method-assign]
    await world.deliver()
    await world.check([entry.event_id for entry in world.entries], chains=1)


@asynchronous
async def test_missing_bucket_with_open_files_delays_no_digest() -> None:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    await world.event(2)
    world.buckets.objects.pop(BUCKET)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    await world.update(bucket="other-bucket")
    for _ in range(4):
        await world.event(2)
        with pytest.raises(ObjectStoreError):
            await world.deliver()
        world.clock.advance(3_600)
    assert len(world.digest_keys("other-bucket")) >= 3
    delivered = await world.verified()
    assert [len(chains) for chains in delivered.chains.values()] == [1]


DATA = {
    "EventSelectors": [
        {
            "IncludeManagementEvents": False,
            "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}],
        }
    ]
}


async def data_event(world: World) -> list[str]:
    """Records a data event, which the trail selects, unlike the calls that change it."""
    record = a_data_record()
    return await world.event(
        **{name: value for name, value in record.items() if name not in ("eventID", "eventTime")}
    )


async def with_a_lost_bucket(
    begins_again: str | None,
) -> tuple[World, list[str], dict[str, StoredObject]]:
    """Makes a trail whose bucket vanished before its last digest; maybe it logs again elsewhere.

    Returns:
        Its world, the ids of later events, and the earlier content of the bucket.
    """
    world = World()
    await world.add(validation=True, selectors=DATA)
    await world.start_logging()
    await data_event(world)
    await world.deliver()
    lost = world.buckets.objects.pop(BUCKET)
    await world.stop_logging()
    if begins_again is None:
        return world, [], lost
    stored = await world.stored()
    await world.registry.change(stored, replace(stored.trail, bucket=begins_again))
    world.clock.advance(60)
    await world.start_logging()
    return world, await data_event(world), lost


async def try_for(world: World, days: float) -> None:
    """Lets rounds fail for some time."""
    for _ in range(3):
        with pytest.raises(ObjectStoreError):
            await world.deliver()
        world.clock.advance(int(days * 86_400 / 3) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", ["other-bucket", None], ids=["goes on", "stopped"])
@asynchronous
async def test_the_last_digest_for_a_missing_bucket_expires(
    elsewhere: str | None,
) -> None:
    world, later, _ = await with_a_lost_bucket(elsewhere)
    await try_for(world, 29.9)
    if elsewhere is not None:
        assert len(world.log_keys(elsewhere)) == 1
        assert world.digest_keys(elsewhere) == [], "the chain before has not ended"
    world.clock.advance(8_640)
    for _ in range(40):  # a day of digests at a time
        await world.deliver()
    assert len((await world.stored()).trail.spans) == (1 if elsewhere else 0)
    assert world.metrics.registry.get_sample_value("opentrail_given_up_files_total") == 1
    if elsewhere is not None:
        await world.check(later, chains=1)
        (known,) = await world.digests.boundaries((await world.stored()).trail)
        assert [start["bucket"] for start in known["starts"]] == [elsewhere]
        assert known["newest"]["bucket"] == elsewhere


@pytest.mark.slow
@asynchronous
async def test_a_restored_bucket_gets_its_last_digest() -> None:
    world, later, lost = await with_a_lost_bucket("other-bucket")
    await try_for(world, 29)
    world.buckets.objects[BUCKET] = lost
    for _ in range(3):
        await world.deliver()
        world.clock.advance(3_600)
    assert world.metrics.registry.get_sample_value("opentrail_given_up_files_total") == 0
    delivered = await world.verified()
    assert len(delivered.event_ids) == 1 + len(later)
    assert [len(chains) for chains in delivered.chains.values()] == [2]


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [False, True], ids=["stopped", "deleted"])
@asynchronous
async def test_server_off_for_long_retries_for_a_day(
    deleted: bool,
) -> None:
    """A store that starts later than the server still gets all files and the last digest."""
    world = World()
    await world.add(validation=True)
    expected = [await world.start_logging()]
    await world.deliver()
    lost = world.buckets.objects.pop(BUCKET)
    expected += await world.event(2)
    expected.append(await (world.delete() if deleted else world.stop_logging()))
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    world.clock.advance(31 * 86_400)
    world = world.restarted()
    for _ in range(3):
        with pytest.raises(ObjectStoreError):
            await world.deliver()
        world.clock.advance(8 * 3_600 - 1)
    world.buckets.objects[BUCKET] = lost
    for _ in range(40):  # a day of digests at a time
        await world.deliver()
    assert world.metrics.registry.get_sample_value("opentrail_given_up_files_total") == 0
    await world.check(expected)


@pytest.mark.slow
@asynchronous
async def test_abandoned_files_join_the_next_chain() -> None:
    """The store refuses digests and accepts log files."""
    world, _, lost = await with_a_lost_bucket(BUCKET)
    world.buckets.objects[BUCKET] = lost
    denied = ObjectStoreError("AccessDenied", "digests are not wanted")
    put = world.objects.put

    async def only_logs(new: NewObject) -> None:
        if "/CloudTrail-Digest/" in new.key:
            raise denied
        await put(new)

    world.objects.put = only_logs  # type: ignore[method-assign]
    await try_for(world, 30.1)
    world.objects.put = put  # type: ignore[method-assign]
    world.clock.advance(1)
    for _ in range(40):
        await world.deliver()
    delivered = await world.verified()
    assert len(delivered.logs) == 2
    listed = sorted(key for digest in delivered.digests for key in digest.logs)
    assert listed == sorted(one.key for one in delivered.logs)


@pytest.mark.slow
@asynchronous
async def test_deleted_buckets_chain_restarts_in_the_next() -> None:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    await world.deliver(flush=True)
    await world.event()
    await world.deliver()
    world.clock.advance(3_602)
    world.buckets.objects.pop(BUCKET)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    await world.update(bucket="other-bucket")
    later = await world.event(2)
    await try_for(world, 29.9)
    assert world.digest_keys("other-bucket") == []
    world.clock.advance(8_640)
    for _ in range(40):
        with suppress(ObjectStoreError):  # files left for the first bucket
            await world.deliver()
    delivered = await world.verified()
    assert set(later) <= set(delivered.event_ids)
    ((chain,),) = delivered.chains.values()
    assert chain[0].document["previousDigestS3Object"] is None
    assert (await world.state()).latest_digest_error is None


# Rounds


def times_of(outcomes: list[bool | None], interval: float) -> list[float]:
    """Returns the times of rounds that succeed (True), end it (False) or fail (None)."""

    async def story() -> list[float]:
        began: list[float] = []
        loop = asyncio.get_running_loop()

        async def work() -> bool:
            began.append(loop.time())
            outcome = outcomes[len(began) - 1]
            if outcome is None:
                raise ServiceError("Down", "it is down")
            return outcome

        await repeat(work, asyncio.Event(), interval, {"trail": "t"})
        return began

    return run_skipping_time(story())


def pauses(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_rounds_have_intervals_until_one_is_the_last() -> None:
    found = pauses(times_of([True, True, True, False], 60))
    assert len(found) == 3
    assert all(59.9 < pause < 61 for pause in found)


def test_an_interval_is_measured_between_beginnings() -> None:
    async def story() -> list[float]:
        began: list[float] = []
        loop = asyncio.get_running_loop()
        lasts = iter([20, 59, 90, 130, 0, 0])

        async def work() -> bool:
            began.append(loop.time())
            await asyncio.sleep(next(lasts))
            return len(began) < 6

        await repeat(work, asyncio.Event(), 60, {})
        return began

    assert pauses(run_skipping_time(story())) == pytest.approx([60, 60, 90, 130, 60], abs=0.5)


def test_failures_lengthen_pauses_to_at_most_five_minutes() -> None:
    found = pauses(times_of([None] * 14 + [False], 1))
    for number, pause in enumerate(found, 1):
        longest = min(MAX_PAUSE_SECONDS, 2**number)
        assert longest / 2 - 0.1 <= pause <= longest + 0.1
    assert max(found) > MAX_PAUSE_SECONDS / 2


def test_a_successful_round_restores_the_usual_pace() -> None:
    found = pauses(times_of([None, None, None, True, True, False], 1))
    assert found[2] > 3.9
    assert all(0.9 < pause < 1.1 for pause in found[3:])


@asynchronous
async def test_a_woken_worker_starts_immediately() -> None:
    wake, rounds = asyncio.Event(), 0

    async def work() -> bool:
        nonlocal rounds
        rounds += 1
        return rounds < 3

    task = asyncio.create_task(repeat(work, wake, 3_600, {}))
    for expected in (1, 2, 3):
        wake.set()
        await turns()
        assert rounds == expected
    await task


def test_a_programming_error_is_logged_without_ending_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[logging.LogRecord] = []
    monkeypatch.setattr(
        logging.getLogger("opentrail.trails.delivery_rounds"), "handle", logged.append
    )

    async def story() -> int:
        rounds = 0

        async def work() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise KeyError("member")
            return rounds < 3

        await repeat(work, asyncio.Event(), 1, {"trail": "t"})
        return rounds

    assert run_skipping_time(story()) == 3
    (record,) = logged
    assert record.getMessage() == "delivery failed unexpectedly"
    assert record.exc_info is not None


def _has_logs(world: World, number: int) -> bool:
    return len(world.log_keys()) == number
