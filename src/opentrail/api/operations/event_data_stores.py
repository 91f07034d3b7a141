"""ListEventDataStores, while there are no event data stores."""

from __future__ import annotations

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.errors import CloudTrailError


@operation(
    "ListEventDataStores",
    errors={"MaxResults": "InvalidMaxResultsException", "NextToken": "InvalidNextTokenException"},
)
async def list_event_data_stores(call: OperationCall) -> Json:
    """Returns an empty list: nothing makes an event data store yet."""
    if call.input.get("NextToken") is not None:
        # One page holds all there is, so no token was ever given out.
        raise CloudTrailError("InvalidNextTokenException", "The next token is not valid.")
    return {"EventDataStores": []}
