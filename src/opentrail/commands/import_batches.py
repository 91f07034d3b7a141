"""Reads what was found: whole, or large files of lines in pieces."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import orjson

from opentrail.commands.import_sources import CANNOT_BE_READ, EMPTY, Found, NotSent, Stream
from opentrail.core.errors import ObjectStoreError
from opentrail.imports.batch import LARGEST_FILE, BatchFile

TOO_LARGE = "larger than 512 MiB"
#: Bytes of a piece, cut at the last end of a line.
PIECE = 16 << 20
#: Files of a store that are got at the same time, and how many wait for their turn.
_READERS, _MOST_WAITING, _MOST_WAITING_BYTES = 8, 64, 64 << 20
#: A file holds lines if one of its first ones is a whole JSON object.
_TRIED_LINES = 20

Piece = BatchFile | NotSent


def read_all(found: Iterable[Found | NotSent]) -> Generator[Piece]:
    """Yields the pieces of all files in order; those of a store are got ahead, several at once."""
    waiting: deque[tuple[int, Found | NotSent | Future[list[Piece]]]] = deque()
    size = 0
    pool = ThreadPoolExecutor(_READERS)
    try:
        for one in found:
            if isinstance(one, Found) and one.is_far and one.size < PIECE:
                waiting.append((one.size, pool.submit(_all_pieces, one)))
                size += one.size
            else:
                waiting.append((0, one))
            while len(waiting) > _MOST_WAITING or size > _MOST_WAITING_BYTES:
                freed, first = waiting.popleft()
                size -= freed
                yield from _pieces_of(first)
        while waiting:
            yield from _pieces_of(waiting.popleft()[1])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pieces_of(one: Found | NotSent | Future[list[Piece]]) -> Iterator[Piece]:
    if isinstance(one, NotSent):
        yield one
    elif isinstance(one, Found):
        yield from pieces(one)
    else:
        yield from one.result()


def _all_pieces(found: Found) -> list[Piece]:
    return list(pieces(found))


def pieces(found: Found) -> Iterator[Piece]:
    """Yields a file, or its pieces, or why there is none; never raises for what cannot be read."""
    line = 1
    try:
        with contextlib.closing(found.open()) as stream:
            head = _read(stream, PIECE)
            if not head:
                # A packed file of nothing would still have a header.
                yield NotSent(found.name, EMPTY, is_lost=found.name.endswith(".gz"))
            elif len(head) < PIECE:
                yield BatchFile(found.name, head)
            elif _holds_lines(head):
                lines = _lines(found.name, head, stream)
                del head  # it is a part of the first piece; nobody else needs it
                for piece in lines:
                    yield piece
                    if isinstance(piece, BatchFile):
                        line = piece.line + piece.content.count(b"\n")
            elif found.size > LARGEST_FILE:
                yield NotSent(found.name, TOO_LARGE)
            else:
                whole = head + _read(stream, LARGEST_FILE + 1 - PIECE)
                yield _unless_too_large(found.name, whole, 1)
    except OSError as error:
        said = error.strerror or type(error).__name__
        yield NotSent(found.name, CANNOT_BE_READ, said, line)
    except ObjectStoreError as error:
        yield NotSent(found.name, CANNOT_BE_READ, str(error), line)


def _lines(name: str, waiting: bytes, stream: Stream) -> Iterator[Piece]:
    line = 1
    while True:
        end = waiting.rfind(b"\n") + 1
        if end:
            content, waiting = waiting[:end], waiting[end:]
            yield _unless_too_large(name, content, line)
            line += content.count(b"\n")
            del content
        elif len(waiting) > LARGEST_FILE:
            yield NotSent(name, TOO_LARGE, "from this line on", line)
            return
        more = _read(stream, PIECE)
        if not more:
            break
        waiting += more
    if waiting:
        yield _unless_too_large(name, waiting, line)


def _unless_too_large(name: str, content: bytes, line: int) -> Piece:
    if len(content) > LARGEST_FILE:
        return NotSent(name, TOO_LARGE, "", line)
    return BatchFile(name, content, line)


def _read(stream: Stream, size: int) -> bytes:
    """Reads until so many bytes are there or the stream ends; pipes give less at a time."""
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
