"""The operations on event data stores: effects, answers, errors."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from opentrail.api.cloudtrail.server import CloudTrailApi
from opentrail.capture.proxy.endpoint import SCOPE_KEY
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.lake.store_registry import QUOTA
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION, catalog
from tests.fakes import asynchronous

OTHER = "210987654321"
S3 = {
    "Name": "S3",
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
    ],
}
DEFAULT = {
    "Name": "Default management events",
    "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}],
}


def category(name: str) -> dict[str, Any]:
    return {"FieldSelectors": [{"Field": "eventCategory", "Equals": [name]}]}


async def create(api: Api, name: str = "a-store", **given: Any) -> str:
    """Creates a store and returns its ARN."""
    created = await api.ok("CreateEventDataStore", Name=name, **given)
    return str(created["EventDataStoreArn"])


async def an_api(**given: Any) -> tuple[Api, str]:
    api = Api()
    return api, await create(api, TerminationProtectionEnabled=False, **given)


async def stored(api: Api) -> EventDataStore:
    (store,) = await api.stores.all()
    return store


async def status(api: Api, arn: str) -> str:
    return str((await api.ok("GetEventDataStore", EventDataStore=arn))["Status"])


@asynchronous
async def test_new_store_has_awss_defaults() -> None:
    api = Api()
    created = await api.ok("CreateEventDataStore", Name="a-store")
    now = api.world.clock.now().timestamp()
    expected = {
        "EventDataStoreArn": created["EventDataStoreArn"],
        "Name": "a-store",
        "AdvancedEventSelectors": [DEFAULT],
        "MultiRegionEnabled": True,
        "OrganizationEnabled": False,
        "RetentionPeriod": 366,
        "TerminationProtectionEnabled": True,
        "CreatedTimestamp": now,
        "UpdatedTimestamp": now,
        "BillingMode": "EXTENDABLE_RETENTION_PRICING",
    }
    assert created == {**expected, "Status": "CREATED", "TagsList": []}
    arn = created["EventDataStoreArn"]
    assert arn.startswith(f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:eventdatastore/")
    for given in (arn, arn.rpartition("/")[2]):
        store = await api.ok("GetEventDataStore", EventDataStore=given)
        assert store == {**expected, "Status": "ENABLED", "FederationStatus": "DISABLED"}
    fixed = await api.ok(
        "CreateEventDataStore", Name="fixed", BillingMode="FIXED_RETENTION_PRICING"
    )
    assert fixed["RetentionPeriod"] == 2_557


@asynchronous
async def test_stores_are_listed_by_region_and_page() -> None:
    api = Api()
    for name in ("store-b", "store-a"):
        await create(api, name)
    await create(api, "elsewhere", region="eu-west-1")
    await create(api, "foreign", account=OTHER)
    listed = await api.ok("ListEventDataStores")
    assert [each["Name"] for each in listed["EventDataStores"]] == [
        "event_history",
        "store-a",
        "store-b",
    ]
    first = await api.ok("ListEventDataStores", MaxResults=2)
    rest = await api.ok("ListEventDataStores", NextToken=first["NextToken"])
    assert first["EventDataStores"] + rest["EventDataStores"] == listed["EventDataStores"]
    assert "NextToken" not in rest


@asynchronous
async def test_other_accounts_and_regions_have_no_such_store() -> None:
    api, arn = await an_api()
    for given in ({"account": OTHER}, {"region": "eu-west-1"}):
        for store in (arn, arn.rpartition("/")[2]):
            for operation in ("GetEventDataStore", "DeleteEventDataStore"):
                code, _ = await api.error(operation, EventDataStore=store, **given)
                assert code == "EventDataStoreNotFoundException"
        code, _ = await api.error("ListTags", ResourceIdList=[arn], **given)
        assert code == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Name": "no spaces"}, "InvalidParameterException"),
        ({"Name": "ab"}, "InvalidParameterException"),
        ({"Name": "event_history"}, "EventDataStoreAlreadyExistsException"),
        ({"Name": "A-Store"}, "EventDataStoreAlreadyExistsException"),
        ({"RetentionPeriod": 6}, "InvalidParameterException"),
        ({"RetentionPeriod": 3_654}, "InvalidParameterException"),
        (
            {"RetentionPeriod": 2_558, "BillingMode": "FIXED_RETENTION_PRICING"},
            "InvalidParameterException",
        ),
        ({"OrganizationEnabled": True}, "UnsupportedOperationException"),
        ({"KmsKeyId": "alias/key"}, "UnsupportedOperationException"),
        (
            {"AdvancedEventSelectors": [category("Data")]},
            "InvalidEventSelectorsException",
        ),
        (
            {"AdvancedEventSelectors": [category("Management"), category("Insight")]},
            "InvalidEventSelectorsException",
        ),
        (
            {"AdvancedEventSelectors": [category("ConfigurationItem")]},
            "UnsupportedOperationException",
        ),
        ({"TagsList": [{"Key": "aws:x", "Value": "y"}]}, "InvalidTagParameterException"),
    ],
)
@asynchronous
async def test_wrong_settings_are_refused(given: dict[str, Any], code: str) -> None:
    api, _ = await an_api()
    assert (await api.error("CreateEventDataStore", **{"Name": "other", **given}))[0] == code
    assert [store.name for store in await api.stores.all()] == ["a-store"]


@asynchronous
async def test_a_region_has_at_most_ten_stores() -> None:
    api = Api()
    for number in range(QUOTA):
        arn = await create(api, f"store-{number}", TerminationProtectionEnabled=False)
    await api.ok("DeleteEventDataStore", EventDataStore=arn)
    code, _ = await api.error("CreateEventDataStore", Name="one-more")
    assert code == "EventDataStoreMaxLimitExceededException"
    await create(api, "one-more", region="eu-west-1")


@asynchronous
async def test_updates_change_only_given_settings() -> None:
    api, arn = await an_api()
    before = await api.ok("GetEventDataStore", EventDataStore=arn)
    api.world.clock.advance(10)
    updated = await api.ok(
        "UpdateEventDataStore",
        EventDataStore=arn,
        Name="renamed",
        RetentionPeriod=7,
        AdvancedEventSelectors=[S3],
        MultiRegionEnabled=False,
        TerminationProtectionEnabled=True,
    )
    assert updated == {
        **before,
        "Name": "renamed",
        "RetentionPeriod": 7,
        "AdvancedEventSelectors": [S3],
        "MultiRegionEnabled": False,
        "TerminationProtectionEnabled": True,
        "UpdatedTimestamp": before["UpdatedTimestamp"] + 10,
    }
    assert await api.ok("GetEventDataStore", EventDataStore=arn) == updated


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "InvalidParameterException"),
        ({"Name": "taken"}, "EventDataStoreAlreadyExistsException"),
        ({"BillingMode": "FIXED_RETENTION_PRICING"}, "InvalidParameterException"),
        (
            {"AdvancedEventSelectors": [category("Insight")]},
            "InvalidEventSelectorsException",
        ),
        ({"KmsKeyId": "alias/key"}, "UnsupportedOperationException"),
    ],
)
@asynchronous
async def test_wrong_updates_are_refused(given: dict[str, Any], code: str) -> None:
    api, arn = await an_api()
    await create(api, "taken")
    assert (await api.error("UpdateEventDataStore", EventDataStore=arn, **given))[0] == code


@asynchronous
async def test_statuses_follow_the_operations() -> None:
    api, arn = await an_api()
    wrong = "InvalidEventDataStoreStatusException"

    async def refused(operation: str) -> str:
        return (await api.error(operation, EventDataStore=arn))[0]

    assert await refused("StartEventDataStoreIngestion") == wrong
    assert await refused("RestoreEventDataStore") == wrong
    assert await api.ok("StopEventDataStoreIngestion", EventDataStore=arn) == {}
    assert await status(api, arn) == "STOPPED_INGESTION"
    assert await refused("StopEventDataStoreIngestion") == wrong
    assert await api.ok("StartEventDataStoreIngestion", EventDataStore=arn) == {}
    assert await status(api, arn) == "ENABLED"
    assert await api.ok("DeleteEventDataStore", EventDataStore=arn) == {}
    assert await status(api, arn) == "PENDING_DELETION"
    inactive = "InactiveEventDataStoreException"
    assert await refused("DeleteEventDataStore") == inactive
    assert await refused("StopEventDataStoreIngestion") == wrong
    for operation, given in (
        ("UpdateEventDataStore", {"EventDataStore": arn, "Name": "renamed"}),
        ("ListQueries", {"EventDataStore": arn}),
        ("DescribeQuery", {"EventDataStore": arn, "QueryId": arn[-36:]}),
        ("GetQueryResults", {"EventDataStore": arn, "QueryId": arn[-36:]}),
        ("CancelQuery", {"EventDataStore": arn, "QueryId": arn[-36:]}),
        ("StartQuery", {"QueryStatement": f"SELECT n FROM {arn[-36:]}"}),  # noqa: S608
        ("AddTags", {"ResourceId": arn, "TagsList": [{"Key": "a"}]}),
    ):
        assert (await api.error(operation, **given))[0] == inactive, operation
    restored = await api.ok("RestoreEventDataStore", EventDataStore=arn)
    assert restored["Status"] == "ENABLED"
    assert await api.ok("ListQueries", EventDataStore=arn) == {"Queries": []}


@asynchronous
async def test_protected_stores_are_not_deleted() -> None:
    api = Api()
    arn = await create(api)
    for store in (arn, "event_history"):
        code, _ = await api.error("DeleteEventDataStore", EventDataStore=store)
        assert code == "EventDataStoreTerminationProtectedException"
    for operation in ("UpdateEventDataStore", "StopEventDataStoreIngestion"):
        code, _ = await api.error(operation, EventDataStore="event_history")
        assert code == "OperationNotPermittedException"


@asynchronous
async def test_federation_is_enabled_and_disabled() -> None:
    api = Api()
    arn = await create(api)
    role = "arn:aws:iam::123456789012:role/readers"
    given = {"EventDataStore": arn, "FederationRoleArn": role}
    enabled = {"FederationStatus": "ENABLED", "FederationRoleArn": role}
    api.stores.table = lambda store: f"/data/{store.name}/iceberg"
    assert await api.ok("EnableFederation", **given) == {"EventDataStoreArn": arn, **enabled}
    described = await api.ok("GetEventDataStore", EventDataStore=arn)
    assert {name: described[name] for name in enabled} == enabled
    tables = (await api.ask("/api/v1/query-tables")).json["tables"]
    assert [table["iceberg"] for table in tables] == [None, "/data/a-store/iceberg"]
    assert (await api.error("EnableFederation", **given))[0] == "OperationNotPermittedException"
    await api.ok("UpdateEventDataStore", EventDataStore=arn, TerminationProtectionEnabled=False)
    code, _ = await api.error("DeleteEventDataStore", EventDataStore=arn)
    assert code == "EventDataStoreFederationEnabledException"
    disabled = {"EventDataStoreArn": arn, "FederationStatus": "DISABLED"}
    for _ in range(2):
        assert await api.ok("DisableFederation", EventDataStore=arn) == disabled
    assert "FederationRoleArn" not in await api.ok("GetEventDataStore", EventDataStore=arn)
    await api.ok("DeleteEventDataStore", EventDataStore=arn)
    assert (await api.error("EnableFederation", **given))[0] == "InactiveEventDataStoreException"


@pytest.mark.parametrize("role", ["readers", "arn:aws:iam::1:role/r"])
@asynchronous
async def test_federation_needs_a_role(role: str) -> None:
    api = Api()
    arn = await create(api)
    code, _ = await api.error("EnableFederation", EventDataStore=arn, FederationRoleArn=role)
    assert code == "InvalidParameterException"


@asynchronous
async def test_event_history_is_not_federated() -> None:
    code, _ = await Api().error("DisableFederation", EventDataStore="event_history")
    assert code == "OperationNotPermittedException"


@asynchronous
async def test_deleted_store_is_gone_after_a_week() -> None:
    api, arn = await an_api()
    await api.ok("DeleteEventDataStore", EventDataStore=arn)
    api.world.clock.advance(timedelta(days=7).total_seconds())
    for operation in ("GetEventDataStore", "RestoreEventDataStore", "ListQueries"):
        code, _ = await api.error(operation, EventDataStore=arn)
        assert code == "EventDataStoreNotFoundException"
    assert len((await api.ok("ListEventDataStores"))["EventDataStores"]) == 1
    await create(api, "a-store")


@asynchronous
async def test_ingestion_of_insights_events_is_not_stopped() -> None:
    api, arn = await an_api(AdvancedEventSelectors=[category("Insight")])
    code, _ = await api.error("StopEventDataStoreIngestion", EventDataStore=arn)
    assert code == "InvalidEventDataStoreCategoryException"


@asynchronous
async def test_changes_are_in_effect_from_their_call_on() -> None:
    api, arn = await an_api(AdvancedEventSelectors=[S3])
    (first,) = (await stored(api)).phases
    assert first == Phase(first.after, [S3], every_region=True)
    for operation, given in (
        ("StopEventDataStoreIngestion", {}),
        ("StartEventDataStoreIngestion", {}),
        ("UpdateEventDataStore", {"RetentionPeriod": 9}),
        ("UpdateEventDataStore", {"AdvancedEventSelectors": [DEFAULT]}),
        ("DeleteEventDataStore", {}),
        ("RestoreEventDataStore", {}),
    ):
        await api.ok(operation, EventDataStore=arn, **given)
    assert [(each.after - first.after, each.selectors) for each in (await stored(api)).phases] == [
        (0, [S3]),
        (1, None),
        (2, [S3]),
        (4, [DEFAULT]),
        (5, None),
        (6, [DEFAULT]),
    ]


@asynchronous
async def test_store_created_without_ingestion_has_no_events() -> None:
    api, arn = await an_api(StartIngestion=False)
    assert await status(api, arn) == "STOPPED_INGESTION"
    assert [phase.selectors for phase in (await stored(api)).phases] == [None]


@asynchronous
async def test_clusters_have_no_created_stores() -> None:
    api = Api()
    services = replace(api.services, stores=None)
    api.app = CloudTrailApi(services, catalog(), SCOPE_KEY).app
    code, text = await api.error("CreateEventDataStore", Name="a-store")
    assert (code, "cluster" in text) == ("UnsupportedOperationException", True)
    assert len((await api.ok("ListEventDataStores"))["EventDataStores"]) == 1
    store = "0a1b2c3d-0000-4000-8000-00000000000a"
    code, _ = await api.error("GetEventDataStore", EventDataStore=store)
    assert code == "EventDataStoreNotFoundException"


@asynchronous
async def test_stores_have_tags() -> None:
    api, arn = await an_api(TagsList=[{"Key": "team", "Value": "audit"}])
    await api.ok("AddTags", ResourceId=arn, TagsList=[{"Key": "cost", "Value": "7"}])
    await api.ok("RemoveTags", ResourceId=arn, TagsList=[{"Key": "team"}])
    (found,) = (await api.ok("ListTags", ResourceIdList=[arn]))["ResourceTagList"]
    assert found == {"ResourceId": arn, "TagsList": [{"Key": "cost", "Value": "7"}]}


@asynchronous
async def test_statement_may_read_the_stores_it_names() -> None:
    api, arn = await an_api()
    await create(api, "elsewhere", region="eu-west-1")
    await create(api, "foreign", account=OTHER)
    store_id = arn.rpartition("/")[2]
    for tables, expected in (
        ('"a-store"', ["a-store"]),
        (f'"{store_id.upper()}", "A-STORE"', [store_id, "a-store"]),
        ('"b_a-store_c", elsewhere, foreign', []),
    ):
        await api.ok("StartQuery", QueryStatement=f"SELECT n FROM {tables}")  # noqa: S608
        readable = api.engine.tables[-1]
        assert [*readable.stores] == expected
        assert (readable.until > 0) == bool(expected)
