"""All limits of a record, and its JSON bytes within them.

AWS's limits are in cloudtrail-format §2.2. Bodies are limited before a record is made of them, by
`wire.message.MAX_BODY`.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from opentrail.core.event import Json

#: AWS's limits, in bytes: a string, parameters or answer, `additionalEventData`, a record.
MAX_TEXT_BYTES = 1_024
MAX_OBJECT_BYTES = 100 * 1_024
MAX_ADDITIONAL_BYTES = 28 * 1_024
MAX_RECORD_BYTES = 256 * 1_024

#: Characters of an event name or source; longer ones are not AWS's.
MAX_NAME_LENGTH = 256
#: Characters shown of a credential's Region that does not have the form of one.
MAX_REGION_LENGTH = 64
#: Characters of the reason why a call could not be decoded.
MAX_REASON_LENGTH = 300
#: Resources of a record.
MAX_RESOURCES = 250
#: Other accounts that get a copy of a record.
MAX_OWNERS = 20
#: Objects and arrays within each other.
MAX_RECORD_DEPTH = 100

#: Objects of a DeleteObjects call with a record each (S3's own limit).
MAX_DELETED_OBJECTS = 1_000
#: Bytes of these records.
MAX_DELETED_BYTES = 4 * 1_024 * 1_024
#: Bytes of the keys that the call's own record lists, less than `additionalEventData` may hold.
MAX_LISTED_KEY_BYTES = 16 * 1_024
#: Different error messages that are recorded of one DeleteObjects call.
MAX_DELETION_MESSAGES = 10

#: Hidden values searched for in an error message; with more of them the message is hidden.
MAX_HIDDEN_VALUES = 50_000
#: Characters of an error message that are searched for secrets; a record holds fewer of them.
MAX_MESSAGE_LENGTH = 4_096
#: Bytes of an undecoded body that error messages are compared with.
MAX_COMPARED_BYTES = 256 * 1_024

_MAX_INTEGER, _MIN_INTEGER = 2**63 - 1, -(2**63)


def truncate(text: str) -> str:
    """Returns at most a kilobyte of a string."""
    if len(text) * 4 <= MAX_TEXT_BYTES:
        return text
    return text.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def encode_record(record: Json) -> bytes:
    """Returns the record's bytes, oversized parts replaced by AWS's mark."""
    raw = to_bytes(record)
    if len(raw) <= MAX_ADDITIONAL_BYTES:
        return raw
    for member, limit in (
        ("requestParameters", MAX_OBJECT_BYTES),
        ("responseElements", MAX_OBJECT_BYTES),
        ("additionalEventData", MAX_ADDITIONAL_BYTES),
    ):
        size = len(to_bytes(record[member])) if record.get(member) else 0
        if size > limit:
            record[member] = _omitted(member, size, limit)
    raw = to_bytes(record)
    for member in ("requestParameters", "responseElements", "resources"):
        if len(raw) > MAX_RECORD_BYTES and record.get(member):
            mark = _omitted(member, len(to_bytes(record[member])), MAX_RECORD_BYTES)
            record[member] = [] if member == "resources" else mark
            raw = to_bytes(record)
    return raw


def _omitted(member: str, size: int, limit: int) -> Json:
    """Returns AWS's mark for a member that is too large."""
    return {
        "omitted": True,
        "originalSize": size,
        "reason": f"{member} too large: more than {limit} bytes",
    }


def to_bytes(value: Any) -> bytes:
    """Returns compact UTF-8 JSON.

    Lone surrogates become U+FFFD, integers beyond 64 bits and floats that are not finite become
    strings, and values nested beyond 100 levels are left out; the record then has
    `additionalEventData.opentrail.altered`.
    """
    try:
        # Integers beyond 53 bits are rare; they are handled below.
        raw = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER)
        # orjson writes a float that is not finite as null; a record has two nulls at most.
        if raw.count(b"null") <= _null_members(value) or not _holds_infinite_float(value):
            # A copy: the memory around orjson's own bytes would stay in use with them.
            return bytes(memoryview(raw))
    except (TypeError, RecursionError):
        pass
    safe = _safe(value)
    if _differs(safe, value) and isinstance(safe, dict) and "eventID" in safe:
        extra = safe.setdefault("additionalEventData", {})
        extra.setdefault("opentrail", {})["altered"] = True
    return orjson.dumps(safe)


def _null_members(value: Any) -> int:
    if not isinstance(value, dict):
        return 0
    nothing_given = value.get("requestParameters", 0) is None
    return nothing_given + (value.get("responseElements", 0) is None)


def _differs(safe: Any, value: Any) -> bool:
    try:
        return bool(safe != value)
    except RecursionError:
        return True


def _holds_infinite_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_infinite_float(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_infinite_float(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


def _safe(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if _MIN_INTEGER <= value <= _MAX_INTEGER else str(value)
    if depth > MAX_RECORD_DEPTH:
        return "NESTED_TOO_DEEPLY"
    if isinstance(value, dict):
        return {_safe(str(name)): _safe(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item, depth + 1) for item in value]
    return str(value)
