"""A selection compiled: what decides, fast, whether an event is taken (cloudtrail-format §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter

from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.event_record import EventFields
from opentrail.core.selectors.advanced import (
    CATEGORY,
    EQUALS,
    NOT_EQUALS,
    RESOURCE_ARN,
    RESOURCE_TYPE,
    FieldSelector,
)
from opentrail.core.selectors.basic import (
    ALL,
    DYNAMODB_TABLE,
    READ_ONLY,
    S3_OBJECT,
    BasicSelector,
    DataResource,
)
from opentrail.core.selectors.selection import Selection

#: Compiled selections that are kept.
_KEPT = 1024


Test = Callable[[EventFields], bool]
_Match = Callable[[str], bool]


class Predicate:
    """Decides whether a selection takes an event."""

    __slots__ = ("_tests",)

    def __init__(self, tests: dict[str, Test | None]) -> None:
        #: Category → its test, None where every event of the category is taken.
        self._tests = tests

    def decides(self, category: str) -> bool | None:
        """Returns the decision if the category alone makes it, else None."""
        if category not in self._tests:
            return False
        return True if self._tests[category] is None else None

    def matches(self, category: str, fields: EventFields) -> bool:
        """Returns whether the selection includes an event."""
        if category not in self._tests:
            return False
        test = self._tests[category]
        return test is None or test(fields)


def predicate_of(selection: Selection) -> Predicate:
    """Returns the one predicate of all selections that say the same, whatever their names."""
    return _compiled(selection.basic, tuple(selector.fields for selector in selection.advanced))


@lru_cache(_KEPT)
def _compiled(
    basic: tuple[BasicSelector, ...], advanced: tuple[tuple[FieldSelector, ...], ...]
) -> Predicate:
    alternatives: dict[str, list[Test | None]] = {}
    for selector in basic:
        if selector.management:
            alternatives.setdefault(MANAGEMENT, []).append(_management_test(selector))
        if selector.resources:
            alternatives.setdefault(DATA, []).append(_data_test(selector))
    for fields in advanced:
        category = next(f.values(EQUALS)[0] for f in fields if f.field == CATEGORY)
        alternatives.setdefault(category, []).append(_fields_test(fields))
    return Predicate({category: _any(tests) for category, tests in alternatives.items()})


def _any(tests: Iterable[Test | None]) -> Test | None:
    chosen: list[Test] = []
    for test in tests:
        if test is None:
            return None
        chosen.append(test)
    if len(chosen) == 1:
        return chosen[0]

    def fits_any(fields: EventFields) -> bool:
        for test in chosen:  # noqa: SIM110 - a generator takes three times as long
            if test(fields):
                return True
        return False

    return fits_any


def _all(tests: Sequence[Test]) -> Test | None:
    if len(tests) < 2:
        return tests[0] if tests else None

    def fits_all(fields: EventFields) -> bool:
        for test in tests:  # noqa: SIM110 - as above
            if not test(fields):
                return False
        return True

    return fits_all


# Basic selectors


def _management_test(selector: BasicSelector) -> Test | None:
    tests = _read_write_tests(selector)
    if selector.excluded_sources:
        excluded = frozenset(selector.excluded_sources)
        tests.append(lambda fields: fields.event_source not in excluded)
    return _all(tests)


def _data_test(selector: BasicSelector) -> Test | None:
    tests = [*map(_resource_test, selector.resources)]
    return _all([*_read_write_tests(selector), *filter(None, [_any(tests)])])


def _read_write_tests(selector: BasicSelector) -> list[Test]:
    if selector.read_write == ALL:
        return []
    wanted = selector.read_write == READ_ONLY
    return [lambda fields: fields.read_only is wanted]


def _resource_test(resource: DataResource) -> Test:
    return _touches(resource.type, None if resource.every else _arn_match(resource))


def _touches(wanted: str, matches: _Match | None) -> Test:
    """Tests for a resource of a type, and with an ARN that fits."""

    def fits(fields: EventFields) -> bool:
        for kind, arn in fields.resources:
            if kind == wanted and (matches is None or (arn is not None and matches(arn))):
                return True
        return False

    return fits


def _arn_match(resource: DataResource) -> _Match:
    if resource.type == S3_OBJECT:
        return _starts(resource.values)
    exact = frozenset(resource.values)
    if resource.type == DYNAMODB_TABLE:
        indexes = tuple(f"{table}/index/" for table in resource.values)
        return lambda arn: arn in exact or arn.startswith(indexes)
    return exact.__contains__


# Advanced selectors


#: Field → the member of the fields that it asks, in the order in which they are asked.
_TEXTS = {
    "eventSource": "event_source",
    "eventName": "event_name",
    "eventType": "event_type",
    "errorCode": "error_code",
    "vpcEndpointId": "vpc_endpoint_id",
    "userIdentity.arn": "user_arn",
}
_TRUTHS = {"readOnly": "read_only", "sessionCredentialFromConsole": "from_console"}


def _fields_test(fields: Sequence[FieldSelector]) -> Test | None:
    by_name = {field.field: field for field in fields}
    tests = [_truth_test(_TRUTHS[name], by_name[name]) for name in _TRUTHS if name in by_name]
    tests += [_text_test(_TEXTS[name], by_name[name]) for name in _TEXTS if name in by_name]
    if RESOURCE_TYPE in by_name:
        (wanted,) = by_name[RESOURCE_TYPE].values(EQUALS)
        tests.append(_typed_test(wanted, by_name.get(RESOURCE_ARN)))
    return _all(tests)


def _truth_test(member: str, field: FieldSelector) -> Test:
    get = attrgetter(member)
    wanted = {True, False}
    for condition in field.conditions:
        given = {value == "true" for value in condition.values}
        wanted &= given if condition.operator == EQUALS else {True, False} - given
    return lambda fields: get(fields) in wanted


def _text_test(member: str, field: FieldSelector) -> Test:
    get: Callable[[EventFields], str | None] = attrgetter(member)
    demanded, excluded = _matches(field)
    without = demanded is None

    def fits(fields: EventFields) -> bool:
        text = get(fields)
        if text is None:
            return without
        return (demanded is None or demanded(text)) and (excluded is None or not excluded(text))

    return fits


def _typed_test(wanted: str, field: FieldSelector | None) -> Test:
    """Only ARNs of the wanted type count: one must fit what is demanded, none what is excluded."""
    demanded, excluded = (None, None) if field is None else _matches(field)
    if excluded is None:
        return _touches(wanted, demanded)

    def fits(fields: EventFields) -> bool:
        found = False
        for kind, arn in fields.resources:
            if kind != wanted:
                continue
            if arn is not None and excluded(arn):
                return False
            if demanded is None or (arn is not None and demanded(arn)):
                found = True
        return found

    return fits


def _matches(field: FieldSelector) -> tuple[_Match | None, _Match | None]:
    """Returns what a text must fit and what it must not fit, each None if nothing is said."""
    demanded = [_MATCHES[c.operator](c.values) for c in field.conditions if c.operator in _MATCHES]
    excluded = [
        _MATCHES[_OPPOSITES[c.operator]](c.values)
        for c in field.conditions
        if c.operator in _OPPOSITES
    ]
    return _joined(demanded, all), _joined(excluded, any)


def _joined(matches: Sequence[_Match], how: Callable[[Iterable[bool]], bool]) -> _Match | None:
    if len(matches) < 2:
        return matches[0] if matches else None
    return lambda text: how(match(text) for match in matches)


def _starts(values: tuple[str, ...]) -> _Match:
    return lambda text: text.startswith(values)


def _ends(values: tuple[str, ...]) -> _Match:
    return lambda text: text.endswith(values)


def _equals(values: tuple[str, ...]) -> _Match:
    return frozenset(values).__contains__


_MATCHES: dict[str, Callable[[tuple[str, ...]], _Match]] = {
    EQUALS: _equals,
    "StartsWith": _starts,
    "EndsWith": _ends,
}
_OPPOSITES = {NOT_EQUALS: EQUALS, "NotStartsWith": "StartsWith", "NotEndsWith": "EndsWith"}
