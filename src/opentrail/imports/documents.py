"""Reads files: plain or gzip; JSON objects and lists, one or many, in lines (NDJSON) or joined.

A mistake costs the document that has it. A file larger than memory is read in parts if it holds
lines or is one object that lists records.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from opentrail.imports.formats import (
    LISTS,
    LOG_FILE_START,
    list_reader,
    read_document,
    read_element,
    read_object,
    rows_of,
)
from opentrail.imports.json_records import (
    DUPLICATE_MEMBER,
    LONE_SURROGATE,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF8,
    NUMBER_TOO_LARGE,
    TOO_DEEP,
    AcceptedRecord,
    InvalidText,
    RejectedRecord,
    Result,
    Slice,
    decode,
    members_of,
    placed,
    split,
)
from opentrail.imports.unpacking import (
    NOT_GZIP,
    TOO_MANY_PACKINGS,
    Large,
    is_gzip,
    parts_of,
    to_utf8,
    unpack,
    unpack_large,
)

CSV = "CSV, which has no whole records"
_CSV_HINT = "download it as JSON, or use 'aws cloudtrail lookup-events --output json'"
RECORD_TOO_LARGE = "no end of a record in 64 MiB"
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
#: Reasons to refuse text that may be a part of a document, or several documents.
_UNREADABLE = (NOT_JSON, NOT_UTF8, LONE_SURROGATE, TOO_DEEP, NUMBER_TOO_LARGE)
#: Maximum times that a file is packed.
_MAX_PACKINGS = 3
#: The first line of the CSV file of the CloudTrail console, of Athena or Lake.
_CSV_HEADER = re.compile(rb"\A[^{}\[\]:\n]*\bevent[ _]?(?:name|time|id)\b[^{}\[\]:\n]*,", re.I)
#: The prefix of an event in CloudWatch Logs' exports of log groups, and in `aws logs tail`.
_LOG_PREFIX = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)? +(?:\S+ +)?(?=\{)")
_MORE = re.compile(rb"[^ \t\r\n]")
#: The end of AWS's own log files.
_LOG_FILE_END = b"]}"
_LISTED = "|".join(re.escape(reader.member) for reader in LISTS.values()).encode()
_OPENING = re.compile(
    rb'(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*"(?:%b)"[ \t\r\n]*:[ \t\r\n]*\[' % _LISTED
)
_CLOSING = re.compile(rb"\][ \t\r\n]*\}[ \t\r\n]*\Z")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*(,)[ \t\r\n]*\{")
#: Separators of documents: space, byte order marks of joined files, the commas of a list
#: without brackets, the separator of RFC 7464.
_SEPARATOR = re.compile("[ \t\r\n,\ufeff\x1e]*")
#: The text before a document that follows an unreadable document.
_NEXT_DOCUMENT = re.compile(r"(?:\n|[}\]]\s*)(?=[{\[])")
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)
#: Maximum bytes of lines that are read together.
_MAX_BROKEN_BYTES = 64 << 20
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
        text: bytes | Large = content
        packings = 0
        while isinstance(text, bytes) and is_gzip(text):
            packings += 1
            if packings > _MAX_PACKINGS:
                raise InvalidText(TOO_MANY_PACKINGS)
            packed = text
            text = unpack(packed, len(content))
            if isinstance(text, Large) and is_gzip(text.head):
                text = unpack_large(packed)
        if isinstance(text, Large):
            yield from _read_large(packed, text, first_line)
        else:
            yield from _read_text(to_utf8(text), first_line)
    except InvalidText as invalid:
        if name.endswith(".gz") and not is_gzip(content) and invalid.reason in (NOT_UTF8, NOT_JSON):
            invalid = InvalidText(NOT_GZIP, f"and {invalid.reason}")
        yield invalid.at(first_line)


def _read_large(content: bytes, large: Large, first_line: int) -> Iterator[Result]:
    """Yields the records of a large gzip file, in parts if the format allows it."""
    if _begins_as_lines(large.head.removeprefix(_BOM)):
        yield from _numbered_lines(lines_of(parts_of(content)), first_line)
    elif wraps_one_list(large):
        line = 0
        try:
            for line, element in enumerate(elements_of(parts_of(content)), 1):
                yield from read_element(element, line)
        except InvalidText as invalid:
            yield invalid.at(line + 1)
    else:
        yield from _read_text(to_utf8(unpack_large(content)), first_line)


def _read_text(text: bytes, first_line: int) -> Iterator[Result]:
    if not text or text.isspace():
        return iter(())
    if first_line > 1 or _begins_as_lines(text):
        return _numbered_lines(io.BytesIO(text), first_line)
    if _CSV_HEADER.match(text):
        raise InvalidText(CSV, _CSV_HINT)
    try:
        return _document(text.strip(_SPACE))
    except InvalidText as invalid:
        return _unless_all_rejected(_numbered_lines(io.BytesIO(text), first_line), invalid)


def _unless_all_rejected(results: Iterator[Result], invalid: InvalidText) -> Iterator[Result]:
    """Yields the results if any is a document.

    Raises:
        InvalidText: none is.
    """
    rejected: list[Result] = []
    for result in results:
        rejected.append(result)
        if isinstance(result, AcceptedRecord) or result.reason not in _UNREADABLE:
            yield from rejected
            yield from results
            return
    raise invalid


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


def _numbered_lines(lines: Iterable[bytes], first_line: int) -> Iterator[Result]:
    """Yields the records of lines; lines that are no document are read together, as one text."""
    broken: list[bytes] = []
    size, start = 0, first_line
    for number, line in enumerate(lines, first_line):
        prefix = _LOG_PREFIX.match(line) if line[:1].isdigit() else None
        text = line[prefix.end() :] if prefix else line
        raw = text.strip(_SPACE)
        read = read_document if raw.startswith(b"[") else read_object
        results = read(raw, number) if raw else iter(())
        first = next(results, None)
        is_broken = isinstance(first, RejectedRecord) and first.reason in _UNREADABLE
        if is_broken or (broken and not raw):
            start = start if broken else number
            broken.append(text)
            size += len(text)
            if size < _MAX_BROKEN_BYTES:
                continue
        if broken:
            yield from _joined(b"".join(broken), start)
            broken, size = [], 0
        if first is not None and not is_broken:
            yield first
            yield from results
    if broken:
        yield from _joined(b"".join(broken), start)


def _joined(text: bytes, line: int) -> Iterator[Result]:
    """Yields the records of documents that follow each other, with or without line breaks.

    An unreadable document ends where the next begins: on a new line, or behind the end of an object
    or list. Other text is rejected by the line.
    """
    characters = text.decode("utf-8", "surrogateescape")
    start = counted = line_start = 0
    while (start := _SEPARATOR.match(characters, start).end()) < len(characters):  # type: ignore[union-attr]
        line += characters.count("\n", counted, start)
        line_start = characters.rfind("\n", counted, start) + 1 or line_start
        counted, end = start, _end_of_document(characters, start)
        raw = characters[start:end].encode("utf-8", "surrogateescape").strip(_SPACE)
        place = f"character {start - line_start + 1} of the line" if start > line_start else ""
        for result in read_document(raw, line):
            yield placed(result, place)
        start = end


def _end_of_document(characters: str, start: int) -> int:
    if characters[start] not in "{[":
        end = characters.find("\n", start)
        return len(characters) if end < 0 else end
    try:
        return _DECODER.raw_decode(characters, start)[1]
    except (ValueError, RecursionError):
        following = _NEXT_DOCUMENT.search(characters, start + 1)
        return following.end() if following else len(characters)


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
        return itertools.chain.from_iterable(
            read_object(bytes(element), number) for number, element in enumerate(split(text), 1)
        )
    if not text.startswith(b"{"):
        decode(text)
        raise InvalidText(NOT_AN_OBJECT)
    members = members_of(text)
    reader = list_reader(members)
    if reader is not None:
        return _numbered_records(reader.elements(members))
    return rows_of(decode(text), itertools.count(1)) or read_object(text, 1)


def _numbered_records(elements: Sequence[Slice]) -> Iterator[Result]:
    for number, element in enumerate(elements, 1):
        yield from read_element(bytes(element), number)


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
    return not large.has_joint and bool(_OPENING.match(large.head) and _CLOSING.search(large.tail))


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
