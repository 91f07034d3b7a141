"""Recorder processes: hands connections to them, and appends their records."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from opentrail.access.keys import KnownKey, KnownKeys
from opentrail.adapters.ipc.child import ChildProcess
from opentrail.adapters.ipc.journal import Appended, AppendEntries, append_to
from opentrail.adapters.ipc.link import IpcRequest, Link, LinkError
from opentrail.app.api_proxy import CallRecorded, ProxiedAnswer, ProxiedCalls, ProxyCall
from opentrail.app.endpoint_server import admitted_peers
from opentrail.app.recorder_process import (
    GetSamples,
    JournalState,
    KnowKeys,
    Learn,
    MeetKey,
    NameKey,
    ReloadCertificate,
    StartRecorder,
    StopRecorder,
)
from opentrail.capture.proxy.connections import Acceptor
from opentrail.core.event import NewEntry, Record
from opentrail.core.identity import Learned
from opentrail.identity.known_identities import CatchUp, Identities, directory_identities, may_teach
from opentrail.ports.journal import JournalWriter
from opentrail.ports.metrics import SUMMED_GAUGES, Metrics, Sample
from opentrail.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Maximum seconds for a recorder process to start.
_START_SECONDS = 30.0
#: Maximum seconds for a recorder process to stop.
_STOP_SECONDS = 9.0
#: Maximum seconds for a request to it.
_ASK_SECONDS = 1.0
#: A recorder process is killed and replaced after this many seconds of silence.
_SILENCE_SECONDS = 7.0
#: Interval at which recorder processes get a changed state of the journal.
_STATE_SECONDS = 0.1
#: Maximum identities in one message.
_MAX_PER_MESSAGE = 5_000


class _RecorderHandle:
    """One recorder process, or its successors."""

    def __init__(self, recorders: Recorders) -> None:
        self._recorders = recorders
        self._passing: socket.socket | None = None
        self._link: Link | None = None
        #: Its latest metrics.
        self.samples: list[Sample] = []
        #: The journal failure last sent to it.
        self.journal_failure: str | None = None
        self.child = ChildProcess(
            "opentrail.app.recorder_process",
            (),
            {
                AppendEntries: self._append,
                MeetKey: self._meet_key,
                ProxyCall: self._proxy_call,
                CallRecorded: recorders.proxied_calls.run_actions,
            },
            self._prepare,
            prepare_seconds=_START_SECONDS,
            heartbeat=self._heartbeat,
            silence_seconds=_SILENCE_SECONDS,
            on_end=self._clean_up,
            extra_socket=self._connections_socket,
        )

    def _connections_socket(self) -> socket.socket:
        self._passing, theirs = socket.socketpair()
        self._passing.setblocking(False)
        return theirs

    async def _prepare(self, link: Link) -> None:
        # The process now also gets identities that others learn.
        self._link = link
        for part in self._recorders.identities.parts(_MAX_PER_MESSAGE):
            await link.ask(Learn(part))
        self.journal_failure = self._recorders.journal.failure
        await link.ask(JournalState(self.journal_failure))
        asks = self._recorders.catch_up is not None
        await link.ask(StartRecorder(self._recorders.settings, asks))
        keys = self._recorders.keys.all()
        for start in range(0, len(keys), _MAX_PER_MESSAGE):
            await link.ask(KnowKeys(tuple(keys[start : start + _MAX_PER_MESSAGE]), ()))
        asyncio.get_running_loop().call_soon(self._recorders.accept_connections)

    async def _heartbeat(self, link: Link) -> None:
        self.samples = await link.ask(GetSamples())

    async def _append(self, request: AppendEntries) -> Appended:
        appended = await append_to(self._recorders.journal, request)
        self.journal_failure = appended.failure
        if appended.refused is None:
            await self._recorders.share_identities(self, request.entries)
        return appended

    async def _meet_key(self, request: MeetKey) -> bool:
        catch_up = self._recorders.catch_up
        return catch_up is None or await catch_up(request.access_key_id)

    async def _proxy_call(self, call: ProxyCall) -> ProxiedAnswer:
        return await self._recorders.proxied_calls.answer(call, self)

    @property
    def is_ready(self) -> bool:
        """Whether it can be handed connections."""
        return self.child.is_ready

    def hand_over(self, client: socket.socket) -> bool:
        """Sends a connection to the process; returns whether it succeeded."""
        if self._passing is None or not self.is_ready:
            return False
        try:
            socket.send_fds(self._passing, [b"c"], [client.fileno()])
        except OSError:
            return False
        return True

    async def send(self, request: IpcRequest[T]) -> T | None:
        """Returns the response; None if the process is slow or has ended."""
        if self._link is None:
            return None
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await self._link.ask(request)
        except (LinkError, TimeoutError):
            return None

    async def _clean_up(self) -> None:
        self._link = None
        if self._passing is not None:
            self._passing.close()
        await self._recorders.clean_up_after(self, self.samples)
        self.samples, self.journal_failure = [], None

    async def stop(self) -> None:
        """Finishes running calls, then ends the process."""
        self.samples = await self.child.stop(StopRecorder(), _STOP_SECONDS) or self.samples
        await self._clean_up()


class Recorders:
    """The recorder processes of one server.

    New connections go to the processes in turn. Identities learned from a record are known in every
    process before the answer leaves, so that a new key works immediately.
    """

    def __init__(
        self,
        settings: Settings,
        journal: JournalWriter,
        identities: Identities,
        proxied_calls: ProxiedCalls,
        metrics: Metrics,
        catch_up: CatchUp | None = None,
    ) -> None:
        self.settings = settings
        self.catch_up = catch_up
        self.journal = journal
        self.identities = identities
        identities.share_with(lambda learned: self._spread(self._recorders, learned))
        self.proxied_calls = proxied_calls
        #: The keys of the key directory.
        self.keys = KnownKeys()
        self._metrics = metrics
        self._recorders = [_RecorderHandle(self) for _ in range(settings.recorders)]
        #: Totals of ended processes.
        self._ended_totals: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._next = 0
        self._is_stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._acceptor: Acceptor | None = None

    async def start(self, listening: socket.socket) -> None:
        """Starts the processes, then accepts connections for them.

        Raises:
            StorageFailed: a process did not start.
        """
        await asyncio.gather(*(recorder.child.start() for recorder in self._recorders))
        self._in_background(self._send_state())
        admits = admitted_peers(self.settings, self._metrics)
        self._acceptor = Acceptor(listening, self._take, admits)
        self.accept_connections()

    def _in_background(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Connections

    def accept_connections(self) -> None:
        """Accepts connections while a process can take them; else they wait in the backlog."""
        if self._acceptor is not None and not self._is_stopping:
            self._acceptor.accept(any(recorder.is_ready for recorder in self._recorders))

    def _take(self, client: socket.socket) -> None:
        with client:
            if not self._hand_over(client):
                log.error("no recorder process is ready for a connection")
                self._metrics.refused.labels("connections").inc()

    def _hand_over(self, client: socket.socket) -> bool:
        for _ in self._recorders:
            self._next = (self._next + 1) % len(self._recorders)
            if self._recorders[self._next].hand_over(client):
                return True
        return False

    # Identities that processes learn from each other

    async def share_identities(self, by: _RecorderHandle, entries: Sequence[NewEntry]) -> None:
        """Sends the identities in the entries of one process to all others."""
        self._metrics.journal_position.set(self.journal.head)
        learned = [
            self.identities.learn(orjson.loads(entry.record))
            for entry in entries
            if may_teach(entry.record)
        ]
        await self._spread(
            [recorder for recorder in self._recorders if recorder is not by], _merge(learned)
        )

    def learn(self, record: Record) -> None:
        """Learns from a record of this process, and passes it on."""
        self._in_background(self._spread(self._recorders, self.identities.learn(record)))

    async def know_keys(self, keys: Sequence[KnownKey], forgotten: Sequence[str] = ()) -> None:
        """Sends every process these keys of the key directory, and the keys to forget."""
        self.identities.add_directory(self.keys.update(keys, forgotten))
        if self._acceptor is not None:  # a new process gets all keys
            change = KnowKeys(tuple(keys), tuple(forgotten))
            await asyncio.gather(*(recorder.send(change) for recorder in self._recorders))

    async def name_key(self, access_key_id: str, entry: Mapping[str, Any] | None) -> None:
        """Sends every process the identity behind a key; None makes them forget it."""
        identities = directory_identities({access_key_id: entry}) if entry else []
        self.identities.add_directory(identities, [access_key_id])
        others = {
            key: other for key, other in self.settings.directory.items() if key != access_key_id
        }
        directory = {**others, access_key_id: entry} if entry else others
        self.settings = replace(self.settings, directory=directory)  # for a process that starts
        change = NameKey(access_key_id, dict(entry) if entry else None)
        await asyncio.gather(*(recorder.send(change) for recorder in self._recorders))

    async def _spread(self, recorders: Sequence[_RecorderHandle], learned: Learned) -> None:
        if learned:
            await asyncio.gather(*(recorder.send(Learn(learned)) for recorder in recorders))

    def reload_certificate(self) -> None:
        """Reloads the TLS certificate and its key in every process."""
        for recorder in self._recorders:
            self._in_background(recorder.send(ReloadCertificate()))

    async def _send_state(self) -> None:
        while True:
            await asyncio.sleep(_STATE_SECONDS)
            failure = self.journal.failure
            outdated = [r for r in self._recorders if r.journal_failure != failure]
            for recorder in outdated:
                recorder.journal_failure = failure
            await asyncio.gather(*(r.send(JournalState(failure)) for r in outdated))

    async def collect_samples(self) -> list[list[Sample]]:
        """Returns the metrics of every recorder process since the server started."""
        for recorder in self._recorders:
            recorder.samples = await recorder.send(GetSamples()) or recorder.samples
        ended = [(name, labels, value) for (name, labels), value in self._ended_totals.items()]
        return [ended, *(recorder.samples for recorder in self._recorders)]

    # Ends

    async def clean_up_after(self, recorder: _RecorderHandle, samples: Sequence[Sample]) -> None:
        """Adds up the metrics of a process that has ended and completes its API calls."""
        for name, labels, value in samples:
            if name not in SUMMED_GAUGES:  # its connections ended with it
                total = self._ended_totals.get((name, labels), 0.0)
                self._ended_totals[name, labels] = total + value
        self.accept_connections()
        await self.proxied_calls.complete_orphaned(recorder, self.journal.head)

    async def stop(self) -> None:
        """Finishes running calls, then ends the processes (guarantee D18)."""
        self._is_stopping = True
        if self._acceptor is not None:
            self._acceptor.close()
        await asyncio.gather(*(recorder.stop() for recorder in self._recorders))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _merge(learned: Sequence[Learned]) -> Learned:
    return Learned(
        tuple(identity for part in learned for identity in part.identities),
        tuple(user for part in learned for user in part.users),
        tuple(key for part in learned for key in part.deleted),
        next((part.account for part in learned if part.account), ""),
    )
