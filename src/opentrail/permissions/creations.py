"""What a call needs of each type of resources, with `*` in the place of what AWS makes.

The id of a new resource is another one with each call, so a policy can name only what the caller
chose: `arn:aws:ec2:…:vpc/*`, `arn:aws:cloudformation:…:stack/web/*`. The types and the forms of
ARNs are those of AWS's authorization data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from opentrail.core.event import as_object, objects_in, without_version
from opentrail.core.policies.patterns import literal
from opentrail.permissions.authorization import VARIABLE, ResourceType, type_of, types_of, values_in
from opentrail.permissions.resources import (
    EVERYTHING,
    OF_LOG_GROUP,
    account_of,
    partition_of,
)

#: The name of an event that makes something, with what it makes.
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
#: Variables that say where a resource is.
_PLACE = ("Partition", "Region", "Account")
#: The end of the name of a variable that has an id.
_ID = ("Id", "ID", "Uuid", "UUID", "Identifier")
#: The end of the name of a member that may have an id.
_ID_MEMBER = ("id", "ids", "arn", "arns", "identifier", "identifiers", "key", "items")
#: The end of the ARN of a secret, which AWS adds to its name, and what matches it.
_SECRET = re.compile(r"(.+)-(?:[A-Za-z0-9]{6}|\?{6})", re.DOTALL)
_SECRET_ENDING = "-??????"  # noqa: S105 - a pattern
#: Endings of ARNs that are made of names and are patterns already.
_ENDINGS = {"secretsmanager": _SECRET_ENDING, "logs": OF_LOG_GROUP}
#: Variables whose names say too little to find their members → ending after the type's name.
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
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True)
class NeededResource:
    """A resource that a call needs; with a pattern for what its record does not say."""

    #: An ARN, `*`, or a pattern as policies have it.
    name: str
    is_pattern: bool = False


def resources_for(
    action: str, record: Mapping[str, Any], arns: Sequence[str]
) -> list[NeededResource]:
    """Returns the resources that a call needs an action on; each must be allowed.

    Args:
        action: one that the call needs.
        record: that of the call.
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
    # What the request does not name: all that a call makes, and one of each required type.
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
    """Returns the types of what a call makes: the type of its name, and those that it tags."""
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
    """Returns a resource with `*` for what AWS makes, and for a name in the place of an id."""
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
        self._collect(parameters, "", _MAX_DEPTH)
        identity = as_object(record.get("userIdentity"))
        self._add(str(identity.get("arn", "")), "arn")
        self._top = {name.lower(): each for name, each in as_object(parameters).items()}
        making = _makes(record)
        self._noun = word_of(making[1]) if making else ""
        #: Variables in lower case of all types: a member called so has the value of no other.
        self.variables: set[str] = set()
        #: Names of types of which resources were found.
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
        """Returns what the caller chose for a variable of an ARN."""
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
