"""Batches: their ids, and the detection of every change."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.postgres.batches import (
    Batch,
    chain_after,
    encode,
    entries_of,
    first_id_of,
    new_batch_id,
    records_of,
)
from opentrail.core.errors import DataTooNew, JournalDamaged
from tests.factories import MOMENT, some_new_entries
from tests.fakes import GENESIS

#: Without a time zone, as hypothesis requires.
FIRST = datetime.fromisoformat("1971-01-01")
ENTRIES = some_new_entries(5)
RECORDS = [entry.record for entry in ENTRIES]
BATCH = Batch(11, 5, GENESIS, chain_after(GENESIS, RECORDS), encode(ENTRIES))


def test_entries_have_positions_and_chain() -> None:
    entries = entries_of(BATCH)
    assert [entry.position for entry in entries] == [11, 12, 13, 14, 15]
    assert [entry.record for entry in entries] == RECORDS == records_of(BATCH.body)
    assert [entry.event_id for entry in entries] == [entry.event_id for entry in ENTRIES]
    assert entries[0].chain == hashlib.sha256(GENESIS + RECORDS[0]).digest()
    assert entries[-1].chain == BATCH.chain


@pytest.mark.hypothesis
@given(place=st.integers(1, len(BATCH.body) - 1), bit=st.integers(0, 7))
def test_a_changed_bit_is_detected(place: int, bit: int) -> None:
    body = bytearray(BATCH.body)
    body[place] ^= 1 << bit
    with suppress(JournalDamaged):
        entries = entries_of(replace(BATCH, body=bytes(body)))
        # The change is in a column outside the record: origin and time.
        same = [replace(e, origin="", recorded_at=MOMENT) for e in entries]
        assert same == [replace(e, origin="", recorded_at=MOMENT) for e in entries_of(BATCH)]


@pytest.mark.parametrize(
    "change",
    [{"count": 4}, {"count": 6}, {"chain": b"x" * 32}, {"chain_before": b"x" * 32}]
    + [{"body": body} for body in (b"", b"\x01aa", b"\x03" + BATCH.body[1:], b"\xffaa")],
)
def test_row_that_disagrees_with_its_body_is_damaged(change: dict[str, object]) -> None:
    with pytest.raises(JournalDamaged, match="position 11"):
        entries_of(replace(BATCH, **change))  # type: ignore[arg-type]


def test_a_newer_version_is_not_damage() -> None:
    with pytest.raises(DataTooNew, match="upgrade"):
        entries_of(replace(BATCH, body=b"\x02" + BATCH.body[1:]))


@pytest.mark.hypothesis
@given(
    moment=st.datetimes(timezones=st.just(UTC), min_value=FIRST, max_value=FIRST.replace(year=2200))
)
def test_ids_of_a_day_are_between_its_bounds(moment: datetime) -> None:
    now = moment
    batch_id = new_batch_id(now)
    assert batch_id.version == 7
    following = date.fromordinal(now.date().toordinal() + 1)
    assert first_id_of(now.date()) <= batch_id < first_id_of(following)
    assert new_batch_id(now) != batch_id
