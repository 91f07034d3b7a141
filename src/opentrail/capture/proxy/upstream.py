"""Upstreams, and connections to them: one answer at a time."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from opentrail.capture.proxy.bodies import Flow
from opentrail.capture.proxy.head import MAX_UNFINISHED, Headers
from opentrail.capture.record.exchange import Failure
from opentrail.core.errors import UsageError
from opentrail.wire.message import fold_headers
from opentrail.wire.resign import UpstreamCredentials
from opentrail.wire.routing import is_aws_host

CONNECT_SECONDS = 10.0
_EVENT_STREAMS = ("application/vnd.amazon.eventstream", "text/event-stream")

_PLACE = re.compile(r"\{[^}]*\}?|\}")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def at(address: str, service: str, region: str) -> str:
    """Returns an address with `{service}` and `{region}` filled in."""
    return address.replace("{service}", service).replace("{region}", region)


class LocalKeys(Protocol):
    """Keys and certificate of an emulator on this machine."""

    def key_for(self, access_key_id: str) -> UpstreamCredentials | None:
        """Returns the credentials to re-sign a key's calls; None to pass their signature on."""

    def context(self) -> ssl.SSLContext:
        """Returns the TLS context of connections to it."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A forwarding address for calls.

    Its host may contain `{service}` and `{region}`, like AWS's own addresses: see `for_call`.
    """

    host: str
    port: int
    tls: bool
    #: Credentials for re-signing, None if signatures are passed on.
    key: UpstreamCredentials | None = field(default=None, repr=False)
    #: Keys and certificate of an emulator on this machine, which change during use.
    local: LocalKeys | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(
        cls, url: str, key: UpstreamCredentials | None = None, local: LocalKeys | None = None
    ) -> Upstream:
        """Returns the upstream at `url`.

        Raises:
            UsageError: not `http://host[:port]` or `https://host[:port]`.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"upstream {url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"upstream {url!r} must be http://HOST[:PORT] or https://HOST[:PORT]")
        if parts.path not in ("", "/") or parts.query or parts.username:
            raise UsageError(f"upstream {url!r} must have no path, query or user")
        tls = parts.scheme == "https"
        if set(_PLACE.findall(parts.hostname)) - {"{service}", "{region}"}:
            raise UsageError(f"upstream {url!r} may contain only {{service}} and {{region}}")
        return cls(parts.hostname, port or (443 if tls else 80), tls, key, local)

    def for_call(self, service: str, region: str) -> Upstream:
        """Returns the upstream of one call.

        Raises:
            ValueError: the caller's Region cannot be part of a host name.
        """
        if "{" not in self.host:
            return self
        if not _SERVICE.fullmatch(service) or not _REGION.fullmatch(region):
            raise ValueError(f"{service}, {region} cannot be parts of a host name")
        return replace(self, host=at(self.host, service, region))

    @property
    def authority(self) -> str:
        """Host, and the port unless it is the scheme's default, in the form of a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def is_aws(self) -> bool:
        """Whether it is one of AWS's own hosts."""
        return is_aws_host(self.host)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The upstream of each service; `default` serves all others."""

    default: Upstream | None
    by_service: Mapping[str, Upstream]

    def of(self, *names: str | None) -> Upstream | None:
        """Returns the upstream of the first name with one, else the default."""
        for name in names:
            if name is not None and name in self.by_service:
                return self.by_service[name]
        return self.default


@dataclass(slots=True)
class AnswerHead:
    """Status line and headers of an answer."""

    status: int
    reason: bytes
    headers: Headers
    #: Whether the length of the body is known; else the body ends with the connection.
    framed: bool = True
    #: The headers by lowercase name.
    folded: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.folded = fold_headers(self.headers)

    @property
    def is_event_stream(self) -> bool:
        return self.folded.get("content-type", "").startswith(_EVENT_STREAMS)


class UpstreamConnection(asyncio.Protocol):
    """One connection, used by one client connection, for one call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._spare: httptools.HttpResponseParser | None = None
        self._headers: Headers = []
        self._reason = b""
        self._interim = self._bodiless = False
        #: Bytes since the last end of a head, piece of a body or end of an answer.
        self._unfinished = 0
        self._heads: deque[AnswerHead] = deque()
        self._broken: str | None = None
        self._overflowed = False
        #: Whether it exceeded the deadline without a byte.
        self.is_silent = False
        self._wake: asyncio.Future[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._framed = True
        self.body: Flow | None = None
        #: Data of the connection once it is a WebSocket.
        self.raw: Flow | None = None
        self.reusable = False
        self.lost = False

    @classmethod
    async def connect(
        cls, upstream: Upstream, context: ssl.SSLContext | None
    ) -> UpstreamConnection:
        """Returns a new connection.

        Raises:
            OSError, TimeoutError: it cannot be reached in time.
        """
        loop = asyncio.get_running_loop()
        if upstream.local is not None:
            context = upstream.local.context()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                cls, upstream.host, upstream.port, ssl=context if upstream.tls else None
            )
        return connection

    def begin(self, head_request: bool) -> Flow:
        """Prepares for the next answer; an answer to HEAD has no body."""
        # After a complete answer the parser is ready for the next; after an answer to HEAD it is
        # not.
        self._parser = self._spare or httptools.HttpResponseParser(self)
        self._spare = None
        self._bodiless = head_request
        self._headers, self._reason, self._interim = [], b"", False
        self._framed, self.reusable = True, False
        self._unfinished = 0
        self._heads.clear()
        self.body = Flow(self._pause, self._resume)
        return self.body

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Returns once the upstream has read most of the written bytes."""
        await self._can_write.wait()

    async def next_head(self) -> AnswerHead:
        """Returns the next interim (1xx) head or the final one.

        Raises:
            ConnectionError: the upstream broke off, or its answer is not HTTP.
            TimeoutError: the upstream exceeded the deadline.
        """
        while not self._heads:
            if self._broken is not None:
                raise (
                    TimeoutError(self._broken) if self.is_silent else ConnectionError(self._broken)
                )
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._heads.popleft()

    def give_up(self) -> None:
        """Ends the wait: `next_head` raises `TimeoutError`, `body.next` `BrokenOffError`."""
        self.is_silent = True
        self._break("the upstream did not answer in time")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.raw is not None:
            self.raw.feed(data)
            return
        if self._parser is None:
            self.close()  # it is not an answer
            return
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
            if self._overflowed:
                self.close()
            elif self._unfinished > MAX_UNFINISHED:
                self._break("upstream sent an endless head")
                self.close()
        except httptools.HttpParserUpgrade as upgrade:
            self.raw, self._framed = Flow(self._pause, self._resume), False
            if rest := data[upgrade.args[0] :]:
                self.raw.feed(rest)
        except httptools.HttpParserError as error:
            self._break(f"upstream sent no valid HTTP answer: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost, self.reusable = True, False
        self._can_write.set()
        if self.raw is not None:
            self.raw.finish()
        ends_body = error is None and not self._framed and self.body is not None
        if ends_body and self.body is not None:
            self.body.finish()
        else:
            self._break("upstream closed the connection before its answer was complete")

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # httptools

    def on_message_begin(self) -> None:
        if self._parser is None:
            # More than one answer: the rest must not be read as the answer to the next call.
            self.reusable, self._spare, self._overflowed = False, None, True
        self._headers, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        if self._parser is None:
            return
        status = self._parser.get_status_code()
        head = AnswerHead(status, self._reason, self._headers)
        coding = head.folded.get("transfer-encoding", "chunked")
        if not 100 <= status <= 999 or coding.strip().lower() != "chunked":
            self._break(f"upstream answered with status {status:03} or coding {coding[:40]!r}")
            self.close()
            return
        self._headers = []  # trailer fields are not part of it
        self._interim = 100 <= status < 200
        if self._interim:
            self._announce(head)
            return
        folded = head.folded
        bodiless = self._bodiless or status in (204, 304)
        head.framed = self._framed = (
            bodiless or "content-length" in folded or "transfer-encoding" in folded
        )
        self._announce(head)
        if self._bodiless and self.body is not None:
            self.reusable = self._parser.should_keep_alive()
            self._parser = None
            self.body.finish()

    def on_body(self, data: bytes) -> None:
        self._unfinished = 0
        if self.body is not None and not self._bodiless and self._parser is not None:
            self.body.feed(data)

    def on_message_complete(self) -> None:
        if self._interim or self._parser is None or self.body is None or self._bodiless:
            return
        self.reusable = self._parser.should_keep_alive() and self._framed
        self._spare, self._parser = self._parser, None
        self.body.finish()

    def _announce(self, head: AnswerHead) -> None:
        self._heads.append(head)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _break(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
        if self.body is not None:
            code = "GatewayTimeout" if self.is_silent else "BadGateway"
            self.body.fail(Failure(code, reason))
        self._notify()

    def _pause(self) -> None:
        if self._transport is not None and not self.lost:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self.lost:
            self._transport.resume_reading()


class ConnectionPool:
    """A client connection's idle upstream connection, from its latest call.

    One is enough: SDKs open separate client connections for each service. More would exhaust the
    descriptors, since the limit of connections counts one upstream descriptor per client.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._upstream: Upstream | None = None
        self._idle: UpstreamConnection | None = None

    async def acquire(self, upstream: Upstream) -> tuple[UpstreamConnection, bool]:
        """Returns a connection for the next call, and whether it has served an earlier one.

        Raises:
            OSError, TimeoutError: the upstream cannot be reached.
        """
        idle, self._idle = self._idle, None
        if idle is not None:
            if idle.reusable and not idle.lost and self._upstream == upstream:
                return idle, True
            idle.close()
        return await UpstreamConnection.connect(upstream, self._context), False

    def release(self, upstream: Upstream, connection: UpstreamConnection) -> None:
        """Stores a connection for the next call if it can be reused."""
        if connection.reusable and not connection.lost:
            self._upstream, self._idle = upstream, connection
        else:
            connection.close()

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
