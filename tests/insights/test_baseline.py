from __future__ import annotations

import numpy as np
import pytest

from opentrail.insights.baseline import DAY, RING, Baselines, weekday
from opentrail.insights.findings import WINDOWS

#: A Monday.
START = 28_401_120
ROW = np.array([0])


def baselines(minutes: int, per_minute: int = 2, every: int = 1) -> Baselines:
    """Returns the baselines of a key with the same calls at regular intervals."""
    made = Baselines(START)
    made.add(1)
    calls = np.array([per_minute], np.float32)
    for minute in range(START, START + minutes):
        made.begin(minute)
        if minute % every == 0:
            made.add_calls(ROW, calls)
    return made


def test_the_start_is_a_monday() -> None:
    assert weekday(START // DAY) == 0


def test_sums_cover_the_windows_that_end_now() -> None:
    made = baselines(2 * RING + 17)
    assert made.current(ROW).sums[: len(WINDOWS), 0].tolist() == [2 * w for w in WINDOWS]


def test_the_past_of_a_minute_does_not_change() -> None:
    made = baselines(400, every=7)
    then = baselines(370, every=7).current(ROW).sums[: len(WINDOWS), 0]
    past = made.past(ROW, START + 369).sums[: len(WINDOWS), 0]
    assert past.tolist() == then.tolist()


@pytest.mark.slow
def test_after_a_week_the_usual_rate_is_expected() -> None:
    made = baselines(8 * DAY + 90)
    expected = made.expected_rises(made.current(ROW))[:, 0]
    assert expected == pytest.approx([2 * w for w in WINDOWS], rel=0.1)


def test_hour_of_calls_is_expected_to_be_rare() -> None:
    made = baselines(30)
    assert made.is_new(made.current(ROW)).all()
    assert made.expected_rises(made.current(ROW))[0, 0] < 0.1


def test_late_calls_count_in_their_minute() -> None:
    made = baselines(100)
    made.add_late(ROW, START + 90, np.array([5.0], np.float32))
    assert made.calls(0, 12, START + 99)[9] == 7
    assert made.current(ROW).sums[2, 0] == 2 * 15 + 5
    assert made.current(ROW).sums[1, 0] == 2 * 5


def test_baselines_are_restored_from_arrays() -> None:
    made = baselines(200)
    again = Baselines.of(made.now, {name: a.copy() for name, a in made.arrays().items()})
    for each in (made, again):
        each.begin(START + 200)
        each.add_calls(ROW, np.array([9.0], np.float32))
    for name, array in made.arrays().items():
        assert np.array_equal(array, again.arrays()[name]), name
