"""uvicorn with the limits of the endpoint's connections, for other ports (guarantee N2)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from opentrail.capture.proxy.connections import (
    Acceptor,
    BodyProgress,
    Connections,
    Handshake,
    address_of,
)
from opentrail.capture.proxy.head import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_UNFINISHED,
    BadHead,
)
from opentrail.ports.metrics import Metrics

#: Maximum bytes of a request target: URLs of the console contain resources and searches.
MAX_TARGET = 64 * 1024


class ConsoleConnections(Connections):
    """The connections of the console's port."""

    def __init__(self, metrics: Metrics, max_connections: int) -> None:
        super().__init__(max_connections=max_connections)
        self._refused = metrics.refused.labels("console connections")

    def count_refused(self) -> None:
        self._refused.inc()


class HttpConnection(HttpToolsProtocol):
    """A connection with limits."""

    def __init__(
        self, limits: Connections, handshake: Handshake | None, **settings_of_uvicorn: Any
    ) -> None:
        super().__init__(**settings_of_uvicorn)
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.body: BodyProgress | None = None
        self._limits = limits
        self._handshake = handshake
        #: Bytes since the last end of a head, piece of a body or end of a message.
        self._unfinished = 0
        self._head_size = 0
        self._refusal: BadHead | None = None
        #: Deadlines, by the loop's clock, for the client to send more and to read more.
        self._deadline: float | None = None
        self._read_deadline: float | None = None
        self.address = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = address_of(transport)
        if self._handshake is not None:
            self._limits.forget(self._handshake)
        if not self._limits.admit(self):
            transport.abort()
            return
        self._arm(self._limits.head_seconds)
        self._limits.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._deadline = self._read_deadline = None
        self._limits.forget(self)
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.body is not None:
            self._arm(self._limits.idle_seconds)
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_UNFINISHED and not self.transport.is_closing():
            self._refuse(BadHead(431, "the head of the request is too long"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_deadline = self.loop.time() + self._limits.idle_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_deadline = None

    # httptools

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = 0
        if self._is_answered():
            self._arm(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET:
            self._fail(BadHead(414, f"request target is longer than {MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_size += len(name) + len(value) + 4
        if len(self.headers) > MAX_HEADERS or self._head_size > MAX_HEADER_BYTES:
            reason = f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"
            self._fail(BadHead(431, reason))

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        self._limits.begin_call(self)
        self._arm(self._limits.idle_seconds)
        self.body = BodyProgress(self.loop.time())
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        if self.body is not None:
            self.body.size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        self.body = None
        self._deadline = None
        super().on_message_complete()
        self._await_next_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_next_request()

    # Limits

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_next_request(self) -> None:
        """Waits for the next request after the previous one was received and answered."""
        if self.body is None and self._is_answered() and self in self._limits.connections:
            self._limits.end_call(self)
            self._arm(self._limits.idle_seconds)

    def _arm(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds

    def _fail(self, bad: BadHead) -> None:
        """Ends the parsing of a request: uvicorn then calls `send_400_response`."""
        self._refusal = bad
        raise bad

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or BadHead(400, msg))

    def _refuse(self, bad: BadHead) -> None:
        if self._is_answered():
            text = bad.reason.encode()
            head = (
                f"HTTP/1.1 {bad.status} {HTTPStatus(bad.status).phrase}\r\n"
                "content-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + text)
        self.transport.close()

    def check_deadlines(self, now: float) -> None:
        if self._read_deadline is not None and now >= self._read_deadline:
            self.abort()
        if self._deadline is None:
            return
        if self.flow.read_paused:  # the client cannot send more
            self._deadline = now + self._limits.idle_seconds
        if now < self._deadline:
            return
        self._deadline = None
        if self.body is not None:
            self.abort()
        elif self._unfinished:
            self._refuse(BadHead(408, "the request did not arrive in time"))
        else:
            self.transport.close()

    def close_if_idle(self) -> None:
        if self.body is None and self._is_answered():
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, and with limited connections.

    Args:
        app: an ASGI application.
        listening: a bound socket.
        tls: the TLS context; None for plain connections.
        limits: the port's limits.
        admits: returns whether the host with an address may connect.
        has_lifespan: whether the application handles events of start and end.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        limits: Connections,
        admits: Callable[[str], bool] | None = None,
        *,
        has_lifespan: bool = False,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on" if has_lifespan else "off",
                ws="none",
                server_header=False,
                # Sign-in attempts are counted by address, which a header must not change.
                proxy_headers=False,
            )
        )
        self.servers = []
        self._tls = tls
        self._limits = limits
        self._acceptor = Acceptor(listening, self._take, admits)
        self.is_accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # this process has its own handlers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self._acceptor.accept()
        self.started = True
        self.is_accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.close()
        for connection in list(self._limits.connections):
            connection.close_if_idle()
        await super().shutdown(sockets)

    def _take(self, client: socket.socket) -> None:
        self._limits.take(client, self._tls, self._connection)

    def _connection(self, handshake: Handshake | None) -> asyncio.Protocol:
        return HttpConnection(
            self._limits,
            handshake,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
