"""Lists of what cannot be created yet: event data stores, channels, dashboards, imports."""

from __future__ import annotations

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json

_ERRORS = {"MaxResults": "InvalidMaxResultsException", "NextToken": "InvalidNextTokenException"}


@operation("ListEventDataStores", errors=_ERRORS)
async def list_event_data_stores(call: OperationCall) -> Json:
    """Returns an empty list: event data stores cannot be created yet."""
    return _empty(call, "EventDataStores")


@operation("ListChannels", errors={"NextToken": "InvalidNextTokenException"})
async def list_channels(call: OperationCall) -> Json:
    """Returns an empty list: channels cannot be created yet."""
    return _empty(call, "Channels")


@operation("ListDashboards")
async def list_dashboards(call: OperationCall) -> Json:
    """Returns an empty list: dashboards cannot be created yet."""
    return _empty(call, "Dashboards")


@operation("ListImports", errors={"NextToken": "InvalidNextTokenException"})
async def list_imports(call: OperationCall) -> Json:
    """Returns an empty list: there is no event data store to import into yet."""
    return _empty(call, "Imports")


def _empty(call: OperationCall, member: str) -> Json:
    if call.input.get("NextToken") is not None:
        # There is only one page, so no token was ever issued.
        raise CloudTrailError("InvalidNextTokenException", "The next token is not valid.")
    return {member: []}
