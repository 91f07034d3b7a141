"""Rows of a table come back unchanged."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.duckdb.schema import HOT_COLUMNS, create_hot
from opentrail.adapters.duckdb.table_set import insert_rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.just("\0"), max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "BOOLEAN": st.booleans(),
    "VARCHAR": st.none() | TEXTS,
    "VARCHAR[]": st.lists(TEXTS, max_size=3),
}
DATABASE = duckdb.connect(":memory:", config={"threads": 1})
ROW = st.tuples(*(VALUES[kind] for kind in HOT_COLUMNS.values()))


@given(st.lists(ROW, min_size=1, max_size=5), st.lists(ROW, min_size=1, max_size=5))
@pytest.mark.slow
def test_rows_are_inserted_unchanged(first: list[Any], second: list[Any]) -> None:
    DATABASE.execute("DROP TABLE IF EXISTS hot")
    DATABASE.execute(create_hot("hot"))
    insert_rows(DATABASE, "hot", first)
    insert_rows(DATABASE, "hot", second)
    assert DATABASE.execute("SELECT * FROM hot").fetchall() == [*first, *second]


def test_further_columns_hold_integers() -> None:
    row = tuple(7 if kind == "BIGINT" else None for kind in HOT_COLUMNS.values())
    with duckdb.connect(":memory:") as database:
        database.execute(create_hot("staged", {"file": "INTEGER", "part": "TINYINT"}))
        insert_rows(database, "staged", [(*row[:6], *row[6:], 3, -1)], ("file", "part"))
        found = database.execute("SELECT position, file, part FROM staged").fetchall()
    assert found == [(7, 3, -1)]


@pytest.mark.parametrize("place", [0, 1, 997, 1_003, 4_998])
@pytest.mark.parametrize("count", [1_000, 5_000])
def test_a_very_rare_value_is_kept(count: int, place: int) -> None:
    def row(number: int) -> tuple[Any, ...]:
        is_there = number == place % count
        rare = {"VARCHAR": "text" if is_there else None, "VARCHAR[]": ["a"] if is_there else []}
        known = {"BIGINT": number, "BOOLEAN": True, **rare}
        return tuple(known[kind] for kind in HOT_COLUMNS.values())

    rows = [row(number) for number in range(count)]
    with duckdb.connect(":memory:") as database:
        database.execute(create_hot("hot"))
        insert_rows(database, "hot", rows)
        assert database.execute("SELECT * FROM hot").fetchall() == rows
