"""Log files: which events, in which file, under which name, and nothing twice whatever breaks."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.ports.objects import NewObject
from opentrail.trails.delivery import load_state, put_exactly
from tests.factories import MOMENT, a_new_entry, a_record
from tests.fakes import Breaker, Fault, MemoryObjects, asynchronous
from tests.trails.world import BUCKET, World

OTHER = "eu-west-1"


# Which events


@asynchronous
async def test_every_management_event_is_in_exactly_one_file() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    for count in (3, 0, 1, 20):
        expected += await world.event(count)
        await world.deliver()
        world.clock.advance(300)
    assert await world.deliver() is not None
    delivered = await world.check(expected)
    assert [len(log.records) for log in delivered.logs] == [4, 1, 20]


@asynchronous
async def test_events_before_logging_began_and_after_it_ended_are_not_delivered() -> None:
    world = World()
    await world.add()
    await world.event(5)
    first = await world.start_logging()
    between = await world.event(3)
    last = await world.stop_logging()
    await world.event(5)
    await world.deliver()
    await world.deliver()
    delivered = await world.check([first, *between, last])
    (log,) = delivered.logs
    assert [log.records[0]["eventName"], log.records[-1]["eventName"]] == [
        "StartLogging",
        "StopLogging",
    ]


@asynchronous
async def test_each_stretch_of_logging_is_delivered() -> None:
    world = World()
    await world.add()
    expected = []
    for _ in range(3):
        await world.event(2)
        expected.append(await world.start_logging())
        expected += await world.event(2)
        expected.append(await world.stop_logging())
    await world.event(2)
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_data_events_imports_and_other_accounts_are_not_delivered() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    await world.event(eventCategory="Data", managementEvent=False)
    await world.event(eventCategory="Insight")
    await world.event(origin="import")
    await world.event(recipientAccountId="210987654321")
    expected += await world.event(origin="api")
    expected += await world.event(origin="hook")
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_a_single_region_trail_takes_its_home_region_and_global_services() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    expected += await world.event(eventSource="ec2.amazonaws.com")
    await world.event(eventSource="ec2.amazonaws.com", awsRegion=OTHER)
    expected += await world.event(eventSource="iam.amazonaws.com")
    await world.deliver()
    delivered = await world.check(expected)
    assert {log.region for log in delivered.logs} == {"us-east-1"}


@asynchronous
async def test_without_global_services_a_trail_leaves_their_events_out() -> None:
    world = World()
    await world.add(include_global_services=False)
    expected = [await world.start_logging()]
    await world.event(eventSource="iam.amazonaws.com")
    expected += await world.event(eventSource="ec2.amazonaws.com")
    expected += await world.event(eventSource="sts.amazonaws.com")
    await world.event(eventSource="cloudfront.amazonaws.com")
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    # The file is made again from the journal after a restart, with the same choice.
    await world.restarted().deliver()
    await world.check(expected)


@asynchronous
async def test_a_multi_region_trail_splits_regions_into_files() -> None:
    world = World()
    await world.add(multi_region=True)
    expected = [await world.start_logging()]
    for region in (OTHER, "us-east-1", "ap-south-1", OTHER):
        expected += await world.event(awsRegion=region)
    await world.deliver()
    delivered = await world.check(expected)
    counts = {log.region: len(log.records) for log in delivered.logs}
    assert counts == {"us-east-1": 2, OTHER: 2, "ap-south-1": 1}
    assert (await world.state()).regions == ("ap-south-1", OTHER, "us-east-1")


@asynchronous
async def test_trails_do_not_share_files() -> None:
    world = World()
    await world.add()
    await world.add(name="second", uid="second")
    expected = [await world.start_logging(), await world.start_logging("second")]
    expected += await world.event(3)
    await world.deliver()
    await world.deliver(uid="second")
    delivered = await world.verified()
    (first, second) = sorted(delivered.logs, key=lambda log: -len(log.records))
    assert first.event_ids == expected
    assert second.event_ids == expected[1:]


# Names and bytes


@pytest.mark.parametrize(
    ("prefix", "start"),
    [("", ""), ("audit", "audit/"), ("audit/2020/", "audit/2020/")],
)
@asynchronous
async def test_a_files_name_is_awss_and_tells_when_it_was_delivered(
    prefix: str, start: str
) -> None:
    world = World()
    await world.add(prefix=prefix)
    expected = [await world.start_logging()]
    world.clock.moment = MOMENT + timedelta(days=40, hours=7, minutes=5, seconds=59)
    done = await world.deliver()
    (key,) = done.logs
    assert key[: -len("0123456789abcdef.json.gz")] == (
        f"{start}AWSLogs/123456789012/CloudTrail/us-east-1/2020/02/10/"
        "123456789012_CloudTrail_us-east-1_20200210T1605Z_"
    )
    assert world.log_keys() == [key]
    await world.check(expected)


@asynchronous
async def test_files_of_the_same_minute_have_different_names() -> None:
    world = World()
    await world.add(multi_region=True)
    expected = [await world.start_logging()]
    for _ in range(10):
        expected += await world.event()
        expected += await world.event(awsRegion=OTHER)
        await world.deliver()
    assert len(world.log_keys()) == 20
    await world.check(expected)


@asynchronous
async def test_records_lie_in_a_file_in_the_order_in_which_they_were_recorded() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    for second in (50, 10, 30):
        time = f"{MOMENT + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"
        expected += await world.event(eventTime=time)
    await world.deliver()
    (log,) = (await world.check(expected)).logs
    assert log.event_ids == expected


@asynchronous
async def test_nothing_is_written_where_nothing_happened() -> None:
    world = World()
    await world.add()
    assert (await world.deliver()).logs == []
    expected = [await world.start_logging()]
    await world.deliver()
    await world.event(3, eventCategory="Data")
    world.clock.advance(300)
    assert (await world.deliver()).logs == []
    await world.check(expected)


@asynchronous
async def test_a_file_holds_at_most_fifty_megabytes_uncompressed() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    padding = "x" * 1_000_000
    large = [a_new_entry(a_record(eventID=f"e-{n}", userAgent=padding)) for n in range(60)]
    await world.journal.append(large)
    await world.deliver()
    delivered = await world.verified()
    assert len(delivered.logs) == 2
    assert all(len(log.content) <= 50_000_000 for log in delivered.logs)
    ids = [i for log in delivered.logs for i in log.event_ids if i.startswith("e-")]
    assert sorted(ids) == sorted(f"e-{number}" for number in range(60))


# Changed settings


@asynchronous
async def test_a_change_of_bucket_and_prefix_takes_effect_at_the_calls_position() -> None:
    world = World()
    await world.add()
    before = [await world.start_logging(), *await world.event(3)]
    before.append(await world.update(bucket="other-bucket", prefix="new"))
    after = await world.event(3)
    after.append(await world.stop_logging())
    await world.deliver()
    delivered = await world.check(before + after)
    by_bucket = {log.bucket: log for log in delivered.logs}
    assert by_bucket[BUCKET].event_ids == before
    assert by_bucket["other-bucket"].event_ids == after
    assert by_bucket["other-bucket"].key.startswith("new/AWSLogs/")


@asynchronous
async def test_many_changes_between_two_deliveries_each_have_their_stretch() -> None:
    world = World()
    await world.add()
    stretches = [[await world.start_logging()]]
    for number in range(4):
        stretches[-1] += await world.event(2)
        stretches[-1].append(await world.update(prefix=f"p{number}"))
        stretches.append([])
    stretches[-1] += await world.event(2)
    await world.deliver()
    delivered = await world.check([event_id for stretch in stretches for event_id in stretch])
    assert sorted(log.event_ids for log in delivered.logs) == sorted(stretches)


@asynchronous
async def test_becoming_multi_region_takes_other_regions_from_that_call_on() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    await world.event(awsRegion=OTHER)
    expected.append(await world.update(multi_region=True))
    expected += await world.event(awsRegion=OTHER)
    expected.append(await world.update(multi_region=False))
    await world.event(awsRegion=OTHER)
    await world.deliver()
    await world.check(expected)


@pytest.mark.parametrize("moment", range(1, 13))
@asynchronous
async def test_nothing_behind_a_stop_is_delivered_whenever_in_a_round_it_comes(moment: int) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(2)]

    async def stop_just_then() -> None:
        expected.append(await world.stop_logging())
        await world.event(4)

    world.breaker.before_next(moment, stop_just_then)
    for _ in range(4):
        await world.deliver()
    await world.check(expected)


@pytest.mark.parametrize("moment", range(1, 13))
@asynchronous
async def test_a_new_bucket_applies_from_its_call_on_whenever_in_a_round_it_comes(
    moment: int,
) -> None:
    world = World()
    await world.add()
    before = [await world.start_logging(), *await world.event(2)]
    after: list[str] = []

    async def change_just_then() -> None:
        before.append(await world.update(bucket="other-bucket"))
        after.extend(await world.event(4))

    world.breaker.before_next(moment, change_just_then)
    for _ in range(4):
        await world.deliver()
    delivered = await world.check(before + after)
    found: dict[str, list[str]] = {BUCKET: [], "other-bucket": []}
    for log in delivered.logs:
        found[log.bucket] += log.event_ids
    assert {bucket: sorted(ids) for bucket, ids in found.items()} == {
        BUCKET: sorted(before),
        "other-bucket": sorted(after),
    }


@asynchronous
async def test_what_a_deleted_trail_took_is_delivered_and_then_it_is_forgotten() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    expected.append(await world.delete())
    await world.event(3)
    await world.deliver()
    await world.check(expected)
    assert world.worker().finished
    assert world.documents == {}


# Failing stores


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_a_put_that_fails_is_repeated_with_the_same_name_and_bytes(fault: Fault) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    world.objects.faults.append(fault)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    held = dict(world.buckets.objects[BUCKET])
    world.clock.advance(3_600)
    later = await world.event(2)
    await world.deliver()
    delivered = await world.check(expected + later)
    assert held.items() <= world.buckets.objects[BUCKET].items()
    assert len(delivered.logs) == 2


@asynchronous
async def test_planned_files_are_written_before_anything_is_planned_anew() -> None:
    world = World()
    await world.add(multi_region=True)
    first = [await world.start_logging(), *await world.event(awsRegion=OTHER)]
    world.objects.faults.extend([None, Fault.UNAVAILABLE])
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert len(world.log_keys()) == 1
    second = await world.event(2)
    world = world.restarted()
    done = await world.deliver()
    assert len(done.logs) == 2
    await world.check(first + second)


@asynchronous
async def test_wrong_stored_bytes_raise_the_alarm_and_stay_as_they_are() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world.objects.faults.append(Fault.WRONG_BYTES)
    for _ in range(3):
        with pytest.raises(ObjectStoreError, match="not what was written") as error:
            await world.deliver()
        assert error.value.code == "ObjectMismatch"
    assert (await world.state()).latest_error == "ObjectMismatch"
    assert len(world.buckets.stored) == 1
    assert (await world.state()).latest_delivery is None


@asynchronous
async def test_a_missing_bucket_is_told_and_delivered_to_once_it_is_there() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    gone = world.buckets.objects.pop(BUCKET)
    for _ in range(3):
        expected += await world.event(2)
        world.clock.advance(300)
        with pytest.raises(ObjectMissing):
            await world.deliver()
    state = await world.state()
    assert state.latest_error == "NoSuchBucket"
    assert state.latest_delivery is None
    assert state.latest_attempt == world.clock.now().isoformat(timespec="microseconds")
    world.buckets.objects[BUCKET] = gone
    await world.deliver()
    await world.check(expected)
    state = await world.state()
    assert state.latest_error is None
    assert state.latest_delivery == world.clock.now().isoformat(timespec="microseconds")


@asynchronous
async def test_an_endpoint_that_does_not_answer_is_told_too() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    world.objects.down = "ConnectTimeoutError"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert (await world.state()).latest_error == "ConnectTimeoutError"
    world.objects.down = None
    await world.deliver()
    assert (await world.state()).latest_error is None
    await world.check(expected)


@asynchronous
async def test_after_a_change_of_bucket_old_events_still_go_to_the_old_one() -> None:
    world = World()
    await world.add()
    before = [await world.start_logging()]
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    before.append(await world.update(bucket="other-bucket"))
    after = await world.event(1)
    world.objects.down = None
    await world.deliver()
    delivered = await world.check(before + after)
    in_old = [i for log in delivered.logs if log.bucket == BUCKET for i in log.event_ids]
    assert sorted(in_old) == sorted(before)


@asynchronous
async def test_a_plan_whose_records_have_changed_in_the_journal_is_not_written() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    world.entries[0] = replace(world.entries[0], record=world.entries[0].record + b" ")
    with pytest.raises(ObjectStoreError, match="have changed") as error:
        await world.restarted().deliver()
    assert error.value.code == "PlanMismatch"
    assert world.log_keys() == []


@pytest.mark.anomaly
@asynchronous
async def test_a_file_that_is_written_again_after_a_restart_has_the_same_bytes() -> None:
    world = World(breaker=Breaker())
    await world.add(multi_region=True, include_global_services=True)
    expected = [await world.start_logging()]
    expected += await world.event(3, awsRegion=OTHER)
    world.objects.faults.append(Fault.LOST_ANSWER)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    ((key, first),) = world.buckets.objects[BUCKET].items()
    world.buckets.objects[BUCKET].clear()
    world.buckets.stored.clear()
    world.clock.advance(86_400)
    world = world.restarted()
    await world.deliver()
    assert world.buckets.objects[BUCKET][key] == first
    await world.check(expected)


# Status and figures


@asynchronous
async def test_the_state_tells_when_the_latest_file_was_delivered() -> None:
    world = World()
    await world.add()
    assert await load_state(world.control, "4f1c6a52-trail") == await world.state()
    assert (await world.state()).latest_delivery is None
    await world.start_logging()
    await world.deliver()
    first = (await world.state()).latest_delivery
    assert first == MOMENT.isoformat(timespec="microseconds")
    world.clock.advance(300)
    await world.deliver()
    assert (await world.state()).latest_delivery == first
    await world.event()
    await world.deliver()
    later = MOMENT + timedelta(minutes=5)
    assert (await world.state()).latest_delivery == later.isoformat(timespec="microseconds")


@asynchronous
async def test_files_and_failures_are_counted() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    sample = world.metrics.registry.get_sample_value
    assert sample("opentrail_delivery_failures_total") == 1
    await world.deliver()
    assert sample("opentrail_delivered_files_total", {"kind": "log"}) == 1
    assert sample("opentrail_delivery_failures_total") == 1


# Writing one object exactly


async def put(objects: MemoryObjects, content: bytes = b"content") -> None:
    await put_exactly(objects, NewObject(BUCKET, "key", content))


@asynchronous
async def test_an_object_that_is_there_with_the_same_bytes_is_well() -> None:
    objects = MemoryObjects(BUCKET)
    await put(objects)
    await put(objects)
    assert objects.disk.stored == [(BUCKET, "key")]


@asynchronous
async def test_an_object_that_is_there_with_other_bytes_is_an_alarm() -> None:
    objects = MemoryObjects(BUCKET)
    await put(objects, b"other")
    with pytest.raises(ObjectStoreError) as error:
        await put(objects)
    assert error.value.code == "ObjectMismatch"
    assert await objects.get(BUCKET, "key") == b"other"


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_an_object_is_written_once_its_store_answers(fault: Fault) -> None:
    objects = MemoryObjects(BUCKET)
    objects.faults.append(fault)
    with pytest.raises(ObjectStoreError):
        await put(objects)
    await put(objects)
    assert await objects.get(BUCKET, "key") == b"content"


@asynchronous
async def test_bytes_that_came_out_wrong_are_noticed() -> None:
    objects = MemoryObjects(BUCKET)
    objects.faults.append(Fault.WRONG_BYTES)
    with pytest.raises(ObjectStoreError, match="not what was written"):
        await put(objects)


@asynchronous
async def test_a_log_file_is_one_gzip_of_one_json_object() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    await world.deliver()
    (stored,) = world.buckets.objects[BUCKET].values()
    document = json.loads(gzip.decompress(stored.content))
    assert [record["eventName"] for record in document["Records"]] == ["StartLogging"]
    assert stored.content[4:8] == b"\0\0\0\0", "no time stamp, or equal files would differ"
