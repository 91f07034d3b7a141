"""The normal traffic of a key, by kind. None of it is ever labelled as an incident.

Each kind draws the counts of one key over the whole period. They range from APIs that are called
twice in six weeks to health checks every second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.insights.schedule import DAY, TEAMS, WEEK, Counts, Floats, Schedule, office_hours

Generator = np.random.Generator
Kind = Callable[[Generator, Schedule], Counts]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def skewed(rng: Generator, low: float, high: float) -> float:
    """Returns a value between `low` and `high`, most of them in the lower decades."""
    return float(low * (high / low) ** rng.beta(1.1, 2.2))


def draw_counts(rng: Generator, rate: Floats, clump: float) -> Counts:
    """Draws counts with the given mean and the variance rate * (1 + clump)."""
    if clump > 0:
        rate = rng.gamma(np.maximum(rate, 0) / clump, clump)
    return np.minimum(rng.poisson(rate), np.iinfo(np.uint16).max).astype(np.uint16)


def blocks(rng: Generator, minutes: int, size: float, length: int) -> Floats:
    """Returns gamma noise of mean 1 and variance 1/size, constant over `length` minutes."""
    drawn = rng.gamma(size, 1 / size, minutes // length + 2)
    first = int(rng.integers(0, length))
    return np.repeat(drawn, length)[first : first + minutes]


def slow_noise(rng: Generator, minutes: int, deviation: float) -> Floats:
    """Returns log-normal noise that changes over hours, with median 1."""
    steps = minutes // 30 + 2
    value, values = 0.0, []
    for shock in rng.normal(0, deviation * np.sqrt(1 - 0.93**2), steps):
        value = 0.93 * value + shock
        values.append(value)
    return np.asarray(np.exp(np.interp(np.arange(minutes) / 30, np.arange(steps), values)))


def add_session(rng: Generator, counts: Counts, start: int, calls: int, duration: int) -> None:
    """Adds `calls` calls at random minutes of a session, most of them early."""
    places = start + (rng.beta(1, 1.6, calls) * duration).astype(np.int64)
    places = places[(places >= 0) & (places < counts.size)]
    np.add.at(counts, places, 1)


def background(rng: Generator, schedule: Schedule, per_day: float) -> Counts:
    rate = office_hours(rng, schedule, 0.1) * per_day / DAY
    return draw_counts(rng, rate, float(rng.uniform(0, 2)))


def human(rng: Generator, schedule: Schedule) -> Counts:
    """People at consoles and command lines: working hours, sessions, clumps of calls."""
    rate = office_hours(rng, schedule, float(rng.uniform(0.01, 0.25)))
    rate = rate * skewed(rng, 2, 6000) / DAY
    rate *= blocks(rng, rate.size, log_uniform(rng, 1, 10), int(rng.integers(5, 30)))
    return draw_counts(rng, rate, log_uniform(rng, 0.2, 4))


def monday(rng: Generator, schedule: Schedule) -> Counts:
    """Work that starts with a peak on Monday morning."""
    rate = office_hours(rng, schedule, 0.05) * skewed(rng, 30, 6000) / DAY
    minute = np.arange(rate.size) % WEEK
    start = int(rng.integers(6 * 60, 10 * 60))
    length = int(rng.integers(45, 150))
    rate[(minute >= start) & (minute < start + length)] *= rng.uniform(3, 8)
    rate *= blocks(rng, rate.size, log_uniform(rng, 2, 15), int(rng.integers(5, 30)))
    return draw_counts(rng, rate, log_uniform(rng, 0.2, 3))


def cron(rng: Generator, schedule: Schedule) -> Counts:
    """A job at a fixed minute; one run in 25 is late, one in 30 is repeated, one in 100 missing."""
    counts = np.zeros(schedule.minutes, np.uint16)
    period = int(rng.choice([15, 60, 360, DAY, DAY, DAY, WEEK]))
    usual = skewed(rng, 1, 600)
    spread = log_uniform(rng, 0.02, 0.5)
    duration = int(log_uniform(rng, 1, 25))
    workdays_only = period == DAY and rng.random() < 0.3
    for start in range(int(rng.integers(0, period)), schedule.minutes, period):
        if rng.random() < 0.01 or (workdays_only and start // DAY % 7 >= 5):
            continue
        late = int(log_uniform(rng, 3, 150)) if rng.random() < 0.04 else 0
        calls = max(1, round(usual * rng.lognormal(0, spread)))
        add_session(rng, counts, start + late, calls, duration)
        if rng.random() < 0.033:
            again = start + late + duration + int(rng.integers(2, 20))
            add_session(rng, counts, again, calls, duration)
    return counts


def ci(rng: Generator, schedule: Schedule) -> Counts:
    """Builds through the working day, of widely different size."""
    counts = np.zeros(schedule.minutes, np.uint16)
    activity = office_hours(rng, schedule, float(rng.uniform(0, 0.15)))
    usual = skewed(rng, 2, 150)
    deviation = float(rng.uniform(0.5, 1.2))
    duration = log_uniform(rng, 2, 20)
    starts = np.flatnonzero(rng.poisson(activity * log_uniform(rng, 0.3, 12) / DAY))
    for start in starts:
        calls = min(5000, max(1, round(usual * rng.lognormal(0, deviation))))
        add_session(rng, counts, int(start), calls, max(1, round(duration * rng.lognormal(0, 0.4))))
    return counts


def deploy(rng: Generator, schedule: Schedule) -> Counts:
    """Calls of a team's deployments: nothing on most days, several on a deploy day."""
    counts = background(rng, schedule, log_uniform(rng, 0.05, 2))
    team = int(rng.integers(0, TEAMS))
    part = float(rng.uniform(0.3, 1))
    usual = skewed(rng, 3, 300)
    for one in schedule.deployments:
        if one.team == team and rng.random() < part:
            calls = min(5000, max(1, round(usual * one.size * rng.lognormal(0, 0.4))))
            add_session(rng, counts, one.minute + int(rng.integers(0, 5)), calls, one.duration)
    return counts


def train(rng: Generator, schedule: Schedule) -> Counts:
    """A weekly release, up to 40 minutes late, of varying size; one week in ten without."""
    counts = background(rng, schedule, log_uniform(rng, 0.05, 5))
    minute = schedule.trains[int(rng.integers(0, TEAMS))]
    usual, duration = skewed(rng, 20, 1000), int(rng.integers(10, 60))
    for start in range(minute, schedule.minutes, WEEK):
        if start // DAY in schedule.holidays:
            start += DAY
        if rng.random() < 0.9:
            calls = min(8000, round(usual * rng.lognormal(0, 0.4)))
            add_session(rng, counts, start + int(rng.integers(0, 40)), calls, duration)
    return counts


def autoscale(rng: Generator, schedule: Schedule) -> Counts:
    """Follows a load that has days, nights and noise; scales out in steps."""
    load = 0.3 + office_hours(rng, schedule, float(rng.uniform(0.3, 0.9)))
    load *= slow_noise(rng, load.size, float(rng.uniform(0.15, 0.4)))
    rate = load / load.mean() * skewed(rng, 0.03, 25)
    rate *= blocks(rng, rate.size, log_uniform(rng, 3, 20), int(rng.integers(3, 12)))
    return draw_counts(rng, rate, log_uniform(rng, 0.3, 4))


def batch(rng: Generator, schedule: Schedule) -> Counts:
    """Batches at any hour whose sizes follow Pareto's law."""
    counts = background(rng, schedule, log_uniform(rng, 0.05, 20))
    shape, smallest = float(rng.uniform(1.2, 2.2)), skewed(rng, 2, 60)
    speed = log_uniform(rng, 3, 40)
    rate = log_uniform(rng, 0.3, 8)
    for start in rng.integers(0, schedule.minutes, rng.poisson(rate * schedule.days)):
        calls = min(4000, round(smallest * (1 + rng.pareto(shape))))
        add_session(rng, counts, int(start), calls, max(1, round(calls / speed)))
    return counts


def growth(rng: Generator, schedule: Schedule) -> Counts:
    """Office work or steady load that grows to two to five times over the period."""
    steady = rng.random() < 0.4
    rate = office_hours(rng, schedule, 0.9 if steady else 0.15)
    if steady:
        rate = 0.5 + 0.5 * rate
    trend = np.linspace(0, np.log(rng.uniform(2, 5)), rate.size)
    rate = rate * np.exp(trend) * skewed(rng, 20, 6000) / DAY
    rate *= blocks(rng, rate.size, log_uniform(rng, 2, 20), int(rng.integers(5, 30)))
    return draw_counts(rng, rate, log_uniform(rng, 0.2, 3))


def migration(rng: Generator, schedule: Schedule) -> Counts:
    """A level that shifts for two to six days, up or down, from one hour to the next."""
    rate = 0.4 + office_hours(rng, schedule, float(rng.uniform(0.2, 0.9)))
    rate *= skewed(rng, 60, 8000) / DAY
    earliest = max(0, schedule.days - 14) if rng.random() < 0.6 else 7
    start = int(rng.uniform(earliest, schedule.days - 2) * DAY)
    end = start + int(rng.uniform(2, 6) * DAY)
    level = rng.uniform(2, 5) if rng.random() < 0.7 else rng.uniform(0.2, 0.5)
    ramp = np.interp(np.arange(rate.size), [start, start + 90, end, end + 90], [0, 1, 1, 0])
    rate *= 1 + (level - 1) * ramp
    rate *= blocks(rng, rate.size, log_uniform(rng, 2, 20), int(rng.integers(5, 30)))
    return draw_counts(rng, rate, log_uniform(rng, 0.2, 3))


def go_live(rng: Generator, schedule: Schedule) -> Counts:
    """A new API: a few tests at most, then from one morning on used in earnest."""
    start = int(rng.uniform(min(10, schedule.days / 3), schedule.days - 1)) * DAY
    start += int(rng.integers(7 * 60, 17 * 60))
    weekend = float(rng.uniform(0.05, 0.9))
    rate = office_hours(rng, schedule, weekend) * skewed(rng, 30, 6000) / DAY
    first_days = np.clip((np.arange(rate.size) - start) / rng.uniform(120, 3 * DAY), 0, 1)
    rate *= np.maximum(first_days, 0.05 * (first_days > 0))
    rate *= blocks(rng, rate.size, log_uniform(rng, 1, 10), int(rng.integers(5, 30)))
    counts = draw_counts(rng, rate, log_uniform(rng, 0.2, 3))
    for day in range(int(rng.integers(0, 4))):
        test = start - int(rng.uniform(0.5, 4 + day) * DAY)
        add_session(rng, counts, test, int(rng.integers(1, 8)), int(rng.integers(2, 30)))
    return counts


def health(rng: Generator, schedule: Schedule) -> Counts:
    """A check at a constant interval, with few lost or repeated calls."""
    per_minute = skewed(rng, 0.1, 40)
    place = np.arange(schedule.minutes + 1) * per_minute + rng.random()
    exact = np.diff(np.floor(place)).astype(np.int64)
    kept = rng.binomial(exact, 0.995) + rng.poisson(0.003 * per_minute, exact.size)
    return np.asarray(kept, np.uint16)


def overdispersed(rng: Generator, schedule: Schedule) -> Counts:
    """Negative binomial counts of size 0.5 to 20 a minute, and more noise over a quarter hour."""
    rate = 0.5 + 0.5 * office_hours(rng, schedule, float(rng.uniform(0.2, 1)))
    size = log_uniform(rng, 0.5, 20)
    rate *= skewed(rng, 0.02, 40) * rng.gamma(size, 1 / size, rate.size)
    rate *= blocks(rng, rate.size, 2 * size, 15)
    return draw_counts(rng, rate, 0)


def errors(rng: Generator, schedule: Schedule) -> Counts:
    """A low background of errors; small clusters when a person or a job tries again."""
    counts = background(rng, schedule, skewed(rng, 0.05, 60))
    usual = log_uniform(rng, 2, 12)
    clusters = rng.poisson(log_uniform(rng, 0.1, 4) * schedule.days / 7)
    for start in rng.integers(0, schedule.minutes, clusters):
        calls = max(1, min(40, round(usual * rng.lognormal(0, 0.5))))
        add_session(rng, counts, int(start), calls, int(rng.integers(1, 12)))
    if rng.random() < 0.15:
        minute, nightly = int(rng.integers(0, DAY)), int(skewed(rng, 1, 60))
        for start in range(minute, schedule.minutes, DAY):
            add_session(rng, counts, start, rng.poisson(nightly), 5)
    return counts


def throttling(rng: Generator, schedule: Schedule) -> Counts:
    """Throttling errors: none at low load, bursts at the peaks of a load."""
    load = office_hours(rng, schedule, float(rng.uniform(0.1, 0.8)))
    load *= blocks(rng, load.size, log_uniform(rng, 2, 8), int(rng.integers(5, 20)))
    rate = np.maximum(load - rng.uniform(1, 3), 0) * skewed(rng, 0.02, 5)
    return draw_counts(rng, rate, log_uniform(rng, 1, 5))


def rare(rng: Generator, schedule: Schedule) -> Counts:
    """An API that is almost never called: up to a handful of short sessions in six weeks."""
    counts = np.zeros(schedule.minutes, np.uint16)
    for start in rng.integers(0, schedule.minutes, rng.poisson(log_uniform(rng, 0.2, 6))):
        calls = int(rng.integers(6, 16)) if rng.random() < 0.04 else int(rng.geometric(0.5))
        add_session(rng, counts, int(start), min(calls, 15), int(rng.integers(1, 15)))
    return counts


#: Each kind with its share of the keys.
KINDS: dict[str, tuple[Kind, float]] = {
    "rare": (rare, 0.20),
    "human": (human, 0.16),
    "cron": (cron, 0.09),
    "ci": (ci, 0.08),
    "deploy": (deploy, 0.06),
    "train": (train, 0.03),
    "autoscale": (autoscale, 0.05),
    "batch": (batch, 0.04),
    "monday": (monday, 0.03),
    "growth": (growth, 0.03),
    "migration": (migration, 0.02),
    "go-live": (go_live, 0.02),
    "health": (health, 0.05),
    "overdispersed": (overdispersed, 0.05),
    "errors": (errors, 0.11),
    "throttling": (throttling, 0.02),
}
#: Kinds whose keys count errors; of the rare keys, one in six does too.
ERROR_KINDS = frozenset({"errors", "throttling"})


def draw_kinds(rng: Generator, keys: int) -> list[str]:
    """Returns a kind for each key in random order; every kind occurs if there are 50 keys."""
    shares = np.array([share for _, share in KINDS.values()])
    edges = np.round(np.cumsum(shares / shares.sum()) * keys).astype(int)
    kinds = np.repeat(list(KINDS), np.diff(edges, prepend=0))
    return [str(kind) for kind in rng.permutation(kinds)]
