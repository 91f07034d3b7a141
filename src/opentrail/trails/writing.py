"""Objects of trails: deterministic bytes, written exactly once (guarantees L1 and L7)."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from isal import igzip

from opentrail.core.errors import ObjectExists, ObjectStoreError, ObjectTaken
from opentrail.ports.objects import NewObject, ObjectStore

#: Maximum bytes of a log file that is read.
MAX_LOG_BYTES = 512 * 1024 * 1024


def compress(content: bytes) -> bytes:
    """Returns `content` as gzip with no time stamp, so that equal bytes give equal objects.

    ISA-L packs log files ten times as fast as zlib does at its usual level, a seventh larger.
    """
    packed: bytes = igzip.compress(content, compresslevel=2, mtime=0)
    return packed


class ExactWriter:
    """Writes objects once, reads them back, and remembers objects that the store has changed."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._changed: set[tuple[str, str]] = set()

    async def put(self, new: NewObject) -> None:
        """Writes an object once, and returns after reading it back (guarantees L1 and L7).

        Raises:
            ObjectTaken: an object that this process did not write was there before; it stays.
            ObjectStoreError: the store failed, or has changed the content.
        """
        place, is_there = (new.bucket, new.key), False
        try:
            await self._objects.put(new)
        except ObjectExists:  # an earlier attempt wrote it, provided that the bytes are equal
            is_there = True
        content = await self._objects.get(new.bucket, new.key)
        if content != new.content and not await asyncio.to_thread(
            _has_equal_content, content, new.content
        ):
            is_others = is_there and place not in self._changed
            if not is_others:
                self._changed.add(place)
            raise (ObjectTaken if is_others else ObjectStoreError)(
                "ObjectMismatch",
                f"s3://{new.bucket}/{new.key} holds {len(content)} bytes "
                "that are not what was written",
            )
        self._changed.discard(place)


async def read_log(objects: ObjectStore, bucket: str, key: str) -> bytes:
    """Returns the content of a log file.

    Raises:
        ObjectStoreError: it is missing, or the store failed.
        ValueError: it is damaged or too large.
    """
    packed = await objects.get(bucket, key)
    return await asyncio.to_thread(decompress, packed, MAX_LOG_BYTES)


def decompress(packed: bytes, limit: int) -> bytes:
    """Returns the content of a gzip file.

    Raises:
        ValueError: it is damaged, or has more than `limit` bytes.
    """
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = unpacking.decompress(packed, limit + 1)
    except zlib.error as error:
        raise ValueError(f"damaged ({error})") from error
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("cut off, or followed by other bytes")
    return content


def _has_equal_content(packed: bytes, expected: bytes) -> bool:
    """Returns whether gzip files have equal contents: zlib versions compress differently."""
    try:
        content = gzip.decompress(expected)
        return decompress(packed, len(content)) == content
    except (OSError, ValueError):
        return False
