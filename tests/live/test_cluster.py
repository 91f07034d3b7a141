"""Several servers that share a journal and a control store on PostgreSQL, and one bucket."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from tests.factories import some_records
from tests.live.processes import (
    Opentrail,
    eventually,
    health,
    moto_server,
    run_opentrail,
    until_well,
)
from tests.postgres import shared_server

#: The key that seals the secrets of all servers.
MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
pytestmark = [pytest.mark.live, pytest.mark.slow]


class Cluster:
    """Servers of one cluster in front of one moto server."""

    def __init__(self, folder: Path, upstream: str, url: str) -> None:
        self._folder = folder
        self.upstream = upstream
        self.url = url
        self.environment = {
            "OPENTRAIL_JOURNAL": url,
            "OPENTRAIL_CONTROL_STORE": url,
            MASTER_KEY_VARIABLE: MASTER_KEY,
        }
        self.servers: list[Opentrail] = []
        self._numbers = itertools.count(1)

    def add(
        self, *names: str, recorders: int = 1, role: str = "all", more: Sequence[str] = ()
    ) -> list[Opentrail]:
        """Starts further servers at the same time; `more` are flags."""
        flags = ("--upstream", self.upstream, "--recorders", str(recorders), "--role", role)
        servers = [Opentrail(self._folder / name, *flags, *more) for name in names]
        self.servers += servers
        with ThreadPoolExecutor(len(servers)) as threads:
            return list(threads.map(lambda server: server.start(**self.environment), servers))

    def create_users(self, servers: Sequence[Opentrail], count: int) -> list[str]:
        """Creates users by calls to the servers in turn; returns their names."""
        clients = [server.boto("iam") for server in servers]
        names = [f"user-{next(self._numbers)}" for _ in range(count)]
        for name, client in zip(names, itertools.cycle(clients)):
            client.create_user(UserName=name)
        return names

    def worker(self) -> Opentrail:
        """Returns the server that delivers trails."""

        (worker,) = eventually(
            lambda: [one for one in self.running() if health(one)["cluster"]["isWorker"]],
            "a server is the worker",
        )
        return worker

    def others(self, server: Opentrail) -> list[Opentrail]:
        """Returns the other running servers."""
        return [other for other in self.running() if other is not server]

    def running(self) -> list[Opentrail]:
        """Returns the running servers."""
        return [one for one in self.servers if one.process and one.process.poll() is None]

    def users_in_files(self) -> Counter[str]:
        """Counts the creations of each user in the log files of the bucket."""
        s3 = boto3.client(
            *("s3", "us-east-1"),
            endpoint_url=self.upstream,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        listed = s3.get_paginator("list_objects_v2").paginate(Bucket="logs")
        keys = [one["Key"] for page in listed for one in page.get("Contents", ())]
        bodies = [
            s3.get_object(Bucket="logs", Key=key)["Body"].read()
            for key in keys
            if "/CloudTrail/" in key and key.endswith(".json.gz")
        ]
        records = [r for body in bodies for r in json.loads(gzip.decompress(body))["Records"]]
        return users_of(records)

    def close(self) -> None:
        """Ends the servers."""
        for server in self.servers:
            server.close()


def users_of(records: Sequence[Any]) -> Counter[str]:
    """Counts the creations of each user."""
    created = [record for record in records if record["eventName"] == "CreateUser"]
    return Counter(record["requestParameters"]["userName"] for record in created)


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """A cluster without servers; stops later ones at the end."""
    with moto_server() as upstream:
        made = Cluster(folder, upstream, shared_server().new_database())
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as made:
        yield made


@contextmanager
def paused(server: Opentrail) -> Iterator[None]:
    """Pauses a server's processes."""
    assert server.process is not None
    processes = [server.process.pid, *server.children(b"opentrail")]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def flush(server: Opentrail) -> None:
    flushed = server.opentrail("trail", "flush", "main")
    assert flushed.returncode == 0, flushed.stdout + flushed.stderr


def test_any_server_records_finds_and_delivers(cluster: Cluster) -> None:
    one, two, three = cluster.add("one", "two", "three")
    one.boto("s3").create_bucket(Bucket="logs")
    trail = {"Name": "main", "S3BucketName": "logs", "EnableLogFileValidation": True}
    arn = two.boto("cloudtrail").create_trail(**trail)["TrailARN"]
    before = cluster.create_users([one, two, three], 6)
    three.boto("cloudtrail").start_logging(Name="main")
    names = cluster.create_users([one, two, three], 30)

    # Every server finds and delivers the calls of the others, in the same order.
    first, *others = (users_in_history(server) for server in (one, two, three))
    assert sorted(first) == sorted(before + names)
    assert others == [first, first]

    # Each server delivers on request; events from the start on are delivered once.
    for server in (one, two, three):
        flush(server)
    assert cluster.users_in_files() == Counter(names)

    # The worker is killed; another server becomes the worker.
    worker = cluster.worker()
    worker.kill()
    left = cluster.others(worker)
    names += cluster.create_users(left, 20)
    assert cluster.worker() is not worker
    left[0].boto("cloudtrail").stop_logging(Name="main")
    cluster.create_users(left, 4)
    flush(left[1])
    assert cluster.users_in_files() == Counter(names)

    # The killed server restarts and catches up.
    worker.start(**cluster.environment)
    assert set(users_in_history(worker)) >= set(names)
    validated = worker.validate(arn)
    assert validated.returncode == 0, validated.stdout + validated.stderr
    until_well(worker)
    assert sorted(s["endpoint"] for s in health(worker)["cluster"]["servers"]) == sorted(
        server.url for server in (one, two, three)
    )


def users_in_history(server: Opentrail) -> list[str]:
    """Returns the created users of event history, newest first."""
    return [record["requestParameters"]["userName"] for record in server.records("name=CreateUser")]


@pytest.mark.campaign  # a server waits a second for others' records, which a busy machine exceeds
@pytest.mark.parametrize("recorders", [1, 2])
def test_a_new_key_is_known_to_other_servers(cluster: Cluster, recorders: int) -> None:
    one, two = cluster.add("one", "two", recorders=recorders)
    role = one.boto("iam").create_role(RoleName="deploy", AssumeRolePolicyDocument="{}")["Role"]
    sessions = [f"session-{number}" for number in range(20)]
    for session in sessions:
        answer = one.boto("sts").assume_role(RoleArn=role["Arn"], RoleSessionName=session)
        new = answer["Credentials"]
        key, secret, token = (
            new[part] for part in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        )
        two.boto("iam", key, secret, token=token).list_users()
    found = two.opentrail("lookup", "name=ListUsers", "--json")
    records = [json.loads(line) for line in found.stdout.splitlines()]
    arns = [record["userIdentity"].get("arn", "unknown") for record in records]
    assert sorted(arn.rpartition("/")[2] for arn in arns) == sorted(sessions)


@pytest.mark.campaign
def test_one_server_becomes_a_cluster_with_its_data(cluster: Cluster, tmp_path: Path) -> None:
    alone = Opentrail(tmp_path / "alone", "--upstream", cluster.upstream)
    alone.start(**{MASTER_KEY_VARIABLE: MASTER_KEY})
    try:
        alone.boto("s3").create_bucket(Bucket="logs")
        trail = {"Name": "main", "S3BucketName": "logs", "EnableLogFileValidation": True}
        arn = alone.boto("cloudtrail").create_trail(**trail)["TrailARN"]
        alone.boto("cloudtrail").start_logging(Name="main")
        names = cluster.create_users([alone], 10)
        flush(alone)
        names += cluster.create_users([alone], 10)
        assert alone.stop() == 0
    finally:
        alone.close()
    archive, secret = str(tmp_path / "all.tar"), {"OPENTRAIL_BACKUP_PASSPHRASE": "correct horse"}
    saved = run_opentrail(
        "backup", archive, "--with-keys", "--data-dir", str(alone.data_dir), **secret
    )
    assert saved.returncode == 0, saved.stdout + saved.stderr
    folder = ("--data-dir", str(tmp_path / "one"))
    restored = run_opentrail("restore", archive, *folder, **secret, **cluster.environment)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    verified = run_opentrail("verify-store", *folder, **cluster.environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    (one,) = cluster.add("one")
    (two,) = cluster.add("two")
    names += cluster.create_users([one, two], 10)
    flush(two)
    assert cluster.users_in_files() == Counter(names)
    assert sorted(users_in_history(two)) == sorted(names)
    validated = two.validate(arn)
    assert validated.returncode == 0, validated.stdout + validated.stderr


@pytest.mark.campaign
def test_a_resumed_worker_changes_nothing(cluster: Cluster) -> None:
    one, two = cluster.add("one", "two")
    one.boto("s3").create_bucket(Bucket="logs")
    one.boto("cloudtrail").create_trail(Name="main", S3BucketName="logs")
    one.boto("cloudtrail").start_logging(Name="main")
    names = cluster.create_users([one, two], 10)
    worker = cluster.worker()
    (other,) = cluster.others(worker)
    with paused(worker):
        eventually(lambda: health(other)["cluster"]["isWorker"], "another one takes over")
        names += cluster.create_users([other], 10)
        flush(other)
    eventually(lambda: not health(worker)["cluster"]["isWorker"], "the former worker knows")
    names += cluster.create_users([one, two], 10)
    flush(worker)
    assert cluster.users_in_files() == Counter(names)


@pytest.mark.campaign
def test_a_new_server_without_whole_history_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    (one,) = cluster.add("one")
    cluster.create_users([one], 3)
    database = cluster.url.split("?")[0].rpartition("/")[2]
    shared_server().execute(database, "UPDATE opentrail.journal SET trimmed = 2")
    other = run_opentrail(
        *("serve", "--data-dir", str(tmp_path / "other"), "--upstream", "http://127.0.0.1:1"),
        *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"),
        **cluster.environment,
    )
    assert other.returncode == 2, other.stdout + other.stderr
    assert "copy the files of the folder history of another server into it" in other.stderr


def test_metrics_name_the_worker(cluster: Cluster) -> None:
    servers = cluster.add("one", "two")
    worker = cluster.worker()
    for server in servers:
        lines = metrics(server).splitlines()
        assert f"opentrail_worker {float(server is worker)}" in lines


def metrics(server: Opentrail) -> str:
    with urllib.request.urlopen(f"{server.console}/metrics") as answer:  # noqa: S310 - ours
        return str(answer.read().decode())


def test_a_server_with_another_journal_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("one")
    without = {k: v for k, v in cluster.environment.items() if k != "OPENTRAIL_JOURNAL"}
    other = run_opentrail(
        *("serve", "--data-dir", str(tmp_path / "other"), "--upstream", "http://127.0.0.1:1"),
        *("--listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"),
        **without,
    )
    assert other.returncode == 2, other.stdout + other.stderr
    assert "a cluster uses the control store: to join it, set OPENTRAIL_JOURNAL" in other.stderr


@pytest.mark.campaign
def test_imports_are_found_once_on_each_server(cluster: Cluster, tmp_path: Path) -> None:
    s3 = boto3.client(
        *("s3", "us-east-1"),
        endpoint_url=cluster.upstream,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    s3.create_bucket(Bucket="history")
    in_s3 = ("--files", "s3://history/events")
    one, two = cluster.add("one", "two", more=in_s3)
    for number in range(4):
        records = some_records(300, first=1 + 200 * number)
        (tmp_path / f"{number}.json").write_text(json.dumps({"Records": records}))

    def bring(number: int) -> None:
        server = (one, two)[number % 2]
        done = server.opentrail("import", str(tmp_path / f"{number}.json"))
        assert done.returncode == 0, done.stdout + done.stderr

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bring, range(4)))
    (third,) = cluster.add("three", more=in_s3)
    for server in (one, two, third):
        eventually(lambda server=server: len(exported(server)) == 900, "all events are found")  # type: ignore[misc]
        assert set(exported(server).values()) == {1}


def exported(server: Opentrail) -> Counter[str]:
    """Counts the occurrences of each imported event in event history."""
    done = server.opentrail(
        "lookup", "--all-accounts", "--all-regions", "--limit", "5000", "--json"
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return Counter(event["eventID"] for event in events)


def test_a_cluster_needs_s3_for_imports(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    file.write_text(json.dumps({"Records": []}))
    (one,) = cluster.add("one")
    assert one.opentrail("import", str(file)).returncode == 5  # nothing to import
    cluster.add("two")
    imported = one.opentrail("import", str(file))
    assert imported.returncode != 0
    assert "importing files into several servers without --files" in imported.stderr


@pytest.mark.campaign
def test_each_server_does_its_role(cluster: Cluster, tmp_path: Path) -> None:
    (query,) = cluster.add("query", role="query")
    recorder, other_recorder = cluster.add("recorder", "other-recorder", role="recorder")
    alone = "no server of the cluster has the role worker or all: nothing is delivered"
    eventually(lambda: alone in health(recorder)["dataProblems"], "the problem is shown")
    (worker,) = cluster.add("worker", role="worker")

    recorder.boto("s3").create_bucket(Bucket="logs")
    trail = {"Name": "main", "S3BucketName": "logs", "EnableLogFileValidation": True}
    recorder.boto("cloudtrail").create_trail(**trail)
    recorder.boto("cloudtrail").start_logging(Name="main")
    names = cluster.create_users([recorder, other_recorder, query], 12)
    assert sorted(users_in_history(query)) == sorted(users_in_history(worker)) == sorted(names)
    flush(recorder)
    assert cluster.users_in_files() == Counter(names)
    assert cluster.worker() is worker

    # A recorder has no process for event history, is well without it, and answers questions so.
    assert recorder.children(b"duckdb") == []
    assert query.children(b"duckdb") != []
    shown = eventually(
        lambda: (now := health(recorder))["status"] == "ok" and now, "the recorder is well"
    )
    assert shown["history"] is None
    assert "opentrail_history_position" in metrics(query)
    assert "opentrail_history_position" not in metrics(recorder)
    with pytest.raises(ClientError, match="keeps no event history") as refused:
        recorder.boto("cloudtrail").lookup_events()
    assert refused.value.response["Error"]["Code"] == "OperationNotPermittedException"
    file = tmp_path / "records.json"
    file.write_text(json.dumps({"Records": [{}]}))
    for arguments in (["lookup"], ["who", names[0]], ["import", str(file)]):
        asked = recorder.opentrail(*arguments)
        assert asked.returncode != 0
        assert "keeps no event history: ask a server with another role" in asked.stderr
    listed = recorder.opentrail("status").stdout
    assert "none: this server has the role recorder" in listed
    assert "recorder" in listed.partition("Servers")[2]

    # Without a worker, servers of other roles do not deliver; a server with any role does.
    worker.stop()
    names += cluster.create_users([recorder, query], 6)
    recorder.stop()
    recorder.start(**cluster.environment)
    names += cluster.create_users([recorder], 3)
    assert not any(health(server)["cluster"]["isWorker"] for server in (recorder, query))
    cluster.add("late", role="all")
    flush(query)
    assert cluster.users_in_files() == Counter(names)
    assert sorted(users_in_history(query)) == sorted(names)


def test_any_server_answers_for_a_query(cluster: Cluster) -> None:
    one, two = cluster.add("one", "two")
    names = cluster.create_users([one, two], 10)
    statement = (
        "SELECT element_at(requestParameters, 'userName') AS name FROM event_history"
        " WHERE eventName = 'CreateUser' ORDER BY name"
    )
    for starting, reading in ((one, two), (two, one)):
        query_id = starting.boto("cloudtrail").start_query(QueryStatement=statement)["QueryId"]
        cloudtrail = reading.boto("cloudtrail")
        eventually(
            lambda c=cloudtrail, q=query_id: (  # type: ignore[misc]
                c.describe_query(QueryId=q)["QueryStatus"] == "FINISHED"
            ),
            "the query ends",
        )
        found = cloudtrail.get_query_results(QueryId=query_id)["QueryResultRows"]
        assert [row[0]["name"] for row in found] == sorted(names)
    endless = (
        "SELECT count(*) FROM UNNEST(sequence(1, 9999)) a (x), UNNEST(sequence(1, 9999)) b (x),"
        " UNNEST(sequence(1, 9999)) c (x)"
    )
    query_id = one.boto("cloudtrail").start_query(QueryStatement=endless)["QueryId"]
    assert one.children(b"query_child")
    cancelled = two.boto("cloudtrail").cancel_query(QueryId=query_id)
    assert cancelled["QueryStatus"] == "CANCELLED"
    eventually(lambda: not one.children(b"query_child"), "its process has ended")
    # A killed server leaves its finished queries to the other, and its running ones failed.
    running = one.boto("cloudtrail").start_query(QueryStatement=endless)["QueryId"]
    finished = one.boto("cloudtrail").list_queries(EventDataStore="event_history")["Queries"]
    assert len(finished) == 4
    one.kill()
    cloudtrail = two.boto("cloudtrail")
    assert len(cloudtrail.list_queries(EventDataStore="event_history")["Queries"]) == 4
    assert cloudtrail.describe_query(QueryId=running)["QueryStatus"] == "RUNNING"
    one.start(**cluster.environment)
    assert cloudtrail.describe_query(QueryId=running)["QueryStatus"] == "FAILED"
