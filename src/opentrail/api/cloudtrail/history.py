"""LookupEvents."""

from __future__ import annotations

from opentrail.api.cloudtrail.operation import Json, OperationCall, operation
from opentrail.core.attributes import LOOKUP_KEYS
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT
from opentrail.core.expression import Compare, Not
from opentrail.history.event_history import PAGE, Page, Search, event_document

_INSIGHT_KEYS = ("EventId", "EventName", "EventSource")
#: Insights events about data events, which LookupEvents leaves out (cloudtrail-format §11.3).
ABOUT_DATA_EVENTS = Compare(("insightDetails", "sourceEventCategory"), "=", DATA, is_field=False)


@operation(
    "LookupEvents",
    errors={
        "LookupAttributes": "InvalidLookupAttributesException",
        "MaxResults": "InvalidMaxResultsException",
        "EventCategory": "InvalidEventCategoryException",
    },
)
async def lookup_events(call: OperationCall) -> Json:
    """Finds management (or Insights) events of the caller's account and Region, newest first."""
    insight = call.input.get("EventCategory") == "insight"
    start, end = call.times()
    search = Search(
        account=call.account,
        region=call.region,
        categories=(INSIGHT,) if insight else (MANAGEMENT,),
        attribute=_attribute(call.input.get("LookupAttributes") or [], insight),
        expression=Not(ABOUT_DATA_EVENTS) if insight else None,
        start=start,
        end=end,
    )
    limit = call.input.get("MaxResults") or PAGE
    return shown_page(
        await call.services.history.search(search, limit, call.input.get("NextToken"))
    )


def shown_page(page: Page) -> Json:
    """Returns a page of events as the API shows it."""
    answer: Json = {"Events": [event_document(event) for event in page.events]}
    if page.next_token is not None:
        answer["NextToken"] = page.next_token
    return answer


def _attribute(attributes: list[Json], insight: bool) -> tuple[str, str] | None:
    if not attributes:
        return None
    if len(attributes) > 1:
        raise _bad_attributes("At most one lookup attribute is allowed.")
    key, value = attributes[0]["AttributeKey"], attributes[0]["AttributeValue"]
    allowed = _INSIGHT_KEYS if insight else LOOKUP_KEYS
    if key not in allowed:
        raise _bad_attributes(f"Lookup attribute {key} must be one of {', '.join(allowed)}.")
    if key == "ReadOnly" and value not in ("true", "false"):
        raise _bad_attributes("The value of lookup attribute ReadOnly must be true or false.")
    return key, value


def _bad_attributes(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidLookupAttributesException", message)
