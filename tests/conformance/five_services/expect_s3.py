"""Computes the `requestParameters` of S3 calls, which follow the wire, from the model alone."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from tests.conformance.five_services.generate import Case
from tests.conformance.generate import service_model
from tests.conformance.literals import without_literals

DATA_OPERATIONS = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjectAnnotation",
        "DeleteObjectTagging",
        "DeleteObjects",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAnnotation",
        "GetObjectAttributes",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "GetObjectTorrent",
        "HeadBucket",
        "HeadObject",
        "ListObjectAnnotations",
        "ListObjectVersions",
        "ListObjects",
        "ListObjectsV2",
        "ListParts",
        "PutObject",
        "PutObjectAcl",
        "PutObjectAnnotation",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "PutObjectTagging",
        "RenameObject",
        "RestoreObject",
        "SelectObjectContent",
        "UpdateObjectEncryption",
        "UploadPart",
        "UploadPartCopy",
        "WriteGetObjectResponse",
    }
)


def parts_of(
    service: str, operation: str, params: Mapping[str, Any]
) -> list[tuple[str, str | None]]:
    """Returns key and version of each object with a record in addition to the call's.

    AWS records the objects of a DeleteObjects one by one since June 2025.
    """
    if (service, operation) != ("s3", "DeleteObjects"):
        return []
    return [(one["Key"], one.get("VersionId")) for one in params["Delete"]["Objects"]]


def is_part(
    record: Mapping[str, Any], call: Mapping[str, Any], part: tuple[str, str | None]
) -> bool:
    """Returns whether a record is about an object of a call, by the call's own record."""
    given = record["requestParameters"]
    return (
        record["eventName"] == "DeleteObject"
        and record["requestID"] == call["requestID"]
        and record["additionalEventData"]["opentrail"]["partOf"] == call["eventID"]
        and given["bucketName"] == call["requestParameters"]["bucketName"]
        and (given["key"], given.get("versionId")) == part
    )


HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_HIDDEN_HEADERS = frozenset(
    {
        "x-amz-account-id",
        "x-amz-content-sha256",
        "x-amz-copy-source-server-side-encryption-customer-key",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-s3session-token",
        "x-amz-security-token",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-te",
        "x-amz-trailer",
        "x-amz-user-agent",
        "x-amz-mfa",
        "x-amz-request-token",
        "x-amz-bucket-object-lock-token",
    }
)
_HIDDEN_BODIES = frozenset({"CompleteMultipartUpload", "DeleteObjects"})

#: botocore requests encoded listings unless the caller decides (`encoding-type=url`).
_ENCODED_LISTINGS = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions"})
#: botocore computes the digest of SSE-C keys in these operations, and in no other.
_DIGESTED_KEYS = frozenset(
    {
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "GetObject",
        "HeadObject",
        "PutObject",
        "SelectObjectContent",
        "UploadPart",
        "UploadPartCopy",
    }
)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_VERSION_SUFFIX = re.compile(r"\?versionId=\S+$")


def parameters(case: Case, host: str) -> dict[str, Any]:
    """Returns the requestParameters of the case sent with the given Host header."""
    operation = service_model(case.service).operation_model(case.operation)
    given = _as_botocore_sends(case)
    shown: dict[str, Any] = {"Host": host}
    if operation.input_shape is not None:
        for name, member in operation.input_shape.members.items():
            if (
                name in given
                and name != "AccountId"
                and member.serialization.get("location") == "uri"
            ):
                shown["bucketName" if name == "Bucket" else name[0].lower() + name[1:]] = given[
                    name
                ]
    shown.update(_merged(_query(operation, given)))
    shown.update(_headers(operation, given))
    if case.operation == "PutBucketPolicy" and case.service == "s3":
        shown["bucketPolicy"] = _json_or_text(given["Policy"])
    elif case.operation not in _HIDDEN_BODIES:
        shown.update(_body(operation, given))
    if case.operation == "SelectObjectContent":
        select = shown["SelectObjectContentRequest"]
        select["Expression"] = without_literals(str(select["Expression"]))
    return shown


def _as_botocore_sends(case: Case) -> dict[str, Any]:
    """Returns the parameters after botocore's own, documented changes to them."""
    given = dict(case.params)
    if case.operation in _ENCODED_LISTINGS:
        given.setdefault("EncodingType", "url")
    if case.operation in ("CopyObject", "UploadPartCopy"):
        given["CopySource"] = _copy_source(given["CopySource"])
    if case.operation in _DIGESTED_KEYS:
        for prefix in ("SSECustomerKey", "CopySourceSSECustomerKey"):
            if prefix in given and f"{prefix}MD5" not in given:
                digest = hashlib.md5(given[prefix].encode(), usedforsecurity=False).digest()
                given[f"{prefix}MD5"] = base64.b64encode(digest).decode("ascii")
    return given


def _copy_source(source: str | Mapping[str, str]) -> str:
    if isinstance(source, str):
        version = _VERSION_SUFFIX.search(source)
        end = version.start() if version else len(source)
        return quote(source[:end], safe="-._~/") + source[end:]
    text = quote(f"{source['Bucket']}/{source['Key']}", safe="-._~/")
    return f"{text}?versionId={source['VersionId']}" if "VersionId" in source else text


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _members(
    operation: OperationModel, given: Mapping[str, Any], location: str | None
) -> Iterator[tuple[str, Shape, Any]]:
    """Yields wire name, shape and value of the given members in that place."""
    if operation.input_shape is None:
        return
    for name, value in given.items():
        shape = operation.input_shape.members[name]
        if shape.serialization.get("location") == location:
            yield shape.serialization.get("name", name), shape, value


def _query(operation: OperationModel, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    fixed = urlsplit(operation.http["requestUri"]).query
    yield from parse_qsl(fixed, keep_blank_values=True)
    for name, shape, value in _members(operation, given, "querystring"):
        values = value if shape.type_name == "list" else [value]
        for item in values:
            yield name, _text(shape, item, "iso8601")


def _headers(operation: OperationModel, given: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for prefix, _, value in _members(operation, given, "headers"):
        headers.update({prefix + name: text for name, text in value.items()})
    for name, shape, value in _members(operation, given, "header"):
        if shape.type_name != "list":
            headers[name] = _text(shape, value, "rfc822")
        elif value:
            headers[name] = ",".join(_quoted(item) for item in value)
    lowered = {name.lower(): text for name, text in headers.items()}
    return {
        name: HIDDEN if name == "x-amz-server-side-encryption-context" else text
        for name, text in lowered.items()
        if name.startswith("x-amz-") and name not in _HIDDEN_HEADERS
    }


def _quoted(item: str) -> str:
    if '"' not in item and "," not in item:
        return item
    return '"' + item.replace('"', '\\"') + '"'


def _text(shape: Shape, value: Any, time_format: str) -> str:
    """Returns a scalar in its wire form."""
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        in_header = shape.serialization.get("location") == "header"
        return _time(value, shape.serialization.get("timestampFormat", time_format), in_header)
    return str(value)


def _time(value: datetime, time_format: str, in_header: bool) -> str:
    moment = value.astimezone(UTC)
    if time_format == "rfc822":
        return format_datetime(moment.replace(microsecond=0), usegmt=True)
    if moment.microsecond and not in_header:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _body(operation: OperationModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the XML body under its root element's name, or nothing if there is none."""
    shape = operation.input_shape
    if shape is None:
        return {}
    payload = shape.serialization.get("payload")
    if payload is None:
        inside = {n: v for n, v in given.items() if "location" not in _traits(shape, n)}
        return {shape.serialization["name"]: _element(shape, inside)} if inside else {}
    root = shape.members[payload]
    if payload not in given or root.type_name in ("blob", "string"):
        return {}
    return {root.serialization.get("name", payload): _element(root, given[payload])}


def _traits(shape: StructureShape, member: str) -> Mapping[str, Any]:
    traits: Mapping[str, Any] = shape.members[member].serialization
    return traits


def _element(shape: Shape, value: Any) -> Any:
    """Returns the result of org.json's XML.toJSONObject for the element of that shape."""
    pairs = list(_namespace(shape))
    if isinstance(shape, StructureShape):
        pairs += _children(shape, value)
    elif isinstance(shape, ListShape):
        name = shape.member.serialization.get("name", "member")
        pairs += [(name, _element(shape.member, item)) for item in value]
    elif isinstance(shape, MapShape):
        sides = [{"key": _coerced(name), "value": _coerced(text)} for name, text in value.items()]
        pairs += [("entry", side) for side in sides]
    elif text := _text(shape, value, "iso8601"):
        return {**dict(pairs), "content": _coerced(text)} if pairs else _coerced(text)
    return _merged(pairs) if pairs else ""


def _namespace(shape: Shape) -> Iterator[tuple[str, Any]]:
    namespace = shape.serialization.get("xmlNamespace")
    if isinstance(namespace, str):
        yield "xmlns", namespace
    elif namespace:
        prefix = namespace.get("prefix")
        yield (f"xmlns:{prefix}" if prefix else "xmlns"), namespace["uri"]


def _children(shape: StructureShape, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for member, member_value in value.items():
        child = shape.members[member]
        name = child.serialization.get("name", member)
        if child.serialization.get("xmlAttribute"):
            yield name, member_value
        elif isinstance(child, ListShape) and child.serialization.get("flattened"):
            yield from ((name, _element(child.member, item)) for item in member_value)
        else:
            yield name, _element(child, member_value)


def _coerced(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) and text != "-0":
        return int(text)
    return text


def _merged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the pairs as an object; names that repeat get the list of their values."""
    known = list(pairs)
    times = Counter(name for name, _ in known)
    merged: dict[str, Any] = {}
    for name, value in known:
        if times[name] == 1:
            merged[name] = value
        else:
            merged.setdefault(name, []).append(value)
    return merged
