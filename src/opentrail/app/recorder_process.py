"""A recorder process: records the calls of connections that the server hands over.

python -m opentrail.app.recorder_process LINK CONNECTIONS

It has no lasting state and ends with the server: an unrecordable call gets no answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from opentrail.access.keys import KnownKey
from opentrail.adapters.ipc.child import run_child, until_gone
from opentrail.adapters.ipc.journal import IpcJournalWriter
from opentrail.adapters.ipc.link import IpcRequest, Link
from opentrail.app.api_proxy import ApiProxy
from opentrail.app.endpoint_server import EndpointServer
from opentrail.core.errors import UsageError
from opentrail.core.identity import Learned
from opentrail.identity.known_identities import KnownIdentities, directory_identities
from opentrail.ports.metrics import Metrics, Sample
from opentrail.settings import Settings
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

#: Maximum seconds for unfinished TLS handshakes when the process ends.
_HANDSHAKE_SECONDS = 0.5


class StartRecorder(IpcRequest[None], frozen=True):
    """Start to serve connections."""

    settings: Settings
    #: Whether to ask the server about unknown keys.
    asks: bool


class MeetKey(IpcRequest[bool], frozen=True):
    """Learn other servers' identities of a key from the server; False if some may be missing."""

    access_key_id: str


class Learn(IpcRequest[None], frozen=True):
    """Add these identities."""

    learned: Learned


class KnowKeys(IpcRequest[None], frozen=True):
    """Add and remove these keys of the key directory."""

    keys: tuple[KnownKey, ...]
    forgotten: tuple[str, ...]


class JournalState(IpcRequest[None], frozen=True):
    """Why the journal fails, None if it works."""

    failure: str | None


class NameKey(IpcRequest[None], frozen=True):
    """Set or remove the identity behind a key."""

    access_key_id: str
    entry: dict[str, Any] | None


class ReloadCertificate(IpcRequest[None], frozen=True):
    """Reload certificate and key."""


class GetSamples(IpcRequest[list[Sample]], frozen=True):
    """Return this process's metrics."""


class StopRecorder(IpcRequest[list[Sample]], frozen=True):
    """Finish the calls under way and end; returns the last metrics."""


class RecorderProcess:
    """Handles the server's requests, and serves connections from the server."""

    def __init__(self, connections: socket.socket) -> None:
        connections.setblocking(False)
        self._connections = connections
        self._accepting: set[asyncio.Task[None]] = set()
        self._metrics = Metrics()
        self._identities = KnownIdentities()
        self._stopped = asyncio.Event()
        self._server: EndpointServer | None = None

    async def serve(self, end: socket.socket) -> None:
        """Serves until the server asks it to end, or ends."""
        self._link = await Link.over(
            end,
            {
                StartRecorder: self._start,
                Learn: self._learn,
                KnowKeys: self._know_keys,
                NameKey: self._name_key,
                JournalState: self._journal_state,
                ReloadCertificate: self._reload_certificate,
                GetSamples: self._samples,
                StopRecorder: self._stop,
            },
        )
        self._journal = IpcJournalWriter(self._link)
        await until_gone(self._link, self._stopped)

    async def _start(self, request: StartRecorder) -> None:
        settings = request.settings
        self._identities.add_directory(directory_identities(settings.directory))
        self._server = server = EndpointServer(
            settings,
            self._journal,
            self._identities,
            ApiProxy(self._link).ask,
            self._metrics,
            ServiceCatalog(),
            self._ask_server if request.asks else None,
        )
        asyncio.get_running_loop().add_reader(self._connections, self._receive_connections, server)

    async def _ask_server(self, access_key_id: str) -> bool:
        return await self._link.ask(MeetKey(access_key_id))

    def _receive_connections(self, server: EndpointServer) -> bool:
        """Receives one connection; returns whether another one may follow."""
        loop = asyncio.get_running_loop()
        try:
            # One connection arrives with each byte.
            data, descriptors, _, _ = socket.recv_fds(self._connections, 1, 1)
        except BlockingIOError:
            return False
        if not data:
            loop.remove_reader(self._connections)
        for descriptor in descriptors:
            client = socket.socket(fileno=descriptor)
            client.setblocking(False)
            task = loop.create_task(server.serve(client))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)
        return bool(data)

    async def _learn(self, request: Learn) -> None:
        self._identities.absorb(request.learned)

    async def _know_keys(self, request: KnowKeys) -> None:
        if self._server is not None:
            await self._server.know_keys(request.keys, request.forgotten)

    async def _name_key(self, request: NameKey) -> None:
        if self._server is not None:
            await self._server.name_key(request.access_key_id, request.entry)

    async def _journal_state(self, request: JournalState) -> None:
        self._journal.failure = request.failure

    async def _reload_certificate(self, _request: ReloadCertificate) -> None:
        if self._server is not None:
            try:
                self._server.reload_certificate()
            except UsageError as error:  # the server has already logged it for all
                log.info("certificate not reloaded", extra={"error": str(error)})

    async def _samples(self, _request: GetSamples) -> list[Sample]:
        return self._metrics.samples()

    async def _stop(self, _request: StopRecorder) -> list[Sample]:
        while self._server is not None and self._receive_connections(self._server):
            pass  # handed over before the server ended
        asyncio.get_running_loop().remove_reader(self._connections)
        if self._accepting:
            _, silent = await asyncio.wait(self._accepting, timeout=_HANDSHAKE_SECONDS)
            for task in silent:
                task.cancel()
        if self._server is not None:
            await self._server.stop()
        asyncio.get_running_loop().call_soon(self._stopped.set)
        return self._metrics.samples()


async def _serve(ends: list[socket.socket], _arguments: list[str]) -> None:
    link, connections = ends
    with connections:
        await RecorderProcess(connections).serve(link)


if __name__ == "__main__":
    run_child(_serve, ends=2)
