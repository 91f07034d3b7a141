"""Errors that opentrail answers instead of an upstream, in the call's protocol.

Plain HTTP on a TLS port gets an error as well, so that the client sees the cause.
"""

from __future__ import annotations

import json
import ssl
import uuid
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import cbor2

from opentrail.capture.proxy.head import Headers
from opentrail.wire.routing import Route


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of opentrail's in place of an upstream's."""

    status: int
    code: str
    message: str
    retry_after: int | None = None
    #: The request id in the answer and in the call's record.
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class NoAnswer(Exception):  # noqa: N818 - it leads to an answer
    """A call that its upstream did not answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def unavailable(message: str) -> Refusal:
    """Returns the refusal of an unrecordable call."""
    return Refusal(503, "ServiceUnavailable", message, retry_after=1)


def unrecorded(reason: str) -> Refusal:
    """Returns the answer to a call that took effect without a record: it is not confirmed."""
    return unavailable(f"the call could not be recorded: {reason}")


def locked_out(route: Route, form: bool) -> Refusal:
    """Returns the refusal of a call after many wrong signatures."""
    _, code = _throttling(route, form)
    message = "too many requests with invalid signatures; try again in a minute"
    return Refusal(429, code, message, retry_after=60)


def throttled(route: Route, form: bool) -> Refusal:
    """Returns the refusal of a call that arrives faster than records can be written.

    Its code means throttling in the call's protocol, so SDKs retry.
    """
    status, code = _throttling(route, form)
    return Refusal(status, code, "calls come faster than they can be recorded", retry_after=1)


def _throttling(route: Route, form: bool) -> tuple[int, str]:
    """Returns the status and code that mean throttling to SDKs."""
    return _THROTTLING.get(protocol_of(route, form), (503, "SlowDown"))


_THROTTLING = {
    "json": (400, "ThrottlingException"),
    "cbor": (400, "ThrottlingException"),
    "rest-json": (429, "TooManyRequestsException"),
    "query": (400, "Throttling"),
    "ec2": (503, "RequestLimitExceeded"),
    "rest-xml": (503, "SlowDown"),
}
_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


def answer_of(
    refusal: Refusal, route: Route, form: bool = False
) -> tuple[int, bytes, Headers, bytes]:
    """Returns status, reason, headers and body of a refusal for a call.

    Args:
        refusal: the refusal.
        route: service and operation, as far as known.
        form: whether the request's body is an HTML form, as in the query protocols.
    """
    protocol = protocol_of(route, form)
    content_type, body = _BODIES.get(protocol, _xml_s3)(refusal)
    headers: Headers = [
        (b"Content-Type", content_type),
        (b"Content-Length", b"%d" % len(body)),
        (b"x-amzn-RequestId", refusal.request_id.encode()),
        (b"x-amzn-ErrorType", refusal.code.encode()),
    ]
    if protocol == "cbor":
        headers.append((b"smithy-protocol", b"rpc-v2-cbor"))
    if refusal.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % refusal.retry_after))
    return refusal.status, _REASONS.get(refusal.status, b"Error"), headers, body


def protocol_of(route: Route, form: bool) -> str:
    """Returns the protocol of a call, a guess if its operation is in a later body."""
    if route.protocol is not None:
        return route.protocol
    spoken = route.service.protocols if route.service else ()
    if "ec2" in spoken:
        return "ec2"
    if form or "query" in spoken:
        return "query"
    return spoken[0] if spoken else ""


def _json(refusal: Refusal) -> tuple[bytes, bytes]:
    document = {"__type": refusal.code, "message": refusal.message}
    return b"application/x-amz-json-1.1", json.dumps(document).encode()


def _cbor(refusal: Refusal) -> tuple[bytes, bytes]:
    document = {"__type": refusal.code, "message": refusal.message}
    return b"application/cbor", cbor2.dumps(document)


def _xml_query(refusal: Refusal) -> tuple[bytes, bytes]:
    fault = "Sender" if refusal.status < 500 else "Receiver"
    text = (
        f"<ErrorResponse><Error><Type>{fault}</Type><Code>{escape(refusal.code)}</Code>"
        f"<Message>{escape(refusal.message)}</Message></Error>"
        f"<RequestId>{refusal.request_id}</RequestId></ErrorResponse>"
    )
    return b"text/xml", text.encode()


def _xml_ec2(refusal: Refusal) -> tuple[bytes, bytes]:
    text = (
        f"<Response><Errors><Error><Code>{escape(refusal.code)}</Code>"
        f"<Message>{escape(refusal.message)}</Message></Error></Errors>"
        f"<RequestID>{refusal.request_id}</RequestID></Response>"
    )
    return b"text/xml", text.encode()


def _xml_s3(refusal: Refusal) -> tuple[bytes, bytes]:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
        f"<RequestId>{refusal.request_id}</RequestId></Error>"
    )
    return b"application/xml", text.encode()


_BODIES = {
    "json": _json,
    "rest-json": _json,
    "cbor": _cbor,
    "query": _xml_query,
    "ec2": _xml_ec2,
    "rest-xml": _xml_s3,
}


_BODY = b"this port speaks TLS: use https:// in the endpoint URL\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


class ServerContext(ssl.SSLContext):
    """A server's TLS context; answers a client that speaks plain HTTP with 400 in plain HTTP."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **options: Any
    ) -> ssl.SSLObject:
        """Returns the TLS side of a connection."""
        side = super().wrap_bio(incoming, outgoing, *arguments, **options)
        if isinstance(side, _Side):
            side.outgoing = outgoing
        return side


class _Side(ssl.SSLObject):
    """One connection's TLS; `outgoing` are the bytes for the client."""

    outgoing: ssl.MemoryBIO
    _refused = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST" or self._refused:
                raise
            self._refused = True
            self.outgoing.read()  # an alert that HTTP clients cannot read
            self.outgoing.write(_ANSWER)
            # Has the answer sent; the client ends the connection, or the handshake's time does.
            raise ssl.SSLWantReadError from error


def server_context() -> ServerContext:
    """Returns a context that has no certificate yet."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Side
    context.set_alpn_protocols(["http/1.1"])
    return context
