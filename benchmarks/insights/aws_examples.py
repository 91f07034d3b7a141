"""What AWS's documentation shows of Insights, as accounts of one key each.

The rates are those of AWS's user guide, "Working with CloudTrail Insights", and of its sample
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.insights import principals
from benchmarks.insights.incidents import Incident
from benchmarks.insights.schedule import DAY, Counts
from benchmarks.insights.scoring import Finding, match
from benchmarks.insights.workload import START, Name, Workload

_HISTORY_DAYS = 28
#: The incident begins on the first scored day at 10:00 UTC.
_BEGIN = _HISTORY_DAYS * DAY + 600
_SEED = 25


@dataclass(frozen=True, eq=False)
class Example:
    """An account of one key, and whether a detector as sensitive as AWS's reports it."""

    name: str
    workload: Workload
    fires: bool

    def passes(self, findings: Iterable[Finding]) -> bool:
        """Returns whether findings are as expected: the incident, or nothing at all."""
        outcome = match(self.workload, findings)
        return bool(outcome.matched) if self.fires else not outcome.false


@dataclass(frozen=True)
class _Shape:
    """Normal calls a minute, then those of the incident's minutes."""

    name: str
    api: Name
    normal: Callable[[np.random.Generator, int], Counts]
    during: tuple[int, ...]


def _steady(per_minute: int) -> Callable[[np.random.Generator, int], Counts]:
    return lambda rng, minutes: rng.poisson(per_minute, minutes).astype(np.uint16)


def _few(calls: int) -> Callable[[np.random.Generator, int], Counts]:
    """Makes rows with that number of calls in four weeks, none within a day of the incident."""

    def draw(rng: np.random.Generator, minutes: int) -> Counts:
        row = np.zeros(minutes, np.uint16)
        row[rng.choice((_HISTORY_DAYS - 1) * DAY, calls, replace=False)] = 1
        return row

    return draw


_UPDATE = Name("autoscaling.amazonaws.com", "UpdateAutoScalingGroup", None)
_DELETE = Name("s3.amazonaws.com", "DeleteBucket", None)
_ROLE = Name("iam.amazonaws.com", "GetRolePolicy", "AccessDenied")
_QUERY = Name("cloudtrail.amazonaws.com", "DescribeQuery", "QueryIdNotFoundException")

_SHAPES = (
    _Shape("20 calls a minute, then 0", _UPDATE, _steady(20), (0,) * 120),
    _Shape("20 calls a minute, then 100", _UPDATE, _steady(20), (100,) * 15),
    _Shape("under 1 error in 7 days, then 12 a minute", _ROLE, _few(3), (12,) * 5),
    _Shape("0.0017 errors a minute, then 18 in one", _ROLE, _few(68), (18,)),
    _Shape("no errors, then 1.2 a minute for 5 minutes", _QUERY, _few(0), (1, 1, 2, 1, 1)),
    _Shape("nearly unused, then 3 calls in 5 minutes", _DELETE, _few(1), (1, 0, 1, 0, 1)),
    _Shape("20 calls a minute and no change", _UPDATE, _steady(20), ()),
    _Shape("nearly unused, then one call", _DELETE, _few(2), ()),
)


def examples() -> list[Example]:
    return [Example(shape.name, _account(shape), bool(shape.during)) for shape in _SHAPES]


def _account(shape: _Shape) -> Workload:
    minutes = (_HISTORY_DAYS + 1) * DAY
    row = shape.normal(np.random.default_rng(_SEED), minutes)
    if shape.name.endswith("one call"):
        row[_BEGIN] = 1
    labels = []
    if shape.during:
        end = _BEGIN + len(shape.during)
        change = np.array(shape.during, np.int64) - row[_BEGIN:end]
        row[_BEGIN:end] = shape.during
        up = bool(change.sum() > 0)
        culprit = principals.usual(_SEED, 0)[0].arn if up else None
        factor = float("inf") if up else 0.0
        labels.append(
            Incident(
                0,
                _BEGIN,
                end,
                "AWS's example",
                factor,
                up,
                up,
                True,
                culprit,
                np.maximum(change, 0),
            )
        )
    return Workload(
        seed=_SEED,
        start=START,
        minutes=minutes,
        counts=row[None, :],
        kinds=["AWS's example"],
        error_rate=np.array([shape.api.error_code is not None]),
        labels=labels,
        names=[shape.api],
        scored_days=1,
    )
