"""The operations on imports into event data stores."""

from __future__ import annotations

from typing import Any

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.api.cloudtrail.stores import CALLS, store_to_change
from opentrail.core.arns import STORE, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, ObjectMissing, ObjectStoreError
from opentrail.core.event import Json
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.trail import ROLE_ARN
from opentrail.lake.store_imports import ImportSource, StoreImport
from opentrail.lake.store_registry import inactive
from opentrail.trails.query_results import read_uri

_PAGE = 1_000
_INVALID = "InvalidParameterException"
_SOURCE = "InvalidImportSourceException"
_NEW = ("Destinations", "ImportSource", "StartEventTime", "EndEventTime")


@operation("StartImport", errors={"Destinations": _INVALID, "ImportId": _INVALID})
async def start_import(call: OperationCall) -> Json:
    """Starts to copy a trail's log files to an event data store, or continues to."""
    imports, given = call.services.store_imports, call.input
    imports.require_supported()
    if "ImportId" in given:
        if others := [name for name in _NEW if name in given]:
            raise CloudTrailError(_INVALID, f"{others[0]} cannot be given with ImportId.")
        return _description(await imports.retry(await _found(call)))
    if missing := [name for name in _NEW[:2] if name not in given]:
        raise CloudTrailError(_INVALID, f"{missing[0]} must be given without ImportId.")
    first, last = (call.time(name, _INVALID) for name in _NEW[2:])
    if first is not None and last is not None and first > last:
        raise CloudTrailError(_INVALID, "StartEventTime must not be after EndEventTime.")
    store = await _destination(call, given["Destinations"][0])
    source = await _source(call, given["ImportSource"]["S3"])
    times = (given.get("StartEventTime"), given.get("EndEventTime"))
    return _description(await imports.start(store, source, *times))


async def _destination(call: OperationCall, given: str) -> EventDataStore:
    """Returns the store that is named by its ARN, if it can import log files.

    Raises:
        CloudTrailError: as `store_to_change`, or AWS's error for another store.
    """
    _check_arn(given)
    store = await store_to_change(call, given)
    if store.deleted_at is not None:
        raise inactive(store)
    if store.category not in CALLS:
        raise CloudTrailError(
            "InvalidEventDataStoreCategoryException",
            f"Event data store {store.name} has {store.category} events, and log files of trails "
            "have none.",
        )
    return store


def _check_arn(given: str) -> None:
    arn = read_cloudtrail_arn(given)
    if arn is None or arn.type != STORE:
        message = f"{given} is not the ARN of an event data store."
        raise CloudTrailError("EventDataStoreARNInvalidException", message)


async def _source(call: OperationCall, given: Json) -> ImportSource:
    """Returns the source of an import, after reading its bucket's Region.

    Raises:
        CloudTrailError: `InvalidImportSourceException`; `InvalidParameterException` for the role.
    """
    uri, region, role = (
        given[f"S3{name}"] for name in ("LocationUri", "BucketRegion", "BucketAccessRoleArn")
    )
    if not ROLE_ARN.fullmatch(role):
        raise CloudTrailError(_INVALID, f"S3BucketAccessRoleArn {role!r} is not the ARN of a role.")
    try:
        bucket, prefix = read_uri(uri)
    except CloudTrailError as error:
        raise CloudTrailError(_SOURCE, error.message) from error
    try:
        described = await call.services.destinations.objects.describe_bucket(bucket)
    except ObjectMissing as error:
        raise CloudTrailError(_SOURCE, f"S3 bucket {bucket} does not exist.") from error
    except ObjectStoreError as error:
        message = f"S3 bucket {bucket} cannot be read: {error}"
        raise CloudTrailError(_SOURCE, message) from error
    if described.region != region:
        message = f"S3 bucket {bucket} is in Region {described.region}, not {region}."
        raise CloudTrailError(_SOURCE, message)
    return ImportSource(uri, bucket, prefix, region, role)


@operation("GetImport", errors={"ImportId": _INVALID})
async def get_import(call: OperationCall) -> Json:
    """Returns an import and its statistics."""
    return _with_statistics(await _found(call))


@operation("StopImport", errors={"ImportId": _INVALID})
async def stop_import(call: OperationCall) -> Json:
    """Stops an import; events that it has copied stay in the store."""
    return _with_statistics(await call.services.store_imports.stop(await _found(call)))


async def _found(call: OperationCall) -> StoreImport:
    import_id = call.input["ImportId"]
    found = await call.services.store_imports.find(call.account, call.region, import_id)
    if found is None:
        message = f"Import {import_id} does not exist."
        raise CloudTrailError("ImportNotFoundException", message)
    return found


@operation(
    "ListImports",
    errors={
        "MaxResults": _INVALID,
        "ImportStatus": _INVALID,
        "Destination": "EventDataStoreARNInvalidException",
        "NextToken": "InvalidNextTokenException",
    },
)
async def list_imports(call: OperationCall) -> Json:
    """Returns the imports of the account and Region, newest first."""
    destination, status = call.input.get("Destination"), call.input.get("ImportStatus")
    if destination is not None:
        _check_arn(destination)
    found = [
        each
        for each in await call.services.store_imports.of(call.account, call.region)
        if destination in (None, _arn(each)) and status in (None, each.status)
    ]
    page, following = call.page("imports", found, _PAGE)
    members = ("ImportId", "ImportStatus", "Destinations", "CreatedTimestamp", "UpdatedTimestamp")
    described = [_description(each) for each in page]
    return {"Imports": [{name: each[name] for name in members} for each in described], **following}


@operation(
    "ListImportFailures",
    errors={
        "MaxResults": _INVALID,
        "ImportId": _INVALID,
        "NextToken": "InvalidNextTokenException",
    },
)
async def list_import_failures(call: OperationCall) -> Json:
    """Returns the log files that an import did not copy completely."""
    import_id = call.input["ImportId"]
    found = await call.services.store_imports.find(call.account, call.region, import_id)
    if found is None:  # AWS's model has no other error for this
        raise CloudTrailError(_INVALID, f"Import {import_id} does not exist.")
    failures = await call.services.store_imports.failures(found)
    page, following = call.page(import_id, failures, _PAGE)
    return {
        "Failures": [
            {
                "Location": each.location,
                "Status": each.status,
                "ErrorType": each.error,
                "ErrorMessage": each.message,
                "LastUpdatedTime": each.updated,
            }
            for each in page
        ],
        **following,
    }


def _arn(of: StoreImport) -> str:
    return str(CloudTrailArn(STORE, of.region, of.account, of.store))


def _description(of: StoreImport) -> Json:
    source = {
        "S3LocationUri": of.source.uri,
        "S3BucketRegion": of.source.region,
        "S3BucketAccessRoleArn": of.source.role,
    }
    times: dict[str, Any] = {"StartEventTime": of.first, "EndEventTime": of.last}
    return {
        "ImportId": of.id,
        "Destinations": [_arn(of)],
        "ImportSource": {"S3": source},
        "ImportStatus": of.status,
        "CreatedTimestamp": of.created,
        "UpdatedTimestamp": of.updated,
        **{name: time for name, time in times.items() if time is not None},
    }


def _with_statistics(of: StoreImport) -> Json:
    return {
        **_description(of),
        "ImportStatistics": {
            "PrefixesFound": of.prefixes,
            "PrefixesCompleted": of.prefixes_done,
            "FilesCompleted": of.files,
            "EventsCompleted": of.events,
            "FailedEntries": of.failed,
        },
    }
