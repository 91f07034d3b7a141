"""Matching events: each kind of part by hand, and all together against plain functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.attributes import attributes_of
from opentrail.core.errors import UsageError
from opentrail.core.expression import ExpressionError, Pattern, holds, parse
from opentrail.core.expression.tree import MAX_WILDCARDS, Text, occurs
from tests.factories import MOMENT, a_data_record, a_record, an_iam_user

NOW = MOMENT + timedelta(hours=1)
RECORD = a_record(
    eventName="CreateUser",
    sourceIPAddress="10.1.2.3",
    errorCode="AccessDenied",
    userIdentity=an_iam_user("John"),
    requestParameters={
        "userName": "Mary Ann",
        "count": 10,
        "flag": True,
        "tags": [{"key": "team", "value": "Blue*"}, {"key": "tier"}],
        "nothing": None,
        "nested": {"list": [[1, 2], [3]]},
        "rule": {"cidrIp": "0.0.0.0/0", "cidrIpv6": "2001:db8::/32", "peerIp": "10.9.0.0/16"},
    },
)


def fits(text: str, record: dict[str, Any] = RECORD) -> bool:
    return holds(parse(text, NOW), attributes_of(record), record)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eventName=CreateUser",
        "eventName=Create*",
        "eventName=*User",
        "eventName=C?eate*s?r",
        "source=iam",
        "source=i*",
        "source=iam.amazonaws.com",
        "user=John",
        "user!=Mary",
        "ip=10.0.0.0/8",
        "ip=10.1.2.3",
        "ip=10.1.*",
        "ip!=192.168.0.0/16",
        "error=AccessDenied is:failure is:write",
        "readOnly=false",
        "requestParameters.count=10",
        "requestParameters.count>9.5 requestParameters.count<=10",
        "requestParameters.count>=9",
        "requestParameters.flag=true",
        "requestParameters.tags.key=tier",
        r"requestParameters.tags.value=Blue\*",
        "requestParameters.tags.value=Blue*",
        "requestParameters.nested.list=3",
        'requestParameters.userName="Mary Ann"',
        "requestParameters.userName:mary",
        "requestParameters.absent!=x",
        "requestParameters.rule.cidrIp=0.0.0.0/0",
        "requestParameters.rule.cidrIpv6=2001:db8::/32",
        "requestParameters.rule.cidrIpv6=2001::/16",
        "requestParameters.rule.peerIp=10.0.0.0/8",
        "requestParameters.rule.peerIp!=10.9.1.0/24",
        "NOT requestParameters.nothing=*",
        "userIdentity.userName=John",
        "mary",
        'text:"y An"',
        "resource=Mary* resourcetype=AWS::IAM::User",
        "time=2020-01-01",
        "last 61m",
        "user IN (Jane, John)",
    ],
)
def test_a_matching_event_matches(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "eventName=createuser",
        "eventName=Create",
        "eventName=Create?",
        "source=s3",
        "user!=John",
        "ip=10.2.0.0/16",
        "is:success",
        "is:read",
        "requestParameters.count=1",
        "requestParameters.count<10",
        "requestParameters.flag=True",
        "requestParameters.tags.value=blue*",
        r"requestParameters.tags.value=Blu\*",
        "requestParameters.tags=*",
        "requestParameters.nothing=*",
        "requestParameters.absent=x",
        "requestParameters.rule.cidrIp!=0.0.0.0/0",
        "requestParameters.rule.cidrIp=10.0.0.0/8",
        "requestParameters.rule.cidrIpv6=0.0.0.0/0",
        "requestParameters.userName=10.0.0.0/8",
        "userName.userIdentity",
        '"Mary  Ann"',
        "last 59m",
        "until 2019-12-31",
        "NOT user=John",
        "user IN (Jane, Mary)",
    ],
)
def test_another_event_does_not_match(text: str) -> None:
    assert not fits(text)


def test_a_failed_login_has_no_error_code() -> None:
    login = a_record(
        eventName="ConsoleLogin",
        eventSource="signin.amazonaws.com",
        errorMessage="Failed authentication",
        responseElements={"ConsoleLogin": "Failure"},
    )
    assert fits("is:failure", login)
    assert not fits("is:success", login)
    assert fits("is:success", {**login, "responseElements": {"ConsoleLogin": "Success"}})


@given(st.text(), st.text())
def test_an_escaped_pattern_matches_only_its_own_text(text: str, other: str) -> None:
    escaped = "".join(f"\\{character}" for character in text)
    pattern = Pattern.parse(escaped)
    assert pattern.plain == text
    assert pattern.matches(text)
    assert pattern.matches(other) == (other == text)


def wildcards_match(pattern: str, text: str) -> bool:
    """Decides by the definition of `*` and `?`, in time that grows with both lengths."""
    ends = {0}
    for wanted in pattern:
        if wanted == "*":
            ends = {end for begin in ends for end in range(begin, len(text) + 1)}
        else:
            ends = {end + 1 for end in ends if end < len(text) and wanted in ("?", text[end])}
    return len(text) in ends


@given(st.text("ab*?", max_size=12), st.text("ab\n", max_size=12))
def test_wildcards_match_any_characters_in_their_place(pattern: str, text: str) -> None:
    assert Pattern.parse(pattern).matches(text) == wildcards_match(pattern, text)


def test_matching_takes_linear_time() -> None:
    """Backtracking over each star would take years."""
    assert not Pattern.parse(f"{'*a' * 50}!").matches("a" * 10_000)


@given(st.text(), st.text(), st.text())
def test_a_star_matches_anything(before: str, middle: str, after: str) -> None:
    def escaped(text: str) -> str:
        return "".join(f"\\{character}" for character in text)

    pattern = Pattern.parse(f"{escaped(before)}*{escaped(after)}")
    assert pattern.matches(before + middle + after)
    assert pattern.literals == [text for text in (before, after) if text]


# All together, against functions independent of the parser


@dataclass(frozen=True)
class Case:
    """An expression and its meaning."""

    text: str
    meant: Callable[[dict[str, Any]], bool]


def user_of(record: dict[str, Any]) -> str | None:
    name = record["userIdentity"].get("userName")
    return None if name is None else str(name)


TERMS = [
    Case("eventName=CreateUser", lambda r: r["eventName"] == "CreateUser"),
    Case("name=Put*", lambda r: r["eventName"].startswith("Put")),
    Case("user=John", lambda r: user_of(r) == "John"),
    Case("user!=John", lambda r: user_of(r) != "John"),
    Case("is:failure", lambda r: bool(r.get("errorCode"))),
    Case("is:write", lambda r: not r["readOnly"]),
    Case("denied", lambda r: r.get("errorCode") == "AccessDenied"),
    Case(
        "requestParameters.userName=M*",
        lambda r: str((r["requestParameters"] or {}).get("userName", "")).startswith("M"),
    ),
    Case("time>=2020-01-01T09:00:03Z", lambda r: r["eventTime"] >= "2020-01-01T09:00:03Z"),
    Case("region IN (eu-west-1, x)", lambda r: r["awsRegion"] == "eu-west-1"),
]


def extended(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return st.one_of(
        st.builds(lambda c: Case(f"NOT ({c.text})", lambda r: not c.meant(r)), inner),
        st.builds(
            lambda a, b: Case(f"({a.text}) AND ({b.text})", lambda r: a.meant(r) and b.meant(r)),
            inner,
            inner,
        ),
        st.builds(
            lambda a, b: Case(f"({a.text} OR {b.text})", lambda r: a.meant(r) or b.meant(r)),
            st.sampled_from(TERMS),
            st.sampled_from(TERMS),
        ),
    )


cases = st.recursive(st.sampled_from(TERMS), extended, max_leaves=6)
records = st.builds(
    lambda data, **changes: (a_data_record if data else a_record)(**changes),
    data=st.booleans(),
    eventName=st.sampled_from(["CreateUser", "PutObject", "PutItem"]),
    userIdentity=st.sampled_from([an_iam_user("John"), {"type": "AWSService"}]),
    errorCode=st.sampled_from([None, "AccessDenied", "Other"]),
    readOnly=st.booleans(),
    requestParameters=st.sampled_from([None, {"userName": "Mary"}, {"userName": "Ann"}]),
    eventTime=st.integers(0, 5).map(lambda second: f"2020-01-01T09:00:0{second}Z"),
    awsRegion=st.sampled_from(["eu-west-1", "us-east-1"]),
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=300, deadline=None)
@given(cases, records)
def test_expressions_match_plain_functions(case: Case, record: dict[str, Any]) -> None:
    assert fits(case.text, record) == case.meant(record), case.text


@pytest.mark.parametrize(
    ("word", "value", "is_found"),
    [
        ("mary", "Mary_Major", True),
        ("Mary", "primary", False),
        ("mary", "arn:aws:iam::123456789012:user/Mary", True),
        ("denied", "AccessDenied", True),
        ("user", "IAMUser", True),
        ("instance", "RunInstances", False),
        ("a b", "x\na b", True),
        ("é", "café", False),
        ("/user", "a/user/b", True),
    ],
)
def test_a_word_is_found_whole(word: str, value: str, is_found: bool) -> None:
    assert occurs(Text(word), value) is is_found
    assert occurs(Text(word, is_part=True), value)


def test_patterns_have_a_maximum_of_wildcards() -> None:
    assert Pattern.parse("*a" * MAX_WILDCARDS).matches("ba" * MAX_WILDCARDS)
    for text in ("*a" * (MAX_WILDCARDS + 1), "?" * (MAX_WILDCARDS + 1)):
        with pytest.raises(UsageError, match="at most 64 wildcards"):
            Pattern.parse(text)
        with pytest.raises(ExpressionError, match="column 10: a value must have at most"):
            parse(f"resource={text}", NOW)
    assert Pattern.parse("\\*" * 300).matches("*" * 300)


@given(st.text(st.sampled_from("a*"), max_size=12), st.text(st.sampled_from("ab"), max_size=8))
def test_several_stars_are_one(pattern: str, text: str) -> None:
    fewer = re.sub(r"\*+", "*", pattern)
    assert Pattern.parse(pattern) == Pattern.parse(fewer)
    assert Pattern.parse(pattern).matches(text) == fnmatchcase(text, pattern)
