"""The data about IAM's actions."""

from __future__ import annotations

import pytest

from opentrail.permissions.authorization import (
    access_level,
    dependent_actions,
    is_known,
    matching,
    needed_for,
    passes_role,
    role_members,
    tagging_of,
    takes_resources,
    type_of,
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
    assert "jobflowrole" in [
        member.lower() for member in role_members("elasticmapreduce:RunJobFlow")
    ]
    assert dependent_actions("elasticmapreduce:RunJobFlow") == ["iam:PassRole"]


def test_actions_have_their_level() -> None:
    assert access_level("iam:TagUser") == "Tagging"
    assert access_level("iam:CreateUser") == "Permissions management"
    assert access_level("s3:GetObject") == "Read"
    assert access_level("s3:GetObjects") is None


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("amplify:CreateWebhook", "amplify:CreateWebHook"),
        ("bedrock:Converse", "bedrock:InvokeModel"),
        ("sso:GetRoleCredentials", None),
        ("s3:RenameObject", "s3:RenameObject"),
        ("unknown:Action", "unknown:Action"),
    ],
)
def test_an_operation_needs_an_action(operation: str, action: str | None) -> None:
    assert needed_for(operation) == action


@pytest.mark.parametrize(
    ("action", "tagging"),
    [
        ("iam:CreateUser", "iam:TagUser"),
        ("iam:CreateInstanceProfile", "iam:TagInstanceProfile"),
        ("ec2:RunInstances", "ec2:CreateTags"),
        ("secretsmanager:CreateSecret", "secretsmanager:TagResource"),
        ("ssm:PutParameter", "ssm:AddTagsToResource"),
        ("rds:CreateDBInstance", "rds:AddTagsToResource"),
        ("dynamodb:CreateTable", "dynamodb:TagResource"),
        ("sqs:CreateQueue", "sqs:TagQueue"),
        ("logs:CreateLogGroup", "logs:TagResource"),
        ("iam:TagUser", None),
        ("iam:GetUser", None),
    ],
)
def test_tags_on_creation_need_an_action(action: str, tagging: str | None) -> None:
    found = tagging_of(action)
    assert (found[0] if found else None) == tagging


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
    found = type_of(action, arn)
    assert (found.name if found else None) == kind


def test_a_pattern_matches_actions() -> None:
    assert matching("s3:getobject") == ["s3:GetObject"]
    assert "s3:GetObjectAcl" in matching("s3:GetObject*")
    assert "s3:PutObject" not in matching("s3:Get*")
    assert len(matching("*")) > 20_000
    assert matching("s3:Nothing") == []
