"""Which expressions SQL decides alone, and that its conditions never lose an event.

That they agree with a plain evaluation is in the contract of event stores.
"""

from __future__ import annotations

import pytest

from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.core.expression import parse
from tests.factories import MOMENT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name=CreateUser user!=John",
        "name=Create* OR is:failure",
        "NOT (source=iam AND resource=x)",
        "time>=2020-01-01 until 2020-01-02",
        "readonly=true",
        r"name=100\%_*",
    ],
)
def test_what_typed_columns_tell_is_decided_by_sql_alone(text: str) -> None:
    assert condition_of(parse(text, MOMENT)).exact


@pytest.mark.parametrize(
    ("text", "looked_for"),
    [
        ("requestParameters.bucketName=logs-*-x/y", "logs-"),
        ("requestParameters.bucketName:LOGS", "logs"),
        ('"Mary Ann"', "mary ann"),
        ("requestParameters.name=größe", None),
        ("requestParameters.count=1000", None),
        ("1e3", None),
        ("ip=10.0.0.0/8", None),
        ("NOT requestParameters.a=b", None),
        ("requestParameters.count>5", None),
    ],
)
def test_other_parts_only_narrow_what_is_looked_through(text: str, looked_for: str | None) -> None:
    found = condition_of(parse(text, MOMENT))
    assert not found.exact
    assert found.arguments == (() if looked_for is None else (looked_for,))


def test_characters_of_like_are_taken_literally() -> None:
    assert condition_of(parse(r"name=a%b_c*", MOMENT)).arguments == (r"a\%b\_c%",)
