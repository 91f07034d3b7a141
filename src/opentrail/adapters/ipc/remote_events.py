"""Event history in a child process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from opentrail.adapters.data_directory.sealed_file_names import MAX_FILE_BYTES
from opentrail.adapters.ipc.child import SILENCE_SECONDS, ChildProcess
from opentrail.adapters.ipc.link import IpcRequest, Link, LinkError, parts, remote
from opentrail.adapters.ipc.messages import (
    AddEntries,
    CloseStore,
    Expire,
    FetchBlock,
    FindSealed,
    ForgetLost,
    GetState,
    HistoryState,
    KeepStoreFiles,
    OpenStore,
    ReadRecords,
    ReadSealed,
    ReadSharedFile,
    RepairJournal,
    ShowImports,
    UseSharedFiles,
)
from opentrail.core.errors import FilesUnreachable, StorageFailed, StoreRestarted
from opentrail.core.event import Entry
from opentrail.ports.event_store import EventStore, Excess, SharedFile, Snapshot
from opentrail.ports.journal import JournalSource

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
_REQUEST_SECONDS = 120.0
_LONG_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class HistoryCache:
    """Folder of cached parts of the files in S3."""

    folder: Path
    max_bytes: int
    #: Returns bytes of a file in S3, given its name, the first byte and their number.
    read: Callable[[str, int, int], Awaitable[bytes]]
    #: The files in S3 at the start; their indexes are in the folder.
    files: Sequence[SharedFile] = ()
    #: Names of files of event data stores at the start.
    store_files: Sequence[str] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The process's start arguments."""
        return (str(self.folder), str(self.max_bytes)) if self.max_bytes else ()


async def _no_file(name: str, _first: int, _length: int) -> bytes:
    raise LinkError(f"{name} is in S3, which only a server with a cache reads")


#: For a server that reads no files in S3.
NO_CACHE = HistoryCache(Path(), 0, _no_file)


class IpcEventStore:
    """An `EventStore` and `Archive` in a child process, restarted when it ends.

    The hot layer is then empty, `position` is the last position of the last sealed file, and
    `on_restart` is called to add the rest of the journal again.
    """

    def __init__(
        self,
        folder: Path,
        journal: JournalSource,
        seal_records: int,
        on_restart: Callable[[], None] = lambda: None,
        repair_journal: Callable[[int, int], Awaitable[None]] | None = None,
        last_import: int = 0,
        silence_seconds: float = SILENCE_SECONDS,
        cache: HistoryCache = NO_CACHE,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._on_restart = on_restart
        self._repair = repair_journal
        self._cache = cache
        #: The files in S3 that lookups read.
        self.shared = cache.files
        self._store_files = cache.store_files
        #: Until the process has started, its `imported` is the last import known before.
        self.state = HistoryState(imported=last_import)
        self._child = ChildProcess(
            "opentrail.adapters.duckdb.process",
            (
                *(str(folder), journal.address, str(seal_records), str(max_bytes)),
                *cache.arguments,
            ),
            {RepairJournal: self._repair_journal, ReadSharedFile: self._read_shared},
            self._prepare,
            prepare_seconds=_LONG_SECONDS,
            heartbeat=self._refresh,
            silence_seconds=silence_seconds,
            environment=journal.environment,
        )

    @property
    def position(self) -> int:
        """The last position that lookups see."""
        return self.state.position

    @property
    def snapshot(self) -> Snapshot:
        """The events that lookups see."""
        return Snapshot(self.state.position, self.state.imported)

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._child.pid

    @property
    def is_responding(self) -> bool:
        """Whether the process answered when it was last asked."""
        return self._child.is_responding

    @property
    def failure(self) -> str | None:
        """Why the process cannot be started; None once it is ready."""
        return self._child.failure

    async def open(self, *, is_required: bool = True) -> int:
        """Starts the process and returns the last sealed position.

        Args:
            is_required: False to restart it until it is ready, with backoff.

        Raises:
            StorageFailed: it did not start.
        """
        await self._child.start(is_required=is_required)
        return self.state.position

    async def _prepare(self, link: Link) -> None:
        names = tuple(self._store_files)
        self.state = await link.ask(OpenStore(self.state.imported, tuple(self.shared), names))
        if self._child.generation:
            self._on_restart()

    async def _refresh(self, link: Link) -> None:
        self.state = await link.ask(GetState())

    async def _repair_journal(self, request: RepairJournal) -> None:
        if self._repair is None:
            raise LinkError("this journal cannot be repaired")
        await self._repair(request.first, request.last)

    async def _read_shared(self, request: ReadSharedFile) -> bytes:
        return await self._cache.read(request.name, request.first, request.length)

    async def use_shared(self, files: Sequence[SharedFile]) -> None:
        """Reads these files in S3; their indexes are in the cache folder."""
        self.shared = files
        self.state = await self._child.ask(UseSharedFiles(tuple(files)), _LONG_SECONDS)

    async def keep_store_files(self, names: Sequence[str]) -> None:
        """Keeps only the blocks of these files of event data stores."""
        self._store_files = names
        await self._child.ask(KeepStoreFiles(tuple(names)), _LONG_SECONDS)

    async def fetch_block(self, name: str, number: int) -> None:
        """Returns once a block of a file in S3 is in the cache folder.

        Raises:
            FilesUnreachable: it cannot be downloaded now.
            StorageFailed: the download is damaged, or the index of the file is missing.
        """
        await self._answer(FetchBlock(name, number), _REQUEST_SECONDS)

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once lookups see the entries; skips existing ones."""
        for part in parts(entries):
            # A new process starts without the previous state: its position says where to continue.
            self.state = await self._child.ask(AddEntries(part), _REQUEST_SECONDS, resend=False)

    # Each raises `StoreRestarted` if a new process without the newest events has replaced this one.
    lookup = remote(EventStore.lookup, _REQUEST_SECONDS, is_cancellable=True)
    count = remote(EventStore.count, _REQUEST_SECONDS, is_cancellable=True)
    histogram = remote(EventStore.histogram, _REQUEST_SECONDS, is_cancellable=True)
    top_values = remote(EventStore.top_values, _REQUEST_SECONDS, is_cancellable=True)
    overview = remote(EventStore.overview, _REQUEST_SECONDS, is_cancellable=True)
    list_principals = remote(EventStore.list_principals, _REQUEST_SECONDS, is_cancellable=True)
    count_calls = remote(EventStore.count_calls, _LONG_SECONDS, is_cancellable=True)
    count_principals = remote(EventStore.count_principals, _LONG_SECONDS, is_cancellable=True)
    count_values = remote(EventStore.count_values, _LONG_SECONDS, is_cancellable=True)
    count_key = remote(EventStore.count_key, _LONG_SECONDS, is_cancellable=True)

    async def _ask(self, request: IpcRequest[T], seconds: float, resend: bool) -> T:
        """Returns the response to a request that also reads the hot layer."""
        generation = self._child.generation
        response = await self._answer(request, seconds, resend)
        if generation and self._child.generation != generation:
            raise StoreRestarted("history was started again")
        return response

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Returns up to `limit` sealed entries with `after < position <= until`, in order."""
        return await self._answer(ReadSealed(after, limit, until), _REQUEST_SECONDS)

    async def records(self, after: int, limit: int, until: int) -> list[tuple[int, bytes]]:
        """Returns position and record of up to `limit` events with `after < position <= until`.

        They include events that the journal has since lost.
        """
        return await self._answer(ReadRecords(after, limit, until), _REQUEST_SECONDS)

    async def forget(self, first: int, last: int) -> None:
        """Drops a range that the journal has lost."""
        self.state = await self._child.ask(ForgetLost(first, last), _LONG_SECONDS)

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the journal's sealed record with this event id."""
        return await self._answer(FindSealed(event_id), _REQUEST_SECONDS)

    async def _answer(self, request: IpcRequest[T], seconds: float, resend: bool = True) -> T:
        """Returns the response to a request that may read files in S3.

        Raises:
            FilesUnreachable: they cannot be read now.
        """
        try:
            return await self._child.ask(request, seconds, resend=resend)
        except StorageFailed as error:
            kind, _, text = str(error.__cause__).partition(": ")
            if kind == FilesUnreachable.__name__:
                raise FilesUnreachable(text) from error
            raise

    async def show_imports(self) -> None:
        """Makes the events of all files written by imports visible."""
        self.state = await self._child.ask(ShowImports(), _LONG_SECONDS)

    async def expire(
        self,
        recorded_before: datetime,
        last_needed: int,
        data_before: datetime | None = None,
        excess: Excess | None = None,
    ) -> int:
        """Deletes expired events, as `DuckdbEvents.expire` says; returns their number."""
        request = Expire(recorded_before, last_needed, data_before, excess)
        return await self._child.ask(request, _LONG_SECONDS)

    async def refresh(self) -> HistoryState:
        """Returns the current state of the store."""
        self.state = await self._child.ask(GetState(), _REQUEST_SECONDS)
        return self.state

    async def close(self) -> None:
        """Ends the process; the hot layer is rebuilt from the journal."""
        await self._child.stop(CloseStore(), _CLOSE_SECONDS)
