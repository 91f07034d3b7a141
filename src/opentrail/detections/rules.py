"""Stored and enabled rules: the compiled form of Sigma rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import msgspec

from opentrail.core.errors import UsageError

Level = Literal["informational", "low", "medium", "high", "critical"]
LEVELS: tuple[Level, ...] = get_args(Level)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
#: Maximum bytes of a rule as JSON, without its source.
MAX_RULE_BYTES = 64 * 1024
#: Maximum bytes of a rule's YAML; a description may be as long as the compiled rule.
MAX_SOURCE_BYTES = 2 * MAX_RULE_BYTES
#: Maximum levels of conditions.
MAX_CONDITION_DEPTH = 50
#: Maximum seconds between the first and the last event of a correlation.
MAX_CORRELATION_SECONDS = 7 * 86_400
#: Maximum events, or values, that a correlation may ask for.
MAX_CORRELATED = 1_000


class _Condition(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A condition on a record. A field is the path to a value, such as `userIdentity.arn`.

    Lists on the path are searched; one fitting value is enough. Strings are compared ignoring
    case, other values as JSON has them, and objects as their JSON.
    """


class AllOf(_Condition, frozen=True):
    parts: tuple[Condition, ...]


class AnyOf(_Condition, frozen=True):
    parts: tuple[Condition, ...]


class Negation(_Condition, frozen=True):
    part: Condition


class OneOf(_Condition, frozen=True):
    """A value is one of these."""

    field: str
    values: tuple[str, ...]


class Like(_Condition, frozen=True):
    """A value fits a pattern: `*` for any characters, `?` for one, a backslash for a literal one.

    Without a field, one of all values of the record does.
    """

    pattern: str
    field: str | None = None
    cased: bool = False


class Matches(_Condition, frozen=True):
    """A part of a value matches a regular expression of RE2."""

    field: str
    regex: str


class InNetwork(_Condition, frozen=True):
    """A value is an address in a network."""

    field: str
    network: str


class Compared(_Condition, frozen=True):
    """A value is a number, or the text of one, that compares so with the bound."""

    field: str
    operator: Literal["<", "<=", "=", ">=", ">"]
    bound: float


class Exists(_Condition, frozen=True):
    """The record has the field, and it is not null unless `or_null`."""

    field: str
    or_null: bool = False


class SameAs(_Condition, frozen=True):
    """A value equals one of another field, or starts or ends with it."""

    field: str
    other: str
    how: Literal["equals", "starts", "ends"] = "equals"


Condition = (
    AllOf | AnyOf | Negation | OneOf | Like | Matches | InNetwork | Compared | Exists | SameAs
)


class RuleSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the rules that a correlation counts the events of."""

    name: str
    condition: Condition
    #: Fields whose values events of one group share, in the order of all selections.
    group_by: tuple[str, ...] = ()


class Correlation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events within a period, as many as the rule asks for, all of one group.

    `event_count` asks for `count` events, `value_count` for `count` values of `field`, and
    `temporal` for events of `count` selections.
    """

    type: Literal["event_count", "value_count", "temporal"]
    selections: tuple[RuleSelection, ...]
    seconds: int
    count: int
    field: str | None = None


class DetectionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule; it has either a condition on single events, or a correlation."""

    name: str
    title: str
    level: Level = "medium"
    id: str = ""
    author: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    condition: Condition | None = None
    correlation: Correlation | None = None
    falsepositives: tuple[str, ...] = ()
    #: The YAML that it was compiled from.
    source: str = ""

    @property
    def selections(self) -> tuple[RuleSelection, ...]:
        """The rule's condition on single events."""
        if self.correlation is not None:
            return self.correlation.selections
        assert self.condition is not None  # noqa: S101
        return (RuleSelection(self.name, self.condition),)


@dataclass(slots=True)
class RuleSet:
    """Rules read from files, and the errors in others, by name of the rule or file."""

    rules: list[DetectionRule] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)


def rule_of(document: Any) -> DetectionRule:
    """Returns the rule in a JSON document.

    Raises:
        UsageError: it is not a rule; the message names the member and the expected value.
    """
    try:
        rule = msgspec.convert(document, DetectionRule)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"the rule is not valid: {error}") from error
    if not NAME.fullmatch(rule.name):
        raise UsageError(
            "the name of a rule must have 1 to 128 letters, digits, '_', '.' and '-', "
            f"not {rule.name[:140]!r}"
        )
    if (rule.condition is None) == (rule.correlation is None):
        raise UsageError(f"rule {rule.name!r} must have either a condition or a correlation")
    if len(rule.source.encode()) > MAX_SOURCE_BYTES:
        message = f"the source of rule {rule.name!r} must have at most {MAX_SOURCE_BYTES} bytes"
        raise UsageError(message)
    size = len(msgspec.json.encode(msgspec.structs.replace(rule, source="")))
    if size > MAX_RULE_BYTES:
        raise UsageError(f"rule {rule.name!r} must have at most {MAX_RULE_BYTES} bytes, not {size}")
    if (
        max((_depth(selection.condition) for selection in rule.selections), default=0)
        > MAX_CONDITION_DEPTH
    ):
        raise UsageError(
            f"rule {rule.name!r} is nested more than {MAX_CONDITION_DEPTH} levels deep"
        )
    if rule.correlation is not None:
        _check(rule.name, rule.correlation)
    return rule


def _check(name: str, correlation: Correlation) -> None:
    """Raises `UsageError` unless a correlation can be counted with limited memory."""
    if not 1 <= correlation.seconds <= MAX_CORRELATION_SECONDS:
        raise UsageError(f"rule {name!r}: timespan must be 1 second to 7 days")
    if not 1 <= correlation.count <= MAX_CORRELATED:
        raise UsageError(f"rule {name!r}: the count must be 1 to {MAX_CORRELATED}")
    if not correlation.selections or len({len(s.group_by) for s in correlation.selections}) != 1:
        raise UsageError(f"rule {name!r}: all of its rules must have the same fields of group-by")
    if (correlation.type == "value_count") != (correlation.field is not None):
        raise UsageError(f"rule {name!r}: a field is for value_count, which needs it")


def _depth(condition: Condition) -> int:
    """Returns the nesting depth of conditions."""
    level, depth = [condition], 0
    while level:
        depth += 1
        inner: list[Condition] = []
        for each in level:
            if isinstance(each, AllOf | AnyOf):
                inner += each.parts
            elif isinstance(each, Negation):
                inner.append(each.part)
        level = inner
    return depth


def values_that(condition: Condition, field: str) -> frozenset[str] | None:
    """Returns the lowercase values that a field of a match can have; None: any value.

    >>> sorted(values_that(AnyOf((OneOf("a", ("X",)), OneOf("a", ("y",)))), "a"))
    ['x', 'y']
    """
    match condition:
        case OneOf(own_field, values) if own_field == field:
            return frozenset(value.lower() for value in values)
        case AllOf(parts):
            every = [found for part in parts if (found := values_that(part, field)) is not None]
            return min(every, key=len) if every else None
        case AnyOf(parts):
            either = [values_that(part, field) for part in parts]
            if either and None not in either:
                return frozenset().union(*(values for values in either if values is not None))
    return None
