"""Every option of a trail with aws-cli, and its effect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cases import case
from tests.live.processes import Opentrail, eventually, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ACCOUNT = "123456789012"
ARN = f"arn:aws:cloudtrail:us-east-1:{ACCOUNT}:trail/whole"
GROUP = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:trail-events:*"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/logs"
STREAM = f"{ACCOUNT}_CloudTrail_us-east-1"


class World:
    """A sandbox with a bucket, a key, a topic with a queue behind it, a log group and a rule."""

    def __init__(self, server: Opentrail) -> None:
        self.server = server
        server.aws("s3", "mb", "s3://evidence")
        server.aws("logs", "create-log-group", "--log-group-name", "trail-events")
        self.key = json.loads(server.aws("kms", "create-key"))["KeyMetadata"]["Arn"]
        self.topic = json.loads(server.aws("sns", "create-topic", "--name", "news"))["TopicArn"]
        self.notifications = self._queue("notifications")
        self.ruled = self._queue("ruled")
        server.boto("sns").subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint=self._arn(self.notifications)
        )
        events = server.boto("events")
        events.put_rule(Name="all", EventPattern=json.dumps({"source": ["aws.iam"]}))
        events.put_targets(Rule="all", Targets=[{"Id": "1", "Arn": self._arn(self.ruled)}])

    def _queue(self, name: str) -> str:
        url: str = self.server.boto("sqs").create_queue(QueueName=name)["QueueUrl"]
        return url

    def _arn(self, queue: str) -> str:
        asked = self.server.boto("sqs").get_queue_attributes(
            QueueUrl=queue, AttributeNames=["QueueArn"]
        )
        arn: str = asked["Attributes"]["QueueArn"]
        return arn

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """Receives and deletes the messages in a queue."""
        found: list[dict[str, Any]] = []
        sqs = self.server.boto("sqs")
        while True:
            page = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
            if not page:
                return found
            for message in page:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def streamed(self) -> list[str]:
        """Returns the ids of the events in the log group."""
        page = self.server.boto("logs").get_log_events(
            logGroupName="trail-events", logStreamName=STREAM, startFromHead=True
        )
        return [json.loads(event["message"])["eventID"] for event in page["events"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("options")
    with opentrail_server(folder / "data", command="sandbox") as server:
        yield World(server)


def test_every_trail_option_works_until_it_is_cleared(world: World) -> None:
    with case("every option of create-trail is accepted and shown"):
        create_with_every_option(world)
    with case("files are announced, encrypted and streamed, and rules get events"):
        check_sinks(world)
    with case("the status has the result of every sink"):
        check_status(world)
    with case("what lies in the bucket is valid for both verifiers"):
        check_bucket(world)
    with case("every option of update-trail is accepted and cleared"):
        clear_every_option(world)


def create_with_every_option(world: World) -> None:
    made = json.loads(
        world.server.aws(
            *("cloudtrail", "create-trail", "--name", "whole", "--s3-bucket-name", "evidence"),
            *("--s3-key-prefix", "audit", "--sns-topic-name", "news"),
            *("--include-global-service-events", "--is-multi-region-trail"),
            *("--enable-log-file-validation", "--cloud-watch-logs-log-group-arn", GROUP),
            *("--cloud-watch-logs-role-arn", ROLE, "--kms-key-id", world.key),
            *("--no-is-organization-trail", "--tags-list", "Key=team,Value=audit"),
        )
    )
    assert made == {
        "Name": "whole",
        "S3BucketName": "evidence",
        "S3KeyPrefix": "audit",
        "SnsTopicName": "news",
        "SnsTopicARN": world.topic,
        "IncludeGlobalServiceEvents": True,
        "IsMultiRegionTrail": True,
        "TrailARN": ARN,
        "LogFileValidationEnabled": True,
        "CloudWatchLogsLogGroupArn": GROUP,
        "CloudWatchLogsRoleArn": ROLE,
        "KmsKeyId": world.key,
        "IsOrganizationTrail": False,
    }
    whole = {
        **made,
        "HomeRegion": "us-east-1",
        "HasCustomEventSelectors": False,
        "HasInsightSelectors": False,
    }
    aws = world.server.aws
    assert json.loads(aws("cloudtrail", "get-trail", "--name", "whole"))["Trail"] == whole
    for more in ((), ("--trail-name-list", ARN), ("--include-shadow-trails",)):
        assert json.loads(aws("cloudtrail", "describe-trails", *more))["trailList"] == [whole]
    listed = json.loads(aws("cloudtrail", "list-tags", "--resource-id-list", ARN))
    tags = [{"Key": "team", "Value": "audit"}]
    assert listed["ResourceTagList"] == [{"ResourceId": ARN, "TagsList": tags}]


def check_sinks(world: World) -> None:
    server = world.server
    server.aws("cloudtrail", "start-logging", "--name", "whole")
    for user in ("Mary", "Anna"):
        server.aws("iam", "create-user", "--user-name", user)
    server.aws("iam", "list-users")
    assert server.opentrail("trail", "flush", "whole").returncode == 0
    s3 = server.boto("s3")
    keys = [
        item["Key"]
        for item in s3.list_objects_v2(Bucket="evidence", Prefix="audit/")["Contents"]
        if item["Key"].endswith(".gz")
    ]
    for key in keys:
        head = s3.head_object(Bucket="evidence", Key=key)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", world.key)
    logs = [key for key in keys if "/CloudTrail/" in key]
    announced: list[str] = []

    def all_told() -> bool:
        for body in world.messages(world.notifications):
            if body["Message"].startswith("{"):
                announced.extend(json.loads(body["Message"])["s3ObjectKey"])
        return set(announced) >= set(logs)

    eventually(all_told, "a notification of each file")
    assert sorted(announced) == sorted(logs), "one message for each file"
    records = {r["eventID"]: r for r in server.records() if r["awsRegion"] == "us-east-1"}
    created = {i for i, r in records.items() if r["eventName"] == "CreateUser"}
    eventually(lambda: created <= set(world.streamed()), "each call in the log group")
    streamed = world.streamed()
    assert len(streamed) == len(set(streamed))
    ruled: list[dict[str, Any]] = []

    def all_ruled() -> bool:
        ruled.extend(world.messages(world.ruled))
        return created <= {event["detail"]["eventID"] for event in ruled}

    eventually(all_ruled, "each call by the rule")
    assert {event["detail"]["eventName"] for event in ruled} == {"CreateUser"}
    for event in ruled:
        assert event["source"] == "aws.iam"
        assert event["detail-type"] == "AWS API Call via CloudTrail"
        assert event["detail"] == records[event["detail"]["eventID"]]


def check_status(world: World) -> None:
    status = json.loads(world.server.aws("cloudtrail", "get-trail-status", "--name", ARN))
    assert status["IsLogging"] is True
    for name in (
        "LatestDeliveryTime",
        "LatestNotificationTime",
        "StartLoggingTime",
        "LatestCloudWatchLogsDeliveryTime",
        "LatestDigestDeliveryTime",
        "LatestDeliveryAttemptTime",
        "LatestNotificationAttemptTime",
        "LatestNotificationAttemptSucceeded",
        "LatestDeliveryAttemptSucceeded",
        "TimeLoggingStarted",
    ):
        assert status[name], name
    assert status["TimeLoggingStopped"] == ""
    assert not [name for name in status if name.endswith("Error")]


def check_bucket(world: World) -> None:
    done = world.server.try_aws(
        *("cloudtrail", "validate-logs", "--trail-arn", ARN, "--start-time", "2020-01-01T00:00:00Z")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = world.server.validate(ARN)
    assert ours.returncode == 0, ours.stdout + ours.stderr


def clear_every_option(world: World) -> None:
    server = world.server
    changed = json.loads(
        server.aws(
            *("cloudtrail", "update-trail", "--name", "whole", "--s3-key-prefix", ""),
            *("--sns-topic-name", "", "--no-is-multi-region-trail"),
            *("--no-include-global-service-events", "--no-enable-log-file-validation"),
            *("--cloud-watch-logs-log-group-arn", "", "--cloud-watch-logs-role-arn", ""),
            *("--kms-key-id", "", "--s3-bucket-name", "evidence"),
        )
    )
    assert changed == {
        "Name": "whole",
        "S3BucketName": "evidence",
        "IncludeGlobalServiceEvents": False,
        "IsMultiRegionTrail": False,
        "TrailARN": ARN,
        "LogFileValidationEnabled": False,
        "IsOrganizationTrail": False,
    }
    server.aws("cloudtrail", "add-tags", "--resource-id", ARN, "--tags-list", "Key=cost,Value=7")
    server.aws("cloudtrail", "remove-tags", "--resource-id", ARN, "--tags-list", "Key=team")
    listed = json.loads(server.aws("cloudtrail", "list-tags", "--resource-id-list", ARN))
    assert listed["ResourceTagList"][0]["TagsList"] == [{"Key": "cost", "Value": "7"}]
    trails = json.loads(server.aws("cloudtrail", "list-trails"))["Trails"]
    assert trails == [{"TrailARN": ARN, "Name": "whole", "HomeRegion": "us-east-1"}]
    server.aws("cloudtrail", "stop-logging", "--name", ARN)
    server.aws("cloudtrail", "delete-trail", "--name", "whole")
    assert json.loads(server.aws("cloudtrail", "describe-trails"))["trailList"] == []


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--sns-topic-name", "nobody", "InsufficientSnsTopicPolicyException"),
        ("--kms-key-id", "alias/nobody", "KmsKeyNotFoundException"),
        ("--cloud-watch-logs-log-group-arn", GROUP, "InvalidCloudWatchLogsRoleArnException"),
        ("--s3-key-prefix", "/x", "InvalidS3PrefixException"),
        ("--s3-bucket-name", "no-such-bucket", "S3BucketDoesNotExistException"),
        ("--tags-list", "Key=aws:x,Value=1", "InvalidTagParameterException"),
    ],
)
def test_a_wrong_option_is_refused_with_awss_error(
    world: World, option: str, value: str, code: str
) -> None:
    bucket = () if option == "--s3-bucket-name" else ("--s3-bucket-name", "evidence")
    done = world.server.try_aws(
        "cloudtrail", "create-trail", "--name", "bad", *bucket, option, value
    )
    assert done.returncode != 0
    assert f"({code})" in done.stderr
    assert "bad" not in world.server.aws("cloudtrail", "list-trails")


def test_a_failed_creation_of_a_trail_leaves_nothing(world: World) -> None:
    def refused(*flags: str) -> str:
        done = world.server.opentrail(
            "trail",
            "create",
            "bad",
            "--bucket",
            "new-evidence",
            "--kms-key",
            "alias/nobody",
            *flags,
        )
        assert done.returncode == 1
        return done.stderr

    def buckets() -> list[str]:
        return [bucket["Name"] for bucket in world.server.boto("s3").list_buckets()["Buckets"]]

    def topics() -> list[str]:
        return [each["TopicArn"] for each in world.server.boto("sns").list_topics()["Topics"]]

    said = refused("--create-bucket", "--create-topic", "--topic", "gazette")
    assert "the new bucket new-evidence was removed again" in said
    assert "the new topic gazette was removed again" in said
    world.server.boto("s3").create_bucket(Bucket="new-evidence")
    said = refused("--create-bucket", "--create-topic", "--topic", "news")
    assert "removed" not in said
    refused("--topic", "gazette")
    assert buckets() == ["evidence", "new-evidence"]
    assert topics() == [world.topic]


def test_inventory_tools_find_trails_by_the_tagging_api(world: World) -> None:
    server = world.server
    tags = [{"Key": "cost", "Value": "7"}]
    trails, tagging = server.boto("cloudtrail"), server.boto("resourcegroupstaggingapi")
    arn = trails.create_trail(Name="found", S3BucketName="evidence", TagsList=tags)["TrailARN"]
    server.boto("s3").put_bucket_tagging(Bucket="evidence", Tagging={"TagSet": tags})
    pages = tagging.get_paginator("get_resources").paginate(ResourcesPerPage=1)
    found = [each["ResourceARN"] for page in pages for each in page["ResourceTagMappingList"]]
    assert arn in found
    assert "arn:aws:s3:::evidence" in found
    done = tagging.tag_resources(
        ResourceARNList=[arn, "arn:aws:s3:::evidence"], Tags={"team": "audit"}
    )
    assert done["FailedResourcesMap"] == {}
    (listed,) = trails.list_tags(ResourceIdList=[arn])["ResourceTagList"]
    assert {tag["Key"] for tag in listed["TagsList"]} == {"cost", "team"}
    assert tagging.get_tag_values(Key="team")["TagValues"] == ["audit"]
    tagging.untag_resources(ResourceARNList=[arn], TagKeys=["team", "cost"])
    (listed,) = trails.list_tags(ResourceIdList=[arn])["ResourceTagList"]
    assert listed["TagsList"] == []
    last = server.records("name=TagResources")[0]
    assert last["eventSource"] == "tagging.amazonaws.com"
    assert last["requestParameters"]["resourceARNList"] == [arn, "arn:aws:s3:::evidence"]
    trails.delete_trail(Name="found")
