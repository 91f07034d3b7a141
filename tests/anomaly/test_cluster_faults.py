"""A cluster under load whose servers and database are killed, paused and cut off in turn.

OPENTRAIL_FAULTS=60 and OPENTRAIL_FAULTS_SEED try more and different faults;
OPENTRAIL_FAULTS_PAUSE=20 pauses for longer.
OPENTRAIL_FAULTS_ROLES=recorder,recorder,recorder,worker,worker,query,query has a server per role.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from tests.anomaly.test_kill import Evidence
from tests.live.load import Load
from tests.live.processes import (
    Opentrail,
    eventually,
    free_port,
    health,
    moto_server,
    until_well,
)
from tests.live.test_cluster import MASTER_KEY
from tests.postgres import PostgresServer, database_in, primary_and_standby
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

SEED = int(os.environ.get("OPENTRAIL_FAULTS_SEED", "20261126"))
FAULTS = int(os.environ.get("OPENTRAIL_FAULTS", "8"))
CLIENTS = int(os.environ.get("OPENTRAIL_FAULTS_CLIENTS", "1"))
#: Longer than a lease lasts.
PAUSE_SECONDS = float(os.environ.get("OPENTRAIL_FAULTS_PAUSE", "7"))
ROLES = os.environ.get("OPENTRAIL_FAULTS_ROLES", "all,all,all").split(",")


@dataclass
class World:
    """Servers, and their shared PostgreSQL."""

    servers: list[Opentrail]
    #: Servers that clients call.
    recorders: list[Opentrail]
    #: Servers with event history.
    readers: list[Opentrail]
    environment: dict[str, str]
    primary: PostgresServer
    standby: PostgresServer
    database: str
    evidence: Evidence

    def start(self, server: Opentrail) -> None:
        server.start(**self.environment)

    def worker(self) -> Opentrail:
        """Returns the server that delivers trails."""

        def find() -> list[Opentrail]:
            return [one for one in self.readers if health(one)["cluster"]["isWorker"]]

        return eventually(find, "a server is the worker")[0]

    # Each fault is over on return.

    def kill(self, server: Opentrail) -> None:
        server.kill()
        self.start(server)

    def restart(self, server: Opentrail) -> None:
        assert server.stop() == 0
        self.start(server)

    def pause(self, server: Opentrail) -> None:
        assert server.process is not None
        processes = [server.process.pid, *server.children(b"opentrail")]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        for process in processes:
            os.kill(process, signal.SIGCONT)

    def cut_off(self, _server: Opentrail) -> None:
        """Every connection to PostgreSQL is lost."""
        statement = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self.primary.execute(self.database, statement)

    def freeze(self, _server: Opentrail) -> None:
        """PostgreSQL pauses."""
        with self.primary.frozen():
            time.sleep(2.0)

    def crash(self, _server: Opentrail) -> None:
        """PostgreSQL's primary crashes and restarts."""
        self.primary.stop("immediate")
        self.primary.start()

    def promote(self) -> None:
        """The primary is lost, and its standby is promoted."""
        self.primary.stop("immediate")
        self.standby.promote()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        StubUpstream() as upstream,
        moto_server() as moto,
        primary_and_standby() as (primary, standby),
    ):
        database = database_in(primary.new_database())
        url = f"postgresql://trusted@/{database}?host={primary.folder},{standby.folder}"
        flags = ("--upstream", upstream.url, "--upstream", f"s3={moto}")
        more = ("--delivery-interval", "5", "--digest-interval", "60")
        servers = [
            Opentrail(
                *(tmp_path / f"server-{number}", *flags, *more, "--role", role),
                *("--recorders", "2" if number == 1 else "1"),
                port=free_port(),
            )
            for number, role in enumerate(ROLES)
        ]
        roles = list(zip(servers, ROLES, strict=True))
        recorders = [server for server, role in roles if role in ("all", "recorder")]
        readers = [server for server, role in roles if role != "recorder"]
        environment = {
            "OPENTRAIL_JOURNAL": url,
            "OPENTRAIL_CONTROL_STORE": url,
            MASTER_KEY_VARIABLE: MASTER_KEY,
        }
        s3: Any = boto3.client(
            *("s3", "us-east-1"),
            endpoint_url=moto,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        s3.create_bucket(Bucket="killed")
        stores = (primary, standby, database)
        made = World(servers, recorders, readers, environment, *stores, Evidence(s3))
        try:
            for server in servers:
                made.start(server)
            yield made
        finally:
            for server in servers:
                server.close()


def looked_up(server: Opentrail, since: float) -> list[str]:
    """Returns the users in LookupEvents, newest first."""
    pages = (
        server.boto("cloudtrail", attempts=5)
        .get_paginator("lookup_events")
        .paginate(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateUser"}],
            StartTime=since,
        )
    )
    return [event["EventId"] for page in pages for event in page["Events"]]


def test_each_acknowledged_call_is_delivered_once(world: World, tmp_path: Path) -> None:
    choice = random.Random(SEED)
    began = time.time() - 1
    cloudtrail = world.servers[0].boto("cloudtrail")
    trail = {"Name": "killed", "S3BucketName": "killed", "EnableLogFileValidation": True}
    arn = cloudtrail.create_trail(**trail)["TrailARN"]
    world.servers[1].boto("cloudtrail").start_logging(Name="killed")
    loads = [
        Load(server.port, f"load-{number}", clients=CLIENTS)
        for number, server in enumerate(world.recorders)
    ]
    for load in loads:
        load.start()
    faults: Sequence[Callable[[Opentrail], None]] = (
        world.kill,
        world.pause,
        world.restart,
        world.cut_off,
        world.freeze,
        world.crash,
    )
    for number in range(FAULTS):
        fault = faults[number % len(faults)]
        server = world.worker() if choice.random() < 0.5 else choice.choice(world.servers)
        fault(server)
        _until_all_answer(loads)
    world.promote()
    _until_all_answer(loads)
    for load in loads:
        load.stop()

    answered = {name for load in loads for name in load.answered}
    users = {name for name in answered if name.endswith("user")}
    flushed = world.readers[-1].opentrail("trail", "flush", "killed")
    assert flushed.returncode == 0, flushed.stdout + flushed.stderr
    world.evidence.read()
    assert {name: world.evidence.users[name] for name in users} == dict.fromkeys(users, 1)
    assert max(world.evidence.event_ids.values()) == 1

    pages = [looked_up(server, began) for server in world.readers]
    assert pages[1:] == [pages[0]] * (len(pages) - 1)
    assert max(Counter(pages[0]).values()) == 1
    events = ("name=CreateUser", "--all-regions", "--ndjson", str(tmp_path / "events"))
    exported = world.readers[0].opentrail("export", *events)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    found = Counter(
        json.loads(line)["requestParameters"]["userName"]
        for file in (tmp_path / "events").glob("*.ndjson")
        for line in file.read_text().splitlines()
    )
    assert {name: found[name] for name in users} == dict.fromkeys(users, 1)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    validate = ("cloudtrail", "validate-logs", "--start-time", stamp, "--trail-arn", arn)
    validated = world.servers[1].try_aws(*validate)
    assert validated.returncode == 0, validated.stdout + validated.stderr
    for server in world.servers:
        until_well(server)


def _until_all_answer(loads: Sequence[Load]) -> None:
    """Returns once each server has answered more calls."""
    for load in loads:
        before = len(load.answered)
        eventually(lambda load=load, n=before: len(load.answered) > n + 5, "calls are answered")  # type: ignore[misc]
