"""ListEventDataStores, while there are no event data stores."""

from __future__ import annotations

from opentrail.api.operation import Json, OperationCall, operation
from opentrail.core.errors import CloudTrailError


@operation(
    "ListEventDataStores",
    errors={"MaxResults": "InvalidMaxResultsException", "NextToken": "InvalidNextTokenException"},
)
async def list_event_data_stores(call: OperationCall) -> Json:
    """Returns an empty list: event data stores cannot be created yet."""
    if call.input.get("NextToken") is not None:
        # There is only one page, so no token was ever issued.
        raise CloudTrailError("InvalidNextTokenException", "The next token is not valid.")
    return {"EventDataStores": []}
