"""The operations on imports into event data stores: effects, answers, errors."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.lake.store_importer import StoreImporter
from opentrail.ports.objects import NewObject
from opentrail.ports.queries import LogFileOutcome
from tests.api.caller import Api
from tests.api.cloudtrail.test_stores import category, create
from tests.factories import ACCOUNT, REGION
from tests.fakes import asynchronous
from tests.lake.test_store_keeping import MemoryFiles
from tests.trails.world import BUCKET

OTHER = "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/lake"
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2020/01/01/"
NO_ID = "00000000-0000-4000-8000-000000000000"


def source(uri: str = f"s3://{BUCKET}", **changes: str) -> dict[str, Any]:
    s3 = {"S3LocationUri": uri, "S3BucketRegion": REGION, "S3BucketAccessRoleArn": ROLE}
    return {"ImportSource": {"S3": {**s3, **changes}}}


class Imports:
    """An API with a store and log files, and what runs imports."""

    def __init__(self) -> None:
        self.api, self.files = Api(), MemoryFiles()
        world = self.api.world
        self.importer = StoreImporter(
            self.api.imports, self.api.stores, self.files, world.objects, world.clock, ()
        )
        self.arn = ""

    async def put(self, *keys: str) -> None:
        for key in keys:
            await self.api.world.objects.put(NewObject(BUCKET, key, b"content"))

    async def start(self, **given: Any) -> Any:
        started = {"Destinations": [self.arn], **source(), **given}
        return await self.api.ok("StartImport", **started)

    async def status(self, import_id: str) -> tuple[str, list[int]]:
        got = await self.api.ok("GetImport", ImportId=import_id)
        return got["ImportStatus"], [*got["ImportStatistics"].values()]

    async def failures(self, import_id: str) -> list[tuple[str, str, str]]:
        found = await self.api.ok("ListImportFailures", ImportId=import_id)
        return [(f["Location"], f["Status"], f["ErrorType"]) for f in found["Failures"]]


async def some_imports() -> Imports:
    imports = Imports()
    imports.arn = await create(imports.api, TerminationProtectionEnabled=False)
    await imports.put(f"{FOLDER}a.json.gz", f"{FOLDER}b.json.gz")
    return imports


@asynchronous
async def test_import_copies_log_files() -> None:
    imports = await some_imports()
    started = await imports.start(StartEventTime=1_500_000_000)
    now = imports.api.world.clock.now().timestamp()
    described = {
        "ImportId": started["ImportId"],
        "Destinations": [imports.arn],
        **source(),
        "StartEventTime": 1_500_000_000,
        "CreatedTimestamp": now,
        "UpdatedTimestamp": now,
    }
    assert started == {**described, "ImportStatus": "INITIALIZING"}
    await imports.importer.round()
    assert await imports.api.ok("GetImport", ImportId=started["ImportId"]) == {
        **described,
        "ImportStatus": "COMPLETED",
        "ImportStatistics": {
            "PrefixesFound": 1,
            "PrefixesCompleted": 1,
            "FilesCompleted": 2,
            "EventsCompleted": 2,
            "FailedEntries": 0,
        },
    }
    assert await imports.failures(started["ImportId"]) == []
    code, _ = await imports.api.error("StartImport", ImportId=started["ImportId"])
    assert code == "InvalidParameterException"


@asynchronous
async def test_failed_log_files_are_retried() -> None:
    imports = await some_imports()
    bad = f"s3://{BUCKET}/{FOLDER}a.json.gz"
    imports.files.outcomes[bad] = LogFileOutcome(3, "InvalidLogFile", "1 not copied: not JSON")
    import_id = (await imports.start())["ImportId"]
    await imports.importer.round()
    assert await imports.status(import_id) == ("FAILED", [1, 1, 1, 4, 1])
    (failure,) = (await imports.api.ok("ListImportFailures", ImportId=import_id))["Failures"]
    assert failure == {
        "Location": bad,
        "Status": "FAILED",
        "ErrorType": "InvalidLogFile",
        "ErrorMessage": "1 not copied: not JSON",
        "LastUpdatedTime": imports.api.world.clock.now().timestamp(),
    }
    again = await imports.api.ok("StartImport", ImportId=import_id)
    assert (again["ImportId"], again["ImportStatus"]) == (import_id, "INITIALIZING")
    assert await imports.failures(import_id) == [(bad, "RETRY", "InvalidLogFile")]
    imports.files.outcomes[bad] = LogFileOutcome(4)
    await imports.put(f"{FOLDER}c.json.gz")
    await imports.importer.round()
    assert await imports.status(import_id) == ("COMPLETED", [1, 1, 3, 6, 0])
    assert await imports.failures(import_id) == [(bad, "SUCCEEDED", "InvalidLogFile")]


@asynchronous
async def test_one_import_of_an_account_is_in_progress() -> None:
    imports = await some_imports()
    started = await imports.start()
    code, message = await imports.api.error("StartImport", Destinations=[imports.arn], **source())
    assert code == "AccountHasOngoingImportException"
    assert started["ImportId"] in message
    code, _ = await imports.api.error("StartImport", ImportId=started["ImportId"])
    assert code == "AccountHasOngoingImportException"
    code, _ = await imports.api.error("DeleteEventDataStore", EventDataStore=imports.arn)
    assert code == "EventDataStoreHasOngoingImportException"
    stopped = await imports.api.ok("StopImport", ImportId=started["ImportId"])
    assert stopped["ImportStatus"] == "STOPPED"
    assert set(stopped["ImportStatistics"].values()) == {0}
    await imports.importer.round()
    assert imports.files.added == []
    await imports.api.ok("StartImport", ImportId=started["ImportId"])
    await imports.importer.round()
    assert await imports.status(started["ImportId"]) == ("COMPLETED", [1, 1, 2, 2, 0])
    await imports.api.ok("DeleteEventDataStore", EventDataStore=imports.arn)
    code, _ = await imports.api.error("StartImport", Destinations=[imports.arn], **source())
    assert code == "InactiveEventDataStoreException"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"Destinations": None}, "InvalidParameterException"),
        ({"ImportSource": None}, "InvalidParameterException"),
        ({"Destinations": []}, "InvalidParameterException"),
        ({"Destinations": ["0a1b2c3d"]}, "EventDataStoreARNInvalidException"),
        ({"StartEventTime": 2, "EndEventTime": 1}, "InvalidParameterException"),
        ({"StartEventTime": 1e20}, "InvalidParameterException"),
        ({"ImportId": NO_ID}, "InvalidParameterException"),
        (source("my-bucket"), "InvalidImportSourceException"),
        (source("s3://nosuch-bucket"), "InvalidImportSourceException"),
        (source(S3BucketRegion="eu-west-1"), "InvalidImportSourceException"),
        (source(S3BucketAccessRoleArn="lake"), "InvalidParameterException"),
        ({"ImportSource": {"S3": {"S3LocationUri": "s3://b"}}}, "ValidationException"),
    ],
)
@asynchronous
async def test_wrong_imports_are_refused(given: dict[str, Any], code: str) -> None:
    imports = await some_imports()
    asked = {"Destinations": [imports.arn], **source(), **given}
    assert (await imports.api.error("StartImport", **asked))[0] == code
    assert await imports.api.ok("ListImports") == {"Imports": []}


@asynchronous
async def test_only_stores_of_calls_are_destinations() -> None:
    imports = await some_imports()
    insights = await create(imports.api, "insights", AdvancedEventSelectors=[category("Insight")])
    history = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:eventdatastore/"
    (listed,) = [
        store["EventDataStoreArn"]
        for store in (await imports.api.ok("ListEventDataStores"))["EventDataStores"]
        if store["Name"] == "event_history"
    ]
    for arn, code in (
        (insights, "InvalidEventDataStoreCategoryException"),
        (listed, "OperationNotPermittedException"),
        (f"{history}{NO_ID}", "EventDataStoreNotFoundException"),
    ):
        assert (await imports.api.error("StartImport", Destinations=[arn], **source()))[0] == code


@asynchronous
async def test_imports_are_listed_newest_first() -> None:
    imports = await some_imports()
    ids: list[str] = []
    for _ in range(3):
        imports.api.world.clock.advance(1)
        ids.insert(0, (await imports.start())["ImportId"])
        await imports.api.ok("StopImport", ImportId=ids[0])
    first = await imports.api.ok("ListImports", MaxResults=2)
    assert set(first["Imports"][0]) == {
        "ImportId",
        "ImportStatus",
        "Destinations",
        "CreatedTimestamp",
        "UpdatedTimestamp",
    }
    rest = await imports.api.ok("ListImports", NextToken=first["NextToken"])
    assert [each["ImportId"] for each in first["Imports"] + rest["Imports"]] == ids
    assert "NextToken" not in rest
    for given, count in (
        ({"ImportStatus": "STOPPED"}, 3),
        ({"ImportStatus": "COMPLETED"}, 0),
        ({"Destination": imports.arn}, 3),
        ({"Destination": imports.arn[:-36] + NO_ID}, 0),
        ({"account": OTHER}, 0),
        ({"region": "eu-west-1"}, 0),
    ):
        found = await imports.api.ok("ListImports", **given)
        assert len(found["Imports"]) == count, given
    code, _ = await imports.api.error("ListImports", Destination="nothing")
    assert code == "EventDataStoreARNInvalidException"
    code, _ = await imports.api.error("ListImports", NextToken="abcd")
    assert code == "InvalidNextTokenException"


@asynchronous
async def test_other_accounts_have_no_such_import() -> None:
    imports = await some_imports()
    import_id = (await imports.start())["ImportId"]
    for given in ({"account": OTHER}, {"region": "eu-west-1"}):
        for name, code in (
            ("GetImport", "ImportNotFoundException"),
            ("StopImport", "ImportNotFoundException"),
            ("StartImport", "ImportNotFoundException"),
            ("ListImportFailures", "InvalidParameterException"),
        ):
            assert (await imports.api.error(name, ImportId=import_id, **given))[0] == code
    assert (await imports.api.error("GetImport", ImportId="x" * 36))[0] == (
        "InvalidParameterException"
    )


@asynchronous
async def test_server_without_files_of_stores_refuses_imports() -> None:
    imports = await some_imports()
    imports.api.imports._is_supported = False
    code, message = await imports.api.error("StartImport", Destinations=[imports.arn], **source())
    assert (code, message) == (
        "UnsupportedOperationException",
        "opentrail does not support imports into event data stores of a cluster yet",
    )
