"""A synthetic account: calls per minute of every key over some weeks, with labelled incidents.

The last fortnight is scored; all before it is history, which has incidents too. The generator knows
nothing of how detectors find them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.insights import principals
from benchmarks.insights.incidents import (
    Change,
    Incident,
    Injection,
    is_plain,
    plan_types,
)
from benchmarks.insights.schedule import DAY, draw_schedule
from benchmarks.insights.traffic import ERROR_KINDS, KINDS, Generator, draw_kinds

__all__ = ["SCORED_DAYS", "Incident", "Name", "Workload", "make"]

#: 2024-01-01, a Monday, 00:00 UTC, in minutes since the epoch.
START = 28_401_120
SCORED_DAYS = 14
#: Rare keys that count errors instead of calls: one in six.
_RARE_ERRORS = 1 / 6
_SOURCES = ("ec2", "iam", "s3", "lambda", "ssm", "kms", "sts", "rds", "ecs", "logs", "sqs", "glue")
_VERBS = ("Create", "Delete", "Put", "Update", "Attach", "Detach", "Start", "Stop", "Tag", "Modify")
_NOUNS = ("Role", "Instance", "Bucket", "Function", "Key", "Policy", "Task", "Stream", "Image")
_ERROR_CODES = ("AccessDenied", "ThrottlingException", "ResourceNotFoundException")


@dataclass(frozen=True)
class Name:
    """What a key counts; with an error code, only calls that end with it."""

    event_source: str
    event_name: str
    error_code: str | None


@dataclass(frozen=True, eq=False)
class Workload:
    """Counts of keys by minute; minutes are numbers from 0, `start` is the epoch minute of 0."""

    seed: int
    start: int
    minutes: int
    counts: NDArray[np.uint16]
    kinds: list[str]
    error_rate: NDArray[np.bool_]
    labels: list[Incident]
    names: list[Name]
    #: Weekdays without office work, as numbers from 0.
    holidays: tuple[int, ...] = field(default=())
    scored_days: int = SCORED_DAYS

    @property
    def keys(self) -> int:
        return len(self.kinds)

    @property
    def scored_start(self) -> int:
        """The first minute that is scored."""
        return self.minutes - self.scored_days * DAY

    def history_start(self, history_days: int) -> int:
        """Returns the first minute that a detector with so long a history may see."""
        return max(0, self.scored_start - history_days * DAY)

    def until(self, scored_days: int) -> Workload:
        """Returns the same account some days earlier, to see what a detector knew by then."""
        minutes = self.scored_start + scored_days * DAY
        return replace(
            self,
            minutes=minutes,
            counts=self.counts[:, :minutes],
            labels=[label for label in self.labels if label.end <= minutes],
            scored_days=scored_days,
        )


def make(seed: int, keys: int = 1000, weeks: int = 6, incidents_per_key: float = 0.75) -> Workload:
    """Makes the account of a seed; `incidents_per_key` is their number in the scored fortnight."""
    if weeks < 3:
        raise ValueError(f"weeks is {weeks}; it must be 3 or more: two are scored")
    rng = np.random.default_rng(seed)
    schedule = draw_schedule(rng, weeks * 7)
    kinds = draw_kinds(rng, keys)
    error_rate = np.array(
        [kind in ERROR_KINDS or (kind == "rare" and rng.random() < _RARE_ERRORS) for kind in kinds]
    )
    counts = np.zeros((keys, schedule.minutes), np.uint16)
    for key, kind in enumerate(kinds):
        counts[key] = KINDS[kind][0](np.random.default_rng((seed, key, 0)), schedule)
    injection = Injection(rng, counts, kinds, error_rate)
    scored_start = schedule.minutes - SCORED_DAYS * DAY
    number = round(keys * incidents_per_key)
    # The scored ones first: there are not enough rarely used APIs for both.
    scored = _place(rng, injection, number, scored_start + 60, schedule.minutes - DAY // 2 - 1)
    unscored = _place(rng, injection, number, 2 * DAY, scored_start - DAY)
    labels = _label(seed, rng, counts, unscored, scored)
    names = [_name(key, bool(error)) for key, error in enumerate(error_rate)]
    return Workload(
        seed,
        START,
        schedule.minutes,
        counts,
        kinds,
        error_rate,
        labels,
        names,
        schedule.holidays,
    )


Placed = tuple[int, str, Change]


def _place(
    rng: Generator, injection: Injection, number: int, first: int, last: int
) -> list[Placed]:
    placed = []
    for type_ in plan_types(rng, number):
        found = injection.place(type_, first, last)
        if found:
            placed.append((found[0], type_, found[1]))
    return placed


def _label(
    seed: int,
    rng: Generator,
    counts: NDArray[np.uint16],
    unscored: list[Placed],
    scored: list[Placed],
) -> list[Incident]:
    """Makes the labels; what is normal is the counts without any incident."""
    changes: dict[int, list[Change]] = {}
    for key, _, change in [*unscored, *scored]:
        changes.setdefault(key, []).append(change)
    labels = []
    for is_scored, placed in ((False, unscored), (True, scored)):
        for key, type_, change in placed:
            normal = counts[key].copy()
            for one in changes[key]:
                span = slice(one.start, one.start + one.change.size)
                normal[span] = (normal[span] - one.change).astype(np.uint16)
            culprit = None
            if type_ != "drop":
                culprit = principals.draw_culprit(rng, seed, key, change.factor)
            labels.append(
                Incident(
                    key,
                    change.start,
                    change.start + change.change.size,
                    type_,
                    change.factor,
                    type_ != "drop",
                    is_plain(normal, change, type_),
                    is_scored,
                    culprit,
                    change.change,
                )
            )
    return sorted(labels, key=lambda label: (label.start, label.key))


def _name(key: int, counts_errors: bool) -> Name:
    """Returns a name for each key, all of them different."""
    source = _SOURCES[key % len(_SOURCES)]
    verb = _VERBS[key // len(_SOURCES) % len(_VERBS)]
    noun = _NOUNS[key // (len(_SOURCES) * len(_VERBS)) % len(_NOUNS)]
    number = key // (len(_SOURCES) * len(_VERBS) * len(_NOUNS))
    code = _ERROR_CODES[key % len(_ERROR_CODES)] if counts_errors else None
    return Name(f"{source}.amazonaws.com", f"{verb}{noun}{number or ''}", code)
