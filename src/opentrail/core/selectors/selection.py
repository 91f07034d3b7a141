"""A set of event selectors, basic or advanced, as a trail or an event data store has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from opentrail.core.event import DATA, MANAGEMENT, Json
from opentrail.core.selectors.advanced import (
    CATEGORY,
    EQUALS,
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


#: The selection of a new trail: all management events, and nothing else.
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
    """Returns the selection of a request that conforms to AWS's model; empty lists are left out.

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
    """Returns the predicate of a selection; equal selections share one, whatever their names."""
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
