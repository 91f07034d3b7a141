"""Calls that are not recorded are counted by what they have in common."""

from __future__ import annotations

from typing import NamedTuple

#: Maximum counters of an hour; what exceeds them is counted as `OTHER`.
MAX_COUNTERS = 1_000


class LeftOut(NamedTuple):
    """What a counter counts: `resource_type` is that of data events, '' of management events."""

    event_source: str
    event_name: str
    resource_type: str


OTHER = LeftOut("other", "other", "")
