"""The usual values of each key: its calls by time of day, their variance, and its records.

A key's index is its place on the last axis of every array. Minutes, half-hours and days are
numbers since 1970, in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opentrail.insights.findings import WINDOWS

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

DAY = 1440
#: Widths in minutes of the windows in which the detector looks for drops; the last one of all is
#: for `_UNTIL_NOW`.
DROP_WINDOWS = (30, 60, 120)
_WIDTHS = (*WINDOWS, *DROP_WINDOWS, 135)
#: Places in `sums` of the two windows whose difference is the two hours until 15 minutes ago.
_UNTIL_NOW, _RECENT = 8, 2
#: Number of minutes with a stored count each.
RING = 300
#: Days over which the largest scores are kept.
DAYS = 28
#: Days after which the highest score of a day may be of an incident that was not found.
_ENOUGH_DAYS = 14
#: Keys whose half-hours and days end together; a limit, because the computation needs memory.
_BLOCK = 4096
#: Number of half-hours with stored expected rates.
_SLOTS = 12
#: The place of the current one, the next to last.
_CURRENT = 10
#: Weight of a day in a profile, relative to the day after it.
_DAY_DECAY = 0.95
#: Weights of days for another day: days of the same weekday, of the same part of the week, others.
_SAME_DAY, _SAME_CLASS, _OTHER = 1.0, 0.35, 0.04
_ALL_DAYS = 0.3
#: Assumed clump of a key with little history; see `dispersion`.
_PRIOR_CLUMP = 1.0
#: Weight of this assumption, in calls.
_PRIOR_CALLS = 5.0
#: Assumed noise of a key with little history.
_PRIOR_NOISE = 1.0
#: Weight of this assumption, in cubes of calls.
_PRIOR_CUBES = 5.0
#: Weights of the day before, relative to the day after it.
_SPREAD_DECAY = 0.9
_ENVELOPE_DECAY = 0.985
#: Share of a day's largest numbers of calls that counts for the other part of the week.
_OTHER_CLASS = 0.8
#: Largest number that half precision holds, nearly.
_MAX_HALF = 60_000.0
NEVER = -1
#: Age of the minutes that leave the windows now.
_LEAVING = np.array(_WIDTHS)
#: Standard deviations beyond which calls do not count as more dispersed.
_CLIP = 3.0

#: Name → shape without the keys' axis, type, first value.
_ARRAYS: dict[str, tuple[tuple[int, ...], type, float]] = {
    # Calls of each minute, without calls of incidents.
    "ring": ((RING,), np.float16, 0),
    # Sums of calls in the windows that end now.
    "sums": ((len(_WIDTHS),), np.float32, 0),
    # Calls per minute in the half-hours of each weekday: sums over days, weighted by age.
    "profile": ((7, 48), np.float16, 0),
    "today": ((48,), np.float16, 0),
    # The largest score of each day: of the windows for rises, then of those for drops.
    "peaks": ((len(WINDOWS) + len(DROP_WINDOWS), DAYS + 1), np.float16, 0),
    "highest": ((len(WINDOWS) + len(DROP_WINDOWS),), np.float32, 0),
    # The largest number of calls in a window in each hour, on weekdays and at weekends.
    "envelope": ((2, len(WINDOWS), 24), np.float16, 0),
    "envelope_today": ((len(WINDOWS), 24), np.float16, 0),
    # Sums of r, r * m, m, m² and m³, where m is the expected number of calls in a window and r is
    # (calls - m)² - m; and values derived from them, see `dispersion`.
    "spread": ((5, len(WINDOWS)), np.float32, 0),
    "clump": ((len(WINDOWS),), np.float32, _PRIOR_CLUMP),
    "noise": ((len(WINDOWS),), np.float32, _PRIOR_NOISE),
    # Calls and expected calls of about a day, from which the level is computed.
    "level_sums": ((2,), np.float32, 0),
    "level": ((), np.float32, 1),
    # Expected calls per minute in the last and the next half-hours.
    "slots": ((_SLOTS,), np.float32, 0),
    # The same, but no more than in each half-hour itself.
    "lows": ((_SLOTS,), np.float32, 0),
    "first": ((), np.int32, NEVER),
    "last": ((), np.int32, NEVER),
    "total": ((), np.float32, 0),
}


def weekday(day: int) -> int:
    """Returns 0 for a Monday.

    >>> weekday(0)  # 1970-01-01 was a Thursday
    3
    """
    return (day + 3) % 7


@dataclass(frozen=True, slots=True)
class Moment:
    """A minute of some keys: their calls in all windows, and the rates expected around it."""

    minute: int
    rows: Rows
    sums: Floats
    slots: Floats

    def of(self, places: Rows) -> Moment:
        """Returns the same of some of the keys."""
        sums, slots = self.sums[:, places], self.slots[:, places]
        return Moment(self.minute, self.rows[places], sums, slots)


class Baselines:
    """The baselines of all keys, advanced minute by minute."""

    ring: NDArray[np.float16]
    sums: Floats
    profile: NDArray[np.float16]
    today: NDArray[np.float16]
    peaks: NDArray[np.float16]
    highest: Floats
    envelope: NDArray[np.float16]
    envelope_today: NDArray[np.float16]
    spread: Floats
    clump: Floats
    noise: Floats
    level_sums: Floats
    level: Floats
    slots: Floats
    lows: Floats
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    total: Floats

    def __init__(self, since: int) -> None:
        #: Keys, and the room for keys in the arrays.
        self.count = self._room = 0
        #: The last closed minute.
        self.now = since - 1
        self._half = since // 30
        self._day = since // DAY
        self._grow(64)

    def _grow(self, room: int) -> None:
        for name, (shape, kind, fill) in _ARRAYS.items():
            # Memory that stays zero is not used yet.
            array: NDArray[Any] = np.zeros((*shape, room), kind)
            if fill:
                array[:] = fill
            if self._room:
                array[..., : self._room] = getattr(self, name)
            setattr(self, name, array)
        self._room = room

    def add(self, count: int) -> None:
        """Adds keys without calls."""
        self.count += count
        while self.count > self._room:
            self._grow(self._room + self._room // 4 + 64)

    def keep(self, rows: Rows) -> None:
        """Forgets all keys but these, which are then numbered in this order."""
        self.count = len(rows)
        for name, (_, _, fill) in _ARRAYS.items():
            array = getattr(self, name)
            array[..., : self.count] = array[..., rows]
            array[..., self.count :] = fill

    # Minutes

    def begin(self, minute: int) -> None:
        """Begins the minute after `now`; half-hours and days that have ended are learned."""
        half, day, n = minute // 30, minute // DAY, self.count
        if half != self._half:
            for first in range(0, n, _BLOCK):
                rows = slice(first, min(first + _BLOCK, n))
                self._end_half(rows)
                if day != self._day:
                    self._end_day(rows)
                self.slots[:, rows], self.lows[:, rows] = self._slots(rows, half)
            self._half, self._day = half, day
        self.sums[:, :n] -= self.ring[(minute - _LEAVING) % RING, :n]
        self.ring[minute % RING, :n] = 0
        self.now = minute

    def add_calls(self, rows: Rows, calls: Floats) -> None:
        """Counts calls of the current minute."""
        calls = np.minimum(calls, _MAX_HALF).astype(np.float16)
        self.ring[self.now % RING, rows] = calls
        self.sums[:, rows] += calls.astype(np.float32)
        self.first[rows] = np.where(self.first[rows] == NEVER, self.now, self.first[rows])
        self.last[rows] = self.now
        self.total[rows] += calls

    def calls(self, row: int, minutes: int, until: int) -> Floats:
        """Returns the calls of each minute up to `until`, newest first."""
        places = (until - np.arange(minutes)) % RING
        calls: Floats = self.ring[places, row].astype(np.float32)
        return calls

    def add_late(self, rows: Rows, minute: int, calls: Floats) -> None:
        """Counts calls of a minute that is over, but still in the ring."""
        for row, late in zip(rows.tolist(), calls.tolist(), strict=True):
            self.replace(row, minute, float(self.ring[minute % RING, row]) + late)
        is_known = self.first[rows] != NEVER
        self.first[rows] = np.where(is_known, np.minimum(self.first[rows], minute), minute)
        self.last[rows] = np.maximum(self.last[rows], minute)
        self.total[rows] += calls

    def replace(self, row: int, minute: int, calls: float) -> None:
        """Replaces the calls of a minute that is still in the ring."""
        place = minute % RING
        previous = self.ring[place, row]
        self.ring[place, row] = min(calls, _MAX_HALF)
        difference = np.float32(self.ring[place, row]) - np.float32(previous)
        for window, width in enumerate(_WIDTHS):
            if minute > self.now - width:
                self.sums[window, row] += difference
        if minute // 30 < self._half and minute // DAY == self._day:
            self.today[minute // 30 % 48, row] += np.float16(difference / 30)

    # Expected calls

    def current(self, rows: Rows) -> Moment:
        """Returns the current minute of keys."""
        return Moment(self.now, rows, self.sums[:, rows], self.slots[:, rows])

    def past(self, rows: Rows, minute: int) -> Moment:
        """Returns a minute that is over; windows that begin too early have no calls."""
        places = (minute - np.arange(max(_WIDTHS))) % RING
        upto = self.ring[:, rows][places].astype(np.float32).cumsum(axis=0)
        available = RING - (self.now - minute)
        sums = np.stack([upto[width - 1] * (width <= available) for width in _WIDTHS])
        return Moment(minute, rows, sums, self._slots(rows, minute // 30)[0])

    def at(self, rows: Rows, minute: int) -> Moment:
        """Returns the current or an earlier minute of keys."""
        return self.current(rows) if minute == self.now else self.past(rows, minute)

    def expected_by_recent_rate(self, at: Moment) -> Floats:
        """Returns the calls that each of `DROP_WINDOWS` would have at the rate of before it.

        It is 0 unless each of the three 40 minutes before the window had calls, at about the same
        rate.
        """
        span = DROP_WINDOWS[-1] + 120
        places = (self.now - np.arange(span)) % RING
        upto = self.ring[:, at.rows][places].astype(np.float32).cumsum(axis=0)
        expected = np.zeros((len(DROP_WINDOWS), len(at.rows)), np.float32)
        for place, width in enumerate(DROP_WINDOWS):
            parts = np.diff(upto[width - 1 : width + 120 : 40], axis=0)
            rate = parts.mean(axis=0) / 40
            steady = parts.min(axis=0) >= 0.4 * parts.mean(axis=0)
            expected[place] = np.where(steady, rate * width, 0)
        return expected

    def is_new(self, at: Moment) -> NDArray[np.bool_]:
        """Returns whether there is no whole day yet from which a profile could be made."""
        return at.minute // DAY - self.first[at.rows] // DAY < 2

    def age(self, at: Moment) -> Floats:
        """Returns the days since the first call of each key."""
        return ((at.minute - self.first[at.rows]) / DAY).astype(np.float32)

    def _expected(self, at: Moment) -> Floats:
        """Returns the expected calls in each of the windows, without the level."""
        expected: Floats = np.einsum("sw,sn->wn", _WEIGHTS[at.minute % 30], at.slots)
        return expected

    def _expected_of_new(self, at: Moment) -> Floats:
        """Returns the expected calls per minute of new keys."""
        age = (at.minute - self.first[at.rows]).astype(np.float32)
        later = (self.now - np.arange(self.now - at.minute)) % RING
        calls = self.total[at.rows] - self.ring[later[:, None], at.rows].sum(0, np.float32)
        calls -= at.sums[3]  # all but the last hour's
        return np.where(age < 60, 0.5 / 60, (np.maximum(calls, 0) + 0.5) / (age + 60))

    def expected_rises(self, at: Moment) -> Floats:
        """Returns the expected calls in each of `WINDOWS`: no fewer than usual."""
        expected = self._expected(at) * np.maximum(self.level[at.rows], 1)
        local = at.sums[_UNTIL_NOW] - at.sums[_RECENT]
        usual = expected[_UNTIL_NOW] - expected[_RECENT]
        windows = expected[: len(WINDOWS)]
        windows[:3] *= np.clip((local + 20) / (usual + 20), 0.6, 1.8)
        new_places = np.nonzero(self.is_new(at))[0]
        if len(new_places):
            rate = self._expected_of_new(at.of(new_places))
            windows[:, new_places] = rate * np.array(WINDOWS, np.float32)[:, None]
        return windows

    def dispersion(self, rows: Rows, expected: Floats) -> Floats:
        """Returns the sizes of negative binomial counts in each of `WINDOWS`.

        Calls come in clumps, and their rate varies: where m are expected, the variance is
        m (1 + clump) + noise m².
        """
        excess = self.clump[:, rows] / np.maximum(expected, 1e-9) + self.noise[:, rows]
        sizes: Floats = (1 / np.maximum(excess, 1e-6)).astype(np.float32)
        return sizes

    def expected_drops(self, at: Moment) -> Floats:
        """Returns the expected calls in each of `DROP_WINDOWS`: no more than usual."""
        weights = _WEIGHTS[at.minute % 30], _STEPS[at.minute % 30]
        # At the end of a working day rates change from one half-hour to the next.
        lows = self.lows[:, at.rows]
        smooth, steps = (np.einsum("sw,sn->wn", weight, lows) for weight in weights)
        windows = slice(len(WINDOWS), len(WINDOWS) + len(DROP_WINDOWS))
        expected: Floats = np.minimum(smooth, steps)[windows]
        return expected * np.minimum(self.level[at.rows], 1)

    def rate(self, at: Moment, rises: bool) -> Floats:
        """Returns the expected calls of the minute."""
        limit = np.maximum if rises else np.minimum
        rate = self._expected(at)[0] * limit(self.level[at.rows], 1)
        return np.where(self.is_new(at), self._expected_of_new(at), rate)

    def largest_near(self, at: Moment) -> Floats:
        """Returns the largest sums of `WINDOWS` within 90 minutes of this time of day.

        The sums are from past days of the same part of the week.
        """
        part = int(weekday(at.minute // DAY) >= 5)
        hours = [int((at.minute / 60 + off) % 24) for off in (-1.5, -0.5, 0.5, 1.5)]
        envelope = self.envelope[part][:, :, at.rows].astype(np.float32)
        near: Floats = envelope[:, hours].max(axis=1)
        return near

    def remember(self, rows: Rows, scores: Floats, first: int) -> None:
        """Keeps the largest scores and sums of a day; `first` is the place of the first score."""
        day = self._day % (DAYS + 1)
        places = slice(first, first + len(scores))
        peaks = self.peaks[places, day]
        peaks[:, rows] = np.maximum(peaks[:, rows], np.minimum(scores, _MAX_HALF))

    def remember_sums(self, at: Moment) -> None:
        """Keeps the largest number of calls in each window today."""
        if at.minute // DAY != self._day:
            return
        largest = self.envelope_today[:, at.minute // 60 % 24]
        sums = np.minimum(at.sums[: len(WINDOWS)], _MAX_HALF)
        largest[:, at.rows] = np.maximum(largest[:, at.rows], sums)

    # Learning

    def _end_half(self, rows: slice) -> None:
        """Learns from the half-hour that has ended."""
        end = (self._half + 1) * 30
        places = (end - 1 - np.arange(90)) % RING  # newest first
        recent = self.ring[places, rows].astype(np.float32)
        self.today[self._half % 48, rows] = recent[:30].sum(0) / 30
        self._learn_dispersion(rows, recent[:30])
        self.level_sums[:, rows] *= 1 - 1 / 48
        self.level_sums[0, rows] += recent[60:].sum(0)
        self.level_sums[1, rows] += self.slots[_CURRENT - 2, rows] * 30
        calls, expected = self.level_sums[:, rows]
        self.level[rows] = np.clip((calls + 20) / (expected + 20), 0.5, 5) ** 0.8
        # Sums of half precision are added up again, so that no error of rounding grows.
        total = np.zeros_like(recent[0])
        sums = np.zeros((len(_WIDTHS), len(total)), np.float32)
        for i in range(max(_WIDTHS)):
            total += self.ring[(self.now - i) % RING, rows]
            for place, width in enumerate(_WIDTHS):
                if width == i + 1:
                    sums[place] = total
        self.sums[:, rows] = sums

    def _learn_dispersion(self, rows: slice, half: Floats) -> None:
        """Adds the difference between the half-hour's calls and the expected calls."""
        is_old = self._day - self.first[rows] // DAY >= 2
        is_old &= self.first[rows] != NEVER
        level = np.maximum(self.level[rows], 1)
        local = self.sums[_UNTIL_NOW, rows] - self.sums[_RECENT, rows]
        halves = self.slots[:, rows] * (30 * level)
        usual = halves[_CURRENT - 4 : _CURRENT].sum(0) + halves[_CURRENT] / 2
        usual -= halves[_CURRENT - 4] / 2
        local = np.clip((local + 20) / (usual + 20), 0.6, 1.8)
        for place, width in enumerate(WINDOWS):
            if width <= 30:
                sums = half.reshape(30 // width, width, -1).sum(1)
                expected = halves[_CURRENT] * (width / 30) * local
            elif width == 60 or (self._half + 1) % 4 == 0:
                sums = self.sums[place, rows][None]
                expected = halves[_CURRENT + 1 - width // 30 : _CURRENT + 1].sum(0)
            else:
                continue
            # Rare extremes must not raise the variance: peaks and envelopes cover them.
            clump, noise = self.clump[place, rows], self.noise[place, rows]
            deviation = np.sqrt(expected * (1 + clump) + noise * expected**2)
            sums = np.minimum(sums, expected + _CLIP * (deviation + clump) + 5)
            squares = np.where(is_old, (sums - expected) ** 2 - expected, 0)
            expected = np.where(is_old, expected, 0)
            spread = self.spread[:, place, rows]
            spread[0] += squares.sum(0)
            spread[1] += (squares * expected).sum(0)
            spread[2] += np.where(is_old, sums, 0).sum(0)
            spread[3] += expected**2 * len(sums)
            spread[4] += expected**3 * len(sums)
        self._solve(rows)

    def _solve(self, rows: slice) -> None:
        """Computes clump and noise by least squares; neither is below 0."""
        r, rm, m, m2, m3 = self.spread[:, :, rows].astype(np.float64)
        r = r + _PRIOR_CALLS * _PRIOR_CLUMP
        m = m + _PRIOR_CALLS
        rm = rm + _PRIOR_CUBES * _PRIOR_NOISE
        m3 = m3 + _PRIOR_CUBES
        noise = np.clip((rm * m - r * m2) / np.maximum(m * m3 - m2 * m2, 1e-9), 0, 1)
        clump = (r - noise * m2) / m
        noise = np.where(clump < 0, np.clip(rm / m3, 0, 1), noise)
        self.clump[:, rows] = np.maximum(clump, 0)
        self.noise[:, rows] = noise

    def _end_day(self, rows: slice) -> None:
        """Learns from the day that has ended."""
        day = self._day
        profile = self.profile[:, :, rows].astype(np.float32) * _DAY_DECAY
        # Not the first day of a key, which is incomplete.
        is_complete = self.first[rows] // DAY < day
        profile[weekday(day)] += np.where(is_complete, self.today[:, rows], 0)
        self.profile[:, :, rows] = np.maximum(profile, 0)
        self.today[:, rows] = 0
        envelope = self.envelope[..., rows].astype(np.float32) * _ENVELOPE_DECAY
        own = int(weekday(day) >= 5)
        largest = self.envelope_today[..., rows].astype(np.float32)
        envelope[own] = np.maximum(envelope[own], largest)
        envelope[1 - own] = np.maximum(envelope[1 - own], _OTHER_CLASS * largest)
        self.envelope[..., rows] = envelope
        self.envelope_today[..., rows] = 0
        self.spread[..., rows] *= _SPREAD_DECAY
        self._end_peaks(rows, day + 1)

    def _end_peaks(self, rows: slice, today: int) -> None:
        """Finds the high scores of past days; a key's first days count only for a week.

        Of many days, the highest does not count: it may be of an incident that was not found.
        """
        first_day = self.first[rows] // DAY
        is_old = today - first_day >= 7
        days = np.arange(today - DAYS, today)[:, None]
        counts = ~is_old | (days >= first_day + 3)
        places = days[:, 0] % (DAYS + 1)
        for highest, peaks in zip(self.highest, self.peaks, strict=True):
            scores = np.where(counts, peaks[places, rows], 0)
            second, first = np.partition(scores, -2, axis=0)[-2:]
            highest[rows] = np.where(today - first_day >= _ENOUGH_DAYS, second, first)
        self.peaks[:, today % (DAYS + 1), rows] = 0

    def _slots(self, rows: Rows | slice, current: int) -> tuple[Floats, Floats]:
        """Returns the expected rates of the half-hours around one, and cautious ones for drops."""
        today = current // 48
        first_day = self.first[rows] // DAY
        weights = _weights_by_age(today)[:, np.clip(today - first_day - 1, 0, _OLDEST)]
        every = np.maximum(weights.sum(0), 1e-6)
        rates = np.empty((_SLOTS + 2, len(first_day)), np.float32)
        calls = np.empty_like(rates)
        for place in range(_SLOTS + 2):
            half = current - _CURRENT - 1 + place
            shares = _shares(half // 48)
            profile = self.profile[:, half % 48, rows].astype(np.float32)
            own = shares @ profile
            rates[place] = own + _ALL_DAYS * profile.sum(0) / every
            rates[place] /= shares @ weights + _ALL_DAYS
            calls[place] = own * 30
        beside = np.clip(1 / (1 + calls / 20), 0.05, 0.5)[1:-1]
        slots = (1 - beside) * rates[1:-1] + beside / 2 * (rates[:-2] + rates[2:])
        rare = 0.5 / (DAY * np.maximum(1, today - first_day))
        lows = np.minimum(rates[1:-1], slots)
        return (slots + rare).astype(np.float32), lows.astype(np.float32)

    # Snapshots

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns all arrays, without the room for more keys."""
        return {name: getattr(self, name)[..., : self.count] for name in _ARRAYS}

    @classmethod
    def of(cls, now: int, arrays: dict[str, NDArray[np.generic]]) -> Baselines:
        """Returns the baselines whose `now` and `arrays()` these are."""
        self = cls(now + 1)
        self.now, self._half, self._day = now, now // 30, now // DAY
        self.count = self._room = arrays["first"].shape[-1]
        for name, (_, kind, _) in _ARRAYS.items():
            setattr(self, name, arrays[name].astype(kind))
        return self


#: Days after which the age of a key no longer matters.
_OLDEST = 60


def _weights_by_age(today: int) -> Floats:
    """Returns the weights of all past days of each weekday, by the age of a key in days."""
    weights = np.zeros((7, _OLDEST + 1), np.float32)
    for age in range(1, _OLDEST + 1):
        weights[:, age] = weights[:, age - 1]
        weights[weekday(today - age), age] += _DAY_DECAY ** (age - 1)
    return weights


def _shares(day: int) -> Floats:
    """Returns the weight of each weekday's past for a day."""
    own = weekday(day)
    same = [(other_day >= 5) == (own >= 5) for other_day in range(7)]
    shares = np.where(same, _SAME_CLASS, _OTHER)
    shares[own] = _SAME_DAY
    return shares.astype(np.float32)


def _window_weights(smooth: bool) -> Floats:
    """Returns the weight of each half-hour's rate in the expected calls of each window.

    Rates change at the end of half-hours, or if `smooth` is set, steadily between their middles.
    The first axis is the minute of the current half-hour at which the windows end.
    """
    weights = np.zeros((30, _SLOTS, len(_WIDTHS)), np.float32)
    for minute in range(30):
        minute_weights = np.zeros((max(_WIDTHS), _SLOTS), np.float32)
        for back in range(max(_WIDTHS)):
            place = _CURRENT + (minute - back + 0.5) / 30
            below, share = divmod(place - 0.5, 1) if smooth else (place // 1, 0)
            minute_weights[back, int(below)] += 1 - share
            if share:
                minute_weights[back, int(below) + 1] += share
        upto = minute_weights.cumsum(0)
        for place, width in enumerate(_WIDTHS):
            weights[minute, :, place] = upto[width - 1]
    return weights


_WEIGHTS, _STEPS = _window_weights(smooth=True), _window_weights(smooth=False)
