"""Objects of trails: the same bytes each time, and written exactly once."""

from __future__ import annotations

import gzip

import pytest

from opentrail.core.errors import ObjectStoreError, ObjectTaken
from opentrail.core.logfile import log_bytes
from opentrail.ports.objects import NewObject
from opentrail.trails.writing import ExactWriter, compress, decompress
from tests.factories import a_record, record_bytes
from tests.fakes import Fault, MemoryObjects, asynchronous
from tests.trails.world import BUCKET


async def put(objects: MemoryObjects, content: bytes = b"content") -> None:
    await ExactWriter(objects).put(NewObject(BUCKET, "key", content))


@asynchronous
async def test_an_existing_object_with_the_same_bytes_passes() -> None:
    objects = MemoryObjects(BUCKET)
    await put(objects)
    await put(objects)
    assert objects.disk.stored == [(BUCKET, "key")]


@asynchronous
async def test_existing_object_with_other_bytes_is_an_alarm() -> None:
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
async def test_corrupt_bytes_are_detected() -> None:
    objects = MemoryObjects(BUCKET)
    objects.faults.append(Fault.WRONG_BYTES)
    with pytest.raises(ObjectStoreError, match="not what was written"):
        await put(objects)


@asynchronous
async def test_an_object_packed_by_another_library_passes() -> None:
    objects = MemoryObjects(BUCKET)
    earlier = gzip.compress(b"content" * 100, mtime=0)
    assert earlier != compress(b"content" * 100)
    await put(objects, earlier)
    await put(objects, compress(b"content" * 100))
    assert await objects.get(BUCKET, "key") == earlier


def test_equal_content_gives_equal_objects_at_any_time() -> None:
    content = log_bytes([record_bytes(a_record())])
    packed = compress(content)
    assert packed == compress(content)
    assert packed[4:8] == bytes(4), "the time stamp of gzip is zero"
    assert gzip.decompress(packed) == content


@asynchronous
async def test_objects_of_other_processes_differ_from_changed_ones() -> None:
    objects = MemoryObjects(BUCKET)
    await put(objects, b"other")
    writer = ExactWriter(objects)
    with pytest.raises(ObjectTaken):
        await writer.put(NewObject(BUCKET, "key", b"content"))
    objects.faults.append(Fault.WRONG_BYTES)
    for _ in range(3):
        with pytest.raises(ObjectStoreError) as error:
            await writer.put(NewObject(BUCKET, "own", b"content"))
        assert type(error.value) is ObjectStoreError


def test_file_is_unpacked_whole_or_not_at_all() -> None:
    packed = compress(b"content")
    assert decompress(packed, 7) == b"content"
    for bad in (packed[:-1], packed + b"x", b"junk", b""):
        with pytest.raises(ValueError, match=r"damaged|cut off"):
            decompress(bad, 100)
    with pytest.raises(ValueError, match="more than 6 bytes"):
        decompress(packed, 6)
