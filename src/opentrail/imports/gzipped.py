"""Unpacks gzip files, of any number of members, within bounds (guarantee N5)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from opentrail.imports.records import Unfit

NOT_GZIP = "not a gzip file"
DAMAGED_GZIP = "damaged gzip file"
TOO_LARGE = "larger than 512 MiB unpacked"
TOO_DENSE = "unpacks to more than 200 times its size"
MOST_UNPACKED = 512 << 20
#: What is larger unpacked is not kept while its checksums are looked at.
KEPT = 64 << 20
_TAIL = 4 << 10
_MAGIC = b"\x1f\x8b"
_RATIO, _FREE = 200, 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
#: A member is read in growing steps, so that many small ones cost no more than few large ones.
_FIRST_STEP, _LARGEST_STEP = 4 << 10, 64 << 10
_ROOM = 1 << 20


def is_gzip(content: bytes) -> bool:
    r"""Tells whether content begins as gzip files do, whatever its name.

    >>> is_gzip(b"\x1f\x8b\x08")
    True
    """
    return content.startswith(_MAGIC)


@dataclass(frozen=True, slots=True)
class Large:
    """A file that is right but too large to be kept: how it begins and ends."""

    head: bytes
    tail: bytes


def unpack(content: bytes) -> bytes | Large:
    """Returns what a gzip file holds, once the checksums of all its members are found right.

    Raises:
        Unfit: it is damaged, or too large.
    """
    kept, size = io.BytesIO(), 0
    head = tail = b""
    for part in parts_of(content):
        head = head or part
        tail = part if len(part) >= _TAIL else tail[-_TAIL:] + part
        size += len(part)
        if size <= KEPT:
            kept.write(part)
        elif kept.tell():
            kept = io.BytesIO()
    return kept.getvalue() if size <= KEPT else Large(head, tail)


def unpack_large(content: bytes) -> bytes:
    """Returns all that a large gzip file holds, without having it in memory twice."""
    whole = io.BytesIO()
    for part in parts_of(content):
        whole.write(part)
    return whole.getvalue()


def parts_of(content: bytes) -> Iterator[bytes]:
    """Yields what a gzip file holds in parts; only after the last one are its checksums known.

    Raises:
        Unfit: it is damaged, or too large.
    """
    bound = min(MOST_UNPACKED, max(_FREE, _RATIO * len(content)))
    view = memoryview(content)
    size = position = 0
    while position < len(content):
        if not content.startswith(_MAGIC, position):
            if content.count(0, position) == len(content) - position:
                break  # padding with zeros, as tape archives have it
            raise Unfit(DAMAGED_GZIP, f"something else from byte {position} on")
        member = _Member(view, position)
        for part in member.parts():
            size += len(part)
            if size > bound:
                raise Unfit(TOO_LARGE if bound == MOST_UNPACKED else TOO_DENSE)
            yield part
        position = member.position


class _Member:
    """One member of a gzip file; when all its parts are read, `position` is where it ends."""

    def __init__(self, view: memoryview, position: int) -> None:
        self._view = view
        self.position = position

    def parts(self) -> Iterator[bytes]:
        inflate = zlib.decompressobj(_GZIP)
        step = _FIRST_STEP
        waiting: bytes | memoryview = b""
        while not inflate.eof:
            if not waiting:
                if self.position == len(self._view):
                    raise Unfit(DAMAGED_GZIP, f"it ends early, at byte {self.position}")
                waiting = self._view[self.position : self.position + step]
                self.position += len(waiting)
                step = min(_LARGEST_STEP, step * 4)
            try:
                part = inflate.decompress(waiting, _ROOM)
            except zlib.error as error:
                raise Unfit(DAMAGED_GZIP, f"{error}, before byte {self.position}") from error
            waiting = inflate.unconsumed_tail
            if part:
                yield part
        self.position -= len(inflate.unused_data)
