"""Bucket policies that let CloudTrail deliver: AWS's own, and faulty ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.trails.destinations import allows_delivery

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail"
FOLDER = "audit/AWSLogs/123456789012/"
#: AWS's console attaches this policy (cloudtrail-format §5.4).
AWS: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "AWSCloudTrailAclCheck20150319",
            "Effect": "Allow",
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": "s3:GetBucketAcl",
            "Resource": "arn:aws:s3:::bucket",
            "Condition": {"StringEquals": {"aws:SourceArn": ARN}},
        },
        {
            "Sid": "AWSCloudTrailWrite20150319",
            "Effect": "Allow",
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::bucket/{FOLDER}*",
            "Condition": {
                "StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control", "aws:SourceArn": ARN}
            },
        },
    ],
}


def allows(policy: Any, folder: str = FOLDER, arn: str = ARN) -> bool:
    text = policy if policy is None or isinstance(policy, str) else json.dumps(policy)
    return allows_delivery(text, "bucket", folder, arn)


def changed(change: Callable[[Any, Any], object]) -> dict[str, Any]:
    policy = copy.deepcopy(AWS)
    change(*policy["Statement"])
    return policy


GOOD: dict[str, Callable[[Any, Any], object]] = {
    "as AWS makes it": lambda acl, put: None,
    "without conditions": lambda acl, put: (acl.pop("Condition"), put.pop("Condition")),
    "actions as lists": lambda acl, put: put.update(Action=["s3:GetObject", "s3:PutObject"]),
    "all actions": lambda acl, put: put.update(Action="s3:*"),
    "actions in other case": lambda acl, put: put.update(Action="S3:putobject"),
    "the whole bucket": lambda acl, put: put.update(Resource="arn:aws:s3:::bucket/*"),
    "several resources": lambda acl, put: put.update(
        Resource=["arn:aws:s3:::other/*", f"arn:aws:s3:::bucket/{FOLDER}*"]
    ),
    "every principal": lambda acl, put: (acl.update(Principal="*"), put.update(Principal="*")),
    "a pattern of trails": lambda acl, put: acl.update(
        Condition={"ArnLike": {"aws:SourceArn": "arn:aws:cloudtrail:*:123456789012:trail/*"}}
    ),
    "the account": lambda acl, put: acl.update(
        Condition={"StringEquals": {"AWS:SourceAccount": "123456789012"}}
    ),
    "a condition that may be absent": lambda acl, put: acl.update(
        Condition={"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}
    ),
}
BAD: dict[str, Callable[[Any, Any], object]] = {
    "another service": lambda acl, put: put.update(Principal={"Service": "config.amazonaws.com"}),
    "one user": lambda acl, put: put.update(Principal={"AWS": "arn:aws:iam::1:user/u"}),
    "no principal": lambda acl, put: put.pop("Principal"),
    "all but one": lambda acl, put: put.update(NotPrincipal={"AWS": "1"}),
    "no ACL check": lambda acl, put: acl.update(Action="s3:GetBucketPolicy"),
    "another bucket": lambda acl, put: acl.update(Resource="arn:aws:s3:::other"),
    "another folder": lambda acl, put: put.update(Resource="arn:aws:s3:::bucket/AWSLogs/*"),
    "one object only": lambda acl, put: put.update(Resource=f"arn:aws:s3:::bucket/{FOLDER}log"),
    "another trail": lambda acl, put: put["Condition"]["StringEquals"].update(
        {"aws:SourceArn": ARN.replace("my-trail", "other")}
    ),
    "another ACL": lambda acl, put: put["Condition"]["StringEquals"].update(
        {"s3:x-amz-acl": "private"}
    ),
    "a condition that is not known": lambda acl, put: put.update(
        Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    ),
    "a key that is not there": lambda acl, put: put.update(
        Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    ),
    "actions excepted": lambda acl, put: (put.pop("Action"), put.update(NotAction="s3:PutObject")),
    "denied": lambda acl, put: put.update(Effect="Deny"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_sufficient_policy(name: str) -> None:
    assert allows(changed(GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_an_insufficient_policy(name: str) -> None:
    assert not allows(changed(BAD[name]))


def test_a_denial_wins() -> None:
    policy = copy.deepcopy(AWS)
    policy["Statement"].append(
        {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    )
    assert not allows(policy)
    policy["Statement"][-1]["Condition"] = {"StringNotEquals": {"aws:SourceArn": ARN}}
    assert allows(policy)


def test_it_is_for_one_folder_and_trail() -> None:
    assert not allows(AWS, folder="AWSLogs/123456789012/")
    assert not allows(AWS, arn=ARN.replace("my-trail", "other"))


@pytest.mark.parametrize("policy", [None, "", "no JSON", "[]", "{}", '{"Statement": 1}'])
def test_an_empty_or_invalid_policy_is_insufficient(policy: str | None) -> None:
    assert not allows(policy)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
MEMBERS = ["Effect", "Principal", "Action", "NotAction", "Resource", "Condition", "NotResource"]


@pytest.mark.slow
@given(st.sampled_from(MEMBERS), JSON)
def test_member_of_the_wrong_type_does_not_raise(name: str, value: Any) -> None:
    allows(changed(lambda acl, put: put.update({name: value})))


def test_bucket_for_encrypted_objects_needs_a_trails_key() -> None:
    policy = copy.deepcopy(AWS)
    policy["Statement"].append(
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::bucket/*",
            "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}},
        }
    )
    assert not allows(policy)
    assert allows_delivery(json.dumps(policy), "bucket", FOLDER, ARN, "arn:aws:kms:…")


def test_patterns_are_matched_in_linear_time() -> None:
    awkward = ["*a" * 30 + "*!", "arn:aws:s3:::bucket"]
    assert allows(changed(lambda acl, put: acl.update(Resource=awkward)))
    assert not allows(changed(lambda acl, put: acl.update(Resource="*a" * 30 + "*!")))
    assert not allows(changed(lambda acl, put: acl.update(Resource="arn:aws:s3:::[b]ucket")))
