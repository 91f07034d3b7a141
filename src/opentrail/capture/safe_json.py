"""JSON bytes of a record, whatever strings and numbers it holds (architecture.md §3)."""

from __future__ import annotations

from typing import Any

import orjson

_MARK = "altered"


def to_bytes(value: Any) -> bytes:
    """Returns compact UTF-8 JSON.

    Lone surrogates become U+FFFD and integers beyond 64 bits strings; a record then says so in
    `additionalEventData.opentrail.altered`.
    """
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        safe = _safe(value)
    if isinstance(safe, dict) and "eventID" in safe:
        extra = safe.setdefault("additionalEventData", {})
        extra.setdefault("opentrail", {})[_MARK] = True
    return orjson.dumps(safe)


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, dict):
        return {_safe(str(name)): _safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    return str(value)
