"""JSON bytes of a record, whatever strings and numbers it holds."""

from __future__ import annotations

import math
from typing import Any

import orjson

_MARK = "altered"
#: What is nested more deeply is left out.
_DEEPEST = 100
_MAX, _MIN = 2**63 - 1, -(2**63)


def to_bytes(value: Any) -> bytes:
    """Returns compact UTF-8 JSON.

    Lone surrogates become U+FFFD, integers beyond 64 bits and floats that are no numbers become
    strings, and what is nested beyond 100 levels is left out; a record then says so in
    `additionalEventData.opentrail.altered`.
    """
    try:
        # Whole numbers beyond 53 bits, which are rare, take the careful way, too.
        raw = orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER)
        # A float that is no number becomes null; a record's own nulls are the two that may be.
        if raw.count(b"null") <= _own_nulls(value) or not _holds_odd_float(value):
            return raw
    except (TypeError, RecursionError):
        pass
    safe = _safe(value)
    if _differs(safe, value) and isinstance(safe, dict) and "eventID" in safe:
        extra = safe.setdefault("additionalEventData", {})
        extra.setdefault("opentrail", {})[_MARK] = True
    return orjson.dumps(safe)


def _own_nulls(value: Any) -> int:
    if not isinstance(value, dict):
        return 0
    return sum(value.get(name, 0) is None for name in ("requestParameters", "responseElements"))


def _differs(safe: Any, value: Any) -> bool:
    try:
        return bool(safe != value)
    except RecursionError:
        return True


def _holds_odd_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_odd_float(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_odd_float(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


def _safe(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if _MIN <= value <= _MAX else str(value)
    if depth > _DEEPEST:
        return "NESTED_TOO_DEEPLY"
    if isinstance(value, dict):
        return {_safe(str(name)): _safe(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item, depth + 1) for item in value]
    return str(value)
