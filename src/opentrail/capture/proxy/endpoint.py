"""What all client connections share: settings, their number, their deadlines."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Protocol

from opentrail.capture.proxy.asgi import AnswerApiCall
from opentrail.capture.proxy.gate import Gate
from opentrail.capture.proxy.upstream import Upstreams
from opentrail.capture.record.networks import Networks
from opentrail.capture.record.recorder import Recorder
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.wire.routing import Router


class Connection(Protocol):
    """A client connection as the endpoint sees it."""

    #: Done once the connection has ended.
    done: asyncio.Future[None]

    def check_deadlines(self, now: float) -> None:
        """Ends what is overdue at this time of the loop's clock."""

    def close_if_idle(self) -> None:
        """Ends the connection unless a call is in progress."""

    def abort(self) -> None:
        """Cuts the connection."""


@dataclass(slots=True)
class Endpoint:
    """Settings and state that all connections share."""

    recorder: Recorder
    router: Router
    upstreams: Upstreams
    answer_api_call: AnswerApiCall
    clock: Clock
    metrics: Metrics
    tls: ssl.SSLContext | None = None
    #: Verifies callers; None: everybody is whom the access key id says.
    gate: Gate | None = None
    #: Whether URLs of the endpoint in answers get the scheme that the client used.
    rewrites_urls: bool = False
    networks: Networks = field(default_factory=Networks)
    #: Seconds for a request's head, and of silence between or within requests (guarantee N2).
    head_seconds: float = 15.0
    idle_seconds: float = 30.0
    #: Seconds of silence of an upstream (a Lambda may run for 15 minutes).
    answer_seconds: float = 910.0
    most_connections: int = 1_024
    connections: set[Connection] = field(default_factory=set)
    #: Connections without a call in progress, in the order in which they became idle.
    idle: dict[Connection, None] = field(default_factory=dict)
    stopping: bool = False
    _watching: bool = False

    def admit(self, connection: Connection) -> bool:
        """Returns whether a new connection may stay; it may take the place of an idle one."""
        if len(self.connections) >= self.most_connections and not self._close_idle():
            self.metrics.refused.labels("connections").inc()
            return False
        self.connections.add(connection)
        self.idle[connection] = None
        self.metrics.open_connections.set(len(self.connections))
        return True

    def _close_idle(self) -> bool:
        """Closes the connection that has been idle for longest, if any is."""
        oldest = next(iter(self.idle), None)
        if oldest is None:
            return False
        self.forget(oldest)
        oldest.close_if_idle()
        self.metrics.idle_closed.inc()
        return True

    def forget(self, connection: Connection) -> None:
        self.idle.pop(connection, None)
        self.connections.discard(connection)
        self.metrics.open_connections.set(len(self.connections))

    def watch(self) -> None:
        """Checks deadlines for as long as there are connections."""
        if not self._watching:
            self._watching = True
            self._check_deadlines()

    def _check_deadlines(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.check_deadlines(now)
        self._watching = bool(self.connections)
        if self._watching:
            pause = min(1.0, self.head_seconds / 2, self.idle_seconds / 2)
            loop.call_later(pause, self._check_deadlines)

    async def stop(self, seconds: float) -> None:
        """Lets calls in progress finish for this long, then cuts connections (guarantee D18)."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_if_idle()
        if self.connections:
            waiting = [asyncio.shield(connection.done) for connection in self.connections]
            await asyncio.wait(waiting, timeout=seconds)
        cut = list(self.connections)
        for connection in cut:
            connection.abort()
        if cut:
            # Each call that is cut off records so before its connection is done.
            await asyncio.wait([asyncio.shield(one.done) for one in cut], timeout=1.0)
