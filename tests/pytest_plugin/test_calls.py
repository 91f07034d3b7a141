"""Recorded calls, by convenient names."""

from __future__ import annotations

from opentrail.pytest_plugin.calls import RecordedCall, is_transport, short
from tests.factories import ABSENT, ACCOUNT, REGION, a_data_record, a_record


def test_a_call_has_its_records_members_by_name() -> None:
    call = RecordedCall(a_record(errorCode="AccessDenied", errorMessage="no"))
    assert (call.service, call.event_name, call.action) == ("iam", "CreateUser", "iam:CreateUser")
    assert call.event_source == "iam.amazonaws.com"
    assert (call.account, call.region) == (ACCOUNT, REGION)
    assert (call.user, call.user_arn) == ("John", f"arn:aws:iam::{ACCOUNT}:user/John")
    assert (call.error, call.error_message) == ("AccessDenied", "no")
    assert call.parameters["userName"] == "Mary"
    assert call.response["user"]["userName"] == "Mary"
    assert not call.is_read_only


def test_calls_service_is_the_prefix_of_iam_actions() -> None:
    record = a_record(eventSource="monitoring.amazonaws.com", eventName="PutMetricData")
    assert RecordedCall(record).action == "cloudwatch:PutMetricData"


def test_members_missing_from_a_record_are_empty() -> None:
    record = a_record(
        requestParameters=None, responseElements=None, userIdentity={"type": "Unknown"}
    )
    call = RecordedCall(record)
    assert (call.parameters, call.response) == ({}, {})
    assert (call.error, call.error_message, call.user, call.user_arn) == (None, None, None, None)
    assert RecordedCall(a_record(recipientAccountId=ABSENT)).account == ""


def test_call_is_shown_by_action_parameters_and_error() -> None:
    record = a_data_record(errorCode="NoSuchBucket")
    record["requestParameters"]["x-amz-checksum-crc32"] = "jNwWgw=="
    shown = "s3:PutObject  bucketName='my-bucket'  key='in/a.csv'  -> NoSuchBucket"
    assert str(RecordedCall(record)) == repr(RecordedCall(record)) == shown


def test_long_values_are_cut() -> None:
    assert short("x" * 100) == "'" + "x" * 58 + "…"
    assert short(5) == "5"


def test_members_about_the_sending_are_known() -> None:
    assert is_transport("Host")
    assert is_transport("x-amz-checksum-crc32")
    assert not is_transport("x-amz-acl")
    assert not is_transport("key")
