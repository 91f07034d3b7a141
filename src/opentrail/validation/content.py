"""Decompresses within limits and hashes the result (guarantee N5)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

_READ_BYTES = 256 * 1024
#: Maximum bytes that one call of the decompressor returns.
_PIECE = 1024 * 1024
#: Maximum decompressed bytes, as for imports.
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
#: Maximum ratio of decompressed bytes to bytes read.
_MAX_RATIO = 200
#: Decompressed bytes at the start that are exempt from it.
_EXEMPT_BYTES = 1024 * 1024
#: Maximum bytes of a log file that is parsed; CloudTrail's have at most 50 MB
#: (cloudtrail-format §5.2).
MAX_LOG_BYTES = 128 * 1024 * 1024


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; b"" at the end."""
        ...


class BadContent(Exception):  # noqa: N818 - a finding, not an error of this program
    """The content is invalid; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """The hash of an object's decompressed content, and its size before and after."""

    sha256: str
    unpacked: int
    packed: int


def hash_unpacked(
    source: Readable, limit: int = MAX_UNPACKED_BYTES, keep: Callable[[bytes], object] | None = None
) -> Hashed:
    """Returns the hash of a gzip file's content; `keep` is called with each compressed piece.

    Raises:
        BadContent: the file is not valid gzip, has trailing data, or is too large.
    """
    hashed, packed, unpacked = hashlib.sha256(), _Counted(source, keep), 0
    for piece in _pieces(packed, limit):
        hashed.update(piece)
        unpacked += len(piece)
    return Hashed(hashed.hexdigest(), unpacked, packed.count)


def unpack(source: Readable, limit: int) -> bytes:
    """Returns the content of a gzip file.

    Raises:
        BadContent: as `hash_unpacked`.
    """
    return b"".join(_pieces(_Counted(source, None), limit))


def records_in(content: bytes) -> list[dict[str, Any]]:
    """Returns the records of a log file's content; none if it is not JSON of that form."""
    try:
        records = orjson.loads(content)["Records"]
        return [record for record in records if isinstance(record, dict)]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []


class _Counted:
    def __init__(self, source: Readable, keep: Callable[[bytes], object] | None) -> None:
        self._source = source
        self._keep = keep
        self.count = 0

    def read(self, size: int) -> bytes:
        content = self._source.read(size)
        self.count += len(content)
        if self._keep is not None and content:
            self._keep(content)
        return content


def _pieces(source: _Counted, limit: int) -> Iterator[bytes]:
    """Yields the content of all members of a gzip file, as `gzip -d` does."""
    inflate, size, has_begun = _inflater(), 0, False
    waiting = source.read(_READ_BYTES)
    if not waiting:
        raise BadContent("empty")
    while waiting:
        try:
            piece = inflate.decompress(waiting, _PIECE)
        except zlib.error:
            reason = "damaged gzip file" if has_begun else "not a gzip file"
            raise BadContent(reason) from None
        has_begun = True
        size += len(piece)
        _check_size(size, source.count, limit)
        if piece:
            yield piece
        waiting = inflate.unconsumed_tail
        if inflate.eof:
            waiting = inflate.unused_data or source.read(_READ_BYTES)
            if not waiting:
                return
            if not b"\x1f\x8b".startswith(waiting[:2]):
                raise BadContent("data after the end of the gzip file")
            inflate = _inflater()
        elif not waiting:
            waiting = source.read(_READ_BYTES)
    raise BadContent("truncated gzip file")


def _inflater() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _check_size(unpacked: int, packed: int, limit: int) -> None:
    if unpacked > limit:
        raise BadContent(f"unpacks to more than {limit // 1024 // 1024} MiB")
    if unpacked > _EXEMPT_BYTES and unpacked > _MAX_RATIO * packed:
        raise BadContent(f"unpacks to more than {_MAX_RATIO} times its size")
