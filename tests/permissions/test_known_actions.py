"""The data about IAM's actions."""

from __future__ import annotations

import pytest

from opentrail.permissions.known_actions import (
    is_known,
    matching,
    passes_role,
    resource_type,
    takes_resources,
)


def test_actions_are_known_by_their_names() -> None:
    assert is_known("s3:GetObject")
    assert not is_known("s3:GetObjects")
    assert not is_known("nothing:GetObject")
    assert not is_known("s3")


def test_some_actions_cannot_be_limited_to_resources() -> None:
    assert takes_resources("s3:GetObject")
    assert not takes_resources("s3:ListAllMyBuckets")
    assert takes_resources("unknown:Action")


def test_some_actions_pass_a_role() -> None:
    assert passes_role("lambda:CreateFunction")
    assert not passes_role("lambda:InvokeFunction")


@pytest.mark.parametrize(
    ("action", "arn", "kind"),
    [
        ("s3:GetObject", "arn:aws:s3:::data/in/a.csv", "object"),
        ("s3:ListBucket", "arn:aws:s3:::data", "bucket"),
        ("s3:ListBucket", "arn:aws:s3:::data/in/a.csv", None),
        ("iam:GetUser", "arn:aws:iam::123456789012:user/team/ada", "user"),
        ("iam:GetUser", "arn:aws:iam::123456789012:role/team/ada", None),
        (
            "logs:PutLogEvents",
            "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f:log-stream:s",
            "log-stream",
        ),
        ("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:jobs", "queue"),
        ("unknown:Action", "arn:aws:sqs:us-east-1:123456789012:jobs", None),
    ],
)
def test_a_resource_has_its_type_for_an_action(action: str, arn: str, kind: str | None) -> None:
    assert resource_type(action, arn) == kind


def test_a_pattern_stands_for_actions() -> None:
    assert matching("s3:getobject") == ["s3:GetObject"]
    assert "s3:GetObjectAcl" in matching("s3:GetObject*")
    assert "s3:PutObject" not in matching("s3:Get*")
    assert len(matching("*")) > 20_000
    assert matching("s3:Nothing") == []
