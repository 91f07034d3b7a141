from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opentrail.insights.findings import (
    COUNTS,
    WINDOWS,
    Expected,
    ExpectedIncidents,
    largest_sums,
    minute_of,
)
from opentrail.insights.watch import Watch
from opentrail.ports.event_store import CallKey
from tests.factories import ACCOUNT, REGION
from tests.fakes import MemoryControl, asynchronous, utc

NOW = utc("2024-01-29T10:00:00Z")
KEY = CallKey(ACCOUNT, REGION, "Management", "ec2.amazonaws.com", "RunInstances", "AccessDenied")


def an_expected(**changes: object) -> Expected:
    members = {"id": "1", "key": KEY, "start": minute_of(NOW), "rises": True, "largest": [1.0] * 5}
    return Expected(**{**members, **changes})  # type: ignore[arg-type]


@asynchronous
async def test_mark_outlives_its_time_only_as_a_note() -> None:
    expected = ExpectedIncidents(MemoryControl())
    mark = an_expected(note="load test")
    await expected.put(mark.id, an_expected(note="?"))
    await expected.put(mark.id, mark)
    assert await expected.that_count(NOW + COUNTS) == [mark]
    assert await expected.that_count(NOW + COUNTS + timedelta(minutes=1)) == []
    assert await expected.notes() == {"1": "load test"}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400))
def test_the_largest_sums_equal_any_windows_maximum(counts: list[int]) -> None:
    padded = np.pad(counts, 240)
    sums = [np.convolve(padded, np.ones(width)).max() for width in WINDOWS]
    assert largest_sums(counts) == sums


def test_one_keys_marks_add_up() -> None:
    watch = Watch("balanced", minute_of(NOW))
    other = an_expected(id="2", largest=[0.0, 2, 2, 2, 2])
    watch.expect([an_expected(), other])
    assert watch.detector.expected_sums[0].tolist() == [1, 2, 2, 2, 2]
    watch.expect([an_expected(rises=False)])
    assert (watch.detector.expected_sums, watch.detector.expected_drops) == ({}, {0})
