"""The document and the phases of an event data store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opentrail.core.event_data_store import EventDataStore, Phase
from tests.adapters.duckdb.test_store_files import ALL, a_store


def test_document_is_the_stores() -> None:
    store = a_store(tags=(("team", "audit"),), deleted_at="2020-01-02T00:00:00+00:00")
    assert EventDataStore.from_document(store.document()) == store


FIRST, STOP, LAST = (
    Phase(5, ALL, every_region=True),
    Phase(10, None, every_region=True),
    Phase(12, ALL, every_region=False),
)


@pytest.mark.parametrize(
    ("first", "last", "parts"),
    [
        (1, 20, [(None, 1, 5), (FIRST, 6, 10), (STOP, 11, 12), (LAST, 13, 20)]),
        (7, 8, [(FIRST, 7, 8)]),
        (10, 11, [(FIRST, 10, 10), (STOP, 11, 11)]),
        (13, 13, [(LAST, 13, 13)]),
        (9, 8, []),
    ],
)
def test_positions_have_one_phase(
    first: int, last: int, parts: list[tuple[Phase | None, int, int]]
) -> None:
    assert a_store(FIRST, STOP, LAST).phases_of(first, last) == parts


def test_changes_without_effect_begin_no_phase() -> None:
    store = a_store(phases=()).with_phase(5)
    assert store.phases == (Phase(5, ALL, every_region=True),)
    assert replace(store, name="renamed").with_phase(9).phases == store.phases
    stopped = replace(store, is_ingesting=False)
    assert stopped.with_phase(5).phases == (Phase(5, None, every_region=True),)
    assert [phase.after for phase in stopped.with_phase(9).phases] == [5, 9]
