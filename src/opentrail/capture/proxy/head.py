"""Heads of requests and answers: strict checks and forwarding (guarantee N1)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from opentrail.capture.record.exchange import Failure
from opentrail.wire.message import fold_headers

#: Maximum bytes of a request's target (guarantee N2, like the next two).
MAX_TARGET = 16 * 1024
#: Maximum headers of a request.
MAX_HEADERS = 200
#: Maximum bytes of all headers of a request.
MAX_HEADER_BYTES = 64 * 1024
#: Maximum bytes that neither end a head nor belong to a body.
MAX_UNFINISHED = 256 * 1024

#: Maximum bytes of a header's name in the cache; longer ones are unusual.
_MAX_KNOWN_NAME = 64
_MAX_KNOWN_NAMES = 1_024
#: Results of `_read_name`; a lookup here takes half as long as in `lru_cache`.
_known_names: dict[bytes, tuple[str, bool, bool]] = {}
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
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
#: Headers that must not be repeated: upstream and recorder might read different ones.
_ONCE = frozenset(
    {
        "host",
        "authorization",
        "content-length",
        "content-type",
        "transfer-encoding",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-target",
    }
)
#: Characters of a host name, an optional final dot and a port.
_MAX_HOST = 260
_HOST = re.compile(rf"[^\x00-\x20/?#@\\\x7f]{{0,{_MAX_HOST}}}")
#: Error codes by status, where not `BadRequest`.
_CODES = {408: "RequestTimeout"}
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})

Headers = list[tuple[bytes, bytes]]


class BadHead(Exception):  # noqa: N818 - it is an answer as much as an error
    """A request refused before anything is forwarded."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    @property
    def failure(self) -> Failure:
        """The failure of a call whose body is malformed."""
        return Failure(_CODES.get(self.status, "BadRequest"), self.reason)


@dataclass(slots=True)
class Head:
    """First line and headers of a message, as received."""

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    headers: Headers = field(default_factory=list)
    #: Whether all headers are passed on; set by `check_request`.
    is_passed_on_whole: bool = False
    #: The value of `folded`, once used.
    _folded: dict[str, str] | None = None

    @property
    def folded(self) -> dict[str, str]:
        """The headers by lowercase name; to be used when the head is complete."""
        if self._folded is None:
            self._folded = fold_headers(self.headers)
        return self._folded

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head of a checked request."""
        folded = self.folded
        return "transfer-encoding" in folded or int(folded.get("content-length") or 0) > 0

    @property
    def expects_continue(self) -> bool:
        """Whether the client may wait for `100 Continue`; HTTP/1.0 does not have it."""
        return self.version != "1.0" and self.folded.get("expect", "").lower() == "100-continue"

    def get(self, name: bytes) -> bytes | None:
        """Returns the value of the first header of this lowercase name."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


def check_request(head: Head) -> None:
    """Raises `BadHead` if the recorder and an upstream might read the request differently."""
    _check_first_line(head)
    folded: dict[str, str] = {}
    is_whole = True
    size = 4 * len(head.headers)
    for raw_name, raw_value in head.headers:
        size += len(raw_name) + len(raw_value)
        known = _known_names.get(raw_name) or _read_name(raw_name)
        name, is_of_connection, is_doubtful = known
        if is_doubtful:
            raise BadHead(400, f"header {raw_name.decode('latin-1')} is not allowed")
        try:
            text = raw_value.decode()
        except UnicodeDecodeError:
            text = raw_value.decode("latin-1")
        if name not in folded:
            folded[name] = text
        elif name in _ONCE:
            raise BadHead(400, f"header {name} occurs more than once")
        else:
            folded[name] = f"{folded[name]},{text}"
        is_whole = is_whole and not is_of_connection
    head.is_passed_on_whole, head._folded = is_whole, folded
    if len(head.headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise BadHead(431, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
    _check_counts(head)
    if "connection" in folded:
        _check_connection_names(head)


def _read_name(raw: bytes) -> tuple[str, bool, bool]:
    """Returns a header's lowercase name, and its kind.

    Returns:
        The name, whether the header is of one connection only, and whether some servers mistake
        it for another header.
    """
    name = raw.decode("latin-1").lower()
    read = name, raw.lower() in _HOP_BY_HOP, "_" in name and _is_like_aws_header(name)
    if len(raw) <= _MAX_KNOWN_NAME:
        if len(_known_names) >= _MAX_KNOWN_NAMES:
            _known_names.clear()
        _known_names[raw] = read
    return read


def _is_like_aws_header(name: str) -> bool:
    """Returns whether a server that reads underscores as hyphens mistakes a header for another.

    Users choose the names of their metadata; a header of IAM Identity Center has underscores.
    """
    hyphenated = name.replace("_", "-")
    is_meant = name == "x-amz-sso_bearer_token" or name.startswith("x-amz-meta-")
    return hyphenated in _ONCE or (hyphenated.startswith("x-amz-") and not is_meant)


def _check_first_line(head: Head) -> None:
    if head.method in _REFUSED_METHODS:
        raise BadHead(501, f"method {head.method.decode()} is not supported")
    if len(head.target) > MAX_TARGET:
        raise BadHead(414, f"request target is longer than {MAX_TARGET} bytes")
    if not head.target.startswith(b"/") and head.target != b"*":
        raise BadHead(400, "request target must be a path, not a whole URL")
    if b"#" in head.target:
        raise BadHead(400, "request target must not hold a fragment")
    if head.version not in ("1.0", "1.1"):
        raise BadHead(505, f"HTTP/{head.version} is not supported")


def _check_connection_names(head: Head) -> None:
    """Refuses headers named by Connection: they would be recorded, but not passed on."""
    names = {name.lower() for name, _ in head.headers}
    for name, value in head.headers:
        if name.lower() != b"connection":
            continue
        for token in value.split(b","):
            named_header = token.strip().lower()
            if named_header in names and named_header not in _HOP_BY_HOP:
                text = named_header.decode("latin-1")
                raise BadHead(400, f"header {text} must not be named by Connection")


def _check_counts(head: Head) -> None:
    folded = head.folded
    if head.version != "1.0" and "host" not in folded:
        raise BadHead(400, "header Host is missing")
    if not _HOST.fullmatch(folded.get("host", "")):
        raise BadHead(
            400, f"header Host must be a host name of at most {_MAX_HOST} characters with its port"
        )
    if folded.get("expect", "").strip().lower() not in ("", "100-continue"):
        raise BadHead(417, "the only expectation that is supported is 100-continue")
    if "transfer-encoding" in folded:
        if head.version == "1.0":
            raise BadHead(400, "Transfer-Encoding is not allowed in HTTP/1.0")
        if "content-length" in folded:
            raise BadHead(400, "Transfer-Encoding and Content-Length exclude each other")
        if folded["transfer-encoding"].strip().lower() != "chunked":
            raise BadHead(501, "the only transfer coding that is supported is chunked")


def request_head(head: Head, chunked: bool, extra: Headers | None = None) -> bytes:
    """Returns the head for the upstream, without headers of this connection only."""
    first_line = b"%s %s HTTP/1.1" % (head.method, head.target)
    if head.is_passed_on_whole and not extra:
        return _join_head(first_line, head.headers)
    coding = [(b"Transfer-Encoding", b"chunked")] if chunked else []
    return _join_head(first_line, [*_passed_on(head.headers), *coding, *(extra or ())])


def response_head(status: int, reason: bytes, headers: Headers, extra: Headers) -> bytes:
    """Returns the head for the client, with `extra` headers for this connection."""
    return _join_head(b"HTTP/1.1 %d %s" % (status, reason), [*_passed_on(headers), *extra])


#: Asks a client to send the body of its request.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def interim_head(status: int, reason: bytes, headers: Headers) -> bytes:
    """Returns the head of an interim answer (1xx) for the client; it has no body to frame."""
    passed = [pair for pair in headers if pair[0].lower() != b"content-length"]
    return response_head(status, reason, passed, [])


def _join_head(first_line: bytes, headers: Headers) -> bytes:
    return b"\r\n".join((first_line, *map(b": ".join, headers), b"\r\n"))


def _passed_on(headers: Headers) -> Headers:
    """Returns the headers except those for this connection only."""
    named_headers: set[bytes] = set()
    passed: Headers = []
    for pair in headers:
        lower = pair[0].lower()
        if lower not in _HOP_BY_HOP:
            passed.append(pair)
        elif lower == b"connection":
            named_headers |= {token.strip().lower() for token in pair[1].split(b",")}
    if not named_headers:
        return passed
    # A header named by Connection does not pass either, unless an upstream needs it.
    named_headers = {name for name in named_headers if name.decode("latin-1") not in _ONCE}
    return [pair for pair in passed if pair[0].lower() not in named_headers]


def chunk(data: bytes) -> bytes:
    """Returns `data` as one chunk of the chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


# Forwarded headers

#: Headers in which a proxy describes its client (RFC 7239 and before).
_FORWARDED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
_SIGNED_HEADERS = re.compile(r"SignedHeaders\s*=\s*([^,\s&]+)", re.I)


def with_forwarded(head: Head, peer: str, is_trusted: bool) -> Head:
    """Returns the head of a call over TLS with headers that give its scheme and host.

    Such headers of the client remain only if it signed them or is a trusted proxy, so that they
    cannot be mistaken for ours.
    """
    signed = _signed_headers(head)
    passed: Headers = []
    forwarded: set[bytes] = set()
    for name, value in head.headers:
        lower = name.lower()
        if lower in _FORWARDED:
            if not is_trusted and lower not in signed:
                continue
            forwarded.add(lower)
        passed.append((name, value))
    host = head.folded.get("host", "").encode("latin-1", "replace")
    if not (is_trusted and forwarded):
        passed += [pair for pair in _forwarded(peer, host) if pair[0].lower() not in forwarded]
    return replace(head, headers=passed, _folded=None)


def _forwarded(peer: str, host: bytes) -> Headers:
    address = peer.encode()
    node = b'"[%s]"' % address if _is_ipv6(peer) else address
    return [
        (b"X-Forwarded-For", address),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Proto", b"https"),
        (b"Forwarded", b'for=%s;host="%s";proto=https' % (node, host.replace(b'"', b""))),
    ]


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _signed_headers(head: Head) -> frozenset[bytes]:
    """Returns the names of the headers covered by the call's signature."""
    query = head.target.partition(b"?")[2].decode("latin-1")
    texts = (head.folded.get("authorization", ""), unquote(query))
    names = (match[1] for text in texts for match in _SIGNED_HEADERS.finditer(text))
    return frozenset(
        name.strip().lower().encode() for joined in names for name in joined.split(";")
    )


#: Headers of both sides of a WebSocket handshake.
UPGRADE: Headers = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]


def wants_websocket(head: Head) -> bool:
    """Returns whether a request is a WebSocket handshake (RFC 6455, 4.1)."""
    if head.method != b"GET" or head.has_body:
        return False
    upgrade = (head.get(b"upgrade") or b"").strip().lower()
    tokens = (head.get(b"connection") or b"").lower().split(b",")
    is_upgrade = b"upgrade" in (token.strip() for token in tokens)
    return is_upgrade and upgrade == b"websocket" and head.version == "1.1"
