"""Makes an answer for a case and writes it in the case's protocol, by the model alone.

Imports nothing of opentrail. The answer to a minimal case has only the required members, to a
full one all members, to an awkward one an error.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import cbor2
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from tests.conformance.generate import Builder, Case

#: An error outside all models.
ERROR_CODE = "OutOfLuck"
_CONTENT_TYPES = {
    True: {"Content-Type": "application/json"},
    False: {"Content-Type": "application/xml"},
}
_REQUEST_ID = "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE0"


@dataclass(frozen=True, slots=True)
class Answer:
    """The upstream's answer. `output` is None for an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    output: Mapping[str, Any] | None

    def raw(self, with_body: bool) -> bytes:
        """Returns the bytes on the wire; answers to HEAD have no body."""
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status < 300 else 'Bad Request'}"]
        lines += [f"{name}: {text}" for name, text in self.headers.items()]
        lines += [f"x-amzn-RequestId: {_REQUEST_ID}", f"Content-Length: {len(self.body)}", "", ""]
        head = "\r\n".join(lines).encode()
        return head + self.body if with_body else head


def output_of(case: Case) -> dict[str, Any] | None:
    """Returns the elements of the case's answer, None if it is an error."""
    if case.variant == "awkward":
        return None
    shape = case.model.output_shape
    if shape is None:
        return {}
    seed = f"{case.service}.{case.operation}.{case.variant}.answer"
    return Builder(case.model, case.protocol, case.variant, seed).structure(shape)


def answer_of(case: Case) -> Answer:
    """Returns the answer to a case."""
    output = output_of(case)
    if output is None:
        return error_with(case.protocol, ERROR_CODE, "it went wrong")
    return answer_with(case.model, case.protocol, output)


def answer_with(model: OperationModel, protocol: str, output: dict[str, Any]) -> Answer:
    """Returns the answer with `output`, in a protocol."""
    write = {
        "json": _json,
        "smithy-rpc-v2-cbor": _cbor,
        "query": _query,
        "ec2": _ec2,
        "rest-json": _rest,
        "rest-xml": _rest,
    }[protocol]
    return write(model, output)


def _json(operation: OperationModel, output: dict[str, Any]) -> Answer:
    body = json.dumps(_json_value(operation.output_shape, output)).encode() if output else b"{}"
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, body, output)


def _cbor(operation: OperationModel, output: dict[str, Any]) -> Answer:
    headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    body = cbor2.dumps(_cbor_value(operation.output_shape, output) if output else {})
    return Answer(200, headers, body, output)


def _query(operation: OperationModel, output: dict[str, Any]) -> Answer:
    inner = ""
    shape = operation.output_shape
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper")
        inner = _members(shape, output)
        inner = f"<{wrapper}>{inner}</{wrapper}>" if wrapper else inner
    name = operation.name
    namespace = quoteattr("http://example.com/doc/")
    metadata = f"<ResponseMetadata><RequestId>{_REQUEST_ID}</RequestId></ResponseMetadata>"
    text = f"<{name}Response xmlns={namespace}>{inner}{metadata}</{name}Response>"
    return Answer(200, {"Content-Type": "text/xml"}, text.encode(), output)


def _ec2(operation: OperationModel, output: dict[str, Any]) -> Answer:
    inner = _members(operation.output_shape, output) if operation.output_shape else ""
    inner = inner or "<return>true</return>"
    name = f"{operation.name}Response"
    text = f"<{name}><requestId>{_REQUEST_ID}</requestId>{inner}</{name}>"
    return Answer(200, {"Content-Type": "text/xml;charset=UTF-8"}, text.encode(), output)


def _rest(operation: OperationModel, output: dict[str, Any]) -> Answer:
    shape = operation.output_shape
    if shape is None:
        return Answer(200, {}, b"", output)
    in_json = operation.service_model.metadata["protocol"] == "rest-json"
    headers = {} if _tells_type(shape) else dict(_CONTENT_TYPES[in_json])
    in_body: dict[str, Any] = {}
    for name, value in output.items():
        traits = shape.members[name].serialization
        place, wire_name = traits.get("location"), traits.get("name", name)
        if place == "header":
            headers[wire_name] = _header(shape.members[name], value)
        elif place == "headers":
            headers.update({f"{wire_name}{key}": text for key, text in value.items()})
        else:
            in_body[name] = value
    payload = shape.serialization.get("payload")
    if payload is None:
        body = _document(operation, shape, in_body) if in_body or in_json else b""
    elif payload not in in_body:
        body = b""
    elif shape.members[payload].type_name in ("blob", "string"):
        raw = in_body[payload]
        body = raw if isinstance(raw, bytes) else raw.encode()
    else:
        body = _document(operation, shape.members[payload], in_body[payload])
    return Answer(200, headers, body, output)


def _tells_type(shape: StructureShape) -> bool:
    """Tells whether the answer's type is one of its elements."""
    return any(m.serialization.get("name") == "Content-Type" for m in shape.members.values())


def _document(operation: OperationModel, shape: Shape, value: Any) -> bytes:
    if operation.service_model.metadata["protocol"] == "rest-json":
        return json.dumps(_json_value(shape, value)).encode()
    root = shape.serialization.get("name", shape.name)
    return f'<?xml version="1.0"?><{root}>{_inside(shape, value)}</{root}>'.encode()


def error_with(protocol: str, code: str, message: str) -> Answer:
    """Returns an error answer, in a protocol."""
    fault = {"__type": f"com.example#{code}", "message": message}
    tags = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if protocol == "smithy-rpc-v2-cbor":
        headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        return Answer(400, headers, cbor2.dumps(fault), None)
    if protocol in ("json", "rest-json"):
        headers = {"x-amzn-errortype": code}
        return Answer(400, headers, json.dumps(fault).encode(), None)
    if protocol == "ec2":
        text = (
            f"<Response><Errors><Error>{tags}</Error></Errors><RequestID>1</RequestID></Response>"
        )
    else:
        text = f"<ErrorResponse><Error><Type>Sender</Type>{tags}</Error></ErrorResponse>"
    return Answer(400, {"Content-Type": "text/xml"}, text.encode(), None)


# JSON and CBOR


def _json_value(shape: Any, value: Any) -> Any:
    if getattr(shape, "is_document_type", False):
        return value
    match shape:
        case StructureShape():
            return {
                shape.members[n].serialization.get("name", n): _json_value(shape.members[n], v)
                for n, v in value.items()
            }
        case ListShape():
            return [_json_value(shape.member, item) for item in value]
        case MapShape():
            return {key: _json_value(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return _time(shape, value, "unixTimestamp")
    return base64.b64encode(value).decode() if shape.type_name == "blob" else value


def _cbor_value(shape: Any, value: Any) -> Any:
    match shape:
        case StructureShape() if not getattr(shape, "is_document_type", False):
            return {n: _cbor_value(shape.members[n], v) for n, v in value.items()}
        case ListShape():
            return [_cbor_value(shape.member, item) for item in value]
        case MapShape():
            return {key: _cbor_value(shape.value, item) for key, item in value.items()}
    if isinstance(value, datetime):
        return cbor2.CBORTag(1, value.timestamp())
    return value


# XML


def _members(shape: Any, value: Mapping[str, Any]) -> str:
    return "".join(_element(name, shape.members[name], item) for name, item in value.items())


def _element(name: str, shape: Any, value: Any) -> str:
    tag = shape.serialization.get("name", name)
    if shape.serialization.get("flattened"):
        if isinstance(shape, ListShape):
            tag = shape.member.serialization.get("name", tag)
            return "".join(f"<{tag}>{_inside(shape.member, v)}</{tag}>" for v in value)
        return "".join(f"<{tag}>{_entry(shape, k, v)}</{tag}>" for k, v in value.items())
    return f"<{tag}>{_inside(shape, value)}</{tag}>"


def _inside(shape: Any, value: Any) -> str:
    match shape:
        case StructureShape():
            return _members(shape, value)
        case ListShape():
            tag = shape.member.serialization.get("name", "member")
            return "".join(f"<{tag}>{_inside(shape.member, item)}</{tag}>" for item in value)
        case MapShape():
            entries = (_entry(shape, key, item) for key, item in value.items())
            return "".join(f"<entry>{entry}</entry>" for entry in entries)
    return escape(_text(shape, value, "iso8601"))


def _entry(shape: MapShape, key: str, value: Any) -> str:
    key_tag = shape.key.serialization.get("name", "key")
    value_tag = shape.value.serialization.get("name", "value")
    inner = _inside(shape.value, value)
    return f"<{key_tag}>{escape(key)}</{key_tag}><{value_tag}>{inner}</{value_tag}>"


# Scalars as text


def _header(shape: Any, value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(shape.member, item, "rfc822") for item in value)
    if shape.serialization.get("jsonvalue"):
        return base64.b64encode(json_text(value).encode()).decode()
    return _text(shape, value, "rfc822")


def json_text(value: Any) -> str:
    """Returns JSON as botocore writes it into headers."""
    return json.dumps(value, separators=(",", ":"))


def _text(shape: Any, value: Any, time_format: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(_time(shape, value, time_format))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _time(shape: Any, value: datetime, default: str) -> Any:
    form = shape.serialization.get("timestampFormat", default)
    if form == "unixTimestamp":
        return int(value.timestamp())
    moment = value.astimezone(UTC)
    if form == "rfc822":
        return format_datetime(moment, usegmt=True)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
