"""Decisions of policies about past calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.permissions.replay import Judgement, Verdict, verdict_on
from tests.factories import a_data_record, a_record

ALLOWED, DENIED, UNKNOWN = Judgement.ALLOWED, Judgement.DENIED, Judgement.UNKNOWN
OF_MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
OF_TAG = {"StringNotEquals": {"aws:ResourceTag/team": "a"}}
OF_REGION = {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}
OF_OTHER_REGION = {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}


def a_policy(*statements: dict[str, Any]) -> Policy:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return parse_policy(json.dumps(document), PolicyKind.IDENTITY)


def a_statement(effect: str, condition: Any = None, action: str = "iam:*") -> dict[str, Any]:
    statement = {"Effect": effect, "Action": action, "Resource": "*"}
    return {**statement, "Condition": condition} if condition else statement


@pytest.mark.parametrize(
    ("statements", "judgement"),
    [
        ([a_statement("Allow")], ALLOWED),
        ([a_statement("Allow", action="s3:*")], DENIED),
        ([a_statement("Allow"), a_statement("Deny")], DENIED),
        ([a_statement("Allow", OF_REGION)], ALLOWED),
        ([a_statement("Allow", OF_OTHER_REGION)], DENIED),
        # The record does not say whether there was MFA, and has no tags of the resource.
        ([a_statement("Allow", OF_MFA)], UNKNOWN),
        ([a_statement("Allow", {**OF_MFA, **OF_OTHER_REGION})], DENIED),
        ([a_statement("Allow", OF_TAG)], UNKNOWN),
        ([a_statement("Allow"), a_statement("Deny", OF_MFA)], UNKNOWN),
        ([a_statement("Allow"), a_statement("Deny", OF_TAG)], UNKNOWN),
        ([a_statement("Allow"), a_statement("Deny", OF_MFA, "s3:*")], ALLOWED),
        ([a_statement("Allow", OF_MFA), a_statement("Deny")], DENIED),
        ([a_statement("Allow", OF_MFA), a_statement("Allow")], ALLOWED),
    ],
)
def test_a_policy_is_judged(statements: list[dict[str, Any]], judgement: Judgement) -> None:
    assert verdict_on(a_record(), [a_policy(*statements)]).judgement is judgement


def test_all_policies_count() -> None:
    policies = [a_policy(a_statement("Allow")), a_policy(a_statement("Deny"))]
    assert verdict_on(a_record(), policies).judgement is DENIED
    assert verdict_on(a_record(), []).judgement is DENIED


def test_verdict_names_the_missing_permission_and_the_reason() -> None:
    verdict = verdict_on(a_data_record(), [a_policy(a_statement("Allow"))])
    assert verdict.permission is not None
    assert verdict.permission.action == "s3:PutObject"
    assert verdict.reason == "because no identity-based policy allows the s3:PutObject action"
    unknown = verdict_on(a_record(), [a_policy(a_statement("Allow", OF_MFA))])
    assert unknown.reason == "the record does not have aws:multifactorauthpresent"


def test_a_call_that_needs_no_permission_is_allowed() -> None:
    record = a_record(eventSource="sts.amazonaws.com", eventName="GetCallerIdentity")
    assert verdict_on(record, []) == Verdict(ALLOWED)


@pytest.mark.parametrize(
    ("resource", "judgement"),
    [
        (["*:snapshot/*", "*:volume/*"], ALLOWED),
        ("*:volume/*", DENIED),
        (["*:snapshot/*", "*:volume/vol-1"], UNKNOWN),
        (["*:snapshot/*", "arn:aws:ec2:us-east-1:123456789012:volume/vol-1"], UNKNOWN),
        (["arn:aws:ec2:us-east-1::*", "arn:aws:ec2:us-east-1:123456789012:subnet/*"], DENIED),
    ],
)
def test_missing_record_member_leaves_decision_open(resource: Any, judgement: Judgement) -> None:
    record = a_record(
        eventSource="ec2.amazonaws.com",
        eventName="CreateVolume",
        requestParameters={"snapshotId": "snap-37beda4c"},
        responseElements=None,
    )
    statement = {"Effect": "Allow", "Action": "ec2:*", "Resource": resource}
    assert verdict_on(record, [a_policy(statement)]).judgement is judgement


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("sqs", "FlyToTheMoon", "AWS's authorization data does not have the action"),
        ("s3", "DeleteObjects", "the record does not name the needed permissions"),
    ],
)
def test_a_call_with_unknown_permissions_cannot_be_decided(
    source: str, name: str, reason: str
) -> None:
    record = a_record(eventSource=f"{source}.amazonaws.com", eventName=name)
    found = verdict_on(record, [a_policy(a_statement("Allow", action="*"))])
    assert (found.judgement, found.reason) == (UNKNOWN, reason)
