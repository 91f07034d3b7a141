"""Event selectors for recorded calls that match nothing, and the description of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opentrail.capture.record.recordable import check_recordable, describe_left_out
from opentrail.capture.record_rules import rules
from opentrail.core.errors import UsageError
from opentrail.core.selectors.selection import Selection, read_recording


def selection(*selectors: dict[str, dict[str, list[str]]]) -> Selection:
    """Returns a selection; each selector has conditions by field."""
    document = [
        {"FieldSelectors": [{"Field": f, **conditions} for f, conditions in selector.items()]}
        for selector in selectors
    ]
    return read_recording(document, "record")


def equals(**fields: str) -> dict[str, dict[str, list[str]]]:
    names = {"category": "eventCategory", "name": "eventName", "source": "eventSource"}
    names |= {"type": "resources.type", "read": "readOnly"}
    return {names[field]: {"Equals": [value]} for field, value in fields.items()}


MATCHING: list[dict[str, Any]] = [
    equals(category="Management"),
    equals(category="Data"),
    equals(category="Data", type="AWS::S3::Object", name="ListObjects", read="true"),
    equals(category="Data", type="AWS::S3::Bucket", name="PutObject"),
    equals(category="Data", type="AWS::S3Express::Object", source="s3express.amazonaws.com"),
    equals(category="Data", type="AWS::S3Outposts::AccessPoint"),
    equals(category="Data", type="AWS::SNS::PlatformEndpoint"),
    equals(category="Data", name="DeleteObject"),
    equals(category="Management", source="iam.amazonaws.com", name="CreateUser"),
    equals(category="Management", source="lambda.amazonaws.com", name="CreateFunction20150331"),
    equals(category="Management", source="s3-outposts.amazonaws.com"),
    {**equals(category="Management"), "eventSource": {"StartsWith": ["kms."]}},
    {**equals(category="Data"), "eventName": {"NotStartsWith": ["Get"]}},
]


@pytest.mark.parametrize("selector", MATCHING, ids=json.dumps)
def test_selector_of_recorded_calls_is_accepted(selector: dict[str, Any]) -> None:
    check_recordable(selection(selector), "record")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (equals(category="Data", type="AWS::S3::Objects"), "did you mean AWS::S3::Object"),
        (equals(category="Data", name="ListObjectsV2"), "recorded as ListObjects"),
        (equals(category="Data", source="s3"), "did you mean s3"),
        (equals(category="Data", name="CreateUser"), "no call has eventName 'CreateUser'"),
        (equals(category="Data", name="PutObject", read="true"), "all of its conditions"),
        (equals(category="Data", source="sqs.amazonaws.com", name="PutObject"), "conditions"),
        (equals(category="Management", source="iam"), "did you mean iam.amazonaws.com"),
        (
            equals(category="Management", source="iam.amazonaws.com", name="CreateUsers"),
            "did you mean CreateUser",
        ),
        (
            {**equals(category="Data"), "eventName": {"NotEquals": ["ListObjectsV2"]}},
            "recorded as ListObjects",
        ),
        (
            {**equals(category="Data"), "eventName": {"StartsWith": ["get"]}},
            "no call has eventName 'get'",
        ),
    ],
    ids=str,
)
def test_selector_that_matches_nothing_is_refused(selector: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="record: selector 2") as refused:
        check_recordable(selection(equals(category="Management"), selector), "record")
    assert message in str(refused.value)


def test_every_type_of_data_event_can_be_selected() -> None:
    for operations_by_type in rules("kinds")["data"].values():
        for kind in operations_by_type:
            check_recordable(selection(equals(category="Data", type=kind)), "record")


def test_description_names_what_is_left_out() -> None:
    everything = (equals(category="Management"), equals(category="Data"))
    assert describe_left_out(selection(*everything)) == "nothing"
    reads = selection(
        equals(category="Management"),
        {**equals(category="Data"), "eventSource": {"NotEquals": ["sqs.amazonaws.com"]}},
    )
    assert describe_left_out(reads) == "data events of sqs"
    no_gets = selection(
        equals(category="Management"),
        {**equals(category="Data"), "eventName": {"NotEquals": ["Publish", "GetObject"]}},
    )
    text = describe_left_out(no_gets)
    assert "GetObject of s3;" in text
    assert "Publish of sns" in text
    assert describe_left_out(selection(equals(category="Data"))) == "all management events"
    by_bucket = selection(
        equals(category="Management"),
        {
            **equals(category="Data", type="AWS::S3::Object"),
            "resources.ARN": {"NotStartsWith": ["arn:aws:s3:::backups/"]},
        },
    )
    assert "calls by resources.ARN" in describe_left_out(by_bucket)
