"""Splits and decodes JSON, and checks CloudTrail records (guarantee N5)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import orjson

from opentrail.core.event import FOUND_DETAILS, Record, as_object, call_in, parse_time

NOT_JSON = "not JSON"
NOT_UTF8 = "not valid UTF-8"
#: orjson writes at most 254 levels.
TOO_DEEP = "nested too deeply"
DUPLICATE_MEMBER = "a member occurs twice in an object"
#: A number beyond 64-bit floats; integers of up to 308 digits keep all digits.
NUMBER_TOO_LARGE = "a number is too large"
LONE_SURROGATE = "a string holds half of a surrogate pair"
NOT_AN_OBJECT = "not a JSON object"
NOT_A_RECORD = "not a CloudTrail record"
DIGEST_FILE = "digest file"
NO_TIME = "no eventTime"
NO_NAME = "no eventName"
NO_SOURCE = "no eventSource"
NO_ID = "no eventID"
BAD_TIME = "eventTime is not a time"

_MISSING = {
    "eventTime": NO_TIME,
    "eventName": NO_NAME,
    "eventSource": NO_SOURCE,
    "eventID": NO_ID,
}
#: Members that only a record has, and members that only a digest file has.
_OF_RECORDS = ("eventName", "eventVersion", "insightDetails")
_OF_DIGESTS = ("digestStartTime", "digestSignatureAlgorithm")
_FIRST_YEAR = 1970
_MAX_DETAIL_LENGTH = 200
_MAX_NAMES = 5
#: Part of orjson's message → reason.
_REASONS = (
    ("UTF-8", NOT_UTF8),
    ("surrogate in", LONE_SURROGATE),
    ("depth", TOO_DEEP),
    ("infinity", NUMBER_TOO_LARGE),
)


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """A record to import; `raw` holds its exact JSON bytes in the file.

    `line` is the line of NDJSON or the index in the list of records, from 1. In the output of
    LookupEvents `raw` is the text of `CloudTrailEvent`, in an EventBridge event its `detail`.
    """

    line: int
    raw: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record, a line or, with the number of its first line, a file that is not imported."""

    line: int
    reason: str
    detail: str = ""


Result = AcceptedRecord | RejectedRecord


def placed(result: Result, place: str) -> Result:
    """Returns a result, a rejected one with its place in the line."""
    if isinstance(result, AcceptedRecord) or not place:
        return result
    detail = f"{place}: {result.detail}" if result.detail else place
    return RejectedRecord(result.line, result.reason, detail)


class InvalidText(Exception):  # noqa: N818 - named after the text
    """Text that cannot be imported: one of the reasons, and details."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    def at(self, line: int) -> RejectedRecord:
        return RejectedRecord(line, self.reason, limit_detail(self.detail))


def limit_detail(text: str) -> str:
    r"""Returns text of limited length without control characters (guarantee N8).

    >>> limit_detail("a\x1b[31m")
    'a\\x1b[31m'
    """
    truncated = text if len(text) <= _MAX_DETAIL_LENGTH else f"{text[: _MAX_DETAIL_LENGTH - 1]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in truncated)


def decode(raw: bytes) -> Any:
    """Returns the value of a JSON text that orjson can write again.

    Raises:
        InvalidText: it is not JSON, or guarantee N5 does not allow it.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _undecodable(error) from error
    try:
        encoded = orjson.dumps(value)
    except TypeError as error:
        raise InvalidText(TOO_DEEP) from error
    # Equal bytes, or as many quotation marks and none escaped: no member occurs twice.
    if encoded != raw and (encoded.count(b'"') != raw.count(b'"') or b"\\u0022" in raw):
        _check_names(raw)
    return value


def _undecodable(error: orjson.JSONDecodeError) -> InvalidText:
    detail = f"{error.msg}, character {error.pos + 1}"
    for part, reason in _REASONS:
        if part in error.msg:
            return InvalidText(reason, detail)
    return InvalidText(NOT_JSON, detail)


def _check_names(raw: bytes) -> None:
    def check_unique(members: list[tuple[str, Any]]) -> None:
        names = set()
        for name, _ in members:
            if name in names:
                raise InvalidText(DUPLICATE_MEMBER, name)
            names.add(name)

    try:
        json.loads(raw, object_pairs_hook=check_unique, parse_int=len, parse_float=len)
    except RecursionError as error:
        raise InvalidText(TOO_DEEP) from error


def looks_like_record(value: Mapping[str, Any]) -> bool:
    """Returns whether an object is a record, even an incomplete one.

    >>> looks_like_record({"eventName": "CreateUser"}), looks_like_record({"Records": []})
    (True, False)
    """
    return any(member in value for member in _OF_RECORDS)


def accept(raw: bytes, record: Mapping[str, Any], line: int) -> AcceptedRecord:
    """Returns the record if it has the members that every record needs.

    Raises:
        InvalidText: a member is missing or invalid.
    """
    time, identifier = record.get("eventTime"), record.get("eventID")
    call = call_in(record)
    name, source = call.get("eventName"), call.get("eventSource")
    member = FOUND_DETAILS.get(str(record.get("eventCategory")))
    if member is not None:
        details = as_object(record.get(member))
        name, source = details.get("eventName") or name, details.get("eventSource") or source
    if not (_is_text(time) and _is_text(name) and _is_text(source) and _is_text(identifier)):
        raise _lacking(eventTime=time, eventName=name, eventSource=source, eventID=identifier)
    try:
        year = parse_time(record["eventTime"]).year
    except ValueError as error:
        raise InvalidText(BAD_TIME, record["eventTime"]) from error
    if year < _FIRST_YEAR:
        raise InvalidText(BAD_TIME, record["eventTime"])
    return AcceptedRecord(line, raw, record)


def _is_text(value: object) -> bool:
    return type(value) is str and value != ""


def _lacking(**members: object) -> InvalidText:
    for member, value in members.items():
        if not _is_text(value):
            detail = "" if value is None else f"it is {json.dumps(value)[:_MAX_DETAIL_LENGTH]}"
            return InvalidText(_MISSING[member], detail)
    raise AssertionError("a member is missing")


def not_a_record(value: Mapping[str, Any]) -> InvalidText:
    """Returns the reason for rejecting an object of an unknown format."""
    if any(member in value for member in _OF_DIGESTS):
        return InvalidText(DIGEST_FILE)
    names = ", ".join(list(value)[:_MAX_NAMES])
    return InvalidText(NOT_A_RECORD, f"it has {names}" if names else "it is empty")


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: As long as the escape that it replaces.
_PLACEHOLDER = rb"\\u0041"
_BEFORE_ELEMENT = re.compile(rb"[ \t\r\n,]*")
_BEFORE_VALUE = re.compile(rb'[ \t\r\n,]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*')

#: The bytes of a part of a JSON text.
Slice = msgspec.Raw | bytes
Parts = TypeVar("Parts")

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members_of(text: bytes) -> Mapping[str, Slice]:
    """Returns the members of a JSON object, each as its bytes.

    Raises:
        InvalidText: it is not a JSON object, or a member occurs twice.
    """
    try:
        members = _MEMBERS.decode(text)
        readable = text
    except (ValueError, RecursionError) as error:
        readable = _without_surrogates(text, error)
        members = _decoded(_MEMBERS, readable)
    # Of two members with one name only one is decoded: some quotation marks are missing.
    quotes = sum(2 + name.count('"') + bytes(value).count(b'"') for name, value in members.items())
    if quotes != readable.count(b'"'):
        raise InvalidText(DUPLICATE_MEMBER)
    if readable is text:
        return members
    return dict(zip(members, _parts(text, members.values(), _BEFORE_VALUE), strict=True))


def split(list_text: bytes | memoryview) -> Sequence[Slice]:
    """Returns the elements of a JSON list, each as its bytes.

    Raises:
        InvalidText: it is not a JSON list.
    """
    try:
        return _ELEMENTS.decode(list_text)
    except (ValueError, RecursionError) as error:
        text = bytes(list_text)
        like = _decoded(_ELEMENTS, _without_surrogates(text, error))
        return _parts(text, like, _BEFORE_ELEMENT)


def _without_surrogates(text: bytes, error: Exception) -> bytes:
    """Returns a copy of the same length without escaped surrogates.

    msgspec rejects a whole text for a lone surrogate. The copy shows where the parts begin and
    end, so that only the record with the lone surrogate is rejected.
    """
    copy = _SURROGATE.sub(_PLACEHOLDER, text)
    if copy == text:
        raise _unreadable(error, text) from error
    return copy


def _decoded(decoder: msgspec.json.Decoder[Parts], text: bytes) -> Parts:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, text) from error


def _parts(text: bytes, like: Iterable[msgspec.Raw], before: re.Pattern[bytes]) -> list[bytes]:
    """Splits a list or object where its copy has its parts."""
    parts: list[bytes] = []
    position = 1
    for part in like:
        match = before.match(text, position)
        if match is None:
            raise InvalidText(NOT_JSON)
        end = match.end() + len(bytes(part))
        parts.append(text[match.end() : end])
        position = end
    return parts


def _unreadable(error: Exception, text: bytes) -> InvalidText:
    if isinstance(error, RecursionError):
        return InvalidText(TOO_DEEP)
    if isinstance(error, UnicodeDecodeError):
        return InvalidText(NOT_UTF8, "in the name of a member")
    message = str(error)
    if message == "Input data was truncated":
        return InvalidText(NOT_JSON, f"it ends early, at byte {len(text)}")
    return InvalidText(NOT_JSON, message)
