"""Generates requests for every operation of a service from its botocore model.

Nothing here is random: the same case has the same parameters in every run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from tests.conformance.generate import ABSENT, Builder, service_model, stretched

SERVICES = ("iam", "sts", "s3", "sqs", "dynamodb")
#: Two rotations of the same awkward values, so that each list is empty here and long there.
VARIANTS = ("minimal", "full", "awkward", "awkward-again")
REGIONS = ("us-east-1", "eu-central-1", "ap-southeast-2")

#: Below this depth only required members are generated.
_DEPTH_LIMIT = 9
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
    "123456",
    "-0",
    "-42",
    "1.50",
    "1e5",
    "9223372036854775807",
    "null",
    "False",
    "line\nbreak\tand tab",
    '{"json": [1, true, null]}',
    "[1]",
    "a,b;c|d\\e",
    "e\u0301\u200bzero width",
    "=",
    "x" * 600,
)
_HEADER_TEXTS = (
    'say "hello", twice',
    "a=b&c=d",
    "a+b c%2F%20",
    "",
    "semi;colon:slash/../",
    "caf\u00e9 \u65e5\u672c",
    'it\'s {"json": 1}',
    "123",
    "true",
    "v" * 300,
)
#: An odd number of them, so that the variants of successive operations meet every one.
_OBJECT_KEYS = (
    "caf\u00e9/\u65e5\u672c \U0001f600.txt",
    "a+b c",
    "%2Fx%20y%25",
    "a//b",
    "/leading",
    "trailing/",
    "up/../x/./..",  # as far up as S3 accepts
    "x&y=z?acl#f",
    "quote\"'<>",
    "~tilde!*()",
    ";p;a,b:@$",
    "a/..",
    ".",
    "2015-03-31/functions/f/invocations",
    "v20180820/configuration/c",
    "back\\slash^`{|}",
    "line\nbreak",
    "/",
    "k" * 1024,
)
_TIMES = (
    datetime(2024, 2, 29, 0, 0, 0, tzinfo=UTC),
    datetime(2023, 12, 1, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2025, 1, 1, 3, 4, 5, 123456, tzinfo=_KOLKATA),
    datetime(1999, 5, 2, 12, 30, 5, tzinfo=UTC),
    datetime(2038, 11, 10, 13, 0, 9, tzinfo=_KOLKATA),
)
#: Attribute values that cannot be part of a primary key.
_OTHER_ATTRIBUTES: tuple[dict[str, Any], ...] = (
    {"SS": ["a", "b"]},
    {"NS": ["1", "2.5"]},
    {"BS": [b"\xfe", b""]},
    {"M": {"deep": {"L": [{"S": "s"}, {"NULL": True}, {"B": b"\x01"}]}}},
    {"BOOL": False},
    {"NULL": True},
    {"L": []},
    {"M": {}},
)
_BODIES = {
    "minimal": b"hello",
    "full": b"binary \x00\xff body",
    "awkward": b"Action=CreateUser&Version=2010-05-08&UserName=mallory",
}
_POLICY = '{"Version": "2012-10-17", "Statement": []}'
_WIDE_POLICY = (
    '{"Version": "2012-10-17", "Id": "caf\u00e9 \u65e5\u672c",\n "Statement": [{"Sid": "1", '
    '"Effect": "Deny", "Principal": {"AWS": ["*"]}, "Action": "s3:*", "Resource": "*", '
    '"Condition": {"Bool": {"aws:SecureTransport": false}, "NumericLessThan": '
    '{"s3:max-keys": 10, "x": 1.5}, "Null": {"y": null}}}]}'
)

#: S3 members that botocore checks or rewrites: values for (minimal, full, awkward).
_S3_VALUES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "Bucket": (
        ("my-bucket",),
        ("logs.example.bucket",),
        ("legacy_bucket.with-dots", "abc", "UPPER-Legacy-Bucket", "b" * 63),
    ),
    "Key": (("key.txt",), ("folder/sub folder/key.txt",)),
    "CopySource": (
        ("source-bucket/source-key",),
        ({"Bucket": "source-bucket", "Key": "a b/c+d", "VersionId": "v1"},),
        (
            "source-bucket/caf\u00e9 a+b%2F/key?versionId=abc.DEF",
            {"Bucket": "source-bucket", "Key": "\u65e5 %&=?//..", "VersionId": "null"},
            {"Bucket": "source-bucket", "Key": "plain?versionId"},
        ),
    ),
    "RenameSource": (("/my-bucket/old",), ("/my-bucket/old%20name",), ("/b/a+b//%2F..",)),
    "RequestRoute": (("route-1",), ("io-route.2",), ("route-3",)),
    "ChecksumAlgorithm": (("CRC32",), ("SHA256",), ("SHA1", "SHA256", "CRC32", "SHA512")),
    "ChecksumMode": (("ENABLED",), ("ENABLED",), ("ENABLED",)),
    "ContentMD5": (("XUFAKrxLKna5cZ2REBfFkg==",),) * 3,
    "ContentType": (
        ("text/plain",),
        ("text/plain; charset=utf-8",),
        ("application/x-www-form-urlencoded", "application/x-amz-json-1.0"),
    ),
    "ContentEncoding": (("identity",), ("gzip",), ("gzip",)),
    "SSECustomerKey": (("0123456789abcdef0123456789abcdef",),) * 3,
    "SSECustomerKeyMD5": (("bWQ1",), ("bWQ1",), (ABSENT,)),
    "CopySourceSSECustomerKey": (("fedcba9876543210fedcba9876543210",),) * 3,
    "CopySourceSSECustomerKeyMD5": (("bWQ1",), ("bWQ1",), (ABSENT,)),
    "Policy": ((_POLICY,), (_WIDE_POLICY,), ('not json {"Statement": [',)),
    "Metadata": (
        ({},),
        ({"owner": "team-a", "Mixed-Case": "Value"},),
        ({"with.dot": "a b", "UPPER_case": 'q"=&,', "empty": ""},),
    ),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One call: which operation, where, and with which parameters."""

    service: str
    operation: str
    variant: str
    region: str
    params: dict[str, Any]
    number: int = 0

    @property
    def user_agent(self) -> str:
        """Returns the user agent that marks the call; unique over all services."""
        return f"opentrail-case/{self.number}"

    def __str__(self) -> str:
        return f"{self.service}-{self.operation}-{self.variant}"


def cases(service: str) -> Iterator[Case]:
    """Yields one case per operation and variant, always in the same order and number."""
    model = service_model(service)
    number = 10_000 * (SERVICES.index(service) + 1)
    for operation in sorted(model.operation_names):
        for variant in VARIANTS:
            builder = _Builder(model.operation_model(operation), variant, number)
            region = REGIONS[number % len(REGIONS)]
            yield Case(service, operation, variant, region, builder.parameters(), number)
            number += 1


class _Builder(Builder):
    """Makes the parameters of one case."""

    def __init__(self, operation: OperationModel, variant: str, number: int) -> None:
        seed = f"{operation.service_model.service_name}.{operation.name}.{variant}"
        super().__init__(operation, "", variant.removesuffix("-again"), seed)
        self._input = operation.input_shape
        self._number = number

    def parameters(self) -> dict[str, Any]:
        return {} if self._input is None else self.structure(self._input)

    def _members(self, shape: StructureShape, path: tuple[str, ...], index: int) -> list[str]:
        names = list(shape.members)
        if shape.is_tagged_union:
            return [names[index % len(names)]]
        if self._variant == "minimal" or len(path) >= _DEPTH_LIMIT or shape.name in path:
            # botocore fills in absent idempotency tokens with random values.
            tokens = self._tokens if not path else []
            return [n for n in names if n in shape.required_members or n in tokens]
        return names

    def _member(self, name: str, parent: StructureShape, path: tuple[str, ...]) -> Any:
        if self._service == "s3" and not path:
            if name == "Key" and self._variant == "awkward":
                return _OBJECT_KEYS[self._number % len(_OBJECT_KEYS)]
            if name in _S3_VALUES:
                return self._pick(_S3_VALUES[name][VARIANTS.index(self._variant)])
            if name == "ContentLength":
                return len(_BODIES[self._variant])
        required = name in parent.required_members
        return self._value(name, parent.members[name], (*path, parent.name), required)

    def _value(
        self, name: str, shape: Shape, path: tuple[str, ...], required: bool, index: int = 0
    ) -> Any:
        if shape.name == "AttributeValue":
            return self._attribute_value(in_key="Key" in path)
        return super()._value(name, shape, path, required, index)

    def _size(self, shape: Shape, element: Shape, required: bool, path: tuple[str, ...]) -> int:
        least = max(int(shape.metadata.get("min", 0)), 1 if required else 0)
        if self._variant == "minimal":
            return max(least, 1)
        if self._variant == "full":
            if isinstance(element, StructureShape) and element.is_tagged_union:
                return max(least, len(element.members))
            return max(least, 2)
        many = 3 if isinstance(element, StructureShape | ListShape | MapShape) else 30
        return max(least, int(self._pick((0, 1, many))))

    def _scalar(self, name: str, shape: Shape, required: bool) -> Any:
        if shape.type_name == "timestamp" and self._variant == "awkward":
            return self._pick(_TIMES)
        if shape.type_name == "blob":
            return _BODIES[self._variant]
        return super()._scalar(name, shape, required)

    def _string(self, name: str, shape: Shape, required: bool) -> str:
        if enum := shape.metadata.get("enum"):
            return str(self._pick(enum))
        if self._variant != "awkward":
            return stretched(f"{name}-{self._variant}", shape)
        in_header = shape.serialization.get("location") == "header"
        text = self._pick(_HEADER_TEXTS if in_header else _TEXTS)
        if not text and required:
            text = "a=b&c+d %2F"
        return stretched(text, shape)

    def _attribute_value(self, in_key: bool) -> dict[str, Any]:
        if self._variant == "minimal":
            return {"S": "x"}
        keys: list[dict[str, Any]] = [{"S": self._pick(_TEXTS)}, {"N": "-1.5e10"}]
        keys.append({"B": b"\x00\xff blob"})
        return dict(self._pick(keys if in_key else [*keys, *_OTHER_ATTRIBUTES]))
