"""The limits that the connections of a port share: their number, and their silence."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

log = logging.getLogger(__name__)

#: Maximum seconds of a TLS handshake, the same as for a request's head (guarantee N2).
HANDSHAKE_SECONDS = 15.0
#: Maximum seconds that a closed connection also waits for its client to close TLS: until then it
#: has a descriptor.
_SHUTDOWN_SECONDS = 1.0
#: Bytes per second of a request's body below which it may be cut off in favour of a new connection.
_MIN_BODY_RATE = 500
#: Pause after the system refused to accept a connection, for example without free descriptors.
_ACCEPT_PAUSE_SECONDS = 1.0
#: Maximum connections accepted at a time.
_ACCEPT_BATCH = 64
#: Maximum connections in the system's queue.
_BACKLOG = 1_024


class Connection(Protocol):
    """A client connection as its port sees it."""

    #: Done once the connection has ended.
    done: asyncio.Future[None]
    #: The IP address of the client.
    address: str

    def check_deadlines(self, now: float) -> None:
        """Ends overdue connections at this time of the loop's clock."""

    def close_if_idle(self) -> None:
        """Ends the connection unless a call is in progress."""

    def abort(self) -> None:
        """Cuts the connection."""

    @property
    def body(self) -> BodyProgress | None:
        """The body being received, or None."""


@dataclass(slots=True)
class BodyProgress:
    """The received bytes of a request's body since its head."""

    #: Time of the loop's clock.
    since: float
    size: int = 0

    def rate(self, now: float) -> float:
        """Returns its bytes per second."""
        return self.size / max(now - self.since, 0.001)


@dataclass(slots=True, kw_only=True)
class Connections:
    """The connections of a port."""

    #: Seconds for a request's head, and of silence between or within requests (guarantee N2).
    head_seconds: float = 15.0
    idle_seconds: float = 30.0
    #: Seconds to wait for the first call of a connection when the server ends.
    first_call_seconds: float = 0.5
    #: Seconds before the minimum speed of a body applies.
    body_grace_seconds: float = 1.0
    max_connections: int = 1_024
    connections: set[Connection] = field(default_factory=set)
    #: Connections without a call in progress, in the order in which they became idle: connections
    #: before their first call, and the others.
    unused: dict[Connection, None] = field(default_factory=dict)
    idle: dict[Connection, None] = field(default_factory=dict)
    stopping: bool = False
    #: The number of connections of each address.
    _addresses: Counter[str] = field(default_factory=Counter)
    _watching: bool = False
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def count_open(self) -> None:
        """Is called when the number of connections has changed."""

    def count_closed(self) -> None:
        """Called when a connection was closed in favour of a new one."""

    def count_refused(self) -> None:
        """Is called when a new connection was refused."""

    def admit(self, connection: Connection) -> bool:
        """Returns whether a new connection may stay, possibly in the place of an idle one."""
        if len(self.connections) >= self.max_connections and not self._make_room():
            self.count_refused()
            return False
        self.connections.add(connection)
        self._addresses[connection.address] += 1
        self.unused[connection] = None
        self.count_open()
        return True

    def begin_call(self, connection: Connection) -> None:
        """Is called when a connection has a call in progress."""
        self.unused.pop(connection, None)
        self.idle.pop(connection, None)

    def end_call(self, connection: Connection) -> None:
        """Is called when a connection waits for its next call."""
        self.idle[connection] = None

    def _make_room(self) -> bool:
        """Closes the longest idle connection, or one whose body hardly arrives.

        Connections before their first call come first, starting with the address that has most of
        them: a flood from one address does not close the others.
        """
        oldest = self._oldest(self.unused) or self._oldest(self.idle)
        if oldest is not None:
            self.forget(oldest)
            oldest.close_if_idle()
        elif (slowest := self._slowest()) is not None:
            self.forget(slowest)
            slowest.abort()
        else:
            return False
        self.count_closed()
        return True

    def _oldest(self, connections: Mapping[Connection, None]) -> Connection | None:
        """Returns the first connection of the address with the most connections."""
        most = max(self._addresses.values(), default=0)
        first = next(iter(connections), None)
        return next((one for one in connections if self._addresses[one.address] == most), first)

    def _slowest(self) -> Connection | None:
        """Returns the connection with the slowest body, None if all are fast enough."""
        now = asyncio.get_running_loop().time()
        rates = [
            (connection.body.rate(now), connection)
            for connection in self.connections
            if connection.body is not None
            and now - connection.body.since >= self.body_grace_seconds
        ]
        rate, slowest = min(rates, key=lambda pair: pair[0], default=(float("inf"), None))
        return slowest if rate < _MIN_BODY_RATE else None

    def forget(self, connection: Connection) -> None:
        self.unused.pop(connection, None)
        self.idle.pop(connection, None)
        if connection in self.connections:
            self.connections.discard(connection)
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]
        self.count_open()

    def watch(self) -> None:
        """Checks deadlines while there are connections."""
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
        for connection in list(self.idle):
            connection.close_if_idle()
        if self.unused or self._serving:
            # A client that has just connected may have sent its call.
            await asyncio.sleep(self.first_call_seconds)
        for connection in list(self.connections):
            connection.close_if_idle()
        if self.connections:
            waiting = [asyncio.shield(connection.done) for connection in self.connections]
            await asyncio.wait(waiting, timeout=seconds)
        unfinished = list(self.connections)
        for connection in unfinished:
            connection.abort()
        if unfinished:
            # Each call that is cut off records this before its connection ends.
            await asyncio.wait(
                [asyncio.shield(connection.done) for connection in unfinished], timeout=1.0
            )

    def take(
        self,
        client: socket.socket,
        tls: ssl.SSLContext | None,
        make: Callable[[Handshake | None], asyncio.Protocol],
    ) -> None:
        """Serves an accepted connection in the background, as `serve` does."""
        task = asyncio.get_running_loop().create_task(self.serve(client, tls, make))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def serve(
        self,
        client: socket.socket,
        tls: ssl.SSLContext | None,
        make: Callable[[Handshake | None], asyncio.Protocol],
    ) -> None:
        """Serves an accepted connection by a protocol; returns once its TLS handshake has ended.

        Args:
            client: the connection.
            tls: the TLS context; None for a plain connection.
            make: makes the protocol, which forgets the handshake and admits itself when connected.
        """
        loop = asyncio.get_running_loop()
        # The client may disconnect early or fail the handshake.
        with contextlib.suppress(OSError):
            if tls is None:
                await loop.connect_accepted_socket(lambda: make(None), client)
                return
            peer = client.getpeername()
            handshake = Handshake(asyncio.current_task(), peer[0] if peer else "")
            if not self.admit(handshake):
                client.close()
                return
            try:
                await loop.connect_accepted_socket(
                    lambda: make(handshake),
                    client,
                    ssl=tls,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
                )
            finally:
                self.forget(handshake)
                handshake.done.set_result(None)


class Handshake:
    """A connection during its TLS handshake: idle, so that it makes room for others."""

    body: BodyProgress | None = None

    def __init__(self, task: asyncio.Task[None] | None, address: str) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.address = address
        self._task = task

    def check_deadlines(self, now: float) -> None:
        """Does nothing: the event loop limits the time of handshakes."""

    def close_if_idle(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()


def address_of(transport: asyncio.BaseTransport) -> str:
    """Returns the IP address of a connection's client, or ""."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


class Acceptor:
    """Accepts the connections of a listening socket.

    Args:
        listening: a bound, non-blocking socket.
        take: called with each connection, which it then owns.
        admits: returns whether the host with an address may connect; others are cut off.
    """

    def __init__(
        self,
        listening: socket.socket,
        take: Callable[[socket.socket], None],
        admits: Callable[[str], bool] | None = None,
    ) -> None:
        listening.listen(_BACKLOG)
        self._listening = listening
        self._take = take
        self._admits = admits
        self._is_wanted = self._is_paused = self._is_closed = False

    def accept(self, is_wanted: bool = True) -> None:
        """Accepts connections, or leaves them in the system's queue."""
        self._is_wanted = is_wanted
        self._update()

    def close(self) -> None:
        """Accepts only the connections queued by the system: it refuses new ones."""
        if self._is_wanted:
            for _ in range(_BACKLOG // _ACCEPT_BATCH):
                self._accept()
        self.accept(False)
        self._is_closed = True
        self._listening.close()

    def _update(self) -> None:
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        if self._is_wanted and not self._is_paused:
            loop.add_reader(self._listening, self._accept)
        else:
            loop.remove_reader(self._listening)

    def _resume(self) -> None:
        self._is_paused = False
        self._update()

    def _accept(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                client, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # the client has gone
            except OSError as error:
                log.error("a connection cannot be accepted", extra={"error": str(error)})
                self._is_paused = True
                self._update()
                asyncio.get_running_loop().call_later(_ACCEPT_PAUSE_SECONDS, self._resume)
                return
            if self._admits is not None and not self._admits(address[0]):
                client.close()
                continue
            client.setblocking(False)
            if client.family in (socket.AF_INET, socket.AF_INET6):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._take(client)
