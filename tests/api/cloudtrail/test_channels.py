"""Channels and the events that they receive: effects, answers, errors."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from opentrail.capture.proxy.endpoint import SCOPE_KEY, ApiCall
from opentrail.core.entry_matching import EntryBatch
from opentrail.core.event import ACTIVITY, Entry
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.identity import Identity, root
from opentrail.lake.channel_registry import MAX_CHANNELS
from opentrail.ports.control import Put
from tests.api.caller import Api, send
from tests.factories import ACCOUNT, REGION, an_identity
from tests.fakes import asynchronous

OTHER = "210987654321"
PLACE = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}"
NOBODY = "11111111-2222-3333-4444-555555555555"
AUDIT = [{"FieldSelectors": [{"Field": "eventCategory", "Equals": [ACTIVITY]}]}]


async def a_store(api: Api, name: str = "audit", **given: Any) -> str:
    """Creates a store for events of channels; returns its ARN."""
    settings = {"MultiRegionEnabled": False, "TerminationProtectionEnabled": False, **given}
    store = await api.ok(
        "CreateEventDataStore", Name=name, AdvancedEventSelectors=AUDIT, **settings
    )
    return str(store["EventDataStoreArn"])


def destinations(*arns: str) -> list[dict[str, str]]:
    return [{"Type": "EVENT_DATA_STORE", "Location": arn} for arn in arns]


async def create(api: Api, *stores: str, **given: Any) -> str:
    """Creates a channel; returns its ARN."""
    settings = {"Name": "orders", "Source": "Custom", "Destinations": destinations(*stores)}
    return str((await api.ok("CreateChannel", **{**settings, **given}))["ChannelArn"])


async def an_api(**given: Any) -> tuple[Api, str, str]:
    """Returns an API with a channel and its destination, and their ARNs."""
    api = Api()
    store = await a_store(api)
    return api, await create(api, store, **given), store


def data(**changes: Any) -> dict[str, Any]:
    """Returns a valid `eventData`."""
    event = {
        "version": "1.0",
        "userIdentity": {"type": "Customer", "principalId": "mary@example.com"},
        "eventSource": "orders.example.com",
        "eventName": "CancelOrder",
        "eventTime": "2020-01-01T08:59:00Z",
        "UID": "order-7",
        "sourceIPAddress": "192.0.2.7",
        "requestParameters": {"orderId": "7"},
        "recipientAccountId": ACCOUNT,
        **changes,
    }
    return {name: value for name, value in event.items() if value is not ...}


def sent(*events: dict[str, Any] | str) -> list[dict[str, str]]:
    """Returns the events of a request, with the ids 1, 2, …"""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in events]
    return [{"id": str(number), "eventData": text} for number, text in enumerate(texts, 1)]


async def put(api: Api, channel: str, *events: dict[str, Any] | str, **given: Any) -> Any:
    return await api.ok("PutAuditEvents", channelArn=channel, auditEvents=sent(*events), **given)


async def entries(api: Api) -> list[Entry]:
    """Returns the entries of events from channels."""
    found = await api.world.journal.read(0, 1_000)
    return [entry for entry in found if entry.category == ACTIVITY]


async def selected(api: Api, arn: str) -> list[str]:
    """Returns the names of the events that a store has."""
    (store,) = [each for each in await api.stores.all() if str(each.arn) == arn]
    names = []
    for entry in await entries(api):
        for phase, _, _ in store.phases_of(entry.position, entry.position):
            if phase and phase.selectors and store.matcher(phase)(entry, EntryBatch([entry])):
                names.append(json.loads(entry.record)["eventData"]["eventName"])
    return names


# Channels


@asynchronous
async def test_new_channel_is_described_and_listed() -> None:
    api = Api()
    store = await a_store(api)
    tags = [{"Key": "team", "Value": "shop"}]
    created = await api.ok(
        "CreateChannel",
        Name="orders",
        Source="Custom",
        Destinations=destinations(store),
        Tags=tags,
    )
    arn = created["ChannelArn"]
    assert arn.startswith(f"{PLACE}:channel/")
    expected = {
        "ChannelArn": arn,
        "Name": "orders",
        "Source": "Custom",
        "Destinations": destinations(store),
    }
    assert created == {**expected, "Tags": tags}
    for name in (arn, arn.rpartition("/")[2]):
        described = await api.ok("GetChannel", Channel=name)
        assert described == {**expected, "IngestionStatus": {}}
    assert await api.ok("ListChannels") == {"Channels": [{"ChannelArn": arn, "Name": "orders"}]}
    assert await api.ok("ListChannels", region="eu-west-1") == {"Channels": []}
    assert await api.ok("ListChannels", account=OTHER) == {"Channels": []}


@asynchronous
async def test_channels_are_listed_by_page() -> None:
    api, _, store = await an_api()
    await create(api, store, Name="logins", Source="OktaSystemLogEvents")
    first = await api.ok("ListChannels", MaxResults=1)
    rest = await api.ok("ListChannels", NextToken=first["NextToken"])
    names = [each["Name"] for each in first["Channels"] + rest["Channels"]]
    assert names == ["logins", "orders"]
    assert "NextToken" not in rest
    assert (await api.error("ListChannels", NextToken="abcd"))[0] == "InvalidNextTokenException"


@asynchronous
async def test_channel_has_new_name_and_destinations() -> None:
    api, arn, store = await an_api()
    other = await a_store(api, "other")
    changed = await api.ok(
        "UpdateChannel", Channel=arn, Name="sales", Destinations=destinations(store, other)
    )
    assert changed["Name"] == "sales"
    assert changed["Destinations"] == destinations(store, other)
    assert (await api.ok("UpdateChannel", Channel=arn, Name="orders"))["Destinations"] == (
        destinations(store, other)
    )
    assert (await api.error("UpdateChannel", Channel=arn))[0] == "InvalidParameterException"


@asynchronous
async def test_deleted_channel_leaves_nothing() -> None:
    api, arn, store = await an_api()
    await put(api, arn, data())
    await api.channels.save_statuses()
    policy = {
        "Effect": "Allow",
        "Principal": {"AWS": OTHER},
        "Action": "cloudtrail-data:PutAuditEvents",
        "Resource": arn,
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    await api.ok("PutResourcePolicy", ResourceArn=arn, ResourcePolicy=document)
    assert await api.ok("DeleteChannel", Channel=arn) == {}
    for operation in ("GetChannel", "DeleteChannel"):
        assert (await api.error(operation, Channel=arn))[0] == "ChannelNotFoundException"
    code, _ = await api.error("PutAuditEvents", channelArn=arn, auditEvents=sent(data()))
    assert code == "ChannelNotFound"
    for kind in ("channel", "channel-status", "resource-policy"):
        assert await api.world.control.scan(kind) == []
    assert await selected(api, store) == ["CancelOrder"]
    await api.ok("DeleteEventDataStore", EventDataStore=store)


@asynchronous
async def test_other_accounts_and_regions_have_no_such_channel() -> None:
    api, arn, _ = await an_api()
    for given in ({"account": OTHER}, {"region": "eu-west-1"}):
        for channel in (arn, arn.rpartition("/")[2]):
            for operation in ("GetChannel", "DeleteChannel", "UpdateChannel"):
                more = {"Name": "mine"} if operation == "UpdateChannel" else {}
                code, _ = await api.error(operation, Channel=channel, **given, **more)
                assert code == "ChannelNotFoundException"
        code, _ = await api.error("ListTags", ResourceIdList=[arn], **given)
        assert code == "ResourceNotFoundException"
        code, _ = await api.error(
            "PutAuditEvents", channelArn=arn, auditEvents=sent(data()), **given
        )
        assert code == "ChannelNotFound"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Name": "ab"}, "InvalidParameterException"),
        ({"Name": "no spaces"}, "InvalidParameterException"),
        ({"Source": "MyApp"}, "InvalidSourceException"),
        ({"Destinations": []}, "InvalidParameterException"),
        (
            {"Destinations": [{"Type": "AWS_SERVICE", "Location": "x.amazonaws.com"}]},
            "InvalidParameterException",
        ),
        (
            {"Destinations": destinations(f"{PLACE}:eventdatastore/{NOBODY}")},
            "EventDataStoreNotFoundException",
        ),
        (
            {"Destinations": destinations(f"{PLACE}:eventdatastore/x".replace(ACCOUNT, OTHER))},
            "EventDataStoreNotFoundException",
        ),
        (
            {"Destinations": destinations(f"{PLACE}:trail/my-trail")},
            "EventDataStoreARNInvalidException",
        ),
        ({"Destinations": destinations(NOBODY)}, "EventDataStoreARNInvalidException"),
        ({"Tags": [{"Key": "aws:x"}]}, "InvalidTagParameterException"),
        (
            {"Tags": [{"Key": str(number)} for number in range(51)]},
            "TagsLimitExceededException",
        ),
    ],
)
@asynchronous
async def test_impossible_channel_is_refused(given: dict[str, Any], code: str) -> None:
    api = Api()
    store = await a_store(api)
    channel = {"Name": "orders", "Source": "Custom", "Destinations": destinations(store)}
    refused, _ = await api.error("CreateChannel", **{**channel, **given})
    if given.get("Tags") and refused == "InvalidTagParameterException":
        assert code in (refused, "TagsLimitExceededException")
    else:
        assert refused == code
    assert await api.ok("ListChannels") == {"Channels": []}


@asynchronous
async def test_destination_has_events_of_channels() -> None:
    api, arn, store = await an_api()
    calls = (await api.ok("CreateEventDataStore", Name="calls"))["EventDataStoreArn"]
    history = (await api.ok("ListEventDataStores"))["EventDataStores"]
    own = next(each["EventDataStoreArn"] for each in history if each["Name"] == "event_history")
    for wrong in (calls, own):
        code, _ = await api.error(
            "UpdateChannel", Channel=arn, Destinations=destinations(store, wrong)
        )
        assert code == "InvalidEventDataStoreCategoryException"
    deleted = await a_store(api, "deleted")
    await api.ok("DeleteEventDataStore", EventDataStore=deleted)
    code, _ = await api.error("UpdateChannel", Channel=arn, Destinations=destinations(deleted))
    assert code == "InactiveEventDataStoreException"
    code, _ = await api.error("UpdateChannel", Channel=arn, Destinations=destinations(store, store))
    assert code == "InvalidParameterException"


@asynchronous
async def test_names_and_sources_are_unique() -> None:
    api, arn, store = await an_api()
    for given in ({"Source": "Clumio"}, {"Name": "other"}):
        settings = {"Name": "Orders", "Source": "Custom", "Destinations": destinations(store)}
        code, _ = await api.error("CreateChannel", **{**settings, **given})
        assert code == "ChannelAlreadyExistsException"
    await create(api, store, Name="backups", Source="Clumio")
    code, _ = await api.error("UpdateChannel", Channel=arn, Name="backups")
    assert code == "ChannelAlreadyExistsException"
    elsewhere = await a_store(api, region="eu-west-1")
    await create(api, elsewhere, region="eu-west-1")


@asynchronous
async def test_an_account_has_a_quota_of_channels() -> None:
    api, arn, store = await an_api()
    channel = await api.channels.find(ACCOUNT, REGION, arn)
    for number in range(MAX_CHANNELS - 1):
        document = {**channel.document(), "id": str(number), "name": f"c{number}", "source": ""}
        key = f"{ACCOUNT}/{REGION}/{number}"
        await api.world.control.apply([Put("channel", key, document)])
    settings = {"Name": "more", "Source": "GitHub", "Destinations": destinations(store)}
    assert (await api.error("CreateChannel", **settings))[0] == "ChannelMaxLimitExceededException"


@pytest.mark.parametrize("operation", ["GetChannel", "DeleteChannel", "UpdateChannel"])
@asynchronous
async def test_wrong_arns_of_channels_are_refused(operation: str) -> None:
    more = {"Name": "new"} if operation == "UpdateChannel" else {}
    for given in (f"{PLACE}:trail/orders", "arn:aws:s3:::orders", "no channel"):
        code, _ = await Api().error(operation, Channel=given, **more)
        assert code == "ChannelARNInvalidException"
    code, _ = await Api().error(operation, Channel=NOBODY, **more)
    assert code == "ChannelNotFoundException"


@asynchronous
async def test_channels_have_tags() -> None:
    api, arn, _ = await an_api(Tags=[{"Key": "team", "Value": "shop"}])
    await api.ok("AddTags", ResourceId=arn, TagsList=[{"Key": "stage", "Value": "live"}])
    await api.ok("RemoveTags", ResourceId=arn, TagsList=[{"Key": "team"}])
    (found,) = (await api.ok("ListTags", ResourceIdList=[arn]))["ResourceTagList"]
    assert found["TagsList"] == [{"Key": "stage", "Value": "live"}]
    missing = f"{PLACE}:channel/{NOBODY}"
    code, _ = await api.error("AddTags", ResourceId=missing, TagsList=[{"Key": "a"}])
    assert code == "ResourceNotFoundException"


# Stores


@asynchronous
async def test_store_of_a_channel_cannot_be_deleted() -> None:
    api, arn, store = await an_api()
    code, text = await api.error("DeleteEventDataStore", EventDataStore=store)
    assert code == "ChannelExistsForEDSException"
    assert arn in text
    await api.ok(
        "UpdateChannel", Channel=arn, Destinations=destinations(await a_store(api, "other"))
    )
    await api.ok("DeleteEventDataStore", EventDataStore=store)


@asynchronous
async def test_stores_for_channels_have_one_region() -> None:
    api, _, store = await an_api()
    for given in ({}, {"MultiRegionEnabled": True}):
        code, text = await api.error(
            "CreateEventDataStore", Name="new", AdvancedEventSelectors=AUDIT, **given
        )
        assert (code, "MultiRegionEnabled" in text) == ("InvalidParameterException", True)
    code, _ = await api.error("UpdateEventDataStore", EventDataStore=store, MultiRegionEnabled=True)
    assert code == "InvalidParameterException"


@asynchronous
async def test_stores_for_channels_keep_their_category() -> None:
    api, _, store = await an_api()
    calls = (await api.ok("CreateEventDataStore", Name="calls"))["EventDataStoreArn"]
    management = [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}]
    for given, selectors in ((store, management), (calls, AUDIT)):
        code, text = await api.error(
            "UpdateEventDataStore", EventDataStore=given, AdvancedEventSelectors=selectors
        )
        assert code == "InvalidEventSelectorsException"
        assert f"between {ACTIVITY} events and others" in text
    for operation in ("StopEventDataStoreIngestion", "StartEventDataStoreIngestion"):
        code, _ = await api.error(operation, EventDataStore=store)
        assert code == "InvalidEventDataStoreCategoryException"


@asynchronous
async def test_events_go_to_the_destinations_of_their_time() -> None:
    api, arn, first = await an_api()
    second = await a_store(api, "second")
    await put(api, arn, data(eventName="One"))
    await api.ok("UpdateChannel", Channel=arn, Destinations=destinations(first, second))
    await put(api, arn, data(eventName="Two"))
    await api.ok("UpdateChannel", Channel=arn, Destinations=destinations(second))
    await put(api, arn, data(eventName="Three"))
    other = await create(api, first, Name="other", Source="WizAuditLogs")
    await put(api, other, data(eventName="Four"))
    await api.ok("UpdateEventDataStore", EventDataStore=second, Name="renamed")
    await put(api, arn, data(eventName="Five"))
    assert await selected(api, first) == ["One", "Two", "Four"]
    assert await selected(api, second) == ["Two", "Three", "Five"]


@asynchronous
async def test_only_stores_of_channels_have_them_in_their_documents() -> None:
    """Earlier versions read the documents of other stores in a rolling upgrade."""
    api, arn, store = await an_api()
    await api.ok("CreateEventDataStore", Name="calls")
    for stored in await api.world.control.scan("event-data-store"):
        read = EventDataStore.from_document(stored.document)
        assert json.loads(json.dumps(read.document())) == json.loads(json.dumps(stored.document))
        is_destination = str(read.arn) == store
        assert ("channels" in stored.document) is is_destination
        assert all(("channels" in phase) is is_destination for phase in stored.document["phases"])
        assert read.channels == ((arn,) if is_destination else ())


# Events


@asynchronous
async def test_events_are_recorded_in_awss_form() -> None:
    api, arn, store = await an_api()
    answer = await put(api, arn, data(), data(eventName="PayOrder", errorCode="Declined"))
    first, second = await entries(api)
    assert answer == {
        "successful": [
            {"id": "1", "eventID": first.event_id},
            {"id": "2", "eventID": second.event_id},
        ],
        "failed": [],
    }
    assert (first.origin, first.account, first.region) == ("channel", ACCOUNT, REGION)
    now = api.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert json.loads(first.record) == {
        "eventVersion": "1.0",
        "eventCategory": "ActivityAuditLog",
        "eventType": "ActivityLog",
        "eventID": first.event_id,
        "eventTime": "2020-01-01T08:59:00Z",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        "metadata": {"ingestionTime": now, "channelARN": arn},
        "eventData": data(),
    }
    assert await selected(api, store) == ["CancelOrder", "PayOrder"]


@asynchronous
async def test_valid_events_of_a_request_are_recorded() -> None:
    api, arn, _ = await an_api()
    answer = await put(api, arn, "{", data(), data(eventName=...))
    assert [each["id"] for each in answer["successful"]] == ["2"]
    assert [(each["id"], each["errorCode"]) for each in answer["failed"]] == [
        ("1", "InvalidData"),
        ("3", "FieldNotFound"),
    ]
    (entry,) = await entries(api)
    assert entry.event_id == answer["successful"][0]["eventID"]


@asynchronous
async def test_checksums_are_verified() -> None:
    api, arn, _ = await an_api()
    good, bad = sent(data(), data())
    text = good["eventData"].encode()
    good["eventDataChecksum"] = base64.b64encode(hashlib.sha256(text).digest()).decode()
    bad["eventDataChecksum"] = base64.b64encode(hashlib.sha256(b"else").digest()).decode()
    answer = await api.ok("PutAuditEvents", channelArn=arn, auditEvents=[good, bad])
    assert [each["id"] for each in answer["successful"]] == ["1"]
    assert [each["errorCode"] for each in answer["failed"]] == ["InvalidChecksum"]


@asynchronous
async def test_repeated_ids_refuse_the_whole_request() -> None:
    api, arn, _ = await an_api()
    events = [{**each, "id": "same"} for each in sent(data(), data())]
    code, text = await api.error("PutAuditEvents", channelArn=arn, auditEvents=events)
    assert (code, "same" in text) == ("DuplicatedAuditEventId", True)
    assert await entries(api) == []


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"id": str(number), "eventData": "{}"} for number in range(101)],
        [{"id": "a b", "eventData": "{}"}],
        [{"id": "1"}],
    ],
)
@asynchronous
async def test_requests_are_checked_against_the_model(events: list[dict[str, str]]) -> None:
    api, arn, _ = await an_api()
    code, _ = await api.error("PutAuditEvents", channelArn=arn, auditEvents=events)
    assert code == "ValidationException"


@asynchronous
async def test_wrong_arns_receive_nothing() -> None:
    api, arn, store = await an_api()
    for given, expected in (
        (store, "InvalidChannelARN"),
        ("channel", "InvalidChannelARN"),
        (f"{PLACE}:channel/{NOBODY}", "ChannelNotFound"),
        (NOBODY, "ChannelNotFound"),
    ):
        code, _ = await api.error("PutAuditEvents", channelArn=given, auditEvents=sent(data()))
        assert code == expected
    assert len((await put(api, arn.rpartition("/")[2], data()))["successful"]) == 1


@asynchronous
async def test_only_the_query_string_names_the_channel() -> None:
    api, arn, _ = await an_api()
    own = ApiCall("call", an_identity(), ACCOUNT, REGION, "192.0.2.10")
    for given in (arn, 7, None):
        body = json.dumps({"auditEvents": sent(data()), "channelArn": given}).encode()
        answer = await send(api.app, "POST", "/PutAuditEvents", {}, body, **{SCOPE_KEY: own})
        assert answer.error[0] == "ValidationException"
    assert await entries(api) == []


@asynchronous
async def test_secrets_are_not_recorded() -> None:
    api, arn, _ = await an_api()
    event = data(
        requestParameters={"password": "hunter2-and-more", "orderId": "7"},
        userAgent="curl https://x/?token=hunter2-and-more",
        additionalEventData={"body": '{"apiKey": "hunter2-and-more"}'},
    )
    await put(api, arn, event)
    (entry,) = await entries(api)
    assert b"hunter2" not in entry.record
    assert json.loads(entry.record)["eventData"]["requestParameters"]["orderId"] == "7"


@asynchronous
async def test_channel_shows_the_latest_events() -> None:
    api, arn, _ = await an_api()
    answer = await put(api, arn, data())
    succeeded = api.world.clock.now().timestamp()
    api.world.clock.advance(60)
    await put(api, arn, "{")
    for _ in range(2):
        status = (await api.ok("GetChannel", Channel=arn))["IngestionStatus"]
        assert status.pop("LatestIngestionAttemptEventID")
        assert status == {
            "LatestIngestionSuccessTime": succeeded,
            "LatestIngestionSuccessEventID": answer["successful"][0]["eventID"],
            "LatestIngestionErrorCode": "InvalidData",
            "LatestIngestionAttemptTime": succeeded + 60,
        }
        await api.channels.save_statuses()
    revision = await api.world.control.revisions(["channel-status"])
    await api.channels.save_statuses()
    assert await api.world.control.revisions(["channel-status"]) == revision


@asynchronous
async def test_journal_that_refuses_records_no_event() -> None:
    api, arn, _ = await an_api()
    api.world.journal.failure = "the disk is full"
    own = ApiCall("call", an_identity(), ACCOUNT, REGION, "192.0.2.10")
    body = json.dumps({"auditEvents": sent(data())}).encode()
    path = f"/PutAuditEvents?channelArn={arn}"
    answer = await send(api.app, "POST", path, {}, body, **{SCOPE_KEY: own})
    assert (answer.status, answer.error[0]) == (503, "ServiceUnavailable")
    api.world.journal.failure = None
    assert await entries(api) == []
    assert (await api.ok("GetChannel", Channel=arn))["IngestionStatus"] == {}


# Other accounts


def policy(arn: str, **condition: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": OTHER},
        "Action": "cloudtrail-data:PutAuditEvents",
        "Resource": arn,
        **condition,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@asynchronous
async def test_policy_lets_other_accounts_send_events() -> None:
    api, arn, store = await an_api()
    event = {"channelArn": arn, "auditEvents": sent(data())}
    assert (await api.error("PutAuditEvents", account=OTHER, **event))[0] == "ChannelNotFound"
    condition = {"StringEquals": {"cloudtrail:ExternalId": "from-the-shop"}}
    await api.ok(
        "PutResourcePolicy", ResourceArn=arn, ResourcePolicy=policy(arn, Condition=condition)
    )
    for given in ({}, {"externalId": "of-another"}, {"account": "333333333333"}):
        code, _ = await api.error("PutAuditEvents", **{"account": OTHER, **event, **given})
        assert code == "ChannelInsufficientPermission"
    await api.ok("PutAuditEvents", account=OTHER, externalId="from-the-shop", **event)
    (entry,) = await entries(api)
    assert entry.account == ACCOUNT
    assert await selected(api, store) == ["CancelOrder"]
    wrong = sent(data(recipientAccountId=OTHER))
    answer = await api.ok(
        "PutAuditEvents",
        account=OTHER,
        channelArn=arn,
        externalId="from-the-shop",
        auditEvents=wrong,
    )
    assert [each["errorCode"] for each in answer["failed"]] == ["InvalidRecipient"]


@asynchronous
async def test_enforced_policies_decide_about_other_accounts() -> None:
    api = Api(enforced=True)
    owner, sender = (
        Identity(f"AKIA{account}", account, root(account)) for account in (ACCOUNT, OTHER)
    )
    store = await a_store(api, identity=owner)
    arn = await create(api, store, identity=owner)
    event = {"channelArn": arn, "auditEvents": sent(data())}
    theirs = {"account": OTHER, "identity": sender}
    assert (await api.error("PutAuditEvents", **theirs, **event))[0] == "ChannelNotFound"
    condition = {"StringEquals": {"cloudtrail:ExternalId": "from-the-shop"}}
    text = policy(arn, Condition=condition)
    await api.ok("PutResourcePolicy", ResourceArn=arn, ResourcePolicy=text, identity=owner)
    code, _ = await api.error("PutAuditEvents", **theirs, **event)
    assert code == "ChannelInsufficientPermission"
    await api.ok("PutAuditEvents", externalId="from-the-shop", **theirs, **event)
    await api.ok("PutAuditEvents", identity=owner, **event)
    assert len(await entries(api)) == 2


# Readers


@asynchronous
async def test_event_history_finds_events_of_channels() -> None:
    api, arn, _ = await an_api()
    await put(api, arn, data(errorCode="Locked", userAgent="shop/2"))
    await api.record([])
    for expression in (
        'eventName = "CancelOrder"',
        'user = "mary@example.com"',
        'eventSource = "orders.example.com"',
        'sourceIPAddress = "192.0.2.7" AND errorCode = "Locked"',
        f'eventCategory = "{ACTIVITY}"',
    ):
        found = (
            await api.ask("/api/v1/events/rows", expression=expression, categories="all")
        ).json["events"]
        assert [each["eventName"] for each in found] == ["CancelOrder"]
    (row,) = found
    assert row["sentence"] == (
        "On January 1, 2020 at 8:59 AM UTC, mary@example.com called CancelOrder of "
        "orders.example.com and was refused (Locked)"
    )
    assert (row["principalType"], row["userAgent"]) == ("Customer", "shop/2")
    looked_up = await api.ok(
        "LookupEvents",
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CancelOrder"}],
    )
    assert looked_up["Events"] == []
