"""Event selectors with real clients: boto3 sets them, buckets show the delivered events."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from tests.live.processes import Opentrail, free_port, moto_server, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.campaign]

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/selected"
WRITES_TO_PAYMENTS = {
    "Name": "writes to payments",
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        {"Field": "resources.ARN", "StartsWith": ["arn:aws:s3:::payments/"]},
        {"Field": "readOnly", "Equals": ["false"]},
    ],
}
MESSAGES_SENT = {
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::SQS::Queue"]},
        {"Field": "eventName", "Equals": ["SendMessage"]},
    ],
}


@dataclass
class World:
    """A server before a moto that outlives it."""

    server: Opentrail
    upstream: str

    def delivered(self) -> Counter[str]:
        """Counts the events in the bucket by name, read without opentrail."""
        direct = boto3.client(
            "s3",
            endpoint_url=self.upstream,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        found: Counter[str] = Counter()
        for listed in direct.list_objects_v2(Bucket="evidence").get("Contents", []):
            if "/CloudTrail/" not in listed["Key"] or not listed["Size"]:
                continue
            body = direct.get_object(Bucket="evidence", Key=listed["Key"])["Body"].read()
            found.update(r["eventName"] for r in json.loads(gzip.decompress(body))["Records"])
        return found


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("selected")
    with moto_server() as upstream:
        flags = ("--upstream", upstream)
        with opentrail_server(folder / "data", *flags, port=free_port()) as server:
            for bucket in ("evidence", "payments", "others"):
                server.boto("s3").create_bucket(Bucket=bucket)
            server.boto("cloudtrail").create_trail(
                Name="selected", S3BucketName="evidence", EnableLogFileValidation=True
            )
            yield World(server, upstream)


def some_calls(server: Opentrail) -> None:
    """Writes and reads two buckets, and sends and receives a message."""
    s3, sqs = server.boto("s3"), server.boto("sqs")
    for bucket in ("payments", "others"):
        s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"1,2")
        s3.get_object(Bucket=bucket, Key="in/a.csv")["Body"].read()
        s3.list_objects_v2(Bucket=bucket)
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a job")
    sqs.receive_message(QueueUrl=url)
    server.boto("iam").list_users()


def test_a_trail_delivers_selected_events_over_a_crash(
    world: World,
) -> None:
    trails: Any = world.server.boto("cloudtrail")
    given = [WRITES_TO_PAYMENTS, MESSAGES_SENT]
    answer = trails.put_event_selectors(TrailName="selected", AdvancedEventSelectors=given)
    assert answer["TrailARN"] == ARN
    assert answer["AdvancedEventSelectors"] == given
    (described,) = trails.describe_trails(trailNameList=[ARN])["trailList"]
    assert described["HasCustomEventSelectors"] is True
    trails.start_logging(Name=ARN)
    some_calls(world.server)

    # The process ends once the file is planned; selectors change before the next attempt.
    world.server.stop()
    world.server.start(OPENTRAIL_CRASH_AT="delivery.planned:1")
    assert world.server.opentrail("trail", "flush", "selected").returncode != 0
    assert world.server.wait() == -9
    world.server.start()
    trails = world.server.boto("cloudtrail")
    trails.put_event_selectors(
        TrailName=ARN,
        EventSelectors=[{"ReadWriteType": "ReadOnly"}],
    )
    some_calls(world.server)
    assert world.server.opentrail("trail", "flush", "selected").returncode == 0

    found = world.delivered()
    assert [found[name] for name in ("PutObject", "SendMessage", "ListUsers")] == [1, 1, 1]
    left_out = {"GetObject", "ListObjects", "ReceiveMessage", "CreateQueue", "PutEventSelectors"}
    assert not left_out & set(found)
    said = world.server.try_aws(
        *("cloudtrail", "validate-logs", "--trail-arn", ARN),
        *("--start-time", "2020-01-01T00:00:00Z"),
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1/1 digest files valid" in said.stdout
    assert "2/2 log files valid" in said.stdout


def test_boto3_knows_the_error_and_the_restored_default(world: World) -> None:
    trails: Any = world.server.boto("cloudtrail")
    wrong = {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Everything"]}]}
    with pytest.raises(trails.exceptions.InvalidEventSelectorsException, match="Everything"):
        trails.put_event_selectors(TrailName="selected", AdvancedEventSelectors=[wrong])
    with pytest.raises(trails.exceptions.InvalidEventSelectorsException, match="required"):
        trails.put_event_selectors(TrailName="selected")
    elsewhere: Any = world.server.boto("cloudtrail", region="eu-west-1")
    with pytest.raises(elsewhere.exceptions.InvalidHomeRegionException):
        elsewhere.put_event_selectors(TrailName=ARN, EventSelectors=[{}])
    trails.put_event_selectors(TrailName="selected", EventSelectors=[{"ReadWriteType": "All"}])
    (described,) = trails.describe_trails()["trailList"]
    assert described["HasCustomEventSelectors"] is False
    (read,) = trails.get_event_selectors(TrailName="selected")["EventSelectors"]
    assert read == {
        "ReadWriteType": "All",
        "IncludeManagementEvents": True,
        "DataResources": [],
        "ExcludeManagementEventSources": [],
    }
