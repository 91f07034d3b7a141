"""The guarantees of every object store (ports/objects.py)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from opentrail.adapters.aws.object_store import S3Access, S3Objects
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from opentrail.core.errors import ObjectExists, ObjectMissing, ObjectStoreError
from opentrail.ports.objects import NewObject, ObjectStore
from tests.fakes import MemoryObjects, asynchronous

#: Number of concurrent servers.
SERVERS = 10


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.live)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjects()
    url = request.getfixturevalue("moto_url")
    return S3Objects(lambda: S3Access(url, "opentrail", "opentrail"))


@pytest.fixture
def bucket() -> str:
    return f"bucket-{uuid4()}"


@asynchronous
async def test_an_object_comes_back_unchanged(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    for number, content in enumerate((b"", b"\0", bytes(range(256)), b"x" * 3_000_000)):
        new = NewObject(bucket, f"a/b/{number}", content)
        await store.put(new)
        assert await store.get(bucket, new.key) == content


@asynchronous
async def test_a_part_of_an_object_is_read(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    content = bytes(range(256)) * 1_000
    await store.put(NewObject(bucket, "key", content))
    for first, length in ((0, 1), (100, 5_000), (len(content) - 3, 3), (0, len(content))):
        assert (
            await store.get_range(bucket, "key", first, length) == content[first : first + length]
        )
    await store.put(NewObject(bucket, "empty", b""))
    assert await store.get_range(bucket, "empty", 0, 5_000) == b""
    with pytest.raises(ObjectMissing):
        await store.get_range(bucket, "other", 0, 1)


@asynchronous
async def test_a_deleted_object_is_missing(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    for key in ("key", "kept"):
        await store.put(NewObject(bucket, key, b"content"))
    for _ in range(2):
        await store.delete(bucket, "key")
        assert await store.keys(bucket, "") == ["kept"]
    await store.put(NewObject(bucket, "key", b"new"))
    assert await store.get(bucket, "key") == b"new"


@asynchronous
async def test_compressed_content_is_not_unpacked(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    content = gzip.compress(b'{"Records":[]}', mtime=0)
    await store.put(NewObject(bucket, "log.json.gz", content, content_encoding="gzip"))
    assert await store.get(bucket, "log.json.gz") == content


@pytest.mark.parametrize(
    "key", ["a", "a/", "a//b", "ä/\U0001f600", "a b+c%20d", "a'(b)*!", "AWSLogs/1/x=y&z?.json.gz"]
)
@asynchronous
async def test_any_key_is_its_own_object(store: ObjectStore, bucket: str, key: str) -> None:
    await store.create_bucket(bucket)
    await store.put(NewObject(bucket, "other", b"other"))
    await store.put(NewObject(bucket, key, key.encode()))
    assert await store.get(bucket, key) == key.encode()
    assert await store.get(bucket, "other") == b"other"


@asynchronous
async def test_an_object_is_never_overwritten(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    await store.put(NewObject(bucket, "key", b"first"))
    for content in (b"second", b"first"):
        with pytest.raises(ObjectExists):
            await store.put(NewObject(bucket, "key", content))
    assert await store.get(bucket, "key") == b"first"


@pytest.fixture(
    params=[
        "memory",
        pytest.param("moto", marks=pytest.mark.live),
        pytest.param("seaweedfs", marks=[pytest.mark.live, pytest.mark.slow]),
    ]
)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[ObjectStore]]:
    """One store, as seen by ten servers."""
    if request.param == "memory":
        yield [MemoryObjects()] * SERVERS
    elif request.param == "moto":
        yield servers_of(request.getfixturevalue("moto_url"))
    else:
        child = start_seaweedfs(tmp_path)
        try:
            yield servers_of(child.url)
        finally:
            child.stop()


def servers_of(url: str) -> list[ObjectStore]:
    return [S3Objects(lambda: S3Access(url, ADMIN_KEY_ID, ADMIN_SECRET)) for _ in range(SERVERS)]


@asynchronous
async def test_one_of_a_hundred_concurrent_writers_succeeds(
    stores: list[ObjectStore], bucket: str
) -> None:
    async def write(number: int) -> bytes | None:
        content = str(number).encode()
        try:
            await stores[number % SERVERS].put(NewObject(bucket, "key", content))
        except ObjectExists:
            return None
        return content

    await stores[0].create_bucket(bucket)
    writes = await asyncio.gather(*(write(number) for number in range(100)))
    assert [content for content in writes if content is not None] == [
        await stores[0].get(bucket, "key")
    ]


@asynchronous
async def test_missing_object_is_distinguished_from_a_missing_bucket(
    store: ObjectStore, bucket: str
) -> None:
    with pytest.raises(ObjectMissing) as no_bucket:
        await store.get(bucket, "key")
    assert no_bucket.value.code == "NoSuchBucket"
    await store.create_bucket(bucket)
    with pytest.raises(ObjectMissing) as no_key:
        await store.get(bucket, "key")
    assert no_key.value.code == "NoSuchKey"


@asynchronous
async def test_writing_to_a_bucket_needs_its_creation(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectMissing) as missing:
        await store.put(NewObject(bucket, "key", b"x"))
    assert missing.value.code == "NoSuchBucket"
    await store.create_bucket(bucket)
    await store.put(NewObject(bucket, "key", b"x"))
    assert await store.get(bucket, "key") == b"x"


@asynchronous
async def test_checking_finds_a_missing_bucket(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectMissing) as missing:
        await store.check_bucket(bucket)
    assert missing.value.code == "NoSuchBucket"
    assert bucket in str(missing.value)
    await store.create_bucket(bucket)
    await store.check_bucket(bucket)


@asynchronous
async def test_every_failure_is_of_one_family(store: ObjectStore, bucket: str) -> None:
    for attempt in (store.get(bucket, "k"), store.put(NewObject(bucket, "k", b""))):
        with pytest.raises(ObjectStoreError):
            await attempt


@asynchronous
async def test_an_object_is_read_with_its_metadata(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    metadata = {"signature": "ab12", "signature-algorithm": "SHA256withRSA"}
    await store.put(NewObject(bucket, "key", b"content", metadata=metadata))
    found = await store.read(bucket, "key")
    assert (found.content, dict(found.metadata)) == (b"content", metadata)


@asynchronous
async def test_keys_are_listed_in_order(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    keys = ["a/1", "b/2026/x", "b/2026/y", "b/2027/z", "b/top", "c"]
    for key in reversed(keys):
        await store.put(NewObject(bucket, key, b"x"))
    assert await store.keys(bucket, "") == keys
    assert await store.keys(bucket, "b/", "b/2026/x") == ["b/2026/y", "b/2027/z", "b/top"]
    assert await store.keys(bucket, "b/", "b/2026/xx") == ["b/2026/y", "b/2027/z", "b/top"]
    assert await store.keys(bucket, "d") == []
    assert await store.folders(bucket, "b/") == ["2026", "2027"]
    assert await store.folders(bucket, "") == ["a", "b"]
    assert await store.folders(bucket, "d") == []


@pytest.mark.campaign
@asynchronous
async def test_a_listing_can_have_more_than_one_page(store: ObjectStore, bucket: str) -> None:
    await store.create_bucket(bucket)
    keys = [f"key-{number:04}" for number in range(1_003)]
    for key in keys:
        await store.put(NewObject(bucket, key, b"x"))
    assert await store.keys(bucket, "key-", keys[0]) == keys[1:]
