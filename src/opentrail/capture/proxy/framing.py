"""Where messages begin and end: a request as far as it has come, an answer as it must go."""

from __future__ import annotations

from dataclasses import dataclass

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.head import LAST_CHUNK, BadHead, Head, Headers, chunk


@dataclass(slots=True)
class Incoming:
    """A request as far as it has come; `bad` if it must be refused."""

    head: Head
    body: Flow
    chunked: bool
    keep_alive: bool
    bad: BadHead | None = None


class Framing:
    """How an answer's end is told to the client."""

    def __init__(self, keep_alive: bool, chunked: bool, unframed: bool) -> None:
        self.keep_alive = keep_alive and not unframed
        self.unframed = unframed
        self._may_keep_alive = keep_alive
        self._chunked = chunked
        self.headers: Headers = []
        self.end = LAST_CHUNK if chunked else b""
        if chunked:
            self.headers.append((b"Transfer-Encoding", b"chunked"))
        if not self.keep_alive:
            self.headers.append((b"Connection", b"close"))

    def piece(self, data: bytes) -> bytes:
        """Returns a piece of the body as it goes to the client."""
        return chunk(data) if self._chunked else data

    def set_length(self, length: int) -> None:
        """Frames a whole answer that its upstream ended by closing."""
        self.keep_alive = self._may_keep_alive
        self.headers = [(b"Content-Length", b"%d" % length)]
        if not self.keep_alive:
            self.headers.append((b"Connection", b"close"))
