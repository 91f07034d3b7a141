"""Answers: elements, error in every shape, request id."""

from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.message import Request, Response
from opentrail.wire.responses import WireError, decode_answer, read_error, request_id
from opentrail.wire.routing import Route
from opentrail.wire.sigv4 import read_credential
from tests.factories import (
    a_json_request,
    a_query_request,
    a_request,
    an_s3_request,
    router,
)

JSON = a_json_request("dynamodb", "DynamoDB_20120810.PutItem", {})
QUERY = a_query_request("iam", "CreateUser", "2010-05-08")
EC2 = a_query_request("ec2", "RunInstances", "2016-11-15")
CBOR = a_request(
    "monitoring",
    path="/service/GraniteServiceVersion20100801/operation/PutMetricData",
    headers={"smithy-protocol": "rpc-v2-cbor"},
)
OBJECT = an_s3_request("GET", "/bucket/key")
BUCKET = an_s3_request("HEAD", "/bucket")
KEY = an_s3_request("HEAD", "/bucket/key")
KEY_OF_VERSION = an_s3_request("HEAD", "/bucket/key", "versionId=3")
NEW_KEY = an_s3_request("PUT", "/bucket/key")
NEW_UPLOAD = an_s3_request("POST", "/bucket/key", "uploads")
PART = an_s3_request("PUT", "/bucket/key", "partNumber=1&uploadId=u")
COPY = an_s3_request("PUT", "/bucket/key", "", {"x-amz-copy-source": "/o/k"})
COMPLETE = an_s3_request("POST", "/bucket/key", "uploadId=u")
LAMBDA = a_request("lambda", "GET", "/2015-03-31/functions/f")
ROUTE53 = a_request("route53", "GET", "/2013-04-01/hostedzone")
UNKNOWN = a_request("no-such-service", "GET", "/x")


def route_of(request: Request) -> Route:
    return router().identify(request, read_credential(request))


def error(request: Request, status: int, body: bytes = b"", **headers: str) -> WireError | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_error(route_of(request), Response(status, named, body), request.query)


def answer(request: Request, body: bytes, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode_answer(route_of(request), Response(200, named, body))


# Errors of the JSON protocols


@pytest.mark.parametrize(
    "type_",
    [
        "ResourceNotFoundException",
        "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
        "ResourceNotFoundException:http://internal.amazon.com/coral/com.amazon.coral/",
        "com.amazonaws#ResourceNotFoundException:http://internal.amazon.com/x#y",
    ],
)
@pytest.mark.parametrize("member", ["__type", "code", "Code"])
def test_a_json_error_is_named_by_its_type(member: str, type_: str) -> None:
    body = b'{"%s":"%s","message":"no such table"}' % (member.encode(), type_.encode())
    assert error(JSON, 400, body) == WireError("ResourceNotFoundException", "no such table")


@pytest.mark.parametrize("member", ["message", "Message", "errorMessage"])
def test_a_message_has_three_spellings(member: str) -> None:
    body = b'{"__type":"X","%s":"text"}' % member.encode()
    assert error(JSON, 400, body) == WireError("X", "text")


@pytest.mark.parametrize(
    "header",
    [
        "ResourceNotFoundException",
        "ResourceNotFoundException:http://internal.amazon.com/coral/com.amazonaws.lambda/",
        "com.amazonaws.lambda#ResourceNotFoundException",
    ],
)
def test_a_rest_error_is_named_by_its_header(header: str) -> None:
    body = b'{"Type":"User","message":"Function not found"}'
    found = error(LAMBDA, 404, body, x_amzn_errortype=header)
    assert found == WireError("ResourceNotFoundException", "Function not found")


def test_error_without_body_is_named_by_its_header() -> None:
    found = error(LAMBDA, 404, x_amzn_errortype="ResourceNotFoundException")
    assert found == WireError("ResourceNotFoundException", None)


def test_a_cbor_error_is_named_by_its_type() -> None:
    body = cbor2.dumps({"__type": "com.amazonaws.cloudwatch#LimitExceeded", "message": "too much"})
    found = error(CBOR, 400, body, smithy_protocol="rpc-v2-cbor")
    assert found == WireError("LimitExceeded", "too much")


@pytest.mark.parametrize("message", [b"5", b"null", b'{"a":1}', b"[]"])
def test_a_message_of_another_type_is_left_out(message: bytes) -> None:
    assert error(JSON, 400, b'{"__type":"X","message":%s}' % message) == WireError("X", None)


# Errors of the XML protocols


def test_a_query_error_is_in_an_error_response() -> None:
    body = b"""<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
      <Error><Type>Sender</Type><Code>EntityAlreadyExists</Code>
      <Message>User Mary already exists.</Message></Error>
      <RequestId>id</RequestId></ErrorResponse>"""
    assert error(QUERY, 409, body) == WireError("EntityAlreadyExists", "User Mary already exists.")


def test_ec2_error_is_in_a_list_of_errors() -> None:
    body = b"""<?xml version="1.0" encoding="UTF-8"?>
      <Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code>
      <Message>The instance ID 'i-1' does not exist</Message></Error></Errors>
      <RequestID>id</RequestID></Response>"""
    assert error(EC2, 400, body) == WireError(
        "InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist"
    )


def test_an_s3_error_is_the_document() -> None:
    body = b"""<?xml version="1.0"?><Error><Code>NoSuchKey</Code>
      <Message>The specified key does not exist.</Message><Key>key</Key></Error>"""
    assert error(OBJECT, 404, body) == WireError("NoSuchKey", "The specified key does not exist.")


def test_rest_xml_error_is_in_an_error_response() -> None:
    body = b"""<ErrorResponse><Error><Code>NoSuchHostedZone</Code><Message>none</Message></Error>
      </ErrorResponse>"""
    assert error(ROUTE53, 404, body) == WireError("NoSuchHostedZone", "none")


@pytest.mark.parametrize("request_", [COPY, COMPLETE], ids=["CopyObject", "CompleteMultipart"])
def test_s3_answer_with_200_may_be_an_error(request_: Request) -> None:
    body = (
        b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>again</Message></Error>'
    )
    assert error(request_, 200, body) == WireError("InternalError", "again")


def test_a_redirection_of_s3_is_an_error() -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    assert error(OBJECT, 301, body) == WireError("PermanentRedirect", "elsewhere")
    assert error(OBJECT, 307, body.replace(b"Permanent", b"Temporary")) is not None


# Errors with little content


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (QUERY, 403, "AccessDenied"),
        (QUERY, 404, "404"),
        (UNKNOWN, 500, "500"),
    ],
)
def test_answer_without_body_is_named_by_its_status(
    request_: Request, status: int, code: str
) -> None:
    assert error(request_, status) == WireError(code, None)


@pytest.mark.parametrize(
    ("request_", "status", "code", "message"),
    [
        (BUCKET, 404, "NoSuchBucket", "The specified bucket does not exist"),
        (KEY, 404, "NoSuchKey", "The specified key does not exist."),
        (KEY_OF_VERSION, 404, "NoSuchVersion", "The specified version does not exist."),
        (NEW_KEY, 404, "NoSuchBucket", "The specified bucket does not exist"),
        (NEW_UPLOAD, 404, "NoSuchBucket", "The specified bucket does not exist"),
        (
            PART,
            404,
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may"
            " have been aborted or completed.",
        ),
        (BUCKET, 403, "AccessDenied", "Access Denied"),
        (KEY, 403, "AccessDenied", "Access Denied"),
        (KEY, 400, "BadRequest", "Bad Request"),
        (
            KEY_OF_VERSION,
            405,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        ),
        (
            KEY,
            412,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
        ),
        (KEY, 416, "InvalidRange", "The requested range is not satisfiable"),
        (KEY, 500, "InternalError", "We encountered an internal error. Please try again."),
        (BUCKET, 503, "ServiceUnavailable", "Service is unable to handle request."),
        (
            BUCKET,
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified"
            " endpoint. Please send all future requests to this endpoint.",
        ),
    ],
)
def test_s3_answer_without_body_has_a_gets_error(
    request_: Request, status: int, code: str, message: str
) -> None:
    assert error(request_, status) == WireError(code, message)


def test_object_behind_a_delete_marker_does_not_exist() -> None:
    found = error(KEY_OF_VERSION, 404, x_amz_delete_marker="true")
    assert found is not None
    assert found.code == "NoSuchKey"


def test_head_answered_not_modified_is_not_an_error() -> None:
    assert error(KEY, 304) is None
    assert error(KEY, 206) is None


def test_errors_in_headers_of_stores_are_read() -> None:
    found = error(KEY, 403, x_minio_error_code="InvalidAccessKeyId", x_minio_error_desc="unknown")
    assert found == WireError("InvalidAccessKeyId", "unknown")
    found = error(KEY, 404, x_amz_error_code="NoSuchBucket", x_amz_error_message="no bucket")
    assert found == WireError("NoSuchBucket", "no bucket")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"<broken",
        b"<!DOCTYPE x><Error><Code>X</Code></Error>",
        b"{broken",
        b'{"message":"no code"}',
        b'{"__type":5}',
        b"[1]",
        b"plain text",
        b"\xff\xfe\x00",
        b"<Error><Message>no code</Message></Error>",
        b"<ErrorResponse/>",
        b"<Response><Errors/></Response>",
    ],
)
def test_an_unreadable_error_is_still_an_error(body: bytes) -> None:
    found = error(JSON, 500, body)
    assert found is not None
    assert found.code == "500"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 304])
def test_a_successful_answer_is_not_an_error(status: int) -> None:
    for request in (JSON, QUERY, EC2, OBJECT, LAMBDA, UNKNOWN):
        assert error(request, status, b'{"__type":"NotAnError","message":"x"}') is None


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(deadline=None, max_examples=300)
@given(
    status=st.sampled_from([200, 301, 400, 404, 500]),
    body=st.binary(max_size=60)
    | st.text(st.sampled_from('{}":_typecode#,<>/Error&;?!'), max_size=60).map(str.encode)
    | st.from_regex(rb'<\?xml version="1\.0" encoding="[a-z0-9-]{1,8}"\?><Error>', fullmatch=True),
    header=st.text(max_size=20),
)
def test_error_in_a_random_answer_has_a_code(status: int, body: bytes, header: str) -> None:
    for request in (JSON, QUERY, OBJECT, COMPLETE, CBOR, UNKNOWN):
        headers = {"x-amzn-errortype": header, "smithy-protocol": "rpc-v2-cbor"}
        found = read_error(route_of(request), Response(status, headers, body))
        assert found is None or found.code
        assert found is not None or status < 400


# Elements of successful answers


def test_elements_of_a_json_answer() -> None:
    body = b'{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.5},"New":[1]}'
    assert answer(JSON, body) == {
        "ConsumedCapacity": {"TableName": "t", "CapacityUnits": 1.5},
        "New": [1],
    }


def test_elements_of_a_query_answer() -> None:
    body = b"""<CreateUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
      <CreateUserResult><User><Path>/</Path><UserName>Mary</UserName><UserId>AIDA</UserId>
      <Arn>arn:aws:iam::123456789012:user/Mary</Arn><CreateDate>2020-01-01T09:00:00Z</CreateDate>
      <Tags><member><Key>team</Key><Value>audit</Value></member></Tags>
      </User></CreateUserResult>
      <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></CreateUserResponse>"""
    assert answer(QUERY, body) == {
        "User": {
            "Path": "/",
            "UserName": "Mary",
            "UserId": "AIDA",
            "Arn": "arn:aws:iam::123456789012:user/Mary",
            "CreateDate": datetime(2020, 1, 1, 9, tzinfo=UTC),
            "Tags": [{"Key": "team", "Value": "audit"}],
        }
    }


def test_elements_of_an_ec2_answer() -> None:
    body = b"""<RunInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
      <requestId>id</requestId><reservationId>r-1</reservationId>
      <instancesSet><item><instanceId>i-1</instanceId><instanceState><code>0</code>
      <name>pending</name></instanceState></item></instancesSet></RunInstancesResponse>"""
    found = answer(EC2, body)
    assert found["ReservationId"] == "r-1"
    assert found["Instances"] == [
        {"InstanceId": "i-1", "State": {"Code": 0, "Name": "pending"}},
    ]


def test_rest_answer_has_elements_in_headers_and_body() -> None:
    headers = {"x-amz-version-id": "3", "content-type": "application/xml"}
    body = b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>"
    found = decode_answer(route_of(COPY), Response(200, headers, body))
    assert found["VersionId"] == "3"
    assert found["CopyObjectResult"] == {"ETag": "e"}


def test_bytes_of_an_object_are_not_an_element() -> None:
    found = answer(OBJECT, b"the object", content_type="text/plain", x_amz_version_id="3")
    assert found == {"ContentType": "text/plain", "VersionId": "3"}


EVENTS = "application/vnd.amazon.eventstream"
INVOKE = a_request("lambda", "POST", "/2021-11-15/functions/f/response-streaming-invocations")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (INVOKE, {"ExecutedVersion": "3", "ResponseStreamContentType": EVENTS}),
        (JSON, {}),
    ],
)
def test_events_of_a_stream_are_not_elements(request_: Request, expected: dict[str, str]) -> None:
    frames = b"\x00\x00\x00\x6d\x00\x00\x00\x57\x1a\x2b"
    assert answer(request_, frames, content_type=EVENTS, x_amz_executed_version="3") == expected


def test_a_truncated_answer_has_its_headers_elements() -> None:
    response = Response(200, {"x-amz-version-id": "3"}, b"<Copy", body_is_whole=False)
    assert decode_answer(route_of(COPY), response) == {"VersionId": "3"}


@pytest.mark.parametrize("request_", [JSON, QUERY, EC2, LAMBDA, COPY, UNKNOWN, CBOR])
def test_an_empty_answer_has_no_elements(request_: Request) -> None:
    assert answer(request_, b"") == {}


@pytest.mark.parametrize(
    ("request_", "body"),
    [(JSON, b"{"), (QUERY, b"<CreateUser"), (EC2, b"text"), (LAMBDA, b"{"), (COPY, b"<a>")],
    ids=["json", "query", "ec2", "rest-json", "rest-xml"],
)
def test_an_answer_that_breaks_the_protocol_is_refused(request_: Request, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        answer(request_, body)


def test_query_answer_without_its_result_has_no_elements() -> None:
    assert answer(QUERY, b"<CreateUserResponse/>") == {}
    assert answer(QUERY, b"<Surprise/>") == {}


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('{}[]":,<>/?!=CreateUserResult encoding'), max_size=60).map(
        str.encode
    )
)
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    for request in (JSON, QUERY, EC2, LAMBDA, COPY, CBOR):
        try:
            found = answer(request, body)
        except ValueError:
            continue
        assert isinstance(found, dict)


# Request ids


@pytest.mark.parametrize("name", ["x-amzn-requestid", "x-amz-request-id", "x-amz-requestid"])
def test_a_request_id_is_in_a_header(name: str) -> None:
    assert request_id(Response(200, {name: "ID-1"}, b"")) == "ID-1"


@pytest.mark.parametrize(
    "body",
    [
        b"<R><ResponseMetadata><RequestId>ID-1</RequestId></ResponseMetadata></R>",
        b"<Response><Errors/><RequestID>ID-1</RequestID></Response>",
        b"<RunInstancesResponse><requestId> ID-1\n</requestId></RunInstancesResponse>",
        b"<Error><Code>NoSuchKey</Code><RequestId>ID-1</RequestId><HostId>h</HostId></Error>",
    ],
)
def test_a_request_id_is_in_the_body(body: bytes) -> None:
    assert request_id(Response(200, {}, body)) == "ID-1"


def test_the_header_precedes_the_body() -> None:
    response = Response(200, {"x-amz-request-id": "H"}, b"<RequestId>B</RequestId>")
    assert request_id(response) == "H"


@pytest.mark.parametrize(
    "body", [b"", b"<RequestId/>", b"<RequestId></RequestId>", b"{}", b"equestId>"]
)
def test_an_answer_may_have_no_request_id(body: bytes) -> None:
    assert request_id(Response(200, {"x-amzn-requestid": ""}, body)) is None


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.binary(max_size=40).map(lambda tail: b"<RequestId>" + tail) | st.binary(max_size=40))
def test_a_random_body_has_a_clean_request_id(body: bytes) -> None:
    found = request_id(Response(200, {}, body))
    assert found is None or found.strip() == found
