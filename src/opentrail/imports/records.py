"""One JSON text and the CloudTrail record in it, checked (guarantee N5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from opentrail.core.event import INSIGHT, Record, as_object, parse_time

NOT_JSON = "not JSON"
NOT_UTF8 = "not valid UTF-8"
#: orjson writes 254 levels, so that is how deep a record may go (bodies may be 512 levels deep).
TOO_DEEP = "nested too deeply"
TWICE = "a member stands twice in an object"
#: A number beyond 64-bit floats; whole numbers of up to 308 digits are kept digit by digit.
TOO_BIG_A_NUMBER = "a number is too large"
HALF_A_CHARACTER = "a text holds half of a surrogate pair"
NOT_AN_OBJECT = "not a JSON object"
NOT_A_RECORD = "not a CloudTrail record"
DIGEST_FILE = "digest file"
NO_TIME = "no eventTime"
NO_NAME = "no eventName"
NO_SOURCE = "no eventSource"
NO_ID = "no eventID"
BAD_TIME = "eventTime is no time"

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
_LONGEST_DETAIL = 200
_MOST_NAMES = 5
#: What orjson says, and what that means here.
_MEANINGS = (
    ("UTF-8", NOT_UTF8),
    ("surrogate in", HALF_A_CHARACTER),
    ("depth", TOO_DEEP),
    ("infinity", TOO_BIG_A_NUMBER),
)


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """A record that can be taken; `raw` holds its exact JSON bytes as they stand in the file.

    `line` is the line of NDJSON, or the place in `Records` or `Events`, from 1 on. Of LookupEvents'
    output `raw` is the text of `CloudTrailEvent`, of an EventBridge envelope its `detail`.
    """

    line: int
    raw: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """What was not taken: a record, a line or, with the number of its first line, a whole file."""

    line: int
    reason: str
    detail: str = ""


class Unfit(Exception):  # noqa: N818 - named for what the text is
    """A text cannot be taken: one of the reasons, and what more is known."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    def at(self, line: int) -> RejectedRecord:
        """Returns what to report of the line."""
        return RejectedRecord(line, self.reason, shown(self.detail))


def shown(text: str) -> str:
    r"""Returns text of bounded length that steers no terminal (guarantee N8).

    >>> shown("a\x1b[31m")
    'a\\x1b[31m'
    """
    cut = text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 1]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def decode(raw: bytes) -> Any:
    """Returns the value of a JSON text that orjson can write again.

    Raises:
        Unfit: it is no JSON, or JSON that guarantee N5 does not allow.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _undecodable(error) from error
    try:
        written = orjson.dumps(value)
    except TypeError as error:
        raise Unfit(TOO_DEEP) from error
    # The same bytes: no name stands twice. As many quotation marks, none in disguise: neither.
    if written != raw and (written.count(b'"') != raw.count(b'"') or b"\\u0022" in raw):
        _check_names(raw)
    return value


def _undecodable(error: orjson.JSONDecodeError) -> Unfit:
    detail = f"{error.msg}, character {error.pos + 1}"
    for said, reason in _MEANINGS:
        if said in error.msg:
            return Unfit(reason, detail)
    return Unfit(NOT_JSON, detail)


def _check_names(raw: bytes) -> None:
    def once(members: list[tuple[str, Any]]) -> None:
        names = set()
        for name, _ in members:
            if name in names:
                raise Unfit(TWICE, name)
            names.add(name)

    try:
        json.loads(raw, object_pairs_hook=once, parse_int=len, parse_float=len)
    except RecursionError as error:
        raise Unfit(TOO_DEEP) from error


def looks_like_record(value: Mapping[str, Any]) -> bool:
    """Tells whether an object is a record, perhaps an incomplete one, and no wrapping of records.

    >>> looks_like_record({"eventName": "CreateUser"}), looks_like_record({"Records": []})
    (True, False)
    """
    return any(member in value for member in _OF_RECORDS)


def take(raw: bytes, record: Mapping[str, Any], line: int) -> AcceptedRecord:
    """Returns the record if it has what every record needs.

    Raises:
        Unfit: the record lacks a member.
    """
    time, identifier = record.get("eventTime"), record.get("eventID")
    name, source = record.get("eventName"), record.get("eventSource")
    if record.get("eventCategory") == INSIGHT:
        details = as_object(record.get("insightDetails"))
        name, source = details.get("eventName") or name, details.get("eventSource") or source
    if not (_is_text(time) and _is_text(name) and _is_text(source) and _is_text(identifier)):
        raise _lacking(eventTime=time, eventName=name, eventSource=source, eventID=identifier)
    try:
        year = parse_time(record["eventTime"]).year
    except (ValueError, OverflowError) as error:
        raise Unfit(BAD_TIME, record["eventTime"]) from error
    if year < _FIRST_YEAR:
        raise Unfit(BAD_TIME, record["eventTime"])
    return AcceptedRecord(line, raw, record)


def _is_text(value: object) -> bool:
    return type(value) is str and value != ""


def _lacking(**members: object) -> Unfit:
    for member, value in members.items():
        if not _is_text(value):
            detail = "" if value is None else f"it is {json.dumps(value)[:_LONGEST_DETAIL]}"
            return Unfit(_MISSING[member], detail)
    raise AssertionError("a member is missing")


def no_record(value: Mapping[str, Any]) -> Unfit:
    """Returns why an object that wraps nothing known is not taken."""
    if any(member in value for member in _OF_DIGESTS):
        return Unfit(DIGEST_FILE)
    names = ", ".join(list(value)[:_MOST_NAMES])
    return Unfit(NOT_A_RECORD, f"it has {names}" if names else "it is empty")
