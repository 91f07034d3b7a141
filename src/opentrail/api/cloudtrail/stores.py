"""The operations on event data stores.

Each account has the store `event_history`, which cannot be changed.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.arns import STORE, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, Unsupported
from opentrail.core.event import ACTIVITY, DATA, INSIGHT, MANAGEMENT, NETWORK_ACTIVITY, Json
from opentrail.core.event_data_store import STORE_CATEGORIES, EventDataStore
from opentrail.core.selectors import (
    ADVANCED,
    STORE_DEFAULT,
    SelectorOwner,
    read_selection,
)
from opentrail.core.trail import ROLE_ARN, as_tag_list, epoch, read_tags, with_tags
from opentrail.core.version import command_for
from opentrail.lake.event_history import NAME, store_id
from opentrail.lake.store_registry import inactive, not_found

_PAGE = 1_000
#: Categories of the stores whose ingestion can be stopped, and which can import log files.
CALLS = (MANAGEMENT, DATA, NETWORK_ACTIVITY)
_INVALID = "InvalidParameterException"
_EXTENDABLE, _FIXED = "EXTENDABLE_RETENTION_PRICING", "FIXED_RETENTION_PRICING"
#: Billing mode → default and maximum of a store's retention in days.
_RETENTION = {_EXTENDABLE: (366, 3_653), _FIXED: (2_557, 2_557)}
#: Members of the input that a store cannot have yet.
_WITHOUT = ("OrganizationEnabled", "KmsKeyId")
_ERRORS = {
    "Name": _INVALID,
    "RetentionPeriod": _INVALID,
    "AdvancedEventSelectors": "InvalidEventSelectorsException",
}
_STATUS = "InvalidEventDataStoreStatusException"


async def find_store(call: OperationCall, given: str) -> EventDataStore:
    """Returns the created store that a call names by ARN or id; another account may share it.

    Raises:
        CloudTrailError: as `Stores.find`.
    """
    arn, account = read_cloudtrail_arn(given), call.account
    if arn is not None and str(arn) in call.shared:
        account = arn.account
    return await call.services.created_stores.find(account, call.region, given)


async def queried_store(call: OperationCall) -> EventDataStore | None:
    """Returns the created store that the member `EventDataStore` names.

    None if the member is missing or names the store `event_history`.

    Raises:
        CloudTrailError: as `Stores.find`, or `InactiveEventDataStoreException`.
    """
    given = call.input.get("EventDataStore")
    if given is None or is_history(call, given):
        return None
    store = await find_store(call, given)
    if store.deleted_at is not None:
        raise inactive(store)
    return store


def is_history(call: OperationCall, given: str) -> bool:
    """Returns whether a call names the store `event_history`, by ARN, id or name.

    Raises:
        CloudTrailError: as `Stores.find`, on a server without created stores.
    """
    if given in (NAME, store_id(call.account)):
        return True
    arn, own = read_cloudtrail_arn(given), (STORE, call.account, store_id(call.account))
    if arn is not None and (arn.type, arn.account, arn.name) == own:
        return True
    if given.startswith("arn:") and (arn is None or arn.type != STORE):
        message = f"{given} is not the ARN of an event data store."
        raise CloudTrailError("EventDataStoreARNInvalidException", message)
    if call.services.stores is None:
        raise not_found(given)
    return False


async def _to_change(call: OperationCall) -> EventDataStore:
    """Returns the created store that a call is about to change, as `store_to_change`."""
    return await store_to_change(call, call.input["EventDataStore"])


async def store_to_change(call: OperationCall, given: str) -> EventDataStore:
    """Returns the created store that a call names and is about to change, by ARN or id.

    Raises:
        CloudTrailError: as `find_store`, or `OperationNotPermittedException`.
    """
    if is_history(call, given):
        raise CloudTrailError(
            "OperationNotPermittedException", f"The event data store {NAME} cannot be changed."
        )
    return await find_store(call, given)


@operation(
    "ListEventDataStores",
    errors={"MaxResults": "InvalidMaxResultsException", "NextToken": "InvalidNextTokenException"},
)
async def list_event_data_stores(call: OperationCall) -> Json:
    """Returns the store `event_history`, which each account has, and the created stores."""
    stores = [(str(_history_arn(call)), NAME)]
    if call.services.stores is not None:
        created = await call.services.stores.of(call.account, call.region)
        stores += [(str(store.arn), store.name) for store in created]
    page, following = call.page("stores", stores, _PAGE)
    return {
        "EventDataStores": [{"EventDataStoreArn": arn, "Name": name} for arn, name in page],
        **following,
    }


def _history_arn(call: OperationCall) -> CloudTrailArn:
    return CloudTrailArn(STORE, call.region, call.account, store_id(call.account))


@operation("GetEventDataStore")
async def get_event_data_store(call: OperationCall) -> Json:
    """Returns the settings and the status of a store."""
    given = call.input["EventDataStore"]
    if not is_history(call, given):
        store = await find_store(call, given)
        return {**_description(store), **_federation(store)}
    history = call.services.history
    days = (call.services.clock.now() - history.kept_since) // timedelta(days=1)
    return {
        "EventDataStoreArn": str(_history_arn(call)),
        "Name": NAME,
        "Status": "ENABLED",
        "AdvancedEventSelectors": [
            {
                "Name": f"{category} events",
                "FieldSelectors": [{"Field": "eventCategory", "Equals": [category]}],
            }
            for category in STORE_CATEGORIES
        ],
        "MultiRegionEnabled": True,
        "OrganizationEnabled": False,
        "RetentionPeriod": days,
        "TerminationProtectionEnabled": True,
        "FederationStatus": "DISABLED",
        "BillingMode": _EXTENDABLE,
    }


@operation(
    "CreateEventDataStore",
    without=_WITHOUT,
    errors={**_ERRORS, "TagsList": "InvalidTagParameterException"},
)
async def create_event_data_store(call: OperationCall) -> Json:
    """Creates a store, which has the events from this call on."""
    stores, given, now = call.services.created_stores, call.input, call.now()
    billing = given.get("BillingMode", _EXTENDABLE)
    store = EventDataStore(
        id=str(uuid.uuid4()),
        name=given["Name"],
        account=call.account,
        region=call.region,
        selectors=_selectors(call) or STORE_DEFAULT.document()[ADVANCED],
        multi_region=given.get("MultiRegionEnabled", True),
        retention=given.get("RetentionPeriod", _RETENTION[billing][0]),
        billing=billing,
        is_protected=given.get("TerminationProtectionEnabled", True),
        created_at=now,
        updated_at=now,
        is_ingesting=given.get("StartIngestion", True),
        tags=with_tags((), read_tags(given.get("TagsList", ()))),
    )
    _check_retention(store)
    _check_regions(store)
    created = await stores.add(store)
    return {**_description(created), "Status": "CREATED", "TagsList": as_tag_list(created.tags)}


@operation("UpdateEventDataStore", without=_WITHOUT, errors=_ERRORS)
async def update_event_data_store(call: OperationCall) -> Json:
    """Changes the settings of a store; its selectors are in effect from this call on."""
    given, store = call.input, await _to_change(call)
    if set(given) == {"EventDataStore"}:
        raise CloudTrailError(_INVALID, "At least one setting must be given.")
    selectors = _selectors(call)

    def change(current: EventDataStore) -> EventDataStore:
        if current.deleted_at is not None:
            raise inactive(current)
        billing = given.get("BillingMode", current.billing)
        if (current.billing, billing) == (_EXTENDABLE, _FIXED):
            raise CloudTrailError(_INVALID, f"BillingMode cannot be changed to {_FIXED}.")
        changed = replace(
            current,
            name=given.get("Name", current.name),
            selectors=selectors or current.selectors,
            multi_region=given.get("MultiRegionEnabled", current.multi_region),
            retention=given.get("RetentionPeriod", current.retention),
            billing=billing,
            is_protected=given.get("TerminationProtectionEnabled", current.is_protected),
            updated_at=call.now(),
        )
        _check_retention(changed)
        _check_family(current, changed)
        _check_regions(changed)
        return changed

    changed = await call.services.created_stores.change(store, change)
    return {**_description(changed), **_federation(changed)}


@operation("DeleteEventDataStore")
async def delete_event_data_store(call: OperationCall) -> Json:
    """Ends a store's ingestion; the store can be restored for seven days."""
    if is_history(call, call.input["EventDataStore"]):
        raise _protected(NAME)
    store = await _to_change(call)
    await call.services.store_imports.check_none_into(store)

    def change(current: EventDataStore) -> EventDataStore:
        if current.deleted_at is not None:
            raise inactive(current)
        if current.is_protected:
            raise _protected(current.name)
        if current.is_federated:
            raise CloudTrailError(
                "EventDataStoreFederationEnabledException",
                f"Event data store {current.name} is federated: disable its federation first.",
            )
        if current.channels:
            raise CloudTrailError(
                "ChannelExistsForEDSException",
                f"Event data store {current.name} is a destination of channel "
                f"{current.channels[0]}.",
            )
        return replace(current, deleted_at=call.now(), updated_at=call.now())

    await call.services.created_stores.change(store, change)
    return {}


@operation("RestoreEventDataStore")
async def restore_event_data_store(call: OperationCall) -> Json:
    """Enables a deleted store again; it has no events of the time in between."""
    store = await _to_change(call)

    def change(current: EventDataStore) -> EventDataStore:
        if current.deleted_at is None:
            raise _wrong_status(current, "PENDING_DELETION")
        return replace(current, deleted_at=None, is_ingesting=True, updated_at=call.now())

    return _description(await call.services.created_stores.change(store, change))


@operation("StartEventDataStoreIngestion")
async def start_event_data_store_ingestion(call: OperationCall) -> Json:
    """Lets a store have events again, from this call on."""
    return await _ingest(call, is_ingesting=True)


@operation("StopEventDataStoreIngestion")
async def stop_event_data_store_ingestion(call: OperationCall) -> Json:
    """Ends a store's ingestion before this call; the store keeps its events."""
    return await _ingest(call, is_ingesting=False)


async def _ingest(call: OperationCall, is_ingesting: bool) -> Json:
    store = await _to_change(call)

    def change(current: EventDataStore) -> EventDataStore:
        if current.category not in CALLS:
            raise CloudTrailError(
                "InvalidEventDataStoreCategoryException",
                f"The ingestion of {current.category} events cannot be started or stopped.",
            )
        expected = "STOPPED_INGESTION" if is_ingesting else "ENABLED"
        if current.status != expected:
            raise _wrong_status(current, expected)
        return replace(current, is_ingesting=is_ingesting, updated_at=call.now())

    await call.services.created_stores.change(store, change)
    return {}


@operation("EnableFederation", errors={"FederationRoleArn": _INVALID})
async def enable_federation(call: OperationCall) -> Json:
    """Publishes a store's files as an Iceberg table, which other engines can query."""
    if importlib.util.find_spec("pyiceberg") is None:
        raise Unsupported(f"federation without PyIceberg: {command_for('iceberg')}")
    role = call.input["FederationRoleArn"]
    if not ROLE_ARN.fullmatch(role):
        raise CloudTrailError(_INVALID, f"FederationRoleArn {role!r} is not the ARN of a role.")

    def change(current: EventDataStore) -> EventDataStore:
        if current.is_federated:
            raise CloudTrailError(
                "OperationNotPermittedException",
                f"Event data store {current.name} is federated already.",
            )
        return replace(current, federation_role=role, updated_at=call.now())

    return await _federate(call, change)


@operation("DisableFederation")
async def disable_federation(call: OperationCall) -> Json:
    """Deletes a store's Iceberg table; the store keeps its events."""
    return await _federate(
        call, lambda current: replace(current, federation_role="", updated_at=call.now())
    )


async def _federate(
    call: OperationCall, change: Callable[[EventDataStore], EventDataStore]
) -> Json:
    store = await _to_change(call)

    def changed(current: EventDataStore) -> EventDataStore:
        if current.deleted_at is not None:
            raise inactive(current)
        return change(current)

    federated = await call.services.created_stores.change(store, changed)
    return {"EventDataStoreArn": str(federated.arn), **_federation(federated)}


def _federation(store: EventDataStore) -> Json:
    if not store.is_federated:
        return {"FederationStatus": "DISABLED"}
    return {"FederationStatus": "ENABLED", "FederationRoleArn": store.federation_role}


def _protected(name: str) -> CloudTrailError:
    return CloudTrailError(
        "EventDataStoreTerminationProtectedException",
        f"Event data store {name} has termination protection.",
    )


def _wrong_status(store: EventDataStore, expected: str) -> CloudTrailError:
    return CloudTrailError(
        _STATUS, f"Event data store {store.name} is in status {store.status}, not {expected}."
    )


def _selectors(call: OperationCall) -> list[Json]:
    """Returns the selectors of a call; an empty list if it has none.

    Raises:
        CloudTrailError: `InvalidEventSelectorsException`.
        Unsupported: opentrail has no such events.
    """
    if not call.input.get(ADVANCED):
        return []
    selection = read_selection(call.input, SelectorOwner.EVENT_DATA_STORE)
    categories = {selector.category for selector in selection.advanced}
    if others := sorted(categories - {*STORE_CATEGORIES}):
        raise Unsupported(f"event data stores of {others[0]} events")
    documents: list[Json] = selection.document()[ADVANCED]
    return documents


def _check_retention(store: EventDataStore) -> None:
    most = _RETENTION[store.billing][1]
    if store.retention > most:
        raise CloudTrailError(
            _INVALID, f"RetentionPeriod must be at most {most} days with {store.billing}."
        )


def _check_family(current: EventDataStore, changed: EventDataStore) -> None:
    """Checks that a store keeps to calls, to Insights events, or to events of channels.

    Raises:
        CloudTrailError: `InvalidEventSelectorsException`.
    """
    if changed.family == current.family:
        return
    family = changed.family if current.family == MANAGEMENT else current.family
    raise CloudTrailError(
        "InvalidEventSelectorsException",
        f"Event data store {current.name} has {current.category} events; a store cannot "
        f"change between {'Insights' if family == INSIGHT else family} events and others.",
    )


def _check_regions(store: EventDataStore) -> None:
    if store.category == ACTIVITY and store.multi_region:
        raise CloudTrailError(
            _INVALID, f"MultiRegionEnabled must be false for a store with {ACTIVITY} events."
        )


def _description(store: EventDataStore) -> Json:
    return {
        "EventDataStoreArn": str(store.arn),
        "Name": store.name,
        "Status": store.status,
        "AdvancedEventSelectors": store.selectors,
        "MultiRegionEnabled": store.multi_region,
        "OrganizationEnabled": False,
        "RetentionPeriod": store.retention,
        "TerminationProtectionEnabled": store.is_protected,
        "CreatedTimestamp": epoch(store.created_at),
        "UpdatedTimestamp": epoch(store.updated_at),
        "BillingMode": store.billing,
    }
