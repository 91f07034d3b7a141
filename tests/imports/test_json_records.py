"""The checks of one record."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import attributes_of
from opentrail.imports import json_records
from opentrail.imports.json_records import (
    AcceptedRecord,
    InvalidText,
    RejectedRecord,
    accept,
    decode,
    limit_detail,
)
from tests.factories import ABSENT, a_record, an_audit_record, record_bytes

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["items", "arn", "ARN", "type", "x", "eventName"]), inner)
    ),
    max_leaves=12,
)
MEMBERS = (
    "userIdentity",
    "eventCategory",
    "insightDetails",
    "requestParameters",
    "responseElements",
    "resources",
    "readOnly",
    "managementEvent",
    "recipientAccountId",
    "awsRegion",
    "sourceIPAddress",
    "errorCode",
)


def refused(raw: bytes) -> InvalidText:
    with pytest.raises(InvalidText) as refusal:
        decode(raw)
    return refusal.value


def checked(**changes: Any) -> AcceptedRecord | RejectedRecord:
    record = a_record(**changes)
    try:
        return accept(record_bytes(record), record, 7)
    except InvalidText as unfit:
        return unfit.at(7)


# JSON


@given(JSON, st.sampled_from([None, 0, 1]), st.booleans())
@pytest.mark.slow
def test_json_of_any_form_is_decoded(value: Any, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert decode(raw) == orjson.loads(raw)
    assert orjson.dumps(decode(raw))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", json_records.NOT_JSON),
        (b"{", json_records.NOT_JSON),
        (b"[1,]", json_records.NOT_JSON),
        (b"[1] [2]", json_records.NOT_JSON),
        (b'{"a":NaN}', json_records.NOT_JSON),
        (b"[Infinity]", json_records.NOT_JSON),
        (b'["\x01"]', json_records.NOT_JSON),
        (b"[01]", json_records.NOT_JSON),
        (b'["\xff"]', json_records.NOT_UTF8),
        (b'["\xed\xa0\x80"]', json_records.NOT_UTF8),
        (b'["\\ud800"]', json_records.LONE_SURROGATE),
        (b'["\\udc00x"]', json_records.LONE_SURROGATE),
        (b'["\\ud800\\u0041"]', json_records.LONE_SURROGATE),
        (b"[1" + b"0" * 400 + b"]", json_records.NUMBER_TOO_LARGE),
        (b"[" + b"9" * 100_000 + b"]", json_records.NUMBER_TOO_LARGE),
        (b"[1e999]", json_records.NUMBER_TOO_LARGE),
        (b"[" * 300 + b"]" * 300, json_records.TOO_DEEP),
        (b"[" * 100_000, json_records.TOO_DEEP),
        (b'{"a":1,"a":1}', json_records.DUPLICATE_MEMBER),
        (b'{"a":1,"\\u0061":1}', json_records.DUPLICATE_MEMBER),
        (b'{"a\\u0022":1,"a\\"":1}', json_records.DUPLICATE_MEMBER),
        (b'[{"x":[{"a":{},"b":[],"a":{}}]}]', json_records.DUPLICATE_MEMBER),
        (b'{"a":"\\u0022","a":""}', json_records.DUPLICATE_MEMBER),
        (b'{"a":"\\u0022\\u0022", "a":"\\u0022\\u0022"}', json_records.DUPLICATE_MEMBER),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_invalid_json_is_rejected_with_a_reason(raw: bytes, reason: str) -> None:
    refusal = refused(raw)
    assert refusal.reason == reason
    assert len(refusal.detail) < 120


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": "\\u0022", "b": "\\""}',
        b'{"a\\u0022": 1, "a": 1}',
        b'[{"a": 1}, {"a": 1}]',
        b'{"a": {"a": {"a": 1}}}',
        b"[12345678901234567890123456789012345678901234567890]",
        b"[" * 254 + b"]" * 254,
    ],
)
def test_unusual_valid_json_is_decoded(raw: bytes) -> None:
    assert decode(raw) == orjson.loads(raw)


def test_the_detail_names_the_duplicate_member() -> None:
    assert refused(b'{"a":{"userName":1, "userName":2}}').detail == "userName"


# Records


def test_a_complete_record_is_accepted() -> None:
    record = a_record()
    assert checked() == AcceptedRecord(7, record_bytes(record), record)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("eventID", json_records.NO_ID),
        ("eventTime", json_records.NO_TIME),
        ("eventName", json_records.NO_NAME),
        ("eventSource", json_records.NO_SOURCE),
    ],
)
@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (ABSENT, ""),
        (None, ""),
        ("", 'it is ""'),
        (5, "it is 5"),
        ({}, "it is {}"),
        (True, "it is true"),
    ],
)
def test_a_member_that_every_record_needs_is_named(
    member: str, reason: str, value: Any, detail: str
) -> None:
    assert checked(**{member: value}) == RejectedRecord(7, reason, detail)


@pytest.mark.parametrize(
    "time",
    [
        "now",
        "2020-13-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+10:00",
        "9999-12-31T23:59:59-10:00",
        "10000-01-01T00:00:00Z",
        "1577869200",
        "\x1b[31m",
    ],
)
def test_an_invalid_time_is_rejected(time: str) -> None:
    assert checked(eventTime=time) == RejectedRecord(7, json_records.BAD_TIME, limit_detail(time))


@pytest.mark.parametrize(
    "time", ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2020-01-01T10:00:00.123+01:00"]
)
def test_times_of_iso_8601_are_accepted(time: str) -> None:
    assert isinstance(checked(eventTime=time), AcceptedRecord)


def test_audit_event_has_its_names_in_event_data() -> None:
    record = an_audit_record()
    assert isinstance(accept(b"", record, 1), AcceptedRecord)
    data = {**record["eventData"], "eventName": None}
    with pytest.raises(InvalidText):
        accept(b"", {**record, "eventData": data}, 1)


def an_insight(**details: Any) -> dict[str, Any]:
    return {
        "eventCategory": "Insight",
        "eventName": ABSENT,
        "eventSource": ABSENT,
        "insightDetails": {"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com"}
        | details,
    }


def test_insights_event_has_its_names_in_the_details() -> None:
    assert isinstance(checked(**an_insight()), AcceptedRecord)
    assert checked(**an_insight(eventName=None)) == RejectedRecord(7, json_records.NO_NAME)
    assert checked(**an_insight(eventSource={})) == RejectedRecord(7, json_records.NO_SOURCE)


@pytest.mark.slow
@pytest.mark.hypothesis
@given(st.dictionaries(st.sampled_from(MEMBERS), JSON), st.booleans())
def test_an_accepted_record_has_columns_for_the_search(
    changes: dict[str, Any], nameless: bool
) -> None:
    record = a_record(**changes)
    if nameless:
        del record["eventName"], record["eventSource"]
    try:
        found = accept(record_bytes(record), record, 1)
    except InvalidText:
        return
    attributes = attributes_of(found.record)
    assert attributes.event_id == record["eventID"]
    assert attributes.event_name


def test_the_deepest_record_also_has_columns() -> None:
    items: Any = {"instanceId": "i-1"}
    for _ in range(240):
        items = {"items": items}
    found = checked(requestParameters={"set": items}, eventSource="ec2.amazonaws.com")
    assert isinstance(found, AcceptedRecord)
    decode(found.raw)
    assert attributes_of(found.record).event_name == "CreateUser"


@given(st.text(max_size=400))
def test_details_are_short_and_steer_nothing(text: str) -> None:
    assert limit_detail(text).isprintable()
    assert len(limit_detail(text)) <= 10 * 200
