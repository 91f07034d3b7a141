"""The typed views of a record: of AWS's form, and with members of other types."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.event_record import EventFields, EventRecord, InsightFields
from tests.factories import (
    ABSENT,
    a_data_record,
    a_record,
    an_insight_record,
    real_records,
    record_bytes,
)

JOHN = "arn:aws:iam::123456789012:user/John"


def fields(record: dict[str, Any]) -> EventFields:
    return EventRecord(record_bytes(record)).fields


def test_a_complete_record_has_all_fields_of_selectors() -> None:
    record = a_data_record(
        readOnly=True,
        errorCode="AccessDenied",
        vpcEndpointId="vpce-1",
        sessionCredentialFromConsole="true",
    )
    assert fields(record) == EventFields(
        event_source="s3.amazonaws.com",
        event_name="PutObject",
        read_only=True,
        event_type="AwsApiCall",
        resources=(
            ("AWS::S3::Object", "arn:aws:s3:::my-bucket/in/a.csv"),
            ("AWS::S3::Bucket", "arn:aws:s3:::my-bucket"),
        ),
        user_arn="arn:aws:sts::123456789012:assumed-role/DataRole/etl",
        from_console=True,
        error_code="AccessDenied",
        vpc_endpoint_id="vpce-1",
    )


def test_missing_members_are_none_and_false() -> None:
    assert fields(a_record(readOnly=ABSENT)) == EventFields(
        "iam.amazonaws.com", "CreateUser", event_type="AwsApiCall", user_arn=JOHN
    )


#: Forms of real records, some with unusual types.
ODD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"readOnly": "true"}, {"read_only": True}),
    ({"readOnly": "false"}, {"read_only": False}),
    ({"readOnly": None}, {"read_only": False}),
    ({"readOnly": 1}, {"read_only": False}),
    ({"resources": None}, {"resources": ()}),
    ({"resources": "none"}, {"resources": ()}),
    ({"resources": [None, "x", {}]}, {"resources": ((None, None),) * 3}),
    ({"resources": [{"type": None, "ARN": 7}]}, {"resources": ((None, None),)}),
    (
        {"resources": [{"type": "AWS::S3::Object", "ARNPrefix": "arn:aws:s3:::b/"}]},
        {"resources": (("AWS::S3::Object", "arn:aws:s3:::b/"),)},
    ),
    (
        {"resources": [{"arn": "arn:aws:s3:::b/a", "type": 1, "accountId": 2}]},
        {"resources": ((None, "arn:aws:s3:::b/a"),)},
    ),
    (
        {"resources": [{"type": 1, "ARNPrefix": "arn:aws:s3:::b/"}]},
        {"resources": ((None, "arn:aws:s3:::b/"),)},
    ),
    ({"userIdentity": None}, {"user_arn": None}),
    ({"userIdentity": "root"}, {"user_arn": None}),
    ({"userIdentity": {"type": "AWSService", "invokedBy": "x"}}, {"user_arn": None}),
    ({"userIdentity": {"arn": JOHN, "sessionContext": "text"}}, {"user_arn": JOHN}),
    ({"userIdentity": {"arn": ["x"], "type": 1}}, {"user_arn": None}),
    ({"errorCode": 403}, {"error_code": None}),
    ({"sessionCredentialFromConsole": True}, {"from_console": True}),
    ({"sessionCredentialFromConsole": "false"}, {"from_console": False}),
    ({"sessionCredentialFromConsole": {}}, {"from_console": False}),
    ({"eventType": None, "vpcEndpointId": 5}, {"event_type": None, "vpc_endpoint_id": None}),
    ({"eventSource": ABSENT, "eventName": ABSENT}, {"event_source": "", "event_name": ""}),
    ({"eventSource": 5, "eventName": None}, {"event_source": "", "event_name": ""}),
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_odd_members_count_as_missing(number: int) -> None:
    changes, expected = ODD[number]
    assert fields(a_data_record(**changes)) == replace(fields(a_data_record()), **expected)


def test_a_lone_surrogate_elsewhere_does_no_harm() -> None:
    record = json.dumps({**a_data_record(), "userAgent": "\ud800"}).encode()
    event = EventRecord(record)
    assert event.fields == fields(a_data_record())
    assert event.document == {**a_data_record(), "userAgent": "\ud800"}


@pytest.mark.parametrize("number", range(len(real_records())))
def test_an_odd_member_spares_the_others(number: int) -> None:
    record = real_records()[number]
    odd = {**record, "vpcEndpointId": 7}
    assert fields(odd) == replace(fields(record), vpc_endpoint_id=None)
    assert EventRecord(record_bytes(record)).document == record


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
members = st.sampled_from(
    [
        *("eventSource", "eventName", "readOnly", "eventType", "resources", "userIdentity"),
        *("sessionCredentialFromConsole", "errorCode", "vpcEndpointId", "other"),
    ]
)


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(st.dictionaries(members, anything))
@pytest.mark.slow
def test_the_fields_of_any_record_can_be_read(record: dict[str, Any]) -> None:
    found = fields(record)
    assert found.event_source == (
        record["eventSource"] if isinstance(record.get("eventSource"), str) else ""
    )
    assert found.read_only is (record.get("readOnly") is True or record.get("readOnly") == "true")
    assert all(len(resource) == 2 for resource in found.resources)


def test_the_time_of_a_record_is_not_changed() -> None:
    whole = record_bytes(a_record(eventTime="2020-01-01T09:00:07Z"))
    assert EventRecord(whole).event_time == "2020-01-01T09:00:07Z"
    odd = json.dumps(a_record(userAgent="\ud800")).encode()
    assert EventRecord(odd).event_time == "2020-01-01T09:00:00Z"
    with pytest.raises(KeyError, match="eventTime"):
        _ = EventRecord(b"{}").event_time


def test_each_view_is_decoded_once() -> None:
    event = EventRecord(record_bytes(a_data_record()))
    assert event.document is event.document
    assert event.fields is event.fields
    assert event.event_time is event.event_time
    insight = EventRecord(record_bytes(an_insight_record()))
    assert insight.insight is insight.insight


def test_insights_event_has_the_fields_of_its_subject() -> None:
    record = an_insight_record(insightSource="arn", sourceEventCategory="Data")
    assert EventRecord(record_bytes(record)).insight == InsightFields(
        "iam.amazonaws.com", "ApiCallRateInsight", "Data", "arn"
    )
    odd = {**record, "insightDetails": {"eventSource": 5, "insightType": ["x"]}}
    for other in (odd, {**record, "insightDetails": "odd"}, a_record()):
        assert EventRecord(record_bytes(other)).insight == InsightFields()


def test_invalid_records_are_refused() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        _ = EventRecord(b"never read").fields
