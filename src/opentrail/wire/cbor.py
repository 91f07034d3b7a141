"""Smithy's protocol rpcv2Cbor: the CloudTrail API's input and output in CBOR.

Handlers read and return JSON 1.1's values: times as seconds since 1970, blobs in base64.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import datetime
from typing import Any

import cbor2
from botocore.model import Shape

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json

CONTENT_TYPE = "application/cbor"
PROTOCOL = "rpc-v2-cbor"
_PATH = re.compile("/service/([^/]+)/operation/([^/]+)")
#: Tag of seconds since 1970 (RFC 8949, 3.4.2).
_EPOCH = 1
#: Maximum depth of nested input.
_MAX_INPUT_DEPTH = 64


def operation_in(path: str) -> str | None:
    """Returns the operation that a request's path names."""
    match = _PATH.fullmatch(path)
    return match[2] if match else None


def parse(body: bytes) -> Json:
    """Returns the input of an operation in the form of JSON 1.1.

    Raises:
        CloudTrailError: `SerializationException`, if it is not a CBOR map.
    """
    if not body:
        return {}
    try:
        document = cbor2.loads(body)
    except Exception as error:
        # cbor2 raises errors of its file protocol and of hooks as well as its own.
        raise _wrong(f"the body is not CBOR: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise _wrong("the body must be a CBOR map")
    return {name: value for name, value in _plain(document, 0).items() if value is not None}


def encode(shape: Shape | None, document: Json) -> bytes:
    """Returns the output of an operation, with times and blobs as its shape has them."""
    return cbor2.dumps(_tagged(shape, document))


def _plain(value: Any, depth: int) -> Any:
    if depth > _MAX_INPUT_DEPTH:
        raise _wrong(f"the body is nested more than {_MAX_INPUT_DEPTH} deep")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise _wrong("the names in a CBOR map must be strings")
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, datetime):
        seconds = value.timestamp()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong("numbers must be finite")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _wrong(f"a {type(value).__name__} is not a value of CloudTrail's API")


def _tagged(shape: Any, value: Any) -> Any:
    if value is None or shape is None:
        return value
    if shape.type_name == "structure":
        return {name: _tagged(shape.members.get(name), item) for name, item in value.items()}
    if shape.type_name == "list":
        return [_tagged(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {name: _tagged(shape.value, item) for name, item in value.items()}
    if shape.type_name == "timestamp":
        return cbor2.CBORTag(_EPOCH, value)
    if shape.type_name == "blob":
        return base64.b64decode(value)
    return value


def _wrong(message: str) -> CloudTrailError:
    return CloudTrailError("SerializationException", message)
