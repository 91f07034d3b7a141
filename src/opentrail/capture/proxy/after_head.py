"""The body after a request to switch protocols, which the HTTP parser takes for no HTTP.

A parser of its own is told of the framing by a head that nobody hears of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import httptools


class Parsed(Protocol):
    """What a parser tells of requests (httptools' callbacks)."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, target: bytes) -> None:
        """A piece of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers, or of its trailers."""

    def on_headers_complete(self) -> None:
        """Its head is complete."""

    def on_body(self, data: bytes) -> None:
        """A piece of its body."""

    def on_message_complete(self) -> None:
        """It is complete."""


def framing_of(folded: Mapping[str, str]) -> bytes:
    """Returns the header that says how a request's body is framed."""
    if "transfer-encoding" in folded:
        return b"Transfer-Encoding: chunked"
    return b"Content-Length: " + folded["content-length"].encode()


def after_head(parsed: Parsed, framing: bytes) -> httptools.HttpRequestParser:
    """Returns a parser for what follows a head: a body that is framed so, then further requests."""
    parser = httptools.HttpRequestParser(_AfterHead(parsed))
    parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
    return parser


class _AfterHead:
    """Tells of all but the first head."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._in_first_head = True
        self.on_body = parsed.on_body
        self.on_message_complete = parsed.on_message_complete

    def on_message_begin(self) -> None:
        if not self._in_first_head:
            self._parsed.on_message_begin()

    def on_url(self, target: bytes) -> None:
        if not self._in_first_head:
            self._parsed.on_url(target)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_first_head:
            self._parsed.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._in_first_head:
            self._parsed.on_headers_complete()
        self._in_first_head = False
