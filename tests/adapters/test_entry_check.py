"""Columns of an entry that its record repeats."""

from __future__ import annotations

from dataclasses import replace

from opentrail.adapters.entry_check import agrees, differing, is_record
from tests.factories import an_entry, some_records


def test_columns_that_disagree_with_the_record_are_named() -> None:
    (record,) = some_records(1)
    entry = an_entry(1, record)
    assert agrees(entry)
    for column in ("event_id", "account", "region", "category"):
        other = replace(entry, **{column: "another"})  # type: ignore[arg-type]
        assert not agrees(other)
        assert differing(other) == {column: getattr(entry, column)}
    assert agrees(replace(entry, record=b"no JSON"))
    assert agrees(replace(entry, record=b"[]"))


def test_a_record_is_a_json_object() -> None:
    (record,) = some_records(1)
    entry = an_entry(1, record)
    assert is_record(entry)
    assert not is_record(replace(entry, record=b"[]"))
    assert not is_record(replace(entry, record=entry.record[:-1]))
