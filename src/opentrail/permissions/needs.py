"""What a recorded call needs, and what a policy knows of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentrail.core.event import as_object, objects_in
from opentrail.permissions.event_actions import TRANSACT_ITEMS, actions_of, prefix_of, source_label
from opentrail.permissions.known_actions import (
    VARIABLE,
    forms_of_required,
    passes_role,
    resource_type,
)
from opentrail.permissions.resources import account_of, arns_of, copied_object

Context = dict[str, tuple[str, ...]]
#: Query parameters of S3 that are condition keys.
_S3_KEYS = ("prefix", "delimiter", "max-keys", "versionId", "x-amz-acl", "x-amz-storage-class")
#: Condition keys of which a record says whether a call had them, and with which value: those that
#: `context_of` fills.
RECORDED_KEYS = frozenset(
    {
        *("aws:currenttime", "aws:principalaccount", "aws:principalarn", "aws:requestedregion"),
        *("aws:resourceaccount", "aws:securetransport", "aws:sourceip", "aws:sourcevpce"),
        *("aws:useragent", "aws:userid", "aws:username", "aws:calledvia", "iam:passedtoservice"),
        *(f"s3:{name.lower()}" for name in _S3_KEYS),
    }
)
#: Prefix → the service that a passed role is for, where all of its actions pass roles to that one.
_PASSED_TO = {
    "codebuild": "codebuild.amazonaws.com",
    "ec2": "ec2.amazonaws.com",
    "ecs": "ecs-tasks.amazonaws.com",
    "glue": "glue.amazonaws.com",
    "lambda": "lambda.amazonaws.com",
    "states": "states.amazonaws.com",
}
#: The name of a service that calls for others.
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")
_ROLE = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/[\w+=,.@/-]{1,576}")
#: Members with objects whose names callers choose.
_CHOSEN = re.compile(
    "tag|environment|variables|metadata|.*(?:arguments|labels|parameters)$", re.IGNORECASE
)
#: Maximum depth at which the ARN of a passed role is searched.
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True, order=True)
class StringCondition:
    """A condition of a statement: a key with one value, which the request has."""

    operator: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class NeededPermission:
    """An action on a resource, and under which condition it is enough to have it."""

    action: str
    resource: str
    condition: StringCondition | None = None
    #: Whether `resource` is any of a type, as the record does not name it: `arn:…:instance/*`.
    is_unnamed: bool = False


def permissions_of(record: Mapping[str, Any]) -> list[NeededPermission]:
    """Returns what a call needs; nothing for a call that AWS checks no permission of."""
    actions, resources = actions_of(record), arns_of(record)
    forwarded = _forwarded(record)
    needed = [
        NeededPermission(action, resource, forwarded)
        for action in actions
        for resource in _suited(action, _of_items(action, resources, record))
    ]
    needed += [
        NeededPermission(action, resource, forwarded, is_unnamed=True)
        for action in actions
        for resource in _unnamed(action, resources, record)
    ]
    if source := copied_object(record):
        needed.append(NeededPermission("s3:GetObject", source, forwarded))
    if any(passes_role(action) for action in actions):
        needed += _passed_roles(record)
    return needed


def _of_items(action: str, resources: Sequence[str], record: Mapping[str, Any]) -> Sequence[str]:
    """Returns the tables of the items of a transaction that need an action; all of other calls."""
    items = as_object(record.get("requestParameters")).get("transactItems")
    tables = {
        str(as_object(part).get("tableName"))
        for item in objects_in(items)
        for kind, part in item.items()
        if action == f"dynamodb:{TRANSACT_ITEMS.get(kind)}"
    }
    named = [each for each in resources if tables & {each, each.rpartition("/")[2]}]
    return named or resources


def _suited(action: str, resources: Sequence[str]) -> Sequence[str]:
    """Returns the resources of the types that an action takes; all, if there are none."""
    suited = [resource for resource in resources if resource_type(action, resource)]
    return suited or resources


def _unnamed(action: str, resources: Sequence[str], record: Mapping[str, Any]) -> Iterator[str]:
    """Yields what an action needs, too, and the request cannot name, such as a new instance."""
    required = forms_of_required(action)
    kinds = {resource_type(action, resource) for resource in resources}
    if not required or kinds == {None}:
        return
    place = {
        "${Partition}": "aws",
        "${Region}": str(record.get("awsRegion", "")),
        "${Account}": account_of(record),
    }
    for kind, form in required.items():
        if kind not in kinds:
            yield VARIABLE.sub(lambda match: place.get(match[0], "*"), form)


def context_of(record: Mapping[str, Any], permission: NeededPermission) -> Context:
    """Returns the condition keys that are known of a call."""
    identity = as_object(record.get("userIdentity"))
    parameters = as_object(record.get("requestParameters"))
    account = account_of(record)
    texts = {
        "aws:currenttime": record.get("eventTime"),
        "aws:principalaccount": identity.get("accountId"),
        "aws:principalarn": identity.get("arn"),
        "aws:requestedregion": str(record.get("awsRegion", "")),
        "aws:resourceaccount": account,
        "aws:securetransport": "true" if "tlsDetails" in record else "false",
        "aws:sourceip": record.get("sourceIPAddress"),
        "aws:sourcevpce": record.get("vpcEndpointId"),
        "aws:useragent": record.get("userAgent"),
        "aws:userid": identity.get("principalId"),
        "aws:username": identity.get("userName"),
    }
    if prefix_of(source_label(record)) == "s3":
        texts |= {f"s3:{name.lower()}": parameters.get(name) for name in _S3_KEYS}
    if permission.condition is not None:
        texts[permission.condition.key.lower()] = permission.condition.value
    return {key: (str(text),) for key, text in texts.items() if text is not None}


def _forwarded(record: Mapping[str, Any]) -> StringCondition | None:
    """Returns the condition of a call that a service made for its caller."""
    service = as_object(record.get("userIdentity")).get("invokedBy")
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        return None
    return StringCondition("ForAnyValue:StringEquals", "aws:CalledVia", service)


def _passed_roles(record: Mapping[str, Any]) -> Iterator[NeededPermission]:
    service = _PASSED_TO.get(prefix_of(source_label(record)))
    condition = StringCondition("StringEquals", "iam:PassedToService", service) if service else None
    roles = dict.fromkeys(_roles_in(record.get("requestParameters"), _MAX_DEPTH))
    yield from (NeededPermission("iam:PassRole", role, condition) for role in roles)


def _roles_in(value: object, depth: int, name: str = "") -> Iterator[str]:
    """Yields the ARNs of roles in the members of a request that are named for roles."""
    if isinstance(value, str):
        if "role" in name.lower() and _ROLE.fullmatch(value):
            yield value
    elif depth and isinstance(value, dict):
        for member, each in value.items() if not _CHOSEN.match(name) else ():
            yield from _roles_in(each, depth - 1, member)
    elif depth and isinstance(value, list):
        for each in value:
            yield from _roles_in(each, depth - 1, name)
