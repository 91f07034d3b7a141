"""Gaps: the summary of lost records."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.gaps import Gap

FIRST, LAST = datetime(2020, 1, 1, 9, tzinfo=UTC), datetime(2020, 1, 1, 10, tzinfo=UTC)
MOMENTS = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def test_a_gap_grows_with_later_losses() -> None:
    gap = Gap(1, FIRST, FIRST, "full").and_one(LAST, "still full")
    assert gap == Gap(2, FIRST, LAST, "still full")
    assert gap.and_later(None) == gap
    assert gap.and_later(Gap(3, LAST, LAST, "slow")) == Gap(5, FIRST, LAST, "slow")


@given(st.integers(1, 10**12), MOMENTS, MOMENTS, st.text(max_size=200))
def test_a_gap_is_read_unchanged(count: int, first: datetime, last: datetime, reason: str) -> None:
    gap = Gap(count, first, last, reason)
    assert Gap.from_json(gap.as_json().ljust(2_000)) == gap


@given(st.binary(max_size=50))
def test_random_bytes_are_no_gap(text: bytes) -> None:
    assert Gap.from_json(text) is None


@pytest.mark.parametrize("reason", ["x" * 5_000, "\0" * 5_000, "é" * 5_000])
def test_a_gap_fits_into_a_block(reason: str) -> None:
    assert len(Gap(10**12, FIRST, LAST, reason).as_json()) <= 1_400
