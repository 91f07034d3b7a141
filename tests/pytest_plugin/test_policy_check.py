"""Calls that a policy allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.errors import UsageError
from opentrail.permissions.needs import NeededPermission, permissions_of
from opentrail.pytest_plugin.calls import RecordedCall
from opentrail.pytest_plugin.expectations import denials, read_policy, smallest_statements
from tests.factories import ACCOUNT, a_data_record, a_record

MARY = f"arn:aws:iam::{ACCOUNT}:user/Mary"
OBJECT = "arn:aws:s3:::my-bucket/in/a.csv"


def a_policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def denied(policy: dict[str, Any], *records: dict[str, Any]) -> list[NeededPermission]:
    calls = [RecordedCall(record) for record in records]
    return [each.permission for each in denials(read_policy(policy), calls)]


def test_a_call_is_allowed_by_action_and_resource() -> None:
    both = (a_record(), a_data_record())
    policy = a_policy(allow("iam:CreateUser", MARY), allow("s3:Put*", "arn:aws:s3:::my-bucket/*"))
    assert denied(policy, *both) == []
    other = a_policy(allow("iam:CreateUser", "arn:aws:iam::*:user/Ann"), allow("s3:Get*"))
    assert denied(other, *both) == [
        NeededPermission("iam:CreateUser", MARY),
        NeededPermission("s3:PutObject", OBJECT),
    ]


def test_a_deny_wins() -> None:
    policy = a_policy(allow("*"), {"Effect": "Deny", "Action": "iam:*", "Resource": "*"})
    (found,) = denials(read_policy(policy), [RecordedCall(a_record())])
    assert found.is_explicit
    assert found.reason == "with an explicit deny in an identity-based policy"


def test_the_root_user_is_also_checked() -> None:
    root = {"type": "Root", "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT}
    assert denied(a_policy(allow("s3:*")), a_record(userIdentity=root))


@pytest.mark.parametrize(
    ("operator", "key", "value", "is_allowed"),
    [
        ("StringEquals", "aws:RequestedRegion", "us-east-1", True),
        ("StringEquals", "aws:RequestedRegion", "eu-west-1", False),
        ("StringEquals", "aws:username", "John", True),
        ("IpAddress", "aws:SourceIp", "192.0.2.0/24", True),
        ("Bool", "aws:SecureTransport", "true", False),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:user/John", True),
        ("StringLike", "s3:prefix", "in/*", False),
    ],
)
def test_conditions_use_the_members_of_a_record(
    operator: str, key: str, value: str, is_allowed: bool
) -> None:
    policy = a_policy(allow("iam:*", Condition={operator: {key: value}}))
    assert (denied(policy, a_record()) == []) is is_allowed


def test_the_condition_that_failed_is_named() -> None:
    one = allow(
        "iam:*", Sid="Home", Condition={"StringEquals": {"aws:RequestedRegion": ["eu-west-1", "b"]}}
    )
    two = allow("iam:Create*", Condition={"StringLike": {"s3:prefix": "in/*"}})
    other = allow(
        "iam:*", "arn:aws:iam::*:role/x", Condition={"Bool": {"aws:SecureTransport": True}}
    )
    found = denials(read_policy(a_policy(one, two, other)), [RecordedCall(a_record())])
    assert [each.failed_conditions for each in found] == [
        (
            "statement 'Home' would allow it, but its condition StringEquals aws:RequestedRegion "
            "'eu-west-1' or 'b' does not hold: the call has 'us-east-1'",
            "statement number 2 would allow it, but its condition StringLike s3:prefix 'in/*' does "
            "not hold: the record of the call does not say",
        )
    ]
    refused = {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}
    found = denials(read_policy(a_policy(one, refused)), [RecordedCall(a_record())])
    assert [each.failed_conditions for each in found] == [()]


def test_prefix_of_a_listing_is_a_condition_key() -> None:
    listing = a_data_record(
        eventName="ListObjects", requestParameters={"bucketName": "x", "prefix": "in/2020"}
    )
    condition = {"StringLike": {"s3:prefix": "in/*"}}
    assert denied(a_policy(allow("s3:ListBucket", Condition=condition)), listing) == []


def test_a_copy_needs_to_read_and_to_write() -> None:
    given = {"bucketName": "x", "key": "b", "x-amz-copy-source": "y/a"}
    record = a_data_record(eventName="CopyObject", requestParameters=given)
    assert permissions_of(record) == (
        NeededPermission("s3:PutObject", "arn:aws:s3:::x/b"),
        NeededPermission("s3:GetObject", "arn:aws:s3:::y/a"),
    )


def test_the_smallest_statements_allow_exactly_the_calls() -> None:
    records = [
        a_record(),
        a_record(eventName="DeleteUser", responseElements=None),
        a_data_record(),
        a_data_record(),
    ]
    calls = [RecordedCall(record) for record in records]
    needed = smallest_statements(denials(read_policy(a_policy(allow("sqs:*"))), calls))
    assert needed == [
        {"Effect": "Allow", "Action": ["iam:CreateUser", "iam:DeleteUser"], "Resource": MARY},
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": OBJECT},
    ]
    assert denied(a_policy(*needed), *records) == []


def test_policy_may_be_document_string_or_file(tmp_path: Path) -> None:
    document = a_policy(allow("iam:*"))
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(document))
    for given in (document, json.dumps(document), file):
        assert denials(read_policy(given), [RecordedCall(a_record())]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("policy.json", "for a file: Path('policy.json')"),
        ("{", "the policy is not valid: Syntax errors in policy."),
        ({"Statement": [{"Effect": "Allow"}]}, "must contain actions"),
        ({"Statement": {1, 2}}, "the policy is not JSON"),
        (Path("there/is/none.json"), "the policy there/is/none.json cannot be read: No such file"),
    ],
)
def test_policy_problems_are_reported(given: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read_policy(given)
    assert message in str(error.value)
