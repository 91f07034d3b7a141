"""Reads rows out of a damaged segment without SQLite, page by page.

SQLite finds rows through the upper pages of a tree: one damaged page hides every row below it, and
a damaged first page hides the whole file. Rows are only ever added, so every intact leaf page, in
the database or in any frame of its write-ahead log, holds genuine rows. The caller uses the hash
chain to select among them.

Format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import errno
import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_LOG_HEADER, _FRAME_HEADER = 32, 24
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
#: The page size of every segment so far, for files with an unreadable header.
_PAGE_SIZE = 4096
_TABLE_LEAF = 0x0D
#: Bytes of integers, by serial type.
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

Row = tuple[Any, ...]
#: Every version of each page, newest first.
Pages = dict[int, list[bytes]]


def rows_in(path: Path, columns: int) -> Iterator[Row]:
    """Yields each row of a table with an INTEGER PRIMARY KEY on intact leaf pages.

    Args:
        path: the database; its write-ahead log is read as well.
        columns: number of columns of the table; tables with other numbers are ignored. The first
            column is the primary key.

    Yields:
        The values of a row. Rows may repeat, may come in any order, and may hold anything if their
        page is damaged.

    Raises:
        OSError: a file exists and cannot be opened or read, except single blocks.
    """
    pages = _pages(path)
    for versions in pages.values():
        for page in versions:
            yield from _rows_of_page(page, pages, columns)


def has_hidden_commits(path: Path) -> bool:
    """Returns whether a write-ahead log holds acknowledged commits that SQLite would ignore.

    SQLite ends its recovery at the first frame with a wrong checksum. That is right for the frames
    of the last commit if the power failed while they were written: blocks reach the disk in any
    order, so its last frame may exist while earlier frames were never written. Earlier commits were
    synced before the next was written. A wrong frame in them, or in the last completely written
    commit, was damaged later.
    """
    log = _read(Path(f"{path}-wal"))
    order = ">" if log[3:4] == b"\x83" else "<"
    sums = _checksums(log[:24], (0, 0), order)
    is_valid = log[24:32] == struct.pack(">2I", *sums)
    hidden, has_hole, expected = 0, False, _LOG_HEADER
    for frame in _frames(log):
        if is_valid:
            sums = _checksums(frame.head[:8] + frame.page, sums, order)
            is_valid = frame.head[16:24] == struct.pack(">2I", *sums)
        has_hole = has_hole or frame.start != expected
        expected = frame.end
        if frame.is_commit and not is_valid:
            hidden += 1
    return hidden > 1 or (hidden == 1 and not has_hole)


def _checksums(content: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 8 * 2}I", content[: len(content) // 8 * 8])
    for word, next_word in zip(words[::2], words[1::2], strict=True):
        first = first + word + second & 0xFFFFFFFF
        second = second + next_word + first & 0xFFFFFFFF
    return first, second


def _pages(path: Path) -> Pages:
    content = _read(path)
    size = _page_size(content)
    pages: Pages = defaultdict(list)
    for frame in reversed(list(_frames(_read(Path(f"{path}-wal"))))):
        pages[frame.number].append(frame.page)
    for start in range(0, len(content) - size + 1, size):
        pages[start // size + 1].append(content[start : start + size])
    return pages


def _read(path: Path) -> bytes:
    """Returns a file's content; blocks that the disk cannot read are zeros."""
    if not path.exists():
        return b""
    content = bytearray(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        for start in range(0, len(content), _PAGE_SIZE):
            try:
                block = os.pread(file.fileno(), _PAGE_SIZE, start)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                continue
            content[start : start + len(block)] = block
    return bytes(content)


def _page_size(content: bytes) -> int:
    stated = int.from_bytes(content[16:18], "big")
    size = 65536 if stated == 1 else stated
    return size if size in _PAGE_SIZES else _PAGE_SIZE


class _Frame(NamedTuple):
    start: int
    head: bytes
    page: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.head) + len(self.page)

    @property
    def number(self) -> int:
        return int.from_bytes(self.head[:4], "big")

    @property
    def is_commit(self) -> bool:
        return self.head[4:8] != b"\0\0\0\0"


def _frames(log: bytes) -> Iterator[_Frame]:
    """Yields the frames of a log's newest generation; of all if its header is damaged."""
    size, salt = int.from_bytes(log[8:12], "big"), log[16:24]
    if size not in _PAGE_SIZES:  # the header is damaged
        size, salt = _PAGE_SIZE, b""
    frame_size = _FRAME_HEADER + size
    for start in range(_LOG_HEADER, len(log) - frame_size + 1, frame_size):
        head = log[start : start + _FRAME_HEADER]
        # A header of zeros was never written.
        if head[8:16] == salt or (not salt and any(head)):
            yield _Frame(start, head, log[start + _FRAME_HEADER : start + frame_size])


def _rows_of_page(page: bytes, pages: Pages, columns: int) -> Iterator[Row]:
    if not page or page[0] != _TABLE_LEAF:
        return
    cells = int.from_bytes(page[3:5], "big")
    for number in range(cells):
        at = int.from_bytes(page[8 + 2 * number : 10 + 2 * number], "big")
        try:
            row = _row(page, at, pages, columns)
        except (IndexError, ValueError):  # the cell is damaged
            continue
        if row is not None:
            yield row


def _row(page: bytes, at: int, pages: Pages, columns: int) -> Row | None:
    size, at = _varint(page, at)
    key, at = _varint(page, at)
    usable = len(page)
    local = _local_size(size, usable)
    payload = page[at : at + local]
    if local < size:
        payload += _overflow(pages, page[at + local : at + local + 4], size - local)
    if len(payload) != size:
        raise ValueError("the cell is longer than its page")
    values = _values(payload)
    if len(values) != columns or values[0] is not None:
        return None
    return (key, *values[1:])


def _local_size(size: int, usable: int) -> int:
    """Returns the number of payload bytes on the leaf page."""
    max_local, min_local = usable - 35, (usable - 12) * 32 // 255 - 23
    if size <= max_local:
        return size
    local = min_local + (size - min_local) % (usable - 4)
    return local if local <= max_local else min_local


def _overflow(pages: Pages, pointer: bytes, size: int) -> bytes:
    content: list[bytes] = []
    while size > 0:
        number = int.from_bytes(pointer, "big")
        # An overflow page is written once: a version with zeros is damaged.
        page = next((version for version in pages.get(number, ()) if any(version)), b"")
        if len(page) < 5:
            raise ValueError("an overflow page is missing")
        part = page[4 : 4 + size]
        content.append(part)
        size -= len(part)
        pointer = page[:4]
    return b"".join(content)


def _values(payload: bytes) -> list[Any]:
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise ValueError("the row does not fill its cell")
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], at
    if kind in _INTEGERS:
        end = at + _INTEGERS[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind < 12:
        raise ValueError("a kind of value that no row has")
    end = at + (kind - 12) // 2
    content = payload[at:end]
    return (content.decode() if kind % 2 else content), end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = content[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | content[at], at + 1
