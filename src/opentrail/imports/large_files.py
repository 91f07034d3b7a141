"""Large packed files, of which only a part is in memory at a time."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from opentrail.imports.gzipped import Large
from opentrail.imports.records import NOT_JSON, Unfit
from opentrail.imports.splitting import Slice, split

TOO_LARGE_A_RECORD = "no end of a record in 64 MiB"
_BOM = b"\xef\xbb\xbf"
_OPENING = re.compile(
    rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"
    rb'"(?:Records|Events)"[ \t\r\n]*:[ \t\r\n]*\['
)
_CLOSING = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\Z")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*(,)[ \t\r\n]*\{")
#: How much is read before it is cut, at most how much, and how near to its end a cut is looked for.
_WINDOW, _LARGEST_WINDOW, _NEAR, _TRIES = 4 << 20, 64 << 20, 256 << 10, 64
_LAST = 8 << 10


def lines_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yields the lines of a text that comes in parts.

    >>> list(lines_of([b"a\nb", b"c", b"\n", b"d"]))
    [b'a\n', b'bc\n', b'd']
    """
    waiting: list[bytes] = []
    for number, part in enumerate(parts):
        text = part if number else part.removeprefix(_BOM)
        end = text.rfind(b"\n") + 1
        if not end:
            waiting.append(text)
            continue
        yield from io.BytesIO(b"".join([*waiting, text[:end]]))
        waiting = [text[end:]]
    yield b"".join(waiting)


def wraps_one_list(large: Large) -> bool:
    """Tells whether a file begins and ends as a log file does, with a list and nothing else."""
    return bool(_OPENING.match(large.head) and _CLOSING.search(large.tail))


def elements_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the elements of the list in a log file that comes in parts.

    Raises:
        Unfit: what follows the last element that was given is no JSON.
    """
    waiting: list[bytes] = []
    size, wanted, has_begun = 0, _WINDOW, False
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size < wanted:
            continue
        text = b"".join(waiting) if has_begun else _after_opening(b"".join(waiting))
        has_begun = True
        elements, end = _cut(text)
        if not end and size >= _LARGEST_WINDOW:
            raise Unfit(TOO_LARGE_A_RECORD)
        for element in elements:
            yield bytes(element)
        waiting = [text[end:]]
        size = len(waiting[0])
        wanted = _WINDOW if end else 2 * size
    text = b"".join(waiting) if has_begun else _after_opening(b"".join(waiting))
    closing = _CLOSING.search(text, max(0, len(text) - _LAST))
    if closing is None:
        raise Unfit(NOT_JSON, "the list of records does not end")
    for element in split(b"[%b]" % text[: closing.start()]):
        yield bytes(element)


def _after_opening(text: bytes) -> bytes:
    opening = _OPENING.match(text)
    if opening is None:
        raise Unfit(NOT_JSON, "the list of records does not begin")
    return text[opening.end() :]


def _cut(text: bytes) -> tuple[Sequence[Slice], int]:
    """Returns the elements that are whole, and where the next one begins; 0 if none is found.

    A comma between objects is one of the list itself if all before it is a list when closed there.
    """
    commas = [m.start(1) for m in _BETWEEN.finditer(text, max(0, len(text) - _NEAR))]
    for comma in reversed(commas[-_TRIES:]):
        with contextlib.suppress(Unfit):
            return split(b"[%b]" % text[:comma]), comma + 1
    return (), 0
