"""An unreachable, slow, forgetful or lying store: each event in one file, digests whole."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.anomaly.bad_store import BadStore
from tests.live.processes import Opentrail, eventually, moto_server, opentrail_server

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/tried"
FAULTS = ("down", "denied", "reset", "lost", "etag", "slow", "fine")
ROUNDS, SEED = 6, 20200101


@pytest.fixture
def upstream() -> Iterator[str]:
    with moto_server() as url:
        yield url


def delivered(upstream: str) -> Counter[str]:
    """Counts the users whose creation is in the bucket, read past the faults."""
    s3: Any = boto3.client(
        "s3",
        endpoint_url=upstream,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    found: Counter[str] = Counter()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="tried")
    for item in (item for page in pages for item in page.get("Contents", ())):
        if "/CloudTrail/" not in item["Key"] or not item["Size"]:
            continue
        stored = s3.get_object(Bucket="tried", Key=item["Key"])["Body"].read()
        for record in json.loads(gzip.decompress(stored))["Records"]:
            if record["eventName"] == "CreateUser":
                found[record["requestParameters"]["userName"]] += 1
    return found


def flushed(server: Opentrail, timeout: float = 60) -> int:
    """Flushes until a flush succeeds; returns the number of failures."""
    failures: list[str] = []

    def is_done() -> bool:
        done = server.opentrail("trail", "flush", "tried")
        failures.extend([done.stderr] if done.returncode else [])
        return done.returncode == 0

    eventually(is_done, "a flush that does well", timeout)
    return len(failures)


def check_both_verifiers(server: Opentrail) -> None:
    done = server.try_aws(
        *("cloudtrail", "validate-logs", "--trail-arn", ARN),
        *("--start-time", "2020-01-01T00:00:00Z"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = server.validate(ARN)
    assert ours.returncode == 0, ours.stdout + ours.stderr


def test_each_event_is_delivered_once_despite_any_fault(tmp_path: Path, upstream: str) -> None:
    chance = random.Random(SEED)
    script = [fault for _ in range(ROUNDS) for fault in chance.sample(FAULTS, len(FAULTS))]
    with BadStore(upstream, ()) as store:
        flags = ("--upstream", upstream, "--upstream", f"s3={store.url}")
        with opentrail_server(tmp_path / "data", *flags, "--delivery-interval", "1") as server:
            server.boto("s3").create_bucket(Bucket="tried")
            trail = server.boto("cloudtrail")
            trail.create_trail(Name="tried", S3BucketName="tried", EnableLogFileValidation=True)
            trail.start_logging(Name="tried")
            store.script.extend(script)
            expected: list[str] = []
            failed = 0
            while store.script:
                expected.append(f"user-{len(expected)}")
                server.boto("iam").create_user(UserName=expected[-1])
                failed += flushed(server)
            assert failed  # the number depends on the faults that the worker's own rounds used up
            assert set(store.met) >= set(FAULTS)
            assert delivered(upstream) == Counter(expected)
            check_both_verifiers(server)


def test_an_unreachable_store_is_reported_and_loses_nothing(tmp_path: Path, upstream: str) -> None:
    with BadStore(upstream, ()) as store:
        flags = ("--upstream", upstream, "--upstream", f"s3={store.url}")
        with opentrail_server(
            tmp_path / "data", *flags, "--delivery-interval", "1", "--digest-interval", "2"
        ) as server:
            server.boto("s3").create_bucket(Bucket="tried")
            trail = server.boto("cloudtrail")
            trail.create_trail(Name="tried", S3BucketName="tried", EnableLogFileValidation=True)
            trail.start_logging(Name="tried")
            flushed(server)
            store.script.extend(["down"] * 10_000)
            expected: list[str] = []
            while store.met["down"] < 32:
                expected.append(f"user-{len(expected)}")
                server.boto("iam").create_user(UserName=expected[-1])
                assert server.opentrail("trail", "flush", "tried").returncode == 1
            status = trail.get_trail_status(Name="tried")
            assert status["LatestDeliveryError"] == "SlowDown"
            assert delivered(upstream) == Counter()
            while len(store.script) > 8:
                store.script.pop()
            server.kill()
            server.start()
            flushed(server)
            assert delivered(upstream) == Counter(expected)
            assert "LatestDeliveryError" not in trail_status(server)
            check_both_verifiers(server)


def trail_status(server: Opentrail) -> dict[str, Any]:
    status: dict[str, Any] = server.boto("cloudtrail").get_trail_status(Name="tried")
    return status
