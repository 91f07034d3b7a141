"""Histograms: round periods that contain a range, and their sums."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.history.event_history import histogram_of, round_period
from opentrail.ports.event_store import PeriodCounts
from tests.factories import MOMENT

START = int(MOMENT.timestamp())
seconds_of_time = st.integers(-62_135_596_800, 253_402_300_799)


@pytest.mark.parametrize(
    ("span", "most", "expected"),
    [
        (timedelta(seconds=0), 2, 1),
        (timedelta(seconds=59), 60, 1),
        (timedelta(seconds=60), 60, 2),
        (timedelta(minutes=15), 60, 30),
        (timedelta(hours=1) - timedelta(seconds=1), 60, 60),
        (timedelta(hours=1), 61, 60),
        (timedelta(days=1), 60, 1_800),
        (timedelta(days=7), 60, 3 * 3_600),
        (timedelta(days=90), 60, 2 * 86_400),
        (timedelta(days=3_650), 60, 90 * 86_400),
    ],
)
def test_periods_are_the_shortest_round_ones(span: timedelta, most: int, expected: int) -> None:
    assert round_period(START, START + int(span.total_seconds()), most) == expected


@given(first=seconds_of_time, last=seconds_of_time, most=st.integers(2, 120))
def test_any_range_has_a_short_histogram(first: int, last: int, most: int) -> None:
    seconds = round_period(first, last, most)
    made = histogram_of([], seconds, first, last)
    starts = [period.start for period in made.periods]
    assert len(starts) <= most
    if first <= last:
        assert made.start == starts[0] <= datetime.fromtimestamp(first, UTC)
        assert made.end >= datetime.fromtimestamp(last, UTC)
        inner = itertools.pairwise(starts[1:])
        assert all(after - before == timedelta(seconds=seconds) for before, after in inner)
    else:
        assert (starts, made.start) == ([], made.end)


def test_counts_of_parts_of_a_period_are_summed() -> None:
    hours = [PeriodCounts(MOMENT + timedelta(hours=n), n, 10 * n) for n in (0, 1, 2, 3, 9)]
    made = histogram_of(hours, 3 * 3_600, START, START + 10 * 3_600)
    assert made.start == MOMENT
    assert made.end == MOMENT + timedelta(hours=12)
    assert [(period.ok, period.failed) for period in made.periods] == [
        (3, 30),
        (3, 30),
        (0, 0),
        (9, 90),
    ]
