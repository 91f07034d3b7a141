"""Several servers with event history in S3, each with a part on its disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from tests.live.processes import Opentrail, eventually, moto_server
from tests.live.test_cluster import MASTER_KEY
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

    def start(self, name: str) -> Opentrail:
        """Starts a server with a cache of at most ten megabytes."""
        flags = ("--config", str(self._config), "--history-seal-records", "40")
        more = ("--files", "s3://history/events", "--history-cache", "10MB")
        server = Opentrail(self._folder / name, *flags, *more)
        self._running.append(server)
        return server.start(
            OPENTRAIL_JOURNAL=self._url,
            OPENTRAIL_CONTROL_STORE=self._url,
            OPENTRAIL_MASTER_KEY=MASTER_KEY,
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
