"""Imports into event data stores with real clients, across kills."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import ACCOUNT
from tests.live.processes import Opentrail, eventually, moto_server, opentrail_server
from tests.live.test_sql import finished
from tests.live.test_stores import S3, create

pytestmark = [pytest.mark.live, pytest.mark.slow]

BUCKET = "trail-logs"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": ["s3:GetBucketAcl", "s3:PutObject"],
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        }
    ],
}
SOURCE = {
    "S3": {
        "S3LocationUri": f"s3://{BUCKET}",
        "S3BucketRegion": "us-east-1",
        "S3BucketAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/lake",
    }
}


@pytest.fixture
def upstream() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def server(upstream: str, tmp_path: Path) -> Iterator[Opentrail]:
    often = ("--delivery-interval", "1", "--digest-interval", "60")
    with opentrail_server(tmp_path / "data", "--upstream", upstream, *often) as started:
        yield started


def deliver(server: Opentrail, *names: str) -> None:
    """Makes users, and returns once a trail has delivered their events."""
    s3, cloudtrail = server.boto("s3"), server.boto("cloudtrail")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(POLICY))
    if not cloudtrail.describe_trails()["trailList"]:
        cloudtrail.create_trail(Name="a-trail", S3BucketName=BUCKET)
        cloudtrail.start_logging(Name="a-trail")
    for name in names:
        server.boto("iam").create_user(UserName=name)
    before = len(log_files(s3))
    server.boto("iam").list_users()
    eventually(lambda: len(log_files(s3)) > before, "the trail delivers")
    cloudtrail.stop_logging(Name="a-trail")  # delivers the rest


def log_files(s3: Any) -> list[str]:
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"AWSLogs/{ACCOUNT}/CloudTrail/")
    keys = [each["Key"] for each in listed.get("Contents", ())]
    return [key for key in keys if not key.endswith("/")]


def ended(cloudtrail: Any, import_id: str) -> Any:
    """Returns an import once it has ended."""

    def result() -> Any:
        found = cloudtrail.get_import(ImportId=import_id)
        return None if found["ImportStatus"] in ("INITIALIZING", "IN_PROGRESS") else found

    return eventually(result, "the import ends")


def users(cloudtrail: Any, store: str) -> Counter[str]:
    """Returns the created users in a store, with the number of their events."""
    column = "element_at(requestParameters, 'userName')"
    statement = f"SELECT {column} AS name FROM {store} WHERE eventName = 'CreateUser'"  # noqa: S608
    found = finished(cloudtrail, statement)
    assert found["QueryStatus"] == "FINISHED", found
    return Counter(row[0]["name"] for row in found["QueryResultRows"])


def test_trail_is_copied_to_stores(server: Opentrail) -> None:
    cloudtrail = server.boto("cloudtrail")
    everything = create(cloudtrail, "everything")
    deliver(server, "Mary", "Pete")
    objects = create(cloudtrail, "objects", AdvancedEventSelectors=S3)
    for arn in (everything, objects):
        for _ in range(2):
            started = cloudtrail.start_import(Destinations=[arn], ImportSource=SOURCE)
            done = ended(cloudtrail, started["ImportId"])
            assert done["ImportStatus"] == "COMPLETED"
            statistics = done["ImportStatistics"]
            assert statistics["FilesCompleted"] == len(log_files(server.boto("s3")))
            assert statistics["EventsCompleted"] >= 2
            assert statistics["FailedEntries"] == 0
        assert users(cloudtrail, arn[-36:]) == {"Mary": 1, "Pete": 1}
    listed = json.loads(server.aws("cloudtrail", "list-imports", "--import-status", "COMPLETED"))
    assert len(listed["Imports"]) == 4
    failures = ("cloudtrail", "list-import-failures", "--import-id", started["ImportId"])
    assert json.loads(server.aws(*failures)) == {"Failures": []}
    assert server.count("eventName:CreateUser") == 2  # imports add nothing to event history
    assert server.opentrail("verify-store").returncode == 0


@pytest.mark.campaign
@pytest.mark.parametrize("point", ["store.written", "import.copied"])
def test_killed_import_leaves_each_event_once(server: Opentrail, point: str) -> None:
    deliver(server, "Mary", "Pete")
    cloudtrail = server.boto("cloudtrail")
    arn = create(cloudtrail, "objects", AdvancedEventSelectors=S3)
    server.stop()
    server.start(OPENTRAIL_CRASH_AT=f"{point}:1")
    cloudtrail = server.boto("cloudtrail")
    started = cloudtrail.start_import(Destinations=[arn], ImportSource=SOURCE)
    server.wait()
    server.start()
    cloudtrail = server.boto("cloudtrail")
    assert ended(cloudtrail, started["ImportId"])["ImportStatus"] == "COMPLETED"
    assert users(cloudtrail, arn[-36:]) == {"Mary": 1, "Pete": 1}
    assert server.opentrail("verify-store").returncode == 0
