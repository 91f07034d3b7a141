"""Policies decide on the stores that a query reads, at each door and whatever else a call names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.caller import Api
from tests.api.cloudtrail.test_authorizer import OWNER, an_api, arn_of, document, user
from tests.factories import ACCOUNT
from tests.fakes import asynchronous

HISTORY = "history"
#: Statements, and the stores that they read.
STATEMENTS: list[tuple[str, set[str]]] = [
    ("SELECT n FROM aaa", {"aaa"}),
    ("SELECT n FROM bbb", {"bbb"}),
    ("SELECT n FROM aaa, BBB", {"aaa", "bbb"}),
    ("SELECT n FROM event_history", {HISTORY}),
    ("SELECT n FROM default.event_history, aaa", {HISTORY, "aaa"}),
    ("SELECT 'bbb' AS \"bbb\" FROM aaa -- bbb", {"aaa"}),
    ("WITH bbb AS (SELECT 1 AS n) SELECT n FROM bbb, aaa", {"aaa"}),
    ("SELECT 1", set()),
]
#: CloudTrail's operations on a query, and Athena's with the same permission.
DOORS = {
    "DescribeQuery": ("GetQueryExecution", "BatchGetQueryExecution"),
    "GetQueryResults": ("GetQueryResults",),
    "CancelQuery": ("StopQueryExecution",),
}


async def stores(api: Api) -> dict[str, str]:
    """Creates the stores `aaa` and `bbb`; returns the ARNs of all stores by name."""
    arns = {
        name: (await api.ok("CreateEventDataStore", identity=OWNER, Name=name))["EventDataStoreArn"]
        for name in ("aaa", "bbb")
    }
    listed = await api.ok("ListEventDataStores", identity=OWNER)
    (arns[HISTORY],) = (
        each["EventDataStoreArn"]
        for each in listed["EventDataStores"]
        if each["Name"] == "event_history"
    )
    return arns


async def is_denied(api: Api, operation: str, athena: bool, **given: Any) -> bool:
    target = f"AmazonAthena.{operation}" if athena else None
    answer = await api.call(operation, identity=user("ann"), target=target, **given)
    return answer.status != 200 and answer.error[0] == "AccessDeniedException"


@pytest.mark.parametrize(("statement", "reads"), STATEMENTS, ids=[text for text, _ in STATEMENTS])
@asynchronous
async def test_decisions_are_on_what_a_query_reads(statement: str, reads: set[str]) -> None:
    ann, api = user("ann"), await an_api()
    arns = await stores(api)
    started = await api.ok("StartQuery", identity=OWNER, QueryStatement=statement)
    query = started["QueryId"]
    for name in ("subject", "rest"):
        await api.policies.put_policy(ACCOUNT, name, document("Allow", "s3:GetObject"))
        await api.policies.attach(arn_of(ann), name)
    for subject in ("aaa", "bbb", HISTORY):
        for effect, rest in (("Allow", "s3:GetObject"), ("Deny", "cloudtrail:*")):
            policy = document(effect, "cloudtrail:*", arns[subject])
            await api.policies.put_policy(ACCOUNT, "subject", policy)
            await api.policies.put_policy(ACCOUNT, "rest", document("Allow", rest))
            is_refused = subject in reads if effect == "Deny" else reads != {subject}
            case = (effect, subject)
            starts = [
                await is_denied(api, "StartQuery", False, QueryStatement=statement),
                await is_denied(api, "StartQueryExecution", True, QueryString=statement),
            ]
            assert starts == [is_refused] * 2, case
            for operation, of_athena in DOORS.items():
                for other in ("aaa", "bbb"):
                    given = {"QueryId": query, "EventDataStore": arns[other]}
                    assert await is_denied(api, operation, False, **given) == is_refused, case
                for door in of_athena:
                    given = (
                        {"QueryExecutionIds": [query]}
                        if door.startswith("Batch")
                        else {"QueryExecutionId": query}
                    )
                    assert await is_denied(api, door, True, **given) == is_refused, (case, door)


@asynchronous
async def test_a_renamed_store_keeps_its_queries() -> None:
    """A query's rows are of the store that had the name when it started."""
    ann, api = user("ann"), await an_api()
    arns = await stores(api)
    started = await api.ok("StartQuery", identity=OWNER, QueryStatement="SELECT n FROM bbb")
    for arn, name in (("bbb", "ccc"), ("aaa", "bbb")):
        await api.ok("UpdateEventDataStore", identity=OWNER, EventDataStore=arns[arn], Name=name)
    await api.policies.put_policy(ACCOUNT, "all", document("Allow", "cloudtrail:*"))
    await api.policies.put_policy(ACCOUNT, "none", document("Deny", "*", arns["bbb"]))
    for name in ("all", "none"):
        await api.policies.attach(arn_of(ann), name)
    assert await is_denied(api, "GetQueryResults", False, QueryId=started["QueryId"])


@asynchronous
async def test_queries_of_a_missing_id_need_permission() -> None:
    api = await an_api()
    missing = {"QueryId": "0e2d3c4b-5678-90ab-cdef-0123456789ab"}
    assert await is_denied(api, "GetQueryResults", False, **missing)
    code, _ = await api.error("GetQueryResults", identity=OWNER, **missing)
    assert code == "QueryIdNotFoundException"


@asynchronous
async def test_results_go_where_the_caller_may_write() -> None:
    ann, api = user("ann"), await an_api()
    query = {"QueryStatement": "SELECT 1", "DeliveryS3Uri": "s3://bucket/mine"}
    for name, policy in (
        ("queries", document("Allow", "cloudtrail:*")),
        ("objects", document("Allow", "s3:PutObject", "arn:aws:s3:::bucket/other/*")),
    ):
        await api.policies.put_policy(ACCOUNT, name, policy)
        await api.policies.attach(arn_of(ann), name)
    assert await may_write(api, **query) == [False, False]
    allowed = document("Allow", "s3:PutObject", "arn:aws:s3:::bucket/mine/*")
    await api.policies.put_policy(ACCOUNT, "objects", allowed)
    assert await may_write(api, **query) == [True, True]


async def may_write(api: Api, QueryStatement: str, DeliveryS3Uri: str) -> list[bool | None]:  # noqa: N803 - AWS's names
    """Returns whether the caller may write, as the delivery learns at both doors."""
    verified = api.delivery.verified
    verified.clear()
    given = {"QueryStatement": QueryStatement, "DeliveryS3Uri": DeliveryS3Uri}
    await api.ok("StartQuery", identity=user("ann"), **given)
    answer = await api.call(
        "StartQueryExecution",
        identity=user("ann"),
        target="AmazonAthena.StartQueryExecution",
        QueryString=QueryStatement,
        ResultConfiguration={"OutputLocation": DeliveryS3Uri},
    )
    assert answer.status == 200, answer.error
    return verified
