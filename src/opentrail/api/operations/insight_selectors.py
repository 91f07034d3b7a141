"""GetInsightSelectors, of trails that have no Insights."""

from __future__ import annotations

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.errors import CloudTrailError


@operation("GetInsightSelectors", without=("EventDataStore",))
async def get_insight_selectors(call: OperationCall) -> Json:
    """Raises AWS's error for a trail without Insights, which every trail is."""
    name = call.input.get("TrailName")
    if name is None:
        raise CloudTrailError(
            "InvalidParameterCombinationException",
            "You must specify either a TrailName or an EventDataStore.",
        )
    stored = await call.services.trails.find(call.account, call.region, name)
    raise CloudTrailError(
        "InsightNotEnabledException",
        f"Trail {stored.trail.arn} does not have Insights enabled. Edit the trail settings to "
        "enable Insights, and then try the operation again.",
    )
