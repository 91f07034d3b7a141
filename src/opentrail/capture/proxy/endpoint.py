"""What all connections of the endpoint share, and how long each may be silent."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from opentrail.capture.proxy.asgi import AskOwn
from opentrail.capture.proxy.client import ClientConnection
from opentrail.capture.proxy.upstream import Upstreams
from opentrail.capture.record.networks import Networks
from opentrail.capture.record.recorder import Recorder
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.wire.routing import Router


@dataclass(slots=True)
class Endpoint:
    """What all connections share."""

    recorder: Recorder
    router: Router
    upstreams: Upstreams
    own_calls: AskOwn
    clock: Clock
    metrics: Metrics
    tls: ssl.SSLContext | None = None
    #: Whether answers name the endpoint by the scheme that the client used.
    rewrites_urls: bool = False
    networks: Networks = field(default_factory=Networks)
    #: Limits of N2: time for a head, silence between or within requests, connections.
    head_seconds: float = 15.0
    idle_seconds: float = 30.0
    #: Longest silence of an upstream (a Lambda may run for 15 minutes).
    answer_seconds: float = 910.0
    most_connections: int = 1_024
    connections: set[ClientConnection] = field(default_factory=set)
    #: Those without a call under way, the one that has been so for longest first.
    idle: dict[ClientConnection, None] = field(default_factory=dict)
    stopping: bool = False
    _watching: bool = False

    def admit(self, connection: ClientConnection) -> bool:
        """Returns whether a new connection may stay; if there are too many an idle one goes."""
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

    def forget(self, connection: ClientConnection) -> None:
        """Counts a connection no longer."""
        self.idle.pop(connection, None)
        self.connections.discard(connection)
        self.metrics.open_connections.set(len(self.connections))

    def watch(self) -> None:
        """Looks after silent clients for as long as there are connections."""
        if not self._watching:
            self._watching = True
            self._look_again()

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            if connection.deadline is not None and now >= connection.deadline:
                connection.too_late()
            if connection.awaited is not None and now >= connection.awaited_until:
                connection.awaited.give_up()
            if connection.stalled_until is not None and now >= connection.stalled_until:
                connection.abort_transport()
        self._watching = bool(self.connections)
        if self._watching:
            pause = min(1.0, self.head_seconds / 2, self.idle_seconds / 2)
            loop.call_later(pause, self._look_again)

    def connection(self) -> ClientConnection:
        """Returns the protocol of a new connection (for `loop.create_server`)."""
        return ClientConnection(self)

    async def stop(self, seconds: float) -> None:
        """Lets calls under way finish for so long, then cuts their connections (guarantee D18)."""
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
