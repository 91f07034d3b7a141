"""Plain detectors to compare with: flat bounds, Holt-Winters, a seasonal negative binomial.

They look at sums of a few minutes for surges and of an hour for drops. At no minute do they use
a later one; what they learn of a day applies from the next midnight on. Windows, floors and
limits are those with the best F1 on other seeds than 1 to 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.insights.schedule import DAY, Counts, Floats
from benchmarks.insights.scoring import Finding
from benchmarks.insights.workload import Workload

Flags = NDArray[np.bool_]
Detector = Callable[[Workload], list[Finding]]

DROP_WINDOW = 60
QUIET = 10
#: Fewest expected calls of an hour that can drop.
DROP_FLOOR = 25
#: Keys that are computed together, to bound memory.
_CHUNK = 50


def rolling_sums(counts: NDArray[np.generic], window: int) -> Floats:
    """Returns for each minute the sum of the `window` minutes that end with it."""
    total = np.cumsum(counts, axis=1, dtype=np.float64)
    total[:, window:] -= total[:, :-window].copy()
    return total


def to_findings(flags: Flags, first_key: int, first: int, window: int, up: bool) -> list[Finding]:
    """Makes a finding of each run of flags that ten minutes without a flag end.

    `first` is the minute of the first column. A finding starts with the window that was flagged.
    """
    findings = []
    for key in np.flatnonzero(flags.any(axis=1)).tolist():
        minutes = np.flatnonzero(flags[key]) + first
        breaks = np.flatnonzero(np.diff(minutes) > QUIET) + 1
        for run in np.split(minutes, breaks):
            detected, last = int(run[0]), int(run[-1])
            start = detected - window + 1
            findings.append(Finding(first_key + key, start, last + 1, detected, up))
    return findings


def _chunks(workload: Workload) -> Iterator[tuple[int, Counts]]:
    for key in range(0, workload.keys, _CHUNK):
        yield key, workload.counts[key : key + _CHUNK]


def _by_day(values: Floats) -> Floats:
    return values.reshape(values.shape[0], -1, DAY)


def flat(
    workload: Workload, days: int, deviations: float, window: int = 15, floor: int = 20
) -> list[Finding]:
    """Mean and standard deviation over the last `days` days, the same bound all day."""
    findings = []
    scored_day = workload.scored_start // DAY
    for first_key, counts in _chunks(workload):
        for width, up in ((window, True), (DROP_WINDOW, False)):
            sums = _by_day(rolling_sums(counts, width))
            means, squares = sums.mean(axis=2), (sums**2).mean(axis=2)
            flags = np.zeros_like(sums[:, scored_day:], dtype=bool)
            for day in range(scored_day, sums.shape[1]):
                past = slice(max(0, day - days), day)
                mean = means[:, past].mean(axis=1, keepdims=True)
                square = squares[:, past].mean(axis=1, keepdims=True)
                bound = deviations * np.sqrt(np.maximum(square - mean**2, 0))
                now = sums[:, day]
                flags[:, day - scored_day] = (
                    (now > np.maximum(mean + bound, floor - 1))
                    if up
                    else (now < mean - bound) & (mean >= DROP_FLOOR)
                )
            flags = flags.reshape(len(counts), -1)
            findings += to_findings(flags, first_key, workload.scored_start, width, up)
    return findings


#: Holt-Winters' smoothing of level and season.
_LEVEL, _SEASON = 0.01, 0.2


def holt_winters(
    workload: Workload, deviations: float, window: int = 15, floor: int = 20
) -> list[Finding]:
    """Additive level and daily season on bins of `window` minutes, bounds by Brutlag."""
    bins = workload.counts.reshape(workload.keys, -1, window).sum(axis=2).astype(np.float64)
    slots = DAY // window
    level = bins[:, :slots].mean(axis=1)
    season = (bins[:, :slots] - level[:, None]).T.copy()
    deviation = np.abs(season)
    ups, downs = np.zeros(bins.shape, bool), np.zeros(bins.shape, bool)
    for time in range(slots, bins.shape[1]):
        slot = time % slots
        now, expected = bins[:, time], np.maximum(level + season[slot], 0)
        width = deviations * deviation[slot]
        ups[:, time] = now > np.maximum(expected + width, floor - 1)
        downs[:, time] = (now < expected - width) & (expected >= DROP_FLOOR)
        level += _LEVEL * (now - season[slot] - level)
        error = np.abs(now - expected)
        season[slot] += _SEASON * (now - level - season[slot])
        deviation[slot] += _SEASON * (error - deviation[slot])
    findings = []
    for flags, up in ((ups, True), (downs, False)):
        # A bin is known at its last minute and holds until the next one.
        minutes = np.repeat(flags, window, axis=1)[:, : 1 - window]
        minutes = minutes[:, workload.scored_start - window + 1 :]
        findings += to_findings(minutes, 0, workload.scored_start, window, up)
    return findings


_HALF_HOURS = 48


def negative_binomial(
    workload: Workload, limit: float, window: int = 15, floor: int = 20
) -> list[Finding]:
    """Mean by half-hour of the week and the tail of a negative binomial.

    `limit` is the smallest -ln of Chernoff's bound of the tail's probability.
    """
    findings = []
    scored_day = workload.scored_start // DAY
    for first_key, counts in _chunks(workload):
        means = [_expected(counts, day) for day in range(7, workload.minutes // DAY)]
        for width, up in ((window, True), (DROP_WINDOW, False)):
            sums = _by_day(rolling_sums(counts, width))
            expected = np.stack(means, axis=1) * width
            dispersion = _dispersion(sums[:, 7:], expected)
            flags = np.zeros_like(sums[:, scored_day:], dtype=bool)
            for day in range(scored_day, sums.shape[1]):
                size = 1 / np.clip(dispersion[:, day - 7, None], 1e-3, 20)
                now, mean = sums[:, day], expected[:, day - 7]
                unlikely = tail(now, mean, size) >= limit
                flags[:, day - scored_day] = unlikely & (
                    ((now > mean) & (now >= floor)) if up else ((now < mean) & (mean >= DROP_FLOOR))
                )
            flags = flags.reshape(len(counts), -1)
            findings += to_findings(flags, first_key, workload.scored_start, width, up)
    return findings


def _expected(counts: Counts, day: int) -> Floats:
    """Returns the mean per minute of a day: half of that weekday, half of all of the 28 days."""
    past = counts[:, max(0, day - 28) * DAY : day * DAY]
    halves = past.reshape(len(counts), -1, _HALF_HOURS, DAY // _HALF_HOURS).mean(axis=3)
    same = halves[:, ::-1][:, 6::7].mean(axis=1)
    mean = 0.5 * same + 0.5 * halves.mean(axis=1)
    smooth = (np.roll(mean, 1, axis=1) + 2 * mean + np.roll(mean, -1, axis=1)) / 4
    return np.repeat(smooth + 1 / DAY, DAY // _HALF_HOURS, axis=1)


def _dispersion(sums: Floats, expected: Floats) -> Floats:
    """Returns 1/size for each day from the days before it."""
    excess = np.cumsum(((sums - expected) ** 2 - expected).sum(axis=2), axis=1)
    scale = np.cumsum((expected**2).sum(axis=2), axis=1)
    found = np.ones_like(excess)
    found[:, 1:] = excess[:, :-1] / scale[:, :-1]
    return found


def tail(calls: Floats, mean: Floats, size: Floats) -> Floats:
    """Returns -ln of Chernoff's bound for a negative binomial to be as far from its mean."""
    calls = np.maximum(calls, 1e-9)
    return np.asarray(
        calls * np.log(calls / mean) - (calls + size) * np.log((calls + size) / (mean + size))
    )


BASELINES: dict[str, Detector] = {
    **{
        f"mean + {deviations} sd, {days} days": partial(flat, days=days, deviations=deviations)
        for days in (7, 28)
        for deviations in (3, 6, 10, 20)
    },
    "Holt-Winters, 12 deviations": partial(holt_winters, deviations=12),
    "Holt-Winters, 25 deviations": partial(holt_winters, deviations=25),
    "seasonal negative binomial, 16": partial(negative_binomial, limit=16),
    "seasonal negative binomial, 30": partial(negative_binomial, limit=30),
}
