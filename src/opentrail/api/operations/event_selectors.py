"""The operations on the event selectors of trails."""

from __future__ import annotations

import logging
from dataclasses import replace

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.selectors import Selection, SelectorOwner, read_selection
from opentrail.core.selectors.known_types import KNOWN_TYPES
from opentrail.core.trail import Trail

log = logging.getLogger(__name__)

_REFUSED = "InvalidEventSelectorsException"


@operation(
    "PutEventSelectors",
    errors={"EventSelectors": _REFUSED, "AdvancedEventSelectors": _REFUSED},
)
async def put_event_selectors(call: OperationCall) -> Json:
    """Sets the events that a trail selects from this call on; each kind replaces the other."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selection = read_selection(call.input, SelectorOwner.TRAIL)
    trail = replace(stored.trail, selectors=selection.document())
    reconfigured = trail.reconfigured(call.event_id, call.services.journal.head, call.now())
    await call.services.trails.change(stored, reconfigured)
    call.settle_when_recorded(reconfigured)
    _warn_of_unknown_types(trail, selection)
    return _selectors(trail)


@operation("GetEventSelectors")
async def get_event_selectors(call: OperationCall) -> Json:
    """Returns the event selectors of a trail, basic or advanced."""
    name = call.input["TrailName"]
    stored = await call.services.trails.find(call.account, call.region, name)
    return _selectors(stored.trail)


def _selectors(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, **Selection.from_document(trail.selectors).document()}


def _warn_of_unknown_types(trail: Trail, selection: Selection) -> None:
    """Warns about unknown resource types: AWS often adds types, but it may be a misspelling."""
    unknown = sorted(selection.resource_types - KNOWN_TYPES)
    if unknown:
        extra = {"trail": trail.arn, "types": unknown}
        log.warning("event selectors name resource types that are not known", extra=extra)
