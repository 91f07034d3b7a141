"""Statements are answered as Trino answered them, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect import (
    aggregates,
    arithmetic,
    calls,
    casts,
    conditions,
    expressions,
    json_functions,
    literals,
    names,
    number_functions,
    record_members,
    statements,
    text_functions,
    time_calls,
    time_functions,
)
from opentrail.lake.dialect.parsing import tables_in
from opentrail.lake.dialect.scopes import QueryTable
from opentrail.lake.dialect.statements import translate
from tests.lake.oracle import Engine, Tables, cases, engine, same

#: Everything whose mistakes would give another answer than Trino's.
JUDGED = (
    aggregates,
    arithmetic,
    calls,
    casts,
    conditions,
    expressions,
    json_functions,
    literals,
    names,
    number_functions,
    record_members,
    statements,
    text_functions,
    time_calls,
    time_functions,
)
#: Statements that AWS's documentation has, and Trino refuses: a time compared with a string.
_LAX = ("Cannot apply operator: timestamp", "Cannot check if timestamp", "';'")
#: Trino refuses these; what they mean is plain.
_PLAIN = (
    "mismatched input '='",
    "Column reference",
    "Could not choose a best candidate operator",
    "Given correlated subquery is not supported",
)


_REFUSALS = (
    StatementRefused,
    duckdb.InvalidInputException,
    duckdb.OutOfRangeException,
    duckdb.ConversionException,
)


@pytest.fixture(scope="module")
def trino() -> Iterator[Engine]:
    with engine(has_tables=True) as made:
        yield made


def judge(trino: Engine, case: dict[str, Any]) -> str:
    """Returns `same`, `refused` or what is wrong."""
    try:
        columns, rows = trino.run(case["sql"])
    except _REFUSALS:
        return "same" if "error" in case or case.get("not_select") else "refused"
    except duckdb.Error as error:  # DuckDB does not understand the translation
        return f"failed: {error}"
    if "error" in case:
        is_lax = any(part in case["error"] for part in (*_LAX, *_PLAIN))
        return "same" if is_lax and not case.get("strict") else "answered"
    if [column.name for column in columns] != [column["name"] for column in case["columns"]]:
        return f"names {columns}"
    return "same" if is_same(rows, case) else f"other {rows}"


def is_same(rows: list[list[Any]], case: dict[str, Any]) -> bool:
    """Tells whether rows are the recorded ones: in any order but that of the sort keys."""
    kinds = [column["type"] for column in case["columns"]]

    def equal(a: list[Any], b: list[Any]) -> bool:
        return all(same(x, y, kind) for x, y, kind in zip(a, b, kinds, strict=True))

    wanted = list(case["rows"])
    if len(rows) != len(wanted):
        return False
    for a, b in zip(rows, wanted, strict=True):
        if any(not same(a[key], b[key], kinds[key]) for key in case.get("order_by") or []):
            return False
    for row in rows:
        found = next((n for n, each in enumerate(wanted) if equal(row, each)), None)
        if found is None:
            return False
        del wanted[found]
    return True


@pytest.mark.parametrize(
    ("name", "share"), [("expressions", 0.9), ("queries", 0.97), ("further", 0.85)]
)
def test_no_statement_has_another_answer_than_trinos(
    trino: Engine, name: str, share: float
) -> None:
    found = [(case, judge(trino, case)) for case in cases(name) if not case.get("approximate")]
    wrong = [
        (case["sql"], verdict) for case, verdict in found if verdict not in ("same", "refused")
    ]
    assert wrong == []
    answerable = [verdict for case, verdict in found if "error" not in case]
    assert answerable.count("same") / len(answerable) >= share


class _Asked:
    """A catalog that keeps the names that the translation asks for."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.names: set[str] = set()

    def table(self, name: str) -> QueryTable | None:
        self.names.add(name.lower())
        return self._tables.table(name)


@pytest.mark.parametrize("name", ["queries", "further"])
def test_translation_reads_the_named_tables(trino: Engine, name: str) -> None:
    translated = 0
    for case in cases(name):
        asked = _Asked(trino.tables)
        try:
            translate(case["sql"], asked)
        except StatementRefused:
            continue
        translated += 1
        assert asked.names == tables_in(case["sql"]), case["sql"]
    assert translated > 50
