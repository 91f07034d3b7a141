"""All limits of a record, and its JSON bytes within them.

AWS's limits are in cloudtrail-format §2.2. `wire.message.MAX_BODY` limits bodies earlier, before
the record.
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

#: Maximum characters of an event name or source; longer ones are not AWS's.
MAX_NAME_LENGTH = 256
#: Maximum characters shown of a malformed Region in a credential.
MAX_REGION_LENGTH = 64
#: Maximum characters of the reason for a decoding failure.
MAX_REASON_LENGTH = 300
#: Resources of a record.
MAX_RESOURCES = 250
#: Maximum other accounts that get a copy of a record.
MAX_OWNERS = 20
#: Maximum depth of nested objects and arrays.
MAX_RECORD_DEPTH = 100

#: Maximum objects of a DeleteObjects call with a record each (S3's own limit).
MAX_DELETED_OBJECTS = 1_000
#: Bytes of these records.
MAX_DELETED_BYTES = 4 * 1_024 * 1_024
#: Maximum bytes of the keys in the call's own record, below the limit of `additionalEventData`.
MAX_LISTED_KEY_BYTES = 16 * 1_024
#: Maximum different error messages recorded for one DeleteObjects call.
MAX_DELETION_MESSAGES = 10

#: Hidden values searched for in an error message; with more of them the message is hidden.
MAX_HIDDEN_VALUES = 50_000
#: Maximum characters of an error message to search for secrets; a record holds fewer.
MAX_MESSAGE_LENGTH = 4_096
#: Maximum bytes of an undecoded body to compare with error messages.
MAX_COMPARED_BYTES = 256 * 1_024

_MAX_INTEGER, _MIN_INTEGER = 2**63 - 1, -(2**63)


def truncate(text: str) -> str:
    """Truncates a string to a kilobyte."""
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
    """Returns AWS's mark for an oversized member."""
    return {
        "omitted": True,
        "originalSize": size,
        "reason": f"{member} too large: more than {limit} bytes",
    }


def to_bytes(value: Any) -> bytes:
    """Returns compact UTF-8 JSON.

    Lone surrogates become U+FFFD, integers beyond 64 bits and non-finite floats become strings, and
    values nested beyond 100 levels are omitted; the record then has
    `additionalEventData.opentrail.altered`.
    """
    try:
        # Integers beyond 53 bits are rare; they are handled below.
        raw = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER)
        # orjson writes a non-finite float as null; a record has two nulls at most.
        if raw.count(b"null") <= _null_members(value) or not _holds_infinite_float(value):
            # A copy: orjson's own bytes would pin the memory around them.
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
