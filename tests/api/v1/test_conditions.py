"""Conditions in a question."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opentrail.api.v1.conditions import count_in, position_in
from opentrail.core.errors import CloudTrailError
from opentrail.core.expression import And, parse
from opentrail.history.event_history import Search
from opentrail.history.written_searches import listed, search_in
from tests.factories import MOMENT


def test_question_without_conditions_is_for_all_management_events() -> None:
    assert search_in({}, MOMENT) == Search(categories=("Management",))


def test_every_condition_is_read() -> None:
    query = {
        "expression": "user=John last 1h",
        "since": "2020-01-01T09:00:00Z",
        "until": "2020-01-01T10:00:00+01:00",
        "account": "123456789012",
        "region": "eu-west-1",
        "categories": "all",
    }
    assert search_in(query, MOMENT) == Search(
        account="123456789012",
        region="eu-west-1",
        expression=parse("user=John last 1h", MOMENT),
        start=MOMENT,
        end=MOMENT,
    )
    later = search_in({"expression": "last 1h"}, MOMENT + timedelta(hours=5))
    assert later.expression == parse("last 1h", MOMENT + timedelta(hours=5))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"expression": "usr=x"}, "InvalidParameterException"),
        ({"since": "yesterday"}, "InvalidTimeRangeException"),
        ({"until": "2020-13-01"}, "InvalidTimeRangeException"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "InvalidTimeRangeException"),
    ],
)
def test_contradictory_conditions_are_refused(query: dict[str, str], code: str) -> None:
    with pytest.raises(CloudTrailError) as refused:
        search_in(query, MOMENT)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "last 1h",
        "is:read is:success",
        "region=us-east-1 OR account=123456789012",
        "readOnly=true",
        "opens:22",
    ],
)
def test_lists_leave_out_questions_of_agents(expression: str) -> None:
    search = search_in({"expression": expression}, MOMENT)
    also = f"({expression}) AND " if expression else ""
    without = parse(f"{also}NOT source=mcp.opentrail.internal", MOMENT)
    assert expressed(listed(search)) == expressed(Search(expression=without))
    assert listed(search).categories == search.categories


def expressed(search: Search) -> object:
    """Returns the conditions of a search, without the `And` around a single one."""
    expression = search.expression
    return (
        expression.parts[0]
        if isinstance(expression, And) and len(expression.parts) == 1
        else expression
    )


@pytest.mark.parametrize(
    "expression",
    [
        "name=McpToolCall",
        "name!=GetUser",
        "source=mcp.opentrail.internal",
        "user=ada is:read",
        "agent=*",
        "lookup",
        "region=us-east-1 requestParameters.tool=who",
        "is:read (last 1h OR NOT key=AKIA)",
    ],
)
def test_searches_for_calls_find_questions_of_agents(expression: str) -> None:
    search = search_in({"expression": expression}, MOMENT)
    assert listed(search) == search


def test_a_count_is_a_number_within_its_limit() -> None:
    assert count_in({}, "limit") is None
    assert count_in({"limit": "10000"}, "limit") == 10_000
    assert count_in({"last": "1"}, "last") == 1
    assert count_in({"limit": "10001"}, "limit", 20_000) == 10_001
    for text in ("0", "10001", "-1", "x", "", "²", "1.5", "9" * 5_000):
        with pytest.raises(CloudTrailError, match="limit must be 1 to 10000"):
            count_in({"limit": text}, "limit")


def test_a_position_is_at_most_the_journals_head() -> None:
    assert position_in({}, "after", 5) is None
    assert position_in({"after": "0"}, "after", 5) == 0
    assert position_in({"after": "5"}, "after", 5) == 5
    for text in ("6", "-1", "", "x"):
        with pytest.raises(CloudTrailError, match="0 to 5"):
            position_in({"after": text}, "after", 5)
