"""Resources that calls create, as policies must name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from opentrail.capture.record_rules import event_name, lower_first, source_of
from opentrail.core.policies.patterns import meant_by
from opentrail.permissions.authorization import (
    access_level,
    is_known,
    types_of,
    values_in,
)
from opentrail.permissions.event_actions import actions_of
from opentrail.permissions.generate import EXACT, generate, kinds_of
from opentrail.permissions.needs import needs_of, permissions_of
from opentrail.wire.service_models import ServiceCatalog
from tests.factories import ACCOUNT, a_record

HERE = f"us-east-1:{ACCOUNT}"
SECRET = f"arn:aws:secretsmanager:{HERE}:secret:db/main"
STACK = f"arn:aws:cloudformation:{HERE}:stack/web"
BALANCER = f"arn:aws:elasticloadbalancing:{HERE}:loadbalancer"


@pytest.mark.parametrize(
    ("source", "name", "given", "answer", "needed"),
    [
        (
            *("ec2", "CreateVpc", {"cidrBlock": "10.0.0.0/16"}, {"vpc": {"vpcId": "vpc-1"}}),
            [f"arn:aws:ec2:{HERE}:vpc/*"],
        ),
        (
            *("ec2", "CreateSecurityGroup", {"groupName": "g9", "vpcId": "vpc-1"}),
            {"groupId": "sg-1"},
            [f"arn:aws:ec2:{HERE}:security-group/*", f"arn:aws:ec2:{HERE}:vpc/vpc-1"],
        ),
        (
            *("ec2", "CreateKeyPair", {"keyName": "k"}, {"keyName": "k"}),
            [f"arn:aws:ec2:{HERE}:key-pair/k"],
        ),
        (
            *("ec2", "CreateNatGateway", {"subnetId": "subnet-1", "allocationId": "eipalloc-1"}),
            None,
            [
                f"arn:aws:ec2:{HERE}:elastic-ip/eipalloc-1",
                f"arn:aws:ec2:{HERE}:natgateway/*",
                f"arn:aws:ec2:{HERE}:subnet/subnet-1",
            ],
        ),
        (
            *("secretsmanager", "CreateSecret", {"name": "db/main"}, {"arn": f"{SECRET}-a1B2c3"}),
            [f"{SECRET}-??????"],
        ),
        (
            *("cloudformation", "CreateStack", {"stackName": "web"}, {"stackId": f"{STACK}/1a2b"}),
            [f"{STACK}/*"],
        ),
        (
            *("elasticloadbalancing", "CreateLoadBalancer", {"name": "front"}),
            {"loadBalancers": [{"loadBalancerArn": f"{BALANCER}/app/front/50dc6c495c0c9188"}]},
            [f"{BALANCER}/app/front/*", f"{BALANCER}/gwy/front/*", f"{BALANCER}/net/front/*"],
        ),
        (
            *("elasticfilesystem", "CreateFileSystem", {"creationToken": "t"}),
            {"fileSystemId": "fs-1"},
            ["*"],
        ),
        (
            *("ecs", "RegisterTaskDefinition", {"family": "web"}),
            {"taskDefinition": {"taskDefinitionArn": f"arn:aws:ecs:{HERE}:task-definition/web:7"}},
            [f"arn:aws:ecs:{HERE}:task-definition/web:*"],
        ),
        (
            *("rds", "CreateDBCluster"),
            {"dBClusterIdentifier": "c", "dBClusterParameterGroupName": "p"},
            None,
            [
                f"arn:aws:rds:{HERE}:cluster-pg:p",
                f"arn:aws:rds:{HERE}:cluster:c",
                f"arn:aws:rds:{HERE}:og:*",
                f"arn:aws:rds:{HERE}:subgrp:*",
            ],
        ),
    ],
)
def test_a_new_resource_has_its_callers_name(
    source: str, name: str, given: dict[str, Any], answer: Any, needed: list[str]
) -> None:
    record = a_record(
        eventSource=f"{source}.amazonaws.com",
        eventName=name,
        requestParameters=given,
        responseElements=answer,
    )
    action = permissions_of(record)[0].action
    (policy,) = generate(kinds_of([record]), EXACT).documents
    (statement,) = policy["Statement"]
    assert statement["Action"] == [action]
    resource = statement["Resource"]
    assert sorted([resource] if isinstance(resource, str) else resource) == needed


# All operations of botocore, with invented values

#: Services without an action, in the data, that adds tags to the calls' new resources.
WITHOUT_TAGGING = {"apigateway", "codebuild", "serverlessrepo"}


def a_value(shape: Any, prefix: str, name: str, depth: int = 4) -> Any:
    """Returns a value of a shape, with strings that name their member."""
    kind = shape.type_name if depth else ""
    if kind == "structure":
        members = shape.members.items()
        return {lower_first(each): a_value(part, prefix, each, depth - 1) for each, part in members}
    if kind == "list":
        return [a_value(shape.member, prefix, name, depth - 1)]
    if kind == "map":
        return {"k": a_value(shape.value, prefix, name, depth - 1)}
    return f"{prefix}{name}" if kind == "string" else None


def made_by_calls() -> Iterator[tuple[str, Any, Any]]:
    """Yields the writing operations, each with its model and a record of a call."""
    for service in ServiceCatalog().services.values():
        for name in service.model.operation_names:
            operation: Any = service.operation(name)
            record = a_record(
                eventSource=f"{source_of(service)}.amazonaws.com",
                eventName=event_name(service.name, name),
                requestParameters={},
                responseElements=None,
            )
            levels = {access_level(action) for action in actions_of(record)}
            if levels & {"Write", "Permissions management"} and operation.input_shape:
                record["requestParameters"] = a_value(operation.input_shape, "given", "")
                if operation.output_shape:
                    record["responseElements"] = a_value(operation.output_shape, "made", "")
                yield f"{service.name}.{name}", operation, record


def is_creation(name: str) -> bool:
    return name.partition(".")[2].startswith(("Create", "Run", "Allocate", "Register", "Import"))


def has_tags(operation: Any) -> bool:
    names = ("Tags", "tags", "TagList", "tagList", "TagSpecifications", "tagSpecifications")
    members = operation.input_shape.members
    return any(
        name in members and members[name].type_name in ("list", "map", "structure")
        for name in names
    )


def mistakes_in_policy(record: Any, creates: bool) -> Iterator[str]:
    """Yields the errors in the policy of one call."""
    for document in generate(kinds_of([record]), EXACT).documents:
        for statement in document["Statement"]:
            yield from (each for each in statement["Action"] if not is_known(each))
            resources = statement["Resource"]
            for resource in [resources] if isinstance(resources, str) else resources:
                if "${" in resource or (creates and "made" in resource):
                    yield f"{statement['Action']} on {resource}"
    for one in needs_of(record).permissions if creates else ():
        for kind in types_of(one.action):
            for variable, value in (values_in(kind.form, meant_by(one.resource)) or {}).items():
                is_name = value.endswith(("Name", "name")) and "/" not in value
                if variable.endswith("Id") and is_name:
                    yield f"{one.resource} has a name for {variable}"


def lacks_tagging(operation: Any, record: Any) -> bool:
    """Returns whether a call with tags needs no action for them, though the data has one."""
    permissions = needs_of(record).permissions
    if not permissions or operation.service_model.service_name == "ec2":
        return False  # calls of EC2 have the tagged types as strings in their requests
    prefix = permissions[0].action.partition(":")[0]
    return prefix not in WITHOUT_TAGGING and not any("Tag" in one.action for one in permissions)


def test_calls_of_all_operations_that_make_something() -> None:
    """No id that AWS makes, no escaped wildcard and no unknown action is in a policy.

    An operation with tags needs the action for tagging.
    """
    counts: Counter[str] = Counter()
    wrong = []
    for name, operation, record in made_by_calls():
        creates = is_creation(name)
        counts["operations"] += 1
        wrong += [f"{name}: {each}" for each in mistakes_in_policy(record, creates)]
        counts["creations"] += creates
        if creates and has_tags(operation):
            counts["creations with tags"] += 1
            if lacks_tagging(operation, record):
                wrong.append(f"{name}: needs no action for its tags")
    assert wrong == []
    assert counts["operations"] > 8_000
    assert counts["creations"] > 2_000
    assert counts["creations with tags"] > 1_000
