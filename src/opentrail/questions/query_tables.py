"""The tables that SQL can query."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from opentrail.core.errors import NoHistory
from opentrail.core.facts import AccountId, Time
from opentrail.questions.query import QueryColumn
from opentrail.questions.question import Asked, Question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentrail.core.event_data_store import EventDataStore
    from opentrail.lake.dialect.types import Type


class TableSummary(msgspec.Struct, frozen=True):
    """Event history, or an event data store."""

    #: The table as a statement names it after FROM.
    sql: str
    name: str
    #: The id of an event data store, which also works after FROM in double quotes.
    id: str | None
    #: The category of an event data store's events; of a store for calls, the first one.
    category: str | None
    account: AccountId | None
    region: str | None
    status: Literal["ENABLED", "STOPPED_INGESTION", "PENDING_DELETION"]
    #: Days for which an event data store keeps events.
    retentionDays: int | None
    created: Time | None
    #: The location of a federated store's Iceberg table.
    iceberg: str | None


class TablesAnswer(msgspec.Struct, frozen=True):
    """The tables, and the columns that they have."""

    tables: list[TableSummary]
    #: The columns of event history, and of event data stores.
    columns: list[QueryColumn]
    #: The columns of event data stores with `ActivityAuditLog` events.
    activityColumns: list[QueryColumn]


class ListTables(Question, frozen=True, kw_only=True):
    """Returns the tables that you can query with SQL, and their columns."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "list the tables for SQL and their columns"

    async def answer(self, asked: Asked) -> TablesAnswer:
        """Returns event history and the stores of the accounts that the caller may see."""
        from opentrail.core.event import ACTIVITY
        from opentrail.lake.event_history import NAME, schema
        from opentrail.lake.store_registry import EVERY_REGION, table_names

        if asked.queries is None:
            raise NoHistory
        stores = await asked.queries.stores.visible(asked.accounts, EVERY_REGION)
        names = table_names(stores)
        history = TableSummary(NAME, NAME, None, None, None, None, "ENABLED", None, None, None)
        locate = asked.queries.stores.table
        tables = [_table(store, names[store.id], locate(store)) for store in stores]
        return TablesAnswer([history, *tables], _columns(schema()), _columns(schema(ACTIVITY)))


def _columns(schema: Mapping[str, Type]) -> list[QueryColumn]:
    return [{"name": name, "type": str(kind)} for name, kind in schema.items()]


def _table(store: EventDataStore, sql: str, location: str | None) -> TableSummary:
    return TableSummary(
        sql,
        store.name,
        store.id,
        store.category,
        store.account,
        store.region,
        store.status,
        store.retention,
        store.created_at,
        location if store.is_federated else None,
    )
