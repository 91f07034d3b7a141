"""The objects in a DeleteObjects, and a DeleteObject record of each."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.record.assemble import UNVERIFIED, Assembled, Assembler
from opentrail.capture.record.exchange import Failure
from opentrail.capture.record.s3_form import NO_RESULT, deletion_in
from opentrail.capture.record_limits import MAX_DELETED_BYTES, MAX_DELETED_OBJECTS
from opentrail.core.identity import Identity, unknown
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
    """Returns the records of the objects in their journal form."""
    return [json.loads(entry.record) for entry in made(request, answer, status).more]


def own(record: dict[str, Any]) -> dict[str, Any]:
    """Returns our own block of a record."""
    notes: dict[str, Any] = record["additionalEventData"]["opentrail"]
    return notes


def test_each_object_has_a_full_record() -> None:
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


def test_object_records_follow_and_share_the_calls_record() -> None:
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
def test_a_failed_call_deleted_nothing(status: int) -> None:
    error = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    assert records(asked("a"), error, status) == []


def test_call_without_an_answer_records_only_its_keys() -> None:
    exchange = an_exchange(asked("a"), answered=False, failure=Failure("BadGateway", "no"))
    call = Assembler(resolve).assemble(exchange)
    assert call.more == ()
    assert own(json.loads(call.entry.record))["deletedKeys"] == ["a"]


def test_a_quiet_answer_records_only_errors() -> None:
    answer = b"""<DeleteResult><Error><Key>kept</Key><VersionId>v1</VersionId>
      <Code>InternalError</Code></Error></DeleteResult>"""
    gone, kept = records(asked("gone", ("kept", "v1"), quiet=True), answer)
    assert "errorCode" not in gone
    assert "outcome" not in own(gone)
    assert kept["errorCode"] == "InternalError"
    assert "errorMessage" not in kept


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize(
    "answer", [b"", b"<DeleteRes", b"<html><body>Service down</body></html>", b"{}"]
)
def test_a_wrong_answer_to_a_deletion_is_noted(answer: bytes, quiet: bool) -> None:
    (record,) = records(asked("x", quiet=quiet), answer)
    assert own(record)["outcome"] == NO_RESULT
    assert record["responseElements"] is None


@pytest.mark.parametrize("status", [200, 307])
@pytest.mark.parametrize("head", [b"", b'<?xml version="1.0"?>\n '])
def test_error_instead_of_the_answer_is_the_calls(status: int, head: bytes) -> None:
    error = b'<Error xmlns="x"><Code>InternalError</Code><Message>again</Message></Error>'
    call = made(asked("x", quiet=True), head + error, status)
    assert call.record["errorCode"] == "InternalError"
    assert call.more == ()


def test_a_redirect_deleted_nothing() -> None:
    assert records(asked("x", quiet=True), b"<html/>", 302) == []


#: Objects to delete, the answer, and the recorded result of each.
MATCHES: dict[str, tuple[list[str | tuple[str, str]], str, bool, list[str]]] = {
    "distinguished by version": (
        [("a", "1"), ("a", "2")],
        "D:a:1 E:a:2",
        False,
        ["deleted", "error"],
    ),
    "no result": (["a"], "", False, ["untold"]),
    "the result of another": (["a"], "D:b", False, ["untold"]),
    "quiet": (["a", ("a", "2")], "", True, ["deleted", "deleted"]),
    "quiet, one error": (["a", "b"], "E:a", True, ["error", "deleted"]),
    "quiet, the plain one failed": (["a", ("a", "2")], "E:a", True, ["error", "deleted"]),
    # Some stores leave the version out, like moto for locked objects.
    "the other one has no version": (
        [("a", "1"), ("a", "2")],
        "D:a:1 E:a",
        False,
        ["deleted", "error"],
    ),
    "all alike without versions": ([("a", "1"), ("a", "2")], "E:a E:a", False, ["error", "error"]),
    "one of two without versions": ([("a", "1"), ("a", "2")], "E:a", True, ["untold", "untold"]),
    "both kinds without versions": (
        [("a", "1"), ("a", "2")],
        "D:a E:a",
        False,
        ["untold", "untold"],
    ),
    "plain and version, both kinds": (["a", ("a", "2")], "D:a E:a", False, ["untold", "untold"]),
    "a result of the plain one only": (["a", ("a", "2")], "D:a", False, ["deleted", "untold"]),
    "both kinds of one version": ([("a", "1")], "D:a:1 E:a:1", False, ["untold"]),
}


def element(result: str) -> str:
    """Returns the element of an answer for `D:KEY:VERSION` or `E:KEY:VERSION`."""
    kind, key, *version = result.split(":")
    versions = "".join(f"<VersionId>{one}</VersionId>" for one in version)
    if kind == "D":
        return f"<Deleted><Key>{key}</Key>{versions}</Deleted>"
    return f"<Error><Key>{key}</Key>{versions}<Code>AccessDenied</Code></Error>"


@pytest.mark.parametrize("name", MATCHES)
def test_each_result_is_recorded_for_its_object(name: str) -> None:
    objects, results, quiet, expected = MATCHES[name]
    answer = f"<DeleteResult>{''.join(map(element, results.split()))}</DeleteResult>"
    found = records(asked(*objects, quiet=quiet), answer.encode())
    known = []
    for record in found:
        untold = "untold" if "outcome" in own(record) else "deleted"
        known.append("error" if "errorCode" in record else untold)
        assert not ("errorCode" in record and record["responseElements"])
    assert known == expected


def test_a_delete_marker_is_recorded_for_its_object() -> None:
    answer = b"""<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>
      <DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted></DeleteResult>"""
    first, second = records(asked("a", ("a", "v2")), answer)
    assert first["responseElements"] == {"x-amz-delete-marker": "true", "x-amz-version-id": "m"}
    assert second["responseElements"] is None


def test_an_objects_error_does_not_repeat_the_signature() -> None:
    request = asked("a")
    signature = request.headers["authorization"].rpartition("=")[2]
    answer = f"""<DeleteResult><Error><Key>a</Key><Code>SignatureDoesNotMatch</Code>
      <Message>not {signature}</Message></Error></DeleteResult>"""
    (record,) = records(request, answer.encode())
    assert signature not in json.dumps(record)
    assert record["errorMessage"].startswith("not ")


def test_answers_do_not_repeat_unrecorded_values() -> None:
    token, code = "T" * 40, "938271"
    headers = {"x-amz-security-token": token, "x-amz-mfa": f"arn:aws:iam::1:mfa/x {code}"}
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
    request = an_s3_request("POST", "/b", "delete", headers, body)
    answer = f"""<DeleteResult>
      <Error><Key>a</Key><Code>{token}</Code><Message>MFA code {code} is wrong</Message></Error>
      <Deleted><Key>b</Key><DeleteMarkerVersionId>{token}</DeleteMarkerVersionId></Deleted>
      </DeleteResult>"""
    found = records(request, answer.encode())
    assert token not in json.dumps(found)
    assert code not in json.dumps(found)
    assert found[0]["errorMessage"].startswith("MFA code ")


def test_an_error_may_repeat_a_recorded_name() -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    request = an_s3_request("POST", "/b", "delete&x-id=DeleteObjects", {}, body)
    answer = b"""<DeleteResult><Error><Key>a</Key><Code>NotAllowed</Code>
      <Message>DeleteObjects is not allowed</Message></Error></DeleteResult>"""
    assert records(request, answer)[0]["errorMessage"] == "DeleteObjects is not allowed"


def test_many_different_errors_leave_their_codes() -> None:
    keys = [f"k{number}" for number in range(100)]
    errors = "".join(
        f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>not {key}</Message></Error>"
        for key in keys
    )
    found = records(asked(*keys), f"<DeleteResult>{errors}</DeleteResult>".encode())
    assert {record["errorCode"] for record in found} == {"AccessDenied"}
    assert found[0]["errorMessage"] == "not k0"
    assert 0 < sum("errorMessage" in record for record in found) < 100


def test_members_of_all_objects_are_in_each_record() -> None:
    headers = {
        "host": HOST,
        "x-amz-bypass-governance-retention": "true",
        "x-amz-expected-bucket-owner": ACCOUNT,
        "x-amz-mfa": "arn:aws:iam::123456789012:mfa/John 938271",
    }
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    (record,) = records(an_s3_request("POST", "/b", "delete", headers, body), ANSWER)
    assert record["requestParameters"] == {
        "bucketName": "b",
        "Host": HOST,
        "key": "a",
        "x-amz-bypass-governance-retention": "true",
        "x-amz-expected-bucket-owner": ACCOUNT,
    }


def test_caller_notes_are_in_each_record() -> None:
    request = an_s3_request("POST", "/b", "delete", {}, asked("a").body, region="no_region")
    assembler = Assembler(lambda key: unknown(ACCOUNT, key))
    call = assembler.assemble(an_exchange(request, a_response(ANSWER, 200, IDS)))
    whole, part = own(json.loads(call.entry.record)), own(json.loads(call.more[0].record))
    assert part["identity"] == whole["identity"] == UNVERIFIED
    assert part["region"] == whole["region"] == "no_region"


def test_objects_of_s3_express_have_its_arns() -> None:
    bucket = "b--use1-az4--x-s3"
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    request = a_request("s3express", "POST", f"/{bucket}", "delete", {}, body, key=KEY)
    (record,) = records(request, b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>")
    arn = f"arn:aws:s3express:us-east-1:{ACCOUNT}:bucket/{bucket}"
    assert [one["ARN"] for one in record["resources"]] == [f"{arn}/a", arn]
    assert record["eventSource"] == "s3express.amazonaws.com"


def test_an_invalid_xml_body_is_noted_once() -> None:
    request = an_s3_request("POST", "/b", "delete", {}, b"<Delete><Object>")
    call = made(request, ANSWER)
    assert call.more == ()
    assert not call.decoded


def test_another_call_has_no_object_records() -> None:
    own_block: dict[str, Any] = {}
    assert deletion_in(an_exchange(an_s3_request("DELETE", "/b/a")), own_block) is None
    assert own_block == {}


def test_objects_beyond_the_s3_limit_have_no_record() -> None:
    call = made(asked(*(f"k{n}" for n in range(MAX_DELETED_OBJECTS + 7))), b"<DeleteResult/>")
    keys = [json.loads(entry.record)["requestParameters"]["key"] for entry in call.more]
    assert keys == [f"k{n}" for n in range(MAX_DELETED_OBJECTS)]
    assert own(json.loads(call.entry.record))["deletedKeysWithoutRecord"] == 7


def test_the_bytes_of_object_records_are_limited() -> None:
    keys = [f"{number:04}{'k' * 9_000}" for number in range(MAX_DELETED_OBJECTS)]
    call = made(asked(*keys, quiet=True), b"<DeleteResult/>")
    assert (
        MAX_DELETED_BYTES // 2 < sum(len(entry.record) for entry in call.more) <= MAX_DELETED_BYTES
    )
    without = own(json.loads(call.entry.record))["deletedKeysWithoutRecord"]
    assert len(call.more) + without == MAX_DELETED_OBJECTS


# The call's own record


def test_keys_are_recorded_in_the_opentrail_block() -> None:
    call = made(asked("a", ("b/c", "3"), quiet=True), b"<DeleteResult/>")
    assert own(json.loads(call.entry.record)) == {"deletedKeys": ["a", "b/c"]}


def test_a_failed_call_has_no_note_about_objects() -> None:
    call = made(
        asked(*map(str, range(MAX_DELETED_OBJECTS + 7))), b"<Error><Code>Bad</Code></Error>", 400
    )
    assert "deletedKeysWithoutRecord" not in own(json.loads(call.entry.record))


@pytest.mark.parametrize("key", ["contracts/{:06}.pdf", '{:04}"' + '"' * 1_000])
def test_keys_are_recorded_up_to_the_limit(key: str) -> None:
    keys = [key.format(number) for number in range(MAX_DELETED_OBJECTS)]
    extra = json.loads(made(asked(*keys)).entry.record)["additionalEventData"]
    result = extra["opentrail"]["deletedKeys"]
    assert result == keys[: len(result)]
    assert len(result) + extra["opentrail"]["deletedKeysLeftOut"] == MAX_DELETED_OBJECTS
    assert "AuthenticationMethod" in extra


# Any input


@pytest.mark.hypothesis
@given(answer=st.binary(max_size=200) | st.sampled_from([ANSWER[:n] for n in range(0, 400, 7)]))
def test_each_object_has_a_record_for_any_answer(answer: bytes) -> None:
    found = records(asked("a", ("b/c", "v3"), "kept"), answer)
    assert [record["requestParameters"]["key"] for record in found] == ["a", "b/c", "kept"]
