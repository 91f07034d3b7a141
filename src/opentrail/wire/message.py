"""A request and its answer as bytes and headers."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import field
from typing import Any

from opentrail.core.value_class import value_class

#: A request or connection, a message about it, and an application: see the ASGI specification.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
#: Bytes of a body, decompressed, that is stored and decoded.
MAX_BODY = 16 * 1024 * 1024
#: Members of a gzip body; most clients write one.
_MAX_MEMBERS = 100


@value_class(frozen=True, slots=True)
class Request:
    """A request; header names are lowercase, repeated headers are joined with `,`.

    `path` and `query` are raw: nothing is unquoted, collapsed or resolved.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    #: Whether `body` is whole; object bodies and oversized ones are not stored.
    body_is_whole: bool = True


@value_class(frozen=True, slots=True)
class Response:
    """An answer; header names are lowercase."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    body_is_whole: bool = True


def fold_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Returns headers by lowercase name; values that are not UTF-8 are read as latin-1."""
    folded: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1").lower()
        try:
            text = raw_value.decode()
        except UnicodeDecodeError:
            text = raw_value.decode("latin-1")
        folded[name] = f"{folded[name]},{text}" if name in folded else text
    return folded


def is_packed(headers: Mapping[str, str]) -> bool:
    """Returns whether a body has `Content-Encoding: gzip`, alone or with others."""
    return "gzip" in headers.get("content-encoding", "").lower()


def plain_body(headers: Mapping[str, str], body: bytes) -> bytes:
    """Returns the body with its `Content-Encoding: gzip` undone, at most `MAX_BODY` bytes.

    Raises:
        ValueError: the body does not match its header, or unpacks to more.
    """
    if not body or not is_packed(headers):
        return body
    plain, rest = b"", body
    for _ in range(_MAX_MEMBERS):
        if not rest:
            return plain
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            plain += unpacker.decompress(rest, MAX_BODY + 1 - len(plain))
        except zlib.error as error:
            raise ValueError(f"body is not gzip: {error}") from error
        if len(plain) > MAX_BODY:
            raise ValueError(f"gzip body unpacks to more than {MAX_BODY} bytes")
        if not unpacker.eof:
            raise ValueError("gzip body is cut off")
        rest = unpacker.unused_data
    raise ValueError(f"gzip body has more than {_MAX_MEMBERS} members")
