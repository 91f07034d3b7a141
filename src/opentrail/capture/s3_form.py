"""S3's hand-made form of parameters: raw names, headers, XML as it stands (capture.md §2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from opentrail.capture.embedded import within
from opentrail.capture.render import lower_first
from opentrail.capture.secret_names import HIDDEN, looks_secret
from opentrail.capture.tables import data_type, rules
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.multipart import form_fields
from opentrail.wire.protocols.values import JsonDocument
from opentrail.wire.protocols.xml_body import Element, parse_xml
from opentrail.wire.routing import Call
from opentrail.wire.service_models import Service

#: Canonical whole numbers; org.json, which AWS seems to use, reads just these as numbers.
_WHOLE = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")
#: Data events in whose records AWS shows no body.
_BODY_NOT_SHOWN = frozenset({"CompleteMultipartUpload", "DeleteObjects"})
#: Fields of an upload form that make up its signature.
_FORM_SIGNATURE = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-signature"})
#: What parts of a path are called, where not as in the model.
_LABELS = {"Bucket": "bucketName"}
#: Parts of a path that have a place of their own; the account is in the host's name.
_NOT_FIRST = frozenset({"Key", "AccountId"})
#: What path and headers alone may say.
_FROM_THE_HEAD = frozenset({"bucketName", "Host", "key"})
#: Headers of a request that matter but that AWS leaves out; they go into our own block.
_OWN_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def s3_parameters(call: Call, request: Request) -> dict[str, Any]:
    """Returns `requestParameters` of a call to S3 or S3 Control.

    Raises:
        ValueError: the body is not XML (or a policy not text).
    """
    table = rules("redaction")
    parameters: dict[str, Any] = {}
    names = _label_names(call.service, call.operation)
    for label, value in call.labels.items():
        if label not in _NOT_FIRST:
            parameters[names.get(label, lower_first(label))] = unquote(value)
    if "host" in request.headers:
        parameters["Host"] = request.headers["host"]
    if "Key" in call.labels:
        parameters["key"] = unquote(call.labels["Key"])
    _add_query(parameters, request.query, set(table["s3_query"]["never"]))
    never = set(table["s3_headers"]["never"])
    for name, value in request.headers.items():
        if name.startswith("x-amz-") and name not in never:
            parameters[name] = HIDDEN if looks_secret(name) else within(value)
    if call.operation == "PostObject":
        _add_form(parameters, request, never)
    elif request.body_is_whole and call.operation not in _BODY_NOT_SHOWN:
        _add_body(parameters, call, request)
    return parameters


@lru_cache(maxsize=512)
def _label_names(service: Service | None, operation: str | None) -> Mapping[str, str]:
    """Returns what the parts of an operation's path are called in records, by their labels."""
    model = Call(service, operation, None).model
    if model is None or model.input_shape is None:
        return _LABELS
    named = {
        member.serialization.get("name", name): name
        for name, member in model.input_shape.members.items()
        if member.serialization.get("location") == "uri"
    }
    return {label: _LABELS.get(name, lower_first(name)) for label, name in named.items()}


def _add_query(parameters: dict[str, Any], query: str, never: set[str]) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in never or name in _FROM_THE_HEAD:
            continue
        present, value = parameters.get(name), within(value)
        if present is None:
            parameters[name] = value
        elif isinstance(present, list):
            present.append(value)
        else:
            parameters[name] = [present, value]


def _add_form(parameters: dict[str, Any], request: Request, never: set[str]) -> None:
    """Adds the fields of a browser's upload form; signatures and policies stay out."""
    for name, value in form_fields(request.headers, request.body).items():
        if name in ("key", "acl"):
            parameters[name] = value
        elif name.startswith("x-amz-") and name not in never and name not in _FORM_SIGNATURE:
            parameters[name] = HIDDEN if looks_secret(name) else within(value)


def _add_body(parameters: dict[str, Any], call: Call, request: Request) -> None:
    if not request.body.strip() or not body_is_parameters(call):
        return
    body = plain_body(request.headers, request.body)
    if call.operation == "PutBucketPolicy" and call.service and call.service.name == "s3":
        try:
            parameters["bucketPolicy"] = JsonDocument(body).value
        except ValueError:
            parameters["bucketPolicy"] = body.decode("utf-8", "replace")
        return
    root = parse_xml(body)
    parameters.setdefault(root.local_name, as_json(root))


def body_is_parameters(call: Call) -> bool:
    """Returns whether the body of an S3 request holds parameters rather than an object."""
    model = call.model
    if model is None or model.input_shape is None:
        return False
    members = model.input_shape.members
    payload = model.input_shape.serialization.get("payload")
    if payload:
        return bool(members[payload].type_name != "blob")
    return any("location" not in member.serialization for member in members.values())


def as_json(element: Element) -> Any:
    """Returns an element the way org.json turns XML into JSON (113 real records show it).

    Attributes become members, repeated children a list, a single one stays an object; `true`,
    `false` and whole numbers lose their quotes.
    """
    if not element.attributes and not element.children:
        return loose_text(element.text)
    shown: dict[str, Any] = dict(element.attributes)
    for child in element.children:
        value, name = as_json(child), child.local_name
        if name not in shown:
            shown[name] = value
        elif isinstance(shown[name], list):
            shown[name].append(value)
        else:
            shown[name] = [shown[name], value]
    if not element.children and element.text.strip():
        shown["content"] = loose_text(element.text)
    return shown


def loose_text(text: str) -> Any:
    """Returns a text as org.json reads it: `true`, `false` and whole numbers lose their quotes."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if _WHOLE.match(text) else within(text)


def s3_answer(response: Response) -> dict[str, Any] | None:
    """Returns `responseElements` of an S3 write: its `x-amz-` headers, without the request ids."""
    never = set(rules("redaction")["s3_headers"]["answer_never"])
    shown = {
        name: HIDDEN if looks_secret(name) else within(value)
        for name, value in response.headers.items()
        if name.startswith("x-amz-") and name not in never
    }
    return shown or None


def own_details(call: Call, request: Request) -> dict[str, Any]:
    """Returns what AWS leaves out of S3 records: deleted keys, ranges, conditions."""
    details: dict[str, Any] = {}
    headers = {name: request.headers[name] for name in _OWN_HEADERS if name in request.headers}
    if headers:
        details["headers"] = headers
    if call.operation == "DeleteObjects" and request.body and request.body_is_whole:
        root = parse_xml(plain_body(request.headers, request.body))
        keys = [c.text_of("Key") for c in root.children if c.local_name == "Object"]
        details["deletedKeys"] = keys
    return details


def touched(
    parameters: Mapping[str, Any], operation: str, account: str, express_region: str | None = None
) -> list[dict[str, str]]:
    """Returns the record's `resources` of an S3 call (capture.md §2.3).

    `express_region` is the Region of a call to S3 Express, whose buckets have ARNs of their own.
    """
    bucket = parameters.get("bucketName")
    if not bucket or operation == "CreateBucket":
        return []
    label, object_type, bucket_type = "s3", "AWS::S3::Object", "AWS::S3::Bucket"
    arn = f"arn:aws:s3:::{bucket}"
    if express_region is not None:
        label, object_type = "s3express", "AWS::S3Express::Object"
        bucket_type = "AWS::S3Express::DirectoryBucket"
        arn = f"arn:aws:s3express:{express_region}:{account}:bucket/{bucket}"
    listed: list[dict[str, str]] = []
    if data_type(label, operation) is not None:
        if "key" in parameters:
            listed.append({"type": object_type, "ARN": f"{arn}/{parameters['key']}"})
        else:
            prefix = parameters.get("prefix", "")
            prefix = prefix[0] if isinstance(prefix, list) else prefix
            listed.append({"type": object_type, "ARNPrefix": f"{arn}/{prefix}"})
    listed.append({"accountId": account, "type": bucket_type, "ARN": arn})
    return listed
