"""The operations on queries."""

from __future__ import annotations

from opentrail.api.cloudtrail.operation import OperationCall, operation, page_token
from opentrail.api.cloudtrail.stores import queried_store
from opentrail.api.services import Services
from opentrail.core.arns import CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, Unsupported
from opentrail.core.event import Json
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake import samples
from opentrail.lake.event_history import store_arn
from opentrail.lake.queries import KEPT
from opentrail.ports.queries import ResultPlace, StoredQuery

_PAGE = 1_000
_SAMPLES_PAGE = 10
_MICROS = 1_000
_OWNER = "EventDataStoreOwnerAccountId"


#: Members, of CloudTrail's and of Athena's operations, with the statement or the ids of queries.
_STATEMENTS = ("QueryStatement", "QueryString")
_QUERIES = ("QueryId", "QueryExecutionId", "QueryExecutionIds")


async def stores_read(
    given: Json, account: str, region: str, services: Services
) -> list[CloudTrailArn] | None:
    """Returns the stores that the queries of a call read; None for a call about no query.

    Policies decide on them, whatever else the call names. A query that the caller's account does
    not have reads nothing, and the operation will refuse it.

    Raises:
        CloudTrailError: `QueryIdNotFoundException`, for a query of another account's stores.
        NoHistory: this server has no queries.
    """
    if all(given.get(member) is None for member in (*_STATEMENTS, *_QUERIES)):
        return None
    owner = given.get(_OWNER) or account
    stores, asker = services.sql.stores, _asker(account, owner)
    arns: dict[str, CloudTrailArn] = {}
    for member in (each for each in _STATEMENTS if given.get(each) is not None):
        arns |= {str(arn): arn for arn in await stores.read_by(given[member], owner, region)}
    for member in (each for each in _QUERIES if given.get(each) is not None):
        ids = given[member] if isinstance(given[member], list) else [given[member]]
        for query_id in ids:
            try:
                query = await services.sql.find(query_id, asker)
            except CloudTrailError:
                if owner != account:
                    raise
                continue
            if query.reads is not None:
                read = [arn for text in query.reads if (arn := read_cloudtrail_arn(text))]
            else:
                read = await stores.read_by(query.statement, owner, region)
            arns |= {str(arn): arn for arn in read}
    return list(arns.values())


def _asker(account: str, owner: str) -> str:
    """Returns who owns an account's queries of an owner's stores."""
    return account if account == owner else f"{account}/{owner}"


def _owner(call: OperationCall) -> str:
    """Returns the account whose stores a call queries.

    Raises:
        Unsupported: policies do not decide on calls, so accounts share nothing.
    """
    owner: str = call.input.get(_OWNER) or call.account
    if owner != call.account and not call.shared:
        raise Unsupported("event data stores of other accounts without --auth verify or enforced")
    return owner


def _with_owner(call: OperationCall, answer: Json) -> Json:
    """Returns the answer, with the owner of the stores if the call names it."""
    return {**answer, _OWNER: call.input[_OWNER]} if _OWNER in call.input else answer


@operation(
    "StartQuery",
    without=("QueryAlias", "QueryParameters"),
)
async def start_query(call: OperationCall) -> Json:
    """Starts a query over the caller's events, or over stores that another account shares."""
    statement = call.input.get("QueryStatement")
    if statement is None:
        raise CloudTrailError("InvalidParameterException", "QueryStatement must be given.")
    queries, place = call.services.sql, None
    uri = call.input.get("DeliveryS3Uri")
    if uri is not None:
        own = store_arn(call.region, call.account)
        await queries.delivery.verify(uri, own, call.may_write(uri))
        place = ResultPlace(uri, call.region)
    owner = _owner(call)
    query = await queries.start(
        statement,
        _asker(call.account, owner),
        [owner],
        place,
        call.region,
        shared=None if owner == call.account else call.shared,
        reads=call.reads,
    )
    return _with_owner(call, {"QueryId": query.id})


@operation("DescribeQuery", without=("QueryAlias", "RefreshId"))
async def describe_query(call: OperationCall) -> Json:
    """Returns the state and statistics of a query; without an id, of the newest one."""
    await queried_store(call)
    query = await _found(call)
    statistics = query.statistics
    ended = query.ended if query.ended is not None else call.services.clock.now().timestamp()
    answer = {
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
    return _with_owner(call, answer)


async def _found(call: OperationCall) -> StoredQuery:
    query_id = call.input.get("QueryId")
    if query_id is None:
        raise CloudTrailError("InvalidParameterException", "QueryId must be given.")
    return await call.services.sql.find(query_id, _asker(call.account, _owner(call)))


@operation(
    "GetQueryResults",
    errors={"MaxQueryResults": "InvalidMaxResultsException"},
)
async def get_query_results(call: OperationCall) -> Json:
    """Returns a page of a query's rows; a row is a list of one map per column."""
    await queried_store(call)
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
    """Returns the account's queries of a store in the last seven days, newest first.

    Queries of no store count as queries of `event_history`.
    """
    store = await queried_store(call)
    asker = _asker(call.account, store.account if store else call.account)
    start, end = call.times("InvalidDateRangeException")
    status = call.input.get("QueryStatus")
    since = (start or call.services.clock.now() - KEPT).timestamp()
    found = [
        query
        for query in await call.services.sql.of(asker)
        if query.created >= since
        and (end is None or query.created <= end.timestamp())
        and status in (None, query.status)
        and await _reads(call, query, store)
    ]
    page, following = call.page("queries", found, _PAGE)
    return {
        "Queries": [
            {"QueryId": each.id, "QueryStatus": each.status, "CreationTime": each.created}
            for each in page
        ],
        **following,
    }


async def _reads(call: OperationCall, query: StoredQuery, store: EventDataStore | None) -> bool:
    """Returns whether a query reads a store; None: `event_history`, or no store."""
    owner = store.account if store else call.account
    reads = query.reads
    if reads is None:
        stores = call.services.sql.stores
        reads = [str(arn) for arn in await stores.read_by(query.statement, owner, call.region)]
    if store is None:
        return not reads or store_arn(call.region, call.account) in reads
    return str(store.arn) in reads


@operation("CancelQuery")
async def cancel_query(call: OperationCall) -> Json:
    """Ends a running query."""
    await queried_store(call)
    query = await call.services.sql.cancel(await _found(call))
    return _with_owner(call, {"QueryId": query.id, "QueryStatus": query.status})


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
