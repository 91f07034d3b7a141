"""Searches for other values than those that were asked for."""

from __future__ import annotations

import pytest

from opentrail.core.expression import parse
from opentrail.history.event_history import Search
from opentrail.history.nearest import Nearest, with_values
from tests.factories import MOMENT

JOHN = Nearest("username", "john", "John", 3, "case")
STAR = Nearest("username", "joh*n", "Joh*n", 1, "case")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("user=john", "user=John"),
        ("user=john name=CreateUser last 1h", "user=John name=CreateUser last 1h"),
        ("user=john OR user=Mary", "user=John OR user=Mary"),
        ("(user=john OR is:read) error:x", "(user=John OR is:read) error:x"),
        ("user IN (john, Mary)", "user IN (John, Mary)"),
        (r"user=joh\*n", r"user=Joh\*n"),
        ("user!=john", "user!=john"),
        ("NOT user=john", "NOT user=john"),
        ("name=john", "name=john"),
        ("user=joh?", "user=joh?"),
        ("john", "john"),
    ],
)
def test_only_the_comparison_with_the_value_changes(before: str, after: str) -> None:
    search = Search(expression=parse(before, MOMENT), region="us-east-1")
    other = with_values(search, [JOHN, STAR])
    assert other == Search(expression=parse(after, MOMENT), region="us-east-1")


def test_a_search_without_an_expression_remains() -> None:
    assert with_values(Search(), [JOHN]) == Search()
