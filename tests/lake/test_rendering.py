"""Values of results as text."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from opentrail.lake.dialect.types import parse_type
from opentrail.lake.rendering import row_of, text


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("varchar", "a", "a"),
        ("varchar", None, None),
        ("boolean", True, "true"),
        ("bigint", 7, "7"),
        ("decimal(5,2)", Decimal("1.50"), "1.50"),
        ("double", 1.5, "1.5"),
        ("double", 2.0, "2.0"),
        ("double", 1e10, "1.0E10"),
        ("double", 1.5e-5, "1.5E-5"),
        ("double", 123456789.5, "1.234567895E8"),
        ("double", float("nan"), "NaN"),
        ("double", float("-inf"), "-Infinity"),
        ("date", date(2024, 1, 2), "2024-01-02"),
        ("timestamp(3)", datetime(2024, 1, 2, 3, 4, 5, 6000), "2024-01-02 03:04:05.006"),
        ("timestamp(0)", datetime(2024, 1, 2, 3, 4, 5), "2024-01-02 03:04:05"),
        ("timestamp(3) with time zone", datetime(2024, 1, 2), "2024-01-02 00:00:00.000 UTC"),
        ("interval day to second", 90_061_001, "1 01:01:01.001"),
        ("interval year to month", -14, "-1-2"),
        ("ipaddress", bytes(10) + b"\xff\xff\x0a\x01\x02\x03", "10.1.2.3"),
        ("varbinary", b"\x00\xff", "00ff"),
        ("array(varchar)", ["a", None], "[a, null]"),
        ("map(varchar, bigint)", {"a": 1, "b": None}, "{a=1, b=null}"),
        ("row(Name varchar, n bigint)", {"f0": "a", "f1": 1}, "{name=a, n=1}"),
    ],
)
def test_values_are_shown_as_text(kind: str, value: Any, shown: str | None) -> None:
    parsed = parse_type(kind)
    assert parsed is not None
    assert text(value, parsed) == shown


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("varchar", 'a\u0000"\\/\n\u00e9\u2028\U0001f600'),
        ("json", '{"a":1}'),
        ("varchar", None),
        ("boolean", False),
        ("tinyint", -128),
        ("bigint", 2**63 - 1),
        ("timestamp(0)", datetime(5, 1, 2, 3, 4, 5)),
        ("timestamp(3)", datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        ("timestamp(6)", datetime(2024, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_engine_shows_rows_alike(kind: str, value: Any) -> None:
    parsed = parse_type(kind)
    assert parsed is not None
    query = f"SELECT {row_of([parsed, parsed])} FROM (SELECT $1::{parsed.engine} AS r0, r0 AS r1)"
    with duckdb.connect() as connection:
        (shown,) = connection.execute(query, [value]).fetchone() or ("",)
    assert json.loads(shown) == [text(value, parsed)] * 2


@pytest.mark.parametrize("kind", ["double", "decimal(5,2)", "date", "uuid", "map(varchar, bigint)"])
def test_engine_shows_no_other_rows(kind: str) -> None:
    parsed = parse_type(kind)
    assert parsed is not None
    assert row_of([parsed]) is None
