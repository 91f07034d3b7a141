"""Digest files: a signed chain, checked by a reader that shares no code with the writer."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import rsa

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.ports.control import Put
from tests.factories import MOMENT
from tests.fakes import Breaker, Fault, PowerCutError, StoredObject, asynchronous, utc
from tests.trails.verify import Digest, verify
from tests.trails.world import BUCKET, World

OTHER = "eu-west-1"
HOME = "us-east-1"


async def logging_trail(**settings: Any) -> tuple[World, list[str]]:
    """Returns a logging trail with validation, and its events to deliver."""
    world = World()
    await world.add(validation=True, **settings)
    return world, [await world.start_logging()]


def window(digest: Digest) -> tuple[datetime, datetime]:
    start, end = (digest.document[f"digest{part}Time"].rstrip("Z") for part in ("Start", "End"))
    return utc(start), utc(end)


# The chain


@asynchronous
async def test_first_digest_covers_an_interval_from_the_start() -> None:
    world, expected = await logging_trail()
    world.clock.advance(3_599)
    assert (await world.deliver()).digests == []
    world.clock.advance(1)
    done = await world.deliver()
    (digest,) = (await world.check(expected, chains=1)).chain()
    assert done.digests == [digest.key]
    assert window(digest) == (MOMENT, MOMENT + timedelta(hours=1))
    assert digest.document["previousDigestS3Object"] is None
    assert digest.document["digestS3Bucket"] == BUCKET
    assert digest.key == (
        "AWSLogs/123456789012/CloudTrail-Digest/us-east-1/2020/01/01/"
        "123456789012_CloudTrail-Digest_us-east-1_my-trail_us-east-1_20200101T100000Z.json.gz"
    )


@asynchronous
async def test_digests_follow_one_another_with_and_without_events() -> None:
    world, expected = await logging_trail()
    for hour in range(6):
        if hour % 2:
            expected += await world.event(hour)
        for _ in range(12):
            world.clock.advance(300)
            await world.deliver()
    chain = (await world.check(expected, chains=1)).chain()
    assert [len(digest.logs) for digest in chain] == [1, 1, 0, 1, 0, 1]
    for number, digest in enumerate(chain):
        start = MOMENT + timedelta(hours=number)
        assert window(digest) == (start, start + timedelta(hours=1))


@asynchronous
async def test_empty_digest_has_null_times_and_no_files() -> None:
    world, _ = await logging_trail()
    await world.deliver(flush=True)
    world.clock.advance(3_601)
    await world.deliver()
    _, empty = (await world.verified()).chain()
    assert empty.document["logFiles"] == []
    assert empty.document["newestEventTime"] is None
    assert empty.document["oldestEventTime"] is None
    assert empty.document["previousDigestSignature"]


@asynchronous
async def test_a_digest_lists_its_files_newest_first() -> None:
    world, expected = await logging_trail()
    for _ in range(4):
        world.clock.advance(600)
        expected += await world.event(2)
        await world.deliver()
    world.clock.advance(1_200)
    await world.deliver()
    (digest,) = (await world.check(expected, chains=1)).chain()
    newest = [log["newestEventTime"] for log in digest.document["logFiles"]]
    assert len(newest) == 4
    assert newest == sorted(newest, reverse=True)
    assert digest.document["newestEventTime"] == newest[0]
    assert digest.document["oldestEventTime"] == "2020-01-01T09:00:00Z"


@asynchronous
async def test_a_late_round_catches_up_on_each_interval() -> None:
    world, expected = await logging_trail()
    world.clock.advance(300)
    await world.deliver()
    world.clock.advance(3_600 * 10 + 17)
    expected += await world.event(3)
    assert len((await world.deliver()).digests) == 10
    world.clock.advance(3_600)
    await world.deliver()
    chain = (await world.check(expected, chains=1)).chain()
    assert [window(digest) for digest in chain] == [
        (MOMENT + timedelta(hours=n), MOMENT + timedelta(hours=n + 1)) for n in range(11)
    ]
    # A file is in the digest of its delivery's interval.
    assert [len(digest.logs) for digest in chain] == [1, *[0] * 9, 1]


@asynchronous
async def test_a_month_without_rounds_is_caught_up_daily() -> None:
    world, expected = await logging_trail()
    world.clock.advance(3_600 * 60)
    made = [len((await world.deliver()).digests) for _ in range(4)]
    assert made == [24, 24, 12, 0]
    world.clock.advance(3_600)
    assert len((await world.deliver()).digests) == 1
    await world.check(expected, chains=1)


@asynchronous
async def test_urgent_digest_covers_all_and_ends_now() -> None:
    world, expected = await logging_trail()
    world.clock.advance(3_600 * 30 + 17)
    assert len((await world.deliver(flush=True)).digests) == 31
    chain = (await world.check(expected, chains=1)).chain()
    assert window(chain[-1])[1] == MOMENT + timedelta(hours=30, seconds=17)
    assert len(chain[-1].logs) == 1


@asynchronous
async def test_flush_adds_a_digest_and_restarts_the_interval() -> None:
    world, expected = await logging_trail()
    world.clock.advance(600)
    expected += await world.event()
    done = await world.deliver(flush=True)
    assert len(done.logs) == len(done.digests) == 1
    world.clock.advance(3_599)
    assert (await world.deliver()).digests == []
    world.clock.advance(1)
    assert len((await world.deliver()).digests) == 1
    chain = (await world.check(expected, chains=1)).chain()
    assert [len(digest.logs) for digest in chain] == [1, 0]


@asynchronous
async def test_end_times_rise_even_if_the_clock_stops() -> None:
    world, expected = await logging_trail()
    for _ in range(5):
        expected += await world.event()
        await world.deliver(flush=True)
    chain = (await world.check(expected, chains=1)).chain()
    ends = [window(digest)[1] for digest in chain]
    assert ends == [MOMENT + timedelta(seconds=number) for number in range(1, 6)]


@asynchronous
async def test_end_times_rise_with_a_clock_set_back() -> None:
    world, expected = await logging_trail()
    for seconds in (600, -3_600, 5, -86_400, 90_000):
        world.clock.advance(seconds)
        expected += await world.event()
        await world.deliver(flush=True)
    chain = (await world.check(expected, chains=1)).chain()
    ends = [window(digest)[1] for digest in chain]
    assert ends == sorted(set(ends))


@asynchronous
async def test_fractions_of_a_second_keep_the_chain() -> None:
    world, expected = await logging_trail()
    for fraction in (0.9, 1.3, 0.2, 7.77):
        world.clock.advance(fraction)
        expected += await world.event()
        await world.deliver(flush=True)
    assert len((await world.check(expected, chains=1)).chain()) == 4


# Regions


@asynchronous
async def test_each_seen_region_has_a_chain() -> None:
    world, expected = await logging_trail(multi_region=True)
    await world.deliver(flush=True)
    for region in (OTHER, "ap-south-1", OTHER):
        world.clock.advance(3_600)
        expected += await world.event(awsRegion=region)
        await world.deliver()
    delivered = await world.check(expected, chains=1)
    assert set(delivered.chains) == {HOME, OTHER, "ap-south-1"}
    for region, chains in delivered.chains.items():
        for digest in chains[0]:
            assert all(f"/CloudTrail/{region}/" in log for log in digest.logs)
            assert f"_{region}_my-trail_{HOME}_" in digest.key


# Where chains end and begin


@asynchronous
async def test_stopping_ends_the_chain_with_a_last_digest() -> None:
    world, expected = await logging_trail()
    world.clock.advance(600)
    expected += await world.event(2)
    await world.deliver(flush=True)
    world.clock.advance(60)
    expected.append(await world.stop_logging())
    await world.event(3)
    world.clock.advance(60)
    done = await world.deliver()
    assert len(done.digests) == 1
    chain = (await world.check(expected, chains=1)).chain()
    assert [len(digest.logs) for digest in chain] == [1, 1]
    for _ in range(3):
        world.clock.advance(7_200)
        assert (await world.deliver()).digests == []
        assert (await world.deliver(flush=True)).digests == []
    await world.check(expected, chains=1)


@asynchronous
async def test_an_ended_chain_stays_ended_while_another_fails() -> None:
    world, expected = await logging_trail(multi_region=True)
    expected += await world.event(awsRegion=OTHER)
    world.clock.advance(600)
    await world.deliver(flush=True)
    expected.append(await world.stop_logging())
    world.clock.advance(60)
    world.objects.faults.extend([None, None, Fault.UNAVAILABLE])
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert len(world.digest_keys()) == 3
    world.clock.advance(60)
    assert len((await world.deliver()).digests) == 1
    await world.check(expected, chains=1)


@asynchronous
async def test_starting_again_begins_a_new_chain() -> None:
    world, expected = await logging_trail()
    world.clock.advance(600)
    expected.append(await world.stop_logging())
    await world.deliver()
    world.clock.advance(600)
    expected.append(await world.start_logging())
    world.clock.advance(3_600)
    await world.deliver()
    first, second = (await world.check(expected, chains=2)).chains[HOME]
    assert window(first[-1])[1] == MOMENT + timedelta(seconds=600)
    assert window(second[0]) == (
        MOMENT + timedelta(seconds=1_200),
        MOMENT + timedelta(seconds=4_800),
    )


@asynchronous
async def test_a_stop_and_a_start_give_two_chains() -> None:
    world, expected = await logging_trail()
    world.clock.advance(100)
    expected.append(await world.stop_logging())
    world.clock.advance(100)
    expected.append(await world.start_logging())
    world.clock.advance(100)
    await world.deliver(flush=True)
    await world.check(expected, chains=2)


@asynchronous
async def test_two_stretches_within_a_round_give_two_chains() -> None:
    world, expected = await logging_trail()
    expected.append(await world.stop_logging())
    world.clock.advance(100)
    expected.append(await world.start_logging())
    expected.append(await world.stop_logging())
    world.clock.advance(100)
    await world.deliver()
    await world.check(expected, chains=2)


@asynchronous
async def test_restarting_within_a_second_gives_different_names() -> None:
    world, expected = await logging_trail()
    world.clock.advance(0.1)
    expected.append(await world.stop_logging())
    await world.deliver()
    world.clock.advance(0.1)
    expected.append(await world.start_logging())
    world.clock.advance(0.1)
    expected += await world.event()
    await world.deliver(flush=True)
    delivered = await world.check(expected, chains=2)
    assert len({digest.key for digest in delivered.digests}) == 2


@asynchronous
async def test_a_recreated_trail_has_digests_with_other_names() -> None:
    world, expected = await logging_trail()
    await world.deliver(flush=True)
    expected.append(await world.delete())
    await world.deliver()
    await world.add(uid="second", validation=True)
    expected.append(await world.start_logging())
    for _ in range(3):
        expected += await world.event()
        await world.deliver(flush=True, uid="second")
    delivered = await world.check(expected, chains=2)
    assert len({digest.key for digest in delivered.digests}) == 5


@asynchronous
async def test_deleting_a_trail_ends_and_forgets_its_chain() -> None:
    world, expected = await logging_trail(multi_region=True)
    expected += await world.event(awsRegion=OTHER)
    world.clock.advance(60)
    expected.append(await world.delete())
    await world.deliver()
    delivered = await world.check(expected, chains=1)
    assert {region: len(c[0]) for region, c in delivered.chains.items()} == {HOME: 1, OTHER: 1}
    assert world.documents == {}


@asynchronous
async def test_toggling_validation_ends_and_begins_a_chain() -> None:
    world, expected = await logging_trail()
    world.clock.advance(60)
    expected.append(await world.update(validation=False))
    world.clock.advance(60)
    unlisted = await world.event(2)
    await world.deliver()
    before = (await world.verified()).digests
    assert len(before) == 1
    world.clock.advance(7_200)
    assert (await world.deliver()).digests == []
    unlisted.append(await world.update(validation=True))
    listed = await world.event(1)
    world.clock.advance(60)
    await world.deliver(flush=True)
    delivered = await world.verified()
    assert sorted(delivered.event_ids) == sorted(expected + unlisted + listed)
    first, second = delivered.chains[HOME]
    in_digests = [key for digest in first + second for key in digest.logs]
    named = {log.key: log.event_ids for log in delivered.logs}
    found = [event_id for key in in_digests for event_id in named[key]]
    assert sorted(found) == sorted(expected + listed)


@asynchronous
async def test_a_new_bucket_continues_the_chain() -> None:
    world, expected = await logging_trail()
    await world.deliver(flush=True)
    world.clock.advance(60)
    expected.append(await world.update(bucket="other-bucket", prefix="new"))
    expected += await world.event(2)
    world.clock.advance(3_000)
    await world.deliver(flush=True)
    chain = (await world.check(expected, chains=1)).chain()
    assert [digest.bucket for digest in chain] == [BUCKET, "other-bucket"]
    assert chain[1].document["previousDigestS3Bucket"] == BUCKET
    assert chain[1].key.startswith("new/AWSLogs/")


@asynchronous
async def test_a_trail_without_validation_has_no_digests() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    world.clock.advance(7_200)
    await world.deliver(flush=True)
    expected.append(await world.stop_logging())
    await world.deliver(flush=True)
    delivered = await world.check(expected)
    assert delivered.digests == []


# Failing stores


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_a_failed_digest_is_rewritten_unchanged(
    fault: Fault,
) -> None:
    world, expected = await logging_trail()
    world.objects.faults.extend([None, fault])
    with pytest.raises(ObjectStoreError):
        await world.deliver(flush=True)
    state = await world.state()
    assert state.latest_digest_error is not None
    assert state.latest_error is None
    assert state.latest_digest is None
    held = {key: world.buckets.objects[BUCKET][key] for key in world.digest_keys()}
    world.clock.advance(60)
    await world.restarted().deliver()
    chain = (await world.check(expected, chains=1)).chain()
    assert window(chain[0])[1] == MOMENT + timedelta(seconds=1)
    assert held.items() <= world.buckets.objects[BUCKET].items()
    state = await world.state()
    assert state.latest_digest_error is None
    assert state.latest_digest == world.clock.now().isoformat(timespec="microseconds")


@asynchronous
async def test_no_digest_covers_a_corrupt_file() -> None:
    world, _ = await logging_trail()
    world.objects.faults.append(Fault.WRONG_BYTES)
    for _ in range(4):
        world.clock.advance(3_600)
        with pytest.raises(ObjectStoreError, match="not what was written"):
            await world.deliver(flush=True)
    contents = [world.buckets.objects[BUCKET][key].content for key in world.digest_keys()]
    digests = [json.loads(gzip.decompress(content)) for content in contents]
    assert len(digests) >= 4, "they go on"
    assert [log for digest in digests for log in digest["logFiles"]] == []
    state = await world.state()
    assert (state.latest_error, state.latest_digest_error) == ("ObjectMismatch", None)


@asynchronous
async def test_a_corrupt_digest_raises_an_alarm() -> None:
    world, _ = await logging_trail()
    world.objects.faults.extend([None, Fault.WRONG_BYTES])
    for _ in range(3):
        with pytest.raises(ObjectStoreError, match="not what was written"):
            await world.deliver(flush=True)
        world.clock.advance(3_600)
    state = await world.state()
    assert state.latest_digest_error == "ObjectMismatch"
    assert state.latest_digest is None
    assert len(world.digest_keys()) == 1


@asynchronous
async def test_long_outage_leaves_no_gap() -> None:
    world, expected = await logging_trail()
    await world.deliver(flush=True)
    world.objects.down = "SlowDown"
    for _ in range(6):
        world.clock.advance(3_600)
        expected += await world.event(2)
        with pytest.raises(ObjectStoreError):
            await world.deliver()
    world.objects.down = None
    # A digest that began before the first hour was over, and one for each other hour.
    assert len((await world.deliver()).digests) == 5
    await world.deliver(flush=True)
    chain = (await world.check(expected, chains=1)).chain()
    assert window(chain[-1])[1] == world.clock.now()


@asynchronous
async def test_bucket_that_vanished_with_its_digests_is_reported() -> None:
    world, _ = await logging_trail()
    await world.deliver(flush=True)
    world.buckets.objects.pop(BUCKET)
    world.clock.advance(3_601)
    with pytest.raises(ObjectMissing):
        await world.deliver()
    assert (await world.state()).latest_digest_error == "NoSuchBucket"
    assert (await world.state()).latest_error is None


@asynchronous
async def test_forgetting_begins_a_new_chain_without_unlisted_files() -> None:
    world, _ = await logging_trail()
    await world.deliver(flush=True)
    await world.event(2)
    await world.deliver()
    world.buckets.objects[BUCKET].clear()
    world.buckets.stored.clear()
    await world.digests.forget((await world.stored()).trail)
    world.clock.advance(3_600)
    later = await world.event(2)
    await world.deliver(flush=True)
    await world.check(later, chains=1)


@asynchronous
async def test_digest_files_are_counted() -> None:
    world, _ = await logging_trail(multi_region=True)
    await world.event(awsRegion=OTHER)
    await world.deliver(flush=True)
    sample = world.metrics.registry.get_sample_value
    assert sample("opentrail_delivered_files_total", {"kind": "digest"}) == 2
    assert sample("opentrail_delivered_files_total", {"kind": "log"}) == 2


@pytest.mark.anomaly
@pytest.mark.parametrize("after", ["log", "digest"])
@asynchronous
async def test_digest_signed_before_a_power_cut_is_rewritten(
    after: str,
) -> None:
    world, expected = await logging_trail()
    done = 0
    for number in range(1, 60):
        broken = world.restarted(Breaker(at=number))
        try:
            await broken.deliver(flush=True)
        except PowerCutError:
            done += 1
            world.clock.advance(1.5)
            if after == "log":
                expected += await world.event()
            continue
        break
    assert done > 5
    await world.restarted().deliver(flush=True)
    await world.check(expected, chains=1)


# The independent reader itself would report errors


async def a_good_bucket() -> World:
    world, expected = await logging_trail()
    for _ in range(3):
        world.clock.advance(3_600)
        expected += await world.event(2)
        await world.deliver()
    await world.check(expected, chains=1)
    return world


def repacked(stored: StoredObject, content: bytes) -> StoredObject:
    return replace(stored, content=gzip.compress(content, mtime=0))


@pytest.mark.parametrize(
    "member", ["digestEndTime", "logFiles", "previousDigestHashValue", "digestS3Object"]
)
@asynchronous
async def test_the_reader_notices_an_altered_digest(member: str) -> None:
    world = await a_good_bucket()
    key = world.digest_keys()[1]
    held = world.buckets.objects[BUCKET]
    document = json.loads(gzip.decompress(held[key].content))
    document[member] = {"logFiles": []}.get(member, "2020-01-01T10:59:59Z")
    held[key] = repacked(held[key], json.dumps(document).encode())
    with pytest.raises((AssertionError, rsa.VerificationError)):
        verify(world.buckets.objects, await world.signer.keys())


@asynchronous
async def test_the_reader_notices_altered_deleted_and_foreign_files() -> None:
    world = await a_good_bucket()
    keys = await world.signer.keys()
    held = world.buckets.objects[BUCKET]
    log, digest = world.log_keys()[0], world.digest_keys()[1]
    content = gzip.decompress(held[log].content)
    for changes in (
        {log: repacked(held[log], content.replace(b"Mary", b"Jane"))},
        {log: None},
        {digest: None},
        {digest: held[world.digest_keys()[2]]},
        {digest: replace(held[digest], metadata={**held[digest].metadata, "signature": "00"})},
    ):
        altered = {**held, **changes}
        present = {key: stored for key, stored in altered.items() if stored is not None}
        with pytest.raises((AssertionError, rsa.VerificationError)):
            verify({BUCKET: present}, keys)


@asynchronous
async def test_hashes_and_signatures_are_over_the_uncompressed_bytes() -> None:
    world = await a_good_bucket()
    first, second, _ = (await world.verified()).chain()
    uncompressed = gzip.decompress(world.buckets.objects[BUCKET][first.key].content)
    assert second.document["previousDigestHashValue"] == hashlib.sha256(uncompressed).hexdigest()
    text = (
        f"{second.document['digestEndTime']}\n{BUCKET}/{second.key}\n"
        f"{hashlib.sha256(second.content).hexdigest()}\n{first.signature}"
    )
    key = await world.signer.current()
    expected = await world.signer.sign(text.encode(), key.fingerprint)
    assert second.signature == expected.hex()


@asynchronous
async def test_chain_ends_are_known_after_every_restart() -> None:
    world, _ = await logging_trail()
    for _ in range(2):
        world.clock.advance(3600)
        await world.deliver()
    await world.stop_logging()
    await world.deliver()
    world = world.restarted()
    world.clock.advance(3600)
    await world.start_logging()
    await world.deliver()
    (before,) = await world.deliveries.known_digests((await world.stored()).trail)
    world.clock.advance(3600)
    await world.deliver()
    (known,) = await world.deliveries.known_digests((await world.stored()).trail)
    keys = world.digest_keys()
    assert len(keys) == 4
    assert before["newest"]["key"] == keys[2]
    assert known["newest"]["key"] == keys[3]
    assert [mark["key"] for mark in known["starts"]] == [keys[0], keys[3]]
    assert [mark["key"] for mark in known["ends"]] == [keys[2]]
    assert known["since"] == "2020-01-01T09:00:00Z"


@asynchronous
async def test_an_earlier_versions_chain_has_no_known_start() -> None:
    world, _ = await logging_trail()
    world.clock.advance(3600)
    await world.deliver()
    (stored,) = await world.control.scan("chain")
    old = {k: v for k, v in stored.document.items() if k not in ("starts", "ends")}
    await world.control.apply([Put("chain", stored.key, old)])
    world.clock.advance(3600)
    await world.deliver()
    (known,) = await world.deliveries.known_digests((await world.stored()).trail)
    assert known["starts"] == []
    assert known["since"] == "2020-01-01T11:00:00Z"
    await world.stop_logging()
    await world.deliver()
    world.clock.advance(60)
    await world.start_logging()
    world.clock.advance(3660)
    assert len((await world.deliver()).digests) == 1
    (known,) = await world.deliveries.known_digests((await world.stored()).trail)
    assert known["starts"] == []
    assert known["since"] != "2020-01-01T09:00:00Z"


@pytest.mark.slow
@asynchronous
async def test_a_regions_chain_begins_with_its_first_file() -> None:
    world = World()
    await world.add(validation=True, multi_region=True)
    expected = [await world.start_logging()]
    await world.deliver()
    for _ in range(31 * 24):
        world.clock.advance(3_600)
        await world.deliver()
    expected += await world.event(2, awsRegion="eu-west-1")
    world.clock.advance(1_800)
    await world.deliver()
    world.clock.advance(1_800)
    done = await world.deliver()
    assert len(done.digests) == 2
    (digest,) = (await world.check(expected, chains=1)).chains["eu-west-1"][0]
    assert window(digest) == (world.clock.now() - timedelta(hours=1), world.clock.now())


@pytest.mark.parametrize("minutes", [0, 60, 90, 120])
@asynchronous
async def test_a_region_with_early_files_has_all_digests(
    minutes: int,
) -> None:
    world = World()
    await world.add(validation=True, multi_region=True)
    expected, began = [await world.start_logging()], world.clock.now()
    await world.deliver()
    world.clock.advance(minutes * 60)
    expected += await world.event(2, awsRegion="eu-west-1")
    await world.deliver()
    world.clock.advance(3 * 3_600 - minutes * 60)
    await world.deliver()
    chain = (await world.check(expected, chains=1)).chains["eu-west-1"][0]
    first, hour = max(0, -(-minutes // 60) - 1), timedelta(hours=1)
    assert [window(digest) for digest in chain] == [
        (began + number * hour, began + (number + 1) * hour) for number in range(first, 3)
    ]
