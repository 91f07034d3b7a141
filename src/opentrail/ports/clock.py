"""The clock, as a dependency that tests can replace."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A clock."""

    def now(self) -> datetime:
        """Return the current time, aware and UTC."""
        ...
