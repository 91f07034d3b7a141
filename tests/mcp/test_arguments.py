"""Plain sentences describe wrong arguments."""

from __future__ import annotations

import pytest

from opentrail.mcp.asked import describe_errors, unknown_argument

SCHEMA = {
    "properties": {
        "resource": {"type": "string", "maxLength": 1200, "description": "name or ARN"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 50},
        "data_events": {"type": "boolean"},
    }
}


@pytest.mark.parametrize(
    ("name", "kind", "value", "sentence"),
    [
        ("limit", "less_than_equal", 99, "limit must be a whole number from 1 to 50, not 99."),
        ("data_events", "bool_parsing", "x", "data_events must be true or false, not 'x'."),
        (
            "resource",
            "string_type",
            5,
            "resource must be a string of at most 1,200 characters (name or ARN), not 5.",
        ),
        (
            "resource",
            "missing",
            {},
            "resource must be given: a string of at most 1,200 characters (name or ARN).",
        ),
    ],
)
def test_invalid_value_is_named_with_the_valid_ones(
    name: str, kind: str, value: object, sentence: str
) -> None:
    error = {"loc": (name,), "type": kind, "input": value}
    assert describe_errors(SCHEMA, [error, error]) == sentence


def test_an_unknown_argument_is_named_with_the_nearest() -> None:
    assert unknown_argument(SCHEMA, {"limit": 1}) is None
    assert unknown_argument(SCHEMA, {"resourse": "x"}) == (
        "there is no argument 'resourse'; did you mean resource?"
        " Known are resource, limit, data_events."
    )
    assert unknown_argument(SCHEMA, {"\x1bz": 1}) == (
        "there is no argument 'z'. Known are resource, limit, data_events."
    )
