"""SIGKILL at each step of event data stores, with a trail, PutAuditEvents and SQL running.

All acknowledged events are found, each once: in the stores, their Iceberg table, and the trail.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import StaticTable

from tests.anomaly.test_kill import Evidence
from tests.live.load import Load
from tests.live.processes import Opentrail, eventually, free_port, moto_server, until_well
from tests.live.test_channels import Sender
from tests.live.test_channels import create as create_channel
from tests.live.test_store_imports import ended
from tests.live.test_stores import create
from tests.stub_upstream import StubUpstream

pytestmark = [
    pytest.mark.anomaly,
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.campaign,
]

#: Acknowledged calls after which a start writes a store's files.
WRITTEN = 2_500
#: Each with the number of passages before the kill; "": a kill at any moment.
POINTS = (
    "store.written:1",
    "store.uploaded:1",
    "store.uploaded:2",
    "store.listed:1",
    "store.listed:2",
    "iceberg.written:1",
    "iceberg.written:1",  # of a table that exists
    "import.copied:1",
    "",
)
ROLE = "arn:aws:iam::123456789012:role/any"
USERS = """
    SELECT element_at(requestParameters, 'userName') AS name, count(*) AS n FROM everything
    WHERE eventName = 'CreateUser' AND errorCode IS NULL GROUP BY 1
"""
SECONDS = 120.0


class Asking:
    """Counts the events of a store until stopped: never one twice."""

    def __init__(self, server: Opentrail) -> None:
        self._server = server
        self._stopped = threading.Event()
        self.answers: list[list[str]] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        statement = "SELECT count(eventID), count(DISTINCT eventID) FROM everything"
        cloudtrail = self._server.boto("cloudtrail")
        while not self._stopped.is_set():
            try:
                query = cloudtrail.start_query(QueryStatement=statement)["QueryId"]
                while True:
                    found = cloudtrail.get_query_results(QueryId=query)
                    if found["QueryStatus"] not in ("QUEUED", "RUNNING"):
                        break
                    self._stopped.wait(0.1)
            except (BotoCoreError, ClientError):
                self._stopped.wait(0.2)  # the server was killed
                continue
            if found["QueryStatus"] == "FINISHED":
                row = found["QueryResultRows"][0]
                self.answers.append([value for cell in row for value in cell.values()])

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@dataclass
class World:
    server: Opentrail
    evidence: Evidence
    store: str
    channel: str

    def table(self) -> Counter[str]:
        """Counts each user's events in the Iceberg table."""
        place = self.server.data_dir / "stores" / self.store[-36:] / "iceberg"
        table = StaticTable.from_metadata(f"file://{place}")
        rows = table.scan(
            "eventname = 'CreateUser'", selected_fields=("requestparameters", "errorcode")
        )
        return Counter(
            dict(row["requestparameters"])["userName"]
            for row in rows.to_arrow().to_pylist()
            if row["errorcode"] is None
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with moto_server() as bucket, StubUpstream() as stub:
        data, often = tmp_path / "data", ("--delivery-interval", "2", "--digest-interval", "60")
        upstreams = ("--upstream", stub.url, "--upstream", f"s3={bucket}")
        server = Opentrail(data, *upstreams, *often, port=free_port())
        s3 = boto3.client(
            "s3",
            endpoint_url=bucket,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        s3.create_bucket(Bucket="killed")
        try:
            server.start()
            cloudtrail = server.boto("cloudtrail")
            cloudtrail.create_trail(Name="killed", S3BucketName="killed")
            cloudtrail.start_logging(Name="killed")
            store = create(cloudtrail, "everything")
            _, channel = create_channel(server)
            audit = next(
                each["EventDataStoreArn"]
                for each in cloudtrail.list_event_data_stores()["EventDataStores"]
                if each["Name"] == "audit"
            )
            cloudtrail.update_event_data_store(EventDataStore=audit, RetentionPeriod=3_653)
            cloudtrail.enable_federation(EventDataStore=store, FederationRoleArn=ROLE)
            yield World(server, Evidence(s3), store, channel)
        finally:
            server.close()


def counted(server: Opentrail, statement: str) -> Counter[str]:
    done = server.opentrail("query", "--json", statement)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return Counter({row["name"]: int(row["n"]) for row in rows})


def begin_import(world: World) -> Any:
    """Copies the trail's log files into the store, which has their events."""
    source = {
        "S3LocationUri": "s3://killed",
        "S3BucketRegion": "us-east-1",
        "S3BucketAccessRoleArn": ROLE,
    }
    cloudtrail = world.server.boto("cloudtrail")
    return cloudtrail.start_import(Destinations=[world.store], ImportSource={"S3": source})


def test_killed_server_has_each_event_once_everywhere(world: World) -> None:
    server, acknowledged, uids = world.server, set[str](), set[str]()
    asking = Asking(server)
    for number, point in enumerate(POINTS):
        load, sender = (
            Load(server.port, f"round{number}"),
            Sender(server, world.channel, f"round{number}"),
        )
        load.start()
        eventually(lambda: len(load.answered) >= WRITTEN, "calls", seconds=SECONDS)  # noqa: B023
        print(f"round {number}: {point}, {len(load.answered)} calls")
        server.kill()
        # The start writes the files of the calls.
        server.start(**({"OPENTRAIL_CRASH_AT": point} if point else {}))
        if point.startswith("import"):
            begin_import(world)
        if point:
            server.wait()
        else:
            server.kill()
        load.stop()
        sender.stop()
        acknowledged |= {name for name in load.answered if name.endswith("user")}
        uids |= {uid for uid, _ in sender.acknowledged}
        server.start()
    asking.stop()
    assert asking.answers
    assert all(one == other for one, other in asking.answers)
    until_well(server)
    for each in server.boto("cloudtrail").list_imports()["Imports"]:
        assert ended(server.boto("cloudtrail"), each["ImportId"])["ImportStatus"] == "COMPLETED"
    in_store = counted(server, USERS)
    assert acknowledged <= {*in_store}
    assert {*in_store.values()} == {1}
    audit = "SELECT eventData.UID AS name, count(*) AS n FROM audit GROUP BY 1"
    in_audit = counted(server, audit)
    assert uids <= {*in_audit}
    assert {*in_audit.values()} == {1}
    assert server.opentrail("trail", "flush", "killed").returncode == 0

    def delivered() -> bool:
        world.evidence.read()
        return acknowledged <= {*world.evidence.users}

    eventually(delivered, "the trail delivers all calls", seconds=SECONDS)
    assert {*world.evidence.event_ids.values()} == {1}
    published(world, acknowledged)
    assert server.opentrail("verify-store").returncode == 0


def published(world: World, acknowledged: set[str]) -> None:
    """Checks the Iceberg table after a start has written and published all calls."""
    load = Load(world.server.port, "last")
    load.start()
    eventually(lambda: len(load.answered) >= WRITTEN, "calls", seconds=SECONDS)
    load.stop()
    world.server.stop()
    world.server.start()

    def is_published() -> bool:
        try:
            return acknowledged <= {*world.table()}
        except (FileNotFoundError, NoSuchTableError):
            return False  # it is being replaced

    eventually(is_published, "the table has all calls", seconds=SECONDS)
    assert {*world.table().values()} == {1}
