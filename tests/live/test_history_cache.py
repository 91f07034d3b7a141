"""Several servers with event history in S3, each with a part on its disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from pyiceberg.table import StaticTable

from opentrail.adapters.data_directory.sealed_file_names import SealedFile, read_name
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from opentrail.lake.store_registry import QUOTA
from tests.live import test_channels as channels
from tests.live.processes import Opentrail, eventually, moto_server
from tests.live.test_cluster import MASTER_KEY
from tests.live.test_stores import counted, create, send
from tests.postgres import shared_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

#: The worker uploads once a minute, and takes longer under load.
ROUNDS_SECONDS = 240.0


class Servers:
    """Servers with a journal on PostgreSQL, in front of moto and SeaweedFS."""

    def __init__(self, folder: Path, iam: str, s3: str) -> None:
        self._folder = folder
        self._config = folder / "opentrail.toml"
        self._config.write_text(
            f'[upstream]\niam = "{iam}"\n[upstream.s3]\nurl = "{s3}"\nresign = true\n'
            f'access_key_id = "{ADMIN_KEY_ID}"\nsecret_access_key = "{ADMIN_SECRET}"\n'
        )
        self._url = shared_server().new_database()
        self._running: list[Opentrail] = []
        self.s3 = boto3.client(
            *("s3", "us-east-1"),
            endpoint_url=s3,
            aws_access_key_id=ADMIN_KEY_ID,
            aws_secret_access_key=ADMIN_SECRET,
        )

    def start(self, name: str, *more: str, records: int = 40, **variables: str) -> Opentrail:
        """Starts a server with a cache of at most ten megabytes."""
        flags = ("--config", str(self._config), "--history-seal-records", str(records))
        cached = ("--files", "s3://history/events", "--history-cache", "10MB")
        server = Opentrail(self._folder / name, *flags, *cached, *more)
        self._running.append(server)
        return server.start(
            OPENTRAIL_JOURNAL=self._url,
            OPENTRAIL_CONTROL_STORE=self._url,
            OPENTRAIL_MASTER_KEY=MASTER_KEY,
            **variables,
        )

    def objects(self) -> list[str]:
        """Returns the keys in the bucket."""
        listed = self.s3.list_objects_v2(Bucket="history").get("Contents", ())
        return [item["Key"] for item in listed]

    def close(self) -> None:
        for server in self._running:
            server.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    store = start_seaweedfs(tmp_path / "store")
    try:
        with moto_server() as iam:
            made = Servers(tmp_path, iam, store.url)
            try:
                yield made
            finally:
                made.close()
    finally:
        store.stop()


def events_of(server: Opentrail, name: str) -> list[str]:
    """Returns the users whose creation LookupEvents finds by name."""
    found = server.boto("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": name}]
    )
    records = [json.loads(event["CloudTrailEvent"]) for event in found["Events"]]
    return [record["requestParameters"]["userName"] for record in records]


def test_a_new_server_finds_files_in_s3(servers: Servers) -> None:
    servers.s3.create_bucket(Bucket="history")
    one = servers.start("one")
    names = [f"user-{number}" for number in range(100)]
    for name in names:
        one.boto("iam").create_user(UserName=name)
    eventually(
        lambda: sum(key.endswith(".index") for key in servers.objects()) >= 2,
        "two files are in S3",
        seconds=ROUNDS_SECONDS,
    )
    two = servers.start("two")
    for server in (one, two):
        assert all(events_of(server, name) == [name] for name in names[::9])
    history, cache = two.data_dir / "history", two.data_dir / "history-cache"
    assert not list(history.glob("0*-00000000000000000040-*"))
    assert list(cache.glob("*/0"))
    eventually(
        lambda: not list((one.data_dir / "history").glob("0*-00000000000000000040-*")),
        "the first server has its own files no longer",
        seconds=ROUNDS_SECONDS,
    )
    assert all(events_of(one, name) == [name] for name in names[::9])

    three = servers.start("three")
    for key in servers.objects():
        servers.s3.delete_object(Bucket="history", Key=key)
    with pytest.raises(ClientError, match="files of event history in S3 cannot be reached") as away:
        events_of(three, names[0])
    assert away.value.response["Error"]["Code"] == "ServiceUnavailable"
    # LookupEvents is also recorded: only a new event cannot be in the deleted files.
    three.boto("iam").create_user(UserName="after-the-outage")
    eventually(
        lambda: events_of(three, "after-the-outage") == ["after-the-outage"],
        "events outside S3 are found",
    )


def store_files(servers: Servers) -> list[str]:
    """Returns the files of event data stores in the bucket."""
    return [key for key in servers.objects() if "/stores/" in key and key.endswith(".parquet")]


def listed_file(key: str) -> SealedFile:
    file = read_name(Path(key))
    assert file is not None
    return file


def test_each_server_queries_the_stores_of_the_cluster(servers: Servers) -> None:
    servers.s3.create_bucket(Bucket="history")
    recorder = servers.start("recorder", "--role", "recorder")
    create(recorder.boto("cloudtrail"), "everything", RetentionPeriod=3_653)
    one = servers.start("one", records=1_000)
    send(one, 2_500, 1)
    two = servers.start("two", "--role", "query", records=1_000)
    for server in (one, two):
        assert counted(server, "everything") == ["2500", "2500"]  # from the journal
    eventually(
        lambda: (
            store_files(servers)
            and any("-00000000000000002000-" in key for key in servers.objects())
        ),
        "the files of the store and of event history are in S3",
        seconds=ROUNDS_SECONDS,
    )
    send(one, 300, 3_001)
    for server in (one, two):
        for table in ("everything", "event_history"):
            assert counted(server, table) == ["2800", "2800"]
    assert list((two.data_dir / "history-cache").glob("stores_*/0"))
    assert not (two.data_dir / "stores").exists()
    cloudtrail = one.boto("cloudtrail")
    (store,) = (
        each["EventDataStoreArn"]
        for each in cloudtrail.list_event_data_stores()["EventDataStores"]
        if each["Name"] == "everything"
    )
    cloudtrail.enable_federation(
        EventDataStore=store, FederationRoleArn="arn:aws:iam::123456789012:role/readers"
    )
    table = json.loads(two.opentrail("query", "--tables", "--json").stdout)["tables"][1]["iceberg"]
    assert table == f"s3://history/events/iceberg/{store.rpartition('/')[2]}"
    eventually(
        lambda: any(key.endswith("version-hint.text") for key in servers.objects()),
        "the store is published",
        seconds=ROUNDS_SECONDS,
    )
    properties = {
        "s3.endpoint": servers.s3.meta.endpoint_url,
        "s3.access-key-id": ADMIN_KEY_ID,
        "s3.secret-access-key": ADMIN_SECRET,
        "s3.region": "us-east-1",
    }
    scan = StaticTable.from_metadata(table, properties).scan(selected_fields=("eventid",))
    ids = scan.to_arrow()["eventid"].to_pylist()
    assert len(ids) == len({*ids}) >= 2_000
    cloudtrail.disable_federation(EventDataStore=store)
    eventually(
        lambda: not any("/iceberg/" in key for key in servers.objects()),
        "the table is deleted",
        seconds=ROUNDS_SECONDS,
    )


def test_each_server_receives_the_events_of_a_channel(servers: Servers) -> None:
    servers.s3.create_bucket(Bucket="history")
    recorder = servers.start("recorder", "--role", "recorder")
    store, channel = channels.create(recorder)
    recorder.boto("cloudtrail").update_event_data_store(EventDataStore=store, RetentionPeriod=3_653)
    one = servers.start("one", records=1_000)

    def put(server: Opentrail, requests: int) -> None:
        client = server.boto("cloudtrail-data")
        for number in range(requests):
            uids = [f"{server.data_dir.name}-{number}-{each}" for each in range(100)]
            events = [{"id": uid, "eventData": channels.an_event(uid)} for uid in uids]
            answer = client.put_audit_events(channelArn=channel, auditEvents=events)
            assert len(answer["successful"]) == 100

    def count() -> list[str]:
        statement = "SELECT count(*), count(DISTINCT eventData.UID) FROM audit"
        done = one.opentrail("query", "--json", statement)
        return [str(value) for value in json.loads(done.stdout).values()]

    put(recorder, 25)
    put(one, 1)
    assert count() == ["2600", "2600"]  # from the journal
    eventually(lambda: store_files(servers), "files are in S3", seconds=ROUNDS_SECONDS)
    put(one, 2)  # the first request repeats UIDs
    assert count() == ["2800", "2700"]

    def latest(server: Opentrail) -> str:
        described = server.boto("cloudtrail").get_channel(Channel=channel)
        return str(described["IngestionStatus"].get("LatestIngestionSuccessEventID"))

    eventually(lambda: latest(recorder) == latest(one), "both servers know the latest event")


@pytest.mark.parametrize("point", ["store.uploaded", "store.listed"])
def test_another_worker_continues_the_files_of_a_store(servers: Servers, point: str) -> None:
    servers.s3.create_bucket(Bucket="history")
    one = servers.start("one", records=1_000, OPENTRAIL_CRASH_AT=f"{point}:1")
    create(one.boto("cloudtrail"), "everything", RetentionPeriod=3_653)
    send(one, 2_500, 1)
    two = servers.start("two", records=1_000)
    one.wait()
    assert store_files(servers)
    assert counted(two, "everything") == ["2500", "2500"]
    send(two, 2_500, 3_001)
    eventually(
        lambda: max(file.last for file in map(listed_file, store_files(servers))) >= 5_000,
        "the other worker lists the rest",
        seconds=ROUNDS_SECONDS,
    )
    assert counted(two, "everything") == ["5000", "5000"]


def test_one_of_three_servers_gets_a_name(servers: Servers) -> None:
    """In each Region, three servers create stores of the same names concurrently."""
    servers.s3.create_bucket(Bucket="history")
    three = [servers.start(name) for name in ("one", "two", "three")]
    regions = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1")

    def attempt(server: Opentrail, region: str, name: str) -> str:
        try:
            create(server.boto("cloudtrail", region=region), name)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(len(three)) as threads:
        for region in regions:
            for number in range(QUOTA + 1):
                calls = [threads.submit(attempt, each, region, f"store-{number}") for each in three]
                outcomes = sorted(call.result() for call in calls)
                assert outcomes.count("created") == (number < QUOTA), outcomes
            found = three[0].boto("cloudtrail", region=region).list_event_data_stores()
            names = [each["Name"] for each in found["EventDataStores"]]
            expected = ["event_history", *(f"store-{number}" for number in range(QUOTA))]
            assert sorted(names) == sorted(expected)
