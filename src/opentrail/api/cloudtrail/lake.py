"""The operations on queries."""

from __future__ import annotations

from opentrail.api.cloudtrail.operation import OperationCall, operation, page_token
from opentrail.api.cloudtrail.stores import check_store
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.lake import samples
from opentrail.lake.event_history import store_arn
from opentrail.lake.queries import KEPT
from opentrail.ports.queries import ResultPlace, StoredQuery

_PAGE = 1_000
_SAMPLES_PAGE = 10
_MICROS = 1_000


@operation(
    "StartQuery",
    without=("QueryAlias", "QueryParameters", "EventDataStoreOwnerAccountId"),
)
async def start_query(call: OperationCall) -> Json:
    """Starts a query over the events of the caller's account."""
    statement = call.input.get("QueryStatement")
    if statement is None:
        raise CloudTrailError("InvalidParameterException", "QueryStatement must be given.")
    queries, place = call.services.sql, None
    uri = call.input.get("DeliveryS3Uri")
    if uri is not None:
        await queries.delivery.verify(uri, store_arn(call.region, call.account))
        place = ResultPlace(uri, call.region)
    query = await queries.start(statement, call.account, [call.account], place, call.region)
    return {"QueryId": query.id}


@operation("DescribeQuery", without=("QueryAlias", "RefreshId", "EventDataStoreOwnerAccountId"))
async def describe_query(call: OperationCall) -> Json:
    """Returns the state and statistics of a query; without an id, of the newest one."""
    await check_store(call)
    query = await _found(call)
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


async def _found(call: OperationCall) -> StoredQuery:
    query_id = call.input.get("QueryId")
    if query_id is None:
        raise CloudTrailError("InvalidParameterException", "QueryId must be given.")
    return await call.services.sql.find(query_id, call.account)


@operation(
    "GetQueryResults",
    without=("EventDataStoreOwnerAccountId",),
    errors={"MaxQueryResults": "InvalidMaxResultsException"},
)
async def get_query_results(call: OperationCall) -> Json:
    """Returns a page of a query's rows; a row is a list of one map per column."""
    await check_store(call)
    query = await _found(call)
    limit = call.input.get("MaxQueryResults") or _PAGE
    first = call.first_in_page(query.id)
    rows = await call.services.sql.rows(query, first, limit)
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
        answer["NextToken"] = page_token(query.id, first + len(rows))
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
    await check_store(call)
    start, end = call.times("InvalidDateRangeException")
    status = call.input.get("QueryStatus")
    since = (start or call.services.clock.now() - KEPT).timestamp()
    found = [
        query
        for query in await call.services.sql.of(call.account)
        if query.created >= since
        and (end is None or query.created <= end.timestamp())
        and status in (None, query.status)
    ]
    page, following = call.page("queries", found, _PAGE)
    return {
        "Queries": [
            {"QueryId": each.id, "QueryStatus": each.status, "CreationTime": each.created}
            for each in page
        ],
        **following,
    }


@operation("CancelQuery", without=("EventDataStoreOwnerAccountId",))
async def cancel_query(call: OperationCall) -> Json:
    """Ends a running query."""
    await check_store(call)
    query = await call.services.sql.cancel(await _found(call))
    return {"QueryId": query.id, "QueryStatus": query.status}


@operation(
    "SearchSampleQueries",
    errors=dict.fromkeys(("SearchPhrase", "MaxResults", "NextToken"), "InvalidParameterException"),
)
async def search_sample_queries(call: OperationCall) -> Json:
    """Returns the sample queries for a phrase, most relevant first."""
    found = samples.search(call.input["SearchPhrase"])
    page, following = call.page("samples", found, _SAMPLES_PAGE)
    return {
        "SearchResults": [
            {
                "Name": sample.name,
                "Description": sample.description,
                "SQL": sample.statement,
                "Relevance": relevance,
            }
            for sample, relevance in page
        ],
        **following,
    }
