"""Finds the files to import and reads them, large NDJSON files in parts."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from opentrail.adapters.aws.object_store import S3Reader
from opentrail.core.errors import ObjectStoreError, UsageError
from opentrail.imports.batch import EMPTY, MAX_FILE_BYTES, MAX_NAME_LENGTH, BatchFile

CANNOT_BE_READ = "cannot be read"
LINK = "symbolic link in a folder"
FOLDER_KEY = "empty folder key"
NO_FILE = "neither file nor folder"
STANDARD_INPUT = "-"
_S3 = "s3://"
#: Maximum seconds to wait for the writer of a named pipe.
PIPE_SECONDS = 10
#: Maximum bytes of the first read of a pipe.
_PIPE_READ_BYTES = 64 << 10
#: Milliseconds between checks for a writer of a pipe.
_PIPE_INTERVAL_MILLISECONDS = 100


class Stream(Protocol):
    """Bytes that are read once."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes, empty at the end."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A file to import; `size` is 0 if it is unknown."""

    name: str
    size: int
    open: Callable[[], Stream]
    is_far: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """An unsent file, or the rest of one: lost if it may have records, otherwise skipped."""

    name: str
    reason: str
    detail: str = ""
    line: int = 1
    is_lost: bool = True


def check(paths: Sequence[str]) -> None:
    """Checks that every path exists.

    Raises:
        UsageError: a path does not exist.
    """
    for path in paths:
        if path.startswith(_S3):
            if not _bucket_and_prefix(path)[0]:
                raise UsageError(f"{path} names no bucket: s3://BUCKET/PREFIX")
        elif path != STANDARD_INPUT and not os.path.lexists(path):
            raise UsageError(f"there is no file or folder {path}")


def find_files(
    paths: Sequence[str], s3: Callable[[], S3Reader] = S3Reader
) -> Iterator[Found | NotSent]:
    """Yields the files of the paths in their order, with the files of a folder sorted.

    Raises:
        ObjectStoreError: a bucket cannot be listed.
    """
    reader: S3Reader | None = None
    for path in paths:
        if path == STANDARD_INPUT:
            yield Found("standard input", 0, lambda: sys.stdin.buffer)
        elif path.startswith(_S3):
            reader = reader or s3()
            yield from _in_bucket(reader, *_bucket_and_prefix(path))
        elif Path(path).is_dir():
            yield from _in_folder(Path(path))
        else:
            yield _named_file(Path(path))


def _bucket_and_prefix(path: str) -> tuple[str, str]:
    bucket, _, prefix = path.removeprefix(_S3).partition("/")
    return bucket, prefix


def _in_bucket(reader: S3Reader, bucket: str, prefix: str) -> Iterator[Found | NotSent]:
    for entry in reader.keys(bucket, prefix):
        name = f"{_S3}{bucket}/{entry.key}"
        if entry.key.endswith("/") and not entry.size:
            yield NotSent(name, FOLDER_KEY, is_lost=False)
        else:
            yield Found(name, entry.size, _object(reader, bucket, entry.key), is_far=True)


def _object(reader: S3Reader, bucket: str, key: str) -> Callable[[], Stream]:
    return lambda: reader.open(bucket, key)


def _in_folder(folder: Path) -> Iterator[Found | NotSent]:
    """Yields the files under a folder; ignores symbolic links, which may lead outside."""
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            mode = path.lstat().st_mode
            if path is not folder and stat.S_ISLNK(mode):
                yield NotSent(_name(path), LINK, is_lost=False)
            elif path.is_dir():
                waiting += sorted(path.iterdir(), reverse=True)
            elif stat.S_ISREG(mode):
                yield _file(path)
            else:
                yield NotSent(_name(path), NO_FILE, is_lost=False)
        except OSError as error:
            yield NotSent(_name(path), CANNOT_BE_READ, _reason(error))


def _named_file(path: Path) -> Found | NotSent:
    """Returns the file or pipe of a path other than a folder."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode):
            return Found(_name(path), 0, lambda: _Pipe(path))
    except OSError as error:
        return NotSent(_name(path), CANNOT_BE_READ, _reason(error))
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        return NotSent(_name(path), NO_FILE)
    return _file(path)


class _Pipe:
    """A named pipe; reading starts once a process has opened it for writing."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._first = self._first_part()
        except OSError:
            os.close(self._descriptor)
            raise
        os.set_blocking(self._descriptor, True)

    def _first_part(self) -> bytes:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        end = time.monotonic() + PIPE_SECONDS
        while time.monotonic() < end:
            try:
                if part := os.read(self._descriptor, _PIPE_READ_BYTES):
                    return part
            except BlockingIOError:  # a writer has opened it but not written yet
                return b""
            waiting.poll(_PIPE_INTERVAL_MILLISECONDS)
        raise OSError(errno.EAGAIN, f"no process opened the pipe within {PIPE_SECONDS} seconds")

    def read(self, size: int, /) -> bytes:
        part, self._first = self._first[:size], self._first[size:]
        return part or os.read(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


def _file(path: Path) -> Found | NotSent:
    try:
        size = path.stat().st_size
    except OSError as error:
        return NotSent(_name(path), CANNOT_BE_READ, _reason(error))
    return Found(_name(path), size, lambda: path.open("rb"))


def _name(path: Path) -> str:
    """Returns a path as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")[-MAX_NAME_LENGTH:]


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


TOO_LARGE = "larger than 512 MiB"
#: Minimum bytes of a file to read in parts, and bytes of a part, which ends with a line.
PIECE = 16 << 20
#: Concurrent downloads.
_READERS = 8
#: Maximum files read ahead.
_MAX_WAITING = 64
#: Maximum bytes of files read ahead.
_MAX_WAITING_BYTES = 64 << 20
#: Number of first lines to test: a file has lines if one of them is a JSON object.
_TRIED_LINES = 20

Piece = BatchFile | NotSent


def read_all(sources: Iterable[Found | NotSent]) -> Generator[Piece]:
    """Yields the parts of all files in order; reads objects of a bucket ahead concurrently."""
    waiting: deque[tuple[int, Found | NotSent | Future[list[Piece]]]] = deque()
    size = 0
    pool = ThreadPoolExecutor(_READERS)
    try:
        for source in sources:
            if isinstance(source, Found) and source.is_far and source.size < PIECE:
                waiting.append((source.size, pool.submit(_all_pieces, source)))
                size += source.size
            else:
                waiting.append((0, source))
            while len(waiting) > _MAX_WAITING or size > _MAX_WAITING_BYTES:
                freed, first = waiting.popleft()
                size -= freed
                yield from _pieces_of(first)
        while waiting:
            yield from _pieces_of(waiting.popleft()[1])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pieces_of(source: Found | NotSent | Future[list[Piece]]) -> Iterator[Piece]:
    if isinstance(source, NotSent):
        yield source
    elif isinstance(source, Found):
        yield from pieces(source)
    else:
        yield from source.result()


def _all_pieces(source: Found) -> list[Piece]:
    return list(pieces(source))


def pieces(source: Found) -> Iterator[Piece]:
    """Yields a file, its parts, or the reason why it cannot be read."""
    line = 1
    try:
        with contextlib.closing(source.open()) as stream:
            head = _read(stream, PIECE)
            if not head:
                # Even an empty gzip file has a header, so this one lost its content.
                yield NotSent(source.name, EMPTY, is_lost=source.name.endswith(".gz"))
            elif len(head) < PIECE:
                yield BatchFile(source.name, head)
            elif _holds_lines(head):
                lines = _lines(source.name, head, stream)
                del head  # frees memory, since the first part has a copy
                for piece in lines:
                    yield piece
                    if isinstance(piece, BatchFile):
                        line = piece.line + piece.content.count(b"\n")
            elif source.size > MAX_FILE_BYTES:
                yield NotSent(source.name, TOO_LARGE)
            else:
                content = head + _read(stream, MAX_FILE_BYTES + 1 - PIECE)
                yield _unless_too_large(source.name, content, 1)
    except OSError as error:
        yield NotSent(source.name, CANNOT_BE_READ, _reason(error), line)
    except ObjectStoreError as error:
        yield NotSent(source.name, CANNOT_BE_READ, str(error), line)


def _lines(name: str, waiting: bytes, stream: Stream) -> Iterator[Piece]:
    line = 1
    while True:
        end = waiting.rfind(b"\n") + 1
        if end:
            content, waiting = waiting[:end], waiting[end:]
            yield _unless_too_large(name, content, line)
            line += content.count(b"\n")
            del content
        elif len(waiting) > MAX_FILE_BYTES:
            yield NotSent(name, TOO_LARGE, "from this line on", line)
            return
        more = _read(stream, PIECE)
        if not more:
            break
        waiting += more
    if waiting:
        yield _unless_too_large(name, waiting, line)


def _unless_too_large(name: str, content: bytes, line: int) -> Piece:
    if len(content) > MAX_FILE_BYTES:
        return NotSent(name, TOO_LARGE, "", line)
    return BatchFile(name, content, line)


def _read(stream: Stream, size: int) -> bytes:
    """Returns `size` bytes, fewer only at the end; one read of a pipe may return fewer."""
    parts: list[bytes] = []
    while size > 0:
        part = stream.read(min(size, PIECE))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _holds_lines(head: bytes) -> bool:
    position = 0
    for _ in range(_TRIED_LINES):
        end = head.find(b"\n", position)
        if end < 0:
            return False
        line = head[position:end].strip()
        if line.startswith(b'{"') and line.endswith(b"}"):
            with contextlib.suppress(orjson.JSONDecodeError):
                orjson.loads(line)
                return True
        position = end + 1
    return False
