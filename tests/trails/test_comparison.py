"""State older than the bucket: restored backups, copies put back."""

from __future__ import annotations

import copy
import gzip
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from opentrail.api.v1.trails import trail_problems, trail_state
from opentrail.core.errors import ObjectStoreError
from opentrail.core.event import Entry
from opentrail.core.trail import stored_time
from opentrail.trails.comparison import REGAINED
from tests.fakes import (
    Breaker,
    Documents,
    Fault,
    PowerCutError,
    StoredObject,
    asynchronous,
)
from tests.trails.world import BUCKET, World

OTHER = "eu-west-1"
HOUR = 3_600

Copy = tuple[Documents, list[Entry]]


def copied(world: World) -> Copy:
    """Copies the data directory: the state store and the journal."""
    return copy.deepcopy(world.documents), list(world.entries)


def restored(world: World, saved: Copy) -> World:
    """Returns a new process on a copy of the data directory, and on the same buckets."""
    documents, entries = saved
    first_id = world.first_id + 1_000
    documents, entries = copy.deepcopy(documents), list(entries)
    return replace(world, documents=documents, entries=entries, first_id=first_id)


async def a_day(world: World, hours: int = 5) -> list[str]:
    """Lets a server run for some hours; returns the events."""
    events = []
    for _ in range(hours):
        events += await world.event(2)
        events += await world.event(awsRegion=OTHER)
        await world.deliver()
        world.clock.advance(HOUR)
    await world.deliver()
    return events


async def logging_world(validation: bool = True) -> tuple[World, list[str]]:
    world = World()
    await world.add(validation=validation, multi_region=True)
    return world, [await world.start_logging(), *await a_day(world, 2)]


async def restored_behind(world: World, events: list[str]) -> tuple[World, list[str]]:
    """Returns the state before the last two deliveries, and the events that only the bucket has.

    All events are added to `events`.
    """
    saved = copied(world)
    await world.deliver()
    events += (lost := await world.event(2))
    await world.deliver(flush=True)
    world.clock.advance(60)
    old = restored(world, saved)
    events += await old.event(2)
    return old, lost


async def check_regained(world: World, lost: list[str]) -> None:
    """Checks that event history gets notes of the journal's lost events."""
    ids, count = set(), 0
    for stored in await world.control.scan(REGAINED):
        count += stored.document["events"]
        for file in stored.document["files"]:
            content = world.buckets.objects[file["bucket"]][file["key"]].content
            ids |= {each["eventID"] for each in json.loads(gzip.decompress(content))["Records"]}
    assert set(lost) <= ids
    assert count == len(lost)


async def check_all(world: World, events: list[str], chains: int | None = 1) -> None:
    """Checks that all events were delivered once, and that the chains are whole."""
    delivered = await world.verified()
    assert sorted(delivered.event_ids) == sorted(events)
    if chains is not None:
        assert {len(found) for found in delivered.chains.values()} == {chains}
        listed = sorted(log for digest in delivered.digests for log in digest.logs)
        assert listed == sorted(log.key for log in delivered.logs)


@pytest.mark.slow
@pytest.mark.parametrize("hours", [0, 1, 5, 40])
@pytest.mark.parametrize("flush", [False, True])
@asynchronous
async def test_a_restored_state_continues_after_the_newest_digest(hours: int, flush: bool) -> None:
    world, events = await logging_world()
    saved = copied(world)
    events += (lost := await a_day(world, hours))
    old = restored(world, saved)
    events += await old.event(3)
    await old.deliver(flush)
    old.clock.advance(2 * HOUR)
    events += await old.event(2, awsRegion=OTHER)
    await old.deliver()
    old.clock.advance(2 * HOUR)
    await old.deliver()
    await check_all(old, events)
    await check_regained(old, lost)
    state = await old.state()
    assert (state.latest_error, state.latest_digest_error, state.new_chain) == (None, None, None)
    known = {
        each["region"]: each["newest"]["key"]
        for each in await old.digests.boundaries((await old.stored()).trail)
    }
    assert set(known.values()) <= set(old.digest_keys())


@asynchronous
async def test_unlisted_log_files_are_in_the_next_digest() -> None:
    world, events = await logging_world()
    saved = copied(world)
    events += (lost := await world.event(4))
    await world.deliver()
    world.clock.advance(60)
    old = restored(world, saved)
    events += await old.event(2)
    await old.deliver(flush=True)
    await check_all(old, events)
    await check_regained(old, lost)


@asynchronous
async def test_delivered_events_are_not_repeated() -> None:
    world, events = await logging_world()
    events += await world.event(3)
    events += await world.event(3, awsRegion=OTHER)
    old, lost = await restored_behind(world, events)
    await old.deliver(flush=True)
    await check_all(old, events)
    await check_regained(old, lost)


@asynchronous
async def test_a_missing_file_between_others_is_delivered() -> None:
    world, events = await logging_world()
    events += await world.event(3)
    events += await world.event(2, awsRegion=OTHER)
    events += await world.event(3)
    saved = copied(world)
    world.objects.faults.extend([Fault.UNAVAILABLE])
    with suppress(ObjectStoreError):
        await world.deliver()
    world.clock.advance(60)
    old = restored(world, saved)
    events += await old.event(2)
    await old.deliver(flush=True)
    await check_all(old, events)
    await check_regained(old, [])


@asynchronous
async def test_files_planned_during_an_outage_omit_delivered_events() -> None:
    world, events = await logging_world()
    events += await world.event(3)
    saved = copied(world)
    await world.deliver(flush=True)
    world.clock.advance(60)
    old = restored(world, saved)
    events += await old.event(2)
    old.objects.down = "SlowDown"
    for _ in range(2):
        with pytest.raises(ObjectStoreError):
            await old.deliver(flush=True)
    assert (await old.state()).latest_error == "SlowDown"
    old.objects.down = None
    events += await old.event(2)
    await old.deliver(flush=True)
    await check_all(old, events)


@pytest.mark.slow
@asynchronous
async def test_a_failed_read_of_the_bucket_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(at: int) -> bool:
        """Makes the `at`-th read of an object fail; returns whether there were that many."""
        world, events = await logging_world()
        events += await world.event(3)
        old, lost = await restored_behind(world, events)
        get, count = old.objects.get, 0

        async def get_or_fail(bucket: str, key: str) -> bytes:
            nonlocal count
            count += 1
            if count == at:
                raise ObjectStoreError("SlowDown", key)
            return await get(bucket, key)

        monkeypatch.setattr(old.objects, "get", get_or_fail)
        with suppress(ObjectStoreError):
            await old.deliver(flush=True)
        again = old.restarted()
        await again.deliver(flush=True)
        await check_all(again, events)
        await check_regained(again, lost)
        return count >= at

    reads = 1
    while await fails(reads):
        reads += 1
    assert reads > 5


@asynchronous
async def test_a_file_around_delivered_events_survives_a_restart() -> None:
    world, events = await logging_world()
    documents, _ = copied(world)
    before = set(world.log_keys())
    events += await world.event(2)
    await world.deliver()
    (lost,) = set(world.log_keys()) - before
    world.clock.advance(60)
    events += await world.event(2)
    await world.deliver()
    del world.buckets.objects[BUCKET][lost]
    world.buckets.stored.clear()
    old = restored(world, (documents, list(world.entries)))
    events += await old.event(2)
    old.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await old.deliver()
    again = old.restarted()
    await again.deliver(flush=True)
    await check_all(again, events)


@asynchronous
async def test_without_digests_events_are_also_delivered_once() -> None:
    world, events = await logging_world(validation=False)
    events += await world.event(3)
    saved = copied(world)
    events += (lost := await a_day(world, 3))
    old = restored(world, saved)
    events += await old.event(2)
    await old.deliver()
    await check_all(old, events, chains=None)
    await check_regained(old, lost)
    again = old.restarted()
    events += await again.event(2)
    await again.deliver()
    await check_all(again, events, chains=None)


@asynchronous
async def test_a_restart_without_a_restore_changes_nothing() -> None:
    for validation in (True, False):
        world, events = await logging_world(validation)
        for _ in range(3):
            events += await world.event(2)
            await world.deliver(flush=validation)
            before = copy.deepcopy(world.documents)
            world = world.restarted()
            trail, state = (await world.stored()).trail, await world.state()
            assert not await world.comparison.compare(trail, state, trail.spans[-1])
            assert world.documents == before
            world.clock.advance(7)
        await check_all(world, events, chains=1 if validation else None)


async def stopped_and_started(world: World) -> list[str]:
    events = [await world.stop_logging()]
    await world.deliver()
    world.clock.advance(HOUR)
    await world.event()
    events.append(await world.start_logging())
    return events + await a_day(world, 2)


@asynchronous
async def test_an_unknown_pause_of_logging_is_adopted() -> None:
    world, events = await logging_world()
    saved = copied(world)
    events += await stopped_and_started(world)
    old = restored(world, saved)
    events += await old.event(2)
    await old.deliver(flush=True)
    await check_all(old, events, chains=2)
    chains = await old.digests.boundaries((await old.stored()).trail)
    assert all(len(each["starts"]) == 2 and len(each["ends"]) == 1 for each in chains)


@asynchronous
async def test_trail_saved_while_off_begins_after_the_bucket() -> None:
    world, events = await logging_world()
    events.append(await world.stop_logging())
    await world.deliver()
    saved = copied(world)
    world.clock.advance(HOUR)
    events.append(await world.start_logging())
    events += await a_day(world, 2)
    old = restored(world, saved)
    await old.event(2)
    old.clock.advance(60)
    events.append(await old.start_logging())
    events += await old.event(2)
    await old.deliver(flush=True)
    delivered = await old.verified()
    assert set(delivered.event_ids) == set(events)
    assert {len(found) for place, found in delivered.chains.items() if place != OTHER} == {3}


@asynchronous
async def test_state_from_before_the_first_digest_is_continued() -> None:
    world = World()
    await world.add(validation=True)
    events = [await world.start_logging()]
    saved = copied(world)
    events += await a_day(world, 3)
    events = [each for each in events if each in {e.event_id for e in world.entries}]
    old = restored(world, saved)
    events += await old.event(2)
    await old.deliver(flush=True)
    delivered = await old.verified()
    assert {len(found) for found in delivered.chains.values()} == {1}


# Chains that cannot be continued


@asynchronous
async def test_digests_of_an_unknown_key_end_the_chain() -> None:
    world, events = await logging_world()
    saved, before = copied(world), set(world.digest_keys())
    events += (lost := await a_day(world, 3))
    strange = sorted(set(world.digest_keys()) - before)
    removed = {}
    for key in strange:
        stored = world.buckets.objects[BUCKET][key]
        bad = {**stored.metadata, "signature": "00" * 256}
        world.buckets.objects[BUCKET][key] = replace(stored, metadata=bad)
    old = restored(world, saved)
    old.clock.advance(60)
    events += await old.event(2)
    events += await old.event(1, awsRegion=OTHER)
    await old.deliver(flush=True)
    state = await old.state()
    assert state.new_chain == old.clock.now().isoformat(timespec="microseconds")
    assert "not signed with a key of this server" in state.new_chain_reason
    assert state.is_new_chain_current((await old.stored()).trail)
    await check_regained(old, lost)
    for key in strange:
        removed[key] = old.buckets.objects[BUCKET].pop(key)
    delivered = await old.verified()
    assert sorted(delivered.event_ids) == sorted(events)
    last = json.loads(gzip.decompress(removed[strange[-1]].content))["digestEndTime"]
    for found in delivered.chains.values():
        assert len(found) == 2
        assert found[1][0].document["previousDigestS3Object"] is None
        assert found[1][0].document["digestStartTime"] >= last
    known = await old.digests.boundaries((await old.stored()).trail)
    assert all(len(each["starts"]) == 2 and len(each["ends"]) == 1 for each in known)


@asynchronous
async def test_unknown_later_digests_begin_a_new_chain() -> None:
    """The state is older than some digests of this server's key; the key was lost after them."""
    world, _ = await logging_world()
    saved, before = copied(world), set(world.digest_keys())
    await a_day(world, 3)
    newest: dict[str, str] = {}
    for key in sorted(set(world.digest_keys()) - before):
        newest[key.split("/CloudTrail-Digest/")[1].split("/")[0]] = key
    for key in newest.values():
        stored = world.buckets.objects[BUCKET][key]
        bad = {**stored.metadata, "signature": "00" * 256}
        world.buckets.objects[BUCKET][key] = replace(stored, metadata=bad)
    old = restored(world, saved)
    old.clock.advance(60)
    await old.deliver(flush=True)
    state = await old.state()
    assert "not signed with a key of this server" in state.new_chain_reason
    known = await old.digests.boundaries((await old.stored()).trail)
    assert all(len(each["starts"]) == 2 and len(each["ends"]) == 1 for each in known)
    for each in known:
        ours = set(world.digest_keys()) - before - set(newest.values())
        assert each["ends"][0]["key"] in ours, "own digests were continued first"


@asynchronous
async def test_a_foreign_object_does_not_stop_the_chain() -> None:
    world, events = await logging_world()
    reference = restored(world, copied(world))
    reference.buckets = copy.deepcopy(world.buckets)
    reference = reference.restarted()
    world.clock.advance(HOUR)
    await reference.deliver()
    taken = sorted(set(reference.digest_keys()) - set(world.digest_keys()))
    for key in taken:
        world.buckets.objects[BUCKET][key] = StoredObject(b"junk", {}, "", "", "")
    events += await world.event(2)
    for _ in range(3):
        with suppress(ObjectStoreError):
            await world.deliver()
    world.clock.advance(HOUR)
    await world.deliver()
    for key in taken:
        assert world.buckets.objects[BUCKET].pop(key).content == b"junk"
    await check_all(world, events)


@asynchronous
async def test_a_digest_signed_by_another_process_is_continued() -> None:
    world, events = await logging_world()
    copy_of_it = restored(world, copied(world))
    await copy_of_it.deliver()
    events += (lost := await world.event(2))
    world.clock.advance(HOUR)
    await world.deliver()
    with pytest.raises(ObjectStoreError, match="continues the chain, and is not known"):
        await copy_of_it.deliver()
    events += await copy_of_it.event(2)
    await copy_of_it.deliver()
    world.clock.advance(HOUR)
    await copy_of_it.deliver()
    await check_all(copy_of_it, events)
    await check_regained(copy_of_it, lost)


@asynchronous
async def test_log_file_with_a_taken_name_gets_another() -> None:
    world, events = await logging_world()
    saved = copied(world)
    buckets = copy.deepcopy(world.buckets)
    events += await world.event(2)
    entries = list(world.entries)
    await world.deliver()
    (taken,) = set(world.log_keys()) - set(buckets.objects[BUCKET])
    world = replace(world, documents=saved[0], entries=entries, buckets=buckets)
    world.buckets.objects[BUCKET][taken] = StoredObject(b"junk", {}, "", "", "")
    await world.deliver(flush=True)
    assert (await world.state()).latest_error is None
    assert world.buckets.objects[BUCKET].pop(taken).content == b"junk"
    await check_all(world, events)


@pytest.mark.anomaly
@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@asynchronous
async def test_a_power_cut_anywhere_continues_the_bucket(carried_out: bool) -> None:
    cut = 0
    while True:
        cut += 1
        world, events = await logging_world()
        events += await world.event(2)
        saved = copied(world)
        events += (lost := await a_day(world, 2))
        old = restored(world, saved)
        events += await old.event(2)
        breaker = Breaker(at=cut, done=carried_out)
        with suppress(PowerCutError):
            await old.restarted(breaker).deliver(flush=True)
        old.clock.advance(60)
        after = old.restarted()
        await after.deliver(flush=True)
        await check_all(after, events)
        await check_regained(after, lost)
        if not breaker.tripped:
            break
    assert cut > 10


@asynchronous
async def test_second_installation_of_a_trail_is_named() -> None:
    world, _ = await logging_world()
    strange = {}
    for key in world.digest_keys():
        stored = world.buckets.objects[BUCKET][key]
        strange[key] = replace(stored, metadata={**stored.metadata, "signature": "00" * 256})
    other = World(clock=world.clock)
    other.buckets.objects[BUCKET].update(strange)
    other.clock.advance(HOUR)
    await other.add(validation=True, created_at=stored_time(other.clock.now()))
    await other.start_logging()
    assert await trail_problems(other.control, other.registry) == []
    await other.deliver()
    (problem,) = await trail_problems(other.control, other.registry)
    assert "another installation" in problem["problem"]
    state = await trail_state(other.control, (await other.stored()).trail)
    assert state["reason"] == problem["problem"]
    for key in strange:
        del other.buckets.objects[BUCKET][key]
    await other.stop_logging()
    other.clock.advance(60)
    await other.start_logging()
    await other.deliver()
    assert await trail_problems(other.control, other.registry) == []
