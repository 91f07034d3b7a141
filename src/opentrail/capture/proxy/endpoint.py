"""State shared by all client connections, the client's side of an answer, and own calls.

For a call of opentrail's API, `ask` runs an ASGI application for one request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from opentrail.capture.proxy.bodies import Flow, Incoming
from opentrail.capture.proxy.connections import Connections
from opentrail.capture.proxy.gate import Gate
from opentrail.capture.proxy.head import CONTINUE
from opentrail.capture.proxy.upstream import ConnectionPool, Upstream, UpstreamConnection, Upstreams
from opentrail.capture.record.choice import Choice
from opentrail.capture.record.client_address import Networks
from opentrail.capture.record.exchange import GONE
from opentrail.capture.record.recorder import Recorder
from opentrail.core.identity import Identity
from opentrail.ports.clock import Clock
from opentrail.ports.metrics import Metrics
from opentrail.wire.message import AsgiApp, Message, Scope
from opentrail.wire.routing import Router
from opentrail.wire.sigv4 import Credential

Headers = list[tuple[bytes, bytes]]
#: Where the application finds the `ApiCall` in its scope.
SCOPE_KEY = "opentrail.call"


@dataclass(slots=True)
class ApiCall:
    """The application's data about a call, in addition to its HTTP request.

    `flaw` says why the credential's scope is invalid. The endpoint runs `when_recorded` with the
    record's position before it sends the answer.
    """

    event_id: str
    identity: Identity | None
    account: str
    region: str
    source_ip: str
    flaw: str | None = None
    #: The verified signature and its expiry; None while signatures are not verified.
    signature: str | None = None
    valid_until: datetime | None = None
    when_recorded: list[Callable[[int], Awaitable[None]]] = field(default_factory=list)
    #: Whether the call came over TLS.
    secure: bool = False
    #: Whether its record was lost; `when_recorded` then receive a substitute position.
    is_lost: bool = False


@dataclass(slots=True)
class ApiAnswer:
    status: int
    headers: Headers
    body: bytes


#: Answers a request of opentrail's API.
AnswerApiCall = Callable[[bytes, bytes, Headers, bytes, ApiCall], Awaitable[ApiAnswer]]


async def ask(
    app: AsgiApp, method: bytes, target: bytes, headers: Headers, body: bytes, api_call: ApiCall
) -> ApiAnswer:
    path, _, query = target.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers],
        "client": (api_call.source_ip, 0),
        "server": None,
        "state": {},
        SCOPE_KEY: api_call,
    }
    answer = ApiAnswer(500, [], b"")
    is_body_read = False

    async def receive() -> Message:
        nonlocal is_body_read
        if is_body_read:
            return {"type": "http.disconnect"}
        is_body_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(bytes(n), bytes(v)) for n, v in message.get("headers", [])]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


@dataclass(slots=True)
class Endpoint(Connections):
    """Settings and state that all connections share."""

    recorder: Recorder
    router: Router
    upstreams: Upstreams
    answer_api_call: AnswerApiCall
    clock: Clock
    metrics: Metrics
    tls: ssl.SSLContext | None = None
    #: Verifies callers; None: the access key id alone identifies them.
    gate: Gate | None = None
    #: Returns a wait for other servers' records of a key; None if there is nothing to wait for.
    #: Without it, the server asks no others.
    meet: Callable[[str], Awaitable[None] | None] | None = None
    #: Trusted proxies, or None.
    networks: Networks | None = None
    #: Decides which calls are recorded; None: all.
    choice: Choice | None = None
    #: Returns whether an upstream carries out a REST call of another service, given its signer and
    #: host, as one of S3; raises OSError while it cannot know. None: no upstream does.
    takes_for_s3: Callable[[Upstream, Credential | None, str], Awaitable[bool]] | None = None
    #: Maximum seconds of an upstream's silence (a Lambda may run for 15 minutes).
    answer_seconds: float = 910.0

    def count_open(self) -> None:
        self.metrics.open_connections.set(len(self.connections))

    def count_closed(self) -> None:
        self.metrics.idle_closed.inc()

    def count_refused(self) -> None:
        self.metrics.refused.labels("connections").inc()


#: Seconds to wait for the rest of an answer whose client has disconnected.
_GONE_SECONDS = 1.0


class ClientChannel:
    """The writing side of a client connection, and the state that calls leave for the next one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.source_ip = ""
        #: `tlsVersion` and `cipherSuite` of the connection, None without TLS.
        self.tls: dict[str, str] | None = None
        self.upstreams = ConnectionPool(endpoint.tls)
        #: Whether the client has gone.
        self.lost = False
        #: Whether the connection is now a WebSocket, and its bytes from the client.
        self.tunnelling = False
        self.raw: Flow | None = None
        self._transport: asyncio.Transport | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._time = asyncio.get_running_loop().time
        #: Deadline for the client to read the written bytes.
        self._read_deadline: float | None = None
        self._awaited: UpstreamConnection | None = None
        self._answer_deadline = 0.0
        self._answer: Flow | None = None

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def ask_to_continue(self, incoming: Incoming) -> None:
        """Asks a client that waits for it to send its body; at most once for each request.

        A client that does not wait would mistake `100 Continue` for the answer to its next request.
        """
        if incoming.awaits_continue:
            incoming.continued = True
            self.write(CONTINUE)

    async def drain(self) -> None:
        """Returns once the client has read most of the written bytes, or has disconnected."""
        if self._can_write.is_set():
            return
        self._read_deadline = self._time() + self.endpoint.idle_seconds
        try:
            await self._can_write.wait()
        finally:
            self._read_deadline = None

    def await_answer(self, connection: UpstreamConnection | None) -> None:
        """Starts waiting for an upstream, with a deadline; None stops waiting.

        `check_deadlines` runs once a second: a timer for each call would cost more.
        """
        self._awaited = connection
        if connection is not None:
            self._answer_deadline = self._time() + self.endpoint.answer_seconds

    def extend_answer_deadline(self) -> None:
        """Gives an upstream that still receives the request more time."""
        self.await_answer(self._awaited)

    async def next_piece(self, answer: Flow, connection: UpstreamConnection) -> bytes:
        """Returns the received bytes of an answer's body, b"" at its end.

        Raises:
            BrokenOffError: it broke off, or its upstream exceeded the deadline.
        """
        if (piece := answer.take()) or answer.complete:
            return piece
        self.await_answer(connection)
        try:
            return await answer.next()
        finally:
            self.await_answer(None)

    def begin_answer(self, answer: Flow) -> None:
        """Stores the answer being forwarded, so that it ends soon if the client disconnects."""
        self._answer = answer
        if self.lost:
            self._end_answer_soon()

    def end_answer(self) -> None:
        """Forgets the answer, which was forwarded or broke off."""
        self._answer = None

    def _end_answer_soon(self) -> None:
        """Breaks the answer off unless it is complete in a moment and can be recorded."""
        if self._answer is not None:
            asyncio.get_running_loop().call_later(_GONE_SECONDS, self._answer.fail, GONE)

    def check_deadlines(self, now: float) -> None:
        """Drops an upstream, or a client that does not read, after its deadline."""
        if self._awaited is not None and now >= self._answer_deadline:
            self._awaited.give_up()
        if self._read_deadline is not None and now >= self._read_deadline:
            self.abort_transport()

    def abort_transport(self) -> None:
        """Aborts the connection, so that a broken answer does not look complete."""
        if self._transport is not None:
            self._transport.abort()
