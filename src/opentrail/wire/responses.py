"""Answers: their elements, error and request id."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import orjson
from botocore.model import OperationModel

from opentrail.core.event import Json
from opentrail.core.value_class import value_class
from opentrail.wire.body_formats import Element, json_decoders, parse_xml, xml_decoders
from opentrail.wire.message import Response, plain_body
from opentrail.wire.requests import read_cbor, rest_body
from opentrail.wire.routing import Route
from opentrail.wire.service_models import OPERATIONS, Service
from opentrail.wire.values import JsonDocument, from_header

#: S3 calls that may fail after they have begun to answer 200.
_LATE_ERRORS = frozenset(
    {"CompleteMultipartUpload", "CopyObject", "DeleteObjects", "UploadPartCopy"}
)
#: S3 calls whose answers never have a body: they are HEAD.
_ANSWERED_WITHOUT_BODY = frozenset({"HeadBucket", "HeadObject"})
#: Headers with an error's code and its message: AWS's, S3 websites', MinIO's.
_ERROR_HEADERS = (
    ("x-amzn-errortype", "x-amzn-errormessage"),
    ("x-amz-error-code", "x-amz-error-message"),
    ("x-minio-error-code", "x-minio-error-desc"),
)
_ERROR_DOCUMENT = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s>]")
_EVENTS = "application/vnd.amazon.eventstream"
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "x-amz-request-id", "x-amz-requestid")


@value_class(frozen=True, slots=True)
class WireError:
    """The error of an answer."""

    code: str
    message: str | None


def decode_answer(route: Route, response: Response) -> Json:
    """Returns the elements of an answer by member name.

    Raises:
        ValueError: the body violates the protocol.
    """
    if route.protocol in ("query", "ec2"):
        body = plain_body(response.headers, response.body)
        return _answer_reader(route.service, route.operation)(body) if body.strip() else {}
    model = route.model
    if model is None or model.output_shape is None or route.service is None:
        return {}
    body = plain_body(response.headers, response.body)
    if response.headers.get("content-type", "").startswith(_EVENTS):
        body = b""  # frames of events are not elements of the answer
    if route.protocol in ("rest-json", "rest-xml"):
        return _from_rest_answer(route, model, response, body)
    if not body.strip():
        return {}
    value = read_cbor(body) if route.protocol == "cbor" else JsonDocument(body).value
    decoded = json_decoders(route.service.name).decoder(model.output_shape)(value)
    return decoded if isinstance(decoded, dict) else {}


@lru_cache(maxsize=OPERATIONS)
def _answer_reader(service: Service | None, operation: str | None) -> Callable[[bytes], Json]:
    """Returns the reader for an operation's answers in the query protocol or EC2's."""
    model = Route(service, operation, None).model
    if model is None or model.output_shape is None or service is None:
        return lambda _body: {}
    wrapper = model.output_shape.serialization.get("resultWrapper")
    decode = xml_decoders(service.name).decoder(model.output_shape)

    def read(body: bytes) -> Json:
        root = parse_xml(body)
        element = root.child(wrapper) if wrapper else root
        decoded = decode(element) if element is not None else None
        return decoded if isinstance(decoded, dict) else {}

    return read


def _from_rest_answer(route: Route, model: OperationModel, response: Response, body: bytes) -> Json:
    shape = model.output_shape
    decoded: Json = {}
    for name, member in shape.members.items():
        if member.serialization.get("location") == "header":
            text = response.headers.get(member.serialization.get("name", name).lower())
            if text is not None:
                decoded[name] = from_header(member)(text)
    payload = shape.serialization.get("payload")
    if payload and shape.members[payload].type_name in ("blob", "string"):
        return decoded
    if not body.strip() or not response.body_is_whole:
        return decoded
    return decoded | rest_body(route, shape, body)[0]


def read_error(route: Route, response: Response, query: str = "") -> WireError | None:
    """Returns the error of an answer to a request with this query, None if it succeeded.

    S3 may answer 200 with an `Error` document (CompleteMultipartUpload, CopyObject).
    """
    if response.status < 400 and not _is_late_error(route, response):
        return None
    body_error = _error_in_body(response)
    if body_error is not None and body_error.code:
        return body_error
    other_error = _error_in_headers(response) or _error_of_status(route, response, query)
    return other_error if body_error is None else replace(other_error, message=body_error.message)


def _is_late_error(route: Route, response: Response) -> bool:
    """Returns whether an answer below 400 is an error: a redirection, or an error document."""
    is_redirection = response.status in (301, 307)
    if is_redirection and route.operation in _ANSWERED_WITHOUT_BODY:
        return True
    if not is_redirection and route.operation not in _LATE_ERRORS:
        return False
    return _ERROR_DOCUMENT.match(response.body) is not None


def _error_in_headers(response: Response) -> WireError | None:
    """Returns the error in headers of AWS or of stores compatible with S3."""
    for code_header, message_header in _ERROR_HEADERS:
        code = response.headers.get(code_header, "").partition(":")[0].rpartition("#")[2]
        if code:
            return WireError(code, response.headers.get(message_header))
    return None


def _error_in_body(response: Response) -> WireError | None:
    try:
        plain = plain_body(response.headers, response.body)
        body = plain.strip()
        if body.startswith(b"<"):
            return _error_in_xml(parse_xml(body))
        if body.startswith(b"{"):
            return _error_in_object(orjson.loads(body))
        if response.headers.get("smithy-protocol") == "rpc-v2-cbor" and body:
            value = read_cbor(plain)
            return _error_in_object(value) if isinstance(value, dict) else None
    except ValueError:
        return None
    return None


def _error_in_xml(root: Element) -> WireError | None:
    """Returns the error of S3, of the query protocol (`ErrorResponse`) or of EC2."""
    element: Element | None = root
    if root.local_name in ("ErrorResponse", "Response"):
        errors = root.child("Errors")
        element = (errors or root).child("Error")
    if element is None:
        return None
    code = element.text_of("Code")
    return WireError(code, element.text_of("Message")) if code else None


def _error_in_object(value: Json) -> WireError | None:
    code = value.get("__type") or value.get("code") or value.get("Code")
    code = code if isinstance(code, str) else ""
    message = value.get("message", value.get("Message", value.get("errorMessage")))
    return WireError(
        code.partition(":")[0].rpartition("#")[2] if "#" in code else code.partition(":")[0],
        message if isinstance(message, str) else None,
    )


def _error_of_status(route: Route, response: Response, query: str) -> WireError:
    """Returns the error of an answer without a body, such as one to HEAD.

    For S3 it is the error that the same call by GET has.
    """
    status, service = response.status, route.service
    if service is not None and service.name == "s3":
        code_and_message = _S3_ERRORS.get(status)
        if status == 404:
            code_and_message = _S3_ERRORS[_missing(route, response, query)]
        if code_and_message is not None:
            return WireError(*code_and_message)
    if status == 403:
        return WireError("AccessDenied", None)
    plain = {412: "PreconditionFailed", 503: "ServiceUnavailable"}
    return WireError(plain.get(status, str(status)), None)


def _missing(route: Route, response: Response, query: str) -> str:
    """Returns the kind of the missing thing: the bucket, the upload, the key or its version."""
    if "Key" not in route.labels or route.operation in _OF_NEW_KEYS:
        return "bucket"
    if "uploadId=" in query:
        return "upload"
    of_version = "versionId=" in query and "x-amz-delete-marker" not in response.headers
    return "version" if of_version else "key"


#: Operations that name a key which need not exist.
_OF_NEW_KEYS = frozenset({"PutObject", "CreateMultipartUpload"})
#: S3's errors, by status or by missing thing ("Error responses", S3's API reference).
_S3_ERRORS: dict[int | str, tuple[str, str]] = {
    301: (
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint."
        " Please send all future requests to this endpoint.",
    ),
    307: ("TemporaryRedirect", "Please re-send this request to the specified temporary endpoint."),
    400: ("BadRequest", "Bad Request"),
    403: ("AccessDenied", "Access Denied"),
    405: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    412: (
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
    ),
    416: ("InvalidRange", "The requested range is not satisfiable"),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("ServiceUnavailable", "Service is unable to handle request."),
    "bucket": ("NoSuchBucket", "The specified bucket does not exist"),
    "key": ("NoSuchKey", "The specified key does not exist."),
    "upload": (
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have"
        " been aborted or completed.",
    ),
    "version": ("NoSuchVersion", "The specified version does not exist."),
}


def request_id(response: Response) -> str | None:
    """Returns the upstream's id of the request, from its headers or its body."""
    for name in _REQUEST_ID_HEADERS:
        if response.headers.get(name):
            return response.headers[name]
    start = response.body.find(b"equestId>")
    if start < 0:
        start = response.body.find(b"equestID>")
    if start < 0:
        return None
    end = response.body.find(b"<", start)
    text = response.body[start + len(b"equestId>") : end].decode("utf-8", "replace").strip()
    return text or None
