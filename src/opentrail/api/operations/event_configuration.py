"""The operations on event configurations of trails, which so far aggregate no events."""

from __future__ import annotations

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.trail import Trail

_OF_STORE = ("EventDataStore", "MaxEventSize", "ContextKeySelectors")


@operation(
    "PutEventConfiguration",
    without=(*_OF_STORE, "AggregationConfigurations"),
    either=(("TrailName",), _OF_STORE),
)
async def put_event_configuration(call: OperationCall) -> Json:
    """Accepts an empty list of aggregation configurations, which every trail has."""
    return _configuration((await call.trail_to_change(call.input.get("TrailName", ""))).trail)


@operation(
    "GetEventConfiguration",
    without=("EventDataStore",),
    either=(("TrailName",), ("EventDataStore",)),
)
async def get_event_configuration(call: OperationCall) -> Json:
    """Returns the event configuration of a trail."""
    name = call.input.get("TrailName", "")
    return _configuration((await call.services.trails.find(call.account, call.region, name)).trail)


def _configuration(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, "AggregationConfigurations": []}
