"""The event selectors of a trail or an event data store, basic or advanced.

Selectors in the settings file choose the calls to record; the others are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import msgspec

from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import DATA, MANAGEMENT, Json
from opentrail.core.selectors.advanced import (
    CATEGORY,
    EQUALS,
    RESOURCE_ARN,
    RESOURCE_TYPE,
    AdvancedSelector,
    Condition,
    FieldSelector,
    SelectorOwner,
    check_advanced,
    fields_test,
)
from opentrail.core.selectors.basic import (
    READ_ONLY,
    BasicSelector,
    Predicate,
    Test,
    check_basic,
    data_test,
    management_test,
    refused,
)

BASIC, ADVANCED = "EventSelectors", "AdvancedEventSelectors"
#: Maximum predicates in the cache.
_CACHED = 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Event selectors of one kind; an event is selected if any of them matches."""

    basic: tuple[BasicSelector, ...] = ()
    advanced: tuple[AdvancedSelector, ...] = ()

    @property
    def custom(self) -> bool:
        """Whether it differs from the selection of a new trail."""
        return self != DEFAULT

    @property
    def resource_types(self) -> frozenset[str]:
        """The types of resources whose data events are selected."""
        basic = {resource.type for selector in self.basic for resource in selector.resources}
        advanced = {
            kind
            for selector in self.advanced
            for field in selector.fields
            if field.field == RESOURCE_TYPE
            for kind in field.values(EQUALS)
        }
        return frozenset(basic | advanced)

    def logs(self, category: str, only_writes: bool = False) -> bool:
        """Returns whether management or data events, or writes among them, may be selected."""
        return any(
            (selector.management if category == MANAGEMENT else selector.resources)
            and not (only_writes and selector.read_write == READ_ONLY)
            for selector in self.basic
        ) or any(
            selector.category == category and not (only_writes and selector.only_reads)
            for selector in self.advanced
        )

    def document(self) -> Json:
        """Returns the selectors as the API shows them, under the API's name of their kind."""
        if self.advanced:
            return {ADVANCED: [selector.to_json() for selector in self.advanced]}
        return {BASIC: [selector.to_json() for selector in self.basic]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> Self:
        """Returns the selection that `document` describes, the default one for None."""
        if document is None:
            return cls(basic=(BasicSelector(),))
        return cls(
            tuple(BasicSelector.from_json(selector) for selector in document.get(BASIC) or ()),
            tuple(
                AdvancedSelector.from_json(selector) for selector in document.get(ADVANCED) or ()
            ),
        )


#: The selection of a new trail: management events only.
DEFAULT = Selection.from_document(None)
#: The selection of a new event data store: the same events (cloudtrail-format §7.2).
STORE_DEFAULT = Selection(
    advanced=(
        AdvancedSelector(
            (FieldSelector(CATEGORY, (Condition(EQUALS, (MANAGEMENT,)),)),),
            name="Default management events",
        ),
    )
)


def read_selection(parameters: Mapping[str, Any], owner: SelectorOwner) -> Selection:
    """Returns the selection of a request that conforms to AWS's model; empty lists are omitted.

    Raises:
        CloudTrailError: `InvalidEventSelectorsException`.
    """
    selection = Selection.from_document(parameters)
    if selection.basic and selection.advanced:
        raise refused(f"Give either {BASIC} or {ADVANCED}, not both.")
    if selection.advanced or owner is SelectorOwner.EVENT_DATA_STORE:
        check_advanced(selection.advanced, owner)
        return selection
    if parameters.get(BASIC) is None:
        raise refused(f"{BASIC} or {ADVANCED} is required.")
    check_basic(selection.basic)
    return selection


def predicate_of(selection: Selection) -> Predicate:
    """Returns the predicate of a selection; equal selections share one, under any name."""
    return _compiled(selection.basic, tuple(selector.fields for selector in selection.advanced))


@lru_cache(_CACHED)
def _compiled(
    basic: tuple[BasicSelector, ...], advanced: tuple[tuple[FieldSelector, ...], ...]
) -> Predicate:
    alternatives: dict[str, list[Test | None]] = {}
    for selector in basic:
        if selector.management:
            alternatives.setdefault(MANAGEMENT, []).append(management_test(selector))
        if selector.resources:
            alternatives.setdefault(DATA, []).append(data_test(selector))
    for fields in advanced:
        category = AdvancedSelector(fields).category
        alternatives.setdefault(category, []).append(fields_test(fields))
    return Predicate(alternatives)


# Recorded calls

#: Types of resources whose ARN is in the head of a request.
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
        UsageError: it is not valid; the error names `source` and the expected input.
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
    (kind,) = fields[RESOURCE_TYPE].values("Equals")
    if kind not in TYPES_IN_HEADS:
        raise UsageError(
            f"{source}: resources.ARN needs a resources.type whose ARN the head of a request "
            f"names: {', '.join(TYPES_IN_HEADS)}, not {kind}, which the body names"
        )


def records_all_management(selection: Selection) -> bool:
    """Returns whether every management event is recorded."""
    return predicate_of(selection).decides(MANAGEMENT) is True


#: Maximum counters of an hour; `OTHER` counts the excess.
MAX_COUNTERS = 1_000


class LeftOut(NamedTuple):
    """The subject of a counter: `resource_type` is empty for management events."""

    event_source: str
    event_name: str
    resource_type: str


OTHER = LeftOut("other", "other", "")
