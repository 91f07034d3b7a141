"""Objects of trails: deterministic bytes, written exactly once (guarantees L1 and L7)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib

from isal import igzip

from opentrail.core.errors import ObjectExists, ObjectStoreError
from opentrail.ports.objects import NewObject, ObjectStore


def compress(content: bytes) -> bytes:
    """Returns `content` as gzip with no time stamp, so that equal bytes give equal objects.

    ISA-L packs log files ten times as fast as zlib does at its usual level, a seventh larger.
    """
    packed: bytes = igzip.compress(content, compresslevel=2, mtime=0)
    return packed


async def put_exactly(objects: ObjectStore, new: NewObject) -> None:
    """Writes an object once, and returns after reading it back (guarantees L1 and L7).

    Raises:
        ObjectStoreError: the store failed, or holds another content under this key.
    """
    # If the object exists, an earlier attempt wrote it, provided that the bytes are equal.
    with contextlib.suppress(ObjectExists):
        await objects.put(new)
    stored = await objects.get(new.bucket, new.key)
    if stored != new.content and not await asyncio.to_thread(
        _has_equal_content, stored, new.content
    ):
        raise ObjectStoreError(
            "ObjectMismatch",
            f"s3://{new.bucket}/{new.key} holds {len(stored)} bytes that are not what was written",
        )


def _has_equal_content(stored: bytes, written: bytes) -> bool:
    """Returns whether gzip files have equal contents: zlib versions compress differently."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = gzip.decompress(written)
        found = unpacking.decompress(stored, len(content) + 1)
    except (OSError, zlib.error):
        return False
    return found == content and unpacking.eof and not unpacking.unused_data
