"""One of several recorder processes: takes connections from the server, sends it records.

It keeps nothing. If the server goes, it goes: a call that cannot be recorded is not answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

import orjson
import uvloop

from opentrail.adapters.ipc.journal import LinkedJournal
from opentrail.adapters.ipc.link import Link
from opentrail.adapters.system import LOOP_TURN, prefer_short_turns, settle_memory
from opentrail.app.api_proxy import LinkedOwnCalls
from opentrail.app.endpoint_server import PRELOADED, EndpointServer
from opentrail.identity.known_identities import KnownIdentities, directory_identities, from_json
from opentrail.logs import set_up_logging
from opentrail.metrics import Metrics
from opentrail.settings import Settings
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

#: What the server asks of a recorder process.
START, LEARN, STATE, COUNTED, STOP = "start", "learn", "state", "counted", "stop"
#: At the end, TLS handshakes under way get so many seconds more.
_HANDSHAKE_REST = 0.5
#: Connections handed over in one message.
_PASSED = 16


class RecorderProcess:
    """Answers the server's questions, and serves the connections it hands over."""

    def __init__(self, link_end: socket.socket, connections: socket.socket) -> None:
        self._link_end = link_end
        self._connections = connections
        self._accepting: set[asyncio.Task[None]] = set()
        self._metrics = Metrics()
        self._identities = KnownIdentities()
        self._stopped = asyncio.Event()
        self._questions: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            START: self._start,
            LEARN: self._learn,
            STATE: self._take_state,
            COUNTED: self._counted,
            STOP: self._stop,
        }

    async def run(self) -> None:
        """Serves until the server says stop, or is gone."""
        self._link = await Link.over(self._link_end, self._answer)
        self._journal = LinkedJournal(self._link)
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait((stopped, self._link.gone), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self._link.close()

    async def _answer(self, question: str, body: bytes) -> bytes:
        return await self._questions[question](body)

    async def _start(self, body: bytes) -> bytes:
        # The server started this process and holds the only other end of the socket.
        settings: Settings = pickle.loads(bytes.fromhex(body.decode()))  # noqa: S301
        self._identities.add_directory(directory_identities(settings.directory))
        catalog = ServiceCatalog()
        catalog.preload(PRELOADED)
        own_calls = LinkedOwnCalls(self._link.ask)
        self._front = EndpointServer(
            settings, self._journal, self._identities, own_calls.ask, self._metrics, catalog
        )
        settle_memory()
        prefer_short_turns(LOOP_TURN)
        asyncio.get_running_loop().add_reader(self._connections, self._take_connections)
        return b""

    def _take_connections(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            data, passed, _, _ = socket.recv_fds(self._connections, 1, _PASSED)
        except BlockingIOError:
            return
        if not data:
            loop.remove_reader(self._connections)
        for descriptor in passed:
            client = socket.socket(fileno=descriptor)
            client.setblocking(False)
            task = loop.create_task(self._front.serve(client))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _learn(self, body: bytes) -> bytes:
        self._identities.absorb(from_json(body))
        return b""

    async def _take_state(self, body: bytes) -> bytes:
        self._journal.failure = orjson.loads(body)["failure"]
        return b""

    async def _counted(self, _body: bytes) -> bytes:
        return orjson.dumps(self._metrics.samples())

    async def _stop(self, _body: bytes) -> bytes:
        asyncio.get_running_loop().remove_reader(self._connections)
        if self._accepting:
            # TLS handshakes: those that do not end soon have no calls under way.
            _, silent = await asyncio.wait(self._accepting, timeout=_HANDSHAKE_REST)
            for task in silent:
                task.cancel()
        await self._front.stop()
        counted = await self._counted(b"")
        asyncio.get_running_loop().call_soon(self._stopped.set)
        return counted


async def _run(link_end: int, connections: int) -> None:
    with (
        socket.socket(fileno=link_end) as link,
        socket.socket(fileno=connections) as passing,
    ):
        link.setblocking(False)
        passing.setblocking(False)
        await RecorderProcess(link, passing).run()


def main() -> None:
    """Runs a recorder process; its arguments are the descriptors of its two sockets."""
    # Signals meant for the server reach its whole process group: it tells when to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    set_up_logging()
    uvloop.run(_run(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
