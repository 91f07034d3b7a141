"""What the keys of one synthetic account share: days off, deployments, release trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]

DAY = 1440
WEEK = 7 * DAY
TEAMS = 8
#: Offices' offsets from UTC in minutes, and the share of keys that work by each.
OFFSETS = (-480, -300, 0, 60, 120, 330, 540)
OFFSET_SHARES = (0.15, 0.15, 0.15, 0.25, 0.1, 0.1, 0.1)
#: Activity of an office by local hour.
_HOURS = (0, 6, 8, 9, 10, 12, 13, 14, 16, 17.5, 19, 22, 24)
_ACTIVITY = (0.02, 0.03, 0.2, 0.8, 1.0, 0.9, 0.6, 0.9, 1.0, 0.7, 0.25, 0.08, 0.02)


@dataclass(frozen=True)
class Deployment:
    """A team's deployment; `size` multiplies the calls of every key that belongs to it."""

    minute: int
    team: int
    size: float
    duration: int


@dataclass(frozen=True)
class Schedule:
    """The calendar of an account; minute 0 is a Monday 00:00 UTC."""

    days: int
    holidays: tuple[int, ...]
    deployments: tuple[Deployment, ...]
    #: Minute of the week at which each team's release train leaves.
    trains: tuple[int, ...]

    @property
    def minutes(self) -> int:
        return self.days * DAY


def draw_schedule(rng: np.random.Generator, days: int) -> Schedule:
    """Draws a calendar with one day off in the last fortnight and one or two before it."""
    workdays = [day for day in range(days) if day % 7 < 5]
    late = [day for day in workdays if days - 13 <= day < days - 1]
    early = [day for day in workdays if 7 <= day < days - 14]
    holidays = {int(rng.choice(late))} if late else set()
    if early:
        holidays |= {int(day) for day in rng.choice(early, int(rng.integers(1, 3)))}
    deployments = [
        Deployment(
            day * DAY + int(rng.integers(8 * 60, 18 * 60)),
            team,
            float(rng.lognormal(0, 0.8)),
            int(rng.integers(5, 40)),
        )
        for team in range(TEAMS)
        for day in workdays
        if day not in holidays
        for _ in range(_deployments_on(rng, day % 7))
    ]
    trains = tuple(
        int(rng.integers(0, 5)) * DAY + int(rng.integers(8 * 60, 17 * 60)) for _ in range(TEAMS)
    )
    return Schedule(days, tuple(sorted(holidays)), tuple(deployments), trains)


def _deployments_on(rng: np.random.Generator, weekday: int) -> int:
    if weekday in (1, 3):
        return 1 + int(rng.poisson(1))
    return int(rng.poisson(0.4))


def office_hours(rng: np.random.Generator, schedule: Schedule, weekend: float) -> Floats:
    """Returns activity per minute with mean 1; `weekend` is its share on Saturday and Sunday."""
    offset = int(rng.choice(OFFSETS, p=OFFSET_SHARES))
    local = np.arange(schedule.minutes) + offset
    activity = np.interp((local % DAY) / 60, _HOURS, _ACTIVITY)
    day = local // DAY
    factor = np.where(day % 7 >= 5, weekend, 1.0)
    factor[np.isin(day, schedule.holidays)] = min(1.0, weekend + 0.03)
    daily = rng.lognormal(0, 0.25, schedule.days + 3)
    activity = activity * factor * daily[day + 1]
    return np.asarray(activity / activity.mean())
