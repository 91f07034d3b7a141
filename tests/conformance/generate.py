"""Generates values for any operation of any service from its botocore model.

Nothing here is random: the same case has the same parameters in every run. Both requests and
answers are made by `Builder`, which leaves out values that a protocol cannot carry.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

VARIANTS = ("minimal", "full", "awkward")
REGIONS = ("eu-central-1", "us-east-1", "ap-southeast-2", "us-west-2")
PROTOCOLS = ("json", "query", "ec2", "rest-json", "rest-xml", "smithy-rpc-v2-cbor")

#: Below this depth, and once so many scalars are made, only required members are generated.
_DEPTH_LIMIT = 6
_MAX_SCALARS = 150
#: Required members that contain themselves end here.
_MAX_DEPTH = 14
ABSENT: Any = object()
_KOLKATA = timezone(timedelta(hours=5, minutes=30))

_TEXTS = (
    "caf\u00e9 \u65e5\u672c \U0001f600",
    "a+b c",
    "%2Fencoded%20%2B",
    "",
    "a//b/../c/./d",
    "x&y=z;w?q#f",
    'quote" and \'single\' <tag attr="v">&amp;',
    "true",
    " leading and trailing ",
    "007",
    "-42",
    "1e5",
    "9223372036854775807",
    "null",
    "line\nbreak\tand tab",
    '{"json": [1, true, null]}',
    "a,b;c|d\\e",
    "e\u0301\u200bzero width",
    "=",
)
_HEADER_TEXTS = ('say "hello"', "a=b&c=d", "a+b c%2F%20", "semi;colon:slash/../", "123", "true")
_LABEL_TEXTS = (
    "caf\u00e9 \u65e5\u672c",
    "a+b c",
    "%2Fx%20",
    "x&y=z?q#f",
    "a/b:c",
    "q\"'<>",
    "~!*()@$,",
)
_MAP_KEYS = ("UPPER Case", "lower", "caf\u00e9.\u65e5\u672c", "a=b&c/d", "X", "x")
_TIMES = (
    datetime(2024, 2, 29, 0, 0, 0, tzinfo=UTC),
    datetime(2023, 12, 1, 23, 59, 59, tzinfo=UTC),
    datetime(2025, 1, 1, 3, 4, 5, tzinfo=_KOLKATA),
    datetime(1999, 5, 2, 12, 30, 5, tzinfo=UTC),
)
_TIME = datetime(2023, 7, 10, 12, 9, 47, tzinfo=UTC)
_INTEGERS = (0, -1, 2**31 - 1, -(2**31))
_LONGS = (2**53 + 1, -(2**53) - 1, 2**63 - 1, 0)
#: Four bytes hold all but the last, which only doubles get.
_FLOATS = (-0.25, 12345.5, 1e-7)
_ATTRIBUTE_VALUES: tuple[dict[str, Any], ...] = (
    {"S": "text"},
    {"N": "-1.5e10"},
    {"B": b"\x00\xff"},
    {"SS": ["a", "b"]},
    {"M": {"deep": {"L": [{"S": "s"}, {"NULL": True}]}}},
    {"BOOL": False},
)
_DOCUMENT = {"DocumentKey": ["one", 2, {"Deep": True, "camelCase": 1.5}], "text": "plain"}

#: Members that botocore itself checks, rewrites or follows: values that it accepts unchanged.
_MEMBER_VALUES: dict[tuple[str, str], Any] = {
    ("s3control", "AccountId"): "123456789012",
    ("s3control", "Bucket"): "my-bucket",
    ("s3control", "OutpostId"): "op-01ac5d28a6a232904",
    ("machinelearning", "PredictEndpoint"): "http://localhost/predict",
    ("cloudfront-keyvaluestore", "KvsARN"): (
        "arn:aws:cloudfront::123456789012:key-value-store/0a1b2c3d-1111-2222-3333-444455556666"
    ),
    # Replaced by a presigned URL.
    ("rds", "SourceRegion"): ABSENT,
    ("docdb", "SourceRegion"): ABSENT,
    ("neptune", "SourceRegion"): ABSENT,
    ("neptune-graph", "graphIdentifier"): "g-0123456789",
    # Needs SigV4A, which needs the awscrt package.
    ("events", "EndpointId"): ABSENT,
    ("sesv2", "EndpointId"): ABSENT,
}
#: Headers that botocore or http.client fill in if they are missing.
_FILLED_HEADERS = frozenset({"accept", "accept-encoding", "content-type", "x-amz-sha256-tree-hash"})
#: Without them botocore's request is another service's: the bucket of an Outpost.
_ALWAYS_GIVEN = frozenset({("s3control", "OutpostId")})
#: Route 53's ids: botocore drops all up to the last slash.
_ROUTE53_IDS = frozenset({"ResourceId", "DelegationSetId", "ChangeId"})


@dataclass(frozen=True, slots=True)
class Case:
    """One call, in one of its service's protocols."""

    service: str
    protocol: str
    operation: str
    variant: str
    region: str
    number: int
    params: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def user_agent(self) -> str:
        """Returns the user agent that marks the call."""
        return f"opentrail-conformance/{self.number}"

    @property
    def model(self) -> OperationModel:
        """Returns the operation's model."""
        return service_model(self.service).operation_model(self.operation)

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}/{self.protocol}/{self.variant}"


#: Shared with the clients that send: every model is read once.
LOADER = Loader()


@cache
def service_model(service: str) -> ServiceModel:
    """Returns a service's model."""
    return ServiceModel(LOADER.load_service_model(service, "service-2"), service)


@cache
def services() -> tuple[str, ...]:
    """Returns every service with a botocore model."""
    return tuple(LOADER.list_available_services("service-2"))


def protocols_of(service: str) -> tuple[str, ...]:
    """Returns every protocol of a service that botocore can send."""
    metadata = service_model(service).metadata
    listed = metadata.get("protocols") or [metadata["protocol"]]
    return tuple(name for name in listed if name in PROTOCOLS)


def region_of(service: str) -> str:
    """Returns one Region for calls of a service, for clients are slow to make."""
    return REGIONS[services().index(service) % len(REGIONS)]


def sampled(service: str, count: int) -> list[str]:
    """Returns this number of operations of a service, the same in every run."""
    names = service_model(service).operation_names
    return sorted(names, key=lambda name: zlib.crc32(name.encode()))[:count]


def cases(service: str, operations: Sequence[str] | None = None) -> Iterator[Case]:
    """Yields a service's cases: every operation, protocol and variant; numbers are lasting."""
    model = service_model(service)
    names = sorted(model.operation_names)
    first = services().index(service) * 100_000
    for index, operation in enumerate(names):
        if operations is not None and operation not in operations:
            continue
        number = first + index * 20
        for protocol in protocols_of(service):
            for variant in VARIANTS:
                params = parameters(model.operation_model(operation), protocol, variant)
                region = region_of(service)
                yield Case(service, protocol, operation, variant, region, number, params)
                number += 1


@cache
def _s3_parameters() -> dict[tuple[str, str], dict[str, Any]]:
    from tests.conformance.five_services.generate import cases as s3_cases  # imports this module

    return {(case.operation, case.variant): case.params for case in s3_cases("s3")}


def parameters(operation: OperationModel, protocol: str, variant: str) -> dict[str, Any]:
    """Returns the parameters of one call."""
    if operation.service_model.service_name == "s3":
        return _s3_parameters()[operation.name, variant]
    if operation.input_shape is None:
        return {}
    seed = f"{operation.service_model.service_name}.{operation.name}.{variant}"
    builder = Builder(operation, protocol, variant, seed)
    return builder.structure(operation.input_shape)


class Builder:
    """Makes the values of one call's request, or of its answer."""

    def __init__(self, operation: OperationModel, protocol: str, variant: str, seed: str) -> None:
        self._service = operation.service_model.service_name
        self._tokens = operation.idempotent_members
        self._protocol = protocol
        self._variant = variant
        self._turn = zlib.crc32(seed.encode())
        self._left = _MAX_SCALARS

    def _pick(self, choices: Sequence[Any]) -> Any:
        self._turn = (self._turn * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        return choices[(self._turn >> 8) % len(choices)]

    def structure(
        self, shape: StructureShape, path: tuple[str, ...] = (), index: int = 0
    ) -> dict[str, Any]:
        """Returns members of a structure by name."""
        made: dict[str, Any] = {}
        for name in self._members(shape, path, index):
            value = self._member(name, shape, path)
            if value is not ABSENT:
                made[name] = value
        return made

    def _members(self, shape: StructureShape, path: tuple[str, ...], index: int) -> list[str]:
        names = list(shape.members)
        if shape.is_tagged_union and names:
            return [names[index % len(names)]]
        deep = len(path) >= _DEPTH_LIMIT or shape.name in path or self._left <= 0
        if self._variant == "minimal" or deep:
            return [n for n in names if self._is_always_given(shape, n, path)]
        return names

    def _is_always_given(self, shape: StructureShape, name: str, path: tuple[str, ...]) -> bool:
        """Returns whether a member is required, or is always on the wire."""
        if name in shape.required_members or (self._service, name) in _ALWAYS_GIVEN:
            return True
        traits = shape.members[name].serialization
        # Without its payload a request has the same body as with an empty one.
        filled = name in self._tokens or shape.serialization.get("payload") == name
        return not path and (filled or traits.get("name", "").lower() in _FILLED_HEADERS)

    def _member(self, name: str, parent: StructureShape, path: tuple[str, ...]) -> Any:
        given = _MEMBER_VALUES.get((self._service, name), _NOT_GIVEN)
        if given is not _NOT_GIVEN:
            return given
        shape = parent.members[name]
        required = name in parent.required_members
        place = shape.serialization.get("location")
        if place == "statusCode" or shape.serialization.get("name") == "Content-Length":
            return ABSENT
        value = self._value(name, shape, (*path, parent.name), required or place is not None)
        return ABSENT if self._is_unsent(value) else value

    def _is_unsent(self, value: Any) -> bool:
        """Returns whether the query protocols cannot send a value."""
        return self._protocol in ("query", "ec2") and value == {}

    def _value(
        self, name: str, shape: Shape, path: tuple[str, ...], required: bool, index: int = 0
    ) -> Any:
        if getattr(shape, "is_document_type", False):
            return dict(_DOCUMENT)
        if shape.name == "AttributeValue" and self._service.startswith("dynamodb"):
            in_key = "Key" in path
            return dict(self._pick(_ATTRIBUTE_VALUES[:3] if in_key else _ATTRIBUTE_VALUES))
        match shape:
            case StructureShape():
                if getattr(shape, "is_eventstream", False) or shape.metadata.get("eventstream"):
                    return ABSENT
                return self.structure(shape, path, index)
            case ListShape():
                size = self._size(shape, shape.member, required, path)
                deeper = (*path, shape.name)
                made = [self._value(name, shape.member, deeper, True, i) for i in range(size)]
                return [i for i in made if i is not ABSENT and not self._is_unsent(i)]
            case MapShape():
                return self._map(name, shape, path, required)
        self._left -= 1
        return self._scalar(name, shape, required)

    def _size(self, shape: Shape, element: Shape, required: bool, path: tuple[str, ...]) -> int:
        if shape.name in path or len(path) > _MAX_DEPTH:
            return 0
        least = max(int(shape.metadata.get("min", 0)), 1 if required else 0)
        if self._variant == "minimal" or self._left <= 0:
            return least
        many = 2
        if isinstance(element, StructureShape) and element.is_tagged_union:
            many = min(len(element.members), 8)
        if self._variant == "awkward":
            many = int(self._pick((0, 1, 3)))
        return max(least, many)

    def _map(
        self, name: str, shape: MapShape, path: tuple[str, ...], required: bool
    ) -> dict[str, Any]:
        in_head = shape.serialization.get("location") is not None
        enum = shape.key.metadata.get("enum", [])
        awkward = self._variant == "awkward" and not in_head
        # names of headers are not told apart by case
        pool = (
            list(_MAP_KEYS)
            if awkward
            else [*enum, *(("key-one", "key-two") if in_head else ("KeyOne", "keyTwo"))]
        )
        size = self._size(shape, shape.value, required, path)
        deeper = (*path, shape.name)
        keys = [stretched(key, shape.key) for key in pool][:size]
        made = {key: self._value(name, shape.value, deeper, True) for key in keys}
        return {key: value for key, value in made.items() if value is not ABSENT}

    def _scalar(self, name: str, shape: Shape, required: bool) -> Any:
        awkward = self._variant == "awkward"
        match shape.type_name:
            case "string":
                return self._string(name, shape, required)
            case "integer":
                return _bounded(self._pick(_INTEGERS) if awkward else 7, shape)
            case "long":
                return _bounded(self._pick(_LONGS) if awkward else 10_000_000_000, shape)
            case "float":
                return self._pick(_FLOATS[:2]) if awkward else 70.5
            case "double":
                return self._pick(_FLOATS) if awkward else 70.5
            case "boolean":
                return self._pick((True, False)) if awkward else True
            case "timestamp":
                return self._pick(_TIMES) if awkward else _TIME
            case "blob":
                return b"binary \x00\xff " + self._variant.encode()
        raise NotImplementedError(f"type {shape.type_name!r} of {name!r}")

    def _string(self, name: str, shape: Shape, required: bool) -> Any:
        place = shape.serialization.get("location")
        if shape.serialization.get("jsonvalue") and place == "header":
            return {"key": f"{name} value", "number": 1}
        if enum := shape.metadata.get("enum"):
            return str(self._pick(enum))
        if self._variant != "awkward" or (
            self._service == "route53" and shape.name in _ROUTE53_IDS
        ):
            return stretched(f"{name}-{self._variant}", shape)
        pool = {"header": _HEADER_TEXTS, "uri": _LABEL_TEXTS}.get(place or "", _TEXTS)
        text = self._pick(pool)
        if not text and required:
            text = "a=b&c+d %2F"
        return stretched(text, shape)


_NOT_GIVEN: Any = object()


def stretched(text: str, shape: Shape) -> str:
    """Returns the text made long enough for the shape, or cut to its maximum length."""
    least = int(shape.metadata.get("min", 0))
    most = int(shape.metadata.get("max", 1024))
    return (text + "x" * max(0, min(least, 5_000) - len(text)))[: max(least, most)]


def _bounded(number: int, shape: Shape) -> int:
    least = int(shape.metadata.get("min", number))
    return max(least, min(number, int(shape.metadata.get("max", number))))
