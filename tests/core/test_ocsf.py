"""Events of the Open Cybersecurity Schema Framework, checked against its own schema."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from opentrail.core.ocsf import VERSION, ocsf_event
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_record,
    an_audit_record,
    an_insight_record,
    real_records,
)


@cache
def validator() -> Draft202012Validator:
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))
    schema = schemas.get_class_schema("api_activity", profiles=["cloud", "datetime"])
    return Draft202012Validator(schema)


def problems(record: dict[str, Any]) -> list[str]:
    return problems_of(ocsf_event(record))


def problems_of(event: dict[str, Any]) -> list[str]:
    """Returns the schema's objections to an event."""
    return [error.message for error in validator().iter_errors(event)]


@pytest.mark.parametrize("record", real_records(), ids=lambda one: str(one["eventName"]))
def test_every_real_record_becomes_a_valid_event(record: dict[str, Any]) -> None:
    assert problems(record) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"userIdentity": {"type": "Unknown"}},
        {"userIdentity": {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}},
        {"sourceIPAddress": "AWS Internal"},
        {"sourceIPAddress": "::1", "vpcEndpointId": "vpce-1"},
        {"requestParameters": None, "responseElements": None, "userAgent": None},
        {"requestID": None, "requestParameters": {"a": [1, None, {"b": True}]}},
        {"resources": [{"ARNPrefix": "arn:aws:s3:::a/"}, {"ARN": "arn:aws:s3:::a", "type": "t"}]},
        {"errorCode": "AccessDenied", "errorMessage": "no"},
        {"userIdentity": {"arn": "a", "sessionContext": {"attributes": {"creationDate": "soon"}}}},
        {"apiVersion": "2010-05-08", "eventCategory": "Data", "readOnly": True},
    ],
    ids=lambda one: " ".join(one),
)
def test_any_record_becomes_a_valid_event(changes: dict[str, Any]) -> None:
    assert problems(a_record(**changes)) == []


def test_an_event_has_actor_action_place_and_time() -> None:
    record = a_record()
    event = ocsf_event(record)
    assert event["type_uid"] == 600301
    assert event["time"] == int(MOMENT.timestamp() * 1000)
    assert event["api"]["operation"] == "CreateUser"
    assert event["api"]["service"] == {"name": "iam.amazonaws.com"}
    assert event["actor"]["user"]["uid"] == record["userIdentity"]["arn"]
    assert event["src_endpoint"] == {"ip": record["sourceIPAddress"]}
    assert event["cloud"] == {"provider": "AWS", "region": REGION, "account": {"uid": ACCOUNT}}
    assert event["metadata"]["uid"] == record["eventID"]
    assert event["status_id"] == 1
    assert event["unmapped"]["managementEvent"] is True


@pytest.mark.parametrize(
    ("changes", "activity"),
    [
        ({"eventName": "CreateUser"}, 1),
        ({"eventName": "RunInstances"}, 1),
        ({"eventName": "GetObject"}, 2),
        ({"eventName": "AssumeRole", "readOnly": True}, 2),
        ({"eventName": "UpdateUser"}, 3),
        ({"eventName": "StopLogging"}, 3),
        ({"eventName": "TerminateInstances"}, 4),
    ],
)
def test_activities_are_of_four_kinds(changes: dict[str, Any], activity: int) -> None:
    assert ocsf_event(a_record(**changes))["activity_id"] == activity


def test_a_failed_call_has_its_error() -> None:
    event = ocsf_event(a_record(errorCode="AccessDenied", errorMessage="no"))
    assert event["status_id"] == 2
    assert event["api"]["response"]["error"] == "AccessDenied"
    assert event["api"]["response"]["message"] == "no"


def test_insight_is_about_the_api_in_its_details() -> None:
    record = an_insight_record()
    details = record["insightDetails"]
    assert problems(record) == []
    api = ocsf_event(record)["api"]
    assert api["operation"] == details["eventName"]
    assert api["service"]["name"] == details["eventSource"]


def test_audit_event_is_valid_with_the_other_services_names() -> None:
    event = ocsf_event(an_audit_record())
    assert problems_of(event) == []
    assert event["api"]["operation"] == "CancelOrder"
    assert event["api"]["service"] == {"name": "orders.example.com"}
    assert event["actor"]["user"]["uid_alt"] == "mary@example.com"
    assert "eventData" not in event["unmapped"]
