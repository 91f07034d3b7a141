"""Insights types, AWS's two and opentrail's, and insight selectors (cloudtrail-format §11.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, MANAGEMENT, Json
from opentrail.core.event_record import InsightFields
from opentrail.core.selectors import Selection

NEW_API, NEW_REGION = "new-api", "new-region"
NEW_PRINCIPAL, NEW_USER_AGENT = "new-principal", "new-user-agent"
NEW_AGENT = "new-agent"
ACCESS_DENIED, API_FAN_OUT = "access-denied", "api-fan-out"
#: All types; the ones with a start and an end are last.
PRINCIPAL_TYPES = (
    *(NEW_API, NEW_REGION, NEW_PRINCIPAL, NEW_USER_AGENT, NEW_AGENT),
    *(ACCESS_DENIED, API_FAN_OUT),
)
BURST_TYPES = PRINCIPAL_TYPES[-2:]
#: States of the two records of an incident.
START, END = "Start", "End"
#: Minutes in which the events of a burst are counted together.
WINDOW_MINUTES = 15
#: Error codes, as patterns, of calls refused for a missing permission.
DENIED = ("AccessDenied*", "*UnauthorizedOperation", "AuthorizationError*")


def insight_type(name: str) -> str:
    """Returns the `insightType` of a type's records.

    >>> insight_type("new-api"), insight_type("api-fan-out")
    ('OpenTrail.NewApi', 'OpenTrail.ApiFanOut')
    """
    return f"OpenTrail.{name.title().replace('-', '')}"


CALL_RATE, ERROR_RATE = "ApiCallRateInsight", "ApiErrorRateInsight"


@dataclass(frozen=True, slots=True)
class InsightSelector:
    """An Insights type, and its categories of events."""

    insight_type: str
    categories: tuple[str, ...] = (MANAGEMENT,)

    def to_json(self) -> Json:
        """Returns the selector as the API shows it."""
        return {"InsightType": self.insight_type, "EventCategories": list(self.categories)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Returns the selector that `document`, which fits AWS's model, describes."""
        categories = tuple(dict.fromkeys(document.get("EventCategories") or (MANAGEMENT,)))
        return cls(document.get("InsightType") or "", categories)


def insight_selectors(documents: Iterable[Mapping[str, Any]]) -> tuple[InsightSelector, ...]:
    """Returns the selectors that documents in the form of the API describe."""
    return tuple(InsightSelector.from_json(document) for document in documents)


def check_insights(
    selectors: Iterable[InsightSelector], selection: Selection, trail_arn: str
) -> None:
    """Raises `InvalidInsightSelectorsException` unless a trail may have these insight selectors.

    Args:
        selectors: the insight selectors.
        selection: the trail's event selectors.
        trail_arn: the trail's ARN, for messages.
    """
    seen: set[str] = set()
    for selector in selectors:
        if not selector.insight_type:
            raise _refused("InsightType is required in every insight selector.")
        if selector.insight_type in seen:
            raise _refused(f"Value {selector.insight_type} for InsightType occurs more than once.")
        seen.add(selector.insight_type)
        for category in selector.categories:
            _check_logged(selector.insight_type, category, selection, trail_arn)


def selects(selectors: Iterable[InsightSelector], trail_arn: str, fields: InsightFields) -> bool:
    """Returns whether a trail with these selectors has an Insights event."""
    if fields.category == DATA and fields.source != trail_arn:
        return False
    return any(
        selector.insight_type == fields.insight_type and fields.category in selector.categories
        for selector in selectors
    )


def _check_logged(insight_type: str, category: str, selection: Selection, trail_arn: str) -> None:
    if category == DATA:
        if not selection.logs(DATA):
            raise _refused(
                "Value Data for EventCategories needs a trail that logs data events, but trail "
                f"{trail_arn} does not. Change its event selectors first."
            )
        return
    only_writes = insight_type == CALL_RATE
    if not selection.logs(MANAGEMENT, only_writes):
        logged = "write management events" if only_writes else "management events"
        raise _refused(
            f"Value {insight_type} for InsightType needs a trail that logs {logged}, but trail "
            f"{trail_arn} does not. Change its event selectors first."
        )


def _refused(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidInsightSelectorsException", message)
