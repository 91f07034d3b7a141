"""Values of results as text."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from opentrail.lake.dialect.types import parse_type
from opentrail.lake.rendering import text


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
