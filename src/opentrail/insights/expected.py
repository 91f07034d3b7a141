"""Incidents that were marked as expected, which suppresses later ones up to their size."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from opentrail.insights.findings import WINDOWS, minute_of
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.event_store import CallKey

#: How long the mark of an incident counts.
COUNTS = timedelta(days=90)
_KIND = "expected-incident"


class Expected(msgspec.Struct, frozen=True):
    """An expected incident. `largest` are its largest numbers of calls in each of `WINDOWS`.

    For `COUNTS` after its start, only more calls than these are unusual; after a drop, no drop is.
    """

    id: str
    key: CallKey
    start: int
    rises: bool
    largest: list[float]
    note: str = ""


def largest_sums(counts: Sequence[int]) -> list[float]:
    """Returns the largest number of calls in each of `WINDOWS`.

    >>> largest_sums([1, 5, 2])
    [5.0, 8.0, 8.0, 8.0, 8.0]
    """
    return [
        float(max(sum(counts[at : at + width]) for at in range(max(1, len(counts) - width + 1))))
        for width in WINDOWS
    ]


class ExpectedIncidents:
    """The marks, in the control store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    async def add(self, expected: Expected) -> None:
        """Marks an incident; a second mark replaces the first one."""
        document: dict[str, Any] = msgspec.to_builtins(expected)
        await self._control.apply([Put(_KIND, expected.id, document)])

    async def notes(self) -> dict[str, str]:
        """Returns the notes of all marked incidents by id."""
        return {mark.id: mark.note for mark in await self._all()}

    async def that_count(self, now: datetime) -> list[Expected]:
        """Returns the marks that still count."""
        oldest = minute_of(now - COUNTS)
        return [mark for mark in await self._all() if mark.start >= oldest]

    async def _all(self) -> list[Expected]:
        entries = await self._control.scan(_KIND)
        return [msgspec.convert(entry.document, Expected) for entry in entries]
