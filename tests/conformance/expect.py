"""Computes the expected record of a call from its parameters, its answer and the model.

Imports nothing of opentrail: this is the second opinion. The recorded form of a member follows
from its model and the tables of `tables`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from tests.conformance import tables
from tests.conformance.answers import ERROR_CODE, json_text, output_of
from tests.conformance.generate import Case, service_model
from tests.conformance.literals import without_literals

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_GONE: Any = object()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Unsent operations, with the reason; at most 40.
NOT_SENT = {
    ("bedrock-runtime", "InvokeModelWithBidirectionalStream"): "event stream in, HTTP/2 only",
    ("connecthealth", "StartMedicalScribeListeningSession"): "event stream in, HTTP/2 only",
    ("lexv2-runtime", "StartConversation"): "event stream in, HTTP/2 only",
    ("polly", "StartSpeechSynthesisStream"): "event stream in, HTTP/2 only",
    ("qbusiness", "Chat"): "event stream in, HTTP/2 only",
}
#: Calls with the same bytes as another service's: recorded as that service's, or in part.
NOT_TOLD_APART = {
    ("chime-sdk-voice", "BatchUpdatePhoneNumber"): "chime's, whose model shows the name",
    ("chime-sdk-voice", "CreatePhoneNumberOrder"): "chime's, whose model shows the name",
    ("chime-sdk-voice", "RestorePhoneNumber"): "chime's, whose model shows the name",
    ("chime-sdk-voice", "UpdatePhoneNumber"): "chime's, whose model shows the name",
    ("lex-models", "DeleteBot"): "lexv2-models names the same path's label botId",
    ("lex-models", "GetImport"): "lexv2-models' DescribeImport",
    ("lex-models", "StartImport"): "lexv2-models' ListImports",
    **{
        ("neptune", operation): "RDS's, whose model lacks the pending networkType"
        for operation in (
            *("CreateDBCluster", "DeleteDBCluster", "FailoverDBCluster", "ModifyDBCluster"),
            *("PromoteReadReplicaDBCluster", "RestoreDBClusterFromSnapshot"),
            *("RestoreDBClusterToPointInTime", "StartDBCluster", "StopDBCluster"),
        )
    },
}
#: Text payloads of answers, which opentrail never parses.
NOT_READ = {("dataexchange", "SendApiAsset"): "the answer is the asset's own body"}
EXCEPTED = NOT_SENT | NOT_TOLD_APART | NOT_READ
#: Members of EC2 that botocore rewrites: base64, presigned, the client's Region.
REWRITTEN = frozenset({"userData", "presignedUrl", "destinationRegion"})


@dataclass(frozen=True, slots=True)
class Expected:
    """The parts of the record that follow from the call. Hand-made forms are not predicted."""

    event_source: str
    event_name: str
    read_only: bool
    event_category: str
    api_version: str | None
    error_code: str | None
    request_parameters: dict[str, Any] | None
    response_elements: dict[str, Any] | None


def source_of(service: str) -> str:
    """Returns the part before `.amazonaws.com` in eventSource."""
    prefix = str(service_model(service).metadata["endpointPrefix"])
    return tables.EVENT_SOURCES.get(service, prefix.rpartition(".")[2])


def region_of(service: str, scope: list[str]) -> str:
    """Returns awsRegion: the Region of the signature; calls without signature name none."""
    if source_of(service) in tables.GLOBAL_SOURCES or not scope:
        return "us-east-1"
    return scope[1]


def is_read_only(source: str, operation: str) -> bool:
    """Returns the record's readOnly."""
    if tables.listed(tables.READ_ONLY, source, operation):
        return True
    if tables.listed(tables.NOT_READ_ONLY, source, operation):
        return False
    return operation.startswith(tables.READ_PREFIXES)


def expected(case: Case, scope: list[str]) -> Expected:
    """Returns the expected record of a case.

    Args:
        case: The call.
        scope: Date, Region and service of the signature; nothing without one.
    """
    service = tables.SAME_ON_THE_WIRE.get((case.service, case.operation), case.service)
    source = source_of(service)
    for signer in ("s3express", "s3-object-lambda", "s3-outposts"):
        if signer in scope:
            source = signer  # directory buckets, and access points of Object Lambda and outposts
    read_only = is_read_only(source, case.operation)
    is_data = tables.listed(tables.DATA_OPERATIONS, source, case.operation)
    output = output_of(case)
    shape = service_model(service).operation_model(case.operation).input_shape
    return Expected(
        event_source=f"{source}.amazonaws.com",
        event_name=tables.EVENT_NAMES.get(service, {}).get(case.operation, case.operation),
        read_only=read_only,
        event_category="Data" if is_data else "Management",
        api_version=tables.API_VERSIONS.get(case.service),
        error_code=_error_code(case) if output is None else None,
        request_parameters=renamed(
            case.service,
            case.operation,
            Recorded(service, case.protocol).request(shape, case.params),
        ),
        response_elements=_answer(case, source, read_only, output),
    )


def renamed(service: str, operation: str, shown: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns parameters with the records' members in place of the models'."""
    if shown and (service, operation) == ("dynamodb", "TransactWriteItems"):
        items = [
            {"operation": kind[0].upper() + kind[1:]} | item[kind] if len(item) == 1 else item
            for item in shown.get("transactItems", [])
            for kind in list(item)[:1] or [""]
        ]
        shown = {name: items if name == "transactItems" else one for name, one in shown.items()}
    shown = {**tables.DEFAULTS.get((service, operation), {}), **(shown or {})} or None
    names = tables.RENAMED.get((service, operation), {})
    return shown and {names.get(name, name): value for name, value in shown.items()}


def _error_code(case: Case) -> str:
    return f"Client.{ERROR_CODE}" if case.service == "ec2" else ERROR_CODE


def _answer(
    case: Case, source: str, read_only: bool, output: dict[str, Any] | None
) -> dict[str, Any] | None:
    if not output or tables.listed(tables.ANSWER_LEFT_OUT, source, case.operation):
        return None
    if read_only and not tables.listed(tables.ANSWER_KEPT, source, case.operation):
        return None
    shape = case.model.output_shape
    if shape.metadata.get("sensitive"):
        return None
    if case.service in tables.UNWRAPPED_ANSWERS and len(shape.members) == 1:
        ((name, member),) = shape.members.items()
        if isinstance(member, StructureShape):
            shape, output = member, output[name]
    return Recorded(case.service, case.protocol).answer(shape, output)


class Recorded:
    """Turns values of one service's shapes into their recorded form."""

    def __init__(self, service: str, protocol: str) -> None:
        self._service = service
        self._source = source_of(service)
        self._names: Mapping[tuple[str, str], str] = tables.MEMBER_NAMES
        self._is_query = protocol in ("query", "ec2")
        self._is_flat = protocol in ("query", "ec2", "rest-xml")
        self._dynamodb = service.startswith("dynamodb")

    def request(self, shape: Shape | None, value: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns requestParameters."""
        return None if shape is None else self._structure(shape, value) or None

    def answer(self, shape: Shape, value: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns responseElements."""
        self._names = {**tables.MEMBER_NAMES, **tables.ANSWER_NAMES}
        return self._structure(shape, value) or None

    def _name(self, member: str, shape: Shape, holder: str) -> str:
        if self._dynamodb and member == "Item" and _holds_attribute_values(shape):
            return "item" if holder == "PutItemInput" else "items"  # DynamoDB guide
        if self._service in tables.AS_MODELLED:
            return member
        return self._names.get((self._service, member), member[0].lower() + member[1:])

    def _structure(self, shape: Any, value: Mapping[str, Any]) -> dict[str, Any]:
        shown = {}
        for member, item in value.items():
            member_shape = shape.members[member]
            if self._is_unsent(member_shape, item) or _is_body(shape, member):
                continue
            name = self._name(member, member_shape, shape.name)
            result = self._member(member, name, member_shape, item, shape.name)
            if result is not _GONE:
                shown[name] = result
        return shown

    def _is_unsent(self, shape: Shape, value: Any) -> bool:
        """Returns whether the protocol cannot send an empty value."""
        if isinstance(shape, StructureShape | MapShape):
            return self._is_query and not value
        flattened = isinstance(shape, ListShape) and shape.serialization.get("flattened")
        return bool(self._is_flat and flattened and not value)

    def _member(self, member: str, name: str, shape: Shape, value: Any, holder: str) -> Any:
        if any(tables.listed(tables.REMOVED, self._source, n) for n in (name, f"{holder}.{name}")):
            return _GONE
        if tables.listed(tables.STATEMENTS, self._source, name):
            return without_literals(value)
        for mark, table in tables.MARKED.items():
            if tables.listed(table, self._source, name):
                return mark
        for listed in (name, f"{holder}.{name}"):
            if tables.listed(tables.HIDDEN_NAMES, self._source, listed):
                return HIDDEN
        if tables.listed(tables.SHOWN_NAMES, self._source, name):
            return self._value(shape, value)
        return self._unlisted(member, f"{holder}.{name}", shape, value)

    def _unlisted(self, member: str, full_name: str, shape: Shape, value: Any) -> Any:
        """Returns the visible part of a member that no table hides."""
        if shape.metadata.get("sensitive") or (tables.names_secret(member) and _holds_text(shape)):
            return HIDDEN
        for listed in (full_name, full_name.partition(".")[2]):
            is_named = tables.listed(tables.NAMED_VALUES, self._source, listed)
            if is_named and (isinstance(value, dict) or _pair(shape) is not None):
                return self._named_values(shape, value)
        if tables.ENVIRONMENTS.fullmatch(member) and _pair(shape) is not None:
            return self._named_values(shape, value)
        return self._value(shape, value)

    def _named_values(self, shape: Any, value: Any) -> Any:
        """Returns the names of values, such as environment variables."""
        if isinstance(value, dict):
            return dict.fromkeys(value, HIDDEN)
        assert _pair(shape) is not None
        return [
            self._value(
                shape.member,
                {
                    name: HIDDEN
                    if name.endswith(("value", "Value")) and one not in (True, False)
                    else one
                    for name, one in item.items()
                },
            )
            for item in value
        ]

    def _value(self, shape: Any, value: Any, in_key: bool = False) -> Any:
        sensitive_key = isinstance(shape, MapShape) and shape.key.metadata.get("sensitive")
        if shape.metadata.get("sensitive") or sensitive_key:
            return HIDDEN
        if getattr(shape, "is_document_type", False):
            return value
        if self._dynamodb and (special := _attribute_values(shape, value, in_key)) is not None:
            return special
        match shape:
            case StructureShape():
                return self._structure(shape, value)
            case ListShape():
                items = [self._value(shape.member, item) for item in value]
                return [item for item in items if item is not _GONE]
            case MapShape():
                in_key = in_key or shape.name == "Key"
                pairs = {k: self._value(shape.value, v, in_key) for k, v in value.items()}
                return {k: v for k, v in pairs.items() if v is not _GONE}
        if shape.serialization.get("jsonvalue"):
            return json_text(value) if isinstance(value, dict) else value
        if shape.type_name == "timestamp":
            return self._timestamp(value)
        return _GONE if shape.type_name == "blob" else value

    def _timestamp(self, value: datetime) -> str | int:
        moment = value.astimezone(UTC)
        if self._service == "ec2":
            return int(moment.timestamp() * 1000)
        if self._service in tables.ISO_TIMES:
            return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        comma = "" if self._service in tables.WITHOUT_SECOND_COMMA else ","
        half = "AM" if moment.hour < 12 else "PM"
        date = f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
        return f"{date}{comma} {moment.hour % 12 or 12}:{moment:%M:%S} {half}"


def _is_body(shape: Any, member: str) -> bool:
    """Returns whether a member is a whole body, never recorded (cloudtrail-format §4.1)."""
    is_payload = shape.serialization.get("payload") == member
    return bool(is_payload and shape.members[member].type_name == "blob")


def _holds_text(shape: Any) -> bool:
    """Returns whether a shape is a string or bytes, or lists and maps of them."""
    if isinstance(shape, ListShape):
        return _holds_text(shape.member)
    if isinstance(shape, MapShape):
        return _holds_text(shape.value)
    return shape.type_name in ("string", "blob") and "enum" not in shape.metadata


def _pair(shape: Any) -> str | None:
    """Returns the member of a list's items with a named value, "" for a map of strings."""
    if isinstance(shape, MapShape):
        return "" if _holds_text(shape.value) else None
    if not isinstance(shape, ListShape) or not isinstance(shape.member, StructureShape):
        return None
    members = shape.member.members
    return next((v for n, v in tables.PAIRS if n in members and v in members), None)


def _holds_attribute_values(shape: Any) -> bool:
    return bool(isinstance(shape, MapShape) and shape.value.name == "AttributeValue")


def _attribute_values(shape: Any, value: Any, in_key: bool) -> Any:
    """Returns the recorded form of DynamoDB's data: only names, keys without their types."""
    if shape.name == "AttributeValue":
        if not in_key:
            return HIDDEN
        ((_, inner),) = value.items()
        return base64.b64encode(inner).decode() if isinstance(inner, bytes) else inner
    if isinstance(shape, ListShape) and shape.member.name == "AttributeValue":
        return HIDDEN
    if _holds_attribute_values(shape) and shape.name != "Key":
        return list(value)
    return None


def leaves(value: Any) -> Iterator[str]:
    """Yields the scalars in a recorded value, as text."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, bool):
        yield str(value).lower()
    elif value is not None:
        yield str(value)
