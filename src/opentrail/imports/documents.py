"""The shapes in which files hold records: log files, NDJSON, LookupEvents' output, envelopes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentrail.imports.gzipped import (
    NOT_GZIP,
    Large,
    is_gzip,
    parts_of,
    unpack,
    unpack_large,
)
from opentrail.imports.large_files import elements_of, lines_of, wraps_one_list
from opentrail.imports.records import (
    NOT_A_RECORD,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF8,
    TWICE,
    AcceptedRecord,
    RejectedRecord,
    Unfit,
    decode,
    looks_like_record,
    no_record,
    take,
)
from opentrail.imports.splitting import Slice, members_of, split

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
#: How AWS's own log files begin and end.
_HEAD, _FOOT = b'{"Records":[', b"]}"
#: Members that wrap a list of records, or of LookupEvents' events.
_WRAPPERS = ("Records", "Events")
_MORE = re.compile(rb"[^ \t\r\n]")


def read_file(
    name: str, content: bytes, first_line: int = 1
) -> Iterator[AcceptedRecord | RejectedRecord]:
    """Yields each record of a file, or why it is not taken; never raises for what a file holds.

    Args:
        name: the file's name; what the file is, its content alone tells.
        content: the file's bytes, packed or not.
        first_line: the number of the first line, for a piece of a large NDJSON file.
    """
    try:
        text = unpack(content) if is_gzip(content) else content
        if isinstance(text, Large):
            yield from _read_large(content, text, first_line)
        else:
            yield from _read_text(text.removeprefix(_BOM), first_line)
    except Unfit as unfit:
        if name.endswith(".gz") and not is_gzip(content) and unfit.reason in (NOT_UTF8, NOT_JSON):
            unfit = Unfit(NOT_GZIP, f"and {unfit.reason}")
        yield unfit.at(first_line)


def _read_large(
    content: bytes, large: Large, first_line: int
) -> Iterator[AcceptedRecord | RejectedRecord]:
    """Yields the records of a large packed file, which need not be in memory all at once."""
    if _begins_as_lines(large.head.removeprefix(_BOM)):
        yield from _numbered_lines(lines_of(parts_of(content)), first_line)
    elif wraps_one_list(large):
        line = 0
        try:
            for line, element in enumerate(elements_of(parts_of(content)), 1):
                yield _element(element, line)
        except Unfit as unfit:
            yield unfit.at(line + 1)
    else:
        yield from _read_text(unpack_large(content).removeprefix(_BOM), first_line)


def _read_text(text: bytes, first_line: int) -> Iterator[AcceptedRecord | RejectedRecord]:
    if not text or text.isspace():
        return iter(())
    if first_line > 1 or _begins_as_lines(text):
        return _numbered_lines(io.BytesIO(text), first_line)
    try:
        return _document(text.strip(_SPACE))
    except Unfit:
        if any(_is_whole_object(line) for line in io.BytesIO(text)):
            return _numbered_lines(io.BytesIO(text), first_line)
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
    except Unfit as unfit:
        return unfit.reason == TWICE
    return True


def _numbered_lines(
    lines: Iterable[bytes], first_line: int
) -> Iterator[AcceptedRecord | RejectedRecord]:
    for number, line in enumerate(lines, first_line):
        raw = line.strip(_SPACE)
        if raw:
            yield from _value(raw, number)


def _value(raw: bytes, line: int) -> Iterator[AcceptedRecord | RejectedRecord]:
    """Yields what a JSON text holds: a record, or something that wraps records."""
    try:
        if raw.startswith(_HEAD):
            yield from _wrapped(members_of(raw), line)
            return
        value = decode(raw)
        if not isinstance(value, dict):
            raise Unfit(NOT_AN_OBJECT)
        if not looks_like_record(value) and any(wrapper in value for wrapper in _WRAPPERS):
            yield from _wrapped(members_of(raw), line)
        else:
            yield _record(raw, value, line)
    except Unfit as unfit:
        yield unfit.at(line)


def _wrapped(members: Mapping[str, Slice], line: int) -> Iterator[AcceptedRecord | RejectedRecord]:
    """Yields the records of a log file that is itself a line; all have the line's number."""
    for element in _elements_in(members):
        yield _element(bytes(element), line)


def _element(raw: bytes, line: int) -> AcceptedRecord | RejectedRecord:
    try:
        value = decode(raw)
        if not isinstance(value, dict):
            raise Unfit(NOT_AN_OBJECT)
        return _record(raw, value, line)
    except Unfit as unfit:
        return unfit.at(line)


def _record(raw: bytes, value: dict[str, Any], line: int) -> AcceptedRecord:
    """Returns the record that an object is, or the one inside it."""
    if looks_like_record(value):
        return take(raw, value, line)
    told = value.get("CloudTrailEvent")
    if isinstance(told, str):
        raw = told.strip(" \t\r\n").encode()
        value = decode(raw)
        if not isinstance(value, dict):
            raise Unfit(NOT_AN_OBJECT, "CloudTrailEvent")
    elif isinstance(value.get("detail"), dict) and "detail-type" in value:
        value = value["detail"]
        raw = bytes(members_of(raw)["detail"])
    if not looks_like_record(value):
        raise no_record(value)
    return take(raw, value, line)


# Whole files that are one JSON text


def _document(text: bytes) -> Iterator[AcceptedRecord | RejectedRecord]:
    """Returns the records of a JSON text.

    Raises:
        Unfit: it is no JSON as a whole, so that no record in it can be trusted.
    """
    if text.startswith(_HEAD) and text.endswith(_FOOT):
        listed = memoryview(text)[len(_HEAD) - 1 : -1]
        with contextlib.suppress(Unfit):  # then the careful way below finds out what is wrong
            return _numbered(split(listed))
    if text.startswith(b"["):
        return _numbered_values(split(text))
    if not text.startswith(b"{"):
        decode(text)
        raise Unfit(NOT_AN_OBJECT)
    members = members_of(text)
    if looks_like_record(members) or not any(wrapper in members for wrapper in _WRAPPERS):
        return _value(text, 1)
    return _numbered(_elements_in(members))


def _numbered(elements: Sequence[Slice]) -> Iterator[AcceptedRecord | RejectedRecord]:
    for number, element in enumerate(elements, 1):
        yield _element(bytes(element), number)


def _numbered_values(elements: Sequence[Slice]) -> Iterator[AcceptedRecord | RejectedRecord]:
    for number, element in enumerate(elements, 1):
        yield from _value(bytes(element), number)


def _elements_in(members: Mapping[str, Slice]) -> Sequence[Slice]:
    """Returns the elements of what wraps them; the other members are only checked."""
    wrapper = next(name for name in _WRAPPERS if name in members)
    for name, value in members.items():
        if name != wrapper:
            decode(bytes(value))
    listed = bytes(members[wrapper])
    if not listed.startswith(b"["):
        raise Unfit(NOT_A_RECORD, f"{wrapper} is no list")
    return split(listed)
