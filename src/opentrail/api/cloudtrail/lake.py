"""The operations on event data stores and on queries."""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.arns import STORE, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, Unsupported
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, NETWORK_ACTIVITY, Json
from opentrail.lake.event_history import NAME, store_arn, store_id
from opentrail.lake.queries import KEPT, Queries
from opentrail.ports.queries import ResultPlace, StoredQuery

_PAGE = 1_000
_CATEGORIES = (MANAGEMENT, DATA, NETWORK_ACTIVITY, INSIGHT)
_MICROS = 1_000


def _queries(call: OperationCall) -> Queries:
    if call.services.queries is None:
        raise Unsupported("SQL on a cluster of servers")
    return call.services.queries


def _arn(call: OperationCall) -> str:
    return store_arn(call.region, call.account)


def _check_store(call: OperationCall, member: str = "EventDataStore") -> None:
    """Returns if a member names the store `event_history` of the account, by ARN, id or name.

    Raises:
        CloudTrailError: `EventDataStoreARNInvalidException` or `EventDataStoreNotFoundException`.
    """
    given = call.input.get(member)
    if given is None or given in (NAME, store_id(call.account)):
        return
    if given.startswith("arn:"):
        arn = read_cloudtrail_arn(given)
        if arn is None or arn.type != STORE:
            message = f"{given} is not the ARN of an event data store."
            raise CloudTrailError("EventDataStoreARNInvalidException", message)
        if arn.account == call.account and arn.name == store_id(call.account):
            return
    raise CloudTrailError(
        "EventDataStoreNotFoundException", f"Event data store {given} does not exist."
    )


@operation(
    "ListEventDataStores",
    errors={"MaxResults": "InvalidMaxResultsException", "NextToken": "InvalidNextTokenException"},
)
async def list_event_data_stores(call: OperationCall) -> Json:
    """Returns the store `event_history`, which each account has."""
    _token(call, "stores")
    return {"EventDataStores": [{"EventDataStoreArn": _arn(call), "Name": NAME}]}


@operation("GetEventDataStore")
async def get_event_data_store(call: OperationCall) -> Json:
    """Returns what the store `event_history` contains, and for how long."""
    _check_store(call)
    history = call.services.history
    days = (call.services.clock.now() - history.kept_since) // timedelta(days=1)
    return {
        "EventDataStoreArn": _arn(call),
        "Name": NAME,
        "Status": "ENABLED",
        "AdvancedEventSelectors": [
            {
                "Name": f"{category} events",
                "FieldSelectors": [{"Field": "eventCategory", "Equals": [category]}],
            }
            for category in _CATEGORIES
        ],
        "MultiRegionEnabled": True,
        "OrganizationEnabled": False,
        "RetentionPeriod": days,
        "TerminationProtectionEnabled": True,
        "FederationStatus": "DISABLED",
        "BillingMode": "EXTENDABLE_RETENTION_PRICING",
    }


@operation(
    "StartQuery",
    without=("QueryAlias", "QueryParameters", "EventDataStoreOwnerAccountId"),
)
async def start_query(call: OperationCall) -> Json:
    """Starts a query over the events of the caller's account."""
    statement = call.input.get("QueryStatement")
    if statement is None:
        raise CloudTrailError("InvalidParameterException", "QueryStatement must be given.")
    queries, place = _queries(call), None
    uri = call.input.get("DeliveryS3Uri")
    if uri is not None:
        await queries.delivery.verify(uri, _arn(call))
        place = ResultPlace(uri, call.region)
    query = await queries.start(statement, call.account, [call.account], place)
    return {"QueryId": query.id}


@operation("DescribeQuery", without=("QueryAlias", "RefreshId", "EventDataStoreOwnerAccountId"))
async def describe_query(call: OperationCall) -> Json:
    """Returns the state of a query, and what it read; without an id, of the newest."""
    _check_store(call)
    query = _found(call)
    statistics = query.statistics
    ended = query.ended if query.ended is not None else call.services.clock.now().timestamp()
    return {
        "QueryId": query.id,
        "QueryString": query.statement,
        "QueryStatus": query.status,
        "QueryStatistics": {
            "EventsMatched": statistics.rows if statistics else 0,
            "EventsScanned": statistics.events if statistics else 0,
            "BytesScanned": statistics.bytes if statistics else 0,
            "ExecutionTimeInMillis": int((ended - query.created) * _MICROS),
            "CreationTime": query.created,
        },
        **({"ErrorMessage": query.error} if query.error else {}),
        **(
            {"DeliveryS3Uri": query.place.uri, "DeliveryStatus": query.place.status}
            if query.place
            else {}
        ),
    }


def _found(call: OperationCall) -> StoredQuery:
    query_id = call.input.get("QueryId")
    if query_id is None:
        raise CloudTrailError("InvalidParameterException", "QueryId must be given.")
    return _queries(call).find(query_id, call.account)


@operation(
    "GetQueryResults",
    without=("EventDataStoreOwnerAccountId",),
    errors={"MaxQueryResults": "InvalidMaxResultsException"},
)
async def get_query_results(call: OperationCall) -> Json:
    """Returns a page of a query's rows; a row is a list of one map per column."""
    _check_store(call)
    query = _found(call)
    limit = call.input.get("MaxQueryResults") or _PAGE
    first = _token(call, query.id)
    rows = await _queries(call).rows(query, first, limit)
    total = query.statistics.rows if query.statistics else 0
    answer: Json = {
        "QueryStatus": query.status,
        "QueryStatistics": {
            "ResultsCount": len(rows),
            "TotalResultsCount": total,
            "BytesScanned": query.statistics.bytes if query.statistics else 0,
        },
        "QueryResultRows": [
            # NULL is an empty string, as clients expect strings.
            [{name: text or ""} for (name, _), text in zip(query.columns, row, strict=True)]
            for row in rows
        ],
    }
    if first + len(rows) < total and rows:
        answer["NextToken"] = _next(query.id, first + len(rows))
    if query.error:
        answer["ErrorMessage"] = query.error
    return answer


@operation(
    "ListQueries",
    errors={
        "QueryStatus": "InvalidQueryStatusException",
        "MaxResults": "InvalidMaxResultsException",
    },
)
async def list_queries(call: OperationCall) -> Json:
    """Returns the account's queries of the last seven days, newest first."""
    _check_store(call)
    start, end = call.times("InvalidDateRangeException")
    status = call.input.get("QueryStatus")
    since = (start or call.services.clock.now() - KEPT).timestamp()
    found = [
        query
        for query in _queries(call).of(call.account)
        if query.created >= since
        and (end is None or query.created <= end.timestamp())
        and status in (None, query.status)
    ]
    first, limit = _token(call, "queries"), call.input.get("MaxResults") or _PAGE
    page = found[first : first + limit]
    answer: Json = {
        "Queries": [
            {"QueryId": each.id, "QueryStatus": each.status, "CreationTime": each.created}
            for each in page
        ]
    }
    if first + len(page) < len(found):
        answer["NextToken"] = _next("queries", first + len(page))
    return answer


@operation("CancelQuery", without=("EventDataStoreOwnerAccountId",))
async def cancel_query(call: OperationCall) -> Json:
    """Ends a running query."""
    _check_store(call)
    query = await _queries(call).cancel(_found(call))
    return {"QueryId": query.id, "QueryStatus": query.status}


def _next(of: str, first: int) -> str:
    return base64.urlsafe_b64encode(f"{of} {first}".encode()).decode()


def _token(call: OperationCall, of: str) -> int:
    """Returns the first row of a page.

    Raises:
        CloudTrailError: `InvalidNextTokenException`: the token belongs to something else.
    """
    token = call.input.get("NextToken")
    if token is None:
        return 0
    try:
        owner, _, first = base64.urlsafe_b64decode(token).decode().rpartition(" ")
        if owner == of and first.isdecimal():
            return int(first)
    except (ValueError, binascii.Error):
        pass
    raise CloudTrailError("InvalidNextTokenException", "NextToken is not a token of this list.")
