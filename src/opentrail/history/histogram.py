"""Histograms of events: consecutive periods of a round length."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from opentrail.ports.event_store import PeriodCounts

#: Periods of a histogram, at most.
MAX_BUCKETS = 120
#: Seconds.
HOUR = 3_600
#: Seconds.
_DAY = 86_400
#: Seconds of the periods; longer ones are multiples of the last.
_ROUND = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(HOUR * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY * days for days in (1, 2, 7, 14, 30, 90, 365)),
)
#: Start of the range of `datetime`, in seconds since 1970.
_FIRST_SECOND = -62_135_596_800
#: End of that range.
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Histogram:
    """The counts of consecutive periods of `seconds` seconds, empty ones included.

    `start` is the start of the first one, `end` the end of the last one.
    """

    start: datetime
    end: datetime
    seconds: int
    periods: list[PeriodCounts]


def round_period(first: int, last: int, most: int) -> int:
    """Returns the seconds of the shortest round periods of which `most` contain both times.

    `most` is at least 2: no single period contains times before and after 1970.

    >>> round_period(0, 3_599, 60)
    60
    """
    multiples = (_ROUND[-1] << doubled for doubled in itertools.count(1))
    periods = itertools.chain(_ROUND, multiples)
    return next(period for period in periods if last // period - first // period < most)


def histogram_of(counts: Sequence[PeriodCounts], seconds: int, first: int, last: int) -> Histogram:
    """Returns the histogram of counts between two times, in seconds since 1970.

    The periods of the counts are as long as those of the histogram, or parts of them.
    """
    sums = {number: [0, 0] for number in range(first // seconds, last // seconds + 1)}
    for period in counts:
        results = sums[int(period.start.timestamp()) // seconds]
        results[0] += period.ok
        results[1] += period.failed
    starts = [_moment(number * seconds) for number in sums]
    end = _moment((max(sums, default=first // seconds - 1) + 1) * seconds)
    periods = [
        PeriodCounts(start, *results) for start, results in zip(starts, sums.values(), strict=True)
    ]
    return Histogram(starts[0] if starts else end, end, seconds, periods)


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(max(_FIRST_SECOND, min(second, _LAST_SECOND)), UTC)
