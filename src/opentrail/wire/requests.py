"""Bodies, headers and paths as parameters by the model's member names, for all protocols.

Decoded values are str, bool, int, float, None, `datetime` (timestamps), `bytes` (blobs), lists and
dicts. Members that a model does not have are decoded under their wire name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import cbor2
from botocore.model import OperationModel

from opentrail.core.event import Json
from opentrail.wire.body_formats import (
    form_decoders,
    json_decoders,
    parse_xml,
    tree_of,
    xml_decoders,
)
from opentrail.wire.form_fields import query_pairs
from opentrail.wire.message import Request, plain_body
from opentrail.wire.routing import Route
from opentrail.wire.service_models import OPERATIONS, Service
from opentrail.wire.sigv4 import SIGNING_QUERY
from opentrail.wire.values import JsonDocument, from_header, from_text

#: Parameters of the protocols themselves, not of operations.
_FORM_PROTOCOL = {
    "Action",
    "Version",
    "SignatureVersion",
    "SignatureMethod",
    "Signature",
    "AWSAccessKeyId",
    "Timestamp",
    "SecurityToken",
}


def decode_request(route: Route, request: Request) -> tuple[Json, list[str]]:
    """Returns the parameters by member name, and notes such as `duplicateKeys`.

    Raises:
        ValueError: the body violates the protocol.
    """
    return _DECODERS[route.protocol or "json"](route, request)


def _json(route: Route, request: Request) -> tuple[Json, list[str]]:
    body = plain_body(request.headers, request.body)
    if not body.strip():
        return {}, []
    document = JsonDocument(body)
    notes = ["duplicateKeys"] if document.duplicate_keys else []
    return _by_json_shape(route, document.value), notes


def _cbor(route: Route, request: Request) -> tuple[Json, list[str]]:
    body = plain_body(request.headers, request.body)
    return _by_json_shape(route, read_cbor(body)) if body else {}, []


def read_cbor(body: bytes) -> Any:
    """Returns the value of a CBOR body.

    Raises:
        ValueError: it is not CBOR.
    """
    try:
        return cbor2.loads(body)
    except (cbor2.CBORError, OverflowError) as error:
        raise ValueError(f"not CBOR: {error}") from error


def _by_json_shape(route: Route, value: Any) -> Json:
    if not isinstance(value, dict):
        raise ValueError("the body is not an object")
    model = route.model
    if model is None or model.input_shape is None or route.service is None:
        return value
    decoded: Json = json_decoders(route.service.name).decoder(model.input_shape)(value)
    return decoded


def _form(route: Route, request: Request) -> tuple[Json, list[str]]:
    fields = operation_fields(request)
    parameters = _form_reader(route.service, route.operation, route.protocol)(fields)
    is_sqs = route.service is not None and route.service.name == "sqs"
    if is_sqs and request.path != "/" and route.model is not None:
        parameters.setdefault("QueueUrl", f"http://{request.headers.get('host', '')}{request.path}")
    return parameters, repeated_fields(fields)


@lru_cache(maxsize=OPERATIONS)
def _form_reader(
    service: Service | None, operation: str | None, protocol: str | None
) -> Callable[[Sequence[tuple[str, str]]], Json]:
    """Returns the converter from a form's fields to an operation's parameters."""
    model = Route(service, operation, None).model
    if model is None or service is None:
        return dict
    if model.input_shape is None:
        return lambda _fields: {}
    decoders = form_decoders(protocol or "query", service.name)
    of_batches = (operation or "") if service.name == "sqs" else ""
    decode = decoders.decoder(model.input_shape, of_batches)
    return lambda fields: decode(tree_of(fields))


def repeated_fields(fields: Sequence[tuple[str, str]]) -> list[str]:
    """Returns the note on a form that has a field more than once; the last one counts."""
    return ["duplicateKeys"] if len(dict(fields)) != len(fields) else []


def operation_fields(request: Request) -> list[tuple[str, str]]:
    """Returns the fields that are parameters of the operation, not of the protocol.

    Raises:
        ValueError: the body does not match its `Content-Encoding`.
    """
    if "content-encoding" in request.headers:
        request = replace(request, body=plain_body(request.headers, request.body))
    pairs = query_pairs(request)
    return [(n, v) for n, v in pairs if n not in _FORM_PROTOCOL and not n.startswith("X-Amz-")]


def _rest(route: Route, request: Request) -> tuple[Json, list[str]]:
    model = route.model
    if model is None or model.input_shape is None:
        return {}, []
    parameters = {
        name: from_text(member)(unquote(route.labels[member.serialization.get("name", name)]))
        for name, member in model.input_shape.members.items()
        if member.serialization.get("location") == "uri"
        and member.serialization.get("name", name) in route.labels
    }
    _located(model, request, parameters)
    notes = _payload(route, model, request, parameters)
    return parameters, notes


def _located(model: OperationModel, request: Request, parameters: Json) -> None:
    """Adds the members in the query string and in headers."""
    query: dict[str, list[str]] = {}
    for name, value in _query(model, request):
        query.setdefault(name, []).append(value)
    for name, member in model.input_shape.members.items():
        location = member.serialization.get("location")
        wire_name = member.serialization.get("name", name)
        if location == "querystring" and member.type_name == "map":
            fixed = {m.serialization.get("name") for m in model.input_shape.members.values()}
            fixed |= {n for n, _ in parse_qsl(model.http["requestUri"].partition("?")[2])}
            other_values = {
                k: v for k, v in query.items() if k not in fixed and k.lower() not in SIGNING_QUERY
            }
            if other_values:
                is_list = member.value.type_name == "list"
                parameters[name] = {k: v if is_list else v[-1] for k, v in other_values.items()}
        elif location == "querystring" and wire_name in query:
            parameters[name] = _query_value(member, query[wire_name])
        elif location == "header" and wire_name.lower() in request.headers:
            parameters[name] = from_header(member)(request.headers[wire_name.lower()])
        elif location == "headers":
            prefix = wire_name.lower()
            headers = {
                k[len(prefix) :]: v for k, v in request.headers.items() if k.startswith(prefix)
            }
            if headers:
                parameters[name] = headers


def _query(model: OperationModel, request: Request) -> list[tuple[str, str]]:
    """Returns the query's pairs, or the pairs of a form that replaces the query of a GET."""
    if _is_get_as_form(model, request):
        return query_pairs(request)
    return parse_qsl(request.query, keep_blank_values=True)


def _is_get_as_form(model: OperationModel, request: Request) -> bool:
    return bool(request.method == "POST" and model.http.get("method") == "GET")


def _query_value(member: Any, values: list[str]) -> Any:
    if member.type_name == "list":
        return [from_text(member.member)(value) for value in values]
    return from_header(member)(values[-1])


def _payload(route: Route, model: OperationModel, request: Request, parameters: Json) -> list[str]:
    """Adds the members in the body; streamed bodies are not read."""
    shape = model.input_shape
    payload = shape.serialization.get("payload")
    if payload and shape.members[payload].type_name in ("blob", "string"):
        member = shape.members[payload]
        if member.type_name == "string" and request.body and request.body_is_whole:
            parameters[payload] = request.body.decode("utf-8", "replace")
        return []
    if not request.body.strip() or not request.body_is_whole:
        return []
    if _is_get_as_form(model, request):
        return []
    members, notes = rest_body(route, shape, plain_body(request.headers, request.body))
    parameters.update(members)
    return notes


def rest_body(route: Route, shape: Any, body: bytes) -> tuple[Json, list[str]]:
    """Returns the members of a request or an answer that are in its body, and notes on it.

    Raises:
        ValueError: the body violates the protocol.
    """
    payload = shape.serialization.get("payload")
    service = route.service.name if route.service else ""
    target = shape.members[payload] if payload else shape
    notes: list[str] = []
    if route.protocol == "rest-xml":
        value = xml_decoders(service).decoder(target)(parse_xml(body))
    else:
        document = JsonDocument(body)
        notes = ["duplicateKeys"] if document.duplicate_keys else []
        value = json_decoders(service).decoder(target)(document.value)
    if payload:
        return {payload: value}, notes
    return value if isinstance(value, dict) else {}, notes


_DECODERS = {
    "json": _json,
    "cbor": _cbor,
    "query": _form,
    "ec2": _form,
    "rest-json": _rest,
    "rest-xml": _rest,
}
