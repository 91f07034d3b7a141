"""Batches of limited size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.batching import batches


@given(st.lists(st.text(max_size=6)), st.integers(1, 8), st.integers(1, 5))
def test_batches_have_all_items_within_their_limits(
    items: list[str], max_size: int, max_items: int
) -> None:
    found = list(batches(items, len, max_size, max_items))
    assert [item for batch in found for item in batch] == items
    for batch in found:
        assert 1 <= len(batch) <= max_items
        assert len(batch) == 1 or sum(map(len, batch)) <= max_size
    for batch, following in pairwise(found):
        full = len(batch) == max_items
        assert full or sum(map(len, batch)) + len(following[0]) > max_size
