"""Advanced event selectors: JSON, fields, checks and tests (cloudtrail-format §7.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, NETWORK_ACTIVITY, Json
from opentrail.core.event_record import EventFields
from opentrail.core.selectors.basic import (
    EXCLUDABLE,
    Test,
    TextTest,
    all_of,
    has_resource,
    refused,
    shorten,
)

EQUALS, NOT_EQUALS = "Equals", "NotEquals"
#: In the order of AWS's model.
OPERATORS = (EQUALS, "StartsWith", "EndsWith", NOT_EQUALS, "NotStartsWith", "NotEndsWith")
CATEGORY, RESOURCE_TYPE, RESOURCE_ARN = "eventCategory", "resources.type", "resources.ARN"
USER_ARN = "userIdentity.arn"

#: Maximum values in the conditions of all selectors together.
MAX_VALUES = 500
#: Maximum selectors of an event data store.
MAX_STORE_SELECTORS = 5


class SelectorOwner(Enum):
    """The owner of selectors; the allowed fields and limits differ."""

    TRAIL = "trail"
    EVENT_DATA_STORE = "event data store"
    #: The recorder's selection (`--record`).
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator with its values."""

    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """The conditions on one field; all must hold."""

    field: str
    conditions: tuple[Condition, ...]

    def values(self, operator: str) -> tuple[str, ...]:
        """Returns the values of an operator, () if it is missing."""
        return next((c.values for c in self.conditions if c.operator == operator), ())


@dataclass(frozen=True, slots=True)
class AdvancedSelector:
    """An advanced event selector; it selects events that match all its fields."""

    fields: tuple[FieldSelector, ...]
    name: str | None = None

    @property
    def category(self) -> str:
        """The one category of a checked selector."""
        return next(f.values(EQUALS)[0] for f in self.fields if f.field == CATEGORY)

    @property
    def only_reads(self) -> bool:
        """Whether a checked selector excludes all writes."""
        return any(
            field.field == _READ_ONLY.name and "false" not in field.values(EQUALS)
            for field in self.fields
        )

    def to_json(self) -> Json:
        """Returns the selector as the API shows it, with only the members that were set."""
        fields = [
            {"Field": field.field, **{c.operator: list(c.values) for c in field.conditions}}
            for field in self.fields
        ]
        name_member = {} if self.name is None else {"Name": self.name}
        return {**name_member, "FieldSelectors": fields}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Returns the selector that `document`, which fits AWS's model, describes."""
        fields = tuple(
            FieldSelector(
                field["Field"],
                tuple(
                    Condition(operator, tuple(field[operator]))
                    for operator in OPERATORS
                    if field.get(operator)
                ),
            )
            for field in document["FieldSelectors"]
        )
        return cls(fields, document.get("Name"))


# Fields

#: The fields of one selector by name.
_Fields = Mapping[str, FieldSelector]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field that selectors can have in addition to eventCategory, and its test of events."""

    name: str
    #: Returns the test for a selector with this field, None if another field's test covers it.
    test: Callable[[_Fields], Test | None]


def _truth(name: str, get: Callable[[EventFields], bool]) -> _Field:
    return _Field(name, lambda fields: _truth_test(get, fields[name]))


def _text(name: str, get: Callable[[EventFields], str | None]) -> _Field:
    return _Field(name, lambda fields: _text_test(get, fields[name]))


_READ_ONLY = _truth("readOnly", lambda event: event.read_only)
_EVENT_SOURCE = _text("eventSource", lambda event: event.event_source)
_EVENT_NAME = _text("eventName", lambda event: event.event_name)
_EVENT_TYPE = _text("eventType", lambda event: event.event_type)
_RESOURCE_TYPE = _Field(
    RESOURCE_TYPE, lambda fields: None if RESOURCE_ARN in fields else _resource_test(fields)
)
_RESOURCE_ARN = _Field(RESOURCE_ARN, lambda fields: _resource_test(fields))
_USER_ARN = _text(USER_ARN, lambda event: event.user_arn)
_FROM_CONSOLE = _truth("sessionCredentialFromConsole", lambda event: event.from_console)
_ERROR_CODE = _text("errorCode", lambda event: event.error_code)
_VPC_ENDPOINT = _text("vpcEndpointId", lambda event: event.vpc_endpoint_id)


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The allowed conditions on a field; None allows all values."""

    operators: tuple[str, ...] = OPERATORS
    values: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None
    required: bool = False
    single: bool = False


_ANY = FieldRule()
_TRUTH = ("true", "false")
_IS_TRUTH = FieldRule((EQUALS,), _TRUTH)
_IS_OR_IS_NOT_TRUTH = FieldRule((EQUALS, NOT_EQUALS), _TRUTH)
_TYPE_FORM = re.compile(r"AWS::[A-Za-z0-9]+::[A-Za-z0-9]+")
_DATA = {
    _READ_ONLY: _IS_TRUTH,
    _EVENT_SOURCE: _ANY,
    _EVENT_NAME: _ANY,
    _EVENT_TYPE: _ANY,
    _RESOURCE_TYPE: FieldRule((EQUALS,), pattern=_TYPE_FORM, required=True, single=True),
    _RESOURCE_ARN: _ANY,
    _USER_ARN: _ANY,
    _FROM_CONSOLE: _IS_OR_IS_NOT_TRUTH,
}
_NETWORK = {
    _EVENT_SOURCE: FieldRule((EQUALS,), required=True, single=True),
    _EVENT_NAME: _ANY,
    _ERROR_CODE: FieldRule((EQUALS,), ("VpceAccessDenied",)),
    _VPC_ENDPOINT: _ANY,
}
#: Owner → category → field → its allowed conditions, in addition to eventCategory itself.
_RULES: dict[SelectorOwner, dict[str, dict[_Field, FieldRule]]] = {
    SelectorOwner.TRAIL: {
        MANAGEMENT: {_READ_ONLY: _IS_TRUTH, _EVENT_SOURCE: FieldRule((NOT_EQUALS,), EXCLUDABLE)},
        DATA: _DATA,
        NETWORK_ACTIVITY: {**_NETWORK, _USER_ARN: _ANY},
    },
    SelectorOwner.EVENT_DATA_STORE: {
        MANAGEMENT: {
            _READ_ONLY: _IS_TRUTH,
            _EVENT_SOURCE: _ANY,
            _EVENT_NAME: _ANY,
            _EVENT_TYPE: _ANY,
            _USER_ARN: _ANY,
            _FROM_CONSOLE: _IS_OR_IS_NOT_TRUTH,
        },
        DATA: _DATA,
        NETWORK_ACTIVITY: _NETWORK,
        INSIGHT: {},
        "ConfigurationItem": {},
        "Evidence": {},
        "ActivityAuditLog": {},
    },
    SelectorOwner.RECORDING: {
        MANAGEMENT: {
            _READ_ONLY: _IS_TRUTH,
            _EVENT_SOURCE: _ANY,
            _EVENT_NAME: _ANY,
            _USER_ARN: _ANY,
        },
        DATA: {
            _READ_ONLY: _IS_TRUTH,
            _EVENT_SOURCE: _ANY,
            _EVENT_NAME: _ANY,
            _RESOURCE_TYPE: FieldRule((EQUALS,), pattern=_TYPE_FORM, single=True),
            _RESOURCE_ARN: _ANY,
            _USER_ARN: _ANY,
        },
    },
}
#: The fields that any rule allows, in the order of their tests.
_FIELDS = {
    field.name: field
    for categories in _RULES.values()
    for rules in categories.values()
    for field in rules
}


def field_rules(owner: SelectorOwner) -> dict[str, dict[str, FieldRule]]:
    """Returns the rules for the fields of each category, in addition to eventCategory itself."""
    return {
        category: {field.name: rule for field, rule in rules.items()}
        for category, rules in _RULES[owner].items()
    }


# Checks


def check_advanced(selectors: Sequence[AdvancedSelector], owner: SelectorOwner) -> None:
    """Raises `InvalidEventSelectorsException` unless `owner` may have these selectors."""
    if not selectors:
        raise refused("AdvancedEventSelectors must have at least one advanced event selector.")
    if owner is SelectorOwner.EVENT_DATA_STORE and len(selectors) > MAX_STORE_SELECTORS:
        raise refused(
            f"An event data store has at most {MAX_STORE_SELECTORS} advanced event selectors, "
            f"but {len(selectors)} are given."
        )
    for selector in selectors:
        _check_selector(selector, owner)
    if owner is SelectorOwner.EVENT_DATA_STORE:
        _check_kinds(selectors)
    count = sum(len(c.values) for s in selectors for f in s.fields for c in f.conditions)
    if count > MAX_VALUES:
        raise refused(
            f"The conditions of all advanced event selectors have at most {MAX_VALUES} values, "
            f"but {count} are given."
        )


def _check_selector(selector: AdvancedSelector, owner: SelectorOwner) -> None:
    seen: set[str] = set()
    for field in selector.fields:
        if field.field != CATEGORY:
            _field_named(field.field)
        if field.field in seen:
            raise refused(f"Field {field.field} occurs more than once in an event selector.")
        seen.add(field.field)
        if not any(condition.values for condition in field.conditions):
            raise refused(f"Field {field.field} has no operator with a value.")
    category = _checked_category(selector, owner)
    rules = field_rules(owner)[category]
    for field in selector.fields:
        if field.field != CATEGORY:
            _check_field(field, rules, category, owner)
    for name, rule in rules.items():
        if rule.required and name not in seen:
            raise refused(
                f"Field {name} is required in an event selector whose eventCategory is {category}."
            )
    if RESOURCE_ARN in seen and RESOURCE_TYPE not in seen:
        raise refused(f"Field {RESOURCE_ARN} needs {RESOURCE_TYPE} in the same event selector.")


def _field_named(name: str) -> _Field:
    if name not in _FIELDS:
        raise refused(
            f"Field {shorten(name)} is not supported. "
            f"Supported fields are {', '.join((CATEGORY, *_FIELDS))}."
        )
    return _FIELDS[name]


def _checked_category(selector: AdvancedSelector, owner: SelectorOwner) -> str:
    category_field = next((field for field in selector.fields if field.field == CATEGORY), None)
    if category_field is None:
        raise refused(f"Field {CATEGORY} is required in every advanced event selector.")
    categories = _RULES[owner]
    _check(category_field, FieldRule((EQUALS,), tuple(categories), single=True), f"a {owner.value}")
    return category_field.values(EQUALS)[0]


def _check_field(
    field: FieldSelector, rules: Mapping[str, FieldRule], category: str, owner: SelectorOwner
) -> None:
    rule = rules.get(field.field)
    if rule is None:
        allowed = ", ".join((CATEGORY, *rules))
        raise refused(
            f"Field {field.field} is not supported for {category} events of a {owner.value}. "
            f"Supported fields are {allowed}."
        )
    _check(field, rule, f"{category} events of a {owner.value}")
    conflicting = set(field.values(EQUALS)) & set(field.values(NOT_EQUALS))
    if conflicting:
        raise refused(
            f"Value {shorten(min(conflicting))} for {field.field} is in conflict: "
            f"it is given for {EQUALS} and for {NOT_EQUALS}."
        )


def _check(field: FieldSelector, rule: FieldRule, where: str) -> None:
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


def _check_value(field: str, value: str, rule: FieldRule, where: str) -> None:
    if rule.values is not None and value not in rule.values:
        raise refused(
            f"Value {shorten(value)} for {field} is invalid with {where}. "
            f"Valid values are {', '.join(rule.values)}."
        )
    if rule.pattern is not None and not rule.pattern.fullmatch(value):
        raise refused(
            f"Value {shorten(value)} for {field} is invalid. "
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


# Tests of events


def fields_test(selector: Sequence[FieldSelector]) -> Test | None:
    """Returns the test for events of the selector's category, None if all match.

    Raises:
        CloudTrailError: `InvalidEventSelectorsException` if a field does not exist.
    """
    fields = {field.field: field for field in selector if field.field != CATEGORY}
    names = {_field_named(name) for name in fields}
    tests = [field.test(fields) for field in _FIELDS.values() if field in names]
    return all_of([test for test in tests if test is not None])


def _truth_test(get: Callable[[EventFields], bool], field: FieldSelector) -> Test:
    accepted = {True, False}
    for condition in field.conditions:
        values = {value == "true" for value in condition.values}
        accepted &= values if condition.operator == EQUALS else {True, False} - values
    return lambda fields: get(fields) in accepted


def _text_test(get: Callable[[EventFields], str | None], field: FieldSelector) -> Test:
    demanded, excluded = _matches(field)
    without = demanded is None

    def fits(fields: EventFields) -> bool:
        text = get(fields)
        if text is None:
            return without
        return (demanded is None or demanded(text)) and (excluded is None or not excluded(text))

    return fits


def _resource_test(fields: _Fields) -> Test:
    """Tests the ARNs of resources of one type: one must match, and none may be excluded."""
    (resource_type,) = fields[RESOURCE_TYPE].values(EQUALS)
    demanded, excluded = _matches(fields[RESOURCE_ARN]) if RESOURCE_ARN in fields else (None, None)
    if excluded is None:
        return has_resource(resource_type, demanded)

    def fits(fields: EventFields) -> bool:
        is_match = False
        for kind, arn in fields.resources:
            if kind != resource_type:
                continue
            if arn is not None and excluded(arn):
                return False
            if demanded is None or (arn is not None and demanded(arn)):
                is_match = True
        return is_match

    return fits


def _matches(field: FieldSelector) -> tuple[TextTest | None, TextTest | None]:
    """Returns the tests that must and must not hold; None for a missing condition."""
    demanded = [_MATCHES[c.operator](c.values) for c in field.conditions if c.operator in _MATCHES]
    excluded = [
        _MATCHES[_OPPOSITES[c.operator]](c.values)
        for c in field.conditions
        if c.operator in _OPPOSITES
    ]
    return _joined(demanded, all), _joined(excluded, any)


def _joined(matches: Sequence[TextTest], how: Callable[[Iterable[bool]], bool]) -> TextTest | None:
    if len(matches) < 2:
        return matches[0] if matches else None
    return lambda text: how(match(text) for match in matches)


def _starts(values: tuple[str, ...]) -> TextTest:
    return lambda text: text.startswith(values)


def _ends(values: tuple[str, ...]) -> TextTest:
    return lambda text: text.endswith(values)


def _equals(values: tuple[str, ...]) -> TextTest:
    return frozenset(values).__contains__


_MATCHES: dict[str, Callable[[tuple[str, ...]], TextTest]] = {
    EQUALS: _equals,
    "StartsWith": _starts,
    "EndsWith": _ends,
}
_OPPOSITES = {NOT_EQUALS: EQUALS, "NotStartsWith": "StartsWith", "NotEndsWith": "EndsWith"}
