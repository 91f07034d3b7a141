"""Reads files: plain or gzip; one JSON object, a JSON list, or lines (NDJSON).

A file larger than memory is read in parts if it holds lines or is one object that lists records.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from opentrail.imports.gzipped import (
    NOT_GZIP,
    Large,
    is_gzip,
    parts_of,
    unpack,
    unpack_large,
)
from opentrail.imports.readers import (
    LISTS,
    LOG_FILE_START,
    list_reader,
    read_object,
    read_record,
)
from opentrail.imports.records import (
    DUPLICATE_MEMBER,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF8,
    InvalidText,
    Result,
    decode,
)
from opentrail.imports.splitting import Slice, members_of, split

RECORD_TOO_LARGE = "no end of a record in 64 MiB"
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_MORE = re.compile(rb"[^ \t\r\n]")
#: How AWS's own log files end.
_LOG_FILE_END = b"]}"
_LISTED = "|".join(re.escape(reader.member) for reader in LISTS.values()).encode()
_OPENING = re.compile(
    rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"(?:%b)"[ \t\r\n]*:[ \t\r\n]*\[' % _LISTED
)
_CLOSING = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\Z")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*(,)[ \t\r\n]*\{")
#: Bytes of a list that are read before it is split.
_WINDOW_BYTES = 4 << 20
#: Maximum bytes of a window, which doubles until it holds a complete element.
_MAX_WINDOW_BYTES = 64 << 20
#: The end of the last complete element is searched in this many bytes.
_NEAR_BYTES = 256 << 10
#: Maximum commas at which it is searched.
_MAX_COMMAS = 64
#: Maximum bytes from the end of the list to the end of the file.
_LAST = 8 << 10


def read_file(name: str, content: bytes, first_line: int = 1) -> Iterator[Result]:
    """Yields each record of a file or the reason for its rejection; no content raises an error.

    Args:
        name: the file's name; only the content decides on the format.
        content: the file's bytes, plain or gzip.
        first_line: the number of the first line, for a part of a large NDJSON file.
    """
    try:
        text = unpack(content) if is_gzip(content) else content
        if isinstance(text, Large):
            yield from _read_large(content, text, first_line)
        else:
            yield from _read_text(text.removeprefix(_BOM), first_line)
    except InvalidText as invalid:
        if name.endswith(".gz") and not is_gzip(content) and invalid.reason in (NOT_UTF8, NOT_JSON):
            invalid = InvalidText(NOT_GZIP, f"and {invalid.reason}")
        yield invalid.at(first_line)


def _read_large(content: bytes, large: Large, first_line: int) -> Iterator[Result]:
    """Yields the records of a large gzip file, in parts if the format allows it."""
    if _begins_as_lines(large.head.removeprefix(_BOM)):
        yield from _numbered_texts(lines_of(parts_of(content)), first_line)
    elif wraps_one_list(large):
        line = 0
        try:
            for line, element in enumerate(elements_of(parts_of(content)), 1):
                yield read_record(element, line)
        except InvalidText as invalid:
            yield invalid.at(line + 1)
    else:
        yield from _read_text(unpack_large(content).removeprefix(_BOM), first_line)


def _read_text(text: bytes, first_line: int) -> Iterator[Result]:
    if not text or text.isspace():
        return iter(())
    if first_line > 1 or _begins_as_lines(text):
        return _numbered_texts(io.BytesIO(text), first_line)
    try:
        return _document(text.strip(_SPACE))
    except InvalidText:
        if any(_is_whole_object(line) for line in io.BytesIO(text)):
            return _numbered_texts(io.BytesIO(text), first_line)
        raise


def _begins_as_lines(text: bytes) -> bool:
    end = text.find(b"\n")
    return end > 0 and bool(_MORE.search(text, end)) and _is_whole_object(text[:end])


def _is_whole_object(line: bytes) -> bool:
    stripped = line.strip(_SPACE)
    if not (stripped.startswith(b'{"') and stripped.endswith(b"}")):
        return False
    try:
        members_of(stripped)
    except InvalidText as invalid:
        return invalid.reason == DUPLICATE_MEMBER
    return True


def _numbered_texts(lines: Iterable[bytes], first_line: int) -> Iterator[Result]:
    for number, line in enumerate(lines, first_line):
        raw = line.strip(_SPACE)
        if raw:
            yield from read_object(raw, number)


def _document(text: bytes) -> Iterator[Result]:
    """Returns the records of a JSON text.

    Raises:
        InvalidText: it is not JSON, so that no record in it can be trusted.
    """
    if text.startswith(LOG_FILE_START) and text.endswith(_LOG_FILE_END):
        elements = memoryview(text)[len(LOG_FILE_START) - 1 : -1]
        with contextlib.suppress(InvalidText):  # the code below finds the reason
            return _numbered_records(split(elements))
    if text.startswith(b"["):
        return _numbered_texts(map(bytes, split(text)), 1)
    if not text.startswith(b"{"):
        decode(text)
        raise InvalidText(NOT_AN_OBJECT)
    members = members_of(text)
    reader = list_reader(members)
    return read_object(text, 1) if reader is None else _numbered_records(reader.elements(members))


def _numbered_records(elements: Sequence[Slice]) -> Iterator[Result]:
    for number, element in enumerate(elements, 1):
        yield read_record(bytes(element), number)


# Large files, read in parts


def lines_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yields the lines of a string that comes in parts.

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
    """Returns whether a file begins and ends like an object with a list and no other member."""
    return bool(_OPENING.match(large.head) and _CLOSING.search(large.tail))


def elements_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the elements of the only list of a JSON object that comes in parts.

    Raises:
        InvalidText: the text after the last yielded element is not JSON.
    """
    waiting: list[bytes] = []
    size, window, has_begun = 0, _WINDOW_BYTES, False
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size < window:
            continue
        text = b"".join(waiting) if has_begun else _after_opening(b"".join(waiting))
        has_begun = True
        elements, end = _split_complete(text)
        if not end and size >= _MAX_WINDOW_BYTES:
            raise InvalidText(RECORD_TOO_LARGE)
        for element in elements:
            yield bytes(element)
        waiting = [text[end:]]
        size = len(waiting[0])
        window = _WINDOW_BYTES if end else 2 * size
    text = b"".join(waiting) if has_begun else _after_opening(b"".join(waiting))
    closing = _CLOSING.search(text, max(0, len(text) - _LAST))
    if closing is None:
        raise InvalidText(NOT_JSON, "the list of records does not end")
    for element in split(b"[%b]" % text[: closing.start()]):
        yield bytes(element)


def _after_opening(text: bytes) -> bytes:
    opening = _OPENING.match(text)
    if opening is None:
        raise InvalidText(NOT_JSON, "the list of records does not begin")
    return text[opening.end() :]


def _split_complete(text: bytes) -> tuple[Sequence[Slice], int]:
    """Returns the complete elements and the start of the next one, 0 if it was not found.

    A comma between objects separates elements if the text before it and a `]` are a JSON list.
    """
    commas = [m.start(1) for m in _BETWEEN.finditer(text, max(0, len(text) - _NEAR_BYTES))]
    for comma in reversed(commas[-_MAX_COMMAS:]):
        with contextlib.suppress(InvalidText):
            return split(b"[%b]" % text[:comma]), comma + 1
    return (), 0
