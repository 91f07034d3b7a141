"""What a recorded call needs, and what a policy knows of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentrail.core.event import as_object
from opentrail.core.policies.patterns import meant_by
from opentrail.permissions.authorization import (
    forms_in,
    is_known,
    passes_role,
    role_members,
    tagging_of,
    type_of,
)
from opentrail.permissions.creations import NeededResource, form_of, resources_for
from opentrail.permissions.event_actions import (
    ACTION_NAME,
    OF_ITEMS,
    actions_of,
    prefix_of,
    source_label,
)
from opentrail.permissions.resources import (
    EVERYTHING,
    OF_LOG_GROUP,
    account_of,
    arns_of,
    copied_object,
    partition_of,
    tables_for,
)

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
    "elasticmapreduce": "elasticmapreduce.amazonaws.com",
    "glue": "glue.amazonaws.com",
    "lambda": "lambda.amazonaws.com",
    "states": "states.amazonaws.com",
}
#: The name of a service that calls for others.
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")
#: The name of a role, perhaps with its path, and the ARN of an instance profile.
_NAME = re.compile(r"[\w+=,.@/-]{1,576}")
_PROFILE = re.compile(r"arn:[a-z-]+:iam::\d{12}:instance-profile/(?:[\w+=,.@/-]*/)?([\w+=,.@-]+)")
#: Members with an instance profile, though named for a role.
_PROFILES = frozenset({"jobflowrole"})
_ROLE = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/[\w+=,.@/-]{1,576}")
#: Members with objects whose names callers choose.
_CHOSEN = re.compile(
    "tag|environment|variables|metadata|.*(?:arguments|labels|parameters)$", re.IGNORECASE
)
#: Maximum depth at which passed roles and tags are searched.
_MAX_DEPTH = 5


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
    #: Whether `resource` is a pattern, as policies have it, for what the record does not name:
    #: `arn:…:instance/*`.
    is_unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """What a call needs, and what of it its record does not say."""

    #: Each must be allowed; of actions that AWS's authorization data has.
    permissions: tuple[NeededPermission, ...] = ()
    #: Actions that the data does not have.
    unverified: tuple[str, ...] = ()
    #: What else is needed, in words; "" if the record does not say what at all.
    open: tuple[str, ...] = ()


def permissions_of(record: Mapping[str, Any]) -> tuple[NeededPermission, ...]:
    """Returns what a call needs as far as it is known; nothing if AWS checks no permission."""
    return needs_of(record).permissions


def needs_of(record: Mapping[str, Any]) -> Needs:
    """Returns what a call needs."""
    actions = actions_of(record)
    unknown = [action for action in actions if not is_known(action)]
    unverified = tuple(
        each for each in unknown if ACTION_NAME.fullmatch(each) and each not in OF_ITEMS
    )
    left = [""] if len(unverified) < len(unknown) or _has_lost_objects(record) else []
    arns, forwarded = arns_of(record), _forwarded(record)
    needed: dict[NeededPermission, None] = {}
    for action in filter(is_known, actions):
        resources = resources_for(action, record, tables_for(action, arns, record))
        tags = _tags_on_creation(action, record, resources)
        for name, each in itertools.chain(((action, each) for each in resources), tags):
            needed[NeededPermission(name, each.name, forwarded, each.is_pattern)] = None
    if source := copied_object(record):
        needed[NeededPermission("s3:GetObject", source, forwarded)] = None
    parameters = as_object(record.get("requestParameters"))
    if "apigateway:POST" in actions and parameters.get("tags"):
        left.append("a permission for tags, which the authorization data does not have")
    for action in filter(passes_role, actions):
        passed, profiles = _passed_roles(action, record)
        needed |= dict.fromkeys(passed)
        left += [f"iam:PassRole on the role of the instance profile {name}" for name in profiles]
    return Needs(tuple(needed), unverified, tuple(dict.fromkeys(left)))


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


def _has_lost_objects(record: Mapping[str, Any]) -> bool:
    """Returns whether a call deleted objects that no record names."""
    return record.get("eventName") == "DeleteObjects" and source_label(record) == "s3"


def _tags_on_creation(
    action: str, record: Mapping[str, Any], resources: Sequence[NeededResource]
) -> Iterator[tuple[str, NeededResource]]:
    """Yields what a call needs for the tags of what it makes.

    Args:
        action: one that the call needs.
        record: that of the call.
        resources: those that the action is needed on.
    """
    tagging = tagging_of(action)
    if tagging is None:
        return
    tag_action, members = tagging
    parameters = as_object(record.get("requestParameters"))
    if action.startswith("ec2:"):
        forms = forms_in("ec2")
        for kind in sorted({*_tagged_types(parameters, _MAX_DEPTH)} & forms.keys()):
            yield tag_action, form_of(kind, forms[kind], record)
    elif any(_member(parameters, member) for member in members):
        named = [each for each in resources if type_of(tag_action, meant_by(each.name))]
        for each in named or resources_for(tag_action, record, [EVERYTHING]):
            yield tag_action, each
            if ":log-group:" in each.name and each.name.endswith(OF_LOG_GROUP):
                # CloudWatch Logs asks about tags of a group under its ARN without this ending.
                yield tag_action, NeededResource(each.name.removesuffix(OF_LOG_GROUP), True)


def _tagged_types(value: object, depth: int, is_tags: bool = False) -> Iterator[str]:
    """Yields the types of what a call of EC2 tags, at any place but in a new launch template."""
    if depth and isinstance(value, list):
        for each in value:
            yield from _tagged_types(each, depth - 1, is_tags)
    for name, each in value.items() if depth and isinstance(value, dict) else ():
        if is_tags and name.lower() == "resourcetype" and isinstance(each, str):
            yield each
        elif name.lower() != "launchtemplatedata":
            of_tags = is_tags or name.lower().startswith("tagspecification")
            yield from _tagged_types(each, depth - 1, of_tags)


def _member(parameters: Mapping[str, Any], path: str) -> object:
    """Returns a member of a request, whatever the case of its name; None if it is missing."""
    value: object = parameters
    for name in path.lower().split("."):
        members = {each.lower(): part for each, part in as_object(value).items()}
        value = members.get(name)
    return value


def _passed_roles(
    action: str, record: Mapping[str, Any]
) -> tuple[list[NeededPermission], list[str]]:
    """Returns what a call needs to pass roles, and the instance profiles whose roles it passes.

    A role that is given by its name may have any path. No record has the role of an instance
    profile: most are named alike.
    """
    members = {member.lower() for member in role_members(action)}
    with_names = {member for member in members if not member.endswith(("arn", "arns"))}
    service = _PASSED_TO.get(action.partition(":")[0])
    begin = f"arn:{partition_of(record)}:iam::{account_of(record)}:role/"
    needed: dict[NeededPermission, None] = {}
    profiles: dict[str, None] = {}
    for path, text in _texts(record.get("requestParameters"), _MAX_DEPTH):
        named = next((name for name in reversed(path) if name in members), "")
        of_profile = any("instanceprofile" in name for name in path) or named in _PROFILES
        if of_profile and action.startswith("iam:"):
            continue  # it puts a role into the profile
        to = _condition("ec2.amazonaws.com" if of_profile else service)
        profile = _PROFILE.fullmatch(text)
        if _ROLE.fullmatch(text) and any("role" in name for name in path):
            needed[NeededPermission("iam:PassRole", text, to)] = None
        elif (named and profile) or (
            named in with_names and path[-1] in (named, "name") and _NAME.fullmatch(text)
        ):
            name = profile[1] if profile else text
            if of_profile:
                profiles[name] = None
            for pattern in (name,) if "/" in name else (name, f"*/{name}"):
                needed[NeededPermission("iam:PassRole", begin + pattern, to, True)] = None
    return list(needed), list(profiles)


def _condition(service: str | None) -> StringCondition | None:
    return StringCondition("StringEquals", "iam:PassedToService", service) if service else None


def _texts(
    value: object, depth: int, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the texts of a request, each with the names of the members that it is in."""
    if isinstance(value, str):
        yield path, value
    elif depth and isinstance(value, dict):
        for member, each in value.items() if not (path and _CHOSEN.match(path[-1])) else ():
            yield from _texts(each, depth - 1, (*path, member.lower()))
    elif depth and isinstance(value, list):
        for each in value:
            yield from _texts(each, depth - 1, path)
