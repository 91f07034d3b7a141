"""How large a record and its parts may be (cloudtrail-format §2.2)."""

from __future__ import annotations

from typing import Any

from opentrail.capture.record.safe_json import to_bytes

#: AWS's limits, in bytes.
_TEXT_LIMIT = 1_024
#: Bytes of `requestParameters` or `responseElements` that a record has room for.
OBJECT_LIMIT = 100 * 1_024
_ADDITIONAL_LIMIT = 28 * 1_024
_RECORD_LIMIT = 256 * 1_024


def cut(text: str) -> str:
    """Returns at most a kilobyte of a text (cloudtrail-format §2.2)."""
    if len(text) * 4 <= _TEXT_LIMIT:
        return text
    return text.encode("utf-8", "replace")[:_TEXT_LIMIT].decode("utf-8", "ignore")


def limited(record: dict[str, Any]) -> bytes:
    """Returns the record's bytes, oversized parts replaced by AWS's mark."""
    raw = to_bytes(record)
    if len(raw) <= _ADDITIONAL_LIMIT:
        return raw
    for member, limit in (
        ("requestParameters", OBJECT_LIMIT),
        ("responseElements", OBJECT_LIMIT),
        ("additionalEventData", _ADDITIONAL_LIMIT),
    ):
        size = len(to_bytes(record[member])) if record.get(member) else 0
        if size > limit:
            record[member] = _omitted(member, size, limit)
    raw = to_bytes(record)
    for member in ("requestParameters", "responseElements", "resources"):
        if len(raw) > _RECORD_LIMIT and record.get(member):
            mark = _omitted(member, len(to_bytes(record[member])), _RECORD_LIMIT)
            record[member] = [] if member == "resources" else mark
            raw = to_bytes(record)
    return raw


def _omitted(member: str, size: int, limit: int) -> dict[str, Any]:
    """Returns AWS's mark in the place of what is too large."""
    return {
        "omitted": True,
        "originalSize": size,
        "reason": f"{member} too large: more than {limit} bytes",
    }
