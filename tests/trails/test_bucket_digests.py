"""Digests in the bucket: valid digests, and digests that continue a chain."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.core.errors import ObjectMissing
from opentrail.core.logfile import LogFileLocation
from opentrail.core.trail import Trail
from opentrail.trails.digest_chains import BucketDigest, BucketDigests, continuation
from tests.factories import ACCOUNT, MOMENT, REGION
from tests.fakes import StoredObject, asynchronous
from tests.trails.world import BUCKET, World

PLACE = LogFileLocation(BUCKET, "", ACCOUNT, REGION)


async def a_chain(count: int) -> tuple[World, BucketDigests, Trail]:
    world = World()
    trail = await world.add(validation=True)
    await world.start_logging()
    for _ in range(count):
        await world.event()
        await world.deliver(flush=True)
        world.clock.advance(60)
    return world, BucketDigests(world.objects, world.signer, RsaVerifier()), trail


async def nothing(_bucket: str, _key: str) -> None:
    """No other bucket has digests."""


@asynchronous
async def test_digests_are_read_oldest_first() -> None:
    _, digests, trail = await a_chain(4)
    found = await digests.since(trail, PLACE, MOMENT - timedelta(seconds=1))
    assert len(found) == 4
    assert all(digest.is_ours for digest in found)
    assert [one.reference for one in found[:-1]] == [one.previous for one in found[1:]]
    assert await digests.since(trail, PLACE, found[1].end) == found[2:]
    assert await digests.since(replace(trail, name="other"), PLACE, MOMENT) == []
    with pytest.raises(ObjectMissing):
        await digests.since(trail, replace(PLACE, bucket="gone"), MOMENT)


@pytest.mark.parametrize("change", ["content", "signature", "no signature", "moved", "junk"])
@asynchronous
async def test_a_changed_digest_is_not_ours(change: str) -> None:
    world, digests, trail = await a_chain(2)
    objects = world.buckets.objects[BUCKET]
    key = world.digest_keys()[-1]
    stored = objects[key]
    if change == "content":
        content = gzip.compress(gzip.decompress(stored.content).replace(b'"SHA-256"', b'"SHA-1"'))
        objects[key] = replace(stored, content=content)
    elif change == "signature":
        objects[key] = replace(stored, metadata={**stored.metadata, "signature": "00" * 256})
    elif change == "no signature":
        objects[key] = replace(stored, metadata={})
    elif change == "moved":
        objects[key] = objects[world.digest_keys()[0]]
    else:
        objects[key] = StoredObject(b"junk", {}, "", "", "")
    found = await digests.since(trail, PLACE, MOMENT)
    assert [digest.is_ours for digest in found if digest.reference.key == key] in ([], [False])
    assert await continuation(found, None, MOMENT, nothing) == found[:1]


async def some(count: int) -> list[BucketDigest]:
    _, digests, trail = await a_chain(count)
    return await digests.since(trail, PLACE, MOMENT - timedelta(seconds=1))


@asynchronous
async def test_chain_is_followed_back_to_a_known_digest() -> None:
    found = await some(5)
    for known in range(5):
        last, begin = found[known].reference, found[known].end
        expected = found[known + 1 :] or None
        assert await continuation(found[known + 1 :], last, begin, nothing) == expected


@asynchronous
async def test_digests_that_follow_another_one_do_not_continue() -> None:
    found = await some(5)
    other = structs.replace(found[1].reference, sha256="0" * 64)
    assert await continuation(found[2:], other, found[1].end, nothing) is None
    assert await continuation(found[3:], found[1].reference, found[1].end, nothing) is None
    unsigned = [*found[2:3], replace(found[3], is_ours=False), found[4]]
    assert await continuation(unsigned, found[1].reference, found[1].end, nothing) is None


@asynchronous
async def test_a_digest_in_another_bucket_is_read() -> None:
    found = await some(4)

    async def read(_bucket: str, key: str) -> BucketDigest | None:
        return next((each for each in found if each.reference.key == key), None)

    first, end = found[0].reference, found[0].end
    assert await continuation([found[1], found[3]], first, end, read) == found[1:]
