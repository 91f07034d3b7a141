"""Permissions of calls, beyond one action on one resource."""

from __future__ import annotations

import re
from typing import Any

import pytest

from opentrail.core.policies.patterns import globs
from opentrail.permissions.authorization import is_known
from opentrail.permissions.needs import (
    NeededPermission,
    StringCondition,
    context_of,
    permissions_of,
)
from tests.collection import at_least, collected_records
from tests.factories import ACCOUNT, a_record, real_records

ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"


def a_call(
    source: str, name: str, identity: dict[str, Any] | None = None, /, **parameters: Any
) -> Any:
    more = {"userIdentity": identity} if identity else {}
    return a_record(
        eventSource=f"{source}.amazonaws.com",
        eventName=name,
        requestParameters=parameters or None,
        responseElements=None,
        **more,
    )


def test_a_passed_role_needs_a_separate_permission() -> None:
    record = a_call("lambda", "CreateFunction20150331", functionName="f", role=ROLE)
    to_lambda = StringCondition("StringEquals", "iam:PassedToService", "lambda.amazonaws.com")
    assert permissions_of(record) == (
        NeededPermission("lambda:CreateFunction", FUNCTION),
        NeededPermission("iam:PassRole", ROLE, to_lambda),
    )
    (_, passed) = permissions_of(record)
    assert context_of(record, passed)["iam:passedtoservice"] == ("lambda.amazonaws.com",)


def test_role_in_lists_is_found_and_passed_once() -> None:
    tasks = [{"taskRoleArn": ROLE}, {"executionRoleArn": ROLE}]
    record = a_call("ecs", "RegisterTaskDefinition", family="f", containerDefinitions=tasks)
    assert [one.resource for one in permissions_of(record) if one.action == "iam:PassRole"] == [
        ROLE
    ]
    deep: Any = ROLE
    for _ in range(50):
        deep = [deep]
    record = a_call("ecs", "RegisterTaskDefinition", family="f", containerDefinitions=deep)
    assert [one.action for one in permissions_of(record)] == ["ecs:RegisterTaskDefinition"]


def test_other_calls_may_name_roles() -> None:
    record = a_call("lambda", "Invoke", functionName="f", clientContext=ROLE)
    assert [one.action for one in permissions_of(record)] == ["lambda:InvokeFunction"]


def test_calls_by_services_need_no_caller_permission() -> None:
    identity = {
        "type": "IAMUser",
        "arn": f"arn:aws:iam::{ACCOUNT}:user/ada",
        "invokedBy": "cloudformation.amazonaws.com",
    }
    record = a_call("sqs", "CreateQueue", identity, queueName="jobs")
    (needed,) = permissions_of(record)
    assert needed.condition == StringCondition(
        "ForAnyValue:StringEquals", "aws:CalledVia", "cloudformation.amazonaws.com"
    )
    assert context_of(record, needed)["aws:calledvia"] == ("cloudformation.amazonaws.com",)


def test_resources_foreign_to_an_action_are_left_out() -> None:
    record = a_call("ec2", "CreateRoute", routeTableId="rtb-0d4916f5", natGatewayId="nat-03575abb")
    assert [one.resource for one in permissions_of(record)] == [
        f"arn:aws:ec2:us-east-1:{ACCOUNT}:route-table/rtb-0d4916f5"
    ]


def test_call_about_no_user_is_about_its_caller() -> None:
    identity = {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ada"}
    for name in ("GetUser", "CreateAccessKey", "ChangePassword"):
        (needed,) = permissions_of(a_call("iam", name, identity))
        assert needed.resource == identity["arn"]
    (needed,) = permissions_of(a_call("iam", "ListUsers", identity))
    assert needed.resource == "*"


def test_resources_created_by_ec2_need_permission() -> None:
    needed = permissions_of(a_call("ec2", "CreateVolume", snapshotId="snap-37beda4c"))
    volume = NeededPermission(
        "ec2:CreateVolume", f"arn:aws:ec2:us-east-1:{ACCOUNT}:volume/*", is_unnamed=True
    )
    snapshot = "arn:aws:ec2:us-east-1::snapshot/snap-37beda4c"
    assert needed == (NeededPermission("ec2:CreateVolume", snapshot), volume)
    assert permissions_of(a_call("ec2", "CreateVolume", size=8)) == (volume,)
    # Another service marks several types as required although one is enough.
    model = {"ARN": "arn:aws:bedrock:us-east-1::foundation-model/m", "type": "AWS::Bedrock::Model"}
    record = {**a_call("bedrock", "InvokeModel"), "resources": [model]}
    assert [one.resource for one in permissions_of(record)] == [model["ARN"]]


def test_a_missing_account_is_the_callers() -> None:
    record = a_call("sqs", "DeleteQueue", queueUrl="https://sqs.us-east-1.amazonaws.com/1/jobs")
    del record["recipientAccountId"]
    assert [one.resource for one in permissions_of(record)] == [
        f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"
    ]


def test_tags_and_variables_pass_no_role() -> None:
    chosen: dict[str, Any] = {
        "tags": {"role": ROLE},
        "environment": {"variables": {"ROLE": ROLE}},
        "role": "arn:x:role/",
    }
    needed = permissions_of(a_call("lambda", "CreateFunction20150331", functionName="f", **chosen))
    assert "iam:PassRole" not in [one.action for one in needed]


@pytest.mark.parametrize(
    ("source", "name", "parameters"),
    [
        ("ssm", "SendCommand", {"documentName": "d", "parameters": {"role": [ROLE]}}),
        ("glue", "CreateJob", {"defaultArguments": {"--role": ROLE}}),
        ("batch", "RegisterJobDefinition", {"parameters": {"roleArn": ROLE}}),
    ],
)
def test_parameters_of_a_started_job_pass_no_role(
    source: str, name: str, parameters: dict[str, Any]
) -> None:
    needed = permissions_of(a_call(source, name, **parameters))
    assert "iam:PassRole" not in [one.action for one in needed]
    parameters["roleArn"] = ROLE
    needed = permissions_of(a_call(source, name, **parameters))
    assert "iam:PassRole" in [one.action for one in needed]


def test_ec2_resources_belong_to_the_callers_account() -> None:
    record = a_call("ec2", "CreateVolume", snapshotId="snap-37beda4c")
    del record["recipientAccountId"]
    *_, made = permissions_of(record)
    assert made.resource == f"arn:aws:ec2:us-east-1:{ACCOUNT}:volume/*"


@pytest.mark.parametrize(
    ("source", "name", "parameters", "passed"),
    [
        ("glue", "CreateJob", {"name": "j", "role": "etl"}, {"role/etl", "role/*/etl"}),
        ("glue", "CreateJob", {"name": "j", "role": "team/etl"}, {"role/team/etl"}),
        (
            *("elasticmapreduce", "RunJobFlow", {"jobFlowRole": "Nodes", "serviceRole": "Emr"}),
            {"role/Nodes", "role/*/Nodes", "role/Emr", "role/*/Emr"},
        ),
        (
            *("autoscaling", "CreateLaunchConfiguration", {"iamInstanceProfile": "web"}),
            {"role/web", "role/*/web"},
        ),
        (
            *("ec2", "RunInstances"),
            {"iamInstanceProfile": {"arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/a/web"}},
            {"role/web", "role/*/web"},
        ),
    ],
)
def test_a_role_is_passed_by_its_name(
    source: str, name: str, parameters: dict[str, Any], passed: set[str]
) -> None:
    needed = permissions_of(a_call(source, name, **parameters))
    roles = {one.resource for one in needed if one.action == "iam:PassRole"}
    assert roles == {f"arn:aws:iam::{ACCOUNT}:{role}" for role in passed}


@pytest.mark.parametrize(
    ("source", "name", "parameters", "action", "resource"),
    [
        ("iam", "CreateUser", {"userName": "ada"}, "iam:TagUser", "iam::{}:user/ada"),
        (
            *("logs", "CreateLogGroup", {"logGroupName": "/b"}),
            *("logs:TagResource", "logs:us-east-1:{}:log-group:/b"),
        ),
        (
            *("secretsmanager", "CreateSecret", {"name": "db"}),
            *("secretsmanager:TagResource", "secretsmanager:us-east-1:{}:secret:db-??????"),
        ),
        ("kms", "CreateKey", {}, "kms:TagResource", "kms:us-east-1:{}:key/*"),
        (
            *("dynamodb", "CreateTable", {"tableName": "t"}),
            *("dynamodb:TagResource", "dynamodb:us-east-1:{}:table/t"),
        ),
    ],
)
def test_tags_on_creation_need_a_permission(
    source: str, name: str, parameters: dict[str, Any], action: str, resource: str
) -> None:
    assert action not in [one.action for one in permissions_of(a_call(source, name, **parameters))]
    tagged = {**parameters, "tags": [{"key": "team", "value": "a"}]}
    needed = permissions_of(a_call(source, name, **tagged))
    on = {one.resource for one in needed if one.action == action}
    assert f"arn:aws:{resource.format(ACCOUNT)}" in on


def test_launch_template_tags_differ_from_instance_tags() -> None:
    of_instances = {"TagSpecification": [{"ResourceType": "instance", "Tag": {"Key": "a"}}]}
    of_template = [{"ResourceType": "launch-template", "Tag": {"Key": "a"}}]
    request = {"LaunchTemplateName": "l", "LaunchTemplateData": of_instances}
    for tags in ({}, {"TagSpecification": of_template}):
        needed = permissions_of(
            a_call("ec2", "CreateLaunchTemplate", CreateLaunchTemplateRequest={**request, **tags})
        )
        on = [one.resource for one in needed if one.action == "ec2:CreateTags"]
        assert on == ([f"arn:aws:ec2:us-east-1:{ACCOUNT}:launch-template/*"] if tags else [])


#: A message about a refused call; publishers put `*` in the place of ids.
REFUSED = re.compile(r"not authorized to perform: (\S+)(?: on resource: (\S+))?")
PLACE = re.compile(r"(?<=arn:)aws[^:]*:([^:]*):[^:]*:[^:]*:")


def test_refused_calls_needed_the_actions_in_their_messages() -> None:
    """AWS decided: its messages name the action and the resource that no policy allowed."""
    compared, wrong = 0, []
    for record in [*(each for _, each in collected_records()), *real_records()]:
        refused = REFUSED.search(str(record.get("errorMessage") or ""))
        if refused is None or not is_known(refused[1]):
            continue
        compared += 1
        needed = [one.resource for one in permissions_of(record) if one.action == refused[1]]
        named = PLACE.sub(r"\1:", (refused[2] or "*").rstrip("."))
        resources = [PLACE.sub(r"\1:", each) for each in needed]
        if not any(globs([each]).fullmatch(named) or globs([named]).fullmatch(each)
                   for each in resources):  # fmt: skip
            wrong.append(f"{record['eventName']}: {refused[0]}: {resources}")
    assert wrong == []
    assert compared >= at_least(60, 5)
