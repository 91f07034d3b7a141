"""Event data stores over the API in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.api.v1.stores import EventDataStores
from opentrail.api.v1.trails import Trails
from opentrail.core.event import format_time
from tests.api.browser import Browser
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION, a_record, an_insight_record, event_id
from tests.fakes import asynchronous

OTHER = "210987654321"


def category(name: str, **fields: Any) -> dict[str, Any]:
    conditions = [{"Field": field, **condition} for field, condition in fields.items()]
    return {"FieldSelectors": [{"Field": "eventCategory", "Equals": [name]}, *conditions]}


@asynchronous
async def test_stores_are_listed_with_their_settings() -> None:
    browser = Browser()
    created = await browser.api.ok("CreateEventDataStore", Name="writes", RetentionPeriod=30)
    selectors = [category("Insight")]
    await browser.api.ok(
        "CreateEventDataStore",
        region="eu-west-1",
        Name="insights",
        AdvancedEventSelectors=selectors,
        MultiRegionEnabled=False,
        TerminationProtectionEnabled=False,
        TagsList=[{"Key": "team", "Value": "audit"}],
    )
    first, second = (await browser.get("stores")).json["stores"]
    assert (first["name"], first["sql"], first["region"]) == ("insights", '"insights"', "eu-west-1")
    assert first["selectors"] == selectors
    assert (first["multiRegion"], first["terminationProtection"]) == (False, False)
    assert first["tags"] == {"team": "audit"}
    assert second["arn"] == created["EventDataStoreArn"]
    assert (second["account"], second["region"]) == (ACCOUNT, REGION)
    assert (second["retentionDays"], second["status"]) == (30, "ENABLED")
    assert second["created"] == second["updated"] == format_time(browser.api.world.clock.now())
    assert second["restorableUntil"] is None


@asynchronous
async def test_console_changes_stores_by_recorded_calls() -> None:
    browser = Browser()
    browser.become(ConsoleRole.OPERATOR)
    settings = {"Name": "mine", "TerminationProtectionEnabled": False}
    created = await browser.post("aws/CreateEventDataStore", settings)
    given = {"EventDataStore": created.json["EventDataStoreArn"]}
    await browser.post("aws/UpdateEventDataStore", {**given, "RetentionPeriod": 400})
    await browser.post("aws/StopEventDataStoreIngestion", given)
    (stopped,) = (await browser.get("stores")).json["stores"]
    assert (stopped["retentionDays"], stopped["status"]) == (400, "STOPPED_INGESTION")

    await browser.post("aws/DeleteEventDataStore", given)
    (deleted,) = (await browser.get("stores")).json["stores"]
    now = browser.api.world.clock.now()
    assert deleted["status"] == "PENDING_DELETION"
    assert deleted["restorableUntil"] == format_time(now.replace(day=now.day + 7))
    await browser.post("aws/RestoreEventDataStore", given)
    (restored,) = (await browser.get("stores")).json["stores"]
    assert restored["status"] == "ENABLED"

    entries = await browser.api.world.journal.read(0, 100)
    assert [json.loads(entry.record)["eventName"] for entry in entries] == [
        "CreateEventDataStore",
        "UpdateEventDataStore",
        "StopEventDataStoreIngestion",
        "DeleteEventDataStore",
        "RestoreEventDataStore",
    ]
    assert {name for _, name in browser.endpoint.callers} == {"ann"}


@asynchronous
async def test_refused_change_has_the_operations_error() -> None:
    browser = Browser()
    arn = (await browser.api.ok("CreateEventDataStore", Name="mine"))["EventDataStoreArn"]
    refused = await browser.post("aws/DeleteEventDataStore", {"EventDataStore": arn})
    assert refused.status == 400
    assert refused.json["code"] == "EventDataStoreTerminationProtectedException"


@asynchronous
async def test_callers_see_stores_of_their_accounts() -> None:
    browser = Browser()
    for account in (ACCOUNT, OTHER):
        await browser.api.ok("CreateEventDataStore", account=account, Name="same")
    both = (await browser.get("stores")).json["stores"]
    assert sorted(each["sql"] for each in both) == sorted(
        f'"{each["arn"].rpartition("/")[2]}"' for each in both
    )
    browser.become(ConsoleRole.AUDITOR, OTHER)
    (theirs,) = (await browser.get("stores")).json["stores"]
    assert (theirs["account"], theirs["sql"]) == (OTHER, '"same"')
    browser.become(ConsoleRole.VIEWER)
    assert (await browser.get("stores")).status == 403


@asynchronous
async def test_server_without_stores_refuses_the_list() -> None:
    api = Api()
    services = replace(api.services, stores=None)
    trails = next(group for group in api.groups if isinstance(group, Trails))
    api.groups = [
        EventDataStores(services, trails) if isinstance(group, EventDataStores) else group
        for group in api.groups
    ]
    refused = await Browser(api).get("stores")
    assert (refused.status, refused.json["code"]) == (400, "UnsupportedOperationException")
    assert "event data stores on a cluster" in refused.json["error"]


@pytest.mark.parametrize(
    ("selectors", "selected"),
    [
        ([category("Management")], 1),
        ([category("Management", eventName={"StartsWith": ["List"]})], 0),
        ([category("Insight")], 1),
        ([category("Management"), category("NetworkActivity", eventSource={"Equals": ["x"]})], 1),
    ],
)
@asynchronous
async def test_selectors_of_stores_are_previewed(selectors: list[Any], selected: int) -> None:
    browser = Browser()
    now = format_time(browser.api.world.clock.now())
    records = [
        a_record(eventID=event_id(1), eventName="CreateUser", eventTime=now),
        an_insight_record(eventID=event_id(2), eventTime=now),
    ]
    await browser.api.record(records)
    shown = await browser.post("stores/preview", {"AdvancedEventSelectors": selectors})
    assert shown.status == 200, shown.body
    assert (shown.json["events"], shown.json["selected"]) == (2, selected)


@asynchronous
async def test_invalid_selectors_of_stores_cannot_be_previewed() -> None:
    browser = Browser()
    bodies: list[dict[str, Any]] = [
        {},
        {"EventSelectors": [{"ReadWriteType": "All"}]},
        {"AdvancedEventSelectors": [category("Other")]},
    ]
    for given in bodies:
        refused = await browser.post("stores/preview", given)
        assert (refused.status, refused.json["code"]) == (400, "InvalidEventSelectorsException")
