"""The checks of each event that a channel receives, and the records of valid events."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.api.cloudtrail.audit_events import read_audit_event, record_of_audit_event
from opentrail.core.channel import Channel, IngestionStatus
from opentrail.core.errors import AuditEventRefused
from tests.factories import ACCOUNT, MOMENT, REGION

CHANNEL = Channel("c", "orders", ACCOUNT, REGION, "Custom", ("a-store",))
#: Member → its maximum: characters of a string, bytes of an object.
LIMITS = {
    ("version",): 256,
    ("userIdentity", "type"): 128,
    ("userIdentity", "principalId"): 1_024,
    ("userAgent",): 1_024,
    ("eventSource",): 1_024,
    ("eventName",): 1_024,
    ("UID",): 1_024,
    ("errorCode",): 256,
    ("errorMessage",): 256,
}
OBJECTS = {
    "requestParameters": 100 * 1_024,
    "responseElements": 100 * 1_024,
    "additionalEventData": 28 * 1_024,
}
REQUIRED = ("version", "userIdentity", "eventSource", "eventName", "eventTime", "UID")


def an_event(**changes: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "userIdentity": {"type": "Customer", "principalId": "mary", "details": {"tier": "gold"}},
        "userAgent": "shop/2",
        "eventSource": "orders.example.com",
        "eventName": "CancelOrder",
        "eventTime": "2020-01-01T08:59:00Z",
        "UID": "order-7",
        "requestParameters": {"orderId": "7"},
        "responseElements": None,
        "sourceIPAddress": "2001:db8::7",
        "recipientAccountId": ACCOUNT,
        "additionalEventData": {},
        **changes,
    }


def refusal(event: Any, checksum: str | None = None) -> str | None:
    """Returns the code with which an event is refused; None if it is recorded."""
    text = event if isinstance(event, str) else json.dumps(event)
    try:
        data = read_audit_event(text, checksum, ACCOUNT, MOMENT)
        record_of_audit_event(data, CHANNEL, "an-id", MOMENT)
    except AuditEventRefused as error:
        return error.code
    return None


def without(name: str) -> dict[str, Any]:
    event = an_event()
    del event[name]
    return event


def of_length(path: tuple[str, ...], length: int) -> dict[str, Any]:
    event = an_event()
    owner = event[path[0]] if len(path) > 1 else event
    owner[path[-1]] = ("x" if path[-1] == "eventSource" else "é") * length
    return event


@pytest.mark.parametrize(("path", "limit"), LIMITS.items())
def test_strings_have_maximum_lengths(path: tuple[str, ...], limit: int) -> None:
    assert refusal(of_length(path, limit)) is None
    assert refusal(of_length(path, limit + 1)) == "FieldTooLong"


@pytest.mark.parametrize(("name", "limit"), OBJECTS.items())
def test_objects_have_maximum_sizes(name: str, limit: int) -> None:
    rest = len('{"a":""}')
    assert refusal(an_event(**{name: {"a": "x" * (limit - rest)}})) is None
    assert refusal(an_event(**{name: {"a": "x" * (limit - rest + 1)}})) == "FieldTooLong"


def test_event_has_a_maximum_size() -> None:
    assert refusal(an_event(more="x" * 250 * 1_024)) is None
    assert refusal(an_event(more="x" * 256 * 1_024)) == "FieldTooLong"


@pytest.mark.parametrize("name", [*REQUIRED, "recipientAccountId"])
def test_required_members_cannot_be_missing(name: str) -> None:
    for event in (without(name), an_event(**{name: None})):
        assert refusal(event) == "FieldNotFound"


@pytest.mark.parametrize("name", ["type", "principalId"])
def test_identities_have_type_and_principal(name: str) -> None:
    event = an_event()
    event["userIdentity"][name] = ""
    assert refusal(event) == "FieldNotFound"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"eventTime": "yesterday"}, "InvalidData"),
        ({"eventTime": "2020-02-30T00:00:00Z"}, "InvalidData"),
        ({"eventTime": "2020-01-01"}, "InvalidData"),
        ({"eventTime": "0001-01-01T00:00:00+14:00"}, "InvalidData"),
        ({"sourceIPAddress": "300.0.0.1"}, "InvalidData"),
        ({"sourceIPAddress": 7}, "InvalidData"),
        ({"userIdentity": "mary"}, "InvalidData"),
        ({"userIdentity": {"type": "a", "principalId": "b", "details": "c"}}, "InvalidData"),
        ({"requestParameters": ["orderId"]}, "InvalidData"),
        ({"eventName": 7}, "InvalidData"),
        ({"recipientAccountId": "210987654321"}, "InvalidRecipient"),
        ({"eventSource": "s3.amazonaws.com"}, "InvalidEventSource"),
        ({"eventSource": "S3.AmazonAWS.com"}, "InvalidEventSource"),
        ({"eventTime": "9999-12-31T23:59:59Z"}, "InvalidData"),
        ({"eventTime": "2020-01-02T09:00:01Z"}, "InvalidData"),
        ({"eventTime": "1969-12-31T23:59:59Z"}, "InvalidData"),
    ],
)
def test_invalid_members_are_refused(changes: dict[str, Any], code: str) -> None:
    assert refusal(an_event(**changes)) == code


#: A source of AWS, and what may stand for, before or after a part of it.
_LOOK_ALIKES = (
    *("iam.amazonaws.com.", "iam.amazonaws.com ", " iam.amazonaws.com", "iam.amazonaws.com\n"),
    *("iam.amazonaws.com\u200b", "iam\uff0eamazonaws\uff0ecom", "i\u0430m.amazonaws.com"),
    *(
        "iam.\u0430mazonaws.com",
        "iam\u2024amazonaws.com",
        "iam.amazonaws.com\u202e",
        "IAM.AMAZONAWS.COM",
    ),
    *("iam.amazonaws.com.cn", "iam.amazonaws.com/", "recorder.opentrail.internal", "\x00"),
    *("unknown.opentrail.internal.", "orders.example.com\n", "orders.example.com\u00a0", " "),
)


@pytest.mark.parametrize("source", _LOOK_ALIKES, ids=ascii)
def test_look_alikes_of_other_sources_are_refused(source: str) -> None:
    assert refusal(an_event(eventSource=source)) == "InvalidEventSource"


@pytest.mark.parametrize("source", ["orders.example.com", "My shop", "a", "https://shop/orders"])
def test_any_other_plain_source_is_recorded(source: str) -> None:
    assert refusal(an_event(eventSource=source)) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '"a"', "null", '{"version": "\\ud800"}', "\ud800", "NaN"],
)
def test_only_json_objects_are_events(text: str) -> None:
    assert refusal(text) == "InvalidData"


def test_deep_nesting_is_refused() -> None:
    for depth in (300, 900, 5_000):
        nested = '{"a":' * depth + "1" + "}" * depth
        text = json.dumps(an_event(requestParameters="NESTED")).replace('"NESTED"', nested)
        assert refusal(text) == "InvalidData"
        text = json.dumps(an_event(more="NESTED")).replace('"NESTED"', nested)
        assert refusal(text) == "InvalidData"


def test_checksum_covers_the_text() -> None:
    text = json.dumps(an_event())
    checksum = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert refusal(text, checksum) is None
    assert refusal(text + " ", checksum) == "InvalidChecksum"
    assert refusal("{", checksum) == "InvalidChecksum"
    assert refusal(text, "") == "InvalidChecksum"


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ("2020-01-01T08:59:00", "2020-01-01T08:59:00Z"),
        ("2020-01-01T08:59:00.987Z", "2020-01-01T08:59:00Z"),
        ("2020-01-01T08:59:00+02:00", "2020-01-01T06:59:00Z"),
    ],
)
def test_records_have_times_in_utc(given_time: str, expected: str) -> None:
    data = read_audit_event(json.dumps(an_event(eventTime=given_time)), None, ACCOUNT, MOMENT)
    record = json.loads(record_of_audit_event(data, CHANNEL, "an-id", MOMENT))
    assert record["eventTime"] == expected
    assert record["eventData"]["eventTime"] == given_time


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_CODES = {
    *("FieldNotFound", "FieldTooLong", "InvalidData", "InvalidRecipient", "InvalidEventSource"),
}


@pytest.mark.hypothesis
@given(st.dictionaries(st.sampled_from([*an_event(), "more"]), _VALUES, max_size=4), st.data())
def test_any_event_is_recorded_or_refused_with_a_code(
    changes: dict[str, Any], data: st.DataObject
) -> None:
    event = an_event(**changes)
    for name in data.draw(st.sets(st.sampled_from([*event]), max_size=2)):
        del event[name]
    code = refusal(event)
    assert code is None or code in _CODES
    missing = [name for name in REQUIRED if event.get(name) in (None, "")]
    if missing:
        assert code is not None
    if event.get("recipientAccountId") != ACCOUNT:
        assert code is not None
    if not changes and len(event) == len(an_event()):
        assert code is None
    if code is None:
        read = read_audit_event(json.dumps(event), None, ACCOUNT, MOMENT)
        record = json.loads(record_of_audit_event(read, CHANNEL, "an-id", MOMENT))
        assert set(record["eventData"]) == set(event)
        assert record["eventData"]["eventName"] == event["eventName"]


@given(st.text(max_size=200))
def test_any_text_is_refused_or_an_event(text: str) -> None:
    assert refusal(text) in (*_CODES, None)


def test_status_has_the_latest_success_and_failure() -> None:
    first = IngestionStatus("1", "a", "1", "a", None)
    failed = IngestionStatus("2", "b", error_code="InvalidData")
    assert failed.after(None) == failed
    assert failed.after(first) == IngestionStatus("2", "b", "1", "a", "InvalidData")
    assert first.after(failed) == IngestionStatus("1", "a", "1", "a", "InvalidData")
