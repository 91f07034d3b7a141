"""The head of a request decides like selectors on the finished record."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from botocore.model import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.choice import Choice
from opentrail.core.event_record import EventRecord
from opentrail.core.identity import Identity, unknown
from opentrail.core.selectors.advanced import OPERATORS
from opentrail.core.selectors.selection import LeftOut, Selection, predicate_of, read_recording
from opentrail.wire.message import Request
from opentrail.wire.sigv4 import read_credential
from tests.cases import case
from tests.factories import (
    ACCOUNT,
    a_json_request,
    a_query_request,
    a_request,
    an_exchange,
    an_identity,
    an_s3_request,
    an_sdk_request,
    catalog,
    router,
)

Json = dict[str, Any]
MANAGEMENT = {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}
BUCKETS, KEYS = ("backups", "photos", "b"), ("a", "backups/a", "é ü", "x/y.tar", "")
VALUES = {
    "eventSource": ("s3.amazonaws.com", "s3express.amazonaws.com", "s3"),
    "eventName": ("GetObject", "PutObject", "DeleteObject", "List", "HeadBucket", "Object"),
    "resources.ARN": ("arn:aws:s3:::backups/", "arn:aws:s3:::b", "/a", ".tar", "arn:aws:s3express"),
    "userIdentity.arn": ("arn:aws:iam::123456789012:user/John", "arn:aws:iam", "/Mary"),
}
TYPES = ("AWS::S3::Object", "AWS::S3::Bucket", "AWS::S3Express::Object")


def recording(*selectors: Json) -> Selection:
    return read_recording(list(selectors), "record")


def data(*fields: Json) -> Json:
    return {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}, *fields]}


def left_out(
    selection: Selection, request: Request, identity: Identity | None = None
) -> LeftOut | None:
    """Returns the decision on the head of a request, before its body arrives."""
    head = replace(request, body=b"", body_is_whole=not request.body)
    credential = read_credential(head)
    route = router().identify(head, credential)
    choice = Choice(selection, lambda _left_out: True)
    return choice.left_out(route, head, credential, lambda _key: identity or an_identity())


def matches(selection: Selection, request: Request) -> list[bool]:
    """Returns the selectors' decision on the records of a call."""
    made = Assembler(lambda _key: an_identity()).assemble(an_exchange(request))
    predicate = predicate_of(selection)
    return [
        predicate.matches(entry.category, EventRecord(entry.record).fields)
        for entry in (made.entry, *made.more)
    ]


def a_value(name: str, shape: Shape, bucket: str, key: str) -> Any:
    """Returns a value for a required member of a request."""
    if name in ("Bucket", "Key"):
        return bucket if name == "Bucket" else key or "k"
    if shape.type_name == "structure":
        names = shape.required_members
        return {n: a_value(n, shape.members[n], bucket, key) for n in names}
    if shape.type_name == "list":
        return [a_value("", shape.member, bucket, key)]
    simple = {"integer": 1, "long": 1, "boolean": True, "map": {}, "blob": b"x", "timestamp": 0}
    return simple.get(shape.type_name, "x")


fields = st.one_of(
    st.builds(
        lambda name, operator, index: {"Field": name, operator: [VALUES[name][index]]},
        st.sampled_from([name for name in VALUES if name != "resources.ARN"]),
        st.sampled_from(OPERATORS),
        st.integers(0, 2),
    ),
    st.builds(
        lambda text: {"Field": "readOnly", "Equals": [text]}, st.sampled_from(("true", "false"))
    ),
)
resources = st.builds(
    lambda kind, operator, value: [
        {"Field": "resources.type", "Equals": [kind]},
        *([{"Field": "resources.ARN", operator: [value]}] if operator else []),
    ],
    st.sampled_from(TYPES),
    st.sampled_from((None, *OPERATORS)),
    st.sampled_from(VALUES["resources.ARN"]),
)
selector = st.builds(
    lambda some, about: data(*{each["Field"]: each for each in some}.values(), *about),
    st.lists(fields, max_size=2),
    st.one_of(st.just([]), resources),
)


OPERATIONS = sorted(catalog().services["s3"].model.operation_names)


@cache
def calls(bucket: str, key: str, signer: str) -> list[tuple[str, Request]]:
    """Returns a call of each operation of S3."""
    made = []
    for operation in OPERATIONS:
        shape = catalog().services["s3"].model.operation_model(operation).input_shape
        parameters = a_value("", shape, bucket, key) if shape is not None else {}
        if shape is not None and "Prefix" in shape.members:
            parameters["Prefix"] = key
        of = an_sdk_request("s3", operation, parameters)
        request = a_request(signer, of.method, of.path, of.query, of.headers, of.body)
        made.append((operation, request))
    return made


@settings(max_examples=25)
@given(
    st.sampled_from(BUCKETS),
    st.sampled_from(KEYS),
    st.sampled_from(("s3", "s3express")),
    st.lists(selector, max_size=3),
)
def test_an_s3_calls_head_gives_the_records_decision(
    bucket: str, key: str, signer: str, selectors: list[Json]
) -> None:
    selection = recording(MANAGEMENT, *selectors)
    for operation, request in calls(bucket, key, signer):
        with case(operation):
            decided = left_out(selection, request)
            found = matches(selection, request)
            if operation == "DeleteObjects":  # its objects are in the body
                assert decided is None or not any(found)
            else:
                assert (decided is None) == found[0]


def test_deletion_is_recorded_if_an_object_may_match() -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    request = an_s3_request("POST", "/backups", "delete", body=body)
    others = data(
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        {"Field": "resources.ARN", "NotStartsWith": ["arn:aws:s3:::backups/"]},
    )
    deletions = data({"Field": "eventName", "Equals": ["DeleteObject"]})
    reads = data({"Field": "eventName", "Equals": ["GetObject"]})
    assert left_out(recording(MANAGEMENT, others), request) is None
    assert left_out(recording(MANAGEMENT, deletions), request) is None
    counted = LeftOut("s3.amazonaws.com", "DeleteObjects", "AWS::S3::Object")
    assert left_out(recording(MANAGEMENT, reads), request) == counted


def test_unknown_keys_possible_match_is_recorded() -> None:
    request = an_s3_request("GET", "/backups/a")
    agents = data({"Field": "userIdentity.arn", "Equals": ["arn:aws:iam::123456789012:user/agent"]})
    selection = recording(MANAGEMENT, agents)
    assert left_out(selection, request) is not None
    assert left_out(selection, request, unknown(ACCOUNT, "AKIA")) is None
    unsigned = an_s3_request("GET", "/backups/a", signed=False)
    assert left_out(selection, unsigned) is not None


def a_get_item() -> Request:
    return a_json_request("dynamodb", "DynamoDB_20120810.GetItem", {"TableName": "Music"})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (a_get_item(), LeftOut("dynamodb.amazonaws.com", "GetItem", "AWS::DynamoDB::Table")),
        (
            a_query_request("sns", "Publish", "2010-03-31", {"TopicArn": "arn:aws:sns:r:a:t"}),
            None,  # a form names its operation in the body
        ),
        (an_s3_request("POST", "/b", headers={"content-type": "multipart/form-data"}), None),
        (an_s3_request("PATCH", "/b/k"), None),
    ],
)
def test_calls_without_a_known_head_are_recorded(
    request_: Request, expected: LeftOut | None
) -> None:
    assert left_out(recording(MANAGEMENT), request_) == expected


def test_outside_s3_the_type_of_a_resource_decides() -> None:
    tables = data({"Field": "resources.type", "Equals": ["AWS::DynamoDB::Table"]})
    streams = data({"Field": "resources.type", "Equals": ["AWS::Kinesis::Stream"]})
    assert left_out(recording(MANAGEMENT, tables), a_get_item()) is None
    assert left_out(recording(MANAGEMENT, streams), a_get_item()) is not None


def test_only_management_selectors_exclude_management_events() -> None:
    request = a_json_request("kms", "TrentService.DescribeKey", {"KeyId": "k"})
    assert left_out(recording(MANAGEMENT), request) is None
    assert left_out(recording(data()), request) == LeftOut("kms.amazonaws.com", "DescribeKey", "")
    tagging = a_json_request("tagging", "ResourceGroupsTaggingAPI_20170126.GetResources", {})
    assert left_out(recording(data()), tagging) is None
