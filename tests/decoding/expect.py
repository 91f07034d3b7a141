"""Computes the record parts a case must give, from its parameters and the botocore model.

Imports nothing of opentrail: this is the other opinion in the conformance test. S3, whose
parameters follow the wire instead of the model's member names, is in `expect_s3`.
"""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from tests.decoding import expect_s3
from tests.decoding.generate import Case, service_model
from tests.decoding.literals import without_literals

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"

_GONE: Any = object()

_REMOVED = frozenset(
    {
        "password",
        "oldPassword",
        "newPassword",
        "secretAccessKey",
        "privateKey",
        "webIdentityToken",
        "sAMLAssertion",
        "base32StringSeed",
        "qRCodePNG",
    }
)
_ACCOUNT_SECRETS = frozenset(
    {
        "tokenCode",
        "authenticationCode1",
        "authenticationCode2",
        "sessionToken",
        "addPrivateKey",
        "tradeInToken",
    }
)
_MESSAGE_SECRETS = frozenset({"messageBody", "messageAttributes", "messageSystemAttributes"})
_HIDDEN_NAMES = {
    "iam": _ACCOUNT_SECRETS,
    "sts": _ACCOUNT_SECRETS | {"contextAssertion"},
    "sqs": _MESSAGE_SECRETS,
}
_NAMES = {
    ("sqs", "AWSAccountIds"): "AWSAccountIds",
    ("dynamodb", "Item"): "items",
}
_UNSIGNED = frozenset({"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_READ_PREFIXES = (
    "Get",
    "List",
    "Describe",
    "Head",
    "Lookup",
    "BatchGet",
    "Search",
    "Query",
    "Scan",
    "Select",
)
_READ_ONLY = {
    ("sts", "AssumeRole"): True,
    ("sts", "AssumeRoleWithSAML"): True,
    ("sts", "AssumeRoleWithWebIdentity"): True,
    ("sts", "AssumeRoot"): True,
    ("sts", "DecodeAuthorizationMessage"): True,
    ("sts", "GetFederationToken"): False,
    ("dynamodb", "TransactGetItems"): True,
}
_DATA_OPERATIONS = {
    "s3": expect_s3.DATA_OPERATIONS,
    "dynamodb": frozenset(
        {
            "BatchExecuteStatement",
            "BatchGetItem",
            "BatchWriteItem",
            "DeleteItem",
            "ExecuteStatement",
            "ExecuteTransaction",
            "GetItem",
            "PutItem",
            "Query",
            "Scan",
            "TransactGetItems",
            "TransactWriteItems",
            "UpdateItem",
        }
    ),
    "sqs": frozenset(
        {
            "SendMessage",
            "SendMessageBatch",
            "ReceiveMessage",
            "DeleteMessage",
            "DeleteMessageBatch",
            "ChangeMessageVisibility",
            "ChangeMessageVisibilityBatch",
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """The parts of the record that follow from the request alone."""

    event_source: str
    event_name: str
    aws_region: str
    request_parameters: dict[str, Any] | None
    read_only: bool
    event_category: str


def _source(case: Case) -> str:
    """Calls to directory buckets and to Object Lambda are signed for services of their own."""
    signed = {"ListDirectoryBuckets": "s3express", "WriteGetObjectResponse": "s3-object-lambda"}
    return f"{signed.get(case.operation, case.service)}.amazonaws.com"


def expected(case: Case, host: str = "localhost") -> Expected:
    """Returns what the case must be recorded as.

    Args:
        case: The call.
        host: The Host header of the call, `host:port` of the endpoint; only S3 records it.
    """
    name = case.operation
    if case.service == "s3":
        parameters = expect_s3.parameters(case, host)
        name = expect_s3.EVENT_NAMES.get(name, name)
    else:
        parameters = _Parameters(case.service).of(case)
    is_data = case.operation in _DATA_OPERATIONS.get(case.service, ())
    return Expected(
        event_source=_source(case),
        event_name=name,
        aws_region=_region(case),
        request_parameters=parameters or None,
        read_only=_is_read_only(case.service, case.operation),
        event_category="Data" if is_data else "Management",
    )


def comparable(parameters: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Returns the parameters without the checksum headers that botocore adds by itself.

    botocore 1.44 adds `x-amz-checksum-<algorithm>` (and `x-amz-sdk-checksum-algorithm`) to S3
    operations that require a checksum or name an algorithm; their values depend on the exact
    bytes it serialised, so they are not predicted.

    Args:
        parameters: `requestParameters` of the record made.
        given: Names to keep although they look so: pass the expected parameters.
    """
    return {
        name: value
        for name, value in parameters.items()
        if name in given or not _is_checksum_header(name)
    }


def _is_checksum_header(name: str) -> bool:
    return name.startswith("x-amz-checksum-") or name == "x-amz-sdk-checksum-algorithm"


def _region(case: Case) -> str:
    if case.service == "iam" or (case.service == "sts" and case.operation in _UNSIGNED):
        return "us-east-1"
    return case.region


def _is_read_only(service: str, operation: str) -> bool:
    if service == "iam" and operation.startswith("Simulate"):
        return True
    return _READ_ONLY.get((service, operation), operation.startswith(_READ_PREFIXES))


class _Parameters:
    """Turns parameters into their recorded form for the JSON and query protocols."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._is_query = service_model(service).metadata["protocol"] == "query"

    def of(self, case: Case) -> dict[str, Any]:
        shape = service_model(case.service).operation_model(case.operation).input_shape
        return {} if shape is None else self._structure(shape, case.params)

    def _structure(self, shape: StructureShape, value: Mapping[str, Any]) -> dict[str, Any]:
        shown = {}
        for member, member_value in value.items():
            name = _NAMES.get((self._service, member), member[0].lower() + member[1:])
            member_shape = shape.members[member]
            if self._is_unsent(member_shape, member_value):
                continue
            result = self._member(name, member_shape, member_value)
            if result is not _GONE:
                shown[name] = result
        return shown

    def _is_unsent(self, shape: Shape, value: Any) -> bool:
        """Tells whether the query protocol has no way to send the value."""
        return self._is_query and isinstance(shape, StructureShape | MapShape) and not value

    def _member(self, name: str, shape: Shape, value: Any) -> Any:
        if self._service in ("iam", "sts") and name in _REMOVED:
            return _GONE
        if name in _HIDDEN_NAMES.get(self._service, ()):
            return HIDDEN
        if shape.metadata.get("sensitive"):
            return HIDDEN
        if self._service == "dynamodb" and name == "statement":
            return without_literals(value)
        element = shape.member if isinstance(shape, ListShape) else shape
        if _is_attribute_value(element):
            return HIDDEN
        return self._value(shape, value)

    def _value(self, shape: Shape, value: Any) -> Any:
        match shape:
            case StructureShape():
                return self._structure(shape, value)
            case ListShape():
                items = [self._value(shape.member, item) for item in value]
                return [item for item in items if item is not _GONE]
            case MapShape():
                return self._map(shape, value)
        if shape.type_name == "timestamp":
            return self._timestamp(value)
        return _GONE if shape.type_name == "blob" else value

    def _map(self, shape: MapShape, value: Mapping[str, Any]) -> Any:
        if _is_attribute_value(shape.value):
            if shape.name == "Key":
                return {name: _unwrapped(item) for name, item in value.items()}
            return sorted(value)
        items = {name: self._value(shape.value, item) for name, item in value.items()}
        return {name: item for name, item in items.items() if item is not _GONE}

    def _timestamp(self, value: datetime) -> str:
        moment = value.astimezone(UTC)
        comma = "" if self._service == "iam" else ","
        half = "AM" if moment.hour < 12 else "PM"
        date = f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
        return f"{date}{comma} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


def _is_attribute_value(shape: Shape) -> bool:
    return bool(shape.name == "AttributeValue")


def _unwrapped(attribute: Mapping[str, Any]) -> Any:
    """Returns a key attribute's scalar, `{"S": "x"}` as `"x"`; binary as base64 text."""
    ((_, value),) = attribute.items()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
