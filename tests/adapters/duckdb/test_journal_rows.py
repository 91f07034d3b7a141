"""Rows of the journal have event history's columns, without lost and damaged entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from opentrail.adapters.duckdb.journal_rows import (
    COLUMNS,
    create_rows,
    existing_runs,
    insert_rows,
    readable,
)
from opentrail.core.errors import JournalDamaged
from opentrail.core.event import Entry, micros
from opentrail.ports.journal import LostPositions
from tests.factories import MOMENT, a_record, an_entry


class Source:
    """A journal with positions 1 to 9 and some damaged entries."""

    def __init__(self, *damaged: int, lost: tuple[LostPositions, ...] = ()) -> None:
        self._damaged, self._lost = damaged, lost

    def lost_between(self, first: int, last: int) -> list[LostPositions]:
        return [each for each in self._lost if each.first <= last and (each.last or 0) >= first]

    def read_range(self, first: int, last: int, batch: int = 2) -> Iterator[list[Entry]]:
        for position in range(first, min(last, 9) + 1):
            if position in self._damaged:
                raise JournalDamaged("damaged", position)
            yield [an_entry(position)]


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [((), [2, 3, 4, 5, 6]), ((4,), [2, 3, 5, 6]), ((2, 3), [4, 5, 6]), ((1,), [2, 3, 4, 5, 6])],
)
def test_damaged_entries_are_left_out(damaged: tuple[int, ...], expected: list[int]) -> None:
    source: Any = Source(*damaged)
    assert [e.position for batch in readable(source, 2, 6) for e in batch] == expected


def test_lost_positions_divide_a_range() -> None:
    lost = (LostPositions(3, 4, "x"), LostPositions(8, 9, "x"), LostPositions(20, None, "x"))
    source: Any = Source(lost=lost)
    assert list(existing_runs(source, 1, 10)) == [(1, 2), (5, 7), (10, 10)]
    assert list(existing_runs(source, 3, 4)) == []


def test_rows_have_the_members_of_records() -> None:
    record = a_record(errorCode="AccessDenied", eventTime="2020-01-01T09:00:00Z")
    with duckdb.connect(":memory:") as connection:
        create_rows(connection, "made")
        assert insert_rows(connection, "made", [an_entry(7, record)]) > 100
        broken = an_entry(8)
        insert_rows(connection, "made", [Entry(**{**_members(broken), "record": b"no JSON"})])
        rows = connection.execute(f"SELECT {COLUMNS} FROM made").fetchall()  # noqa: S608
    recorded = micros(MOMENT)
    event_time = int(MOMENT.timestamp())
    assert rows[0][:-1] == (
        *(7, recorded, event_time, "CreateUser", "iam.amazonaws.com", "AccessDenied"),
        *("192.0.2.10", "Management", "123456789012", "us-east-1"),
    )
    assert rows[1][2:7] == (None, None, None, None, None)


def _members(entry: Entry) -> dict[str, Any]:
    names = ("position", "origin", "recorded_at", "account", "region", "category", "event_id")
    return {name: getattr(entry, name) for name in (*names, "chain", "record")}
