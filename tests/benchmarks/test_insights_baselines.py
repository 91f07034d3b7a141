from __future__ import annotations

import numpy as np
import pytest

from benchmarks.insights.aws_examples import examples
from benchmarks.insights.baselines import BASELINES, rolling_sums, tail, to_findings
from benchmarks.insights.schedule import DAY
from benchmarks.insights.scoring import Finding, count_changed_by_later_data
from benchmarks.insights.workload import Workload, make


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make(seed=8, keys=50, weeks=4, incidents_per_key=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_uses_no_later_data(workload: Workload, name: str) -> None:
    assert BASELINES[name](workload)
    assert count_changed_by_later_data(workload, BASELINES[name]) == 0


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_finds_only_a_fivefold_rate(name: str) -> None:
    surge = next(one for one in examples() if one.name == "20 calls a minute, then 100")
    assert surge.passes(BASELINES[name](surge.workload))


def test_rolling_sums_end_with_their_minute() -> None:
    counts = np.arange(1, 7, dtype=np.uint16)[None, :]
    assert rolling_sums(counts, 3).tolist() == [[1, 3, 6, 9, 12, 15]]


def test_finding_ends_after_ten_minutes_without_a_flag() -> None:
    flags = np.zeros((1, 60), bool)
    flags[0, [5, 6, 16, 30]] = True
    found = to_findings(flags, first_key=3, first=DAY, window=5, up=True)
    assert found == [
        Finding(3, DAY + 1, DAY + 17, DAY + 5, True),
        Finding(3, DAY + 26, DAY + 31, DAY + 30, True),
    ]


def test_bound_of_a_tail_grows_with_the_distance() -> None:
    calls, mean = np.array([5.0, 10.0, 40.0]), np.array([5.0, 5.0, 5.0])
    wide, narrow = tail(calls, mean, np.array(1.0)), tail(calls, mean, np.array(100.0))
    assert wide[0] == narrow[0] == 0
    assert 0 < wide[1] < wide[2]
    assert (narrow[1:] > wide[1:]).all()
