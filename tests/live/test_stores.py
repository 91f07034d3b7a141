"""Event data stores with real clients, across kills."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from opentrail.adapters.data_directory.sealed_file_names import Series, sealed_files
from opentrail.commands.client import find
from tests.factories import record_bytes, some_records
from tests.live.processes import Opentrail, eventually, opentrail_server, run_opentrail
from tests.live.test_sql import finished

pytestmark = [pytest.mark.live, pytest.mark.slow]

S3 = [
    {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        ]
    }
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("stores") / "data"
    with opentrail_server(data, "--upstream", "http://127.0.0.1:9") as started:
        yield started


def put(server: Opentrail, *keys: str) -> None:
    """Records calls; their upstream cannot be reached."""
    for key in keys:
        with pytest.raises(ClientError):
            server.boto("s3").put_object(Bucket="bucket", Key=key, Body=b"x")


def keys_in(cloudtrail: Any, store: str) -> list[str]:
    column = "element_at(requestParameters, 'key')"
    found = finished(cloudtrail, f"SELECT {column} AS key FROM {store} ORDER BY eventTime, key")  # noqa: S608
    assert found["QueryStatus"] == "FINISHED", found
    return [row[0]["key"] for row in found["QueryResultRows"]]


def create(cloudtrail: Any, name: str, **settings: Any) -> str:
    created = cloudtrail.create_event_data_store(
        Name=name, TerminationProtectionEnabled=False, **settings
    )
    return str(created["EventDataStoreArn"])


def test_store_has_exactly_the_selected_events(server: Opentrail) -> None:
    cloudtrail = server.boto("cloudtrail")
    put(server, "before")
    arn = create(cloudtrail, "objects", AdvancedEventSelectors=S3)
    store = arn.rpartition("/")[2]
    assert keys_in(cloudtrail, store) == []
    put(server, "a", "b")
    with pytest.raises(ClientError):
        server.boto("iam").create_user(UserName="Mary")
    assert keys_in(cloudtrail, store) == ["a", "b"]
    cloudtrail.stop_event_data_store_ingestion(EventDataStore=arn)
    put(server, "stopped")
    cloudtrail.start_event_data_store_ingestion(EventDataStore=arn)
    put(server, "c")
    assert keys_in(cloudtrail, "objects") == ["a", "b", "c"]


def test_a_store_is_managed_as_by_terraform(server: Opentrail) -> None:
    """The calls of `aws_cloudtrail_event_data_store`: create, read, update, destroy."""
    cloudtrail = server.boto("cloudtrail")
    arn = cloudtrail.create_event_data_store(
        Name="tf-store",
        MultiRegionEnabled=True,
        OrganizationEnabled=False,
        RetentionPeriod=7,
        TerminationProtectionEnabled=False,
        BillingMode="EXTENDABLE_RETENTION_PRICING",
        TagsList=[{"Key": "team", "Value": "audit"}],
    )["EventDataStoreArn"]
    read = cloudtrail.get_event_data_store(EventDataStore=arn)
    assert (read["Status"], read["RetentionPeriod"]) == ("ENABLED", 7)
    (tagged,) = cloudtrail.list_tags(ResourceIdList=[arn])["ResourceTagList"]
    assert tagged["TagsList"] == [{"Key": "team", "Value": "audit"}]
    cloudtrail.update_event_data_store(
        EventDataStore=arn, RetentionPeriod=90, AdvancedEventSelectors=S3
    )
    read = cloudtrail.get_event_data_store(EventDataStore=arn)
    assert (read["RetentionPeriod"], read["AdvancedEventSelectors"]) == (90, S3)
    cloudtrail.remove_tags(ResourceId=arn, TagsList=[{"Key": "team"}])
    cloudtrail.delete_event_data_store(EventDataStore=arn)
    assert cloudtrail.get_event_data_store(EventDataStore=arn)["Status"] == "PENDING_DELETION"
    with pytest.raises(ClientError) as error:
        cloudtrail.start_query(QueryStatement=f"SELECT eventID FROM {arn[-36:]}")  # noqa: S608
    assert error.value.response["Error"]["Code"] == "InactiveEventDataStoreException"


def send(server: Opentrail, count: int, first: int) -> None:
    """Records events as a hook does."""
    lines = b"\n".join(record_bytes(record) for record in some_records(count, first))
    console = find(Namespace(endpoint=None, data_dir=server.data_dir))
    assert console.send("/api/v1/records", [lines], 60) == {"taken": count}


def counted(server: Opentrail, store: str) -> list[str]:
    """Returns the number of events from `send` in a store, and of their different ids."""
    statement = (
        f"SELECT count(*), count(DISTINCT eventID) FROM {store} WHERE eventName = 'CreateUser'"  # noqa: S608
    )
    done = server.opentrail("query", "--json", statement)
    return [str(value) for value in json.loads(done.stdout).values()]


@pytest.mark.campaign
def test_killed_server_leaves_each_event_once(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        create(server.boto("cloudtrail"), "everything", RetentionPeriod=3_653)
        send(server, 2_500, 2_500)
        server.kill()
        # A start writes the earlier events to a file.
        server.start(OPENTRAIL_CRASH_AT="store.written:1")
        server.wait()
        server.start()
        assert counted(server, "everything") == ["2500"] * 2
        eventually(lambda: len(files(server)) == 1, "all events are in one file")
        assert counted(server, "everything") == ["2500"] * 2
        assert server.opentrail("verify-store").returncode == 0


def files(server: Opentrail) -> list[str]:
    """Returns the current files of the only store; an empty list before the first one."""
    folders = [*(server.data_dir / "stores").glob("*/")]
    assert len(folders) <= 1
    return [file.path.name for each in folders for file in sealed_files(each, Series.JOURNAL)]


def test_backup_has_the_stores(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        create(server.boto("cloudtrail"), "everything", RetentionPeriod=3_653)
        send(server, 2_500, 1)
        server.kill()
        server.start()
        eventually(lambda: files(server), "the file is written")
        send(server, 10, 3_001)
        server.opentrail("backup", str(tmp_path / "backup.tar"))
        expected = counted(server, "everything")
        assert expected == ["2510", "2510"]
    folder = ("--data-dir", str(tmp_path / "restored"))
    assert run_opentrail("restore", str(tmp_path / "backup.tar"), *folder).returncode == 0
    with opentrail_server(tmp_path / "restored", "--upstream", "http://127.0.0.1:9") as server:
        assert counted(server, "everything") == expected
