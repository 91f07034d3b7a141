"""What an answer says: its elements, its error, its request id."""

from __future__ import annotations

import re
from typing import Any

import orjson
from botocore.model import OperationModel

from opentrail.core.values import value_class
from opentrail.wire.message import Response, plain_body
from opentrail.wire.protocols.json_body import json_decoders
from opentrail.wire.protocols.requests import read_cbor
from opentrail.wire.protocols.values import JsonDocument, from_header
from opentrail.wire.protocols.xml_body import Element, parse_xml, xml_decoders
from opentrail.wire.protocols.xml_forms import XmlForms
from opentrail.wire.routing import Call

#: S3 calls that may fail after they have begun to answer 200.
_LATE_ERRORS = frozenset(
    {"CompleteMultipartUpload", "CopyObject", "DeleteObjects", "UploadPartCopy"}
)
#: The answer to a DeleteObjects has elements of this name within it, too.
_ERROR_DOCUMENT = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s>]")
#: The query protocols' answers are the dearest to parse, and the most alike.
_forms = XmlForms()
_EVENTS = "application/vnd.amazon.eventstream"
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "x-amz-request-id", "x-amz-requestid")


@value_class(frozen=True, slots=True)
class WireError:
    """An error as the answer tells it."""

    code: str
    message: str | None


def decode_answer(call: Call, response: Response) -> dict[str, Any]:
    """Returns the elements of a good answer by member name.

    Raises:
        ValueError: the body is not what the protocol says.
    """
    model = call.model
    if model is None or model.output_shape is None or call.service is None:
        return {}
    body = plain_body(response.headers, response.body)
    if response.headers.get("content-type", "").startswith(_EVENTS):
        body = b""  # its frames are no elements of the answer
    if call.protocol in ("query", "ec2"):
        return _from_query_answer(call.service.name, model, body)
    if call.protocol in ("rest-json", "rest-xml"):
        return _from_rest_answer(call, model, response, body)
    if not body.strip():
        return {}
    value = read_cbor(body) if call.protocol == "cbor" else JsonDocument(body).value
    decoded = json_decoders(call.service.name).decoder(model.output_shape)(value)
    return decoded if isinstance(decoded, dict) else {}


def _from_query_answer(service: str, model: OperationModel, body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}

    def decode(root: Element) -> dict[str, Any]:
        wrapper = model.output_shape.serialization.get("resultWrapper")
        element = root.child(wrapper) if wrapper else root
        if element is None:
            return {}
        decoded = xml_decoders(service).decoder(model.output_shape)(element)
        return decoded if isinstance(decoded, dict) else {}

    return _forms.read((service, model.name), body, decode)


def _from_rest_answer(
    call: Call, model: OperationModel, response: Response, body: bytes
) -> dict[str, Any]:
    shape = model.output_shape
    decoded: dict[str, Any] = {}
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
    target = shape.members[payload] if payload else shape
    if call.protocol == "rest-xml":
        decoders = xml_decoders(call.service.name if call.service else "")
        value = decoders.decoder(target)(parse_xml(body))
    else:
        decoder = json_decoders(call.service.name if call.service else "").decoder(target)
        value = decoder(JsonDocument(body).value)
    if payload:
        decoded[payload] = value
    elif isinstance(value, dict):
        decoded.update(value)
    return decoded


def read_error(call: Call, response: Response) -> WireError | None:
    """Returns the error of an answer, None for a good one.

    S3 may answer 200 with an `Error` document (CompleteMultipartUpload, CopyObject).
    """
    if response.status < 400 and not _is_error_document(call, response):
        return None
    found = _error_in_body(response)
    header = response.headers.get("x-amzn-errortype", "")
    code = (found.code if found else "") or header.partition(":")[0].rpartition("#")[2]
    message = found.message if found else None
    return WireError(code or code_of_status(call, response.status), message)


def _is_error_document(call: Call, response: Response) -> bool:
    if response.status not in (301, 307) and call.operation not in _LATE_ERRORS:
        return False
    return _ERROR_DOCUMENT.match(response.body) is not None


def _error_in_body(response: Response) -> WireError | None:
    try:
        whole = plain_body(response.headers, response.body)
        body = whole.strip()
        if body.startswith(b"<"):
            return _error_in_xml(parse_xml(body))
        if body.startswith(b"{"):
            return _error_in_object(orjson.loads(body))
        if response.headers.get("smithy-protocol") == "rpc-v2-cbor" and body:
            value = read_cbor(whole)
            return _error_in_object(value) if isinstance(value, dict) else None
    except ValueError:
        return None
    return None


def _error_in_xml(root: Element) -> WireError | None:
    """Finds `Error` in the forms of S3, the query protocol (`ErrorResponse`) and EC2."""
    element: Element | None = root
    if root.local_name in ("ErrorResponse", "Response"):
        errors = root.child("Errors")
        element = (errors or root).child("Error")
    if element is None:
        return None
    code = element.text_of("Code")
    return WireError(code, element.text_of("Message")) if code else None


def _error_in_object(value: dict[str, Any]) -> WireError | None:
    code = value.get("__type") or value.get("code") or value.get("Code")
    code = code if isinstance(code, str) else ""
    message = value.get("message", value.get("Message", value.get("errorMessage")))
    return WireError(
        code.partition(":")[0].rpartition("#")[2] if "#" in code else code.partition(":")[0],
        message if isinstance(message, str) else None,
    )


def code_of_status(call: Call, status: int) -> str:
    """Returns the error code of an answer without a body, such as one to HEAD."""
    if status == 403:
        return "AccessDenied"
    if status == 404 and call.service is not None and call.service.name == "s3":
        return "NoSuchKey" if "Key" in call.labels else "NoSuchBucket"
    return {412: "PreconditionFailed", 503: "ServiceUnavailable"}.get(status, str(status))


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
