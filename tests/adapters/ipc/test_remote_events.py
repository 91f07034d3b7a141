"""Event history in a separate process; the store's contract tests its answers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.duckdb.file_index import BLOCK_BYTES
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.ipc.remote_events import HistoryCache, IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import FilesUnreachable, StorageFailed, StoreRestarted
from opentrail.core.event import Entry
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.adapters.duckdb.shared_folder import SharedFolder
from tests.factories import MOMENT, a_new_entry, some_records
from tests.fakes import asynchronous, naive_page

pytestmark = pytest.mark.slow

Read = Callable[[str, int, int], Awaitable[bytes]]
ALL = EventQuery(limit=1_000, snapshot=Snapshot(1_000))


@asynccontextmanager
async def opened(
    root: Path, seal_records: int = 20
) -> AsyncIterator[tuple[IpcEventStore, list[Entry]]]:
    """Yields an empty store over a journal, and the journal's 50 entries."""
    for name in ("history", "journal"):
        (root / name).mkdir(exist_ok=True)
    journal = SqliteJournal(root / "journal")
    if not journal.head:
        await journal.append([a_new_entry(record) for record in some_records(50)])
    entries = await journal.read(0, 100)
    store = IpcEventStore(root / "history", SqliteJournalSource(root / "journal"), seal_records)
    try:
        await store.open()
        yield store, entries
    finally:
        await store.close()
        await journal.close()


@pytest.mark.anomaly
@asynchronous
async def test_a_killed_history_process_is_replaced_and_refilled(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (store, entries):
        restarted = asyncio.Event()
        store._on_restart = restarted.set
        await store.add(entries[:25])
        await eventually_sealed(store, 20)
        killed = store.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await restarted.wait()
        assert store.pid != killed
        assert store.position >= 20
        await store.add(entries)
        assert await store.lookup(ALL) == naive_page(entries, ALL)


@pytest.mark.anomaly
@asynchronous
async def test_a_restarted_store_asks_to_be_filled_again(tmp_path: Path) -> None:
    async with opened(tmp_path, seal_records=1_000) as (store, entries):
        await store.add(entries)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        with pytest.raises(StoreRestarted):
            await store.lookup(ALL)
        assert store.position == 0
        with pytest.raises(StorageFailed, match="position 7 does not follow 0"):
            await store.add(entries[6:])
        assert await store.lookup(ALL) == []
        await store.add(entries)
        assert await store.lookup(ALL) == naive_page(entries, ALL)


@asynchronous
async def test_archive_reads_finds_and_expires_over_the_link(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, entries):
        await store.add(entries[:40])
        await eventually_sealed(store, 40)
        assert await store.read(3, 10, 40) == entries[3:13]
        assert await store.find(entries[7].event_id) == 8
        assert await store.find("none") is None
        assert (await store.refresh()).files > 0
        assert await store.expire(MOMENT + timedelta(days=1), 100) == 40
        assert await store.lookup(ALL) == []


@asynchronous
async def test_an_unusable_folder_is_an_error(tmp_path: Path) -> None:
    store = IpcEventStore(tmp_path / "none", SqliteJournalSource(tmp_path / "none"), 10)
    with pytest.raises(StorageFailed, match="did not get ready"):
        await store.open()
    await store.close()


@asynchronous
async def test_failed_start_of_the_process_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    store = IpcEventStore(tmp_path, SqliteJournalSource(tmp_path), 10)
    with pytest.raises(StorageFailed, match="cannot be started"):
        await store.open()
    await store.close()


# Files in S3


@asynccontextmanager
async def with_cache(
    root: Path, s3: SharedFolder, read: Read | None = None
) -> AsyncIterator[tuple[IpcEventStore, list[Entry]]]:
    """Yields a store over 50 entries, with 40 in files in S3, and a cache of two blocks."""
    async with opened(root) as (own, entries):
        await own.close()
        for leftover in (root / "history").glob("*.duckdb"):
            leftover.unlink()
        source = SqliteJournalSource(root / "journal")
        paths = []
        for part in ((1, 20), (21, 40)):
            paths += await asyncio.to_thread(seal, source, s3.folder, *part)

        async def from_folder(name: str, first: int, length: int) -> bytes:
            return s3.read(name, first, length)

        cache = HistoryCache(s3.cached, 2 * BLOCK_BYTES, read or from_folder, s3.take(paths))
        store = IpcEventStore(root / "history", source, 20, cache=cache)
        try:
            assert await store.open() == 40
            await store.add(entries)
            yield store, entries
        finally:
            await store.close()


@asynchronous
async def test_lookups_in_the_cache_are_right_after_kills(
    tmp_path: Path,
) -> None:
    s3 = SharedFolder(tmp_path, 0)
    waiting, is_killed = asyncio.Event(), asyncio.Event()

    async def read(name: str, first: int, length: int) -> bytes:
        if s3.reads == 1:  # in the middle of a file
            waiting.set()
            await is_killed.wait()
        return s3.read(name, first, length)

    async with with_cache(tmp_path, s3, read) as (store, entries):
        restarted = asyncio.Event()
        store._on_restart = restarted.set
        killed = asyncio.create_task(store.lookup(ALL))
        await waiting.wait()
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        is_killed.set()
        with pytest.raises(StoreRestarted):
            await killed
        await restarted.wait()
        await store.add(entries)
        assert await store.lookup(ALL) == naive_page(entries, ALL)
        assert await store.read(3, 10, 40) == entries[3:13]
        assert await store.find(entries[7].event_id) == 8
        assert s3.cached_bytes <= 2 * BLOCK_BYTES


@pytest.mark.anomaly
@asynchronous
async def test_a_fatal_lookup_kills_at_most_two_processes(tmp_path: Path) -> None:
    s3 = SharedFolder(tmp_path, 0)
    killed: set[int] = set()

    async def read(name: str, first: int, length: int) -> bytes:
        assert store.pid is not None
        killed.add(store.pid)
        os.kill(store.pid, signal.SIGKILL)
        return s3.read(name, first, length)

    async with with_cache(tmp_path, s3, read) as (store, _):
        with pytest.raises(StorageFailed, match="the other process is gone"):
            await store.lookup(ALL)
        assert len(killed) == 2


@asynchronous
async def test_pages_are_whole_while_s3_is_silent(tmp_path: Path) -> None:
    s3 = SharedFolder(tmp_path, 0)
    async with with_cache(tmp_path, s3) as (store, entries):
        s3.is_away = True
        for ask in (store.lookup(ALL), store.read(0, 10, 40), store.find(entries[7].event_id)):
            with pytest.raises(FilesUnreachable, match="S3 is away"):
                await ask
        s3.is_away = False
        for path in s3.folder.iterdir():
            path.write_bytes(b"?" + path.read_bytes()[1:])
        with pytest.raises(FilesUnreachable, match="in S3 is damaged"):
            await store.lookup(ALL)


@asynchronous
async def test_a_store_closes_while_a_lookup_waits(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def never(*_arguments: object) -> bytes:
        waiting.set()
        await asyncio.Event().wait()
        return b""

    async with with_cache(tmp_path, SharedFolder(tmp_path, 0), never) as (store, _):
        lookup = asyncio.create_task(store.lookup(ALL))
        await waiting.wait()
        process = store._child._process
        await store.close()
        assert process is not None
        assert process.returncode == 0  # without a kill
        lookup.cancel()


@asynchronous
async def test_new_files_in_s3_replace_own_ones(tmp_path: Path) -> None:
    s3 = SharedFolder(tmp_path, 0)
    async with with_cache(tmp_path, s3) as (store, entries):
        source = SqliteJournalSource(tmp_path / "journal")
        (path,) = await asyncio.to_thread(seal, source, s3.folder, 41, 48)
        assert store._cache is not None
        files = [*store.shared, *s3.take([path])]
        await store.use_shared(files)
        assert await store.lookup(ALL) == naive_page(entries, ALL)
        assert (await store.refresh()).sealed >= 48


async def eventually_sealed(store: IpcEventStore, position: int) -> None:
    async with asyncio.timeout(30):
        while (await store.refresh()).sealed < position:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
