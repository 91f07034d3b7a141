"""A set of event selectors, basic or advanced, as a trail or an event data store has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from opentrail.core.event import MANAGEMENT
from opentrail.core.selectors.advanced import (
    CATEGORY,
    EQUALS,
    RESOURCE_TYPE,
    AdvancedSelector,
    Condition,
    FieldSelector,
    check_advanced,
)
from opentrail.core.selectors.basic import BasicSelector, check_basic
from opentrail.core.selectors.owner import SelectorOwner, refused

BASIC, ADVANCED = "EventSelectors", "AdvancedEventSelectors"


@dataclass(frozen=True, slots=True)
class Selection:
    """Event selectors of one kind; an event is taken that any of them takes."""

    basic: tuple[BasicSelector, ...] = ()
    advanced: tuple[AdvancedSelector, ...] = ()

    @property
    def custom(self) -> bool:
        """Whether it is other than what a trail has that was never configured."""
        return self != DEFAULT

    @property
    def resource_types(self) -> frozenset[str]:
        """The types of resources whose data events are taken."""
        basic = {resource.type for selector in self.basic for resource in selector.resources}
        advanced = {
            kind
            for selector in self.advanced
            for field in selector.fields
            if field.field == RESOURCE_TYPE
            for kind in field.values(EQUALS)
        }
        return frozenset(basic | advanced)

    def document(self) -> dict[str, Any]:
        """Returns the kind that it has, as the API shows it, under the API's name."""
        if self.advanced:
            return {ADVANCED: [selector.to_json() for selector in self.advanced]}
        return {BASIC: [selector.to_json() for selector in self.basic]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> Self:
        """Returns the selection that `document` describes, the default one for None."""
        if document is None:
            return cls(basic=(BasicSelector(),))
        return cls(
            tuple(BasicSelector.from_json(given) for given in document.get(BASIC) or ()),
            tuple(AdvancedSelector.from_json(given) for given in document.get(ADVANCED) or ()),
        )


#: All management events, and nothing else: of a trail that was never configured.
DEFAULT = Selection.from_document(None)
#: The same as an event data store has it that was given none (cloudtrail-format §7.2).
STORE_DEFAULT = Selection(
    advanced=(
        AdvancedSelector(
            (FieldSelector(CATEGORY, (Condition(EQUALS, (MANAGEMENT,)),)),),
            name="Default management events",
        ),
    )
)


def chosen(given: Mapping[str, Any], taker: SelectorOwner) -> Selection:
    """Returns the selection in a request that fits AWS's model; empty lists count as left out.

    Raises:
        CloudTrailError: `InvalidEventSelectorsException`.
    """
    selection = Selection.from_document(given)
    if selection.basic and selection.advanced:
        raise refused(f"Give either {BASIC} or {ADVANCED}, not both.")
    if selection.advanced or taker is SelectorOwner.EVENT_DATA_STORE:
        check_advanced(selection.advanced, taker)
        return selection
    if given.get(BASIC) is None:
        raise refused(f"{BASIC} or {ADVANCED} is required.")
    check_basic(selection.basic)
    return selection
