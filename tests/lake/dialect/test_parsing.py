"""Parsing accepts one SELECT of known nodes, and names the place of anything else."""

from __future__ import annotations

import pytest
from sqlglot import exp

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.parsing import parse, tables_in

_ID = "0e2d3c4b-5678-90ab-cdef-0123456789ab"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT 1; SELECT 2", "one SELECT statement was expected"),
        ("DELETE FROM own", "only SELECT statements are supported"),
        ("SELECT\n ?", "line 2:2: parameters are not supported"),
        ("SELECT 1_000", "line 1:8: this form of a number is not supported"),
        ("SELECT 0xFF", "line 1:8: this form of a number is not supported"),
        ("SELECT a FROM WHERE x", "line 1:15: mismatched input 'WHERE'. Expecting: table name"),
        ("SELECT a,\n  b FROM own GROUP name", "line 2:20: mismatched input 'name'"),
        ("SELECT a FROM own WHERE (x = 1", "line 1:30: unexpected end after '1'. Expecting: )"),
        ("SELECT 1 +", "line 1:10: unexpected end after '+'"),
        ("SELECT a b c", "line 1:12: mismatched input 'c'"),
        ("SELECT a COLLATE b FROM own", "COLLATE is not supported"),
        ("SELECT a FROM own QUALIFY true", "line 1:27: mismatched input 'true'"),
    ],
)
def test_refusals_say_why(statement: str, message: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        parse(statement)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", [_ID, _ID.upper(), f"{_ID}\n"])
def test_store_ids_are_tables(text: str) -> None:
    tree = parse(f"SELECT '{_ID}' AS x FROM {text}")
    assert [table.name for table in tree.find_all(exp.Table)] == [_ID]
    assert [literal.this for literal in tree.find_all(exp.Literal)] == [_ID]


def test_calls_stay_unchanged() -> None:
    tree = parse("SELECT Date_Trunc('day', x), COUNT(DISTINCT y) FROM own")
    calls = [(call.this, len(call.expressions)) for call in tree.find_all(exp.Anonymous)]
    assert sorted(calls) == [("COUNT", 1), ("Date_Trunc", 2)]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SELECT 1", set()),
        ("SELECT 'audit', \"audit\" FROM Other -- audit", {"other"}),
        ("SELECT 1 FROM default.audit, AwsDataCatalog.default.b", {"audit", "b"}),
        (f"SELECT 1 FROM {_ID.upper()}", {_ID}),
        ("WITH audit AS (SELECT 1 AS x FROM other) SELECT * FROM audit", {"other"}),
        ("WITH audit AS (SELECT * FROM audit) SELECT * FROM audit", {"audit"}),
        ("WITH audit AS (SELECT 1) SELECT * FROM default.audit", {"audit"}),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) JOIN a ON true", {"a"}),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT (SELECT 1 FROM b)", set()),
        ("WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b", {"a"}),
        (
            "WITH RECURSIVE t(n) AS (SELECT n FROM s UNION ALL SELECT n FROM t) SELECT * FROM t",
            {"s"},
        ),
        (
            "WITH RECURSIVE t(n) AS (SELECT n FROM t UNION ALL SELECT n FROM t) SELECT * FROM t",
            {"t"},
        ),
        ("SELECT 1 FROM a WHERE x IN (SELECT y FROM b) ORDER BY (SELECT 1 FROM c)", {*"abc"}),
        ("SELECT 1 FROM a CROSS JOIN UNNEST(b) UNION SELECT 1 FROM d", {"a", "d"}),
    ],
)
def test_tables_are_read_outside_of_with(statement: str, names: set[str]) -> None:
    assert tables_in(statement) == names
