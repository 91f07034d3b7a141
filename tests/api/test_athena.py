"""Athena's operations over the queries of event history."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.api.athena import OPERATIONS, hive_type
from opentrail.lake.dialect.types import parse_type
from opentrail.lake.queries import MAX_ACTIVE
from tests.api.caller import Api
from tests.api.cloudtrail.test_channels import a_store
from tests.factories import ACCOUNT, an_identity, catalog
from tests.fakes import asynchronous

OTHER = "210987654321"
NOBODY = "00000000-0000-4000-8000-000000000000"
STATEMENT = "SELECT n FROM event_history"


async def ok(api: Api, operation: str, account: str = ACCOUNT, **given: Any) -> Any:
    """Returns the result of a call, which has the members that AWS's model has."""
    answer = await api.call(operation, account=account, target=f"AmazonAthena.{operation}", **given)
    assert answer.status == 200, answer.body
    shape = catalog().services["athena"].operation(operation)
    assert shape is not None
    assert shape.output_shape is not None
    assert set(answer.json) <= set(shape.output_shape.members)
    return answer.json


async def error(api: Api, operation: str, **given: Any) -> tuple[str, str]:
    answer = await api.call(operation, target=f"AmazonAthena.{operation}", **given)
    return answer.error


async def started(api: Api, statement: str = STATEMENT, **given: Any) -> str:
    answer = await ok(api, "StartQueryExecution", QueryString=statement, **given)
    return str(answer["QueryExecutionId"])


async def ended(api: Api, query_id: str) -> Any:
    queries = api.services.queries
    assert queries is not None
    await queries.wait(await queries.find(query_id, ACCOUNT), 60)
    return (await ok(api, "GetQueryExecution", QueryExecutionId=query_id))["QueryExecution"]


@asynchronous
async def test_query_ends_with_a_header_and_rows() -> None:
    api = Api()
    query_id = await started(api)
    state = await ended(api, query_id)
    assert state["Status"]["State"] == "SUCCEEDED"
    assert (state["Query"], state["WorkGroup"]) == (STATEMENT, "opentrail")
    assert state["Statistics"]["DataScannedInBytes"] == 1_000
    answer = await ok(api, "GetQueryResults", QueryExecutionId=query_id)
    rows = [[cell["VarCharValue"] for cell in r["Data"]] for r in answer["ResultSet"]["Rows"]]
    assert rows == [["n"], ["1"], ["2"], ["3"]]
    (column,) = answer["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    assert (column["Name"], column["Type"], column["Precision"]) == ("n", "integer", 10)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1_000])
@asynchronous
async def test_pages_have_each_row_once(size: int) -> None:
    api = Api()
    query_id = await started(api)
    await ended(api, query_id)
    rows: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await ok(api, "GetQueryResults", QueryExecutionId=query_id, MaxResults=size, **token)
        rows += [row["Data"][0]["VarCharValue"] for row in page["ResultSet"]["Rows"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert rows == ["n", "1", "2", "3"]


@pytest.mark.parametrize(
    ("statement", "state", "reason"),
    [("fails", "FAILED", "Division by zero"), ("slow", "CANCELLED", "Query cancelled by user")],
)
@asynchronous
async def test_unsuccessful_query_has_no_rows(
    statement: str, state: str, reason: str | None
) -> None:
    api = Api()
    query_id = await started(api, statement)
    await ok(api, "StopQueryExecution", QueryExecutionId=query_id)
    status = (await ended(api, query_id))["Status"]
    assert (status["State"], status.get("StateChangeReason")) == (state, reason)
    code, message = await error(api, "GetQueryResults", QueryExecutionId=query_id)
    assert code == "InvalidRequestException"
    assert state in message


@asynchronous
async def test_result_goes_to_the_output_location() -> None:
    api = Api()
    query_id = await started(api, ResultConfiguration={"OutputLocation": "s3://bucket/a/"})
    state = await ended(api, query_id)
    assert state["Status"]["State"] == "SUCCEEDED"
    location = state["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://bucket/a/{query_id}.csv"


@pytest.mark.parametrize(
    ("operation", "given", "code"),
    [
        ("StartQueryExecution", {"QueryString": "nosuch"}, "InvalidRequestException"),
        (
            "StartQueryExecution",
            {"QueryString": STATEMENT, "WorkGroup": "sales"},
            "InvalidRequestException",
        ),
        (
            "StartQueryExecution",
            {
                "QueryString": STATEMENT,
                "ResultConfiguration": {"OutputLocation": "s3://nosuch/"},
            },
            "InvalidRequestException",
        ),
        (
            "StartQueryExecution",
            {"QueryString": STATEMENT, "ExecutionParameters": ["1"]},
            "InvalidRequestException",
        ),
        ("StartQueryExecution", {}, "ValidationException"),
        ("GetQueryExecution", {"QueryExecutionId": NOBODY}, "InvalidRequestException"),
        ("StopQueryExecution", {"QueryExecutionId": NOBODY}, "InvalidRequestException"),
        ("GetQueryResults", {"QueryExecutionId": NOBODY}, "InvalidRequestException"),
        ("GetWorkGroup", {"WorkGroup": "sales"}, "InvalidRequestException"),
        ("ListQueryExecutions", {"NextToken": "nonsense"}, "InvalidRequestException"),
        ("GetDatabase", {"CatalogName": "c", "DatabaseName": "sales"}, "MetadataException"),
        (
            "GetTableMetadata",
            {"CatalogName": "c", "DatabaseName": "default", "TableName": "sales"},
            "MetadataException",
        ),
        ("CreateWorkGroup", {"Name": "sales"}, "UnsupportedOperationException"),
    ],
)
@asynchronous
async def test_wrong_calls_are_refused(operation: str, given: dict[str, Any], code: str) -> None:
    assert (await error(Api(), operation, **given))[0] == code


@asynchronous
async def test_eleventh_query_is_refused() -> None:
    api = Api()
    for _ in range(MAX_ACTIVE):
        await started(api, "slow")
    code, _ = await error(api, "StartQueryExecution", QueryString=STATEMENT)
    assert code == "TooManyRequestsException"
    assert api.services.queries is not None
    await api.services.queries.close()


@asynchronous
async def test_other_accounts_see_no_query() -> None:
    api = Api()
    query_id = await started(api)
    await ended(api, query_id)
    assert await ok(api, "ListQueryExecutions", OTHER) == {"QueryExecutionIds": []}
    own = await ok(api, "ListQueryExecutions")
    assert own == {"QueryExecutionIds": [query_id]}
    for account, found in ((ACCOUNT, 1), (OTHER, 0)):
        batch = await ok(api, "BatchGetQueryExecution", account, QueryExecutionIds=[query_id])
        assert len(batch["QueryExecutions"]) == found
        assert len(batch["UnprocessedQueryExecutionIds"]) == 1 - found


@asynchronous
async def test_metadata_has_the_table() -> None:
    api = Api()
    assert (await ok(api, "ListWorkGroups"))["WorkGroups"][0]["Name"] == "opentrail"
    for name in ("opentrail", "primary"):
        assert (await ok(api, "GetWorkGroup", WorkGroup=name))["WorkGroup"]["Name"] == name
    (found,) = (await ok(api, "ListDataCatalogs"))["DataCatalogsSummary"]
    given = {"CatalogName": found["CatalogName"]}
    (database,) = (await ok(api, "ListDatabases", **given))["DatabaseList"]
    given |= {"DatabaseName": database["Name"]}
    assert (await ok(api, "GetDatabase", **given))["Database"] == database
    (table,) = (await ok(api, "ListTableMetadata", **given))["TableMetadataList"]
    one = await ok(api, "GetTableMetadata", TableName=table["Name"], **given)
    assert one["TableMetadata"] == table
    types = {column["Name"]: column["Type"] for column in table["Columns"]}
    assert (types["eventtime"], types["eventname"]) == ("timestamp", "string")
    assert types["requestparameters"] == "map<string,string>"
    assert types["useridentity"].startswith("struct<type:string,principalid:string,")


@asynchronous
async def test_created_stores_are_tables() -> None:
    api = Api()
    await api.ok("CreateEventDataStore", Name="Audit")
    listed = await ok(api, "ListTableMetadata", **_DATABASE)
    tables = {table["Name"]: table["Columns"] for table in listed["TableMetadataList"]}
    assert list(tables) == ["event_history", "audit"]
    assert tables["audit"] == tables["event_history"]
    query_id = await started(api, "SELECT n FROM audit")
    assert (await ended(api, query_id))["Status"]["State"] == "SUCCEEDED"
    assert [*api.engine.tables[-1].stores] == ["audit"]


@asynchronous
async def test_stores_for_channels_have_their_own_columns() -> None:
    api = Api()
    await a_store(api, "orders")
    table = (await ok(api, "GetTableMetadata", TableName="orders", **_DATABASE))["TableMetadata"]
    types = {column["Name"]: column["Type"] for column in table["Columns"]}
    assert types["metadata"] == "struct<ingestiontime:string,channelarn:string>"
    assert types["eventdata"].startswith("struct<version:string,useridentity:struct<type:string,")
    assert "requestparameters" not in types


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("varchar", "string"),
        ("integer", "int"),
        ("timestamp(3)", "timestamp"),
        ("decimal(10,2)", "decimal(10,2)"),
        ("array(row(arn varchar))", "array<struct<arn:string>>"),
        ("map(varchar, bigint)", "map<string,bigint>"),
    ],
)
def test_types_have_names_of_hive(kind: str, name: str) -> None:
    parsed = parse_type(kind)
    assert parsed is not None
    assert hive_type(parsed) == name


_ID = {"QueryExecutionId": NOBODY}
_DATABASE = {"CatalogName": "c", "DatabaseName": "default"}
_GIVEN: dict[str, dict[str, Any]] = {
    "StartQueryExecution": {"QueryString": STATEMENT},
    **dict.fromkeys(("GetQueryExecution", "GetQueryResults", "StopQueryExecution"), _ID),
    "BatchGetQueryExecution": {"QueryExecutionIds": [NOBODY]},
    "GetWorkGroup": {"WorkGroup": "opentrail"},
    "ListDatabases": {"CatalogName": "c"},
    **dict.fromkeys(("GetDatabase", "ListTableMetadata"), _DATABASE),
    "GetTableMetadata": {**_DATABASE, "TableName": "t"},
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@asynchronous
async def test_caller_needs_permissions_of_cloudtrail(operation: str) -> None:
    api = Api(enforced=True)
    given = _GIVEN.get(operation, {})
    code, message = await error(api, operation, identity=an_identity(account=ACCOUNT), **given)
    assert code == "AccessDeniedException"
    assert f"cloudtrail:{OPERATIONS[operation].permission}" in message


@asynchronous
async def test_anonymous_caller_is_refused() -> None:
    code, _ = await error(Api(), "ListWorkGroups", anonymous=True)
    assert code == "MissingAuthenticationTokenException"
