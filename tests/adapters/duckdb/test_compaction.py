"""The choice of files to merge; the store's tests check that merging keeps every event."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, Series
from opentrail.adapters.duckdb.event_files import MERGED_FILES, MERGED_RECORDS, next_merge
from opentrail.adapters.duckdb.schema import Table
from opentrail.adapters.duckdb.table_set import EventTable


def a_source(first: int, last: int) -> EventTable:
    file = SealedFile(Path("x"), Series.JOURNAL, first, last, None, is_expired=False)
    return EventTable(Table("t"), first, last, file=file)


@pytest.mark.hypothesis
@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(1, 1_300_000), max_size=40))
def test_merging_joins_neighbours_up_to_a_limit(counts: list[int]) -> None:
    sources, last = [], 0
    for count in counts:
        sources.append(a_source(last + 1, last + count))
        last += count
    run = next_merge(sources)
    assert len(run) != 1
    assert all(b.first == a.last + 1 for a, b in itertools.pairwise(run))
    assert sum(source.last - source.first + 1 for source in run) <= MERGED_RECORDS


@pytest.mark.hypothesis
@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 120_000), max_size=60))
def test_merged_files_stay_few(counts: list[int]) -> None:
    """At most seven of each size, except of the largest."""
    sources: list[EventTable] = []
    last = written = 0
    for count in counts:
        sources.append(a_source(last + 1, last + count))
        last += count
        while run := next_merge(sources):
            whole = a_source(run[0].first, run[-1].last)
            written += whole.last - whole.first + 1
            at = sources.index(run[0])
            sources[at : at + len(run)] = [whole]
    assert len(sources) <= 4 * (MERGED_FILES - 1) + 2 * last // MERGED_RECORDS + 1
    assert written <= 4 * max(last, 1)
