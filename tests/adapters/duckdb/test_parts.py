"""Records divided over columns: each in one, kinds together, as much in each as may be."""

from __future__ import annotations

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.duckdb.parts import (
    COLUMNS,
    DEFINED,
    DIVIDED,
    PARTS,
    STORED,
    Parting,
    divided,
)

KINDS = st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz"), st.integers(1, 5_000))


@given(st.lists(KINDS, max_size=60))
def test_a_kind_of_event_stays_in_its_part(events: list[tuple[str, str, int]]) -> None:
    parting = Parting()
    parts = [parting.part(*event) for event in events]
    of_kind: dict[tuple[str, str], set[int]] = {}
    for (source, name, _), part in zip(events, parts, strict=True):
        of_kind.setdefault((source, name), set()).add(part)
    assert all(len(found) == 1 for found in of_kind.values())
    assert set(parts) <= set(range(PARTS))


def test_what_is_new_goes_where_least_is() -> None:
    parting = Parting()
    parts = [parting.part("s3", f"Call{number}", 1_000) for number in range(2 * PARTS)]
    assert parts == [*range(PARTS)] * 2
    assert parting.part("s3", "Call0", 90_000) == 0
    others = {parting.part("iam", f"Call{number}", 1_000) for number in range(20)}
    assert others == set(range(1, PARTS))


@given(st.lists(st.tuples(st.integers(0, PARTS - 1), st.text(max_size=20)), max_size=30))
def test_what_is_divided_is_read_whole(rows: list[tuple[int, str]]) -> None:
    parts, records = [row[0] for row in rows], [row[1].replace("\0", "") for row in rows]
    with duckdb.connect(":memory:") as database:
        database.execute(f"CREATE TABLE once (number BIGINT, {DEFINED})")
        values = ", ".join(f"unnest(?::VARCHAR[]) AS {column}" for column in COLUMNS)
        database.execute(
            f"INSERT INTO once (number, {STORED})"
            f" SELECT unnest(?::BIGINT[]), unnest(?::TINYINT[]), {values}",
            [list(range(len(rows))), parts, *divided(parts, records)],
        )
        database.execute(f"CREATE TABLE again (number BIGINT, {DEFINED})")
        database.execute(
            f"INSERT INTO again (number, {STORED})"  # noqa: S608 - ours
            f" SELECT number, {DIVIDED} FROM once"
        )
        for table in ("once", "again"):
            read = database.table(table).order("number").project("record").fetchall()
            assert [row[0] for row in read] == records
