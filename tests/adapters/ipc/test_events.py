"""Event history in a process of its own; what it answers is tested by the store's contract."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.ipc.events import IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import StorageFailed, StoreRestarted
from opentrail.core.event import Entry
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.factories import MOMENT, a_new_entry, some_records
from tests.fakes import asynchronous, naive_page

pytestmark = pytest.mark.slow

ALL = EventQuery(limit=1_000, snapshot=Snapshot(1_000))


@asynccontextmanager
async def opened(
    root: Path, seal_records: int = 20
) -> AsyncIterator[tuple[IpcEventStore, list[Entry]]]:
    """Gives a store over 50 entries of a journal, none of which it has been given yet."""
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
async def test_a_history_process_that_is_killed_is_replaced_and_can_be_filled_again(
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
async def test_a_look_up_meanwhile_says_that_the_store_must_be_filled_again(tmp_path: Path) -> None:
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
async def test_the_archive_reads_finds_and_expires_over_the_link(tmp_path: Path) -> None:
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
async def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    store = IpcEventStore(tmp_path / "none", SqliteJournalSource(tmp_path / "none"), 10)
    with pytest.raises(StorageFailed, match="did not get ready"):
        await store.open()
    await store.close()


@asynchronous
async def test_a_process_that_cannot_be_started_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    store = IpcEventStore(tmp_path, SqliteJournalSource(tmp_path), 10)
    with pytest.raises(StorageFailed, match="cannot be started"):
        await store.open()
    await store.close()


async def eventually_sealed(store: IpcEventStore, position: int) -> None:
    async with asyncio.timeout(30):
        while (await store.refresh()).sealed < position:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)
