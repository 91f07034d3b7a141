"""The fixture `opentrail`, used like its users do: real calls, in front of moto."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from opentrail.core.errors import UsageError
from opentrail.core.event import format_time
from opentrail.pytest_plugin.oracle import Oracle
from opentrail.pytest_plugin.session_server import TestServer
from tests.factories import a_data_record

pytestmark = pytest.mark.live


@pytest.fixture
def s3(opentrail: Oracle) -> Any:
    """A client of a moto with the bucket `reports`."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="reports")
    return client


def failure(assertion: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(AssertionError) as error:
        assertion(*arguments, **named)
    return str(error.value)


def test_calls_are_recorded_in_order_with_their_members(opentrail: Oracle, s3: Any) -> None:
    s3.put_object(Bucket="reports", Key="a.txt", Body=b"x")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="reports", Key="b.txt")
    creation, upload, read = opentrail
    assert [each.action for each in opentrail.calls] == [
        *("s3:CreateBucket", "s3:PutObject", "s3:GetObject"),
    ]
    assert creation.parameters["bucketName"] == "reports"
    assert (upload.user, upload.error, upload.is_read_only) == ("admin", None, False)
    assert (read.error, read.is_read_only) == ("NoSuchKey", True)
    assert repr(opentrail) == "<3 recorded calls: s3:CreateBucket, s3:PutObject, s3:GetObject>"
    assert opentrail[-1:] == [opentrail.calls[2]]


def test_every_answered_call_is_visible_immediately(opentrail: Oracle, s3: Any) -> None:
    for number in range(1, 31):
        s3.put_object(Bucket="reports", Key=f"{number}", Body=b"")
        opentrail.assert_called("s3:PutObject", times=number)
    with ThreadPoolExecutor(8) as pool, opentrail.record() as calls:
        list(pool.map(lambda n: s3.head_object(Bucket="reports", Key=f"{n}"), range(1, 31)))
    assert sorted(int(call.parameters["key"]) for call in calls) == list(range(1, 31))


def test_a_block_has_the_calls_inside(opentrail: Oracle, s3: Any) -> None:
    with opentrail.record() as calls:
        s3.put_object(Bucket="reports", Key="inside", Body=b"")
        assert len(calls) == 1
        with opentrail.record() as inner:
            s3.head_object(Bucket="reports", Key="inside")
    s3.delete_object(Bucket="reports", Key="inside")
    assert [call.event_name for call in calls] == ["PutObject", "HeadObject"]
    assert [call.event_name for call in inner] == ["HeadObject"]
    calls.assert_not_called("s3:DeleteObject")
    opentrail.assert_called("s3:DeleteObject", times=1)


def test_a_block_that_fails_has_its_calls(opentrail: Oracle, s3: Any) -> None:
    with pytest.raises(s3.exceptions.NoSuchBucket), opentrail.record() as calls:
        s3.list_objects_v2(Bucket="missing")
    s3.list_buckets()
    assert len(calls) == 1


def test_the_matching_calls_are_returned(opentrail: Oracle, s3: Any) -> None:
    for key in ("a", "b"):
        s3.put_object(Bucket="reports", Key=key, Body=b"")
    found = opentrail.assert_called("s3:Put*", 2, bucket="reports", error=None, user="admin")
    assert [call.parameters["key"] for call in found] == ["a", "b"]
    assert opentrail.matching("s3:PutObject", key="b") == found[1:]
    assert opentrail.assert_called("s3:DeleteObject", times=0) == []


def test_a_missing_call_is_shown_with_the_nearest(opentrail: Oracle, s3: Any) -> None:
    s3.put_object(Bucket="reports", Key="a.txt", Body=b"x")
    assert failure(opentrail.assert_called, "s3:PutObject", bucket="report", times=1) == (
        "expected s3:PutObject bucket='report' 1 time, but no such call was recorded\n"
        "\n"
        "The nearest of 2 recorded:\n"
        "\n"
        "  s3:PutObject  bucketName='reports'  key='a.txt'\n"
        "    bucket: expected 'report', recorded 'reports'\n"
        "\n"
        "  s3:CreateBucket  bucketName='reports'\n"
        "    event: expected s3:PutObject, recorded s3:CreateBucket\n"
        "    bucket: expected 'report', recorded 'reports'"
    )


def test_another_number_of_calls_is_shown_with_them(opentrail: Oracle, s3: Any) -> None:
    s3.put_object(Bucket="reports", Key="a.txt", Body=b"x")
    assert failure(opentrail.assert_called, "s3:PutObject", times=2) == (
        "expected s3:PutObject 2 times, but 1 was recorded:\n"
        "\n"
        "  s3:PutObject  bucketName='reports'  key='a.txt'"
    )
    assert failure(opentrail.assert_not_called, "s3:*", key=re.compile("a")) == (
        "expected no call of s3:* key=/a/, but 1 was recorded:\n"
        "\n"
        "  s3:PutObject  bucketName='reports'  key='a.txt'"
    )


def test_distant_matches_are_listed_without_explanation(opentrail: Oracle) -> None:
    assert "no call was recorded at all. Make clients after" in failure(
        opentrail.assert_called, "s3:PutObject"
    )
    boto3.client("sqs").create_queue(QueueName="jobs")
    said = failure(opentrail.assert_called, "kms:Decrypt")
    assert said.endswith("Recorded:\n\n  sqs:CreateQueue  queueName='jobs'")


def test_the_permission_instead_of_the_event_is_explained(opentrail: Oracle, s3: Any) -> None:
    s3.list_objects_v2(Bucket="reports")
    said = failure(opentrail.assert_called, "s3:ListBucket")
    assert "(s3:ListBucket is the permission for s3:ListObjects: name the event)" in said


def test_an_assertion_on_a_hidden_value_explains_it(opentrail: Oracle) -> None:
    boto3.client("secretsmanager").create_secret(Name="db", SecretString="hunter2")
    action = "secretsmanager:CreateSecret"
    reason = "opentrail does not record this member: no assertion on it can match"
    opentrail.assert_called(action, name="db")
    for assertion in (opentrail.assert_called, opentrail.assert_not_called):
        said = failure(assertion, action, secret_string="hunter2")
        assert f"secret_string: expected 'hunter2', but {reason}" in said
    opentrail.assert_not_called(action, name="other", secret_string="hunter2")


def test_the_condition_that_failed_is_named(opentrail: Oracle, s3: Any) -> None:
    s3.list_buckets()
    condition = {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition}
    said = failure(opentrail.assert_only_allowed, {"Statement": [allowed]})
    assert (
        "      statement number 1 would allow it, but its condition StringEquals "
        "aws:RequestedRegion 'eu-west-1' does not hold: the call has 'us-east-1'\n"
    ) in said


@pytest.mark.parametrize("times", [-1, True, "2"])
def test_a_number_of_calls_is_not_negative(opentrail: Oracle, times: Any) -> None:
    with pytest.raises(UsageError, match="times must be a number from 0"):
        opentrail.assert_called("s3:PutObject", times)


def test_a_call_outside_the_policy_fails(opentrail: Oracle, s3: Any) -> None:
    with opentrail.record() as calls:
        s3.put_object(Bucket="reports", Key="in/a", Body=b"")
        s3.copy_object(Bucket="reports", Key="out/a", CopySource="reports/in/a")
        s3.delete_objects(Bucket="reports", Delete={"Objects": [{"Key": "in/a"}]})
        boto3.client("sts").get_caller_identity()
    inside, outside = "arn:aws:s3:::reports/in/*", "arn:aws:s3:::reports/out/*"
    statements = [
        {"Effect": "Allow", "Action": "s3:*Object", "Resource": inside},
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": outside},
    ]
    calls.assert_only_allowed({"Version": "2012-10-17", "Statement": statements})
    said = failure(calls.assert_only_allowed, {"Statement": statements[:1]})
    assert said == (
        "the policy does not allow 1 of 5 recorded calls:\n"
        "\n"
        "  s3:CopyObject  bucketName='reports'  key='out/a'  x-amz-copy-source='reports/in/a'\n"
        "    s3:PutObject on arn:aws:s3:::reports/out/a: "
        "because no identity-based policy allows the s3:PutObject action\n"
        "\n"
        "This statement would allow what no statement allows:\n"
        "\n"
        "{\n"
        '  "Effect": "Allow",\n'
        '  "Action": "s3:PutObject",\n'
        '  "Resource": "arn:aws:s3:::reports/out/a"\n'
        "}"
    )


def test_the_calls_of_one_user_are_checked(opentrail: Oracle) -> None:
    iam = boto3.client("iam")
    iam.create_user(UserName="app")
    key = iam.create_access_key(UserName="app")["AccessKey"]
    app = boto3.client(
        "s3",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    app.list_buckets()
    listing = {
        "Statement": {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
    }
    opentrail.assert_only_allowed(listing, user="app")
    with opentrail.record() as none:
        pass
    assert failure(none.assert_only_allowed, listing) == (
        "no call was recorded, so the policy was not tested"
    )
    said = failure(opentrail.assert_only_allowed, listing)
    assert "does not allow 2 of 3 recorded calls" in said
    assert failure(opentrail.assert_only_allowed, listing, user="apt") == (
        "no call of user 'apt' was recorded; callers were: admin, app"
    )


def test_a_call_recorded_in_two_accounts_counts_once(
    opentrail: Oracle, opentrail_server: TestServer
) -> None:
    now = format_time(datetime.now(UTC))
    shared = {"eventTime": now, "sharedEventID": "3f0c6c7e-0000-4000-8000-000000000000"}
    records = [
        a_data_record(eventID="6a0c6c7e-0000-4000-8000-000000000001", **shared),
        a_data_record(
            eventID="6a0c6c7e-0000-4000-8000-000000000002",
            recipientAccountId="210987654321",
            **shared,
        ),
    ]
    lines = "\n".join(json.dumps(record) for record in records)
    opentrail_server.console.send("/api/v1/records", [lines.encode()], 10.0)
    opentrail.assert_called("s3:PutObject", times=1)


def test_other_programs_use_the_environment(opentrail: Oracle) -> None:
    script = "import boto3; boto3.client('iam').create_user(UserName='Mary')"
    subprocess.run([sys.executable, "-c", script], env=opentrail.environment, check=True)
    opentrail.assert_called("iam:CreateUser", user_name="Mary")
    assert opentrail.environment["AWS_ENDPOINT_URL"] == opentrail.endpoint
