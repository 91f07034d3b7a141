"""Records divided over columns: each in one, kinds together, with balanced sizes."""

from __future__ import annotations

from collections import Counter

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.duckdb.record_columns import (
    COLUMNS,
    DEFINED,
    DIVIDED,
    PARTS,
    STORED,
    ColumnPartitioning,
    divided,
)

KINDS = st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz"), st.integers(1, 5_000))


@given(st.lists(st.lists(KINDS, max_size=60), max_size=4))
def test_one_part_has_all_events_of_a_kind(
    batches: list[list[tuple[str, str, int]]],
) -> None:
    parting = ColumnPartitioning()
    for events in batches:
        parts = parting.parts(events)
        of_kind: dict[tuple[str, str], set[int]] = {}
        for (source, name, _), part in zip(events, parts, strict=True):
            of_kind.setdefault((source, name), set()).add(part)
        assert all(len(found) == 1 for found in of_kind.values())
        assert set(parts) <= set(range(PARTS))


@given(st.lists(KINDS, min_size=1, max_size=200))
def test_parts_are_as_equal_as_the_kinds_allow(
    events: list[tuple[str, str, int]],
) -> None:
    loads, kinds = [0] * PARTS, Counter[tuple[str, str]]()
    for (source, name, size), part in zip(events, ColumnPartitioning().parts(events), strict=True):
        loads[part] += size
        kinds[source, name] += size
    # Greedy placement into the least loaded part exceeds the mean by no more (Graham 1966).
    mean, largest = sum(loads) / PARTS, max(kinds.values())
    assert max(loads) <= mean + largest * (1 - 1 / PARTS)


def test_largest_group_gets_its_own_part() -> None:
    parting = ColumnPartitioning()
    few = [("iam", f"Call{number}", 1_000) for number in range(30)]
    assert len(set(parting.parts(few))) == PARTS
    most = [("s3", "PutObject", 1_000)] * 300
    parts = parting.parts([*few, *most])
    assert len(set(parts[30:])) == 1
    assert set(parts[:30]) == set(range(PARTS)) - {parts[30]}


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.permutations(range(len(sizes))))
    )
)
def test_moving_overfills_no_part(
    drawn: tuple[list[int], list[int]],
) -> None:
    """If batches are alike, nothing moves after the first."""
    sizes, order = drawn
    parting = ColumnPartitioning()
    events = [("source", f"Call{number}", sizes[number]) for number in order]
    before: list[int] = []
    for _ in range(8):
        before, parts = (parting.parts(events) for _ in range(2))
    assert before == parts
    loads = [sum(e[2] for e, own in zip(events, parts, strict=True) if own == p) for p in range(4)]
    mean, largest = sum(loads) / PARTS, max(sizes)
    assert max(loads) <= mean + largest * (1 - 1 / PARTS)


def test_five_large_kinds_keep_their_parts() -> None:
    parting = ColumnPartitioning()
    events = [("s3", f"Large{n}", 1_700) for n in range(5)]
    events += [("iam", f"Small{n}", 100) for n in range(15)]
    first = parting.parts(events)
    assert all(parting.parts(events) == first for _ in range(5))


def test_only_the_larger_kinds_are_remembered() -> None:
    parting = ColumnPartitioning()
    large = [("s3", "PutObject", 10_000_000)]
    for start in range(0, 50_000, 5_000):
        parting.parts([*large, *(("x", f"Call{start + n}", 10) for n in range(5_000))])
    (part,) = set(parting.parts(large))
    assert part not in set(parting.parts([("x", f"Other{n}", 10) for n in range(50)]))


@given(st.lists(st.tuples(st.integers(0, PARTS - 1), st.text(max_size=20)), max_size=30))
@pytest.mark.slow
def test_split_data_is_read_whole(rows: list[tuple[int, str]]) -> None:
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
