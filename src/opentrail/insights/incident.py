"""Incidents: unusual activity of one key, from its start until it is usual again."""

from __future__ import annotations

import msgspec

#: Minutes without unusual activity after which an incident is over.
QUIET_MINUTES = 10
#: Maximum minutes of an incident.
MAX_MINUTES = 1440
#: Share of an incident's mean excess above which calls are still unusual.
_STILL = 0.3
#: Minutes until the mean excess is computed again.
_REFRESH_MINUTES = 5


class Incident(msgspec.Struct):
    """An open incident; `calls` and `expected` are those of each minute since `start`.

    `learned` says whether its calls count as usual ones.
    """

    row: int
    start: int
    found: int
    rises: bool
    learned: bool
    calls: list[float]
    expected: list[float]
    last_unusual: int
    excess: float = 0.0
    quiet: int = 0
    refreshed: int = 0

    @property
    def sign(self) -> int:
        return 1 if self.rises else -1

    def refresh(self, now: int) -> None:
        """Computes the mean excess, in calls per minute, up to the last unusual minute."""
        minutes = self.last_unusual - self.start + 1
        self.excess = (sum(self.calls[:minutes]) - sum(self.expected[:minutes])) / minutes
        self.refreshed = now

    def add(self, now: int, calls: float, expected: float) -> None:
        """Adds the next minute."""
        self.calls.append(calls)
        self.expected.append(expected)
        if now - self.refreshed >= _REFRESH_MINUTES:
            self.refresh(now)
        excess = self.sign * self.excess
        width = next((width for width in (5, 15) if width * excess >= 5), 60)
        width = min(width, len(self.calls))
        unusual = self.sign * (sum(self.calls[-width:]) - sum(self.expected[-width:]))
        self.quiet = 0 if unusual > _STILL * excess * width else self.quiet + 1
        if self.sign * (calls - expected) > _STILL * excess:
            self.last_unusual = now

    def is_over(self, now: int) -> bool:
        """Returns whether activity is usual again, or the incident has lasted for a day."""
        return self.quiet >= QUIET_MINUTES or now - self.start >= MAX_MINUTES

    @property
    def end(self) -> int:
        """The minute after the last unusual one."""
        return self.last_unusual + 1
