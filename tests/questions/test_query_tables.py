"""The tables that SQL can query."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.errors import NoHistory
from opentrail.lake.store_registry import EVERY_REGION
from opentrail.questions.query_tables import ListTables
from opentrail.questions.question import Asked
from tests.api.caller import Api
from tests.api.cloudtrail.test_channels import a_store
from tests.factories import ACCOUNT, MOMENT
from tests.fakes import asynchronous

OTHER = "210987654321"


async def tables(api: Api, accounts: tuple[str, ...] | None = None) -> list[tuple[str, Any]]:
    asked = Asked(
        api.history, api.world.control, MOMENT, 1_000, [], api.services.queries, "ada", accounts
    )
    answer = await ListTables().answer(asked)
    return [(table.sql, table.account) for table in answer.tables]


@asynchronous
async def test_event_history_is_the_first_table() -> None:
    answer = (await Api().ask("/api/v1/query-tables")).json
    (table,) = answer["tables"]
    assert (table["sql"], table["id"], table["status"]) == ("event_history", None, "ENABLED")
    columns = {column["name"]: column["type"] for column in answer["columns"]}
    assert (columns["eventName"], columns["eventTime"]) == ("varchar", "timestamp(3)")
    assert columns["tlsDetails"].startswith("row(tlsVersion varchar, ")
    assert "eventJson" in columns


@asynchronous
async def test_stores_are_tables_of_their_accounts() -> None:
    api = Api()
    await api.ok("CreateEventDataStore", Name="s3-writes", RetentionPeriod=365)
    await api.ok("CreateEventDataStore", account=OTHER, Name="Theirs.2")
    mine, theirs = ('"s3-writes"', ACCOUNT), ('"Theirs.2"', OTHER)
    assert await tables(api) == [("event_history", None), mine, theirs]
    assert await tables(api, (ACCOUNT,)) == [("event_history", None), mine]
    store = (await api.ask("/api/v1/query-tables")).json["tables"][1]
    assert (store["name"], store["retentionDays"]) == ("s3-writes", 365)


@asynchronous
async def test_each_name_finds_its_table() -> None:
    """A name that two stores have finds neither, so their ids name them."""
    api = Api()
    for account, name in ((ACCOUNT, "Shared"), (OTHER, "shared"), (OTHER, "One.and-only")):
        await api.ok("CreateEventDataStore", account=account, Name=name)
    queries = api.services.queries
    assert queries is not None
    for store in await queries.stores.visible(None, EVERY_REGION):
        (sql,) = [sql for sql, account in await tables(api) if store.id in sql] or [
            '"One.and-only"'
        ]
        statement = f"SELECT 1 FROM {sql}"  # noqa: S608
        found = await queries.stores.named_in(statement, None, EVERY_REGION)
        assert [each.id for each in found.values()] == [store.id]


@asynchronous
async def test_server_without_history_has_no_tables() -> None:
    api = Api()
    asked = Asked(api.history, api.world.control, MOMENT, 1_000, [])
    with pytest.raises(NoHistory):
        await ListTables().answer(asked)


@asynchronous
async def test_stores_for_channels_have_their_own_columns() -> None:
    api = Api()
    await a_store(api, "orders")
    answer = (await api.ask("/api/v1/query-tables")).json
    assert [table["category"] for table in answer["tables"]] == [None, "ActivityAuditLog"]
    columns = {column["name"]: column["type"] for column in answer["activityColumns"]}
    assert columns["metadata"] == "row(ingestionTime varchar, channelARN varchar)"
    assert columns["eventData"].startswith("row(version varchar, userIdentity row(type varchar, ")
    assert [*columns][-2:] == ["eventJson", "eventJsonChecksum"]
