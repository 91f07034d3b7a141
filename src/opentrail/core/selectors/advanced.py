"""Advanced event selectors: their JSON, and which fields, operators and values AWS lets be given.

The tables are those of cloudtrail-format §7.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, NETWORK_ACTIVITY
from opentrail.core.selectors.basic import EXCLUDABLE
from opentrail.core.selectors.owner import SelectorOwner, refused, shown

EQUALS, NOT_EQUALS = "Equals", "NotEquals"
#: In the order of AWS's model.
OPERATORS = (EQUALS, "StartsWith", "EndsWith", NOT_EQUALS, "NotStartsWith", "NotEndsWith")
CATEGORY, RESOURCE_TYPE, RESOURCE_ARN = "eventCategory", "resources.type", "resources.ARN"

#: Values in all conditions of all selectors; selectors of an event data store.
MOST_VALUES, MOST_STORE_SELECTORS = 500, 5


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator with its values."""

    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """What one field must be: all its conditions hold."""

    field: str
    conditions: tuple[Condition, ...]

    def values(self, operator: str) -> tuple[str, ...]:
        """Returns the values of an operator, none if it is not given."""
        return next((c.values for c in self.conditions if c.operator == operator), ())


@dataclass(frozen=True, slots=True)
class AdvancedSelector:
    """An advanced event selector; it takes an event that fits all its fields."""

    fields: tuple[FieldSelector, ...]
    name: str | None = None

    @property
    def category(self) -> str:
        """The one category of a selector that has been checked."""
        return next(f.values(EQUALS)[0] for f in self.fields if f.field == CATEGORY)

    def to_json(self) -> dict[str, Any]:
        """Returns the selector as the API shows it, with what was given."""
        fields = [
            {"Field": field.field, **{c.operator: list(c.values) for c in field.conditions}}
            for field in self.fields
        ]
        named = {} if self.name is None else {"Name": self.name}
        return {**named, "FieldSelectors": fields}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Returns the selector that `given`, which fits AWS's model, describes."""
        fields = tuple(
            FieldSelector(
                field["Field"],
                tuple(
                    Condition(operator, tuple(field[operator]))
                    for operator in OPERATORS
                    if field.get(operator)
                ),
            )
            for field in given["FieldSelectors"]
        )
        return cls(fields, given.get("Name"))


@dataclass(frozen=True, slots=True)
class _Rule:
    """What may be given for a field."""

    operators: tuple[str, ...] = OPERATORS
    values: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None
    required: bool = False
    single: bool = False


_ANY = _Rule()
_TRUTH = ("true", "false")
_READ_ONLY = _Rule((EQUALS,), _TRUTH)
_FROM_CONSOLE = _Rule((EQUALS, NOT_EQUALS), _TRUTH)
_TYPE_FORM = re.compile(r"AWS::[A-Za-z0-9]+::[A-Za-z0-9]+")
_DATA = {
    "readOnly": _READ_ONLY,
    "eventSource": _ANY,
    "eventName": _ANY,
    "eventType": _ANY,
    RESOURCE_TYPE: _Rule((EQUALS,), pattern=_TYPE_FORM, required=True, single=True),
    RESOURCE_ARN: _ANY,
    "userIdentity.arn": _ANY,
    "sessionCredentialFromConsole": _FROM_CONSOLE,
}
_NETWORK = {
    "eventSource": _Rule((EQUALS,), required=True, single=True),
    "eventName": _ANY,
    "errorCode": _Rule((EQUALS,), ("VpceAccessDenied",)),
    "vpcEndpointId": _ANY,
}
#: Taker → category → field → what may be given for it, beside eventCategory itself.
_RULES: dict[SelectorOwner, dict[str, dict[str, _Rule]]] = {
    SelectorOwner.TRAIL: {
        MANAGEMENT: {"readOnly": _READ_ONLY, "eventSource": _Rule((NOT_EQUALS,), EXCLUDABLE)},
        DATA: _DATA,
        NETWORK_ACTIVITY: {**_NETWORK, "userIdentity.arn": _ANY},
    },
    SelectorOwner.EVENT_DATA_STORE: {
        MANAGEMENT: {
            "readOnly": _READ_ONLY,
            "eventSource": _ANY,
            "eventName": _ANY,
            "eventType": _ANY,
            "userIdentity.arn": _ANY,
            "sessionCredentialFromConsole": _FROM_CONSOLE,
        },
        DATA: _DATA,
        NETWORK_ACTIVITY: _NETWORK,
        INSIGHT: {},
        "ConfigurationItem": {},
        "Evidence": {},
        "ActivityAuditLog": {},
    },
}
#: Fields of any category, for errors.
_FIELDS = (
    CATEGORY,
    *dict.fromkeys(f for rules in _RULES[SelectorOwner.TRAIL].values() for f in rules),
)


def check_advanced(selectors: Sequence[AdvancedSelector], taker: SelectorOwner) -> None:
    """Raises `InvalidEventSelectorsException` unless `taker` may have these selectors."""
    if not selectors:
        raise refused("AdvancedEventSelectors must have at least one advanced event selector.")
    if taker is SelectorOwner.EVENT_DATA_STORE and len(selectors) > MOST_STORE_SELECTORS:
        raise refused(
            f"An event data store has at most {MOST_STORE_SELECTORS} advanced event selectors, "
            f"but {len(selectors)} are given."
        )
    for selector in selectors:
        _check_selector(selector, taker)
    if taker is SelectorOwner.EVENT_DATA_STORE:
        _check_kinds(selectors)
    count = sum(len(c.values) for s in selectors for f in s.fields for c in f.conditions)
    if count > MOST_VALUES:
        raise refused(
            f"The conditions of all advanced event selectors have at most {MOST_VALUES} values, "
            f"but {count} are given."
        )


def _check_selector(selector: AdvancedSelector, taker: SelectorOwner) -> None:
    seen: set[str] = set()
    for field in selector.fields:
        if field.field not in _FIELDS:
            raise refused(
                f"Field {shown(field.field)} is not supported. "
                f"Supported fields are {', '.join(_FIELDS)}."
            )
        if field.field in seen:
            raise refused(f"Field {field.field} occurs more than once in an event selector.")
        seen.add(field.field)
        if not any(condition.values for condition in field.conditions):
            raise refused(f"Field {field.field} has no operator with a value.")
    category = _checked_category(selector, taker)
    rules = _RULES[taker][category]
    for field in selector.fields:
        if field.field != CATEGORY:
            _check_field(field, rules, category, taker)
    for name, rule in rules.items():
        if rule.required and name not in seen:
            raise refused(
                f"Field {name} is required in an event selector whose eventCategory is {category}."
            )


def _checked_category(selector: AdvancedSelector, taker: SelectorOwner) -> str:
    given = next((field for field in selector.fields if field.field == CATEGORY), None)
    if given is None:
        raise refused(f"Field {CATEGORY} is required in every advanced event selector.")
    categories = _RULES[taker]
    _check(given, _Rule((EQUALS,), tuple(categories), single=True), f"a {taker.value}")
    return given.values(EQUALS)[0]


def _check_field(
    field: FieldSelector, rules: Mapping[str, _Rule], category: str, taker: SelectorOwner
) -> None:
    rule = rules.get(field.field)
    if rule is None:
        allowed = ", ".join((CATEGORY, *rules))
        raise refused(
            f"Field {field.field} is not supported for {category} events of a {taker.value}. "
            f"Supported fields are {allowed}."
        )
    _check(field, rule, f"{category} events of a {taker.value}")
    both = set(field.values(EQUALS)) & set(field.values(NOT_EQUALS))
    if both:
        raise refused(
            f"Value {shown(min(both))} for {field.field} is in conflict: "
            f"it is given for {EQUALS} and for {NOT_EQUALS}."
        )


def _check(field: FieldSelector, rule: _Rule, where: str) -> None:
    for condition in field.conditions:
        if condition.operator not in rule.operators:
            raise refused(
                f"Operator {condition.operator} is not supported for {field.field} with {where}. "
                f"Supported operators are {', '.join(rule.operators)}."
            )
        if rule.single and len(condition.values) != 1:
            raise refused(
                f"{condition.operator} of {field.field} must have exactly one value, "
                f"but {len(condition.values)} are given."
            )
        for value in condition.values:
            _check_value(field.field, value, rule, where)


def _check_value(field: str, value: str, rule: _Rule, where: str) -> None:
    if rule.values is not None and value not in rule.values:
        raise refused(
            f"Value {shown(value)} for {field} is invalid with {where}. "
            f"Valid values are {', '.join(rule.values)}."
        )
    if rule.pattern is not None and not rule.pattern.fullmatch(value):
        raise refused(
            f"Value {shown(value)} for {field} is invalid. "
            "A resource type has the form AWS::S3::Object."
        )


def _check_kinds(selectors: Sequence[AdvancedSelector]) -> None:
    """CloudTrail's own events do not share an event data store with others."""
    of_calls = (MANAGEMENT, DATA, NETWORK_ACTIVITY)
    categories = dict.fromkeys(selector.category for selector in selectors)
    other = next((category for category in categories if category not in of_calls), None)
    if other is not None and len(categories) > 1:
        raise refused(
            f"An event data store that takes {other} takes nothing else, "
            f"but {', '.join(categories)} are given."
        )
