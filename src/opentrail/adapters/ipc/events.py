"""Event history in a process of its own, asked over a link."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from opentrail.adapters.ipc import messages
from opentrail.adapters.ipc.link import Link, LinkError
from opentrail.core.errors import StorageFailed, StoreRestarted
from opentrail.core.event import Entry, micros
from opentrail.ports.event_store import EventQuery, FoundEvent

log = logging.getLogger(__name__)

#: Entries go over in parts of about so many bytes.
_PART_BYTES = 16 * 1024 * 1024
_CLOSE_SECONDS, _ADD_SECONDS, _LOOKUP_SECONDS = 5.0, 120.0, 120.0
_OPEN_SECONDS = 3_600.0
#: Larger answers are read in a thread, beside the calls that are recorded meanwhile.
_LARGE_ANSWER = 256 * 1024
_LONGEST_PAUSE = 10.0
#: Processes that are started at first, if they end before they are ready.
_STARTS = 3
#: How often the process is asked whether it is there, and how long it may take to say so.
_PING_SECONDS, _SILENCE_SECONDS = 2.0, 10.0


@dataclass(frozen=True, slots=True)
class HistoryState:
    """How the store stands.

    `missing` are ranges of positions that are lost, `lost_imports` those of imported events,
    `damaged` files that were set aside.
    """

    position: int = 0
    imported: int = 0
    sealed: int = 0
    files: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    damaged: tuple[str, ...] = ()
    #: Every sealed file has been compared with its hash since the start.
    is_checked: bool = False
    lost_imports: tuple[tuple[int, int], ...] = ()


class _Ended(StorageFailed):
    """A process ended before it was ready; another one may do better."""


class LinkedEvents:
    """An `EventStore` and `Archive` in a child process, which is started again if it dies.

    Then the hot layer is empty, `position` is that of the last sealed file, and `on_restart` is
    called, so that the journal's rest is added again.
    """

    def __init__(
        self,
        folder: Path,
        journal: Path,
        seal_records: int,
        on_restart: Callable[[], None] = lambda: None,
        repair_journal: Callable[[int, int], Awaitable[None]] | None = None,
        imported: int = 0,
        silence_seconds: float = _SILENCE_SECONDS,
    ) -> None:
        self._repair_journal = repair_journal
        self._silence_seconds = silence_seconds
        self._pinging: asyncio.Task[None] | None = None
        #: Whether the process answered when it was last asked whether it is there.
        self.is_responding = True
        self._arguments = (str(folder), str(journal), str(seal_records))
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closing = False
        #: How many processes there have been.
        self._generation = 0
        #: `imported` is the number of the last imported event that is known to have been there.
        self.state = HistoryState(imported=imported)

    @property
    def position(self) -> int:
        """The last position that look-ups see."""
        return self.state.position

    @property
    def imported(self) -> int:
        """The number of the last imported event."""
        return self.state.imported

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid if self._process else None

    async def open(self) -> int:
        """Starts the process and returns the last sealed position.

        Raises:
            StorageFailed: it did not start.
        """
        for attempts_left in reversed(range(_STARTS)):
            try:
                await self._start()
                break
            except _Ended as error:
                if not attempts_left:
                    raise
                log.error("history cannot be opened", extra={"error": str(error)})
            except OSError as error:
                raise StorageFailed(f"history cannot be opened: {error}") from error
        self._ready.set()
        self._watching = asyncio.create_task(self._watch())
        return self.state.position

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "opentrail.adapters.duckdb.process"),
                *(str(theirs.fileno()), *self._arguments),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )
        self._link = await Link.over(ours, self._answer)
        self._pinging = asyncio.create_task(self._ping(self._link, self._process))
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                known = orjson.dumps(self.state.imported)
                self._take_state(await self._link.ask(messages.OPEN, known))
        except (LinkError, TimeoutError) as error:
            kind = _Ended if self._link.gone.done() else StorageFailed
            await self._end()
            raise kind(f"history cannot be opened: {error}") from error
        self._generation += 1

    async def _ping(self, link: Link, process: asyncio.subprocess.Process) -> None:
        """Sees how the process is, and ends one that has stopped answering.

        `_watch` then starts another.
        """
        while not link.gone.done():
            is_open = self._ready.is_set()
            ping = asyncio.ensure_future(self._refresh(link) if is_open else link.ping())
            try:
                await asyncio.wait([ping], timeout=_PING_SECONDS)
                self.is_responding = ping.done()
                async with asyncio.timeout(self._silence_seconds):
                    await ping
                self.is_responding = True
                await asyncio.sleep(_PING_SECONDS)
            except LinkError as error:
                if not link.gone.done():  # an answer, though it is not the one asked for
                    log.warning("history cannot say how it is", extra={"error": str(error)})
                    await asyncio.sleep(_PING_SECONDS)
            except TimeoutError:
                log.error("the history process hangs, ending it", extra={"pid": process.pid})
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return

    async def _watch(self) -> None:
        """Starts the process again whenever it is gone."""
        failures = 0
        while self._link is not None:
            await asyncio.shield(self._link.gone)
            self._ready.clear()
            if self._closing:
                return
            log.error("the history process is gone, starting another", extra={"pid": self.pid})
            await self._end()
            while not self._ready.is_set():
                try:
                    await self._start()
                    self._on_restart()
                    self._ready.set()
                except (OSError, StorageFailed) as error:
                    failures += 1
                    log.error("history cannot be opened", extra={"error": str(error)})
                    await asyncio.sleep(min(_LONGEST_PAUSE, 0.1 * 2 ** min(failures, 10)))
            failures = 0

    async def _answer(self, question: str, body: bytes) -> bytes:
        if question != messages.REPAIR_JOURNAL or self._repair_journal is None:
            raise LinkError(f"asked {question} by the history process")
        await self._repair_journal(*orjson.loads(body))
        return b""

    def _take_state(self, answer: bytes) -> None:
        said = orjson.loads(answer)
        self.state = HistoryState(
            said["position"],
            said["imported"],
            said["sealed"],
            said["files"],
            tuple((first, last) for first, last in said["missing"]),
            tuple(said["damaged"]),
            said["isChecked"],
            tuple((first, last) for first, last in said["lostImports"]),
        )

    async def _ask(
        self,
        question: str,
        body: bytes,
        seconds: float,
        again: bool = True,
        withdraws: bool = False,
    ) -> bytes:
        """Returns the answer; if the process goes meanwhile, that of the next one."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._ready.wait()
                    link = self._link
                    if link is None or self._closing:
                        raise StorageFailed("history is closed")
                    try:
                        return await link.ask(question, body, withdraws)
                    except LinkError:
                        if not again or not link.gone.done():
                            raise
                    if link is self._link:  # no other process is there yet
                        self._ready.clear()
        except (LinkError, TimeoutError) as error:
            raise StorageFailed(f"the history process does not answer: {error!r}") from error

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once look-ups see the entries; those there already are left out."""
        for part in _parts(entries):
            # A new process lacks what the one before had: it must be asked where to go on.
            body = messages.pack_entries(part)
            self._take_state(await self._ask(messages.ADD, body, _ADD_SECONDS, again=False))

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Returns the page that `query` describes.

        Raises:
            StoreRestarted: meanwhile the process was replaced by one that lacks the newest events.
        """
        generation = self._generation
        asked = messages.pack_query(query)
        answer = await self._ask(messages.LOOKUP, asked, _LOOKUP_SECONDS, withdraws=True)
        if self._generation != generation:
            raise StoreRestarted("history was started again")
        if len(answer) > _LARGE_ANSWER:
            return await asyncio.to_thread(messages.unpack_found, answer)
        return messages.unpack_found(answer)

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Returns up to `limit` sealed entries with `after < position <= until`, in order."""
        body = orjson.dumps([after, limit, until])
        return messages.unpack_entries(await self._ask(messages.READ, body, _LOOKUP_SECONDS))

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the sealed record of the journal with this event id."""
        answer = await self._ask(messages.FIND, event_id.encode(), _LOOKUP_SECONDS)
        found: int | None = orjson.loads(answer)
        return found

    async def show_imports(self) -> None:
        """Shows the imported events of all files that imports have written."""
        self._take_state(await self._ask(messages.SHOW_IMPORTS, b"", _OPEN_SECONDS))

    async def expire(self, recorded_before: datetime, last_needed: int) -> int:
        """Deletes files of which every record was recorded, or imported, before a time."""
        body = orjson.dumps([micros(recorded_before), last_needed])
        return int(await self._ask(messages.EXPIRE, body, _OPEN_SECONDS))

    async def _refresh(self, link: Link) -> None:
        self._take_state(await link.ask(messages.STATE))

    async def refresh(self) -> HistoryState:
        """Returns how the store stands now."""
        self._take_state(await self._ask(messages.STATE, b"", _ADD_SECONDS))
        return self.state

    async def close(self) -> None:
        """Ends the process; the hot layer is rebuilt from the journal."""
        self._closing = True
        if self._watching is not None and not self._ready.is_set():
            self._watching.cancel()
        if self._link is not None:
            with contextlib.suppress(LinkError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._link.ask(messages.CLOSE)
        await self._end()
        if self._pinging is not None:
            self._pinging.cancel()
        if self._watching is not None:
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _end(self) -> None:
        process = self._process
        if self._link is not None:
            self._link.close()
        if process is None or process.returncode is not None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    start = size = 0
    for index, entry in enumerate(entries):
        if size and size + len(entry.record) > _PART_BYTES:
            yield entries[start:index]
            start, size = index, 0
        size += len(entry.record)
    if start < len(entries):
        yield entries[start:]
