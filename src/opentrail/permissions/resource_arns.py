"""The resource ARNs to check against policies for a recorded call.

They come from the record's `resources` if it has any, else from the names in its request and
response. The ARN is `*` if neither names a resource of the service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from opentrail.core.arns import ARN_TYPES
from opentrail.core.attributes import Resource, resources_of
from opentrail.core.event import as_object, objects_in
from opentrail.core.partiql import statements_of, table_of
from opentrail.permissions.authorization import takes_resources
from opentrail.permissions.event_actions import (
    items_of,
    partiql_action,
    prefix_of,
    source_label,
)

#: The resource of actions whose resources are unknown, or that have none.
EVERYTHING = "*"
#: Suffix in policies after a log group's ARN, for its streams and for actions on all of them.
OF_LOG_GROUP = ":*"
#: CloudFormation type → service and kind in ARNs.
_KINDS = {
    resource_type: (service, kind)
    for service, kinds in ARN_TYPES.items()
    for kind, resource_type in kinds.items()
}
#: Services whose ARNs have a colon after the kind, instead of a slash.
_WITH_COLON = frozenset(
    {"cloudwatch", "lambda", "logs", "rds", "redshift", "secretsmanager", "states"}
)
#: Services whose ARNs have no Region; Route 53's ARNs have no account either.
_WITHOUT_REGION = frozenset({"cloudfront", "iam", "route53"})
_WITHOUT_ACCOUNT = frozenset({"route53"})
#: Begin of Regions → partition.
_PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"))
#: Types whose ARNs need more than the name.
_INCOMPLETE = frozenset(
    {
        "AWS::AutoScaling::AutoScalingGroup",
        "AWS::CloudFormation::Stack",
        "AWS::ECS::Service",
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS::Glue::Table",
        "AWS::WAFv2::WebACL",
    }
)
#: IAM's types, in the order in which an event's name selects its subject.
_IAM_TYPES = (
    ("InstanceProfile", "AWS::IAM::InstanceProfile"),
    ("Group", "AWS::IAM::Group"),
    ("Role", "AWS::IAM::Role"),
    ("User", "AWS::IAM::User"),
    ("AccessKey", "AWS::IAM::User"),
    ("LoginProfile", "AWS::IAM::User"),
    ("Policy", "AWS::IAM::Policy"),
)
#: The member with the new name in an IAM call that renames a resource.
_NEW_NAME = re.compile("new(User|Group|ServerCertificate)Name")
_IAM_FOR = re.compile(r"For(User|Role|Group|Policy)\Z")


def arns_of(record: Mapping[str, Any]) -> list[str]:
    """Returns the ARNs that a call is about, `*` if none is known.

    All of them must be allowed.
    """
    label = source_label(record)
    parameters = as_object(record.get("requestParameters"))
    if label == "s3":
        return [_s3(record, parameters)]
    arns = _recorded_arns(record)
    if not arns and label == "logs" and "logGroupName" in parameters:
        arns = [_log_group(record, parameters)]
    if not arns and label == "dynamodb":
        tables = dict.fromkeys(table for _, table in _tables_of(parameters) if table)
        arns = [_table_arn(record, table) for table in tables]
    if not arns and label == "ssm" and isinstance(parameters.get("path"), str):
        arns = [f"{_begin(record)}:ssm:{_place(record)}:parameter/{parameters['path'].lstrip('/')}"]
    arns = arns or _named_arns(record, label) or _arns_in(parameters, prefix_of(label))
    if label == "dynamodb" and isinstance(index := parameters.get("indexName"), str):
        arns = [arn if "/index/" in arn else f"{arn}/index/{index}" for arn in arns]
    if label == "iam":
        arns = [*arns, *_renamed(parameters, arns)]
    return arns or [_own_user(record, label) or EVERYTHING]


def account_of(record: Mapping[str, Any]) -> str:
    """Returns the account of a call's resources: its recipient, else the caller's."""
    identity = as_object(record.get("userIdentity"))
    return str(record.get("recipientAccountId") or identity.get("accountId") or "")


def _own_user(record: Mapping[str, Any], label: str) -> str | None:
    """Returns the ARN of the caller, whom calls of IAM about a user mean if they name none."""
    identity = as_object(record.get("userIdentity"))
    event_name = str(record.get("eventName", ""))
    if label != "iam" or identity.get("type") != "IAMUser" or event_name.startswith("ListUsers"):
        return None
    if event_name == "GetAccessKeyLastUsed":
        return None  # of any user: the request names the key only
    is_about_user = any(word in event_name for word in ("User", "AccessKey", "ChangePassword"))
    arn = identity.get("arn")
    return str(arn) if is_about_user and arn else None


def copied_object(record: Mapping[str, Any]) -> str | None:
    """Returns the ARN of the object that a call of S3 copies; None if it copies nothing."""
    source = as_object(record.get("requestParameters")).get("x-amz-copy-source")
    if not isinstance(source, str) or source_label(record) != "s3":
        return None
    path = unquote(source).lstrip("/").partition("?versionId=")[0]
    return path if path.startswith("arn:") else f"{_begin(record)}:s3:::{path}"


def _s3(record: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    bucket, key = parameters.get("bucketName"), parameters.get("key")
    if not bucket:
        return EVERYTHING
    arn = f"{_begin(record)}:s3:::{bucket}"
    return f"{arn}/{key}" if key else arn


def _recorded_arns(record: Mapping[str, Any]) -> list[str]:
    resources = record.get("resources")
    entries = objects_in(resources)
    return [str(entry["ARN"]) for entry in entries if entry.get("ARN")]


def _renamed(parameters: Mapping[str, Any], arns: Sequence[str]) -> Iterator[str]:
    """Yields further ARNs in a call of IAM on which its caller needs the action."""
    for member, name in parameters.items():
        if _NEW_NAME.fullmatch(member) and isinstance(name, str):
            path = parameters.get("newPath")
            for arn in arns:
                begin, _, _ = arn.rpartition("/")
                kind = begin.partition("/")[0]
                yield f"{kind}{path}{name}" if isinstance(path, str) else f"{begin}/{name}"


def partition_of(record: Mapping[str, Any]) -> str:
    """Returns the partition of a call's Region in ARNs: `aws`, `aws-cn`, `aws-us-gov`."""
    region = str(record.get("awsRegion", ""))
    return next((name for begin, name in _PARTITIONS if region.startswith(begin)), "aws")


def _begin(record: Mapping[str, Any]) -> str:
    return f"arn:{partition_of(record)}"


def _place(record: Mapping[str, Any]) -> str:
    """Returns Region and account in the form of ARNs."""
    return f"{record.get('awsRegion', '')}:{account_of(record)}"


def tables_for(action: str, arns: Sequence[str], record: Mapping[str, Any]) -> Sequence[str]:
    """Returns the tables of the items that need an action; all ARNs of other calls.

    Only for calls of DynamoDB with several items, which may concern different tables.
    """
    if not action.startswith("dynamodb:"):
        return arns
    parameters = as_object(record.get("requestParameters"))
    tables = [table for name, table in _tables_of(parameters) if action == f"dynamodb:{name}"]
    own = {_table_arn(record, table) for table in tables}
    return [arn for arn in arns if arn in own] or arns


def _table_arn(record: Mapping[str, Any], table: str) -> str:
    if table.startswith("arn:"):
        return table
    return f"{_begin(record)}:dynamodb:{_place(record)}:table/{table}"


def _tables_of(parameters: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Yields the action and the table, or its index, of each item and statement of a request."""
    yield from items_of(parameters)
    for statement in statements_of(parameters):
        if found := table_of(statement):
            table, index = found
            yield partiql_action(statement), f"{table}/index/{index}" if index else table


def _arns_in(parameters: Mapping[str, Any], service: str) -> list[str]:
    """Returns the ARNs of a service that are members of a request."""
    texts = [value for value in parameters.values() if isinstance(value, str)]
    return [text for text in texts if text.startswith("arn:") and text.split(":")[2:3] == [service]]


def _log_group(record: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    group = f"{_begin(record)}:logs:{_place(record)}:log-group:{parameters['logGroupName']}"
    stream = parameters.get("logStreamName")
    return f"{group}:log-stream:{stream}" if stream else f"{group}{OF_LOG_GROUP}"


def _named_arns(record: Mapping[str, Any], label: str) -> list[str]:
    """Returns the ARNs of the service's resources that request and response name."""
    if label == "ec2" and not takes_resources(f"ec2:{record.get('eventName')}"):
        return []  # such as EC2's Describe actions
    service = "iam" if label == "sts" else prefix_of(label)
    # EC2 answers with the new resources; Lambda with the ARN of a version.
    is_in_request = label in ("ec2", "lambda")
    request_resources = resources_of({**record, "responseElements": None}) if is_in_request else ()
    own = [
        resource
        for resource in request_resources or resources_of(dict(record))
        if _is_of(service, resource)
    ]
    if service == "iam":
        own = _about(str(record.get("eventName", "")), own)
    with_arn = {resource.type for resource in own if resource.name.startswith("arn:")}
    arns = []
    for resource in own:
        if resource.name.startswith("arn:"):
            arns.append(resource.name)
        elif resource.type not in with_arn and (arn := _arn_of(resource, record)):
            arns.append(arn)
    return list(dict.fromkeys(arns))


def _is_of(service: str, resource: Resource) -> bool:
    if resource.name.startswith("arn:"):
        return resource.name.split(":")[2:3] == [service]
    return resource.type is not None and _KINDS.get(resource.type, ("", ""))[0] == service


def _about(event_name: str, resources: Sequence[Resource]) -> list[Resource]:
    """Returns the subject of an IAM action: of AttachRolePolicy the role, not the policy."""
    ending = _IAM_FOR.search(event_name)
    subject = ending[1] if ending else event_name.replace("Policies", "Policy")
    for word, resource_type in _IAM_TYPES:
        if word in subject:
            return [resource for resource in resources if resource.type == resource_type]
    return list(resources)


def _arn_of(resource: Resource, record: Mapping[str, Any]) -> str | None:
    """Returns the ARN of a resource that is given by its name."""
    if resource.type is None or resource.type in _INCOMPLETE:
        return None
    service, kind = _KINDS[resource.type]
    account = account_of(record)
    region = "" if service in _WITHOUT_REGION else str(record.get("awsRegion", ""))
    if service in _WITHOUT_ACCOUNT or resource.type in ("AWS::EC2::Ami", "AWS::EC2::Snapshot"):
        account = ""
    name = resource.name
    if service == "sqs":
        name = name.rstrip("/").rpartition("/")[2]  # the URL of a queue ends with its name
    elif service == "secretsmanager":
        name += "-??????"  # AWS ends the ARN with six characters that the name does not have
    elif resource.type == "AWS::Events::Rule":
        bus = as_object(record.get("requestParameters")).get("eventBusName")
        name = f"{bus}/{name}" if bus and bus != "default" else name
    elif service in ("ssm", "kms"):
        name = name.removeprefix("/").removeprefix("alias/")
    separator = "" if not kind else ":" if service in _WITH_COLON else "/"
    return f"{_begin(record)}:{service}:{region}:{account}:{kind}{separator}{name}"
