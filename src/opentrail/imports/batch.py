"""The request body of an import: many files, written by `pack` and read by `unpack`.

Each file is a header line of JSON, `{"name": …, "size": …, "line": …}`, and then `size` bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from opentrail.adapters.data_directory.system import cpu_count
from opentrail.core.errors import CloudTrailError

#: Maximum files of a body.
MAX_FILES = 10_000
#: Maximum bytes of a file.
MAX_FILE_BYTES = 512 << 20
#: Maximum characters of a file's name.
MAX_NAME_LENGTH = 4096
EMPTY = "empty file"
#: Bodies that a server imports concurrently, each in its own worker, and that a command sends: one
#: for each CPU. Writing a body's records takes half as long as reading them, and only one body is
#: written at a time, so more than four workers would wait for each other.
WORKERS = min(4, max(2, cpu_count()))
#: Maximum bytes of a header line: the longest name with every character written as `\\uXXXX`.
_MAX_HEADER_BYTES = 8 * MAX_NAME_LENGTH


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file, or a piece of one; `line` is the number of its first line."""

    name: str
    content: bytes
    line: int = 1


def header_of(file: BatchFile) -> bytes:
    r"""Returns the header line of a file.

    >>> header_of(BatchFile("a.json", b"{}"))
    b'{"name":"a.json","size":2,"line":1}\n'
    """
    described = {"name": file.name, "size": len(file.content), "line": file.line}
    return json.dumps(described, separators=(",", ":")).encode() + b"\n"


def pack(files: Iterable[BatchFile]) -> bytes:
    return b"".join(part for file in files for part in (header_of(file), file.content))


def unpack(chunks: Iterable[bytes]) -> Iterator[BatchFile]:
    """Yields the files of a body, each as soon as its last chunk is there.

    Raises:
        CloudTrailError: the body is invalid or exceeds a limit.
    """
    unpacker = Unpacker()
    for chunk in chunks:
        yield from unpacker.feed(chunk)
    unpacker.close()


class Unpacker:
    """Reads a body chunk by chunk."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._next: tuple[str, int, int] | None = None
        self._files = 0

    def feed(self, chunk: bytes) -> Iterator[BatchFile]:
        """Yields the files that this chunk completes; the caller must iterate over all of them.

        Raises:
            CloudTrailError: the body is invalid or exceeds a limit.
        """
        self._waiting += chunk
        position = 0
        try:
            while True:
                if self._next is None:
                    position = self._header_at(position)
                if self._next is None:
                    return
                name, size, line = self._next
                if len(self._waiting) - position < size:
                    return
                with memoryview(self._waiting) as view:
                    content = bytes(view[position : position + size])
                position += size
                self._next = None
                yield BatchFile(name, content, line)
        finally:
            del self._waiting[:position]

    def close(self) -> None:
        """Checks that the body ends at the end of a file.

        Raises:
            CloudTrailError: the last file is incomplete.
        """
        if self._next is not None:
            name, size, _ = self._next
            raise _wrong(f"file {name!r} ends after {len(self._waiting)} of {size} bytes")
        if self._waiting:
            raise _wrong("the body ends within the description of a file")

    def _header_at(self, position: int) -> int:
        """Reads the header line of the next file if it is complete; returns its end."""
        end = self._waiting.find(b"\n", position, position + _MAX_HEADER_BYTES)
        if end < 0:
            if len(self._waiting) - position >= _MAX_HEADER_BYTES:
                raise _wrong(f"the description of file {self._files + 1} is too long")
            return position
        self._files += 1
        if self._files > MAX_FILES:
            raise _wrong(f"at most {MAX_FILES} files fit in a request")
        self._next = _described(bytes(self._waiting[position:end]), self._files)
        return end + 1


def _described(header: bytes, number: int) -> tuple[str, int, int]:
    try:
        described: Any = json.loads(header)
        name, size, line = described["name"], described["size"], described["line"]
        name.encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _wrong(f"file {number} is not described by name, size and line") from error
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise _wrong(f"file {number}: name must have 1 to {MAX_NAME_LENGTH} characters")
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise _wrong(f"file {number}: size must be 0 to {MAX_FILE_BYTES} bytes")
    if type(line) is not int or line < 1:
        raise _wrong(f"file {number}: line must be a number from 1 on")
    return name, size, line


def _wrong(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidParameterException", message)
