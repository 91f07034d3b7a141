"""Which objects a DeleteObjects named, and a DeleteObject record of each."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.assemble import Assembled, Assembler
from opentrail.capture.deleted_objects import MOST_OBJECTS, UNTOLD, of_each_object, told_keys
from opentrail.core.identity import Identity
from opentrail.wire.message import Request
from tests.factories import (
    ACCOUNT,
    HOST,
    KEY,
    RECORD_ORDER,
    a_request,
    a_response,
    an_exchange,
    an_identity,
    an_s3_request,
    event_id,
)

IDS = {"x-amz-request-id": "A1B2C3D4E5F60718", "x-amz-id-2": "ZmFrZWlk"}
ANSWER = b"""<?xml version="1.0"?>
<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>
    <DeleteMarkerVersionId>v9</DeleteMarkerVersionId></Deleted>
  <Deleted><Key>b/c</Key><VersionId>v3</VersionId></Deleted>
  <Error><Key>kept</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>
</DeleteResult>"""


def resolve(_: str) -> Identity:
    return an_identity()


def asked(*objects: str | tuple[str, str], quiet: bool = False) -> Request:
    """Returns a DeleteObjects of keys, or of keys with versions."""
    named = "".join(
        f"<Object><Key>{one}</Key></Object>"
        if isinstance(one, str)
        else f"<Object><Key>{one[0]}</Key><VersionId>{one[1]}</VersionId></Object>"
        for one in objects
    )
    body = f"<Delete>{named}{'<Quiet>true</Quiet>' if quiet else ''}</Delete>"
    return an_s3_request("POST", "/b", "delete", {"host": HOST}, body.encode())


def made(request: Request, answer: bytes = b"", status: int = 200) -> Assembled:
    return Assembler(resolve).assemble(an_exchange(request, a_response(answer, status, IDS)))


def records(request: Request, answer: bytes = b"", status: int = 200) -> list[dict[str, Any]]:
    """Returns the records of the objects as they are in the journal."""
    return [json.loads(entry.record) for entry in made(request, answer, status).more]


def own(record: dict[str, Any]) -> dict[str, Any]:
    """Returns our own block of a record."""
    told: dict[str, Any] = record["additionalEventData"]["opentrail"]
    return told


def test_each_object_has_a_record_as_if_it_was_deleted_by_itself() -> None:
    request = asked("a", ("b/c", "v3"), "kept")
    first, second, third = records(request, ANSWER)
    assert first == {
        "eventVersion": "1.11",
        "userIdentity": first["userIdentity"],
        "eventTime": "2020-01-01T09:00:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "DeleteObject",
        "awsRegion": "us-east-1",
        "sourceIPAddress": first["sourceIPAddress"],
        "userAgent": first["userAgent"],
        "requestParameters": {"bucketName": "b", "Host": HOST, "key": "a"},
        "responseElements": {"x-amz-delete-marker": "true", "x-amz-version-id": "v9"},
        "additionalEventData": {
            "SignatureVersion": "SigV4",
            "bytesTransferredIn": 0.0,
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": "ZmFrZWlk",
            "bytesTransferredOut": 0.0,
            "opentrail": {"partOf": event_id(1)},
        },
        "requestID": "A1B2C3D4E5F60718",
        "eventID": first["eventID"],
        "readOnly": False,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::b/a"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data",
    }
    assert second["requestParameters"]["versionId"] == "v3"
    assert second["responseElements"] == {"x-amz-version-id": "v3"}
    assert (third["errorCode"], third["errorMessage"]) == ("AccessDenied", "Access Denied")
    assert third["responseElements"] is None


def test_the_records_follow_that_of_the_call_and_belong_to_it() -> None:
    call = made(asked("a", ("b/c", "v3"), "kept"), ANSWER)
    whole = json.loads(call.entry.record)
    assert whole["eventName"] == "DeleteObjects"
    assert "key" not in whole["requestParameters"]
    parts = [json.loads(entry.record) for entry in call.more]
    assert len({whole["eventID"], *(part["eventID"] for part in parts)}) == 4
    for entry, part in zip(call.more, parts, strict=True):
        assert own(part)["partOf"] == whole["eventID"]
        assert part["requestID"] == whole["requestID"]
        assert part["userIdentity"] == whole["userIdentity"]
        assert (entry.event_id, entry.category) == (part["eventID"], "Data")
        assert (entry.account, entry.region) == (call.entry.account, call.entry.region)
        assert [name for name in RECORD_ORDER if name in part] == list(part)


@pytest.mark.parametrize("status", [403, 500])
def test_a_call_that_failed_as_a_whole_deleted_nothing(status: int) -> None:
    error = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    assert records(asked("a"), error, status) == []


def test_a_call_without_an_answer_tells_its_keys_and_no_more() -> None:
    exchange = an_exchange(asked("a"), answered=False, failure="the upstream did not answer")
    call = Assembler(resolve).assemble(exchange)
    assert call.more == ()
    assert own(json.loads(call.entry.record))["deletedKeys"] == ["a"]


def test_a_quiet_answer_tells_of_errors_only() -> None:
    answer = b"""<DeleteResult><Error><Key>kept</Key><VersionId>v1</VersionId>
      <Code>InternalError</Code></Error></DeleteResult>"""
    gone, kept = records(asked("gone", ("kept", "v1"), quiet=True), answer)
    assert "errorCode" not in gone
    assert "outcome" not in own(gone)
    assert kept["errorCode"] == "InternalError"
    assert "errorMessage" not in kept


@pytest.mark.parametrize("answer", [b"", b"<DeleteResult/>", b"<DeleteRes", ANSWER])
def test_it_is_said_if_an_answer_does_not_tell_what_became_of_an_object(answer: bytes) -> None:
    (record,) = records(asked("x"), answer)
    assert own(record)["outcome"] == UNTOLD
    assert record["responseElements"] is None


def test_the_same_key_is_told_apart_by_version() -> None:
    answer = b"""<DeleteResult><Deleted><Key>a</Key><VersionId>1</VersionId></Deleted>
      <Error><Key>a</Key><VersionId>2</VersionId><Code>AccessDenied</Code></Error></DeleteResult>"""
    first, second = records(asked(("a", "1"), ("a", "2")), answer)
    assert "errorCode" not in first
    assert second["errorCode"] == "AccessDenied"


def test_a_store_may_leave_the_version_out_of_its_answer() -> None:
    """As moto does of objects under a lock."""
    answer = b"""<DeleteResult><Deleted><Key>a</Key><VersionId>1</VersionId></Deleted>
      <Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"""
    first, second = records(asked(("a", "1"), ("a", "2")), answer)
    assert "errorCode" not in first
    assert second["errorCode"] == "AccessDenied"
    assert "outcome" not in own(second)


def test_an_error_of_an_object_does_not_repeat_the_signature() -> None:
    request = asked("a")
    signature = request.headers["authorization"].rpartition("=")[2]
    answer = f"""<DeleteResult><Error><Key>a</Key><Code>SignatureDoesNotMatch</Code>
      <Message>not {signature}</Message></Error></DeleteResult>"""
    (record,) = records(request, answer.encode())
    assert signature not in json.dumps(record)
    assert record["errorMessage"].startswith("not ")


def test_objects_of_s3_express_have_its_arns() -> None:
    bucket = "b--use1-az4--x-s3"
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    request = a_request("s3express", "POST", f"/{bucket}", "delete", {}, body, key=KEY)
    (record,) = records(request, b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>")
    arn = f"arn:aws:s3express:us-east-1:{ACCOUNT}:bucket/{bucket}"
    assert [one["ARN"] for one in record["resources"]] == [f"{arn}/a", arn]
    assert record["eventSource"] == "s3express.amazonaws.com"


def test_a_body_that_is_not_xml_is_noted_once() -> None:
    request = an_s3_request("POST", "/b", "delete", {}, b"<Delete><Object>")
    call = made(request, ANSWER)
    assert call.more == ()
    assert not call.decoded


def test_another_call_has_no_such_records() -> None:
    exchange = an_exchange(an_s3_request("DELETE", "/b/a"))
    assert told_keys(exchange) == {}
    assert of_each_object({"requestParameters": {"bucketName": "b"}}, exchange, None) == []


def test_so_many_objects_have_records_as_s3_takes_in_a_call() -> None:
    call = made(asked(*(f"k{n}" for n in range(MOST_OBJECTS + 7))), b"<DeleteResult/>")
    keys = [json.loads(entry.record)["requestParameters"]["key"] for entry in call.more]
    assert keys == [f"k{n}" for n in range(MOST_OBJECTS)]
    assert own(json.loads(call.entry.record))["deletedKeysWithoutRecord"] == 7


# The call's own record


def test_keys_are_told_in_our_own_block() -> None:
    request = asked("a", ("b/c", "3"), quiet=True)
    assert told_keys(an_exchange(request)) == {"deletedKeys": ["a", "b/c"]}


def test_keys_are_told_as_far_as_there_is_room() -> None:
    request = asked(*(f"contracts/{n:06}.pdf" for n in range(1_000)))
    extra = json.loads(made(request).entry.record)["additionalEventData"]
    told = extra["opentrail"]["deletedKeys"]
    assert told[0] == "contracts/000000.pdf"
    assert len(told) + extra["opentrail"]["deletedKeysLeftOut"] == 1_000
    assert "AuthenticationMethod" in extra


# Whatever comes


@pytest.mark.hypothesis
@given(answer=st.binary(max_size=200) | st.sampled_from([ANSWER[:n] for n in range(0, 400, 7)]))
def test_whatever_the_answer_is_each_object_has_a_record(answer: bytes) -> None:
    found = records(asked("a", ("b/c", "v3"), "kept"), answer)
    assert [record["requestParameters"]["key"] for record in found] == ["a", "b/c", "kept"]
