"""How many records were never taken, from when to when, and why."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Self

from opentrail.core.event import format_time, parse_time
from opentrail.core.values import value_class

#: A reason is kept as far as it fits into a block of a disk, with all the rest.
_LONGEST_REASON = 200


@value_class(frozen=True, slots=True)
class Gap:
    """Records that were lost; `reason` is the last one's."""

    count: int
    first: datetime
    last: datetime
    reason: str

    def and_one(self, moment: datetime, reason: str) -> Gap:
        """Returns the gap with one more lost record."""
        return Gap(self.count + 1, self.first, moment, reason)

    def and_later(self, later: Gap | None) -> Gap:
        """Returns the gap with those records that were lost after it."""
        if later is None:
            return self
        return Gap(self.count + later.count, self.first, later.last, later.reason)

    def as_json(self) -> bytes:
        """Returns the gap as a JSON text, for `from_json`; its times are whole seconds."""
        first, last = format_time(self.first), format_time(self.last)
        reason = self.reason[:_LONGEST_REASON]
        told = {"count": self.count, "first": first, "last": last, "reason": reason}
        return json.dumps(told).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Returns the gap that a text tells of, None if it tells of none."""
        try:
            told = json.loads(text)
            count, reason = int(told["count"]), str(told["reason"])
            return cls(count, parse_time(told["first"]), parse_time(told["last"]), reason)
        except (ValueError, KeyError, TypeError):
            return None
