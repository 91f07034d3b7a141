"""Expressions: the parsed tree, and the place of errors."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.expression import (
    And,
    Between,
    Compare,
    Expression,
    ExpressionError,
    Is,
    Not,
    Or,
    Text,
    parse,
    terms_of,
)

NOW = datetime(2020, 1, 8, 9, tzinfo=UTC)


def field(name: str, value: str, operator: str = "=") -> Compare:
    return Compare((name,), operator, value, is_field=True)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


JOHN, CREATES = field("username", "John"), field("event_name", "Create*")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", And(())),
        ("  ", And(())),
        ("user=John", JOHN),
        ("Username = John", JOHN),
        ('user="John"', JOHN),
        ("EventName=Create* AND user=John", And((CREATES, JOHN))),
        ("EventName=Create* user=John", And((CREATES, JOHN))),
        ("eventName=Create* OR user=John", Or((CREATES, JOHN))),
        ("NOT user=John", Not(JOHN)),
        ("NOT NOT user=John", Not(Not(JOHN))),
        ("is:read user=John OR name=Create*", Or((And((Is("read"), JOHN)), CREATES))),
        ("is:read (user=John OR name=Create*)", And((Is("read"), Or((JOHN, CREATES))))),
        ("is=failure", Is("failure")),
        ("user!=John", field("username", "John", "!=")),
        ("error:Denied", field("error_code", "Denied", ":")),
        ("error:", None),
        ("user IN (John, Mary)", Or((JOHN, field("username", "Mary")))),
        ("arn=arn:aws:iam::1:user/a", field("principal_arn", "arn:aws:iam::1:user/a")),
        ("user=a=b", None),
        ('user="a=b"', field("username", "a=b")),
        (r"user=a\=b", field("username", r"a\=b")),
        ("ip=10.0.0.0/8", field("source_ip", "10.0.0.0/8")),
        (
            "requestParameters.bucketName=logs",
            Compare(("requestParameters", "bucketName"), "=", "logs", is_field=False),
        ),
        (
            r"requestParameters.a\.b>5",
            Compare(("requestParameters", "a.b"), ">", "5", is_field=False),
        ),
        ("Mary", Text("Mary")),
        ('"Mary Ann"', Text("Mary Ann")),
        (r'"say \"hi\""', Text('say "hi"')),
        ("arn:aws:s3:::logs", Text("arn:aws:s3:::logs")),
        ("last", None),
        ("last 90m", Between(NOW - timedelta(minutes=90), None)),
        ("last 2w", Between(NOW - timedelta(weeks=2), None)),
        ("since 2020-01-01", Between(at("2020-01-01"), None)),
        ("until 2020-01-01", Between(None, at("2020-01-02"))),
        ("2020-01-01..2020-01-02", Between(at("2020-01-01"), at("2020-01-03"))),
        ("2020-01-01..", Between(at("2020-01-01"), None)),
        ("..2020-01-01", Between(None, at("2020-01-02"))),
        (
            "2020-01-01T09:00:00Z..2020-01-01T09:00:05Z",
            Between(at("2020-01-01T09:00:00"), at("2020-01-01T09:00:06")),
        ),
        ("time=2020-01-01", Between(at("2020-01-01"), at("2020-01-02"))),
        ("time>=2020-01-01", Between(at("2020-01-01"), None)),
        ("time>2020-01-01", Between(at("2020-01-02"), None)),
        ("time<2020-01-01", Between(None, at("2020-01-01"))),
        ("time!=2020-01-01", Not(Between(at("2020-01-01"), at("2020-01-02")))),
        ("since", Text("since")),
    ],
)
def test_an_expression_is_parsed(text: str, meant: Expression | None) -> None:
    if meant is None:
        with pytest.raises(ExpressionError):
            parse(text, NOW)
    else:
        assert parse(text, NOW) == meant


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("usr=John", 1, "a field such as user, username"),
        ("requestParameter.x=1", 1, "a field such as requestParameters"),
        ("qqq=1", 1, "a field such as eventName, user, requestParameters.bucketName"),
        ("user=", 6, "a value, found the end"),
        ("user= AND", 7, None),
        ("user==John", 6, "a value, found '='"),
        ("(user=John", 11, "the ')' of column 1"),
        ("user=John)", 10, "AND, OR or the end"),
        ("user=John OR", 13, "a field, a text or '('"),
        ("AND user=John", 1, "a field, a text or '('"),
        ("NOT", 4, "a field, a text or '('"),
        ("()", 2, "a field, a text or '('"),
        ('name="Create', 6, "a quotation mark that is closed"),
        ("user IN John", 9, "'(' and values"),
        ("user IN (John", 14, "',' or ')'"),
        ("user IN ()", 10, "a value"),
        ("last week", 6, "a span such as 30m, 2h or 7d"),
        ("last 999999w", 6, "a span that fits the calendar"),
        ("time>noon", 6, "a time such as 2020-01-01"),
        ("2020-01-01..noon", 13, "a time such as 2020-01-01"),
        ("2020-13-01..", 1, "a time such as 2020-01-01"),
        ("is:odd", 4, "is:success or is:failure or is:read or is:write"),
        ("is>read", 4, "is:success"),
        ("ip=10.0.0.0/99", 4, "an address such as 203.0.113.64 or a network"),
        ("ip=300.1.2.3", 4, "an address"),
        ("ip!=10.0.0", 5, "an address"),
        ("ip=fe80::1::2", 4, "an address"),
        ("ip IN (10.0.0.1, 10.0.0.1/40)", 18, "an address"),
        ("readOnly=no", 10, "true or false"),
        ("account=1234", 9, "an account of 12 digits"),
    ],
)
def test_error_names_the_column_and_the_expected_token(
    text: str, column: int, expected: str | None
) -> None:
    if expected is None:
        assert parse(text, NOW) == field("username", "AND")
        return
    with pytest.raises(ExpressionError) as caught:
        parse(text, NOW)
    assert str(caught.value).startswith(f"column {column}: expected {expected}")


@pytest.mark.parametrize(
    "text",
    [
        "ip=10.0.0.1",
        "ip=10.0.0.0/8",
        "ip=10.*",
        "ip=2001:db8::/32",
        "ip=cloudformation.amazonaws.com",
        'ip="AWS Internal"',
        "ip:10.0",
        "readOnly=t*",
        "account=12*",
        "account=ANONYMOUS_PRINCIPAL",
        "requestParameters.count=1234",
        "requestParameters.ip=10.0.0.0/99",
    ],
)
def test_all_event_values_are_searchable(text: str) -> None:
    assert isinstance(parse(text, NOW), Compare)


def test_true_and_false_may_be_in_any_case() -> None:
    assert parse("readOnly=True", NOW) == field("read_only", "true")


@pytest.mark.parametrize(
    "text",
    [
        "since 2020-01-02 until 2020-01-01",
        "until 2020-01-01 name=CreateUser since 2020-01-02",
        "time>2020-01-02 time<2020-01-02",
        "last 1h until 2020-01-01",
    ],
)
def test_periods_without_a_common_time_are_wrong(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"no time is both since 2020-01-.* and before 2020-"):
        parse(text, NOW)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("name=CreateUser and user=John", "name=CreateUser AND user=John"),
        ("not name=CreateUser", "NOT name=CreateUser"),
        ("Mary or not (John And Olga)", "Mary OR NOT (John AND Olga)"),
        ("region in (us-east-1, eu-west-1)", "region IN (us-east-1, eu-west-1)"),
    ],
)
def test_operators_may_be_in_any_case(lower: str, upper: str) -> None:
    assert parse(lower, NOW) == parse(upper, NOW)


def test_a_quoted_operator_is_a_string() -> None:
    assert parse('"and"', NOW) == Text("and")
    with pytest.raises(ExpressionError, match=r"column 1: expected a field, a text or '\('"):
        parse("and", NOW)


def test_overlong_or_deep_input_is_refused() -> None:
    with pytest.raises(ExpressionError, match="longer than"):
        parse("x" * 20_000, NOW)
    with pytest.raises(ExpressionError, match="nested"):
        parse("(" * 200 + "x" + ")" * 200, NOW)
    with pytest.raises(ExpressionError, match="nested"):
        parse("NOT " * 200 + "x", NOW)


PIECES = [*'aT1 ()",=<>!:*?.-/', "\\", "AND ", "user", "last ", "..", "2020-01-01", " IN ("]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_parsed_or_refused_clearly(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        parse(text, NOW)


@given(st.text())
def test_any_quoted_string_is_searched_for(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse(f'"{quoted}"', NOW) == Text(text)


@pytest.mark.parametrize(
    "text",
    [
        "requestParameters.tags.aws:team=x",
        r"requestParameters.tags.aws\:team=x",
        'requestParameters.tags."aws:team" = x',
    ],
)
def test_a_member_may_have_a_colon(text: str) -> None:
    path = ("requestParameters", "tags", "aws:team")
    assert parse(text, NOW) == Compare(path, "=", "x", False)


def test_a_member_may_have_a_dot() -> None:
    expected = Compare(("requestParameters", "a.b", "c"), ":", "x", False)
    for text in (r"requestParameters.a\.b.c:x", 'requestParameters."a.b".c:x'):
        assert parse(text, NOW) == expected


def test_a_search_for_word_parts_needs_text() -> None:
    assert parse('text:"ar y"', NOW) == Text("ar y", is_part=True)
    with pytest.raises(ExpressionError, match="a part of a word"):
        parse("text=mary", NOW)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("user=John", ["user=John"]),
        ('  user = "John"  AND is:write ', ['user = "John"', "is:write"]),
        ('"Mary Ann" "b"last 2h', ['"Mary Ann"', '"b"', "last 2h"]),
        ("NOT user=John (is:read OR Mary)", ["NOT user=John", "(is:read OR Mary)"]),
        ("user=a user=b OR Mary", ["(user=a user=b OR Mary)"]),
        ("(user=a user=b)", ["(user=a user=b)"]),
        ("user IN (a, b) Mary", ["user IN (a, b)", "Mary"]),
    ],
)
def test_an_expression_has_terms(text: str, terms: list[str]) -> None:
    assert [term.text for term in terms_of(text, NOW)] == terms


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_joined_terms_are_the_expression_again(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        expression, terms = parse(text, NOW), terms_of(text, NOW)
        parts = [term.meaning for term in terms]
        assert expression == (parts[0] if len(parts) == 1 else And(tuple(parts)))
        assert parse(" AND ".join(term.text for term in terms), NOW) == expression


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("usr=John", "usr"), ('a "b', '"b'), ("is:write AND OR", "OR"), ("user=", "")],
)
def test_error_has_the_place_of_the_wrong_part(text: str, wrong: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, NOW)
    at, length = caught.value.at, caught.value.length
    assert at is not None
    assert text[at : at + length] == wrong
