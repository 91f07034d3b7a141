"""The policies of create-subscription: served only where the upstream has no such bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.capture.proxy.wires import Wire, between, ok, scope
from tests.live.processes import Opentrail, eventually, moto_server, opentrail_server

BUCKET = "awscloudtrail-policy-us-east-1"
S3 = "policy/S3/AWSCloudTrail-S3BucketPolicy-2014-12-17.json"
SNS = "policy/SNS/AWSCloudTrail-SnsTopicPolicy-2014-12-17.json"
MISSING = b"<Error><Code>%s</Code><Message>no</Message></Error>"


@pytest.fixture(scope="module", params=["refuse", "allow"])
def missing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Opentrail, list[bytes]]]:
    """A server whose upstream answers 404 with a list of codes, one after the other."""
    codes: list[bytes] = []

    def upstream(wire: Wire) -> None:
        while True:
            wire.request()
            wire.send(ok(MISSING % codes.pop()).replace(b"200 OK", b"404 Not Found"))

    folder = tmp_path_factory.mktemp("missing")
    flags = ("--on-record-failure", request.param, "--event-bridge", "off")
    with between(folder, upstream, flags=flags) as (server, _):
        yield server, codes


def answer_to(
    missing: tuple[Opentrail, list[bytes]], code: bytes, path: str, host: str = "127.0.0.1"
) -> tuple[int, dict[str, str], bytes]:
    """Returns the answer to a GET whose upstream answers 404 with a code."""
    server, codes = missing
    before = len(server.records("eventName=GetObject"))

    def newer() -> list[Mapping[str, Any]]:
        return server.records("eventName=GetObject")[: -before or None]

    codes.append(code)
    get = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {scope('s3')}\r\n\r\n"
    answer = Wire.to(server.url).send(get).answer()
    (record,) = eventually(newer, "the record, which with `allow` follows the answer")
    assert record.get("errorCode") == (None if answer[0] == 200 else code.decode()), path
    assert record["additionalEventData"]["bytesTransferredOut"] == len(answer[2])
    return answer


@pytest.mark.live
def test_a_template_replaces_a_missing_bucket(
    missing: tuple[Opentrail, list[bytes]],
) -> None:
    for path, host in (f"/{BUCKET}/{S3}", "127.0.0.1"), (f"/{S3}", f"{BUCKET}.localhost"):
        status, headers, body = answer_to(missing, b"NoSuchBucket", path, host)
        assert status == 200, path
        assert headers["content-type"] == "application/json"
        policy = json.loads(body)
        assert [one["Action"] for one in policy["Statement"]] == ["s3:GetBucketAcl", "s3:PutObject"]
        for placeholder in (b"<BucketName>", b"<Prefix>/", b"<CustomerAccountID>"):
            assert placeholder in body


@pytest.mark.live
def test_upstream_answers_for_other_buckets_and_objects(
    missing: tuple[Opentrail, list[bytes]],
) -> None:
    for code, path in (
        (b"NoSuchKey", f"/{BUCKET}/{S3}"),
        (b"NoSuchBucket", f"/my-{BUCKET}/{S3}"),
        (b"NoSuchBucket", f"/{BUCKET}/policy/S3/other.json"),
        (b"NoSuchBucket", f"/awscloudtrail-policy-mine/{S3}"),
    ):
        status, _, body = answer_to(missing, code, path)
        assert (status, body) == (404, MISSING % code), path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("subscriptions")
    with (
        moto_server() as moto,
        opentrail_server(folder / "data", "--upstream", moto, "--event-bridge", "off") as running,
    ):
        yield running


@pytest.mark.campaign
@pytest.mark.live
def test_stock_command_makes_and_changes_a_whole_subscription(server: Opentrail) -> None:
    made = server.aws(
        *("cloudtrail", "create-subscription", "--name", "stock", "--s3-new-bucket", "stock-logs"),
        *("--s3-prefix", "audit", "--sns-new-topic", "stock-topic"),
    )
    assert "Logs will be delivered to stock-logs:audit" in made
    client = server.boto("cloudtrail")
    (trail,) = client.describe_trails()["trailList"]
    assert (trail["S3BucketName"], trail["S3KeyPrefix"]) == ("stock-logs", "audit")
    assert trail["SnsTopicARN"].endswith(":stock-topic")
    assert client.get_trail_status(Name="stock")["IsLogging"]
    policy = json.loads(server.boto("s3").get_bucket_policy(Bucket="stock-logs")["Policy"])
    writes = policy["Statement"][1]["Resource"]
    assert writes == "arn:aws:s3:::stock-logs/audit/AWSLogs/123456789012/*"
    topic = server.boto("sns").get_topic_attributes(TopicArn=trail["SnsTopicARN"])["Attributes"]
    assert json.loads(topic["Policy"])["Statement"][-1]["Action"] == "SNS:Publish"
    server.aws(
        *("cloudtrail", "update-subscription", "--name", "stock"),
        *("--s3-new-bucket", "stock-logs-2"),
    )
    (changed,) = client.describe_trails()["trailList"]
    assert (changed["S3BucketName"], changed["S3KeyPrefix"]) == ("stock-logs-2", "audit")


@pytest.mark.live
def test_a_users_own_template_bucket_is_not_shadowed(server: Opentrail) -> None:
    s3, bucket = server.boto("s3"), "awscloudtrail-policy-eu-west-1"  # BUCKET is the command's
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=SNS, Body=b"mine")
    assert s3.get_object(Bucket=bucket, Key=SNS)["Body"].read() == b"mine"
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key=S3)
