"""S3's special form: names and headers as sent, XML turned into JSON (cloudtrail-format §4.3).

The record of a DeleteObjects names no objects. Since June 2025 AWS adds a DeleteObject record of
each; its members are the same as for a single DeleteObject, as far as known (cloudtrail-format
§3.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record_limits import (
    MAX_DELETED_BYTES,
    MAX_DELETED_OBJECTS,
    MAX_DELETION_MESSAGES,
    MAX_LISTED_KEY_BYTES,
    MAX_REASON_LENGTH,
    encode_record,
    to_bytes,
    truncate,
)
from opentrail.capture.record_rules import lower_first, rules
from opentrail.capture.redaction import (
    MIN_SECRET_LENGTH,
    actions,
    redact_message,
    without_literals,
)
from opentrail.core.event import MANAGEMENT, Json, new_event_id
from opentrail.core.secrets.embedded import redact, without_secrets
from opentrail.core.secrets.secret_names import HIDDEN, looks_secret, sounds_secret
from opentrail.wire.body_formats import Element, parse_xml
from opentrail.wire.form_fields import form_fields
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.routing import Route
from opentrail.wire.service_models import Service
from opentrail.wire.sigv4 import signing_texts
from opentrail.wire.values import JsonDocument

#: Integers that org.json, AWS's probable library, parses as numbers.
_WHOLE = re.compile(r"^(0|-?[1-9][0-9]{0,17})\Z")
_NUMERIC = frozenset("-0123456789")
#: Data events whose records show no body.
_BODY_NOT_SHOWN = frozenset({"CompleteMultipartUpload", "DeleteObjects"})
#: Fields of an upload form that make up its signature.
_FORM_SIGNATURE = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-signature"})
#: Headers whose names callers choose.
_METADATA = "x-amz-meta-"
#: Names of path labels that differ from the model's.
_LABELS = {"Bucket": "bucketName"}
#: Labels that are not written first; the account is part of the host name.
_NOT_FIRST = frozenset({"Key", "AccountId"})
#: Endings of the names of headers with secrets.
_SECRET_ENDS = ("-key", "-token", "-mfa", "-context")
#: Parameters that a query or a form must not set.
_FROM_THE_HEAD = frozenset({"bucketName", "Host", "key"})
#: Headers of a request that AWS does not record, noted in opentrail's block.
_NOTED_HEADERS = (
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


def s3_parameters(route: Route, request: Request, notes: Json) -> Json:
    """Returns `requestParameters` of a call to S3 or S3 Control.

    Notes headers that AWS does not record, such as ranges and conditions, and a body that is not
    XML (or a policy not text): upstreams may ignore it, and the rest still names the bucket.
    """
    headers = {n: redact(request.headers[n]) for n in _NOTED_HEADERS if n in request.headers}
    if headers:
        notes["headers"] = headers
    parameters = s3_place(route, request)
    never = _names_in_tables("never", "s3_headers")
    for name, value in request.headers.items():
        if name.startswith("x-amz-") and name not in never:
            parameters[name] = _header(name, value)
    if route.operation == "PostObject":
        _add_form(parameters, request, never)
    elif request.body_is_whole and route.operation not in _BODY_NOT_SHOWN:
        try:
            _add_body(parameters, route, request)
        except (ValueError, RecursionError) as error:
            notes["decodeError"] = str(error)[:MAX_REASON_LENGTH]
            notes["request"] = {"method": request.method, "path": request.path}
    return parameters


def s3_place(route: Route, request: Request) -> Json:
    """Returns the parameters in path, host and query, which name the resources of a call."""
    parameters: Json = {}
    names = _label_names(route.service, route.operation)
    for label, value in route.labels.items():
        if label not in _NOT_FIRST:
            parameters[names.get(label, lower_first(label))] = unquote(value)
    if "host" in request.headers:
        parameters["Host"] = request.headers["host"]
    if "Key" in route.labels:
        parameters["key"] = unquote(route.labels["Key"])
    if request.query:
        _add_query(parameters, request.query, _names_in_tables("never", "s3_headers", "s3_query"))
    return parameters


def decode_s3_values(route: Route, request: Request) -> Json:
    """Returns the values of a request without their names, secrets included.

    Raises:
        ValueError: the body is not XML.
    """
    values: Json = {**decode_s3_head(request)}
    if route.operation == "PostObject":
        values["form"] = list(form_fields(request.headers, request.body).values())
    elif request.body_is_whole and request.body.strip() and route.operation is not None:
        body = plain_body(request.headers, request.body)
        is_policy = route.operation == "PutBucketPolicy"
        values["body"] = JsonDocument(body).value if is_policy else _texts_of(parse_xml(body))
    return values


def decode_s3_head(request: Request) -> dict[str, list[str]]:
    """Returns the values of the query and of headers with secrets.

    A header may hold an MFA device and its code, so its words are values as well.
    """
    headers = [value for name, value in request.headers.items() if name.endswith(_SECRET_ENDS)]
    return {
        "query": [value for _, value in parse_qsl(request.query, keep_blank_values=True)],
        "headers": [text for value in headers for text in dict.fromkeys((value, *value.split()))],
    }


def _texts_of(element: Element) -> list[str]:
    texts = [element.text.strip(), *element.attributes.values()]
    return texts + [text for child in element.children for text in _texts_of(child)]


@lru_cache(maxsize=512)
def _label_names(service: Service | None, operation: str | None) -> Mapping[str, str]:
    """Returns the recorded names of an operation's path labels."""
    model = Route(service, operation, None).model
    if model is None or model.input_shape is None:
        return _LABELS
    member_names = {
        member.serialization.get("name", name): name
        for name, member in model.input_shape.members.items()
        if member.serialization.get("location") == "uri"
    }
    return {label: _LABELS.get(name, lower_first(name)) for label, name in member_names.items()}


@cache
def _names_in_tables(action: str, *tables: str) -> frozenset[str]:
    """Returns names of headers or query parameters in redaction.toml."""
    return frozenset(name for table in tables for name in rules("redaction")[table][action])


def _add_query(parameters: Json, query: str, never: frozenset[str]) -> None:
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name.lower() in never or name in _FROM_THE_HEAD:
            continue
        add_child(parameters, name, HIDDEN if sounds_secret(name) else redact(text))


def _add_form(parameters: Json, request: Request, never: frozenset[str]) -> None:
    """Adds the fields of a browser's upload form, without signatures and policies."""
    for name, value in form_fields(request.headers, request.body).items():
        if name in ("key", "acl"):
            parameters[name] = value
        elif name.startswith("x-amz-") and name not in never and name not in _FORM_SIGNATURE:
            parameters[name] = _header(name, value)


def _header(name: str, value: str) -> str:
    """Returns the recorded value of a header or form field."""
    is_secret_name = sounds_secret if name.startswith(_METADATA) else looks_secret
    is_hidden = name in _names_in_tables("hide", "s3_headers") or is_secret_name(name)
    return HIDDEN if is_hidden else redact(value)


def _add_body(parameters: Json, route: Route, request: Request) -> None:
    if not request.body.strip() or not body_is_parameters(route):
        return
    body = plain_body(request.headers, request.body)
    if route.operation == "PutBucketPolicy" and route.service and route.service.name == "s3":
        try:
            parameters["bucketPolicy"] = without_secrets(JsonDocument(body).value)
        except ValueError:
            parameters["bucketPolicy"] = redact(body.decode("utf-8", "replace"))
        return
    root = parse_xml(body)
    document = without_secrets(as_json(root))
    if isinstance(document, dict):
        member_actions = actions("s3")
        literal = {name for name in document if member_actions.get(name) == "literals"}
        document |= {name: without_literals(document[name]) for name in literal}
    parameters.setdefault(root.local_name, document)


def body_is_parameters(route: Route) -> bool:
    """Returns whether the body of an S3 request holds parameters rather than an object."""
    return _has_parameters_in_body(route.service, route.operation)


@lru_cache(maxsize=512)
def _has_parameters_in_body(service: Service | None, operation: str | None) -> bool:
    model = Route(service, operation, None).model
    if model is None or model.input_shape is None:
        return False
    members = model.input_shape.members
    payload = model.input_shape.serialization.get("payload")
    if payload:
        return bool(members[payload].type_name != "blob")
    return any("location" not in member.serialization for member in members.values())


def as_json(element: Element) -> Any:
    """Returns an element in JSON, converted like org.json does (113 real records).

    Attributes become members, repeated children a list, a single child an object.
    """
    if not element.attributes and not element.children:
        return loose_text(element.text)
    result: Json = dict(element.attributes)
    for child in element.children:
        add_child(result, child.local_name, as_json(child))
    if not element.children and element.text.strip():
        result["content"] = loose_text(element.text)
    return result


def add_child(target: Json, name: str, value: Any) -> None:
    """Adds a child's value; children with the same name become a list."""
    if name not in target:
        target[name] = value
    elif isinstance(target[name], list):
        target[name].append(value)
    else:
        target[name] = [target[name], value]


def loose_text(text: str) -> Any:
    """Parses a string like org.json: `true`, `false` and integers become values."""
    if text in ("true", "false"):
        return text == "true"
    if text[:1] in _NUMERIC and _WHOLE.match(text):
        return int(text)
    return redact(text)


def s3_answer(_call: Route, response: Response) -> Json | None:
    """Returns `responseElements` of an S3 write: its `x-amz-` headers, without the request ids."""
    never = _names_in_tables("answer_never", "s3_headers")
    headers = {
        name: _header(name, value)
        for name, value in response.headers.items()
        if name.startswith("x-amz-") and name not in never
    }
    return headers or None


def additional_data(exchange: Exchange, category: str) -> Json:
    """Returns S3's additions to `additionalEventData` (cloudtrail-format §2.7)."""
    extra: Json = {}
    if exchange.credential is not None:
        extra["SignatureVersion"] = exchange.credential.version
    if exchange.tls is not None:
        extra["CipherSuite"] = exchange.tls["cipherSuite"]
    bytes_in, bytes_out = exchange.bytes_in, exchange.bytes_out
    decoded_length = exchange.request.headers.get("x-amz-decoded-content-length", "")
    if decoded_length.isdigit():
        bytes_in = int(decoded_length)
    # AWS writes these as floats in data events and as integers elsewhere.
    extra["bytesTransferredIn"] = bytes_in if category == MANAGEMENT else float(bytes_in)
    if exchange.credential is not None:
        extra["AuthenticationMethod"] = exchange.credential.method
    if exchange.response is not None and "x-amz-id-2" in exchange.response.headers:
        extra["x-amz-id-2"] = exchange.response.headers["x-amz-id-2"]
    extra["bytesTransferredOut"] = bytes_out if category == MANAGEMENT else float(bytes_out)
    return extra


#: Parameters of the call that are also in each object's record.
_SHARED = ("bucketName", "Host")
_SHARED_HEADERS = (
    "x-amz-bypass-governance-retention",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
)
#: Notes of the call that are also in each object's record.
_SHARED_NOTES = ("identity", "region")
#: The note on an object whose result is missing from the answer.
NO_RESULT = "the answer does not tell"
_DELETED, _ERROR = "Deleted", "Error"

#: Key and version of an object; the version is usually empty.
_Object = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Result:
    """An answer's statement about an object: the element's name and its children's strings."""

    element: str
    details: Mapping[str, str]


#: A quiet answer contains errors only.
_SILENTLY_DELETED = _Result(_DELETED, {})


def deletion_in(exchange: Exchange, notes: Json) -> Deletion | None:
    """Returns the objects in a DeleteObjects, None for another call.

    Notes their keys, or a body that is not XML.
    """
    if exchange.route.operation != "DeleteObjects":
        return None
    try:
        deletion = Deletion(exchange.request)
    except ValueError as error:
        notes["decodeError"] = str(error)[:MAX_REASON_LENGTH]
        return None
    notes.update(deletion.noted_keys())
    return deletion


class Deletion:
    """The objects that a DeleteObjects names.

    Raises:
        ValueError: the body is not XML.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._objects: list[_Object] = []
        self._is_quiet = False
        if not request.body or not request.body_is_whole:
            return
        root = parse_xml(plain_body(request.headers, request.body))
        objects = (child for child in root.children if child.local_name == "Object")
        self._objects = [_object_of(_texts(element)) for element in objects]
        self._is_quiet = (root.text_of("Quiet") or "").strip() == "true"

    def noted_keys(self) -> Json:
        """Returns the notes on the keys for the call's own record."""
        if not self._objects:
            return {}
        keys: list[str] = []
        size = 0
        for key, _ in self._objects:
            size += len(to_bytes(key)) + 1
            if size > MAX_LISTED_KEY_BYTES:
                break
            keys.append(key)
        left_out = len(self._objects) - len(keys)
        return {"deletedKeys": keys} | ({"deletedKeysLeftOut": left_out} if left_out else {})

    def records(
        self, record: Mapping[str, Any], response: Response | None, notes: Json
    ) -> list[tuple[str, bytes]]:
        """Returns event id and record of each object, deleted or not.

        A call that failed entirely has none.

        Args:
            record: the call's own record.
            response: its answer.
            notes: opentrail's block of that record; gets the number of objects without a record.
        """
        if response is None or not 200 <= response.status < 300:
            return []
        if "errorCode" in record or not record["requestParameters"]:
            return []
        objects = self._objects[:MAX_DELETED_OBJECTS]
        results = _matched(objects, _results_in(response), self._is_quiet)
        writer = _Writer(record, notes, self._request)
        records: list[tuple[str, bytes]] = []
        size = 0
        for object_ in objects:
            event_id = new_event_id()
            raw = encode_record(writer.record_of(event_id, object_, results[object_]))
            size += len(raw)
            if size > MAX_DELETED_BYTES:
                break
            records.append((event_id, raw))
        if len(records) < len(self._objects):
            notes["deletedKeysWithoutRecord"] = len(self._objects) - len(records)
        return records


def _results_in(response: Response) -> list[tuple[_Object, _Result]] | None:
    """Returns the results in an answer, None for an answer to another operation."""
    try:
        root = parse_xml(plain_body(response.headers, response.body))
    except ValueError:
        return None
    if root.local_name != "DeleteResult":
        return None
    results = []
    for child in root.children:
        if child.local_name in (_DELETED, _ERROR):
            details = _texts(child)
            results.append((_object_of(details), _Result(child.local_name, details)))
    return results


def _object_of(details: Mapping[str, str]) -> _Object:
    return details.get("Key", ""), details.get("VersionId", "")


def _texts(element: Element) -> dict[str, str]:
    return {child.local_name: child.text for child in element.children}


def _matched(
    objects: Sequence[_Object], results: Sequence[tuple[_Object, _Result]] | None, is_quiet: bool
) -> dict[_Object, _Result | None]:
    """Returns the result for each object, None if it cannot be determined.

    Some stores omit the version. The results of a key then match its versions only if there is one
    for each, or if all are equal.
    """
    matches: dict[_Object, _Result | None] = dict.fromkeys(objects)
    if results is None:
        return matches
    by_name: dict[_Object, list[_Result]] = {}
    for object_, result in results:
        by_name.setdefault(object_, []).append(result)
    # By key: the object without a version first, then versions without a matching result.
    unmatched: dict[str, list[_Object]] = {}
    for object_ in sorted(matches):
        key, version = object_
        if version and object_ in by_name:
            matches[object_] = _first_if_alike(by_name[object_])
        else:
            unmatched.setdefault(key, []).append(object_)
    for key, same_key in unmatched.items():
        matches.update(_assigned(by_name.get((key, ""), []), same_key, is_quiet))
    return matches


def _assigned(
    results: Sequence[_Result], objects: Sequence[_Object], is_quiet: bool
) -> Iterator[tuple[_Object, _Result]]:
    """Yields objects of one key with their results, given the results without a version."""
    if results and _first_if_alike(results) is None:
        return
    if results and not objects[0][1]:
        yield objects[0], results[0]
        results, objects = results[1:], objects[1:]
    if not results and is_quiet:
        yield from ((object_, _SILENTLY_DELETED) for object_ in objects)
    elif len(results) >= len(objects):
        yield from zip(objects, results, strict=False)


def _first_if_alike(results: Sequence[_Result]) -> _Result | None:
    return results[0] if len({result.element for result in results}) == 1 else None


class _Writer:
    """Writes the records of a call's objects."""

    def __init__(
        self, record: Mapping[str, Any], notes: Mapping[str, Any], request: Request
    ) -> None:
        self._record = record
        self._source = record["eventSource"].removesuffix(".amazonaws.com")
        self._call_parameters = record["requestParameters"]
        self._shared = self._select(_SHARED)
        self._headers = self._select(_SHARED_HEADERS)
        self._notes = {name: notes[name] for name in _SHARED_NOTES if name in notes}
        self._notes["partOf"] = record["eventID"]
        self._extra = {
            name: 0.0 if name.startswith("bytes") else value  # they were of the whole call
            for name, value in record.get("additionalEventData", {}).items()
        }
        self._given = decode_s3_head(request)
        self._never = [text for text in signing_texts(request) if text]
        secrets = (*self._never, *self._given["headers"])
        self._secrets = [text for text in secrets if len(text) >= MIN_SECRET_LENGTH]
        self._messages: dict[str, str] = {}

    def _select(self, names: Sequence[str]) -> Json:
        parameters = self._call_parameters
        return {name: parameters[name] for name in names if name in parameters}

    def record_of(self, event_id: str, object_: _Object, result: _Result | None) -> Json:
        key, version = object_
        parameters = {**self._shared, "key": key}
        if version:
            parameters["versionId"] = version
        parameters.update(self._headers)
        account, region = self._record["recipientAccountId"], self._record["awsRegion"]
        notes = self._notes if result is not None else {**self._notes, "outcome": NO_RESULT}
        changed = {
            "eventName": "DeleteObject",
            "requestParameters": parameters,
            "responseElements": self._answer(result) or None,
            "additionalEventData": {**self._extra, "opentrail": notes},
            "eventID": event_id,
            "resources": s3_resources("DeleteObject", parameters, self._source, region, account),
        }
        record: Json = {}
        for name, value in self._record.items():
            if name == "requestParameters":
                record.update(self._error(result))
            record[name] = changed.get(name, value)
        return record

    def _answer(self, result: _Result | None) -> dict[str, str]:
        """Returns `responseElements`: the result in the form of a DeleteObject's headers."""
        if result is None or result.element != _DELETED:
            return {}
        marker = result.details.get("DeleteMarker", "")
        version = result.details.get("DeleteMarkerVersionId") or result.details.get("VersionId")
        answer = {"x-amz-delete-marker": marker} if marker == "true" else {}
        return answer | ({"x-amz-version-id": self._hide_secrets(version)} if version else {})

    def _error(self, result: _Result | None) -> dict[str, str]:
        """Returns `errorCode` and `errorMessage`."""
        if result is None or result.element != _ERROR:
            return {}
        error = {"errorCode": self._hide_secrets(result.details.get("Code") or "InternalError")}
        message = self._message(result.details.get("Message", ""))
        return error | ({"errorMessage": message} if message else {})

    def _hide_secrets(self, text: str) -> str:
        return HIDDEN if any(secret in text for secret in self._secrets) else truncate(text)

    def _message(self, message: str) -> str:
        """Returns an error message without values of the call that its record hides."""
        redacted = self._messages.get(message, "")
        if message and not redacted and len(self._messages) < MAX_DELETION_MESSAGES:
            redacted = truncate(
                redact_message(message, self._given, self._call_parameters, self._never)
            )
            self._messages[message] = redacted
        return redacted
