"""A policy that allows the recorded calls of a principal."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentrail.core.policies.patterns import literal
from opentrail.permissions.authorization import takes_resources, type_of
from opentrail.permissions.needs import NeededPermission, Needs, StringCondition, needs_of
from opentrail.permissions.outcomes import CallOutcome, outcome_of

Document = dict[str, Any]

#: The degree of generalisation of resources.
EXACT, PREFIX, ANY = "exact", "prefix", "any"
#: Maximum characters of a managed policy, without white space.
MAX_CHARACTERS = 6_144
#: From this number on, resources whose names begin alike become one pattern.
_MANY = 3
#: From this number on, objects of a bucket become all of its objects.
_MANY_OBJECTS = 20
#: The last of these ends the part that names have in common.
_SEPARATORS = re.compile(r".*[/:_.-]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CallKind:
    """Calls of one principal that came to the same and needed the same."""

    outcome: CallOutcome
    needs: Needs
    #: Source and name of the event, if the record does not settle the needed permissions; else "".
    event: str = ""


@dataclass(slots=True)
class GeneratedPolicy:
    """A policy, as one or more documents, with its gaps; counts are of calls."""

    documents: list[Document]
    outcomes: Counter[CallOutcome] = field(default_factory=Counter)
    #: Actions that AWS's authorization data does not have, and the policy neither.
    unverified: Counter[str] = field(default_factory=Counter)
    #: Actions on every resource, though they could be limited: the records name none.
    unlimited: Counter[str] = field(default_factory=Counter)
    #: Events whose records do not settle all needed permissions → the missing information.
    unmapped: Counter[str] = field(default_factory=Counter)

    def document(self) -> Document:
        """Returns it as JSON."""
        return {
            "policies": self.documents,
            "calls": {outcome.value: count for outcome, count in self.outcomes.items()},
            "unverified": self.unverified,
            "unlimited": self.unlimited,
            "unmapped": self.unmapped,
        }


def kind_of(record: Mapping[str, Any]) -> CallKind:
    """Returns the kind of a call, on which its policy depends."""
    outcome = outcome_of(record)
    needs = Needs() if outcome is CallOutcome.NO_CALL else needs_of(record)
    event = f"{record.get('eventSource')} {record.get('eventName')}" if needs.open else ""
    return CallKind(outcome, needs, event)


def kinds_of(records: Iterable[Mapping[str, Any]]) -> Counter[CallKind]:
    """Returns the kinds of calls, each with the number of its calls."""
    return Counter(map(kind_of, records))


def generate(
    calls: Mapping[CallKind, int], resources: str = PREFIX, with_failed: bool = False
) -> GeneratedPolicy:
    """Returns a policy for the calls of one principal.

    Args:
        calls: its calls; only allowed calls count.
        resources: `exact` as in the records; `prefix` also the common prefixes of many;
            `any` every resource.
        with_failed: whether calls count that failed for another reason than missing permission.
    """
    made = GeneratedPolicy([])
    used: dict[tuple[StringCondition | None, str], set[str]] = defaultdict(set)
    denied: dict[str, set[str]] = defaultdict(set)
    for call, count in calls.items():
        made.outcomes[call.outcome] += count
        if call.outcome is CallOutcome.DENIED:
            for permission in call.needs.permissions:
                denied[permission.action].add(_resource_of(permission))
        if call.outcome is CallOutcome.ALLOWED or (
            with_failed and call.outcome is CallOutcome.FAILED
        ):
            for action in call.needs.unverified:
                made.unverified[action] += count
            for left in call.needs.open:
                made.unmapped[f"{call.event}: {left}" if left else call.event] += count
            for permission in call.needs.permissions:
                resource = _resource_of(permission)
                used[permission.condition, permission.action].add(resource)
                if resource == "*" and takes_resources(permission.action):
                    made.unlimited[permission.action] += count
    made.documents = _split(_statements(used, denied, resources))
    return made


def _resource_of(permission: NeededPermission) -> str:
    """Returns the pattern of a permission's resource, `*` if the action cannot be limited to it."""
    action, arn = permission.action, permission.resource
    if not takes_resources(action) or arn == "*":
        return "*"
    if permission.is_unnamed:
        return arn
    return literal(arn) if type_of(action, arn) else "*"


def _statements(
    used: Mapping[tuple[StringCondition | None, str], set[str]],
    denied: Mapping[str, set[str]],
    resources: str,
) -> list[Document]:
    """Returns statements, each of actions that were used on the same resources."""
    on_same: dict[tuple[StringCondition | None, tuple[str, ...]], set[str]] = defaultdict(set)
    for (condition, action), seen in used.items():
        # An action on every resource needs no other resource.
        names = ["*"] if "*" in seen or resources == ANY else list(seen)
        others = denied.get(action, set()).difference(names)
        patterns = _in_common(names, others) if resources == PREFIX else names
        on_same[condition, tuple(sorted(patterns))].add(action)
    rows = [(condition, sorted(on_same[condition, names]), names) for condition, names in on_same]
    rows.sort(key=lambda row: (row[0] is not None, row[0] or StringCondition("", "", ""), row[1:]))
    return [_statement(*row) for row in rows]


def _statement(
    condition: StringCondition | None, actions: Sequence[str], resources: Sequence[str]
) -> Document:
    statement: Document = {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": "*" if list(resources) == ["*"] else list(resources),
    }
    if condition is not None:
        statement["Condition"] = {condition.operator: {condition.key: condition.value}}
    return statement


def _in_common(patterns: Iterable[str], denied: Iterable[str]) -> list[str]:
    """Returns the patterns, with one in place of many that begin alike.

    The new pattern never covers all names of a type, nor a denied name.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for pattern in patterns:
        head, name = _head_and_name(pattern)
        names[head].append(name)
    common: list[str] = []
    for head, group in names.items():
        begin = _begin_of(head, group)
        if begin is None or any(resource.startswith(begin) for resource in denied):
            common += [f"{head}{name}" for name in group]
        else:
            common.append(f"{begin}*")
    return common


def _begin_of(head: str, names: Sequence[str]) -> str | None:
    """Returns the beginning of one pattern for all of these resources; None if they share none."""
    begin = _SEPARATORS.match(_common_begin(min(names), max(names)))
    if len(names) >= _MANY and begin and re.search("[A-Za-z0-9]", begin[0]):
        return f"{head}{begin[0]}"
    is_of_objects = head.split(":")[2:5] == ["s3", "", ""] and head.endswith("/")
    if is_of_objects and len(names) >= _MANY_OBJECTS:
        return head
    return None


def _common_begin(one: str, other: str) -> str:
    """Returns the common prefix of two strings."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(character for character, _ in same)


def _head_and_name(pattern: str) -> tuple[str, str]:
    """Splits an ARN into the part before the name and the name.

    >>> _head_and_name("arn:aws:iam::123456789012:user/Mary")
    ('arn:aws:iam::123456789012:user/', 'Mary')
    >>> _head_and_name("arn:aws:s3:::logs/2026/a.gz")
    ('arn:aws:s3:::logs/', '2026/a.gz')
    """
    *place, rest = pattern.split(":", 5)
    if len(place) < 5:
        return "", pattern
    kind = re.match(r"[^/:]*[/:]", rest)
    begin = kind[0] if kind else ""
    return ":".join([*place, begin]), rest[len(begin) :]


def _split(statements: Sequence[Document]) -> list[Document]:
    """Returns documents of at most `MAX_CHARACTERS`, without white space."""
    documents: list[Document] = []
    for statement in (part for whole in statements for part in _parts(whole)):
        if documents:
            grown = {**documents[-1], "Statement": [*documents[-1]["Statement"], statement]}
            if characters(grown) <= MAX_CHARACTERS:
                documents[-1] = grown
                continue
        documents.append(_document([statement]))
    return documents


def _parts(statement: Document) -> Iterator[Document]:
    """Yields a statement in parts that fit into a document each."""
    if characters(_document([statement])) <= MAX_CHARACTERS:
        yield statement
        return
    longest = max(("Action", "Resource"), key=lambda name: len(json.dumps(statement[name])))
    values = statement[longest]
    if len(values) < 2:
        yield statement
        return
    half = len(values) // 2
    for part in (values[:half], values[half:]):
        yield from _parts({**statement, longest: part})


def _document(statements: Sequence[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def characters(document: Document) -> int:
    """Returns the size of a policy as IAM counts it."""
    return len(re.sub(r"\s", "", json.dumps(document, ensure_ascii=False)))
