"""Labelled incidents: changes of a key's counts that a detector should report, or at least may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.insights.schedule import DAY, WEEK, Counts, Floats
from benchmarks.insights.traffic import ERROR_KINDS, Generator, log_uniform

Changes = NDArray[np.int64]

#: Calls that an incident adds at least; fewer are no incident.
MIN_CALLS = 12
#: Minutes between two incidents of one key at least.
APART = 360
#: Windows in minutes in which an incident is compared with what the key shows otherwise.
WINDOWS = (1, 5, 15, 60)


@dataclass(frozen=True, eq=False)
class Incident:
    """An incident of one key; `change` is what it adds to (or removes from) each minute."""

    key: int
    start: int
    end: int
    type: str
    #: Traffic during the incident over traffic without it; infinite if there was none.
    factor: float
    up: bool
    plain: bool
    scored: bool
    #: Identity ARN that makes at least 85 % of the additional calls; None for drops.
    culprit: str | None
    change: Changes


@dataclass(frozen=True, eq=False)
class Change:
    """What a type of incident does to a row from `start` on."""

    start: int
    change: Changes
    factor: float


Draw = Callable[[Generator, Counts, int], Change | None]


def _under_way(row: Counts, start: int) -> bool:
    """Returns whether calls came in each third of the last hour."""
    return start >= 60 and bool(row[start - 60 : start].reshape(3, 20).any(axis=1).all())


def _at_usual_level(row: Counts, start: int) -> bool:
    """Returns whether the last hour had at least as many calls as on half of the same weekdays.

    A multiple of a lull is not a surge.
    """
    ends = range(start % WEEK, row.size, WEEK)
    hours = [int(row[max(0, end - 60) : end].sum()) for end in ends]
    return hours[start // WEEK] >= float(np.median(hours))


def _added(rng: Generator, row: Counts, start: int, rate: Floats) -> Change | None:
    """Draws additional calls of the given rate; None if they are too few for an incident."""
    noisy = rate * rng.gamma(10, 0.1, rate.size)
    change = rng.poisson(noisy).astype(np.int64)
    if change.sum() < MIN_CALLS:
        return None
    first, last = np.flatnonzero(change)[[0, -1]]
    change = change[first : last + 1]
    start += int(first)
    normal = int(row[start : start + change.size].sum())
    return Change(start, change, (normal + float(change.sum())) / normal if normal else np.inf)


def surge(rng: Generator, row: Counts, start: int) -> Change | None:
    """Current traffic times 2, 3, 5 or 10 for 8 to 60 minutes.

    A surge times 5 or 10 is more than the key shows around that hour on any other day.
    """
    duration = int(rng.integers(8, 61))
    factor = float(rng.choice([2, 3, 5, 10]))
    rate = row[start - 60 : start + duration].mean()
    if (
        not _under_way(row, start)
        or rate * duration < 2 * MIN_CALLS
        or not _at_usual_level(row, start)
    ):
        return None
    added = _added(rng, row, start, np.full(duration, (factor - 1) * rate))
    if added is None or (factor >= 5 and not _is_unseen(row, added)):
        return None
    return Change(added.start, added.change, factor)


def _is_unseen(normal: Counts, change: Change) -> bool:
    """Returns whether a change is above the sums around its hour on all other days."""
    end = change.start + change.change.size
    during = normal[change.start : end].sum() + change.change.sum()
    return bool(during > _elsewhere(normal, change.start, end, change.change.size)[0])


def spike(rng: Generator, row: Counts, start: int) -> Change | None:
    """One to five minutes, two to thirty times the key's usual active minute."""
    active = row[row > 0]
    if active.size < 20:
        return None
    rate = max(6.0, float(active.mean()) * log_uniform(rng, 2, 30))
    return _added(rng, row, start, np.full(int(rng.integers(1, 6)), rate))


def error_storm(rng: Generator, row: Counts, start: int) -> Change | None:
    """Errors for 5 to 60 minutes, 1.5 to 60 a minute."""
    duration = int(log_uniform(rng, 5, 60))
    rate = max(log_uniform(rng, 1.5, 60), 2 * float(row[start - 60 : start].mean()))
    return _added(rng, row, start, np.full(duration, rate))


def new_api(rng: Generator, row: Counts, start: int) -> Change | None:
    """A burst of an API that was called five times at most before."""
    if row[:start].sum() > 5:
        return None
    duration = int(log_uniform(rng, 1, 30))
    calls = max(1.5 * MIN_CALLS, rng.lognormal(np.log(60), 0.9))
    return _added(rng, row, start, np.full(duration, calls / duration))


def ramp(rng: Generator, row: Counts, start: int) -> Change | None:
    """Traffic that rises steadily to four to ten times, holds for a while and ends."""
    rise, hold = int(rng.integers(20, 121)), int(rng.integers(5, 31))
    rate = row[start - 60 : start + rise].mean()
    factor = log_uniform(rng, 4, 10)
    if not _under_way(row, start) or (factor - 1) * rate * (hold + rise / 2) < 3 * MIN_CALLS:
        return None
    shape = np.concatenate([np.linspace(0, 1, rise), np.ones(hold)])
    return _added(rng, row, start, shape * (factor - 1) * rate)


def leak(rng: Generator, row: Counts, start: int) -> Change | None:
    """A slow addition over 2 to 12 hours: a third to three times the key's usual rate."""
    duration = int(log_uniform(rng, 120, 720))
    rate = max(float(row[start - 120 : start].mean()), float(row.mean()))
    added = max(log_uniform(rng, 0.15, 0.6), rate * log_uniform(rng, 0.33, 3))
    return _added(rng, row, start, np.full(duration, added))


def wave(rng: Generator, row: Counts, start: int) -> Change | None:
    """Three to ten minutes on, five to twenty off, for one to four hours."""
    duration, on, off = (
        int(rng.integers(60, 241)),
        int(rng.integers(3, 11)),
        int(rng.integers(5, 21)),
    )
    rate = max(log_uniform(rng, 1, 8), float(row[start - 60 : start].mean()) * rng.uniform(2, 9))
    return _added(rng, row, start, np.where(np.arange(duration) % (on + off) < on, rate, 0.0))


def drop(rng: Generator, row: Counts, start: int) -> Change | None:
    """A steady key falls to nothing or a tenth for 30 to 180 minutes."""
    end = start + int(rng.integers(30, 181))
    before = row[max(0, start - 160) : start]
    blocks = before.reshape(-1, 20).sum(axis=1) if before.size == 160 else np.zeros(1)
    if blocks.min() == 0 or blocks.std() > 0.5 * blocks.mean() or row[start:end].sum() < 40:
        return None
    factor = float(rng.choice([0, 0, 0.1]))
    left = rng.binomial(row[start:end], factor)
    return Change(start, left.astype(np.int64) - row[start:end], factor)


#: Each type of incident with its share of all incidents.
TYPES: dict[str, tuple[Draw, float]] = {
    "surge": (surge, 0.30),
    "spike": (spike, 0.12),
    "error storm": (error_storm, 0.15),
    "new API": (new_api, 0.12),
    "ramp": (ramp, 0.07),
    "leak": (leak, 0.07),
    "wave": (wave, 0.06),
    "drop": (drop, 0.11),
}
#: Attempts to find a key and a minute at which a type of incident is possible.
_ATTEMPTS = 400


def _may_have(type_: str, kind: str, counts_errors: bool) -> bool:
    """Returns whether keys of a kind have incidents of a type."""
    if type_ == "error storm":
        return counts_errors
    if type_ == "new API":
        return kind == "rare" and not counts_errors
    if type_ == "drop":
        return kind not in ERROR_KINDS and kind != "rare"
    return not counts_errors and kind != "rare"


def plan_types(rng: Generator, number: int) -> list[str]:
    """Returns the types of `number` incidents, each by its share, in random order."""
    shares = np.array([share for _, share in TYPES.values()])
    edges = np.round(np.cumsum(shares / shares.sum()) * number).astype(int)
    types = np.repeat(list(TYPES), np.diff(edges, prepend=0))
    return [str(one) for one in rng.permutation(types)]


class Injection:
    """Places incidents into the counts of an account, apart from each other."""

    def __init__(
        self,
        rng: Generator,
        counts: NDArray[np.uint16],
        kinds: list[str],
        errors: NDArray[np.bool_],
    ) -> None:
        self._rng = rng
        self._counts = counts
        self._busy: dict[int, list[tuple[int, int]]] = {}
        self._eligible = {
            type_: [
                key for key, kind in enumerate(kinds) if _may_have(type_, kind, bool(errors[key]))
            ]
            for type_ in TYPES
        }

    def place(self, type_: str, first: int, last: int) -> tuple[int, Change] | None:
        """Changes the counts of one key between the minutes; None if no place was found."""
        keys = self._eligible[type_]
        for _ in range(_ATTEMPTS if keys else 0):
            key = int(self._rng.choice(keys))
            start = int(self._rng.integers(first, last))
            row = self._counts[key]
            change = TYPES[type_][0](self._rng, row, start)
            if change is None or not self._is_free(key, change, last):
                continue
            if type_ == "new API" and key in self._busy:
                # It would not be new, or the other incident's API would not be.
                continue
            span = slice(change.start, change.start + change.change.size)
            row[span] = np.clip(row[span] + change.change, 0, np.iinfo(row.dtype).max)
            self._busy.setdefault(key, []).append((span.start, span.stop))
            return key, change
        return None

    def _is_free(self, key: int, change: Change, last: int) -> bool:
        start, end = change.start, change.start + change.change.size
        return end < last + DAY // 2 and all(
            end + APART <= other_start or start >= other_end + APART
            for other_start, other_end in self._busy.get(key, [])
        )


def is_plain(normal: Counts, change: Change, type_: str) -> bool:
    """Returns whether an incident sticks out of everything that its key shows otherwise.

    Drops and doubled traffic never do. Others do if in some window up to their duration their
    calls, with the normal ones, are three times the largest sum within an hour of the same time on
    any other day, and not below the key's usual bursts: the 95th percentile of the largest sums of
    its active days.
    """
    if type_ == "drop" or (type_ == "surge" and change.factor == 2):
        return False
    return any(
        _sticks_out(normal, change, window)
        for window in WINDOWS
        if window == 1 or window <= change.change.size
    )


def _sums(values: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Returns the sum of each `window` successive values."""
    total = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(total[window:] - total[:-window])


def _sticks_out(normal: Counts, change: Change, window: int) -> bool:
    start, end = change.start, change.start + change.change.size
    during = normal[start:end].astype(np.int64) + change.change
    peak = int(_sums(during, window).max())
    near, daily = _elsewhere(normal, start, end, window)
    active = daily[daily > 0]
    usual_burst = float(np.percentile(active, 95)) if active.size else 0.0
    return peak >= 3 * near and peak >= usual_burst and peak >= 8


def _elsewhere(normal: Counts, start: int, end: int, window: int) -> tuple[int, Changes]:
    """Returns the largest sum within an hour of the clock time, and each day's largest sum.

    The days between `start` and `end` are left out.
    """
    sums = np.zeros(normal.size, np.int64)
    sums[window - 1 :] = _sums(normal.astype(np.int64), window)
    days = np.arange(start // DAY, (end - 1) // DAY + 1)
    others = np.delete(sums.reshape(-1, DAY), days, axis=0)
    clock = np.arange(start - 60, min(end + 60, start - 60 + DAY)) % DAY
    return int(others[:, clock].max()), others.max(axis=1)
