"""The operating system behind ports: the clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Returns the present time, aware and UTC."""
        return datetime.now(UTC)
