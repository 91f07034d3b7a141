"""Rows of a segment come back unchanged, with few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.sqlite.verify import SCHEMA, SELECT, entry_of, inserts
from tests.factories import a_record, an_entry, event_id


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.executescript(SCHEMA)
        yield opened


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 700), first=st.integers(1, 1 << 40))
def test_entries_come_back_unchanged(database: sqlite3.Connection, count: int, first: int) -> None:
    entries = [
        an_entry(first + n, a_record(eventID=event_id(n), eventName=f"é{n}")) for n in range(count)
    ]
    statements = list(inserts(entries))
    assert len(statements) <= count // 128 + 4
    assert len(statements) == 1 or count == 0 or count > 32
    database.execute("DELETE FROM entries")
    for statement, values in statements:
        database.execute(statement, values)
    rows = database.execute(SELECT, (first - 1, first + count, count + 1)).fetchall()
    assert [entry_of(row) for row in rows] == entries
