"""Event data stores: their list with settings, and a preview of their selectors."""

from __future__ import annotations

from typing import Any, TypedDict

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.callers import caller_of
from opentrail.api.v1.routes import AUDITOR, route
from opentrail.api.v1.trails import SelectorPreview, Trails
from opentrail.core.event import Json, format_time
from opentrail.core.event_data_store import EventDataStore, StoreStatus
from opentrail.core.selectors import SelectorOwner
from opentrail.core.trail import shown_time
from opentrail.lake.store_registry import EVERY_REGION, table_names


class StoreSummary(TypedDict):
    """The settings and the status of an event data store."""

    arn: str
    name: str
    #: The store as a statement names it after FROM.
    sql: str
    account: str
    region: str
    status: StoreStatus
    #: The categories of its events, such as `Management`.
    categories: list[str]
    #: Advanced event selectors in the API's form.
    selectors: list[dict[str, Any]]
    multiRegion: bool
    retentionDays: int
    terminationProtection: bool
    tags: dict[str, str]
    created: str
    updated: str
    #: None: it is not deleted.
    restorableUntil: str | None


class StoreList(TypedDict):
    """Event data stores, by name."""

    stores: list[StoreSummary]


class EventDataStores:
    """The calls about event data stores that the CloudTrail API does not have.

    Args:
        services: the features that operations use.
        trails: previews selectors.
    """

    def __init__(self, services: Services, trails: Trails) -> None:
        self._services = services
        self._trails = trails

    @route("GET", "/stores", AUDITOR, "see event data stores")
    async def all(self, request: Request) -> StoreList:
        """Returns the stores that the caller may see, by name."""
        accounts = caller_of(request).accounts
        stores = await self._services.created_stores.visible(accounts, EVERY_REGION)
        names = table_names(stores)
        return {"stores": [_summary(store, names[store.id]) for store in stores]}

    @route(
        "POST",
        "/stores/preview",
        AUDITOR,
        "see what selectors of an event data store would have selected",
        body='{"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory",'
        ' "Equals": ["Management"]}]}]}',
    )
    async def preview(self, request: Request, body: Json) -> SelectorPreview:
        """Returns the number of the newest events of the last day that selectors select.

        The body has `AdvancedEventSelectors`. The events are those of `/trails/preview`, Insights
        events, and the events of all channels.
        """
        return await self._trails.preview_of(request, body, SelectorOwner.EVENT_DATA_STORE)


def _summary(store: EventDataStore, sql: str) -> StoreSummary:
    until = store.restorable_until
    return {
        "arn": str(store.arn),
        "name": store.name,
        "sql": sql,
        "account": store.account,
        "region": store.region,
        "status": store.status,
        "categories": store.categories,
        "selectors": store.selectors,
        "multiRegion": store.multi_region,
        "retentionDays": store.retention,
        "terminationProtection": store.is_protected,
        "tags": dict(store.tags),
        "created": shown_time(store.created_at),
        "updated": shown_time(store.updated_at),
        "restorableUntil": format_time(until) if until else None,
    }
