"""Findings: unusual activity of a key or a principal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

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
