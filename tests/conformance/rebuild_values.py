"""Recorded scalars in botocore's form."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from opentrail.wire.values import WireTime

#: Stands for anything that AWS hid; it must never be in our record.
SECRET = "hidden-by-aws-0123456789"
HIDDEN = ("HIDDEN_DUE_TO_SECURITY_REASONS", "<sensitiveDataRemoved>", "****")
HIDDEN_TEXTS = (*HIDDEN, "Value hidden due to security reasons.")
_TIMES = ("%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p")


def secret_of(shape: Any) -> Any:
    """Returns a value of a shape that contains `SECRET` where possible."""
    kind = shape.type_name
    if kind == "structure":
        first = next(iter(shape.members.items()), None)
        return {first[0]: secret_of(first[1])} if first else {}
    if kind == "list":
        return [secret_of(shape.member)]
    if kind == "map":
        return {"Name": secret_of(shape.value)}
    return scalar_of(shape, SECRET)


def scalar_of(shape: Any, shown: Any) -> Any:
    """Returns a scalar of the model's type, as far as the recorded one allows."""
    kind = shape.type_name
    if kind == "timestamp":
        return time_of(shown)
    if kind == "blob":
        return str(shown).encode()
    if kind == "boolean":
        return shown in (True, "true", "True")
    if kind in ("integer", "long"):
        return int(shown) if re.fullmatch(r"-?\d+(\.0)?", str(shown)) else 7
    if kind in ("float", "double"):
        return float(shown) if re.fullmatch(r"-?[\d.]+", str(shown)) else 7.5
    return shown if isinstance(shown, str | dict | list) else json.dumps(shown)


def time_of(shown: Any) -> datetime:
    """Returns the moment of a recorded time."""
    if isinstance(shown, int | float):
        return datetime.fromtimestamp(shown / 1000 if shown > 1e11 else shown, UTC)
    text = str(shown)
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        return WireTime.of(text)
    except ValueError:
        return datetime(2020, 1, 1, tzinfo=UTC)
