"""FROM: which columns an item has, and which items it may see."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.relations import Relations
from tests.lake.oracle import Engine, Tables, engine

_A = "(VALUES (1, 'x'), (2, 'y')) a (n, s)"
_B = "(VALUES (2, 'p'), (3, 'q')) b (n, t)"


@pytest.fixture(scope="module")
def lake() -> Iterator[Engine]:
    with engine() as made:
        made.tables = Tables({})
        yield made


@pytest.mark.parametrize(
    ("source", "columns", "rows"),
    [
        (f"{_A} JOIN {_B} USING (n)", ["n", "s", "t"], [[2, "y", "p"]]),
        (
            f"{_A} FULL JOIN {_B} USING (n)",
            ["n", "s", "t"],
            [[1, "x", None], [2, "y", "p"], [3, None, "q"]],
        ),
        (f"{_A} RIGHT JOIN {_B} ON a.n = b.n", ["n", "s", "n", "t"],
         [[2, "y", 2, "p"], [None, None, 3, "q"]]),
        (f"{_A} CROSS JOIN UNNEST(sequence(1, n)) u (i)", ["n", "s", "i"],
         [[1, "x", 1], [2, "y", 1], [2, "y", 2]]),
        ("UNNEST(array['a'], array[1, 2]) WITH ORDINALITY", ["_col0", "_col1", "ordinality"],
         [["a", 1, 1], [None, 2, 2]]),
        (f"{_A}, LATERAL (SELECT n * 10 AS m) c", ["n", "s", "m"], [[1, "x", 10], [2, "y", 20]]),
    ],
)  # fmt: skip
def test_items_have_their_columns(
    lake: Engine, source: str, columns: list[str], rows: list[list[object]]
) -> None:
    found = lake.run(f"SELECT * FROM {source} ORDER BY 1, 3")
    assert [column.name for column in found[0]] == columns
    assert found[1] == rows


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{_A} JOIN {_B} USING (s)", "Column 's' is missing from one side of join"),
        (
            f"{_A} LEFT JOIN UNNEST(array[n]) u (i) ON n = i",
            "only supported with condition ON TRUE",
        ),
        (f"{_A} FULL JOIN UNNEST(array[1]) u (i) ON true", "FULL JOIN involving UNNEST"),
        ("(SELECT 1) x (a, b)", "Column alias list has 2 entries but 'x' has 1 columns available"),
        ("UNNEST(1) u (i)", "Cannot unnest type: integer"),
        ("other.own", "Schema or catalog 'other' does not exist"),
        (f"{_A} JOIN {_B} ON count(*) > 1", "JOIN clause cannot contain aggregations"),
    ],
)
def test_refusals_say_why(lake: Engine, source: str, message: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        lake.run(f"SELECT * FROM {source}")
    assert message in str(refused.value)


def test_names_of_relations_are_unique() -> None:
    relations = Relations(Tables({}), None, None)  # type: ignore[arg-type]
    assert len({next(relations.tables) for _ in range(10)}) == 10


@pytest.mark.parametrize("union", ["UNION", "UNION ALL"])
def test_recursion_ends_after_ten_steps(lake: Engine, union: str) -> None:
    counting = f"WITH RECURSIVE t (n) AS (SELECT 1 {union} SELECT n + 1 FROM t WHERE n < %d)"
    _, rows = lake.run(f"{counting % 11} SELECT count(*), sum(n) FROM t")
    assert rows == [[11, 66]]
    with pytest.raises(duckdb.Error, match=r"Recursion depth limit exceeded \(10\)"):
        lake.run(f"{counting % 12} SELECT count(*) FROM t")


def test_recursion_may_read_itself_twice(lake: Engine) -> None:
    step = "SELECT a.n + b.n FROM t a CROSS JOIN t b WHERE a.n < 5"
    _, rows = lake.run(f"WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL {step}) SELECT n FROM t")
    assert rows == [[1], [2], [4], [8]]
