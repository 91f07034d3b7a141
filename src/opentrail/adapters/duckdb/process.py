"""The event history process, separate so that lookups do not delay recording.

python -m opentrail.adapters.duckdb.process SOCKET HISTORY JOURNAL SEAL-RECORDS MAX-BYTES
    [CACHE BYTES]

With a folder for the cache, it reads files in S3, through the server.

It ends with the server. Its only lasting state is sealed files; the rest comes from the journal.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import socket
from collections.abc import Sequence
from pathlib import Path

from opentrail.adapters.data_directory.sealed_file_names import STORES
from opentrail.adapters.duckdb.expiry import reserve_note
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.duckdb.table_set import NO_REMOTE_FILES, RemoteFiles
from opentrail.adapters.ipc.child import arm_in_child, run_child, until_gone
from opentrail.adapters.ipc.link import Link, LinkError, handlers_of
from opentrail.adapters.ipc.messages import (
    READS,
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
    Range,
    ReadRecords,
    ReadSealed,
    ReadSharedFile,
    RepairJournal,
    ShowImports,
    UseSharedFiles,
)
from opentrail.adapters.journal_source import open_source
from opentrail.core.errors import FilesUnreachable
from opentrail.core.event import Entry
from opentrail.ports.journal import JournalSource

#: Maximum bytes of records in a response; the caller requests the others separately.
_READ_BYTES = 32 * 1024 * 1024
#: Seconds to wait for a block of a file in S3.
_DOWNLOAD_SECONDS = 30.0


class HistoryProcess:
    """Handles the server's requests to one store."""

    def __init__(
        self,
        history: Path,
        journal: JournalSource,
        seal_records: int,
        max_bytes: int,
        cache: tuple[Path, int] | None = None,
    ) -> None:
        self._remote: RemoteFiles = NO_REMOTE_FILES
        if cache is not None:
            # Imported here: only servers with a cache need its dependencies.
            from opentrail.adapters.duckdb.block_cache import BlockCache

            self._remote = BlockCache(*cache, self._download)
        self._store = DuckdbEvents(
            history, journal, seal_records, self._repair_journal, self._remote, max_bytes
        )
        self._history = history
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        #: The work that lookups wait for.
        self._downloads: set[concurrent.futures.Future[bytes]] = set()

    async def serve(self, end: socket.socket) -> None:
        """Handles requests until the server asks it to end, or has ended."""
        self._link = await Link.over(
            end,
            {
                **handlers_of(self._store, READS),
                OpenStore: self._open,
                UseSharedFiles: self._use_shared,
                KeepStoreFiles: self._keep_store_files,
                FetchBlock: self._fetch_block,
                AddEntries: self._add,
                ReadSealed: self._read,
                ReadRecords: self._read_records,
                ForgetLost: self._forget,
                FindSealed: self._find,
                ShowImports: self._show_imports,
                Expire: self._expire,
                GetState: self._refreshed_state,
                CloseStore: self._close,
            },
        )
        await until_gone(self._link, self._stopped)
        self._stopped.set()
        for download in self._downloads.copy():
            download.cancel()
        await self._store.close()

    def _download(self, name: str, first: int, length: int) -> bytes:
        """Returns bytes of a file in S3; runs in a lookup's thread."""
        if self._link is None or self._stopped.is_set():
            raise FilesUnreachable("event history is being closed")
        download = asyncio.run_coroutine_threadsafe(
            self._link.ask(ReadSharedFile(name, first, length)), self._loop
        )
        self._downloads.add(download)
        try:
            return download.result(_DOWNLOAD_SECONDS)
        except (LinkError, TimeoutError, concurrent.futures.CancelledError) as error:
            raise FilesUnreachable(f"history file {name} in S3: {error!r}") from error
        finally:
            download.cancel()
            self._downloads.discard(download)

    async def _repair_journal(self, first: int, last: int) -> None:
        if self._link is not None:
            await self._link.ask(RepairJournal(first, last))

    async def _open(self, request: OpenStore) -> HistoryState:
        names = {file.name for file in request.shared if file.name is not None}
        await asyncio.to_thread(self._remote.open, names.union(request.store_files))
        await self._store.open(request.last_import, request.shared)
        with contextlib.suppress(OSError):  # each expiry tries again
            await asyncio.to_thread(reserve_note, self._history)
        return await self._state()

    async def _use_shared(self, request: UseSharedFiles) -> HistoryState:
        await self._store.recorded.use_shared(request.files)
        return await self._state()

    async def _keep_store_files(self, request: KeepStoreFiles) -> None:
        await asyncio.to_thread(self._remote.keep, STORES, request.names)

    async def _fetch_block(self, request: FetchBlock) -> None:
        await asyncio.to_thread(self._remote.fetch, request.name, request.number)

    async def _add(self, request: AddEntries) -> HistoryState:
        await self._store.add(request.entries)
        return await self._state()

    async def _read(self, request: ReadSealed) -> list[Entry]:
        entries = await self._store.read(request.after, request.limit, request.until)
        size = 0
        for number, entry in enumerate(entries):
            size += len(entry.record)
            if number and size > _READ_BYTES:
                return entries[:number]
        return entries

    async def _read_records(self, request: ReadRecords) -> list[tuple[int, bytes]]:
        records = await self._store.records(request.after, request.limit, request.until)
        sizes = itertools.accumulate(len(record) for _, record in records)
        fitting = sum(size <= _READ_BYTES for size in sizes)
        return records[: max(1, fitting)]

    async def _forget(self, request: ForgetLost) -> HistoryState:
        await self._store.recorded.forget(request.first, request.last)
        return await self._state()

    async def _find(self, request: FindSealed) -> int | None:
        return await self._store.find(request.event_id)

    async def _show_imports(self, _request: ShowImports) -> HistoryState:
        await self._store.show_imports()
        return await self._state()

    async def _expire(self, request: Expire) -> int:
        return await self._store.expire(
            request.recorded_before, request.last_needed, request.data_before, request.excess
        )

    async def _refreshed_state(self, _request: GetState) -> HistoryState:
        """Returns the state; the server asks at least once a minute."""
        await self._store.recorded.seal_old()
        return await self._state()

    async def _state(self) -> HistoryState:
        store = self._store
        return HistoryState(
            position=store.position,
            imported=store.imported.last,
            sealed=store.recorded.sealed,
            files=store.files,
            missing=_joined(store.recorded.missing),
            lost_imports=tuple(store.imported.lost),
            damaged=tuple(store.damaged),
            sealed_events=store.sealed_events,
            sealed_bytes=store.sealed_bytes,
            is_checked=store.is_checked,
        )

    async def _close(self, _request: CloseStore) -> None:
        asyncio.get_running_loop().call_soon(self._stopped.set)


def _joined(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Returns ranges in order, adjacent ones merged, so that all servers return the same."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


async def _serve(ends: list[socket.socket], arguments: list[str]) -> None:
    history, journal, seal_records, max_bytes, *cached = arguments
    cache = (Path(cached[0]), int(cached[1])) if cached else None
    process = HistoryProcess(
        Path(history), open_source(journal), int(seal_records), int(max_bytes), cache
    )
    await process.serve(ends[0])


if __name__ == "__main__":
    arm_in_child(("history.merged", "history.expired", "history.expiring", "history.thinned"))
    run_child(_serve, ends=1)
