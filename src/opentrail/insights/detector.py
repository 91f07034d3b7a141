"""Finds unusual activity: minutes with more, or fewer, calls of a key than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from opentrail.insights.baseline import DAY, DAYS, DROP_WINDOWS, Baselines, Floats, Moment, Rows
from opentrail.insights.findings import WINDOWS

#: Minutes without unusual activity after which an incident is over.
QUIET_MINUTES = 10
#: Maximum minutes of an incident.
MAX_MINUTES = 1440
#: Share of an incident's mean excess above which calls are still unusual.
_STILL = 0.3
#: Minutes until the mean excess is computed again.
_REFRESH_MINUTES = 5


class Incident(msgspec.Struct):
    """An open incident; `calls` and `expected` have one value per minute since `start`.

    `learned` is true if the baseline learns its calls as usual.
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


#: Minutes after a drop in which the detector reports no other drop of the key.
_REARM = 120
#: Minimum expected calls of a key for the detector to look for drops.
_MIN_DROP_CALLS = 35
#: Maximum share of them in a drop.
_MAX_DROP_SHARE = 0.3
#: Minimum score of a drop, which is the logarithm of expected over actual calls.
_DROP_FLOOR = 1.8
#: The amount above the highest score of past days that it needs.
_DROP_MORE = 0.8
_WEEK = 7
#: An incident's calls are learned if the key had incidents on this many days in a row.
_DAYS_IN_A_ROW = 4
#: Minutes of incidents of a key after which the baseline learns their calls as well.
_MAX_MASKED = 900


#: A key of this dispersion or more is even; only even keys have drops.
_EVEN = 3.0
#: Incidents per account and week; if there are more, thresholds rise.
BUDGET = 10.0
#: Further incidents per week for each key.
_BUDGET_PER_KEY = 0.001


@dataclass(frozen=True, slots=True)
class Preset:
    """The thresholds for unusual activity."""

    #: Minimum score of a key, and of an even key ...
    floor: float = 9.0
    even_floor: float = 12.5
    #: ... and the minimum ratio to the high scores of past days.
    slope: float = 1.4
    #: Factor of all of these.
    threshold: float = 1.0
    #: Unless a key is even, its calls must exceed the largest number of past days near this time
    #: of day by this factor and this number.
    near_factor: float = 1.6
    near_more: float = 6.0
    #: Minimum calls in a window.
    fewest: float = 8.0


PRESETS = {
    "balanced": Preset(),
    "strict": Preset(threshold=1.7, near_more=14.0),
    "aws": Preset(floor=2.0, even_floor=10.0, slope=1.5, near_more=2.0, fewest=3.0),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """An incident began, or it is over (`end` is set)."""

    row: int
    start: int
    found: int
    rises: bool
    end: int | None = None


class DetectorState(msgspec.Struct):
    """A detector's state without its baselines; the members are the same as in `Detector`."""

    since: int
    accounts: list[str]
    account_of: list[int]
    dials: list[float]
    ratios: list[tuple[int, int, float]]
    incidents: list[Incident]
    past: dict[int, list[int]]
    masked: dict[int, tuple[int, int]]
    armed: dict[int, int]
    steady: list[int]
    drops_from: int


class Detector:
    """Closes one minute after another; findings for a minute never depend on later minutes."""

    def __init__(self, preset: Preset, since: int, budget: float = BUDGET) -> None:
        self.preset = preset
        self.budget = budget
        self._since = since
        self.baselines = Baselines(since)
        self.incidents: dict[int, Incident] = {}
        #: The account of each key, and the increases of accounts' thresholds.
        self._accounts: dict[str, int] = {}
        self._account_of: list[int] = []
        self._dials: list[float] = []
        #: The largest ratio of each day and key that was high enough.
        self._ratios: dict[tuple[int, int], float] = {}
        #: Days of the incidents of the last days.
        self._past: dict[int, list[int]] = {}
        #: Day and number of minutes that were left out of learning on it.
        self._masked: dict[int, tuple[int, int]] = {}
        self._armed: dict[int, int] = {}
        self._steady = np.zeros(0, np.intp)
        #: The largest numbers of calls of expected incidents, by key and window, and the keys with
        #: expected drops: no more than that is unusual.
        self.expected_sums: dict[int, Floats] = {}
        self.expected_drops: set[int] = set()
        #: The first minute in which the detector looks for drops; it may have missed earlier calls.
        self.drops_from = since

    def add(self, account: str) -> int:
        """Adds a key of an account and returns its row."""
        number = self._accounts.setdefault(account, len(self._accounts))
        if number == len(self._dials):
            self._dials.append(self.preset.threshold)
        self._account_of.append(number)
        self.baselines.add(1)
        return self.baselines.count - 1

    def idle(self, days: int) -> Rows:
        """Returns the keys that had no call for this number of days."""
        base = self.baselines
        return np.nonzero(base.last[: base.count] < base.now - days * DAY)[0]

    def keep(self, rows: Rows) -> None:
        """Forgets all keys but these, which are then numbered in this order."""
        numbers = {row: number for number, row in enumerate(rows.tolist())}
        self.baselines.keep(rows)
        self._account_of = [self._account_of[row] for row in numbers]
        self._ratios = {
            (d, numbers[row]): r for (d, row), r in self._ratios.items() if row in numbers
        }
        self.incidents = {
            numbers[row]: incident for row, incident in self.incidents.items() if row in numbers
        }
        for row, incident in self.incidents.items():
            incident.row = row
        self._past = {numbers[row]: days for row, days in self._past.items() if row in numbers}
        self._masked = {
            numbers[row]: minutes for row, minutes in self._masked.items() if row in numbers
        }
        self._armed = {numbers[row]: until for row, until in self._armed.items() if row in numbers}
        self._steady = np.array([numbers[row] for row in self._steady if row in numbers], np.intp)
        sums, drops = self.expected_sums, self.expected_drops
        self.expected_sums = {numbers[row]: value for row, value in sums.items() if row in numbers}
        self.expected_drops = {numbers[row] for row in drops if row in numbers}

    def close(self, minute: int, rows: Rows, calls: Floats) -> list[Transition]:
        """Closes the next minute, with calls of these keys."""
        base = self.baselines
        is_new_half = minute % 30 == 0
        if minute % DAY == 0:
            self._set_dials(minute // DAY)
        base.begin(minute)
        base.add_calls(rows, calls)
        if is_new_half:
            self._steady = self._steady_keys()
        changes = self._continue(minute, rows, calls)
        changes += self._find_rises(base.current(self._usual(rows)))
        changes += self._find_drops(minute)
        return changes

    def add_late(self, late: Sequence[tuple[int, Rows, Floats]]) -> list[Transition]:
        """Counts calls of minutes that are over, in order, as if they had been known in time."""
        base = self.baselines
        for minute, rows, calls in late:
            usual = []
            for place, row in enumerate(rows.tolist()):
                incident = self.incidents.get(row)
                if incident is None or minute < incident.start:
                    usual.append(place)
                else:
                    incident.calls[minute - incident.start] += float(calls[place])
            base.add_late(rows[usual], minute, calls[usual])
        changes = []
        #: End minutes of the incidents found here.
        ends: dict[int, int] = {}
        for minute, rows, _ in late:
            again = [row for row in self._usual(rows).tolist() if ends.get(row, -1) < minute]
            for change in self._find_rises(base.past(np.array(again, np.intp), minute)):
                changes.append(change)
                incident = self.incidents[change.row]
                later = base.calls(change.row, base.now - minute, base.now)[::-1]
                for now, count in enumerate(later.tolist(), minute + 1):
                    if end := self._advance(incident, now, count):
                        changes += end
                        ends[change.row] = now
                        break
        return changes

    def _usual(self, rows: Rows) -> Rows:
        """Returns the keys that have no incident."""
        if not self.incidents:
            return rows
        return np.setdiff1d(rows, np.fromiter(self.incidents, np.intp))

    # Snapshots

    def state(self) -> DetectorState:
        """Returns all but the arrays of the baselines."""
        return DetectorState(
            self._since,
            list(self._accounts),
            self._account_of,
            self._dials,
            [(day, row, ratio) for (day, row), ratio in self._ratios.items()],
            list(self.incidents.values()),
            self._past,
            self._masked,
            self._armed,
            self._steady.tolist(),
            self.drops_from,
        )

    def restore(self, baselines: Baselines, state: DetectorState) -> None:
        """Continues from the baselines and the state of another detector."""
        self.baselines, self._since = baselines, state.since
        self._accounts = {account: number for number, account in enumerate(state.accounts)}
        self._account_of, self._dials = state.account_of, state.dials
        self._ratios = {(day, row): ratio for day, row, ratio in state.ratios}
        self.incidents = {incident.row: incident for incident in state.incidents}
        self._past, self._masked, self._armed = state.past, state.masked, state.armed
        self._steady = np.array(state.steady, np.intp)
        self.drops_from = state.drops_from

    # The budget of alerts

    def _record_ratio(self, row: int, ratio: float) -> bool:
        """Records a key's unusual activity; returns whether to report it.

        The detector reports nothing on the first day, nor below the dial of the key's account.
        """
        if self.baselines.now - self._since < DAY:
            return False
        key = self.baselines.now // DAY, row
        self._ratios[key] = max(ratio, self._ratios.get(key, 0.0))
        return ratio >= self._dials[self._account_of[row]]

    def _record_whole_rise(self, incident: Incident, at: Moment) -> None:
        """Records the ratio of a whole rise, which is more unusual than its first minute."""
        if not incident.rises:
            return
        duration = incident.end - incident.start
        window = next((n for n, width in enumerate(WINDOWS) if width >= duration), -1)
        sums = np.array([sum(incident.calls[:duration])], np.float32)
        expected = np.array([sum(incident.expected[:duration])], np.float32)
        sizes = self.baselines.dispersion(at.rows, expected)
        total = score(sums, expected, sizes[window])
        thresholds = self._thresholds(at, sizes >= _EVEN)
        self._record_ratio(incident.row, float((total / thresholds[window])[0]))

    def _set_dials(self, today: int) -> None:
        """Raises the thresholds of accounts that had more incidents than their budget allows."""
        self._ratios = {key: ratio for key, ratio in self._ratios.items() if key[0] >= today - DAYS}
        ratios: list[list[float]] = [[] for _ in self._accounts]
        for (_, row), ratio in self._ratios.items():
            ratios[self._account_of[row]].append(ratio)
        keys = np.bincount(self._account_of, minlength=len(ratios))
        for account, account_ratios in enumerate(ratios):
            budget = (self.budget + _BUDGET_PER_KEY * keys[account]) * DAYS / 7
            above = sorted(account_ratios, reverse=True)[int(min(budget, len(account_ratios))) :]
            self._dials[account] = max(above, default=self.preset.threshold)

    # Incidents

    def _continue(self, minute: int, rows: Rows, calls: Floats) -> list[Transition]:
        """Adds the minute to the incidents; ends incidents that are over."""
        if not self.incidents:
            return []
        calls_of = dict(zip(rows.tolist(), calls.tolist(), strict=True))
        return [
            change
            for row, incident in list(self.incidents.items())
            for change in self._advance(incident, minute, calls_of.get(row, 0.0))
        ]

    def _advance(self, incident: Incident, minute: int, calls: float) -> list[Transition]:
        """Adds a minute to an incident, and ends it if it is over."""
        row, day = incident.row, minute // DAY
        at = self.baselines.at(np.array([row]), minute)
        incident.add(minute, calls, float(self.baselines.rate(at, incident.rises)[0]))
        if not incident.learned:
            self._clean(incident, minute)
            masked_day, count = self._masked.get(row, (0, 0))
            self._masked[row] = (day, count + 1 if masked_day == day else 1)
        if not incident.is_over(minute):
            return []
        del self.incidents[row]
        self._record_whole_rise(incident, at)
        self._past.setdefault(row, []).append(incident.found // DAY)
        if not incident.rises:
            self._armed[row] = minute + _REARM
        return [Transition(row, incident.start, minute, incident.rises, incident.end)]

    def _begin(self, row: int, now: int, rises: bool, calls: Floats, rate: float) -> Transition:
        """Begins an incident; `calls` has its minutes until now, `rate` is the expected rate."""
        start, expected = now - len(calls) + 1, [rate] * len(calls)
        incident = Incident(row, start, now, rises, False, calls.tolist(), expected, now)
        today = now // DAY
        past = [day for day in self._past.get(row, ()) if day >= today - _DAYS_IN_A_ROW]
        recent = {day for day in past if day < today}
        self._past[row] = past
        day, masked = self._masked.get(row, (0, 0))
        is_young = now - int(self.baselines.first[row]) < _WEEK * DAY
        too_much = day == today and masked > _MAX_MASKED
        incident.learned = bool(is_young or len(recent) >= _DAYS_IN_A_ROW or too_much)
        incident.refresh(now)
        self.incidents[row] = incident
        if not incident.learned:
            for minute in range(incident.start, now + 1):
                self._clean(incident, minute)
        return Transition(row, incident.start, now, incident.rises)

    def _clean(self, incident: Incident, minute: int) -> None:
        """Counts a minute of an incident as a usual one."""
        place = minute - incident.start
        calls, expected = incident.calls[place], incident.expected[place]
        usual = min(calls, expected) if incident.rises else max(calls, expected)
        self.baselines.replace(incident.row, minute, usual)

    # Rises

    def _find_rises(self, at: Moment) -> list[Transition]:
        """Begins incidents of keys with more calls than usual; of the others, learns."""
        base, preset = self.baselines, self.preset
        if not len(at.rows):
            return []
        base.remember_sums(at)
        at = at.of(np.nonzero(at.sums[: len(WINDOWS)].max(axis=0) >= preset.fewest)[0])
        if not len(at.rows):
            return []
        sums = at.sums[: len(WINDOWS)]
        expected = base.expected_rises(at)
        sizes = base.dispersion(at.rows, expected)
        scores = score(sums, expected, sizes)
        scores[(sums <= expected) | (sums < preset.fewest)] = 0
        changes: dict[int, Transition] = {}
        high = np.nonzero(scores.max(axis=0) >= preset.floor * preset.threshold)[0]
        if len(high):
            part, is_even = at.of(high), sizes[:, high] >= _EVEN
            ratios = scores[:, high] / self._thresholds(part, is_even)
            ratios = np.where(self._is_large(part, is_even), ratios, 0)
            for place, row in enumerate(part.rows.tolist()):
                if row in self.expected_sums:
                    ratios[part.sums[: len(WINDOWS), place] <= self.expected_sums[row], place] = 0
            for place, ratio in enumerate(ratios.max(axis=0).tolist()):
                key = int(high[place])
                if ratio >= preset.threshold and self._record_ratio(int(at.rows[key]), ratio):
                    own = ratios[:, place], sums[:, key], expected[:, key]
                    changes[key] = self._rise(at.minute, int(at.rows[key]), *own)
        base.remember(at.rows, scores, 0)
        return list(changes.values())

    def _is_large(self, at: Moment, is_even: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns whether calls exceed the occasional peaks of uneven keys."""
        base, preset, sums = self.baselines, self.preset, at.sums[: len(WINDOWS)]
        near = base.largest_near(at)
        large: NDArray[np.bool_] = sums >= preset.near_factor * near + preset.near_more
        return large | (is_even & (sums >= near))

    def _thresholds(self, at: Moment, is_even: NDArray[np.bool_]) -> Floats:
        preset = self.preset
        highest = self.baselines.highest[: len(WINDOWS), at.rows]
        floor = np.where(is_even, preset.even_floor, preset.floor)
        days = max(1, (at.minute - self._since) / DAY)
        early = 1 + 1 / days if days < _WEEK else 1
        thresholds: Floats = np.maximum(early * floor, preset.slope * highest)
        return thresholds

    def _rise(
        self, minute: int, row: int, ratios: Floats, sums: Floats, expected: Floats
    ) -> Transition:
        window = int(ratios.argmax())
        width = WINDOWS[window]
        calls = self.baselines.calls(row, width, minute)
        high = np.nonzero(calls >= 0.5 * sums[window] / width)[0]
        back = int(high[-1]) if len(high) else 0
        rate = float(expected[window]) / width
        return self._begin(row, minute, True, calls[back::-1], rate)

    # Drops

    def _steady_keys(self) -> Rows:
        """Returns the keys whose drops can be seen at this time of day."""
        base = self.baselines
        rows = np.nonzero(base.first[: base.count] >= 0)[0]
        at = base.current(rows)
        steady = (base.expected_drops(at)[-1] >= _MIN_DROP_CALLS) & (base.age(at) >= _WEEK)
        steady_rows: Rows = rows[
            steady & (base.dispersion(rows, base.expected_rises(at))[3] >= _EVEN)
        ]
        return steady_rows

    def _find_drops(self, minute: int) -> list[Transition]:
        """Begins incidents of keys that were steady and have far fewer calls now."""
        base, first = self.baselines, len(WINDOWS)
        if not len(self._steady) or minute < self.drops_from:
            return []
        at = base.current(self._steady)
        sums = at.sums[first : first + len(DROP_WINDOWS)]
        low = sums < _MAX_DROP_SHARE * base.expected_drops(at)
        at = at.of(np.nonzero(low.any(axis=0))[0])
        rows = np.array(
            [
                row
                for row in at.rows.tolist()
                if self._armed.get(row, 0) <= minute and row not in self.expected_drops
            ]
        )
        rows = self._usual(rows.astype(np.intp))
        if not len(rows):
            return []
        at = base.current(rows)
        expected = np.minimum(base.expected_drops(at), base.expected_by_recent_rate(at))
        sums = at.sums[first : first + len(DROP_WINDOWS)]
        scores = np.log((expected + 1) / (sums + 1))
        scores[(sums >= expected) | (expected < _MIN_DROP_CALLS)] = 0
        needed = np.maximum(_DROP_FLOOR, base.highest[first:, rows] + _DROP_MORE)
        ratios = scores / needed
        changes = []
        for place, ratio in enumerate(ratios.max(axis=0).tolist()):
            row = int(rows[place])
            if ratio >= self.preset.threshold and self._record_ratio(row, ratio):
                own = ratios[:, place], expected[:, place]
                changes.append(self._drop(minute, row, *own))
        base.remember(rows, scores, first)
        return changes

    def _drop(self, minute: int, row: int, ratios: Floats, expected: Floats) -> Transition:
        window = int(ratios.argmax())
        width = DROP_WINDOWS[window]
        rate = float(expected[window]) / width
        calls = self.baselines.calls(row, width, minute)
        back = int(np.cumsum(0.5 * rate - calls).argmax())
        return self._begin(row, minute, False, calls[back::-1], rate)


def score(sums: Floats, expected: Floats, dispersion: Floats) -> Floats:
    """Returns the log likelihood ratio of negative binomial counts."""
    logs = np.log(np.maximum(sums, 1e-9) / expected)
    together = (sums + dispersion) * np.log((sums + dispersion) / (expected + dispersion))
    ratio: Floats = np.where(sums > 0, sums * logs, 0) - together
    return ratio
