"""SIGKILL under load, at random moments and named points: nothing answered is lost or doubled.

At every second random moment two recorder processes record the calls. There is a trail of the
account and one of its organization, with a client in a member account.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.live.load import Load
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, eventually, free_port, moto_server
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/killed"
SHARED_ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/killed-shared"
MEMBER, MEMBER_KEY = "222222222222", "AKIAIOSFODNN7EXAMPLE"
CONFIG = f"""
[organization]
id = "o-a1b2c3d4e5"
management_account = "123456789012"
accounts = ["{MEMBER}"]

[directory.{MEMBER_KEY}]
user = "member"
account = "{MEMBER}"
"""
#: One with one recorder, one with two; OPENTRAIL_KILL_SEED tries other moments.
RANDOM_KILLS = 2
STREAM = "123456789012_CloudTrail_us-east-1"
#: Named point → the maximum passages before the kill, so that it comes within seconds.
POINTS = {
    "journal.committed": 300,
    "journal.mid-commit": 300,
    "history.sealed": 2,
    "history.merged": 1,
    "delivery.put": 2,
    "digest.planned": 2,
    "delivery.planned": 2,
    "digest.put": 2,
    "notice.published": 2,
    "stream.sending": 2,
    "stream.put": 2,
}


@dataclass
class Evidence:
    """The files in the bucket; each is read once, for they never change."""

    s3: Any
    bucket: str = "killed"
    seen: dict[str, int] = field(default_factory=dict)
    users: Counter[str] = field(default_factory=Counter)
    event_ids: Counter[str] = field(default_factory=Counter)

    def read(self) -> None:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for item in (item for page in pages for item in page.get("Contents", ())):
            key = item["Key"]
            if "/CloudTrail/" not in key or not item["Size"] or key in self.seen:
                continue
            stored = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            records = json.loads(gzip.decompress(stored))["Records"]
            self.seen[key] = len(records)
            for record in records:
                self.event_ids[record["eventID"]] += 1
                if record["eventName"] == "CreateUser":
                    self.users[record["requestParameters"]["userName"]] += 1


@dataclass
class Sinks:
    """A topic's subscriber and a log group, read without opentrail."""

    sqs: Any
    logs: Any
    queue: str
    keys: Counter[str] = field(default_factory=Counter)

    def read_keys(self) -> Counter[str]:
        """Counts the messages about each file."""
        while True:
            page = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
            messages = page.get("Messages", [])
            if not messages:
                return self.keys
            for message in messages:
                text = json.loads(message["Body"])["Message"]
                if text.startswith("{"):  # otherwise it is the first one, which tests the topic
                    self.keys.update(json.loads(text)["s3ObjectKey"])
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])

    def events(self) -> Counter[str]:
        """Counts the events in the log group by their ids."""
        found: Counter[str] = Counter()
        wanted = {"logGroupName": "killed", "logStreamName": STREAM, "startFromHead": True}
        token: dict[str, str] = {}
        while True:
            page = self.logs.get_log_events(**wanted, **token)
            if not page["events"]:
                return found
            found.update(json.loads(event["message"])["eventID"] for event in page["events"])
            token = {"nextToken": page["nextForwardToken"]}


@dataclass
class World:
    """The server under test with its upstreams."""

    server: Opentrail
    evidence: Evidence
    shared: Evidence
    sinks: Sinks

    def load(self, prefix: str) -> tuple[Load, Load]:
        """Starts clients of the account, and one of a member of its organization."""
        own = Load(self.server.port, prefix)
        member = Load(self.server.port, f"m{prefix}", MEMBER_KEY, clients=1)
        own.start()
        member.start()
        return own, member

    def looked_up(self, since: float) -> Counter[str]:
        """Counts each user created since then in the results of LookupEvents."""
        client = self.server.boto("cloudtrail")
        pages = client.get_paginator("lookup_events").paginate(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateUser"}],
            StartTime=since,
        )
        found: Counter[str] = Counter()
        for page in pages:
            for event in page["Events"]:
                record = json.loads(event["CloudTrailEvent"])
                found[record["requestParameters"]["userName"]] += 1
        return found

    def data_calls(self, since: str) -> Counter[str]:
        """Counts each table written since then in the output of `lookup --all-categories`."""
        records = self.server.records("EventName=PutItem", "--since", since)
        return Counter(r["requestParameters"]["tableName"] for r in records)

    def flush(self) -> None:
        """Delivers both trails, and reads their buckets."""
        for trail in ("killed", "killed-shared"):
            flushed = self.server.opentrail("trail", "flush", trail)
            assert flushed.returncode == 0, flushed.stderr
        self.evidence.read()
        self.shared.read()

    def check_member(self, member: Load) -> None:
        """The files of the organization's trail have each answered call of a member once."""
        users = {name for name in member.answered if name.endswith("user")}
        assert {name: self.shared.users[name] for name in users} == dict.fromkeys(users, 1)
        assert max(self.shared.event_ids.values()) == 1
        assert not self.evidence.users.keys() & users

    def check(self, load: Load, since: float) -> None:
        """Every answered call is in its places, exactly once."""
        self.flush()
        users = {name for name in load.answered if name.endswith("user")}
        tables = load.answered - users
        found = self.looked_up(since)
        assert {name: found[name] for name in users} == dict.fromkeys(users, 1)
        assert max(found.values(), default=1) == 1
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
        written = self.data_calls(stamp)
        assert {name: written[name] for name in tables} == dict.fromkeys(tables, 1)
        assert max(written.values(), default=1) == 1
        for delivered in (self.evidence.users, self.shared.users):
            assert {name: delivered[name] for name in users} == dict.fromkeys(users, 1)
        assert max(self.evidence.event_ids.values()) == 1
        self.validate(stamp, "--trail-arn", ARN)

    def validate(self, since: str, *trail: str) -> None:
        """Validates the deliveries of a trail since then, with the aws-cli."""
        command = ("cloudtrail", "validate-logs", "--start-time", since, *trail)
        done = self.server.try_aws(*command)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("killed")
    config = folder / "opentrail.toml"
    config.write_text(CONFIG)
    with moto_server() as s3, StubUpstream() as stub:
        direct = {
            service: boto3.client(
                service,
                endpoint_url=s3,
                region_name="us-east-1",
                aws_access_key_id="x",
                aws_secret_access_key="x",
            )
            for service in ("s3", "sns", "sqs", "logs")
        }
        server = Opentrail(
            folder / "data",
            *("--upstream", stub.url, "--upstream", f"s3={s3}"),
            *("--upstream", f"sns={s3}", "--upstream", f"logs={s3}"),
            *("--delivery-interval", "1", "--digest-interval", "3"),
            *("--history-seal-records", "200", "--config", str(config)),
            port=free_port(),
        )
        try:
            server.start()
            for bucket in ("killed", "killed-shared"):
                direct["s3"].create_bucket(Bucket=bucket)
            direct["logs"].create_log_group(logGroupName="killed")
            topic = direct["sns"].create_topic(Name="killed")["TopicArn"]
            queue = direct["sqs"].create_queue(QueueName="killed")["QueueUrl"]
            arn = direct["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
            direct["sns"].subscribe(
                TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"]
            )
            client = server.boto("cloudtrail")
            client.create_trail(
                Name="killed",
                S3BucketName="killed",
                EnableLogFileValidation=True,
                SnsTopicName="killed",
                CloudWatchLogsLogGroupArn="arn:aws:logs:us-east-1:123456789012:log-group:killed:*",
                CloudWatchLogsRoleArn="arn:aws:iam::123456789012:role/logs",
            )
            client.start_logging(Name="killed")
            client.create_trail(
                Name="killed-shared",
                S3BucketName="killed-shared",
                EnableLogFileValidation=True,
                IsOrganizationTrail=True,
            )
            client.start_logging(Name="killed-shared")
            server.stop()
            sinks = Sinks(direct["sqs"], direct["logs"], queue)
            shared = Evidence(direct["s3"], "killed-shared")
            yield World(server, Evidence(direct["s3"]), shared, sinks)
        finally:
            server.close()


def seeds() -> list[int]:
    base = int(os.environ.get("OPENTRAIL_KILL_SEED", "20200101"))
    return [base + number for number in range(RANDOM_KILLS)]


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds())
def test_killed_at_a_random_moment(world: World, seed: int) -> None:
    moment = random.Random(seed).uniform(0.5, 2.5)
    since = time.time() - 1
    plain = world.server.flags
    if seed % 2:
        world.server.flags = (*plain, "--recorders", "2")
    world.server.start()
    world.server.flags = plain
    load, member = world.load(f"r{seed}")
    eventually(lambda: load.answered, "a call is answered")
    killer = threading.Timer(moment, world.server.process.kill)  # type: ignore[union-attr]
    killer.start()
    world.server.wait()
    load.stop()
    member.stop()
    print(f"seed {seed}: killed {moment:.3f} s after the first of {len(load.answered)} answers")
    world.server.start()
    world.check(load, since)
    world.check_member(member)
    assert world.server.stop() == 0


@pytest.fixture(autouse=True)
def _ended(world: World) -> Iterator[None]:
    """Ends the server of a failed test, so that the next one can start its own."""
    yield
    world.server.close()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=() if point == "journal.mid-commit" else pytest.mark.campaign)
        for point in POINTS
    ],
)
def test_killed_at_a_named_point(world: World, point: str) -> None:
    count = random.Random(point).randint(1, POINTS[point])
    since = time.time() - 1
    world.server.start(OPENTRAIL_CRASH_AT=f"{point}:{count}")
    load, member = world.load(f"p{point.replace('.', '')}")
    code = world.server.wait()
    load.stop()
    member.stop()
    print(f"{point}, passage {count}: exit {code}, {len(load.answered)} calls answered")
    assert code == -9
    world.server.start()
    world.check(load, since)
    world.check_member(member)
    assert world.server.stop() == 0


def test_finally_every_answered_call_exists_once(world: World) -> None:
    world.server.start()
    load, member = world.load("last")
    eventually(lambda: len(load.answered) > 50 and member.answered, "calls that are answered")
    load.stop()
    member.stop()
    world.flush()
    found = world.looked_up(0)
    assert set(world.evidence.users) == set(found)
    assert set(found.values()) == {1}
    assert set(world.evidence.users.values()) == {1}
    # Sinks have their own rounds; in the end each has every file and event.
    end = time.monotonic() + TIMEOUT_SECONDS
    while missing := world.evidence.seen.keys() - world.sinks.read_keys().keys():
        assert time.monotonic() < end, missing
        time.sleep(0.2)
    while left := world.evidence.event_ids.keys() - (streamed := world.sinks.events()).keys():
        assert time.monotonic() < end, len(left)
        time.sleep(0.2)
    assert set(streamed.values()) == {1}
    everything = "2020-01-01T00:00:00Z"
    world.validate(everything, "--trail-arn", ARN)
    shared = ("--trail-arn", SHARED_ARN, "--account-id", MEMBER, "--s3-bucket", "killed-shared")
    world.validate(everything, *shared)
    assert world.server.stop() == 0
