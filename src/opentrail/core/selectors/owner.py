"""Who selects events, and how a selection of his is refused."""

from __future__ import annotations

from enum import Enum

from opentrail.core.errors import CloudTrailError

#: So much of a value stands in an error.
_SHOWN = 200


class SelectorOwner(Enum):
    """What takes events; their fields and limits differ (cloudtrail-format §7.2)."""

    TRAIL = "trail"
    EVENT_DATA_STORE = "event data store"


def refused(message: str) -> CloudTrailError:
    """Returns the error of every selection that is none."""
    return CloudTrailError("InvalidEventSelectorsException", message)


def shown(value: object) -> str:
    """Returns a value as errors show it.

    >>> shown("a" * 300)[-3:]
    'aa…'
    """
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
