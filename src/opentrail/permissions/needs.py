"""The resources that a recorded call needs, by type, and the context that policies check.

A new resource gets another id with each call, so a policy can name only the parts that the caller
chose: `arn:aws:ec2:…:vpc/*`, `arn:aws:cloudformation:…:stack/web/*`. The types and the forms of
ARNs come from AWS's authorization data.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from opentrail.core.event import as_object, objects_in, without_version
from opentrail.core.policies.patterns import literal, meant_by
from opentrail.permissions.authorization import (
    VARIABLE,
    ResourceType,
    forms_in,
    is_known,
    passes_role,
    role_members,
    tagging_of,
    type_of,
    types_of,
    values_in,
)
from opentrail.permissions.event_actions import (
    ACTION_NAME,
    OF_ITEMS,
    actions_of,
    prefix_of,
    source_label,
)
from opentrail.permissions.resource_arns import (
    EVERYTHING,
    OF_LOG_GROUP,
    account_of,
    arns_of,
    copied_object,
    partition_of,
    tables_for,
)

#: The name of an event that makes something, with the name of the new thing.
_MAKING = re.compile(
    r"(?:Allocate|Clone|Copy|Create|Generate|Import|Issue|Launch|Provision|Publish|Purchase|Put"
    r"|Register|Request|Restore|Run|Start|Upload)([A-Z]\w*)"
)
#: Types that an action needs though the data has them as optional or a call names none: RDS takes
#: default groups ("Allow a user to create DB instances in an AWS account" of the RDS user guide),
#: and a peering connection is between VPCs.
_IMPLIED = {
    "ec2:AcceptVpcPeeringConnection": ("vpc",),
    "kms:DeleteAlias": ("key",),
    "rds:CreateDBInstance": ("og", "pg", "subgrp"),
    "rds:DeleteDBCluster": ("cluster-snapshot",),
    "rds:DeregisterDBProxyTargets": ("cluster", "db", "proxy", "target-group"),
    "rds:RestoreDBClusterFromSnapshot": ("cluster-snapshot",),
}
#: Variables for the place of a resource.
_PLACE = ("Partition", "Region", "Account")
#: The end of the name of a variable that has an id.
_ID = ("Id", "ID", "Uuid", "UUID", "Identifier")
#: The end of the name of a member that may have an id.
_ID_MEMBER = ("id", "ids", "arn", "arns", "identifier", "identifiers", "key", "items")
#: The end of the ARN of a secret, which AWS adds to its name, and the pattern that matches it.
_SECRET = re.compile(r"(.+)-(?:[A-Za-z0-9]{6}|\?{6})", re.DOTALL)
_SECRET_ENDING = "-??????"  # noqa: S105 - a pattern
#: Endings of ARNs that are made of names and are patterns already.
_ENDINGS = {"secretsmanager": _SECRET_ENDING, "logs": OF_LOG_GROUP}
#: Variables whose names do not identify their members → ending after the type's name.
_GENERAL = {
    **dict.fromkeys(("name", "path", "resourcename", "type"), "name"),
    **dict.fromkeys(("id", "identifier", "resourceid"), "id"),
}
#: Minimum characters of a member that has a part of a variable's name, such as `hostId`.
_MIN_SHORT_NAME = 6
#: Maximum characters of a name in an ARN.
_MAX_CHARACTERS = 2_048
#: Entries of the cache of nouns.
_CACHED_NAMES = 8_192
#: Maximum depth of a request at which the values that its caller chose are searched.
_MAX_MEMBER_DEPTH = 6


@dataclass(frozen=True, slots=True)
class NeededResource:
    """A resource that a call needs, as a pattern if its record does not name it fully."""

    #: An ARN, `*`, or a pattern in the form of policies.
    name: str
    is_pattern: bool = False


def resources_for(
    action: str, record: Mapping[str, Any], arns: Sequence[str]
) -> list[NeededResource]:
    """Returns the resources that a call needs an action on; each must be allowed.

    Args:
        action: a needed action.
        record: the record of the call.
        arns: the resources that the record names, `*` if there are none.
    """
    types = types_of(action)
    kinds = {arn: kind for arn in arns if (kind := type_of(action, arn))}
    is_making, is_ec2 = bool(_makes(record)), action.startswith("ec2:")
    is_whole = is_making or is_ec2 or action in _IMPLIED
    if not kinds and not is_whole:
        return [_as_named(arn) for arn in arns]
    made = _made_by(record, types, is_ec2)
    chosen = _Chosen(record)
    listed = {entry.get("ARN") for entry in objects_in(record.get("resources"))}
    needed: dict[NeededResource, None] = {}
    for arn, kind in kinds.items():
        is_new = is_making and (kind in made or arn not in listed)
        named = _with_places(kind, arn, chosen, is_new) if is_whole else _as_named(arn)
        needed[named] = None
    words = {word_of(kind.name) for kind in kinds.values()}
    others = [kind for kind in types if word_of(kind.name) not in words]
    service = action.partition(":")[0]
    chosen.variables = {name.lower() for kind in types for name in VARIABLE.findall(kind.form)}
    for kind in others:
        if kind.is_required or f":{service}:" in kind.form:
            needed |= dict.fromkeys(chosen.resources(kind, kind in made))
    # Resources that the request does not name: all new ones, and one of each required type.
    has_some, words = bool(needed), words | {word_of(type_of_name) for type_of_name in chosen.found}
    for kind in others:
        is_required = kind.is_required or kind.name in _IMPLIED.get(action, ())
        is_needed = kind in made or (is_required and (is_making or has_some))
        if not is_needed or word_of(kind.name) in words:
            continue
        if is_whole or chosen.names_part_of(kind):
            needed[chosen.pattern(kind, kind in made)] = None
    if needed:
        return list(needed)
    return [NeededResource(EVERYTHING)] if is_making else [_as_named(arn) for arn in arns]


def _as_named(arn: str) -> NeededResource:
    for service, ending in _ENDINGS.items():
        if arn.split(":", 3)[2:3] == [service] and arn.endswith(ending):
            return NeededResource(f"{literal(arn.removesuffix(ending))}{ending}", True)
    return NeededResource(arn)


def form_of(kind: str, form: str, record: Mapping[str, Any]) -> NeededResource:
    """Returns all resources of a type, in the place of a call."""
    return _Chosen({**record, "requestParameters": None}).pattern(
        ResourceType(kind, form, is_required=True, is_made=True), is_made=True
    )


def _makes(record: Mapping[str, Any]) -> re.Match[str] | None:
    return _MAKING.fullmatch(without_version(str(record.get("eventName", ""))))


def _made_by(
    record: Mapping[str, Any], types: Sequence[ResourceType], is_ec2: bool
) -> list[ResourceType]:
    """Returns the types of the resources that a call makes, from its name and its tags."""
    making = _makes(record)
    if making is None:
        return []
    noun = word_of(making[1])
    of_name = [kind for kind in types if noun.endswith(word_of(kind.name))]
    tagged = [kind for kind in types if kind.is_made]
    return (tagged or of_name) if is_ec2 else (of_name or tagged)


@lru_cache(_CACHED_NAMES)
def word_of(name: str) -> str:
    """Returns a noun for comparison: without case, hyphens, kind and the ending of the plural.

    >>> word_of("SecurityGroups"), word_of("loadbalancer/app/")
    ('securitygroup', 'loadbalancer')
    """
    plain = re.sub("[^a-z0-9]", "", name.partition("/")[0].lower())
    return f"{plain[:-3]}y" if plain.endswith("ies") else plain.removesuffix("s")


def _with_places(kind: ResourceType, arn: str, chosen: _Chosen, is_new: bool) -> NeededResource:
    """Returns a resource with `*` for parts that AWS makes, and for a name in place of an id."""
    values = values_in(kind.form, arn) or {}
    pattern, begin, is_pattern = "", 0, False
    for variable in VARIABLE.finditer(kind.form):
        name, value = variable[1], values[variable[1]]
        place = literal(value)
        secret = _SECRET.fullmatch(value) if name == "SecretId" else None
        if secret and chosen.has(secret[1], "Name"):
            place = f"{literal(secret[1])}{_SECRET_ENDING}"
        elif name not in _PLACE and is_new:
            place = _masked(value, name, chosen)
        elif name.endswith(_ID) and chosen.is_name_only(value):
            place = "*"
        is_pattern = is_pattern or place != literal(value) or value.endswith(_SECRET_ENDING)
        pattern += kind.form[begin : variable.start()] + place
        begin = variable.end()
    pattern += kind.form[begin:]
    return NeededResource(pattern, True) if is_pattern else NeededResource(arn)


def _masked(value: str, variable: str, chosen: _Chosen) -> str:
    """Returns the value of a variable with `*` for each part that the caller did not choose."""
    parts = re.split("([/:])", value)
    return "".join(
        literal(part) if index % 2 or not part or chosen.has(part, variable) else "*"
        for index, part in enumerate(parts)
    )


class _Chosen:
    """The values that a caller chose, with the members of the request that have them."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        #: Value, or a part of it, in lower case → members in lower case that have it.
        self._members: dict[str, set[str]] = defaultdict(set)
        #: Member in lower case → its values, at any place.
        self._named: dict[str, dict[str, None]] = defaultdict(dict)
        parameters = record.get("requestParameters")
        self._collect(parameters, "", _MAX_MEMBER_DEPTH)
        identity = as_object(record.get("userIdentity"))
        self._add(str(identity.get("arn", "")), "arn")
        self._top = {name.lower(): each for name, each in as_object(parameters).items()}
        making = _makes(record)
        self._noun = word_of(making[1]) if making else ""
        #: Variables in lower case of all types: a member called so has the value of no other.
        self.variables: set[str] = set()
        #: Names of types for which resources were found.
        self.found: list[str] = []

    def _collect(self, value: object, member: str, depth: int) -> None:
        if isinstance(value, (str, int)):
            self._add(str(value), member.lower())
        elif depth and isinstance(value, dict):
            for name, each in value.items():
                self._collect(each, name, depth - 1)
                if isinstance(each, str):
                    self._add(each, f"{member}{name}".lower())
        elif depth and isinstance(value, list):
            for each in value:
                self._collect(each, member, depth - 1)

    def _add(self, text: str, member: str) -> None:
        if len(text) <= _MAX_CHARACTERS:
            self._named[member][text] = None
            for part in (text, *re.split("[/:,]", text)):
                self._members[part.lower()].add(member)

    def has(self, value: str, variable: str) -> bool:
        """Returns whether the caller chose a value; for an id, not as a name."""
        members = self._members.get(value.lower(), ())
        is_id = variable.endswith(_ID)
        return any(not is_id or member.endswith(_ID_MEMBER) for member in members)

    def is_name_only(self, value: str) -> bool:
        """Returns whether the caller gave a value, and in members with names only."""
        members = self._members.get(value.lower(), ())
        return bool(members) and all(member.endswith("name") for member in members)

    def resources(self, kind: ResourceType, is_made: bool) -> list[NeededResource]:
        """Returns the resources of a type that the caller chose, by members named for its ARNs."""
        names = VARIABLE.findall(kind.form)
        own = self._values(names[-1].lower(), kind, is_made) if names else []
        if own:
            self.found.append(kind.name)
        return [self._filled(kind, is_made, {names[-1]: literal(value)}) for value in own]

    def names_part_of(self, kind: ResourceType) -> bool:
        """Returns whether the caller chose a part of the names of a type's resources."""
        variables = [each for each in VARIABLE.findall(kind.form) if each not in _PLACE]
        return any(self._values(each.lower(), kind, is_made=False) for each in variables)

    def pattern(self, kind: ResourceType, is_made: bool) -> NeededResource:
        """Returns the pattern of a type's resources, with the names that the caller chose."""
        return self._filled(kind, is_made, {})

    def _filled(
        self, kind: ResourceType, is_made: bool, values: Mapping[str, str]
    ) -> NeededResource:
        places = {
            "Partition": partition_of(self._record),
            "Region": str(self._record.get("awsRegion", "")),
            "Account": account_of(self._record),
            **values,
        }

        def place(variable: re.Match[str]) -> str:
            if variable[1] in places:
                return places[variable[1]]
            found = self._values(variable[1].lower(), kind, is_made)
            return literal(found[0]) if found else "*"

        return NeededResource(VARIABLE.sub(place, kind.form), is_pattern=True)

    def _values(self, variable: str, kind: ResourceType, is_made: bool) -> list[str]:
        """Returns the caller's values for a variable of an ARN."""
        if is_made:
            endings = (f"{self._noun}name", "name") if variable.endswith("name") else ()
            texts = (self._top.get(member) for member in (variable, *endings))
            return [text for text in texts if isinstance(text, str) and _is_plain(text)][:1]
        if variable in _GENERAL:
            variable = f"{word_of(kind.name)}{_GENERAL[variable]}"
        may_be_short = ":ec2:" in kind.form
        return [
            text
            for member, texts in self._named.items()
            if _is_for(
                member.removesuffix("s"), variable, may_be_short and member not in self.variables
            )
            for text in texts
            if _is_plain(text)
        ]


def _is_for(member: str, variable: str, may_be_short: bool) -> bool:
    """Returns whether a member has the value of a variable: EC2 shortens its names."""
    if member.startswith("exclude"):
        return False
    if member.endswith("identifier") and member.removesuffix("identifier") == variable:
        return True
    is_short = may_be_short and member.endswith(("id", "name")) and len(member) >= _MIN_SHORT_NAME
    is_short = is_short and variable.endswith(member)
    return member.endswith(variable) or f"{member}name" == variable or is_short


def _is_plain(text: str) -> bool:
    return text != "" and not text.startswith("arn:")


Context = dict[str, tuple[str, ...]]
#: Query parameters of S3 that are condition keys.
_S3_KEYS = ("prefix", "delimiter", "max-keys", "versionId", "x-amz-acl", "x-amz-storage-class")
#: Condition keys whose presence and value a record shows: the keys that `context_of` fills.
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
#: A role's name, with or without its path, and the ARN of an instance profile.
_NAME = re.compile(r"[\w+=,.@/-]{1,576}")
_PROFILE = re.compile(r"arn:[a-z-]+:iam::\d{12}:instance-profile/(?:[\w+=,.@/-]*/)?([\w+=,.@-]+)")
#: Members with an instance profile, though named for a role.
_PROFILES = frozenset({"jobflowrole"})
_ROLE = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/[\w+=,.@/-]{1,576}")
#: Members with objects whose names callers choose.
_CHOSEN = re.compile(
    r"tag|environment|variables|metadata|.*(?:arguments|labels|parameters)\Z", re.IGNORECASE
)
#: Maximum depth at which passed roles and tags are searched.
_PARAMETER_DEPTH = 5


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
    #: Whether `resource` is a pattern as in policies, because the record does not name the
    #: resource: `arn:…:instance/*`.
    is_unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Needs:
    """The needed permissions of a call, and the missing information in its record."""

    #: Each must be allowed; of actions that AWS's authorization data has.
    permissions: tuple[NeededPermission, ...] = ()
    #: Actions that the data does not have.
    unverified: tuple[str, ...] = ()
    #: Other needs, in words; "" if the record does not show the needs at all.
    open: tuple[str, ...] = ()


def permissions_of(record: Mapping[str, Any]) -> tuple[NeededPermission, ...]:
    """Returns the known permissions that a call needs; nothing if AWS checks no permission."""
    return needs_of(record).permissions


def needs_of(record: Mapping[str, Any]) -> Needs:
    """Returns the needs of a call."""
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
    """Yields the permissions that a call needs to tag the resources that it makes.

    Args:
        action: a needed action.
        record: the record of the call.
        resources: the resources that the action is needed on.
    """
    tagging = tagging_of(action)
    if tagging is None:
        return
    tag_action, members = tagging
    parameters = as_object(record.get("requestParameters"))
    if action.startswith("ec2:"):
        forms = forms_in("ec2")
        for kind in sorted({*_tagged_types(parameters, _PARAMETER_DEPTH)} & forms.keys()):
            yield tag_action, form_of(kind, forms[kind], record)
    elif any(_member(parameters, member) for member in members):
        named = [each for each in resources if type_of(tag_action, meant_by(each.name))]
        for each in named or resources_for(tag_action, record, [EVERYTHING]):
            yield tag_action, each
            if ":log-group:" in each.name and each.name.endswith(OF_LOG_GROUP):
                # CloudWatch Logs asks about tags of a group under its ARN without this ending.
                yield tag_action, NeededResource(each.name.removesuffix(OF_LOG_GROUP), True)


def _tagged_types(value: object, depth: int, is_tags: bool = False) -> Iterator[str]:
    """Yields the types that an EC2 call tags, anywhere but in a new launch template."""
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
    """Returns the permissions to pass roles, and the instance profiles whose roles a call passes.

    A role given by name may have any path. No record has the role of an instance profile; most
    profiles have the name of their role.
    """
    members = {member.lower() for member in role_members(action)}
    with_names = {member for member in members if not member.endswith(("arn", "arns"))}
    service = _PASSED_TO.get(action.partition(":")[0])
    begin = f"arn:{partition_of(record)}:iam::{account_of(record)}:role/"
    needed: dict[NeededPermission, None] = {}
    profiles: dict[str, None] = {}
    for path, text in _texts(record.get("requestParameters"), _PARAMETER_DEPTH):
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
    """Yields the strings of a request, each with the path of member names to it."""
    if isinstance(value, str):
        yield path, value
    elif depth and isinstance(value, dict):
        for member, each in value.items() if not (path and _CHOSEN.match(path[-1])) else ():
            yield from _texts(each, depth - 1, (*path, member.lower()))
    elif depth and isinstance(value, list):
        for each in value:
            yield from _texts(each, depth - 1, path)
