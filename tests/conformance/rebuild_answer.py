"""Writes the answer behind a real record in its protocol, by the model alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import cbor2

from opentrail.wire.message import Response
from opentrail.wire.routing import Route
from opentrail.wire.values import WireTime

_ID = "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE0"
_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"
#: Recorded names of EC2's answers that differ from their elements' names.
_EC2_ELEMENTS = {"_return": "return", "zone": "availabilityZone"}


def empty_answer(route: Route) -> Response:
    """Returns an empty successful answer."""
    return good_answer(route, {})


def good_answer(route: Route, output: Mapping[str, Any]) -> Response:
    """Returns the answer with `output`, under the model's names."""
    headers = {"x-amzn-requestid": _ID}
    shape = route.model.output_shape if route.model is not None else None
    if route.protocol == "ec2":
        return Response(200, headers, _ec2_body(route, shape, output))
    if shape is None:
        return Response(200, headers, b"")
    if route.protocol == "json":
        return Response(200, headers, json.dumps(_plain(shape, output)).encode())
    if route.protocol == "cbor":
        headers["smithy-protocol"] = "rpc-v2-cbor"
        return Response(200, headers, cbor2.dumps(_plain(shape, output)))
    if route.protocol == "query":
        return Response(200, headers, _query_body(route, shape, output))
    return _rest_answer(route, shape, output, headers)


def error_answer(route: Route, code: str, message: str | None) -> Response:
    """Returns an error in the protocol's form."""
    headers = {"x-amzn-requestid": _ID}
    text = escape(message or "")
    inner = f"<Error><Code>{escape(code)}</Code><Message>{text}</Message></Error>"
    if route.protocol == "ec2":
        body = f"<Response><Errors>{inner}</Errors><RequestID>{_ID}</RequestID></Response>"
    elif route.protocol == "query":
        body = f"<ErrorResponse>{inner}<RequestId>{_ID}</RequestId></ErrorResponse>"
    elif route.protocol == "rest-xml":
        s3 = route.service is not None and route.service.name in ("s3", "s3control")
        body = inner if s3 else f"<ErrorResponse>{inner}</ErrorResponse>"
    elif route.protocol == "cbor":
        headers["smithy-protocol"] = "rpc-v2-cbor"
        told = cbor2.dumps({"__type": f"com.amazonaws#{code}", "message": message or ""})
        return Response(400, headers, told)
    else:
        headers["x-amzn-errortype"] = code
        body = json.dumps({"__type": code, "message": message or ""})
    return Response(403 if "Denied" in code else 400, headers, body.encode())


def loose_xml(name: str, value: Any) -> bytes:
    """Returns the XML that org.json would turn into `value`."""
    return _loose(name, value).encode()


def _loose(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(_loose(name, item) for item in value)
    if not isinstance(value, dict):
        return f"<{name}>{escape(_text(value))}</{name}>"
    attributes, inner = "", ""
    for key, item in value.items():
        if key.startswith(("xmlns", "xsi:")):
            attributes += f" {key}={quoteattr(str(item))}"
        else:
            inner += _loose(key, item)
    return f"<{name}{attributes}>{inner}</{name}>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # YAML made it a float
    return str(value)


def _plain(shape: Any, value: Any) -> Any:
    """Returns a value as it arrives in JSON (and CBOR, nearly)."""
    if shape.type_name == "structure" and isinstance(value, dict):
        if getattr(shape, "is_document_type", False):
            return value
        return {
            shape.members[n].serialization.get("name", n): _plain(shape.members[n], item)
            for n, item in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_plain(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {k: _plain(shape.value, item) for k, item in value.items()}
    if isinstance(value, WireTime) and shape.serialization.get("timestampFormat") == "iso8601":
        return value.text
    if isinstance(value, datetime):
        return value.timestamp()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _query_body(route: Route, shape: Any, output: Mapping[str, Any]) -> bytes:
    inner = _members(shape, output)
    wrapper = shape.serialization.get("resultWrapper")
    inner = f"<{wrapper}>{inner}</{wrapper}>" if wrapper else inner
    root = f"{route.operation}Response"
    told = (
        f"<{root}>{inner}<ResponseMetadata><RequestId>{_ID}</RequestId></ResponseMetadata></{root}>"
    )
    return told.encode()


def _members(shape: Any, value: Mapping[str, Any]) -> str:
    return "".join(
        _element(shape.members[n].serialization.get("name", n), shape.members[n], item)
        for n, item in value.items()
    )


def _element(name: str, shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return f"<{name}>{_members(shape, value)}</{name}>"
    flattened = bool(shape.serialization.get("flattened"))
    if shape.type_name == "list":
        inner_name = shape.member.serialization.get("name", name if flattened else "member")
        inner = "".join(_element(inner_name, shape.member, item) for item in value)
        return inner if flattened else f"<{name}>{inner}</{name}>"
    if shape.type_name == "map":
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        entry = name if flattened else "entry"
        inner = "".join(
            f"<{entry}><{key_name}>{escape(k)}</{key_name}>"
            f"{_element(value_name, shape.value, item)}</{entry}>"
            for k, item in value.items()
        )
        return inner if flattened else f"<{name}>{inner}</{name}>"
    return f"<{name}>{escape(_text(value))}</{name}>"


def _rest_answer(
    route: Route, shape: Any, output: Mapping[str, Any], headers: dict[str, str]
) -> Response:
    in_body = {}
    for name, value in output.items():
        member = shape.members[name]
        if member.serialization.get("location") == "header":
            headers[member.serialization["name"].lower()] = _text(value)
        elif member.serialization.get("location") is None:
            in_body[name] = value
    payload = shape.serialization.get("payload")
    target, told = (
        (shape.members[payload], in_body.get(payload, {})) if payload else (shape, in_body)
    )
    if target.type_name == "blob":
        return Response(200, headers, b"")
    if route.protocol == "rest-json":
        return Response(200, headers, json.dumps(_plain(target, told)).encode())
    root = target.serialization.get("name", target.name)
    return Response(200, headers, _element(root, target, told).encode() if told else b"")


# EC2: elements are named as recorded.


def _ec2_body(route: Route, shape: Any, shown: Mapping[str, Any]) -> bytes:
    root = f"{route.operation}Response"
    if root in shown:
        return loose_xml(root, shown[root])
    inner = "".join(_ec2_element(name, _ec2_member(shape, name), v) for name, v in shown.items())
    return f'<{root} xmlns="{_XMLNS}">{inner}</{root}>'.encode()


def _ec2_member(shape: Any, name: str) -> Any:
    if shape is None or shape.type_name != "structure":
        return None
    element = _EC2_ELEMENTS.get(name, name)
    for own_name, member in shape.members.items():
        if member.serialization.get("name", own_name) == element:
            return member
    return None


def _ec2_element(name: str, shape: Any, value: Any) -> str:
    name = _EC2_ELEMENTS.get(name, name)
    if isinstance(value, dict):
        items = value.get("items", value.get("item"))
        if isinstance(items, list):
            inner_shape = shape.member if shape is not None and shape.type_name == "list" else None
            inner = "".join(_ec2_element("item", inner_shape, item) for item in items)
        else:
            inner = "".join(_ec2_element(n, _ec2_member(shape, n), v) for n, v in value.items())
        return f"<{name}>{inner}</{name}>"
    if shape is not None and shape.type_name == "timestamp":
        moment = datetime.fromtimestamp(value / 1000, UTC)
        value = moment.isoformat(timespec="milliseconds")
    return f"<{name}>{escape(_text(value))}</{name}>"
