"""Findings: unusual activity of a key or a principal; incidents that were marked as expected.

The mark of an incident suppresses later ones up to its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore
from opentrail.ports.event_store import CallKey

#: Widths in minutes of the windows in which more calls than usual are looked for.
WINDOWS = (1, 5, 15, 60, 240)


@dataclass(frozen=True, slots=True)
class Detection:
    """Unusual activity of a key: its start, or its end if that is known.

    Times are minutes since 1970. `found` is the minute after whose events it was found, and `since`
    the first minute that is known about anything.
    """

    number: int
    key: CallKey
    start: int
    found: int
    rises: bool
    end: int | None
    since: int


@dataclass(frozen=True, slots=True)
class PrincipalFinding:
    """A first use, or the start or the end of a burst, of a type beyond AWS's two.

    `start` and `end` are seconds since 1970; only a burst that is over has an end. `usual` is what
    the type counted in the `days` before, `observed` what it counts now. The other members are
    those of the event that was found.
    """

    number: int
    type: str
    account: str
    region: str
    principal: str | None
    value: str | None
    event_source: str
    event_name: str
    event_id: str | None
    start: int
    end: int | None
    usual: int
    observed: int
    days: int


class WatchState(msgspec.Struct, frozen=True):
    """The progress of a watch. `now` is the last closed minute, `since` the first known one."""

    is_learned: bool = False
    #: Position of the last entry, and number of the last imported event, that are counted.
    cursor: int = 0
    imported: int = 0
    now: int = 0
    since: int = 0
    keys: int = 0
    #: Calls that are not counted, because there were too many keys.
    unwatched: int = 0
    incidents: int = 0
    #: What is found and not acknowledged yet.
    findings: tuple[Detection, ...] = ()
    principal_findings: tuple[PrincipalFinding, ...] = ()
    #: Uses that the types about principals do not watch, because there were too many values.
    unwatched_uses: int = 0


def minute_of(moment: datetime) -> int:
    """Returns minutes since 1970.

    >>> minute_of(datetime(1970, 1, 1, 1, 0, 59, tzinfo=UTC))
    60
    """
    return int(moment.timestamp()) // 60


def time_of(minute: int) -> datetime:
    """Returns the beginning of a minute; the inverse of `minute_of`.

    >>> minute_of(time_of(29_000_000))
    29000000
    """
    return datetime.fromtimestamp(minute * 60, UTC)


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


class ExpectedIncidents(Collection[Expected]):
    """The marks, in the control store, by incident; a second mark replaces the first one."""

    def __init__(self, control: ControlStore) -> None:
        super().__init__(control, _KIND, Codec.of(Expected))

    async def notes(self) -> dict[str, str]:
        """Returns the notes of all marked incidents by id."""
        return {mark.id: mark.note for mark in await self.all()}

    async def that_count(self, now: datetime) -> list[Expected]:
        """Returns the marks that still count."""
        oldest = minute_of(now - COUNTS)
        return [mark for mark in await self.all() if mark.start >= oldest]
