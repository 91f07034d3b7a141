"""Recorder processes: started, fed with connections, watched, and their records taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from opentrail.adapters.ipc.journal import APPEND, append_packed, unpack
from opentrail.adapters.ipc.link import Link, LinkError
from opentrail.app.api_proxy import OWN_CALL, RECORDED, OwnCallsForRecorders
from opentrail.app.recorder_process import COUNTED, LEARN, START, STATE, STOP
from opentrail.core.errors import StorageFailed
from opentrail.core.event import NewEntry, Record
from opentrail.core.identity import Learned
from opentrail.identity.known_identities import Identities, may_teach, to_json
from opentrail.metrics import SUMMED_GAUGES, Metrics, Sample
from opentrail.ports.journal import JournalWriter
from opentrail.settings import Settings

log = logging.getLogger(__name__)

_START_SECONDS, _STOP_SECONDS, _ASK_SECONDS = 30.0, 9.0, 1.0
#: How often recorder processes are told whether the journal works.
_STATE_SECONDS = 0.1
_LONGEST_PAUSE = 10.0
#: A process that does not answer for so long is ended, and another started.
_PING_SECONDS, _SILENCE_SECONDS = 2.0, 5.0
#: Identities that are told in one message.
_TOLD_AT_ONCE = 5_000
#: Rest after the system refused a connection, as when it has no descriptors left.
_ACCEPT_PAUSE = 1.0
#: Connections accepted in one go.
_AT_ONCE = 64


@dataclass(slots=True, eq=False)
class _Child:
    process: asyncio.subprocess.Process
    link: Link
    passing: socket.socket
    #: What it had counted when it was last asked.
    counted: list[Sample] = field(default_factory=list)
    #: What it was last told of the journal's failure.
    told: str | None = None
    #: Whether it answers, and so may have connections.
    is_well: bool = True


class Recorders:
    """The recorder processes of one server.

    A new connection goes to the next process in turn. What a record teaches about identities is
    known in every process before the record's answer leaves, so that a key may be used at once.
    """

    def __init__(
        self,
        settings: Settings,
        journal: JournalWriter,
        identities: Identities,
        own_calls: OwnCallsForRecorders,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._identities = identities
        self._metrics = metrics
        self._own_calls = own_calls
        self._children: list[_Child] = []
        self._departed: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._turn = 0
        self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listening: socket.socket | None = None
        self._questions: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            RECORDED: own_calls.recorded,
        }

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [child.process.pid for child in self._children]

    async def start(self, listening: socket.socket) -> None:
        """Starts the processes, then accepts connections for them.

        Raises:
            StorageFailed: a process did not start.
        """
        self._listening = listening
        await asyncio.gather(*(self._start_one() for _ in range(self._settings.recorders)))
        self._beside(self._tell_state())
        listening.listen(1024)
        asyncio.get_running_loop().add_reader(listening, self._accept)

    async def _start_one(self) -> None:
        ours, theirs = socket.socketpair()
        passing, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, passing):
            end.setblocking(False)
        with theirs, taking:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "opentrail.app.recorder_process"),
                *(str(theirs.fileno()), str(taking.fileno())),
                pass_fds=(theirs.fileno(), taking.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )
        child = _Child(process, await Link.over(ours, self._unready), passing)
        child.link.answering = lambda question, body: self._answer(child, question, body)
        given = pickle.dumps(self._settings).hex().encode()
        try:
            async with asyncio.timeout(_START_SECONDS):
                for part in _slices(self._identities.learned()):
                    await child.link.ask(LEARN, to_json(part))
                await child.link.ask(START, given)
        except (LinkError, TimeoutError) as error:
            await self._end(child)
            raise StorageFailed(f"a recorder process did not start: {error}") from error
        self._children.append(child)
        # What was learned while it started.
        for part in _slices(self._identities.learned()):
            await self._tell([child], LEARN, to_json(part))
        self._beside(self._watch(child))
        self._beside(self._ping(child))

    async def _unready(self, question: str, _body: bytes) -> bytes:
        raise LinkError(f"asked {question} too early")

    def _beside(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Connections

    def _accept(self) -> None:
        if self._listening is None:
            return
        for _ in range(_AT_ONCE):
            try:
                client, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.error("a connection cannot be accepted", extra={"error": str(error)})
                asyncio.get_running_loop().remove_reader(self._listening)
                asyncio.get_running_loop().call_later(_ACCEPT_PAUSE, self._hold_off)
                return
            with client:
                if client.family in (socket.AF_INET, socket.AF_INET6):
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not self._pass_on(client):
                    log.error("no recorder process can take a connection")
                    self._metrics.refused.labels("connections").inc()

    def _pass_on(self, client: socket.socket) -> bool:
        for _ in range(len(self._children)):
            self._turn = (self._turn + 1) % len(self._children)
            child = self._children[self._turn]
            if not child.is_well:
                continue
            with contextlib.suppress(OSError):
                socket.send_fds(child.passing, [b"c"], [client.fileno()])
                return True
        return False

    # What they ask

    async def _answer(self, child: _Child, question: str, body: bytes) -> bytes:
        if question == APPEND:
            return await self._append(child, body)
        if question == OWN_CALL:
            return await self._own_calls.answer(body, child)
        return await self._questions[question](body)

    async def _append(self, child: _Child, packed: bytes) -> bytes:
        entries = unpack(packed)
        answer = await append_packed(self._journal, entries)
        child.told = self._journal.failure
        self._metrics.journal_position.set(self._journal.head)
        if b'"refused"' not in answer[:12]:
            await self._teach([other for other in self._children if other is not child], entries)
        return answer

    async def _teach(self, others: Sequence[_Child], entries: Sequence[NewEntry]) -> None:
        taught = [
            self._identities.learn(orjson.loads(entry.record))
            for entry in entries
            if may_teach(entry.record)
        ]
        await self._spread(others, _merged(taught))

    async def _spread(self, children: Sequence[_Child], taught: Learned) -> None:
        if taught:
            await self._tell(children, LEARN, to_json(taught))

    def learn(self, record: Record) -> None:
        """Takes in what a record of this process teaches, and passes it on."""
        self._beside(self._spread(list(self._children), self._identities.learn(record)))

    async def _tell(self, children: Sequence[_Child], question: str, body: bytes) -> None:
        """Asks all at once; one that does not answer in time is slow or gone, and watched."""
        await asyncio.gather(*(self._ask(child, question, body) for child in children))

    async def _ask(self, child: _Child, question: str, body: bytes = b"") -> bytes | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await child.link.ask(question, body)
        except (LinkError, TimeoutError):
            return None

    async def _tell_state(self) -> None:
        while True:
            await asyncio.sleep(_STATE_SECONDS)
            failure = self._journal.failure
            outdated = [child for child in self._children if child.told != failure]
            for child in outdated:
                child.told = failure
            await self._tell(outdated, STATE, orjson.dumps({"failure": failure}))

    async def counted(self) -> list[list[Sample]]:
        """Returns what every recorder process has counted since the server started."""
        for child, answer in [(c, await self._ask(c, COUNTED)) for c in list(self._children)]:
            if answer is not None:
                child.counted = _samples(answer)
        departed = [(name, labels, value) for (name, labels), value in self._departed.items()]
        return [departed, *(child.counted for child in self._children)]

    # Their ends

    async def _ping(self, child: _Child) -> None:
        """Ends a process that has stopped answering; `_watch` then starts another."""
        while child in self._children:
            await asyncio.sleep(_PING_SECONDS)
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    child.counted = _samples(await child.link.ask(COUNTED))
            except (LinkError, TimeoutError):
                if self._stopping or child not in self._children:
                    return
                child.is_well = False
                log.error("a recorder process hangs, ending it", extra={"pid": child.process.pid})
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                return

    async def _watch(self, child: _Child) -> None:
        """Starts another when one ends that was not told to."""
        code = await child.process.wait()
        self._children.remove(child)
        for name, labels, value in child.counted:
            if name in SUMMED_GAUGES:
                continue  # its connections ended with it
            self._departed[name, labels] = self._departed.get((name, labels), 0.0) + value
        child.link.close()
        child.passing.close()
        await self._own_calls.orphaned(child, self._journal.head)
        if self._stopping:
            return
        log.error("a recorder process ended, starting another", extra={"code": code})
        self._hold_off()
        pause = 0.1
        while not self._stopping:
            try:
                await self._start_one()
            except (StorageFailed, OSError) as error:
                log.error("a recorder process cannot start", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            break
        self._hold_off()

    def _hold_off(self) -> None:
        """Leaves connections waiting in the system's queue while nobody can take them."""
        if self._listening is None or self._stopping:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        if self._children:
            loop.add_reader(self._listening, self._accept)

    async def stop(self) -> None:
        """Lets calls under way finish, then ends the processes (D18)."""
        self._stopping = True
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
        await asyncio.gather(*(self._end(child, told=True) for child in list(self._children)))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, child: _Child, told: bool = False) -> None:
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                if told:
                    child.counted = _samples(await child.link.ask(STOP))
        child.link.close()
        child.passing.close()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await child.process.wait()
        except TimeoutError:
            child.process.kill()
            await child.process.wait()


def _merged(taught: Sequence[Learned]) -> Learned:
    return Learned(
        tuple(identity for one in taught for identity in one.identities),
        tuple(user for one in taught for user in one.users),
        tuple(key for one in taught for key in one.deleted),
    )


def _slices(learned: Learned) -> list[Learned]:
    """Returns what was learned in parts that fit a message."""
    longest = max(len(learned.identities), len(learned.users), len(learned.deleted), 1)
    return [
        Learned(
            learned.identities[start : start + _TOLD_AT_ONCE],
            learned.users[start : start + _TOLD_AT_ONCE],
            learned.deleted[start : start + _TOLD_AT_ONCE],
        )
        for start in range(0, longest, _TOLD_AT_ONCE)
    ]


def _samples(answer: bytes) -> list[Sample]:
    return [
        (name, tuple((key, value) for key, value in labels), counted)
        for name, labels, counted in orjson.loads(answer)
    ]
