"""Entries that the hash chain confirms."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.sqlite.verify import intact_entries
from opentrail.core.event import Entry
from tests.factories import an_entry, some_records
from tests.fakes import GENESIS

COUNT = 12


def chained() -> list[Entry]:
    chain, made = GENESIS, []
    for position, record in enumerate(some_records(COUNT), 1):
        entry = an_entry(position, record)
        chain = hashlib.sha256(chain + entry.record).digest()
        made.append(replace(entry, chain=chain))
    return made


WHOLE = chained()


@given(gone=st.sets(st.integers(1, COUNT)))
def test_entries_between_missing_ones_are_believed(gone: set[int]) -> None:
    found = {entry.position: [entry] for entry in WHOLE if entry.position not in gone}
    believed = list(intact_entries(found, 1, COUNT, GENESIS))
    assert believed == [entry for entry in WHOLE if entry.position not in gone]


@given(at=st.integers(1, COUNT), byte=st.integers(0, 400), has_both=st.booleans())
def test_an_altered_record_is_not_believed(at: int, byte: int, has_both: bool) -> None:
    entry = WHOLE[at - 1]
    content = bytearray(entry.record)
    content[byte % len(content)] ^= 1
    altered = replace(entry, record=bytes(content))
    found = {entry.position: [entry] for entry in WHOLE}
    found[at] = [altered, entry] if has_both else [altered]
    expected = WHOLE if has_both else [one for one in WHOLE if one.position != at]
    assert list(intact_entries(found, 1, COUNT, GENESIS)) == expected


@given(
    records=st.sets(st.integers(1, COUNT)),
    chains=st.sets(st.integers(1, COUNT)),
)
def test_altered_neighbours_are_not_believed(records: set[int], chains: set[int]) -> None:
    found = {entry.position: [entry] for entry in WHOLE}
    for at in records:
        found[at] = [replace(found[at][0], record=b'{"eventID":"forged"}')]
    only_records = list(intact_entries(found, 1, COUNT, GENESIS))
    assert only_records == [one for one in WHOLE if one.position not in records]
    for at in chains:
        found[at] = [replace(found[at][0], chain=b"x" * 32)]
    believed = {one.position for one in intact_entries(found, 1, COUNT, GENESIS)}
    assert not believed & records


@given(at=st.integers(1, COUNT - 1))
def test_an_altered_chain_costs_no_confirmed_record(at: int) -> None:
    found = {entry.position: [entry] for entry in WHOLE}
    found[at] = [replace(WHOLE[at - 1], chain=b"x" * 32)]
    assert list(intact_entries(found, 1, COUNT, GENESIS)) == WHOLE
