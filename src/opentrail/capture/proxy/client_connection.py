"""A client's connection: receives requests and has them answered in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import httptools

from opentrail.capture.proxy.bodies import Flow, Incoming
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.connections import BodyProgress, Handshake, address_of
from opentrail.capture.proxy.endpoint import ClientChannel, Endpoint
from opentrail.capture.proxy.head import (
    MAX_HEADERS,
    MAX_TARGET,
    MAX_UNFINISHED,
    BadHead,
    Head,
    check_request,
    wants_websocket,
)
from opentrail.capture.proxy.serving import serve
from opentrail.capture.record.exchange import INCOMPLETE

#: Requests that a client may send ahead before reading pauses.
_MAX_AHEAD = 16
#: Bytes after a refused request that are discarded during the answers to earlier calls.
_MAX_DROPPED = 1024 * 1024
#: Maximum bytes of a request that are read after an early answer: closing immediately would reset
#: the connection, and the client might never see the answer.
_MAX_LINGERED = 8 * 1024 * 1024
#: Maximum seconds to read it.
_LINGER_SECONDS = 2.0


class ClientConnection(ClientChannel, asyncio.Protocol):
    """Parses requests and has them answered, strictly in order."""

    def __init__(self, endpoint: Endpoint, handshake: Handshake | None = None) -> None:
        super().__init__(endpoint)
        self._handshake = handshake
        self.body: BodyProgress | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpRequestParser(self)
        self._head = Head()
        #: Bytes since the last end of a head, piece of a body or end of a message.
        self._unfinished = 0
        #: Framing of the body of a request to switch protocols, which the parser skips.
        self._unread_framing: bytes | None = None
        self._receiving: Incoming | None = None
        self._waiting: deque[Incoming] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._busy = self._deaf = False
        #: Bytes dropped since parsing stopped, and their limit.
        self._dropped, self._max_dropped = 0, _MAX_DROPPED
        #: Set when the client has sent everything, or too much.
        self._ended = asyncio.Event()
        #: Deadline for the client to send more, by the loop's clock.
        self._deadline: float | None = None
        self._switching = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.address = address_of(transport)
        self.source_ip = self.address or "127.0.0.1"
        self.tls = _tls_of(transport)
        if self._handshake is not None:
            self.endpoint.forget(self._handshake)
        if not self.endpoint.admit(self):
            transport.abort()  # type: ignore[attr-defined]
            self.done.set_result(None)
            return
        self._arm(self.endpoint.head_seconds)
        self.endpoint.watch()
        self._serving = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        rest: bytes | None = data
        while rest is not None:
            rest = self._feed(rest)

    def _feed(self, data: bytes) -> bytes | None:
        """Parses data; returns the rest after a request to switch protocols."""
        if self._deaf:
            self._dropped += len(data)
            if self._dropped > self._max_dropped:
                self._ended.set()
                self._pause()
            return None
        if self.raw is not None:
            self.raw.feed(data)
            return None
        if self._receiving is not None:
            self._arm(self.endpoint.idle_seconds)
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
            if self._unfinished > MAX_UNFINISHED or len(self._head.headers) > MAX_HEADERS:
                self._refuse(BadHead(431, "the head of the request is too long"))
        except BadHead as bad:
            self._refuse(bad)
        except httptools.HttpParserUpgrade as upgrade:
            return self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, BadHead) else BadHead(400, str(error)))
        except httptools.HttpParserError as error:
            self._refuse(BadHead(400, f"not an HTTP/1.1 request: {error}"))
        return None

    def _after_upgrade(self, rest: bytes) -> bytes | None:
        """Continues after a request to switch protocols; only WebSocket is supported.

        The parser treats all later bytes as the other protocol, even the body of the request.
        """
        if self._switching:
            self.raw = Flow(self._pause, self._resume)
        if self._unread_framing is not None:
            framing, self._unread_framing = self._unread_framing, None
            self._parser = after_head(self, framing)
        return rest or None

    def eof_received(self) -> bool:
        """Leaves the connection open: a client may still read its answers after its end."""
        self._deaf = True
        self._ended.set()
        if self._receiving is not None:
            self._receiving.body.fail(INCOMPLETE)
        if self.raw is not None:
            self.raw.finish()
        self._notify()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.lost = self._deaf = True
        self._ended.set()
        self._disarm()
        self._can_write.set()
        self._end_answer_soon()
        if self._receiving is not None:
            self._receiving.body.fail(INCOMPLETE)
        if self.raw is not None:
            self.raw.finish()
        self._notify()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # httptools

    def on_message_begin(self) -> None:
        if not self._busy:
            self._arm(self.endpoint.head_seconds)

    def on_url(self, target: bytes) -> None:
        self._head.target += target
        if len(self._head.target) > MAX_TARGET:
            raise BadHead(414, f"request target is longer than {MAX_TARGET} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        head = self._head
        head.method = self._parser.get_method()
        head.version = self._parser.get_http_version()
        bad = None
        try:
            check_request(head)
        except BadHead as found:
            bad, self._deaf = found, True
        body = Flow(self._pause, self._resume)
        folded = head.folded
        chunked = "transfer-encoding" in folded
        self._switching = False
        if "upgrade" in folded and bad is None:
            self._switching = wants_websocket(head)
            if self._parser.should_upgrade() and head.has_body:
                self._unread_framing = framing_of(folded)
        alive = self._parser.should_keep_alive() and head.version != "1.0" and not self._switching
        self._arm(self.endpoint.idle_seconds)
        if chunked or "content-length" in folded:
            self.body = BodyProgress(self._time())
        # Trailer fields of a chunked body are not part of the verified head.
        self._head = Head()
        self._enqueue(Incoming(head, body, chunked, alive, bad))

    def on_body(self, data: bytes) -> None:
        self._unfinished = 0
        if self.body is not None:
            self.body.size += len(data)
        if self._receiving is not None:
            self._receiving.body.feed(data)

    def on_message_complete(self) -> None:
        if self._unread_framing is not None:
            return  # its body has not arrived yet
        self._unfinished = 0
        self.body = None
        if self._receiving is not None:
            self._receiving.body.finish()
            self._receiving = None
        if self._head.headers:  # trailer fields
            self._head = Head()
        self._disarm()

    # Serving

    def _refuse(self, bad: BadHead) -> None:
        self._deaf = True
        if self._receiving is not None:
            self._receiving.body.fail(bad.failure)
            return
        body = Flow(self._pause, self._resume)
        self._enqueue(Incoming(self._head, body, False, False, bad))

    def _enqueue(self, incoming: Incoming) -> None:
        self.endpoint.begin_call(self)
        self._receiving = incoming
        self._waiting.append(incoming)
        if len(self._waiting) > _MAX_AHEAD:
            self._pause()
        self._notify()

    async def _serve(self) -> None:
        """Answers calls until the client or the endpoint ends the connection."""
        try:
            while True:
                incoming = await self._next()
                if incoming is None:
                    return
                self._busy = True
                goes_on = await serve(Call(self, incoming))
                if not goes_on or self.endpoint.stopping:
                    await self._linger()
                    return
                self._busy = False
                if not self._waiting and self._receiving is None:
                    self._arm(self.endpoint.idle_seconds)
                    self.endpoint.end_call(self)
        finally:
            self._close()

    async def _linger(self) -> None:
        """Reads the rest of an answered request, so that its client sees the answer."""
        transport = self._transport
        if transport is None or self._receiving is None or transport.is_closing():
            return
        self._deaf, self._dropped, self._max_dropped = True, 0, _MAX_LINGERED
        # The client may have gone.
        with contextlib.suppress(OSError):
            if transport.can_write_eof():
                transport.write_eof()
        transport.resume_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._ended.wait()

    async def _next(self) -> Incoming | None:
        while not self._waiting:
            if self._deaf:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        incoming = self._waiting.popleft()
        if len(self._waiting) == _MAX_AHEAD:
            self._resume()
        return incoming

    def close_if_idle(self) -> None:
        """Ends the connection unless a call is under way."""
        if self.tunnelling:
            self.abort()  # a WebSocket has no end of its request
        elif not self._busy and not self._waiting:
            self._deaf = True
            self._notify()

    def abort(self) -> None:
        self.abort_transport()
        if self._serving is not None:
            self._serving.cancel()

    def _arm(self, seconds: float) -> None:
        """Sets the deadline for the client to send more."""
        self._deadline = self._time() + seconds

    def _disarm(self) -> None:
        self._deadline = None

    def check_deadlines(self, now: float) -> None:
        super().check_deadlines(now)
        if self._deadline is not None and now >= self._deadline:
            self._end_silence()

    def _end_silence(self) -> None:
        """Ends a connection whose client is silent; answers a request in progress with 408."""
        self._deadline = None
        if self._receiving is None and self._parser_is_idle():
            self._deaf = True
            self._notify()
            return
        self._refuse(BadHead(408, "the request did not arrive in time"))

    def _parser_is_idle(self) -> bool:
        return not self._head.target and not self._head.headers

    def _close(self) -> None:
        self._disarm()
        self.upstreams.close()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        self.endpoint.forget(self)
        if not self.done.done():
            self.done.set_result(None)

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _pause(self) -> None:
        self._disarm()  # the client cannot send more
        if self._transport is not None and not self.lost:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._receiving is not None:
            self._arm(self.endpoint.idle_seconds)
        if self._transport is not None and not self.lost:
            self._transport.resume_reading()


def _tls_of(transport: asyncio.BaseTransport) -> dict[str, str] | None:
    """Returns version and cipher suite of a TLS connection, in the form of `tlsDetails`."""
    secured = transport.get_extra_info("ssl_object")
    if secured is None:
        return None
    cipher = secured.cipher()
    return {"tlsVersion": secured.version() or "", "cipherSuite": cipher[0] if cipher else ""}


# The body of a request to switch protocols, which the parser does not read as HTTP.


def framing_of(folded: Mapping[str, str]) -> bytes:
    """Returns the header that frames a request's body."""
    if "transfer-encoding" in folded:
        return b"Transfer-Encoding: chunked"
    return b"Content-Length: " + folded["content-length"].encode()


def after_head(parsed: Any, framing: bytes) -> httptools.HttpRequestParser:
    """Returns a parser for the bytes after a head: a body with this framing, then further requests.

    `parsed` has httptools' callbacks for requests.
    """
    parser = httptools.HttpRequestParser(_AfterHead(parsed))
    parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
    return parser


class _AfterHead:
    """Passes on the callbacks after the first head."""

    def __init__(self, parsed: Any) -> None:
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
