"""Condition operators, one by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opentrail.core.policies.condition_operators import OPERATORS, ConditionError, condition


def holds(operator: str, wanted: str | list[str], *values: str, **context: str) -> bool:
    texts = [wanted] if isinstance(wanted, str) else wanted
    keys = {name.replace("__", ":"): (value,) for name, value in context.items()}
    return condition(operator, "aws:Key", texts, with_variables=True)({**keys, "aws:key": values})


@pytest.mark.parametrize(
    ("operator", "wanted", "fitting", "other"),
    [
        ("StringEquals", "a", "a", "A"),
        ("StringEquals", "a*", "a*", "ab"),
        ("StringEqualsIgnoreCase", "Straße", "STRASSE", "x"),
        ("StringLike", "a*c?e", "abcde", "abce"),
        ("StringLike", "*", "", None),
        ("NumericEquals", "10", "1e1", "10.5"),
        ("NumericLessThan", "10", "9.9", "10"),
        ("NumericLessThanEquals", "10", "10", "11"),
        ("NumericLessThanEquals", "10", "9", "11"),
        ("NumericGreaterThan", "-1", "0", "-1"),
        ("NumericGreaterThanEquals", "1", "1", "0"),
        ("NumericGreaterThanEquals", "1", "2", "0"),
        ("DateEquals", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-02"),
        ("DateLessThan", "2026-01-01", "1767225599", "1767225600"),
        ("DateLessThanEquals", "2026-01-01", "1767225600", "1767225601"),
        ("DateLessThanEquals", "2026-01-01", "2025-12-31", "1767225601"),
        ("DateGreaterThan", "2026-01-01", "2026-06-01", "2025-06-01"),
        ("DateGreaterThanEquals", "2026-01-01", "2026-01-01", "2025-12-31"),
        ("DateGreaterThanEquals", "2026-01-01", "2026-01-02", "2025-12-31"),
        ("Bool", "true", "True", "false"),
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", "QmluYXJ6"),
        ("IpAddress", "203.0.113.0/24", "203.0.113.7", "203.0.114.7"),
        ("IpAddress", "203.0.113.0/24", "203.0.113.128/25", "203.0.112.0/23"),
        ("IpAddress", "203.0.112.0/24", "203.0.112.0/24", "203.0.112.0/23"),
        ("IpAddress", "2001:db8::/32", "2001:db8::1", "203.0.113.7"),
        ("ArnLike", "arn:aws:s3:::b*", "arn:aws:s3:::bucket", "arn:aws:sqs:::bucket"),
        ("ArnEquals", "arn:aws:sns:*:*:t*", "arn:aws:sns:eu-west-1:1:topic", "arn:aws:sns:a:b:c"),
        ("ArnLike", "arn:aws:sns:*:1:t", "arn:aws:sns:a:1:t", "arn:aws:sns:a:b:1:t"),
        ("ArnLike", "arn:aws:logs:a:1:log-group:*", "arn:aws:logs:a:1:log-group:x:*", "x"),
    ],
)
def test_an_operator_compares(operator: str, wanted: str, fitting: str, other: str | None) -> None:
    assert holds(operator, wanted, fitting)
    assert holds(operator, ["0", wanted] if operator.startswith("Num") else [wanted], fitting)
    if other is not None:
        assert not holds(operator, wanted, other)


@pytest.mark.parametrize(
    ("negated", "wanted", "fitting", "other"),
    [
        ("StringNotEquals", ["a", "b"], "b", "c"),
        ("StringNotEqualsIgnoreCase", ["a"], "A", "b"),
        ("StringNotLike", ["a*", "b*"], "bc", "cc"),
        ("NumericNotEquals", ["1", "2"], "2", "3"),
        ("DateNotEquals", ["2026-01-01"], "2026-01-01", "2026-01-02"),
        ("NotIpAddress", ["10.0.0.0/8", "11.0.0.0/8"], "11.1.1.1", "12.1.1.1"),
        ("ArnNotEquals", ["arn:aws:s3:::b*"], "arn:aws:s3:::b", "arn:aws:s3:::c"),
        ("ArnNotLike", ["arn:aws:s3:::b*"], "arn:aws:s3:::b", "arn:aws:s3:::c"),
    ],
)
def test_a_negated_operator_holds_if_no_value_matches(
    negated: str, wanted: list[str], fitting: str, other: str
) -> None:
    assert not holds(negated, wanted, fitting)
    assert holds(negated, wanted, other)
    assert holds(negated, wanted), "a missing key"


def test_all_operators_are_tested_here() -> None:
    assert len(OPERATORS) == 27


def test_a_missing_key_matches_only_if_exists() -> None:
    for operator in OPERATORS - {"Null"}:
        if "Not" in operator:
            continue
        wanted = {"Num": "1", "Dat": "2026-01-01", "Boo": "true", "IpA": "10.0.0.0/8"}
        text = wanted.get(operator[:3], "arn:aws:s3:::b")
        text = "QQ==" if operator == "BinaryEquals" else text
        assert not holds(operator, text)
        assert holds(f"{operator}IfExists", text)
        assert not holds(f"ForAnyValue:{operator}", text)
        assert not holds(f"ForAnyValue:{operator}IfExists", text)
        assert holds(f"ForAllValues:{operator}", text)


def test_null_tests_whether_a_key_exists() -> None:
    assert holds("Null", "true")
    assert not holds("Null", "true", "x")
    assert holds("Null", "false", "x")
    assert not holds("Null", "false")


def test_set_operators_need_all_or_any_values() -> None:
    assert holds("ForAllValues:StringEquals", ["a", "b"], "a", "b")
    assert not holds("ForAllValues:StringEquals", ["a", "b"], "a", "c")
    assert holds("ForAnyValue:StringEquals", ["a", "b"], "a", "c")
    assert not holds("ForAnyValue:StringEquals", ["a", "b"], "c", "d")
    assert holds("ForAnyValue:StringNotEquals", ["a"], "a", "b")
    assert not holds("ForAllValues:StringNotEquals", ["a"], "a", "b")
    for operator in ("StringEquals", "StringNotEquals", "StringLike"):
        assert not holds(operator, ["a"], "a", "b"), "several values need a set operator"


@pytest.mark.parametrize(
    ("operator", "wanted", "value"),
    [
        ("NumericEquals", "1", "one"),
        ("NumericNotEquals", "1", "nan"),
        ("NumericNotEquals", "1", "1_0"),
        ("DateNotEquals", "2026-01-01", "yesterday"),
        ("NotIpAddress", "10.0.0.0/8", "somewhere"),
        ("IpAddress", "0.0.0.0/0", ""),
        ("Bool", "false", "no"),
        ("BinaryEquals", "QQ==", "QQ"),
        ("ArnNotLike", "arn:aws:s3:::b", "b"),
    ],
)
def test_a_value_of_another_type_never_matches(operator: str, wanted: str, value: str) -> None:
    assert not holds(operator, wanted, value)


@pytest.mark.parametrize(
    "operator",
    ["StringMatches", "stringEquals", "NullIfExists", "ForAllValues:Null", "ForSome:Bool", ""],
)
def test_an_unknown_operator_is_refused(operator: str) -> None:
    with pytest.raises(ConditionError, match="Invalid Condition type"):
        holds(operator, "true")


@pytest.mark.parametrize(
    ("operator", "wanted"),
    [
        ("NumericEquals", "one"),
        ("DateEquals", "soon"),
        ("Bool", "maybe"),
        ("IpAddress", "10.0.0.300"),
        ("BinaryEquals", "?"),
        ("ArnLike", "bucket"),
        ("Null", "maybe"),
    ],
)
def test_policys_value_must_be_of_the_operators_type(operator: str, wanted: str) -> None:
    with pytest.raises(ConditionError):
        holds(operator, wanted)


def test_variables_are_replaced_literally() -> None:
    assert holds("StringEquals", "${aws:username}", "ann", aws__username="ann")
    assert holds("StringLike", "${aws:username}-*", "ann-1", aws__username="ann")
    assert not holds("StringLike", "${aws:username}", "anything", aws__username="*")
    assert holds("StringEquals", "${aws:username, 'nobody'}", "nobody")
    assert holds("StringEquals", "${*}${?}${$}", "*?$")
    assert not holds("StringLike", "${*}", "x")
    assert not holds("StringEquals", "${aws:username}", "ann")
    assert holds("StringNotEquals", "${aws:username}", "ann")
    assert holds("ArnLike", "arn:aws:s3:::${aws:username}", "arn:aws:s3:::ann", aws__username="ann")
    of_a_region = "arn:aws:sns:${aws:Region}:*:topic"
    assert holds("ArnLike", of_a_region, "arn:aws:sns:eu:1:topic", aws__region="eu")
    assert not holds("ArnLike", of_a_region, "arn:aws:sns:eu:1:other:topic", aws__region="eu")
    without = condition("StringEquals", "aws:key", ["${aws:username}"], with_variables=False)
    assert without({"aws:key": ("${aws:username}",), "aws:username": ("ann",)})


def test_the_reference_lists_every_operator() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "policies.md"
    _, _, text = page.read_text().partition("## Conditions")
    table, _, _ = text.partition("\n- ")
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == OPERATORS
