"""Makes `src/opentrail/core/members.json.gz`: which members of a call name resources.

    pip install --no-deps --target /tmp/cfn-lint cfn-lint==1.58.0
    python scripts/resource_data.py /tmp/cfn-lint/cfnlint/data/schemas

The file has, for each event source and each event that writes, the members of the request and of
the answer that name a resource, with its type: `name`; `names[]` is a list of names; `.name` is a
member of a structure, or of an entry of the list `entries{}`. A type is empty if it is unknown.

AWS's authorization data (`permissions/iam.json.gz`) says which types of resources an action takes,
botocore's models which members an operation has. A member names a resource of a type if it is
called after the type, or after a variable of the type's ARNs; else if it is called after the noun
in the name of the operation. CloudFormation's schemas (from
cfn-lint, MIT-0) have the names of types.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.model import Shape

from opentrail.capture.record_rules import event_name, is_sensitive, lower_first, source_of
from opentrail.core.arns import ARN_TYPES, NAMESPACES
from opentrail.core.event import without_version
from opentrail.permissions.authorization import VARIABLE, ResourceType, access_level, types_of
from opentrail.permissions.event_actions import actions_of
from opentrail.permissions.needs import word_of
from opentrail.wire.service_models import ServiceCatalog

TARGET = Path(__file__).parent.parent / "src/opentrail/core/members.json.gz"

_WRITES = ("Write", "Permissions management", "Tagging")
#: Events whose answers name what they made.
_MAKING = re.compile(
    "Accept|Add|Allocate|Clone|Copy|Create|Generate|Import|Invite|Issue|Launch|Provision|Publish|Purchase"
    "|Put|Register|Request|Restore|Run|Send|Start|Submit|Upload"
)
_WORD = re.compile("[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+")
_ENDING = re.compile("(name|id|arn|identifier|uuid|url|alias)s?$")
_ENDINGS = ("name", "id", "arn", "identifier", "url")
#: Members that name whatever an operation is about.
_GENERAL = re.compile("(resource|target)?(name|id|identifier|arn)s?|resources?|resourcearnlist")
#: Members that name no resource though they end like it: accounts, callers, tokens.
_NOT_NAMES = re.compile(
    ".*(account|token|request|owner|principal|user|organization|revision|region|attribute|domain)"
    "(id|ids|identifier|name|url)|.*(principal|role|token)arns?"
)
#: Structures with all of a request or an answer.
_WHOLE = re.compile("(request|response|config|configuration|detail|record|definition)$")
#: What the documentation of a member called only after a type says if it names a resource.
_NAMING = re.compile(r"\b(name|ARN|Amazon Resource Name|ID|identifier|unique)\b")
_CONTENT = re.compile(r"\b(JSON|PEM|document|base64|script|body|content|text)\b", re.IGNORECASE)
#: Members with what a call copies: it would seem to be what the call makes.
_SOURCE = re.compile("(replication|readreplica|restore)?source|parent|original|base|from|existing")
#: Minimum characters of the part of a type's name after which a member may be called.
_MIN_PART = 3
#: Minimum characters of a type's name with which a member ends that has no `Name` or `Id`.
_MIN_BARE = 6
#: Places of an ARN that every resource has.
_PLACE = ("Partition", "Region", "Account")

#: Services whose actions are HTTP methods: the data does not know what an operation is about.
_OF_METHODS = ("apigateway",)
#: How much a member's name says: it is the type's, or ends with it, or is a part of it.
_SAME, _PART = 1_000, 100
#: What the name of a member with a resource of another service begins with → service in its ARN.
_SERVICES = {
    **{name: name for name in ("iam", "kms", "lambda", "s3", "sns", "sqs")},
    **dict.fromkeys(("ec2", "subnet", "securitygroup", "vpc"), "ec2"),
}
_OF_SERVICE = re.compile(f"(?:output|source|destination|target)?({'|'.join(_SERVICES)})")

#: Resources of an operation's own noun, which the authorization data does not know; of any type.
_OWN, _ANY = "own", "any"
Kind = ResourceType | str


class TypeNames:
    """CloudFormation's names of the types of resources that services have."""

    def __init__(self, schemas: Path) -> None:
        files = json.loads((schemas / "providers" / "us-east-1.json").read_text())
        #: Prefix of actions and namespace → word → type.
        self._types: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        self._namespaces: dict[str, Counter[str]] = defaultdict(Counter)
        for name, file in files.items():
            schema = json.loads((schemas / "resources" / f"{file}.json").read_text())
            _, namespace, label = name.split("::")[:3]
            for prefix in _prefixes_of(schema, namespace):
                self._types[prefix, namespace].setdefault(word_of(label), name)
                self._namespaces[prefix][namespace] += 1

    def namespace(self, prefix: str, service: Any) -> str:
        """Returns the word of a service in the names of its types."""
        if known := NAMESPACES.get(source_of(service)):
            return known
        if found := self._namespaces.get(prefix):
            return found.most_common(1)[0][0]
        words = re.sub("[^A-Za-z0-9]", "", str(service.model.service_id))
        return re.sub("^(Amazon|AWS)", "", words)

    def of(self, kind: ResourceType, service: Any, nouns: Mapping[str, str]) -> str:
        """Returns the name of a type of the authorization data, such as `capacity-reservation`.

        The data shortens names (`og`): then the variable of the ARN says more (`OptionGroupName`).
        """
        prefix, name = kind.form.split(":")[2], kind.name.partition("/")[0]
        words = [word_of(each) for each in (name, *_stems_of_variable(kind))]
        for word in words:
            for known, resource_type in ARN_TYPES.get(prefix, {}).items():
                if known and word_of(known) == word:
                    return resource_type
        namespace = self.namespace(prefix, service)
        types = self._types[prefix, namespace]
        for word in (*words, *(f"db{word}" for word in words)):
            if word in types:
                return types[word]
        spelled = next((nouns[word] for word in words if word in nouns), None)
        return f"AWS::{namespace}::{spelled or _camel(name)}"


def _prefixes_of(schema: Mapping[str, Any], namespace: str) -> Iterable[str]:
    """Returns the prefixes of the actions by which CloudFormation handles a type."""
    handlers = [*schema.get("handlers", {}).values(), schema.get("tagging", {})]
    actions = [action for each in handlers for action in each.get("permissions", ())]
    count = Counter(action.partition(":")[0] for action in actions)
    own = [each for each in count if each.replace("-", "").lower() == namespace.lower()]
    return own or [prefix for prefix, _ in count.most_common(1)]


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split("[^A-Za-z0-9]+", text))


def _singular(text: str) -> str:
    if text.endswith("ies"):
        return f"{text[:-3]}y"
    return text[:-1] if text.endswith("s") and not text.endswith("ss") else text


def _nouns_of(service: Any) -> dict[str, str]:
    """Returns the nouns in the names of a service's operations: word → spelling."""
    nouns: dict[str, str] = {}
    for name in service.model.operation_names:
        words = _WORD.findall(name)
        for begin in range(1, len(words)):
            noun = "".join(words[begin:])
            nouns.setdefault(word_of(noun), _singular(noun))
    return nouns


def _variable_of(kind: ResourceType) -> str:
    """Returns the variable of an ARN that distinguishes resources of a type."""
    variables = [each for each in VARIABLE.findall(kind.form) if each not in _PLACE]
    return variables[-1] if variables else ""


def _stems_of_variable(kind: ResourceType) -> list[str]:
    """Returns the variable without `Name` or `Id`; none if it says nothing about the type."""
    variable = _variable_of(kind).lower()
    stem = _ENDING.sub("", variable)
    return [] if _GENERAL.fullmatch(variable) or len(stem) < _MIN_PART else [stem]


@lru_cache(1_024)
def _stems_of(kind: ResourceType) -> list[str]:
    """Returns what a member with a resource of a type may be called, without `Name` or `Id`."""
    stems = [word_of(kind.name), *_stems_of_variable(kind)]
    return [stem for stem in stems if len(stem) >= _MIN_PART]


@dataclass(frozen=True)
class Operation:
    """An operation, with the types of resources that its action takes."""

    noun: str
    types: Sequence[ResourceType]
    #: Whether it may make something.
    makes: bool
    is_of_ec2: bool

    def about(self) -> Kind | None:
        """Returns the type of what the operation is about; None if none is called like it."""
        noun = word_of(self.noun)
        for matches in (noun.__eq__, noun.endswith, noun.__contains__):
            for kind in self.types:
                if any(matches(stem) for stem in _stems_of(kind)):
                    return kind
        return None

    def only(self) -> Kind | None:
        """Returns the type of the only resource that the action needs; None if there are more."""
        required = [kind for kind in self.types if kind.is_required] or self.types
        return required[0] if len(required) == 1 else None

    def named_by(self, member: str, shape: Shape, is_answer: bool) -> Kind | None:
        """Returns the type of what a member names; None if it names no resource."""
        name = member.lower()
        forms = (name, _singular(name))
        if _GENERAL.fullmatch(name) or (self.makes and _SOURCE.match(name)):
            return None
        if is_sensitive(shape) or _is_content(forms, self.types, shape):
            return None
        service = _OF_SERVICE.match(name)
        scores = {
            _score(form, kind): kind
            for form in forms
            for kind in reversed(self.types)
            if service is None or f":{_SERVICES[service[1]]}:" in kind.form
        }
        if not max(scores, default=0) and not _CONTENT.search(shape.documentation):
            scores.update((_PART, kind) for kind in self.types if _ends_with(name, kind))
        best = max(scores, default=0)
        if best == _SAME or (best and not is_answer):
            return scores[best]
        if service:
            return None
        noun = word_of(self.noun)
        if noun != "resource" and forms[1] in {f"{noun}{ending}" for ending in _ENDINGS}:
            return _OWN
        return None


def _ends_with(member: str, kind: ResourceType) -> bool:
    """Returns whether a member, such as `emailIdentity`, ends with the name of a type."""
    return any(len(stem) >= _MIN_BARE and member.endswith(stem) for stem in _stems_of(kind))


def _score(form: str, kind: ResourceType) -> int:
    """Returns how much a member's name says that it names a resource of a type."""
    score = _SAME if form == _variable_of(kind).lower() and not _GENERAL.fullmatch(form) else 0
    part = _ENDING.sub("", form)
    for stem in _stems_of(kind):
        if form == stem or (part == stem and form != part):
            score = _SAME
        elif form != part and part.endswith(stem):
            score = max(score, len(stem) + _PART)
        elif form != part and len(part) >= _MIN_PART and stem.endswith(part):
            score = max(score, len(part))
    return score


def _is_content(forms: Iterable[str], types: Iterable[ResourceType], shape: Shape) -> bool:
    """Returns whether a member that is called only after a type has content, not a name."""
    if shape.type_name == "list" or not {word_of(kind.name) for kind in types} & set(forms):
        return False
    text = re.sub("<[^>]+>", "", shape.documentation)
    return _CONTENT.search(text) is not None or _NAMING.search(text) is None


def _names_of(member: str, shape: Shape) -> Iterator[str]:
    """Yields the names of a member in records: that of the model, and those on the wire."""
    names = [member, shape.serialization.get("name"), shape.serialization.get("queryName")]
    if shape.type_name == "list":
        names.append(shape.member.serialization.get("name"))
    for name in dict.fromkeys(names):
        if name and re.fullmatch(r"\w+", name) and name.lower() not in ("item", "member"):
            yield lower_first(name)


def _ending_of(shape: Shape) -> str | None:
    """Returns the mark of a member that may name resources; None for others."""
    if shape.type_name == "string":
        return None if getattr(shape, "enum", None) else ""
    is_list = shape.type_name == "list" and shape.member.type_name == "string"
    return "[]" if is_list else None


def _structure_of(shape: Shape) -> tuple[Any, str] | None:
    if shape.type_name == "structure":
        return shape, ""
    if shape.type_name == "list" and shape.member.type_name == "structure":
        return shape.member, "{}"
    return None


def members_of(operation: Operation, shape: Any, is_answer: bool = False) -> dict[str, Kind]:
    """Returns the members of a request, or an answer, that name resources."""
    found: dict[str, Kind] = {}
    general: list[tuple[str, Shape, str]] = []
    for member, part in shape.members.items() if shape is not None else ():
        ending = _ending_of(part)
        if ending is not None:
            kind = operation.named_by(member, part, is_answer)
            if kind is not None:
                names = list(_names_of(member, part))
                found.update((f"{each}{ending}", kind) for each in names)
                if ending and operation.is_of_ec2:  # as `instancesSet.items[].instanceId`
                    found.update((f".{each}", kind) for each in names)
            elif _GENERAL.fullmatch(member.lower()):
                general.append((member, part, ending))
        elif (structure := _structure_of(part)) and not (is_answer and structure[1]):
            inner = _inner(operation, member, structure[0], is_answer)
            found.update(inner)
            if inner and structure[1]:
                found.update((f"{each}{{}}", _ANY) for each in _names_of(member, part))
    for member, part, ending in general:
        kind = _kind_of_general(operation, member, set(found.values()))
        if kind == _ANY and ending and "arn" in member.lower():
            continue  # ARNs say by themselves of what type they are
        found.update((f"{each}{ending}", kind) for each in _names_of(member, part))
    return found


def _kind_of_general(operation: Operation, member: str, others: set[Kind]) -> Kind:
    """Returns the type of what a member such as `name` names.

    Args:
        operation: the operation.
        member: its name.
        others: the types of what other members name.
    """
    if "resource" in member.lower():
        return _ANY if len(operation.types) != 1 or others else operation.types[0]
    about = operation.about()
    only = operation.only()
    return about or (only if only and only not in others else _OWN)


def _inner(operation: Operation, member: str, shape: Any, is_answer: bool) -> dict[str, Kind]:
    """Returns the members of a structure that name resources."""
    found = {}
    word = word_of(member)
    about: list[Kind] = [
        kind
        for kind in operation.types
        if any(word == stem or (not is_answer and word.endswith(stem)) for stem in _stems_of(kind))
    ]
    if not about and (_WHOLE.search(word) or word_of(operation.noun).endswith(word)):
        about = [operation.about() or operation.only() or _OWN]
    for name, part in shape.members.items():
        ending = _ending_of(part)
        if ending is None:
            continue
        kind: Kind | None = operation.named_by(name, part, is_answer)
        if kind is None and about and name.lower() in _ENDINGS:
            is_of_another = about[0] == _OWN and not is_answer and name.lower() == "arn"
            kind = None if is_of_another else about[0]
        elif kind is None and re.fullmatch("resource(id|arn)", name.lower()):
            kind = operation.types[0] if len(operation.types) == 1 else _ANY
        if kind is not None:
            found.update((f".{each}{ending}", kind) for each in _names_of(name, part))
    return found


def _otherwise(shape: Any) -> dict[str, Kind]:
    """Returns the members that must name something if no name says what."""
    members = shape.members.items() if shape is not None else ()
    required = shape.required_members if shape is not None else ()
    for member, part in sorted(members, key=lambda each: each[0] not in required):
        ending = _ending_of(part)
        name = member.lower()
        if ending is not None and _ENDING.search(name) and not _NOT_NAMES.fullmatch(name):
            return {f"{each}{ending}": _ANY for each in _names_of(member, part)}
    return {}


def _events() -> Iterator[tuple[Any, str, str, Any, Operation]]:
    """Yields service, event, prefix, botocore's model and operation of all calls that write."""
    for service in ServiceCatalog().services.values():
        for name in service.model.operation_names:
            event = event_name(service.name, name)
            record = {"eventSource": f"{source_of(service)}.amazonaws.com", "eventName": event}
            actions = [
                action
                for action in actions_of({**record, "requestParameters": {}})
                if access_level(action) in _WRITES
            ]
            types = {kind.name: kind for action in actions for kind in types_of(action)}
            if actions:
                prefix = actions[0].partition(":")[0]
                types = {} if prefix in _OF_METHODS else types
                noun = "".join(_WORD.findall(without_version(event))[1:])
                makes, is_of_ec2 = bool(_MAKING.match(event)), prefix == "ec2"
                operation = Operation(noun, list(types.values()), makes, is_of_ec2)
                yield service, event, prefix, service.operation(name), operation


def table(names: TypeNames) -> dict[str, dict[str, dict[str, str]]]:
    """Returns event source → event → member → type."""
    sources: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    nouns: dict[str, dict[str, str]] = {}
    for service, event, prefix, model, operation in _events():
        found = members_of(operation, model.input_shape)
        if operation.makes:
            found = {**members_of(operation, model.output_shape, True), **found}
        if not found and (operation.types or prefix in _OF_METHODS):
            found = _otherwise(model.input_shape)
        spellings = nouns.setdefault(service.name, _nouns_of(service))
        spell = _speller(names, prefix, service, spellings, operation)
        of_event = sources[source_of(service)].setdefault(without_version(event), {})
        for member, kind in found.items():
            of_event.setdefault(member, spell(kind))
    return sources


def _speller(
    names: TypeNames, prefix: str, service: Any, nouns: Mapping[str, str], operation: Operation
) -> Callable[[Kind], str]:
    def spell(kind: Kind) -> str:
        if isinstance(kind, ResourceType):
            return names.of(kind, service, nouns)
        if kind == _OWN:
            return f"AWS::{names.namespace(prefix, service)}::{_singular(operation.noun)}"
        return ""

    return spell


def main() -> None:
    """Writes the file: one line for each source, so that a line is parsed when it is needed."""
    sources = table(TypeNames(Path(sys.argv[1])))
    lines = [
        f"{source}\t{json.dumps(events, separators=(',', ':'), sort_keys=True)}\n"
        for source, events in sorted(sources.items())
    ]
    TARGET.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
    events = [event for each in sources.values() for event in each.values()]
    sys.stdout.write(f"{len(events)} events, {sum(map(bool, events))} with names\n")


if __name__ == "__main__":
    main()
