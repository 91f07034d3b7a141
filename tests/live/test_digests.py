"""AWS's own verifier accepts log files and digests, and reports tampering."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

from tests.live.processes import Opentrail, free_port, moto_server, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"
START = "2020-01-01T00:00:00Z"
MEGABYTE = 1024 * 1024


@dataclass
class World:
    """A server, its upstream, and the management calls sent through it."""

    server: Opentrail
    upstream: str
    sent: Counter[str] = field(default_factory=Counter)
    objects: dict[str, bytes] = field(default_factory=dict)

    def direct_s3(self) -> Any:
        """A client of the bucket that bypasses opentrail."""
        return boto3.client(
            "s3",
            endpoint_url=self.upstream,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )

    def validate(self) -> tuple[int, str]:
        """Runs `aws cloudtrail validate-logs --verbose` through the endpoint."""
        done = self.server.try_aws(
            "cloudtrail", "validate-logs", "--trail-arn", ARN, "--start-time", START, "--verbose"
        )
        return done.returncode, done.stdout + done.stderr


def a_round_of_calls(world: World, number: int) -> None:
    """Sends about a hundred calls to five services, management and data, good and bad."""
    server, sent = world.server, world.sent
    iam, sts, sqs = (server.boto(name) for name in ("iam", "sts", "sqs"))
    dynamodb = server.boto("dynamodb")
    for index in range(30):
        iam.create_user(UserName=f"user-{number}-{index}")
        iam.get_user(UserName=f"user-{number}-{index}")
        sent["CreateUser"] += 1
        sent["GetUser"] += 1
    for _ in range(10):
        sts.get_caller_identity()
        sent["GetCallerIdentity"] += 1
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=f"user-{number}-0")
    sent["CreateUser"] += 1
    url = sqs.create_queue(QueueName=f"queue-{number}")["QueueUrl"]
    sent["CreateQueue"] += 1
    for index in range(10):
        sqs.send_message(QueueUrl=url, MessageBody=f"secret {index}")
    dynamodb.create_table(
        TableName=f"table-{number}",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    sent["CreateTable"] += 1
    for index in range(10):
        dynamodb.put_item(TableName=f"table-{number}", Item={"id": {"S": str(index)}})


def upload(world: World, seed: int) -> None:
    """Uploads 20 MB in parts and 20 MB as one stream, and some small objects with odd keys."""
    s3 = world.server.boto("s3", attempts=5)  # concurrent parts may be throttled
    noise = random.Random(seed)
    for name in ("parts", "stream", "a b/ü//..%2F+", "empty"):
        size = {"parts": 20 * MEGABYTE, "stream": 20 * MEGABYTE, "empty": 0}.get(name, 1000)
        world.objects[name] = noise.randbytes(size)
    config = TransferConfig(multipart_threshold=5 * MEGABYTE, multipart_chunksize=5 * MEGABYTE)
    s3.upload_fileobj(io.BytesIO(world.objects["parts"]), "evidence-data", "parts", Config=config)
    for name, content in world.objects.items():
        if name != "parts":
            # A checksum in a trailer makes boto3 send the aws-chunked coding with Expect.
            s3.put_object(
                Bucket="evidence-data",
                Key=name,
                Body=io.BytesIO(content),
                ChecksumAlgorithm="CRC32",
            )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("digests")
    with moto_server() as upstream:
        # The test's own questions must not get into the log files, even if it reads them late.
        flags = ("--upstream", upstream, "--delivery-interval", "3600")
        with opentrail_server(folder / "data", *flags, port=free_port()) as server:
            world = World(server, upstream)
            server.aws("s3", "mb", "s3://evidence")
            server.aws("s3", "mb", "s3://evidence-data")
            trail = ("--name", "evidence")
            server.aws(
                *("cloudtrail", "create-trail", *trail, "--s3-bucket-name", "evidence"),
                *("--is-multi-region-trail", "--enable-log-file-validation"),
            )
            server.aws("cloudtrail", "start-logging", *trail)
            world.sent["StartLogging"] += 1
            for number in range(3):
                a_round_of_calls(world, number)
                if number == 1:
                    upload(world, seed=number)
                flushed = server.opentrail("trail", "flush", "evidence")
                assert flushed.returncode == 0, flushed.stderr
                if number == 0:
                    assert server.stop() == 0
                    server.start()
            yield world


def test_uploads_are_read_back_byte_for_byte(world: World) -> None:
    s3 = world.server.boto("s3")
    for name, content in world.objects.items():
        assert s3.get_object(Bucket="evidence-data", Key=name)["Body"].read() == content, name
    ranged = s3.get_object(Bucket="evidence-data", Key="parts", Range="bytes=5242870-5242889")
    assert ranged["Body"].read() == world.objects["parts"][5242870:5242890]


def test_log_files_hold_each_management_call_once(world: World) -> None:
    assert sum(world.sent.values()) > 200
    found, ids = Counter[str](), Counter[str]()
    for record in records_in_bucket(world):
        assert record["eventCategory"] == "Management"
        ids[record["eventID"]] += 1
        if record["eventName"] in world.sent:
            found[record["eventName"]] += 1
        else:
            # Additions by aws-cli and this test's own questions.
            assert record["eventSource"] == "s3.amazonaws.com", record["eventName"]
    assert found == world.sent
    assert set(ids.values()) == {1}


def test_history_and_log_files_hold_the_same_bytes(world: World) -> None:
    in_files = {r["eventID"]: r for r in records_in_bucket(world)}
    in_history = {r["eventID"]: r for r in world.server.records()}
    assert in_files
    for event_id, record in in_files.items():
        assert in_history[event_id] == record


def records_in_bucket(world: World) -> list[dict[str, Any]]:
    s3 = world.direct_s3()
    records: list[dict[str, Any]] = []
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="evidence", Prefix="AWSLogs/")
    for item in (item for page in pages for item in page["Contents"]):
        if "/CloudTrail/" not in item["Key"] or not item["Size"]:
            continue
        stored = s3.get_object(Bucket="evidence", Key=item["Key"])
        assert stored["ContentEncoding"] == "gzip"
        assert stored["ContentType"] == "application/json"
        records.extend(json.loads(gzip.decompress(stored["Body"].read()))["Records"])
    return records


def test_validate_logs_finds_every_file_valid(world: World) -> None:
    code, said = world.validate()
    assert code == 0, said
    digests = re.search(r"^(\d+)/(\d+) digest files valid$", said, re.M)
    logs = re.search(r"^(\d+)/(\d+) log files valid$", said, re.M)
    assert digests is not None
    assert logs is not None
    assert digests[1] == digests[2]
    assert int(digests[1]) >= 3
    assert logs[1] == logs[2]
    assert int(logs[1]) >= 3
    assert "INVALID" not in said


@pytest.mark.parametrize("kind", ["CloudTrail/", "CloudTrail-Digest/"])
def test_one_changed_byte_is_found(world: World, kind: str) -> None:
    s3 = world.direct_s3()
    key = newest_but_one(s3, kind)
    stored = s3.get_object(Bucket="evidence", Key=key)
    raw = bytearray(gzip.decompress(stored["Body"].read()))
    raw[len(raw) // 2] ^= 1
    put = {"Bucket": "evidence", "Key": key, **kept(stored)}
    s3.put_object(**put, Body=gzip.compress(bytes(raw)))
    code, said = world.validate()
    raw[len(raw) // 2] ^= 1
    s3.put_object(**put, Body=gzip.compress(bytes(raw)))
    assert code == 1
    named = [line for line in said.splitlines() if key in line]
    assert any("INVALID" in line for line in named), said
    assert world.validate()[0] == 0


@pytest.mark.parametrize("kind", ["CloudTrail/", "CloudTrail-Digest/"])
def test_one_deleted_file_is_found(world: World, kind: str) -> None:
    s3 = world.direct_s3()
    key = newest_but_one(s3, kind)
    stored = s3.get_object(Bucket="evidence", Key=key)
    content = stored["Body"].read()
    s3.delete_object(Bucket="evidence", Key=key)
    code, said = world.validate()
    s3.put_object(Bucket="evidence", Key=key, Body=content, **kept(stored))
    assert code == 1
    assert any(key in line and "INVALID: not found" in line for line in said.splitlines()), said
    assert world.validate()[0] == 0


def kept(stored: dict[str, Any]) -> dict[str, Any]:
    """Returns the attributes of an object for `put_object`, other than its content."""
    return {name: stored[name] for name in ("Metadata", "ContentEncoding", "ContentType")}


def newest_but_one(s3: Any, kind: str) -> str:
    listed = s3.list_objects_v2(Bucket="evidence", Prefix=f"AWSLogs/123456789012/{kind}us-east-1/")
    keys = sorted(item["Key"] for item in listed["Contents"])
    return str(keys[-2])


@pytest.mark.parametrize("prefix", ["audit", "audit/"])
def test_validate_logs_finds_the_digests_under_a_prefix(tmp_path: Path, prefix: str) -> None:
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream) as server,
    ):
        server.boto("s3").create_bucket(Bucket="evidence")
        trails = server.boto("cloudtrail")
        bucket = {"S3BucketName": "evidence", "S3KeyPrefix": prefix}
        created = trails.create_trail(Name="evidence", EnableLogFileValidation=True, **bucket)
        assert created["S3KeyPrefix"] == prefix
        trails.start_logging(Name="evidence")
        flushed = server.opentrail("trail", "flush", "evidence")
        assert flushed.returncode == 0, flushed.stderr
        code, said = World(server, upstream).validate()
        assert code == 0, said
        assert "1/1 digest files valid" in said
        ours = server.validate(ARN)
        assert ours.returncode == 0, ours.stdout + ours.stderr
