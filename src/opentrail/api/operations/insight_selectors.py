"""The operations on the insight selectors of trails."""

from __future__ import annotations

from dataclasses import replace

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.errors import CloudTrailError
from opentrail.core.insight_types import check_insights, insight_selectors
from opentrail.core.selectors import Selection
from opentrail.core.trail import Trail

#: A call is about a trail or about an event data store.
_OF_STORE = ("EventDataStore", "InsightsDestination")


@operation(
    "PutInsightSelectors",
    without=_OF_STORE,
    errors={"InsightSelectors": "InvalidInsightSelectorsException"},
    either=(("TrailName",), _OF_STORE),
)
async def put_insight_selectors(call: OperationCall) -> Json:
    """Sets the Insights types of a trail from this call on; an empty list turns Insights off."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selectors = insight_selectors(call.input["InsightSelectors"])
    selection = Selection.from_document(stored.trail.selectors)
    check_insights(selectors, selection, stored.trail.arn)
    documents = [selector.to_json() for selector in selectors]
    trail = replace(stored.trail, insight_selectors=documents)
    reconfigured = trail.reconfigured(call.event_id, call.services.journal.head, call.now())
    await call.services.trails.change(stored, reconfigured)
    call.settle_when_recorded(reconfigured)
    return _selectors(trail)


@operation(
    "GetInsightSelectors",
    without=("EventDataStore",),
    either=(("TrailName",), ("EventDataStore",)),
)
async def get_insight_selectors(call: OperationCall) -> Json:
    """Returns the Insights types of a trail."""
    name = call.input["TrailName"]
    trail = (await call.services.trails.find(call.account, call.region, name)).trail
    if not trail.insight_selectors:
        raise CloudTrailError(
            "InsightNotEnabledException",
            f"Trail {trail.arn} does not have Insights enabled. Edit the trail settings to "
            "enable Insights, and then try the operation again.",
        )
    return _selectors(trail)


def _selectors(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, "InsightSelectors": trail.insight_selectors}
