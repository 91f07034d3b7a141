"""Event data stores that an account shares with another one, and queries over them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.core.identity import Identity, root
from opentrail.lake.event_history import store_id
from tests.api.caller import Api
from tests.api.cloudtrail.test_authorizer import OTHER, OWNER, an_api, arn_of, document, user
from tests.factories import ACCOUNT
from tests.fakes import asynchronous

ANN = user("ann", OTHER)
SHARED = {"EventDataStoreOwnerAccountId": ACCOUNT}
QUERIES = ["cloudtrail:*Query*", "cloudtrail:ListQueries", "cloudtrail:GetEventDataStore"]
MISSING = "EventDataStoreNotFoundException"


async def share(api: Api, actions: list[str], *names: str) -> list[str]:
    """Creates stores whose actions Ann may use; returns their ARNs."""
    arns = []
    for name in names:
        store = await api.ok("CreateEventDataStore", identity=OWNER, Name=name)
        arns.append(store["EventDataStoreArn"])
        await allow(api, arns[-1], actions)
    await api.policies.attach(arn_of(ANN), "AdministratorAccess")
    return arns


async def allow(api: Api, store: str, actions: list[str]) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": OTHER},
        "Action": actions,
        "Resource": store,
    }
    policy = json.dumps({"Statement": statement})
    await api.ok("PutResourcePolicy", identity=OWNER, ResourceArn=store, ResourcePolicy=policy)


async def asked(api: Api, operation: str, **given: Any) -> Any:
    return await api.call(operation, identity=ANN, account=OTHER, **given)


async def ok(api: Api, operation: str, **given: Any) -> Any:
    answer = await asked(api, operation, **given)
    assert answer.status == 200, answer.body
    return answer.json


async def refused(api: Api, operation: str, **given: Any) -> str:
    return str((await asked(api, operation, **given)).error[0])


def over(store: str) -> str:
    return f"SELECT n FROM {store.rpartition('/')[2]}"  # noqa: S608


@asynchronous
async def test_another_account_queries_a_shared_store() -> None:
    api = await an_api()
    (store,) = await share(api, QUERIES, "shared")
    assert (await ok(api, "GetEventDataStore", EventDataStore=store))["Name"] == "shared"
    for statement in (over(store), "SELECT n FROM shared"):
        started = await ok(api, "StartQuery", QueryStatement=statement, **SHARED)
        assert started["EventDataStoreOwnerAccountId"] == ACCOUNT
    query = {"QueryId": started["QueryId"], **SHARED}
    assert (await ok(api, "DescribeQuery", **query))["QueryString"] == statement
    rows = await ok(api, "GetQueryResults", **query)
    assert rows["QueryResultRows"][0] == [{"n": "1"}]
    assert len((await ok(api, "ListQueries", EventDataStore=store))["Queries"]) == 2
    assert await refused(api, "CancelQuery", **query) == "InactiveQueryException"
    tables = api.engine.tables[-1]
    assert (list(tables.history), list(tables.stores)) == ([], ["shared"])


@asynchronous
async def test_queries_of_a_shared_store_belong_to_who_asks_for_its_owner() -> None:
    api = await an_api()
    (store,) = await share(api, QUERIES, "shared")
    started = await ok(api, "StartQuery", QueryStatement=over(store), **SHARED)
    given = {"QueryId": started["QueryId"]}
    missing = "QueryIdNotFoundException"
    for operation in ("DescribeQuery", "GetQueryResults", "CancelQuery"):
        assert await refused(api, operation, **given) == missing
        assert (await api.error(operation, identity=OWNER, **given))[0] == missing
    assert await ok(api, "ListQueries", EventDataStore="event_history") == {"Queries": []}


@asynchronous
async def test_results_need_permission_as_long_as_they_are_read() -> None:
    api = await an_api()
    (store,) = await share(api, QUERIES, "shared")
    started = await ok(api, "StartQuery", QueryStatement=over(store), **SHARED)
    query = {"QueryId": started["QueryId"], **SHARED}
    await allow(api, store, ["cloudtrail:DescribeQuery"])
    await ok(api, "DescribeQuery", **query)
    assert await refused(api, "GetQueryResults", **query) == MISSING
    await api.ok("DeleteResourcePolicy", identity=OWNER, ResourceArn=store)
    for operation in ("DescribeQuery", "GetQueryResults", "CancelQuery"):
        assert await refused(api, operation, **query) == MISSING
    assert await refused(api, "ListQueries", EventDataStore=store) == MISSING


@asynchronous
async def test_only_shared_stores_are_queried() -> None:
    api = await an_api()
    shared, hidden = await share(api, QUERIES, "shared", "hidden")
    await api.ok("DeleteResourcePolicy", identity=OWNER, ResourceArn=hidden)
    for statement in (
        over(hidden),
        "SELECT n FROM hidden",
        over(shared) + ", hidden",
        "SELECT n FROM event_history",
        over(store_id(ACCOUNT)),
        "SELECT 1",
    ):
        code = await refused(api, "StartQuery", QueryStatement=statement, **SHARED)
        assert code == MISSING, statement
    assert await refused(api, "GetEventDataStore", EventDataStore=hidden) == MISSING
    await ok(api, "StartQuery", QueryStatement=over(shared))  # as a store of the caller's account
    assert api.engine.tables[-1].stores == {}


@asynchronous
async def test_sharing_needs_a_policy_on_both_sides() -> None:
    api = await an_api()
    (store,) = await share(api, QUERIES, "shared")
    bob = user("bob", OTHER)
    given = {"QueryStatement": over(store), **SHARED}
    code, _ = await api.error("StartQuery", identity=bob, account=OTHER, **given)
    assert code == MISSING
    await api.policies.put_policy(OTHER, "queries", document("Allow", "cloudtrail:StartQuery"))
    await api.policies.attach(arn_of(bob), "queries")
    await api.ok("StartQuery", identity=bob, account=OTHER, **given)


@pytest.mark.parametrize("is_trusted", [False, True])
@asynchronous
async def test_keys_that_need_no_policy_see_no_other_account(is_trusted: bool) -> None:
    api = Api(enforced=is_trusted, is_trusted=lambda _: is_trusted)
    identity = Identity("AKIA2", OTHER, root(OTHER))
    store = (await api.ok("CreateEventDataStore", identity=OWNER, Name="a-store"))[
        "EventDataStoreArn"
    ]
    for operation, given in (
        ("GetEventDataStore", {"EventDataStore": store}),
        ("UpdateEventDataStore", {"EventDataStore": store, "Name": "mine"}),
        ("ListQueries", {"EventDataStore": store}),
        ("StartQuery", {"QueryStatement": over(store), **SHARED}),
        ("StartQuery", {"QueryStatement": "SELECT n FROM event_history", **SHARED}),
        ("GetQueryResults", {"QueryId": store[-36:], **SHARED}),
    ):
        code, _ = await api.error(operation, identity=identity, account=OTHER, **given)
        assert code in (MISSING, "UnsupportedOperationException", "QueryIdNotFoundException")
    assert api.engine.tables == []


@asynchronous
async def test_queries_are_listed_by_store() -> None:
    api = Api()
    store = (await api.ok("CreateEventDataStore", Name="a-store"))["EventDataStoreArn"]
    statements = [over(store), 'SELECT n FROM "a-store"', "SELECT n FROM event_history", "SELECT 1"]
    ids = [(await api.ok("StartQuery", QueryStatement=each))["QueryId"] for each in statements]

    async def listed(name: str) -> set[str]:
        answer = await api.ok("ListQueries", EventDataStore=name)
        return {each["QueryId"] for each in answer["Queries"]}

    assert await listed(store) == set(ids[:2])
    assert await listed("event_history") == set(ids[2:])
