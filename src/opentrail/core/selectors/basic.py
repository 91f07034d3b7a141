"""Basic event selectors: JSON, defaults, errors and tests (cloudtrail-format §7.1).

Basic and advanced selectors compile to `Predicate`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.event_record import EventFields

Test = Callable[[EventFields], bool]
TextTest = Callable[[str], bool]


class Predicate:
    """Decides whether a selection includes an event."""

    __slots__ = ("_tests",)

    def __init__(self, alternatives: dict[str, list[Test | None]]) -> None:
        """Creates it from tests by category; None is the test that every event passes."""
        self._tests = {category: any_of(tests) for category, tests in alternatives.items()}

    def decides(self, category: str) -> bool | None:
        """Returns the decision if it depends on the category alone, else None."""
        if category not in self._tests:
            return False
        return True if self._tests[category] is None else None

    def matches(self, category: str, fields: EventFields) -> bool:
        """Returns whether the selection includes an event."""
        if category not in self._tests:
            return False
        test = self._tests[category]
        return test is None or test(fields)


def any_of(tests: Iterable[Test | None]) -> Test | None:
    needed: list[Test] = []
    for test in tests:
        if test is None:
            return None
        needed.append(test)
    if len(needed) == 1:
        return needed[0]

    def fits_any(fields: EventFields) -> bool:
        for test in needed:  # noqa: SIM110 - a generator takes three times as long
            if test(fields):
                return True
        return False

    return fits_any


def all_of(tests: Sequence[Test]) -> Test | None:
    if len(tests) < 2:
        return tests[0] if tests else None

    def fits_all(fields: EventFields) -> bool:
        for test in tests:  # noqa: SIM110 - as in `any_of`
            if not test(fields):
                return False
        return True

    return fits_all


def has_resource(resource_type: str, matches: TextTest | None) -> Test:
    """Tests for a resource of a type whose ARN matches."""

    def fits(fields: EventFields) -> bool:
        for kind, arn in fields.resources:
            if kind == resource_type and (matches is None or (arn is not None and matches(arn))):
                return True
        return False

    return fits


#: ReadWriteType.
ALL, READ_ONLY, WRITE_ONLY = "All", "ReadOnly", "WriteOnly"
S3_OBJECT, LAMBDA_FUNCTION = "AWS::S3::Object", "AWS::Lambda::Function"
DYNAMODB_TABLE = "AWS::DynamoDB::Table"
#: Sources whose management events can be excluded.
EXCLUDABLE = ("kms.amazonaws.com", "rdsdata.amazonaws.com")

#: Maximum event selectors of a trail.
MAX_SELECTORS = 5
#: Maximum data resources in all event selectors of a trail.
MAX_RESOURCES = 250
_MAX_VALUE_LENGTH = 2048
#: Maximum characters of a value in an error.
_MAX_SHOWN_LENGTH = 200
#: Values that mean all resources of a type.
_EVERY = {
    S3_OBJECT: re.compile(r"arn:aws[a-z-]*:s3(:::)?"),
    LAMBDA_FUNCTION: re.compile(r"arn:aws[a-z-]*:lambda"),
    DYNAMODB_TABLE: re.compile(r"arn:aws[a-z-]*:dynamodb"),
}
#: Values that mean an S3 bucket with any prefix, one function or one table.
_SOME = {
    S3_OBJECT: re.compile(r"arn:aws[a-z-]*:s3:::[^/*\s]+/[^*]*"),
    LAMBDA_FUNCTION: re.compile(
        r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]+(:[A-Za-z0-9$_-]+)?"
    ),
    DYNAMODB_TABLE: re.compile(r"arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d{12}:table/[A-Za-z0-9._-]+"),
}
RESOURCE_TYPES = tuple(_SOME)


@dataclass(frozen=True, slots=True)
class DataResource:
    """Resources whose data events are selected: ARNs or prefixes of ARNs."""

    type: str
    values: tuple[str, ...]

    @property
    def every(self) -> bool:
        """Whether one of the values means all resources of the type."""
        return any(means_every(self.type, value) for value in self.values)


@dataclass(frozen=True, slots=True)
class BasicSelector:
    """A basic event selector; the defaults are AWS's."""

    read_write: str = ALL
    management: bool = True
    resources: tuple[DataResource, ...] = ()
    excluded_sources: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Returns the selector as the API shows it, with every member."""
        return {
            "ReadWriteType": self.read_write,
            "IncludeManagementEvents": self.management,
            "DataResources": [
                {"Type": resource.type, "Values": list(resource.values)}
                for resource in self.resources
            ],
            "ExcludeManagementEventSources": list(self.excluded_sources),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Returns the selector that `document`, which fits AWS's model, describes."""
        management = document.get("IncludeManagementEvents")
        return cls(
            read_write=document.get("ReadWriteType") or ALL,
            management=True if management is None else management,
            resources=tuple(
                DataResource(resource.get("Type") or "", tuple(resource.get("Values") or ()))
                for resource in document.get("DataResources") or ()
            ),
            excluded_sources=tuple(document.get("ExcludeManagementEventSources") or ()),
        )


def means_every(resource_type: str, value: str) -> bool:
    """Returns whether a value of `DataResources.Values` means all resources of its type.

    >>> means_every("AWS::S3::Object", "arn:aws:s3:::"), means_every("AWS::S3::Object", "arn:x")
    (True, False)
    """
    return _EVERY[resource_type].fullmatch(value) is not None


def check_basic(selectors: Sequence[BasicSelector]) -> None:
    """Raises `InvalidEventSelectorsException` unless a trail may have these selectors."""
    if not 1 <= len(selectors) <= MAX_SELECTORS:
        raise refused(
            f"A trail has 1 to {MAX_SELECTORS} event selectors, but {len(selectors)} are given."
        )
    for selector in selectors:
        _check_management(selector)
        for resource in selector.resources:
            _check_resource(resource)
    count = sum(
        not means_every(resource.type, value)
        for selector in selectors
        for resource in selector.resources
        for value in resource.values
    )
    if count > MAX_RESOURCES:
        raise refused(
            f"The event selectors of a trail have at most {MAX_RESOURCES} values of DataResources "
            f"in all, but {count} are given."
        )


def _check_management(selector: BasicSelector) -> None:
    if selector.read_write not in (ALL, READ_ONLY, WRITE_ONLY):
        raise refused(
            f"Value {shorten(selector.read_write)} for ReadWriteType is invalid. "
            f"Valid values are {ALL}, {READ_ONLY} and {WRITE_ONLY}."
        )
    for source in selector.excluded_sources:
        if source not in EXCLUDABLE:
            raise refused(
                f"Value {shorten(source)} for ExcludeManagementEventSources is invalid. "
                f"Valid values are {' and '.join(EXCLUDABLE)}."
            )
    if selector.excluded_sources and not selector.management:
        raise refused(
            "ExcludeManagementEventSources can have values only where IncludeManagementEvents "
            "is true."
        )


def _check_resource(resource: DataResource) -> None:
    if resource.type not in RESOURCE_TYPES:
        raise refused(
            f"Value {shorten(resource.type) or 'null'} for DataResources.Type is invalid. "
            f"Valid values are {', '.join(RESOURCE_TYPES[:-1])} and {RESOURCE_TYPES[-1]}; "
            "other types need advanced event selectors."
        )
    if not resource.values:
        raise refused(f"DataResources.Values of {resource.type} must have at least one value.")
    for value in resource.values:
        fits = means_every(resource.type, value) or _SOME[resource.type].fullmatch(value)
        if not fits or len(value) > _MAX_VALUE_LENGTH:
            raise refused(f"Value {shorten(value)} for DataResources.Values is invalid.")


def refused(message: str) -> CloudTrailError:
    """Returns the error for every invalid selection."""
    return CloudTrailError("InvalidEventSelectorsException", message)


def shorten(value: object) -> str:
    """Returns a value as errors show it.

    >>> shorten("a" * 300)[-3:]
    'aa…'
    """
    text = str(value)
    return text if len(text) <= _MAX_SHOWN_LENGTH else f"{text[:_MAX_SHOWN_LENGTH]}…"


# Tests of events


def management_test(selector: BasicSelector) -> Test | None:
    tests = _read_write_tests(selector)
    if selector.excluded_sources:
        excluded = frozenset(selector.excluded_sources)
        tests.append(lambda fields: fields.event_source not in excluded)
    return all_of(tests)


def data_test(selector: BasicSelector) -> Test | None:
    tests = [*map(_resource_test, selector.resources)]
    return all_of([*_read_write_tests(selector), *filter(None, [any_of(tests)])])


def _read_write_tests(selector: BasicSelector) -> list[Test]:
    if selector.read_write == ALL:
        return []
    is_read = selector.read_write == READ_ONLY
    return [lambda fields: fields.read_only is is_read]


def _resource_test(resource: DataResource) -> Test:
    return has_resource(resource.type, None if resource.every else _arn_test(resource))


def _arn_test(resource: DataResource) -> TextTest:
    if resource.type == S3_OBJECT:
        return lambda arn: arn.startswith(resource.values)
    exact = frozenset(resource.values)
    if resource.type == DYNAMODB_TABLE:
        indexes = tuple(f"{table}/index/" for table in resource.values)
        return lambda arn: arn in exact or arn.startswith(indexes)
    return exact.__contains__
