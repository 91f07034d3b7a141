"""Basic event selectors: JSON, defaults and errors (cloudtrail-format §7.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from opentrail.core.selectors.owner import refused, shown

#: ReadWriteType.
ALL, READ_ONLY, WRITE_ONLY = "All", "ReadOnly", "WriteOnly"
S3_OBJECT, LAMBDA_FUNCTION = "AWS::S3::Object", "AWS::Lambda::Function"
DYNAMODB_TABLE = "AWS::DynamoDB::Table"
#: Sources whose management events may be left out.
EXCLUDABLE = ("kms.amazonaws.com", "rdsdata.amazonaws.com")

MOST_SELECTORS, MOST_RESOURCES = 5, 250
_LONGEST_VALUE = 2048
#: Values that mean every resource of a type.
_EVERY = {
    S3_OBJECT: re.compile(r"arn:aws[a-z-]*:s3(:::)?"),
    LAMBDA_FUNCTION: re.compile(r"arn:aws[a-z-]*:lambda"),
    DYNAMODB_TABLE: re.compile(r"arn:aws[a-z-]*:dynamodb"),
}
#: Values that mean some of them: an S3 bucket with any prefix, one function, one table.
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
    """Resources whose data events are taken: ARNs, or the beginnings of some."""

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

    def to_json(self) -> dict[str, Any]:
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
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Returns the selector that `given`, which fits AWS's model, describes."""
        management = given.get("IncludeManagementEvents")
        return cls(
            read_write=given.get("ReadWriteType") or ALL,
            management=True if management is None else management,
            resources=tuple(
                DataResource(resource.get("Type") or "", tuple(resource.get("Values") or ()))
                for resource in given.get("DataResources") or ()
            ),
            excluded_sources=tuple(given.get("ExcludeManagementEventSources") or ()),
        )


def means_every(resource_type: str, value: str) -> bool:
    """Returns whether a value of `DataResources.Values` means all resources of its type.

    >>> means_every("AWS::S3::Object", "arn:aws:s3:::"), means_every("AWS::S3::Object", "arn:x")
    (True, False)
    """
    return _EVERY[resource_type].fullmatch(value) is not None


def check_basic(selectors: Sequence[BasicSelector]) -> None:
    """Raises `InvalidEventSelectorsException` unless a trail may have these selectors."""
    if not 1 <= len(selectors) <= MOST_SELECTORS:
        raise refused(
            f"A trail has 1 to {MOST_SELECTORS} event selectors, but {len(selectors)} are given."
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
    if count > MOST_RESOURCES:
        raise refused(
            f"The event selectors of a trail have at most {MOST_RESOURCES} values of DataResources "
            f"in all, but {count} are given."
        )


def _check_management(selector: BasicSelector) -> None:
    if selector.read_write not in (ALL, READ_ONLY, WRITE_ONLY):
        raise refused(
            f"Value {shown(selector.read_write)} for ReadWriteType is invalid. "
            f"Valid values are {ALL}, {READ_ONLY} and {WRITE_ONLY}."
        )
    for source in selector.excluded_sources:
        if source not in EXCLUDABLE:
            raise refused(
                f"Value {shown(source)} for ExcludeManagementEventSources is invalid. "
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
            f"Value {shown(resource.type) or 'null'} for DataResources.Type is invalid. "
            f"Valid values are {', '.join(RESOURCE_TYPES[:-1])} and {RESOURCE_TYPES[-1]}; "
            "other types need advanced event selectors."
        )
    if not resource.values:
        raise refused(f"DataResources.Values of {resource.type} must have at least one value.")
    for value in resource.values:
        fits = means_every(resource.type, value) or _SOME[resource.type].fullmatch(value)
        if not fits or len(value) > _LONGEST_VALUE:
            raise refused(f"Value {shown(value)} for DataResources.Values is invalid.")
