"""Which calls are recorded, by selectors in the file of settings, and how others are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import MANAGEMENT
from opentrail.core.selectors.advanced import (
    RESOURCE_ARN,
    RESOURCE_TYPE,
    AdvancedSelector,
    SelectorOwner,
    check_advanced,
)
from opentrail.core.selectors.selection import Selection, predicate_of

#: Types of resources whose ARN the head of a request names.
TYPES_IN_HEADS = (
    "AWS::S3::Object",
    "AWS::S3::Bucket",
    "AWS::S3Express::Object",
    "AWS::S3Express::DirectoryBucket",
    "AWS::S3ObjectLambda::AccessPoint",
    "AWS::S3Outposts::AccessPoint",
    "AWS::S3Outposts::Object",
)


class _Field(msgspec.Struct, forbid_unknown_fields=True, rename="pascal", omit_defaults=True):
    field: str
    equals: list[str] = []
    starts_with: list[str] = []
    ends_with: list[str] = []
    not_equals: list[str] = []
    not_starts_with: list[str] = []
    not_ends_with: list[str] = []


class _Selector(msgspec.Struct, forbid_unknown_fields=True, rename="pascal", omit_defaults=True):
    field_selectors: list[_Field]
    name: str | None = None


def read_recording(document: Any, source: str) -> Selection:
    """Returns the selection of calls to record that a list of advanced event selectors describes.

    Raises:
        UsageError: it is not valid; the error names `source` and what was expected.
    """
    try:
        given = msgspec.convert(document, list[_Selector])
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{source} must be all, or a list of advanced event selectors: {error}"
        ) from error
    if not given:
        raise UsageError(f"{source} must be all, or have at least one advanced event selector")
    selectors = [AdvancedSelector.from_json(msgspec.to_builtins(each)) for each in given]
    for number, selector in enumerate(selectors, 1):
        name = f" ({selector.name})" if selector.name else ""
        _check([selector], f"{source}: selector {number}{name}")
        _check_resources(selector, f"{source}: selector {number}{name}")
    _check(selectors, source)
    return Selection(advanced=tuple(selectors))


def _check(selectors: Sequence[AdvancedSelector], source: str) -> None:
    try:
        check_advanced(selectors, SelectorOwner.RECORDING)
    except CloudTrailError as error:
        raise UsageError(f"{source}: {error}") from error


def _check_resources(selector: AdvancedSelector, source: str) -> None:
    fields = {field.field: field for field in selector.fields}
    if RESOURCE_ARN not in fields:
        return
    types = fields[RESOURCE_TYPE].values("Equals") if RESOURCE_TYPE in fields else ()
    if not set(types) & set(TYPES_IN_HEADS):
        named = f"not {types[0]}, which the body names" if types else "which is missing"
        raise UsageError(
            f"{source}: resources.ARN needs a resources.type whose ARN the head of a request "
            f"names: {', '.join(TYPES_IN_HEADS)}, {named}"
        )


def records_all_management(selection: Selection) -> bool:
    """Returns whether every management event is recorded."""
    return predicate_of(selection).decides(MANAGEMENT) is True


#: Maximum counters of an hour; what exceeds them is counted as `OTHER`.
MAX_COUNTERS = 1_000


class LeftOut(NamedTuple):
    """What a counter counts: `resource_type` is that of data events, '' of management events."""

    event_source: str
    event_name: str
    resource_type: str


OTHER = LeftOut("other", "other", "")
