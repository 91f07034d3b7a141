from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opentrail.insights.findings import minute_of, time_of


@given(st.integers(0, 60_000_000))
def test_a_minute_and_its_beginning_are_inverse(minute: int) -> None:
    assert minute_of(time_of(minute)) == minute
