"""Heads of requests and answers: strict checks, and how they are passed on (N1)."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Limits of N2.
MAX_TARGET, MAX_HEADERS, MAX_HEADER_BYTES = 16 * 1024, 200, 64 * 1024

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: Headers of which there must be at most one, for the upstream might read another one than we do.
_ONCE = frozenset(
    {
        b"host",
        b"authorization",
        b"content-length",
        b"x-amz-target",
        b"x-amz-date",
        b"x-amz-security-token",
    }
)
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})

Headers = list[tuple[bytes, bytes]]


class BadHead(Exception):  # noqa: N818 - it is an answer as much as an error
    """A request that is refused before anything is forwarded."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Head:
    """The first line and the headers of a message, as they came."""

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    headers: Headers = field(default_factory=list)

    def get(self, name: bytes) -> bytes | None:
        """Returns the value of the first header of this lower-case name."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


def check_request(head: Head) -> None:
    """Raises `BadHead` unless the request can mean only one thing, to us and to an upstream."""
    if head.method in _REFUSED_METHODS:
        raise BadHead(501, f"method {head.method.decode()} is not supported")
    if len(head.target) > MAX_TARGET:
        raise BadHead(414, f"request target is longer than {MAX_TARGET} bytes")
    if not head.target.startswith(b"/") and head.target != b"*":
        raise BadHead(400, "request target must be a path, not a whole URL")
    seen: dict[bytes, int] = {}
    size = 0
    for name, value in head.headers:
        lower = name.lower()
        seen[lower] = seen.get(lower, 0) + 1
        size += len(name) + len(value) + 4
        if b"_" in lower and lower.replace(b"_", b"-") in (b"transfer-encoding", b"content-length"):
            raise BadHead(400, f"header {name.decode('latin-1')} is not allowed")
    if len(head.headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise BadHead(431, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
    _check_counts(head, seen)


def _check_counts(head: Head, seen: dict[bytes, int]) -> None:
    for name in _ONCE:
        if seen.get(name, 0) > 1:
            raise BadHead(400, f"header {name.decode()} occurs more than once")
    if head.version != "1.0" and b"host" not in seen:
        raise BadHead(400, "header Host is missing")
    if b"transfer-encoding" in seen:
        if head.version == "1.0":
            raise BadHead(400, "Transfer-Encoding is not allowed in HTTP/1.0")
        if b"content-length" in seen or seen[b"transfer-encoding"] > 1:
            raise BadHead(400, "Transfer-Encoding and Content-Length exclude each other")
        if (head.get(b"transfer-encoding") or b"").strip().lower() != b"chunked":
            raise BadHead(501, "the only transfer coding that is supported is chunked")


def request_head(head: Head, chunked: bool, extra: Headers | None = None) -> bytes:
    """Returns the head for the upstream: as it came, without what concerns one connection only."""
    lines = [b"%s %s HTTP/1.1\r\n" % (head.method, head.target)]
    _add_headers(lines, head.headers)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.extend(b"%s: %s\r\n" % pair for pair in extra or ())
    lines.append(b"\r\n")
    return b"".join(lines)


def response_head(status: int, reason: bytes, headers: Headers, extra: Headers) -> bytes:
    """Returns the head for the client, with `extra` headers for this connection."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, reason)]
    _add_headers(lines, headers)
    lines.extend(b"%s: %s\r\n" % pair for pair in extra)
    lines.append(b"\r\n")
    return b"".join(lines)


def _add_headers(lines: list[bytes], headers: Headers) -> None:
    listed = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    for name, value in headers:
        lower = name.lower()
        if lower in _HOP_BY_HOP or (lower in listed and lower not in _ONCE):
            continue
        lines.append(b"%s: %s\r\n" % (name, value))


def chunk(data: bytes) -> bytes:
    """Returns `data` as one chunk of the chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
