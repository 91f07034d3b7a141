"""Expressions for the events of a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import attributes_of
from opentrail.core.expression import holds, parse
from opentrail.core.expression.subjects import Kind, events_of
from tests.factories import ACCOUNT, a_record, an_assumed_role, an_iam_user

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_SESSION = "AND NOT (userIdentity.type=AssumedRole OR userIdentity.type=FederatedUser)"
ISSUER = "userIdentity.sessionContext.sessionIssuer"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/DataRole"


@pytest.mark.parametrize(
    ("name", "kind", "expression"),
    [
        (
            "Ann",
            "principal",
            f'(user="Ann" {NO_SESSION} OR {ISSUER}.userName="Ann")',
        ),
        (f"arn:aws:iam::{ACCOUNT}:user/Ann", "principal", None),
        (ROLE, "principal", f'userIdentity.sessionContext.sessionIssuer.arn="{ROLE}"'),
        ("ASIAIOSFODNN7EXAMPLE", "session", 'key="ASIAIOSFODNN7EXAMPLE"'),
        ("etl", "session", 'principal="arn:*:sts::*:assumed-role/*/etl"'),
        ("arn:aws:s3:::logs/key", "resource", 'resource="arn:aws:s3:::logs/key"'),
    ],
)
def test_each_kind_has_its_expression(name: str, kind: Kind, expression: str | None) -> None:
    assert events_of(name, kind) == (expression or f'principal="{name}"')


def test_a_name_without_a_kind_may_mean_anything() -> None:
    expression = parse(events_of("Mary"), NOW)
    by_mary = a_record(userIdentity=an_iam_user("Mary"), requestParameters=None)
    of_mary = a_record(requestParameters={"userName": "Mary"})
    other = a_record(requestParameters={"userName": "Eve"}, responseElements=None)
    found = [holds(expression, attributes_of(record), record) for record in (by_mary, of_mary)]
    assert found == [True, True]
    assert not holds(expression, attributes_of(other), other)


def test_arn_finds_calls_that_give_the_name_only() -> None:
    record = a_record(requestParameters={"userName": "Mary"}, responseElements=None)
    for account, expected in ((ACCOUNT, True), ("999999999999", False)):
        text = events_of(f"arn:aws:iam::{account}:user/Mary", "resource")
        assert holds(parse(text, NOW), attributes_of(record), record) is expected


@pytest.mark.parametrize("arn", [ROLE, "arn:aws:sqs:us-east-1:123456789012:DataRole"])
def test_a_name_finds_calls_that_give_the_arn(arn: str) -> None:
    record = a_record(
        eventSource="sts.amazonaws.com",
        eventName="AssumeRole",
        requestParameters={"roleArn": arn},
        responseElements=None,
        resources=[{"ARN": arn, "accountId": ACCOUNT, "type": "AWS::IAM::Role"}],
    )
    for name, expected in (("DataRole", True), ("Role", False)):
        text = events_of(name, "resource")
        assert holds(parse(text, NOW), attributes_of(record), record) is expected


def test_a_role_has_the_calls_of_its_sessions() -> None:
    record = a_record(userIdentity=an_assumed_role("DataRole", "etl"))
    user = parse(events_of("etl", "principal"), NOW)
    assert not holds(user, attributes_of(record), record), "a session's name is not a user's"
    names: dict[str, Kind] = {ROLE: "principal", "DataRole": "principal", "etl": "session"}
    for name, kind in names.items():
        expression = parse(events_of(name, kind), NOW)
        assert holds(expression, attributes_of(record), record), name


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_any_name_is_found_by_its_expression(name: str) -> None:
    """No name can change the meaning of an expression."""
    record = a_record(userIdentity=an_iam_user(name))
    other = a_record(userIdentity=an_iam_user(f"{name}!"))
    expression = parse(events_of(name, "principal"), NOW)
    if not name.startswith("arn:"):
        assert holds(expression, attributes_of(record), record)
    assert not holds(expression, attributes_of(other), other)
