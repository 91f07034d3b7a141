"""Amazon Athena's API over SQL queries, for clients that speak only Athena.

Clients use it by the endpoint's path `/athena`. The tables of the database `default` are
`event_history` and the created event data stores. Source: "Actions" of the Athena API Reference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from opentrail.api.cloudtrail.operation import first_in_page, page_of, page_token
from opentrail.api.services import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import MANAGEMENT, Json
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.types import Type
from opentrail.lake.event_history import NAME, schema, store_arn
from opentrail.lake.queries import Queries
from opentrail.ports.queries import QueryStatus, ResultPlace, StoredQuery

CATALOG = "AwsDataCatalog"
DATABASE = "default"
WORK_GROUP = "opentrail"
#: Maximum rows, and items of a list, in a page.
_PAGE, _LIST_PAGE = 1_000, 50
#: The word of page tokens.
_LIST = "row"
_STATES: dict[QueryStatus, str] = {
    "QUEUED": "QUEUED",
    "RUNNING": "RUNNING",
    "FINISHED": "SUCCEEDED",
    "FAILED": "FAILED",
    "TIMED_OUT": "FAILED",
    "CANCELLED": "CANCELLED",
}
_VERSION = {"SelectedEngineVersion": "AUTO", "EffectiveEngineVersion": "Athena engine version 3"}
#: Hive's names of Trino's types.
_HIVE = {"varchar": "string", "integer": "int"}


class AthenaCall(NamedTuple):
    """A call of Athena's API."""

    input: Json
    account: str
    region: str
    services: Services
    #: The ARNs of the stores that its queries read; None for a call about no query.
    reads: list[str] | None
    #: Returns whether policies let the caller write to a URI; None if they do not decide.
    may_write: Callable[[str], bool | None]

    @property
    def queries(self) -> Queries:
        """The queries."""
        return self.services.sql

    async def tables(self) -> dict[str, str]:
        """Returns the families of the tables by name: event history, and the account's stores."""
        families = {NAME: MANAGEMENT}
        if self.services.stores is not None:
            for store in await self.services.stores.of(self.account, self.region):
                if store.deleted_at is None:
                    families[store.name.lower()] = store.family
        return families


Handler = Callable[[AthenaCall], Awaitable[Json]]


class AthenaOperation(NamedTuple):
    """What answers an operation, and CloudTrail's operation that a caller must be allowed."""

    handler: Handler
    permission: str


OPERATIONS: dict[str, AthenaOperation] = {}


def _operation(name: str, permission: str = "ListEventDataStores") -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        OPERATIONS[name] = AthenaOperation(handler, permission)
        return handler

    return register


async def answer(name: str, call: AthenaCall) -> Json:
    """Answers a call whose input matches AWS's model.

    Raises:
        CloudTrailError: with Athena's error codes.
    """
    for member in ("ExecutionParameters", "AcknowledgedS3Uri"):
        if call.input.get(member):
            raise _invalid(f"{member} is not supported")
    try:
        return await OPERATIONS[name].handler(call)
    except CloudTrailError as error:
        if error.code == "MaxConcurrentQueriesException":
            raise CloudTrailError("TooManyRequestsException", error.message) from error
        if error.code in ("MetadataException", "InvalidRequestException"):
            raise
        raise _invalid(error.message) from error


def _invalid(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidRequestException", message)


@_operation("StartQueryExecution", "StartQuery")
async def start_query_execution(call: AthenaCall) -> Json:
    """Starts a query over the events of the caller's account."""
    group = call.input.get("WorkGroup")
    if group not in (None, "primary", WORK_GROUP):
        raise _invalid(f"WorkGroup {group} is not found.")
    uri = call.input.get("ResultConfiguration", {}).get("OutputLocation")
    if uri is not None:
        own = store_arn(call.region, call.account)
        await call.queries.delivery.verify(uri, own, call.may_write(uri))
    place = None if uri is None else ResultPlace(uri)
    statement = call.input["QueryString"]
    query = await call.queries.start(
        statement, call.account, [call.account], place, call.region, reads=call.reads
    )
    return {"QueryExecutionId": query.id}


@_operation("StopQueryExecution", "CancelQuery")
async def stop_query_execution(call: AthenaCall) -> Json:
    """Ends a running query; an ended one is unchanged."""
    query = await call.queries.find(call.input["QueryExecutionId"], call.account)
    if _STATES[query.status] in ("QUEUED", "RUNNING"):
        await call.queries.cancel(query)
    return {}


@_operation("GetQueryExecution", "DescribeQuery")
async def get_query_execution(call: AthenaCall) -> Json:
    """Returns the state of a query."""
    query = await call.queries.find(call.input["QueryExecutionId"], call.account)
    return {"QueryExecution": _execution(query)}


@_operation("BatchGetQueryExecution", "DescribeQuery")
async def batch_get_query_execution(call: AthenaCall) -> Json:
    """Returns the states of queries; unknown ids are listed apart."""
    own = {query.id: query for query in await call.queries.of(call.account)}
    ids = call.input["QueryExecutionIds"]
    return {
        "QueryExecutions": [_execution(own[each]) for each in ids if each in own],
        "UnprocessedQueryExecutionIds": [
            {"QueryExecutionId": each, "ErrorCode": "INVALID_INPUT", "ErrorMessage": "not found"}
            for each in ids
            if each not in own
        ],
    }


@_operation("ListQueryExecutions", "ListQueries")
async def list_query_executions(call: AthenaCall) -> Json:
    """Returns the ids of the account's queries, newest first."""
    ids = [query.id for query in await call.queries.of(call.account)]
    page, token = _page(call, ids)
    return {"QueryExecutionIds": page, **token}


def _execution(query: StoredQuery) -> Json:
    status: Json = {"State": _STATES[query.status], "SubmissionDateTime": query.created}
    if query.ended is not None:
        status["CompletionDateTime"] = query.ended
    if query.status == "CANCELLED":
        status["StateChangeReason"] = "Query cancelled by user"  # Grafana's plugin reads it
    if query.error:
        status["StateChangeReason"] = query.error
        status["AthenaError"] = {"ErrorCategory": 2, "ErrorMessage": query.error}
    ended = query.ended if query.ended is not None else query.created
    return {
        "QueryExecutionId": query.id,
        "Query": query.statement,
        "StatementType": "DML",
        "SubstatementType": "SELECT",
        "ResultConfiguration": _configuration(query),
        "QueryExecutionContext": {"Database": DATABASE, "Catalog": CATALOG},
        "Status": status,
        "Statistics": {
            "EngineExecutionTimeInMillis": int((ended - query.created) * 1_000),
            "TotalExecutionTimeInMillis": int((ended - query.created) * 1_000),
            "DataScannedInBytes": query.statistics.bytes if query.statistics else 0,
        },
        "WorkGroup": WORK_GROUP,
        "EngineVersion": _VERSION,
    }


def _configuration(query: StoredQuery) -> Json:
    if query.place is None:
        return {}
    return {"OutputLocation": f"{query.place.uri.rstrip('/')}/{query.id}.csv"}


@_operation("GetQueryResults", "GetQueryResults")
async def get_query_results(call: AthenaCall) -> Json:
    """Returns rows of a finished query; the first row of the first page has the names."""
    query = await call.queries.find(call.input["QueryExecutionId"], call.account)
    if query.status != "FINISHED":
        state = _STATES[query.status]
        raise _invalid(f"Query has not yet finished. Current state: {state}")
    first, limit = _first(call), call.input.get("MaxResults") or _PAGE
    # The header counts as the first row.
    rows: list[list[str | None]] = [[name for name, _ in query.columns]] if first == 0 else []
    rows += await call.queries.rows(query, max(first - 1, 0), limit - len(rows))
    end, total = first + len(rows), 1 + (query.statistics.rows if query.statistics else 0)
    return {
        "UpdateCount": 0,
        "ResultSet": {
            "Rows": [
                {"Data": [{} if text is None else {"VarCharValue": text} for text in row]}
                for row in rows
            ],
            "ResultSetMetadata": {"ColumnInfo": [_column(*each) for each in query.columns]},
        },
        **({"NextToken": page_token(_LIST, end)} if end < total and rows else {}),
    }


def _column(name: str, kind: str) -> Json:
    base = kind.partition("(")[0]
    shown = f"{base} with time zone" if kind.endswith("with time zone") else base
    precision, scale = {
        "integer": (10, 0),
        "bigint": (19, 0),
        "double": (17, 0),
        "varchar": (2_147_483_647, 0),
        "timestamp": (3, 0),
    }.get(base, (0, 0))
    if base == "decimal":
        precision, scale = map(int, kind[8:-1].split(","))
    return {
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": name,
        "Label": name,
        "Type": shown,
        "Precision": precision,
        "Scale": scale,
        "Nullable": "UNKNOWN",
        "CaseSensitive": base == "varchar",
    }


# What there is to query


@_operation("ListWorkGroups")
async def list_work_groups(call: AthenaCall) -> Json:
    """Returns the one workgroup."""
    summary = {"Name": WORK_GROUP, "State": "ENABLED", "EngineVersion": _VERSION}
    return {"WorkGroups": [summary]}


@_operation("GetWorkGroup")
async def get_work_group(call: AthenaCall) -> Json:
    """Returns the workgroup; `primary`, the default of clients, is the same."""
    name = call.input["WorkGroup"]
    if name not in ("primary", WORK_GROUP):
        raise _invalid(f"WorkGroup {name} is not found.")
    configuration = {"EnforceWorkGroupConfiguration": False, "EngineVersion": _VERSION}
    return {"WorkGroup": {"Name": name, "State": "ENABLED", "Configuration": configuration}}


@_operation("ListDataCatalogs")
async def list_data_catalogs(call: AthenaCall) -> Json:
    """Returns the one catalog."""
    return {"DataCatalogsSummary": [{"CatalogName": CATALOG, "Type": "GLUE"}]}


@_operation("ListDatabases")
async def list_databases(call: AthenaCall) -> Json:
    """Returns the one database."""
    return {"DatabaseList": [{"Name": DATABASE}]}


@_operation("GetDatabase")
async def get_database(call: AthenaCall) -> Json:
    """Returns the database."""
    _check_database(call)
    return {"Database": {"Name": DATABASE}}


@_operation("ListTableMetadata")
async def list_table_metadata(call: AthenaCall) -> Json:
    """Returns the tables with their columns."""
    _check_database(call)
    tables, token = _page(call, list((await call.tables()).items()))
    return {"TableMetadataList": [_table(name, family) for name, family in tables], **token}


@_operation("GetTableMetadata")
async def get_table_metadata(call: AthenaCall) -> Json:
    """Returns a table with its columns."""
    _check_database(call)
    name = call.input["TableName"]
    family = (await call.tables()).get(name.lower())
    if family is None:
        raise CloudTrailError("MetadataException", f"Table {name} not found.")
    return {"TableMetadata": _table(name.lower(), family)}


def _check_database(call: AthenaCall) -> None:
    name = call.input["DatabaseName"]
    if name.lower() != DATABASE:
        raise CloudTrailError("MetadataException", f"Database {name} not found.")


def _table(name: str, family: str) -> Json:
    columns = [
        {"Name": column.lower(), "Type": hive_type(lowered(kind))}
        for column, kind in schema(family).items()
    ]
    return {"Name": name, "TableType": "EXTERNAL_TABLE", "Columns": columns, "PartitionKeys": []}


def hive_type(kind: Type) -> str:
    """Returns Hive's name of a type, which table metadata has.

    >>> from opentrail.lake.dialect.types import parse_type
    >>> hive_type(parse_type("array(row(arn varchar))"))
    'array<struct<arn:string>>'
    """
    if kind.name == "row":
        pairs = zip(kind.fields, kind.args, strict=True)
        return f"struct<{','.join(f'{name}:{hive_type(each)}' for name, each in pairs)}>"
    if kind.args:
        return f"{kind.name}<{','.join(map(hive_type, kind.args))}>"
    if kind.name == "decimal":
        return f"decimal({kind.precision},{kind.scale})"
    return _HIVE.get(kind.name, kind.name)


# Pages


def _page(call: AthenaCall, items: Sequence[Any]) -> tuple[Sequence[Any], Json]:
    return page_of(_LIST, items, _first(call), call.input.get("MaxResults") or _LIST_PAGE)


def _first(call: AthenaCall) -> int:
    first = first_in_page(_LIST, call.input.get("NextToken"))
    if first is None:
        raise _invalid("NextToken is not valid.")
    return first
