"""The operations on the store `event_history`, and on queries over it."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.lake.event_history import store_id
from opentrail.lake.queries import MAX_ACTIVE
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous

ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:eventdatastore/{store_id(ACCOUNT)}"
NOBODY = "00000000-0000-4000-8000-000000000000"


async def finished(api: Api, statement: str = "SELECT n FROM event_history") -> str:
    """Returns the id of a query that has ended."""
    query_id = str((await api.ok("StartQuery", QueryStatement=statement))["QueryId"])
    queries = api.services.queries
    assert queries is not None
    await queries.wait(await queries.find(query_id, ACCOUNT), 60)
    return query_id


@pytest.mark.parametrize("given", [{}, {"MaxResults": 1}, {"MaxResults": 1000}])
@asynchronous
async def test_each_account_has_one_store(given: dict[str, int]) -> None:
    stores = [{"EventDataStoreArn": ARN, "Name": "event_history"}]
    assert await Api().ok("ListEventDataStores", **given) == {"EventDataStores": stores}


@pytest.mark.parametrize("name", [ARN, store_id(ACCOUNT), "event_history"])
@asynchronous
async def test_store_describes_event_history(name: str) -> None:
    store = await Api().ok("GetEventDataStore", EventDataStore=name)
    assert (store["EventDataStoreArn"], store["Status"]) == (ARN, "ENABLED")
    assert (store["RetentionPeriod"], store["MultiRegionEnabled"]) == (90, True)
    categories = [each["FieldSelectors"][0]["Equals"] for each in store["AdvancedEventSelectors"]]
    assert categories == [
        *(["Management"], ["Data"], ["NetworkActivity"], ["Insight"]),
        ["ActivityAuditLog"],
    ]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (NOBODY, "EventDataStoreNotFoundException"),
        ("other_store", "EventDataStoreNotFoundException"),
        (ARN.replace(ACCOUNT, "210987654321"), "EventDataStoreNotFoundException"),
        ("arn:aws:cloudtrail:nothing", "EventDataStoreARNInvalidException"),
        (
            f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/t",
            "EventDataStoreARNInvalidException",
        ),
    ],
)
@asynchronous
async def test_other_stores_do_not_exist(name: str, code: str) -> None:
    for operation in ("GetEventDataStore", "ListQueries"):
        assert (await Api().error(operation, EventDataStore=name))[0] == code


@asynchronous
async def test_query_has_a_state_and_rows() -> None:
    api = Api()
    query_id = await finished(api)
    state = await api.ok("DescribeQuery", QueryId=query_id)
    assert (state["QueryStatus"], state["QueryString"]) == (
        "FINISHED",
        "SELECT n FROM event_history",
    )
    statistics = state["QueryStatistics"]
    assert (statistics["EventsScanned"], statistics["BytesScanned"]) == (10, 1_000)
    page = await api.ok("GetQueryResults", QueryId=query_id, MaxQueryResults=2)
    assert page["QueryResultRows"] == [[{"n": "1"}], [{"n": "2"}]]
    assert page["QueryStatistics"]["TotalResultsCount"] == 3
    last = await api.ok("GetQueryResults", QueryId=query_id, NextToken=page["NextToken"])
    assert last["QueryResultRows"] == [[{"n": "3"}]]
    assert "NextToken" not in last


@asynchronous
async def test_failed_query_says_why() -> None:
    api = Api()
    query_id = await finished(api, "fails")
    for operation in ("DescribeQuery", "GetQueryResults"):
        answer = await api.ok(operation, QueryId=query_id)
        assert (answer["QueryStatus"], answer["ErrorMessage"]) == ("FAILED", "Division by zero")


@pytest.mark.parametrize(
    ("operation", "given", "code"),
    [
        ("StartQuery", {"QueryStatement": "SELECT nosuch"}, "InvalidQueryStatementException"),
        ("StartQuery", {}, "InvalidParameterException"),
        ("DescribeQuery", {"QueryId": NOBODY}, "QueryIdNotFoundException"),
        ("GetQueryResults", {"QueryId": NOBODY}, "QueryIdNotFoundException"),
        ("CancelQuery", {"QueryId": NOBODY}, "QueryIdNotFoundException"),
        (
            "StartQuery",
            {"QueryStatement": "SELECT 1", "QueryAlias": "alias"},
            "UnsupportedOperationException",
        ),
        (
            "StartQuery",
            {"QueryStatement": "SELECT 1", "DeliveryS3Uri": "s3://nosuch"},
            "S3BucketDoesNotExistException",
        ),
    ],
)
@asynchronous
async def test_wrong_calls_are_refused(operation: str, given: dict[str, Any], code: str) -> None:
    assert (await Api().error(operation, **given))[0] == code


@pytest.mark.parametrize("token", ["nonsense", "bm90aGluZw==", "////"])
@asynchronous
async def test_tokens_of_other_lists_are_refused(token: str) -> None:
    api = Api()
    query_id = await finished(api)
    error = await api.error("GetQueryResults", QueryId=query_id, NextToken=token)
    assert error[0] == "InvalidNextTokenException"


@asynchronous
async def test_queries_are_listed_newest_first() -> None:
    api = Api()
    ids = [await finished(api), await finished(api, "fails")]
    listed = await api.ok("ListQueries", EventDataStore=ARN)
    assert {each["QueryId"] for each in listed["Queries"]} == set(ids)
    failed = await api.ok("ListQueries", EventDataStore=ARN, QueryStatus="FAILED")
    assert [each["QueryId"] for each in failed["Queries"]] == ids[1:]
    page = await api.ok("ListQueries", EventDataStore=ARN, MaxResults=1)
    rest = await api.ok("ListQueries", EventDataStore=ARN, NextToken=page["NextToken"])
    assert len(page["Queries"]) == len(rest["Queries"]) == 1
    start = int(api.world.clock.now().timestamp()) + 60
    later = await api.ok("ListQueries", EventDataStore=ARN, StartTime=start, EndTime=start + 1)
    assert later == {"Queries": []}
    wrong = await api.error("ListQueries", EventDataStore=ARN, StartTime=2, EndTime=1)
    assert wrong[0] == "InvalidDateRangeException"


@asynchronous
async def test_running_queries_are_limited_and_cancelled() -> None:
    api = Api()
    ids = [
        (await api.ok("StartQuery", QueryStatement="slow"))["QueryId"] for _ in range(MAX_ACTIVE)
    ]
    error = await api.error("StartQuery", QueryStatement="slow")
    assert error[0] == "MaxConcurrentQueriesException"
    running = await api.ok("GetQueryResults", QueryId=ids[0])
    assert (running["QueryStatus"], running["QueryResultRows"]) == ("RUNNING", [])
    for query_id in ids:
        cancelled = await api.ok("CancelQuery", QueryId=query_id)
        assert cancelled == {"QueryId": query_id, "QueryStatus": "CANCELLED"}
    assert (await api.error("CancelQuery", QueryId=ids[0]))[0] == "InactiveQueryException"
    assert api.engine.running == 0


@asynchronous
async def test_query_names_the_place_of_its_result() -> None:
    api = Api()
    given = {"QueryStatement": "SELECT 1", "DeliveryS3Uri": "s3://bucket/a"}
    query_id = (await api.ok("StartQuery", **given))["QueryId"]
    state = await api.ok("DescribeQuery", QueryId=query_id)
    assert state["DeliveryS3Uri"] == "s3://bucket/a"
    assert state["DeliveryStatus"] in ("PENDING", "SUCCESS")


@asynchronous
async def test_sample_queries_are_found_by_their_words() -> None:
    api = Api()
    found = (await api.ok("SearchSampleQueries", SearchPhrase="failed console logins"))[
        "SearchResults"
    ]
    assert found[0]["Name"] == "failed-sign-ins"
    assert found[0]["SQL"].startswith("SELECT ")
    relevances = [result["Relevance"] for result in found]
    assert relevances == sorted(relevances, reverse=True)
    assert 0 < relevances[-1] <= relevances[0] <= 1
    assert await api.ok("SearchSampleQueries", SearchPhrase="xyzzy") == {"SearchResults": []}


@asynchronous
async def test_found_samples_are_paged() -> None:
    api, given = Api(), {"SearchPhrase": "calls by principal"}
    whole = await api.ok("SearchSampleQueries", MaxResults=50, **given)
    page = await api.ok("SearchSampleQueries", MaxResults=3, **given)
    rest = await api.ok("SearchSampleQueries", MaxResults=50, NextToken=page["NextToken"], **given)
    assert page["SearchResults"] + rest["SearchResults"] == whole["SearchResults"]
    error = await api.error("SearchSampleQueries", SearchPhrase="x")
    assert error[0] == "InvalidParameterException"
