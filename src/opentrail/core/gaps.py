"""The number of lost records, the period in which they were lost, and the reason."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Self

from opentrail.core.event import format_time, parse_time
from opentrail.core.value_class import value_class

#: Maximum characters of a reason, so that a gap fits into one block of a disk.
_MAX_REASON_LENGTH = 200


@value_class(frozen=True, slots=True)
class Gap:
    """Lost records; `reason` is the reason of the last loss."""

    count: int
    first: datetime
    last: datetime
    reason: str

    def and_one(self, moment: datetime, reason: str) -> Gap:
        """Returns the gap with one more lost record."""
        return Gap(self.count + 1, self.first, moment, reason)

    def and_later(self, later: Gap | None) -> Gap:
        """Returns the gap with the records of a later gap."""
        if later is None:
            return self
        return Gap(self.count + later.count, self.first, later.last, later.reason)

    def as_json(self) -> bytes:
        """Returns the gap as JSON for `from_json`; times are whole seconds."""
        first, last = format_time(self.first), format_time(self.last)
        reason = self.reason[:_MAX_REASON_LENGTH]
        document = {"count": self.count, "first": first, "last": last, "reason": reason}
        return json.dumps(document).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Returns the gap in a JSON text, None if the text is not a gap."""
        try:
            document = json.loads(text)
            count, reason = int(document["count"]), str(document["reason"])
            first, last = parse_time(document["first"]), parse_time(document["last"])
            return cls(count, first, last, reason)
        except (ValueError, KeyError, TypeError):
            return None
