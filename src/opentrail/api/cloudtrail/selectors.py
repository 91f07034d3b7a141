"""The operations on what a trail selects: events, Insights types, and aggregations."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.insight_types import check_insights, insight_selectors
from opentrail.core.selectors import Selection, SelectorOwner, read_selection
from opentrail.core.selectors.known_types import KNOWN_TYPES
from opentrail.core.trail import Trail
from opentrail.trails.registry import StoredTrail

log = logging.getLogger(__name__)

_REFUSED = "InvalidEventSelectorsException"
#: Members of calls about an event data store; the others are about a trail.
_INSIGHT_MEMBERS = ("EventDataStore", "InsightsDestination")
_AGGREGATION_MEMBERS = ("EventDataStore", "MaxEventSize", "ContextKeySelectors")


async def _changed(call: OperationCall, stored: StoredTrail, **members: Any) -> Trail:
    """Changes what a trail selects from this call on, and returns the trail."""
    trail = replace(stored.trail, **members)
    reconfigured = trail.reconfigured(call.event_id, call.services.journal.head, call.now())
    await call.services.trails.change(stored, reconfigured)
    call.settle_when_recorded(reconfigured)
    return trail


@operation(
    "PutEventSelectors",
    errors={"EventSelectors": _REFUSED, "AdvancedEventSelectors": _REFUSED},
)
async def put_event_selectors(call: OperationCall) -> Json:
    """Sets the events that a trail selects from this call on; each kind replaces the other."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selection = read_selection(call.input, SelectorOwner.TRAIL)
    trail = await _changed(call, stored, selectors=selection.document())
    _warn_of_unknown_types(trail, selection)
    return _events(trail)


@operation("GetEventSelectors")
async def get_event_selectors(call: OperationCall) -> Json:
    """Returns the event selectors of a trail, basic or advanced."""
    name = call.input["TrailName"]
    stored = await call.services.trails.find(call.account, call.region, name)
    return _events(stored.trail)


def _events(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, **Selection.from_document(trail.selectors).document()}


def _warn_of_unknown_types(trail: Trail, selection: Selection) -> None:
    """Warns about unknown resource types: AWS often adds types, but it may be a misspelling."""
    unknown = sorted(selection.resource_types - KNOWN_TYPES)
    if unknown:
        extra = {"trail": trail.arn, "types": unknown}
        log.warning("event selectors name resource types that are not known", extra=extra)


@operation(
    "PutInsightSelectors",
    without=_INSIGHT_MEMBERS,
    errors={"InsightSelectors": "InvalidInsightSelectorsException"},
    either=(("TrailName",), _INSIGHT_MEMBERS),
)
async def put_insight_selectors(call: OperationCall) -> Json:
    """Sets the Insights types of a trail from this call on; an empty list turns Insights off."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selectors = insight_selectors(call.input["InsightSelectors"])
    selection = Selection.from_document(stored.trail.selectors)
    check_insights(selectors, selection, stored.trail.arn)
    documents = [selector.to_json() for selector in selectors]
    trail = await _changed(call, stored, insight_selectors=documents)
    return _insights(trail)


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
    return _insights(trail)


def _insights(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, "InsightSelectors": trail.insight_selectors}


@operation(
    "PutEventConfiguration",
    without=(*_AGGREGATION_MEMBERS, "AggregationConfigurations"),
    either=(("TrailName",), _AGGREGATION_MEMBERS),
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
