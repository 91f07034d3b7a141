"""Expiry and trimming in a server's own parts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from opentrail.adapters.archived_journal import ArchivedJournal
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.member_files import CachedFilesInS3, SharedFileCheck
from opentrail.app.cluster.postgresql import Cluster
from opentrail.app.cluster.shared_files import SHARED_FILE, SharedFiles, to_list
from opentrail.app.cluster.shared_imports import SharedImports
from opentrail.app.cluster.site import OneServer
from opentrail.app.core import Housekeeping, Limits
from opentrail.app.disk import DiskWatch, size_of
from opentrail.app.losses import record_expired
from opentrail.app.retention import Retention
from opentrail.core.event import Entry
from opentrail.history.event_history import History, Search
from opentrail.history.history_follower import HistoryFollower
from opentrail.identity.known_identities import Identities
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.lake.store_registry import Stores
from opentrail.ports.event_store import SharedFile
from opentrail.ports.follow import FollowedPositions
from opentrail.ports.metrics import Metrics
from opentrail.settings import Settings
from opentrail.trails.delivery_rounds import TrailDeliveries
from tests.adapters.duckdb.test_store_files import a_store
from tests.app.alone import alone
from tests.factories import (
    MOMENT,
    a_data_record,
    a_new_entry,
    a_record,
    event_id,
    some_records,
)
from tests.fakes import (
    MemoryControl,
    MemoryObjects,
    SettableClock,
    a_store_id,
    asynchronous,
)
from tests.lake.test_store_keeping import MemoryFiles
from tests.trails.world import World

pytestmark = pytest.mark.slow


async def sealed(
    folder: Path, clock: SettableClock, records: Sequence[Mapping[str, Any]] = some_records(220)
) -> tuple[SqliteJournal, IpcEventStore, History, TrailDeliveries]:
    """Returns a journal of 220 records with 200 in sealed files, and its followers."""
    for name in ("history", "journal"):
        (folder / name).mkdir()
    kept = SqliteJournal(folder / "journal", segment_bytes=24 * 1024)
    store = IpcEventStore(
        folder / "history", SqliteJournalSource(folder / "journal"), seal_records=50
    )
    await store.open()
    history = History(store, clock, Metrics(), b"k" * 32, timedelta(days=90))
    deliveries = World().deliveries
    deliveries._journal = ArchivedJournal(kept, store)
    for record in records:
        await kept.append([a_new_entry(record)])
    for start in range(0, 220, 50):
        await history.follower.process(await kept.read(start, 50))
    async with asyncio.timeout(30):
        while True:
            state = await store.refresh()
            if state.sealed == 200 and state.is_checked:
                return kept, store, history, deliveries
            await asyncio.sleep(0.02)


def housekeeper(
    journal: SqliteJournal,
    store: IpcEventStore,
    history: History,
    identities: Identities,
    deliveries: TrailDeliveries,
    site: OneServer,
    limits: Limits | None = None,
    progress: FollowedPositions | None = None,
    stores: StoreKeeper | None = None,
) -> Housekeeping:
    """Returns the housekeeping of these parts."""
    retention = Retention(journal, store, identities, deliveries, site, progress, stores)
    return Housekeeping(journal, store, history, retention, deliveries, site, limits, stores)


@asynchronous
async def test_sealed_and_old_files_are_deleted_unless_needed(
    tmp_path: Path,
) -> None:
    clock = SettableClock(MOMENT)
    kept, store, history, deliveries = await sealed(tmp_path, clock)
    journal = deliveries._journal
    identities = Identities(MemoryControl(), [])
    housekeeping = housekeeper(kept, store, history, identities, deliveries, alone(tmp_path))
    history.follower.catch_up_to(220)
    everything = await journal.read(0, 1_000)
    await housekeeping.clean_up()
    assert kept.first > 100
    seen: list[Entry] = []
    while part := await journal.read(seen[-1].position if seen else 0, 30):
        seen += part
    assert seen == everything

    clock.moment = MOMENT + timedelta(days=91)
    await housekeeping.clean_up()
    assert store.state.files > 0, "identities have read nothing yet"
    await identities.process(everything)
    await housekeeping.clean_up()
    assert store.state.files == 0
    assert (await history.search(Search())).events == []
    await store.close()
    await journal.close()


@asynchronous
async def test_failing_store_pins_the_journal_alone(tmp_path: Path) -> None:
    clock = SettableClock(MOMENT)
    kept, store, history, deliveries = await sealed(tmp_path, clock)
    journal = deliveries._journal
    assert isinstance(journal, ArchivedJournal)
    files = MemoryFiles()
    stores = Stores(MemoryControl(), journal.newest, clock)
    keeper = StoreKeeper(stores, files, journal, clock)
    added = await stores.add(a_store(phases=()))
    files.positions[added.id], files.fails = 0, added.name
    identities = Identities(MemoryControl(), [])
    await identities.process(await journal.read(0, 1_000))
    size = size_of(tmp_path / "history") + size_of(tmp_path / "journal")
    size -= kept.trimmable_bytes(200, 2) // 2
    allowed = limits(tmp_path, journal, clock, history_size=size)
    site: OneServer = alone(tmp_path)
    housekeeping = housekeeper(
        kept, store, history, identities, deliveries, site, allowed, stores=keeper
    )
    await housekeeping.clean_up()
    assert kept.first == 1
    assert store.state.sealed_events == 200
    [problem] = allowed.disk.problems
    assert f"event data store {added.name} needs 220 of them" in problem
    files.fails = ""
    await housekeeping.clean_up()
    assert kept.first > 100
    assert store.state.sealed_events == 200
    await store.close()
    await journal.close()


def limits(folder: Path, journal: ArchivedJournal, clock: SettableClock, **settings: Any) -> Limits:
    """Returns limits of a data directory in a folder."""
    data = DataDirectory(folder)
    disk = DiskWatch(data, replace(Settings(data_dir=folder), **settings), Metrics())
    record = partial(record_expired, data.history, journal, clock, lambda _events: None)
    return Limits(disk, record)


@asynchronous
async def test_size_limit_spares_unread_history(tmp_path: Path) -> None:
    clock = SettableClock(MOMENT)
    records = [
        a_data_record(eventID=event_id(n)) if n % 4 else a_record(eventID=event_id(n))
        for n in range(1, 221)
    ]
    kept, store, history, deliveries = await sealed(tmp_path, clock, records)
    journal = deliveries._journal
    assert isinstance(journal, ArchivedJournal)
    history.follower.catch_up_to(220)
    identities = Identities(MemoryControl(), [])
    everything = await journal.read(0, 1_000)
    await identities.process(everything)
    allowed, progress = limits(tmp_path, journal, clock, history_size=1_000), FollowedPositions()
    site: OneServer = alone(tmp_path)
    housekeeping = housekeeper(
        kept, store, history, identities, deliveries, site, allowed, progress
    )
    reader = HistoryFollower(store, clock, Metrics(), kept.newest)
    progress.record(reader, 120)
    await housekeeping.clean_up()

    async def found() -> list[int]:
        await history.follower.process(await kept.read(store.position, 100))
        return sorted(event.position for event in await history.latest(Search(), 1_000))

    assert [position for position in await found() if position <= 220] == list(range(101, 221))
    [problem] = allowed.disk.problems
    assert "more than --history-size 0.00 GB: the follower history needs 100 of them" in problem
    progress.forget(reader)
    await housekeeping.clean_up()
    assert [position for position in await found() if position <= 220] == list(range(201, 221))
    entries = await kept.read(220, 1_000)
    expired = [json.loads(entry.record)["serviceEventDetails"] for entry in entries]
    counts = [(each["category"], each["expiredEvents"]) for each in expired]
    assert sorted(counts) == sorted(
        [("Data", 37), ("Data", 38), ("Management", 12), ("Management", 13)] * 2
    )
    await store.close()
    await journal.close()


@asynchronous
async def test_several_lost_ranges_do_not_stop_trimming(
    tmp_path: Path,
) -> None:
    for name in ("history", "journal"):
        (tmp_path / name).mkdir()
    kept = SqliteJournal(tmp_path / "journal", segment_bytes=24 * 1024)
    for record in some_records(220):
        await kept.append([a_new_entry(record)])
    await kept.close()
    for position in (2, 3):  # found separately
        first = sorted((tmp_path / "journal").glob("*.db"))[0]
        with closing(sqlite3.connect(first)) as database:
            database.execute(
                "UPDATE entries SET record = zeroblob(length(record)) WHERE position = ?",
                (position,),
            )
            database.commit()
        kept = SqliteJournal(tmp_path / "journal", segment_bytes=24 * 1024)
        await kept.check()
        if position == 2:
            await kept.close()
    store = IpcEventStore(
        tmp_path / "history", SqliteJournalSource(tmp_path / "journal"), seal_records=50
    )
    await store.open()
    history = History(store, SettableClock(MOMENT), Metrics(), b"k" * 32, timedelta(days=90))
    deliveries = World().deliveries
    deliveries._journal = ArchivedJournal(kept, store)
    identities = Identities(MemoryControl(), [])
    housekeeping = housekeeper(kept, store, history, identities, deliveries, alone(tmp_path))
    await history.follower.process(await kept.read(0, 110))
    await history.follower.process(await kept.read(110, 500))
    async with asyncio.timeout(30):
        while True:
            state = await store.refresh()
            if state.is_checked and state.sealed >= 100:
                break
            await asyncio.sleep(0.02)
    assert [(one.first, one.last) for one in kept.lost] == [(2, 2), (3, 3)]
    assert state.missing == ((2, 3),)
    await housekeeping.clean_up()
    assert kept.first > 3
    await store.close()
    await kept.close()


@asynchronous
async def test_failed_index_download_stops_neither_sharing_nor_trimming(
    tmp_path: Path,
) -> None:
    clock = SettableClock(MOMENT)
    kept, store, history, deliveries = await sealed(tmp_path, clock)
    identities = Identities(MemoryControl(), [])
    await identities.process(await kept.read(0, 1_000))
    control, objects = MemoryControl(), MemoryObjects("history")
    folder, days = tmp_path / "history", timedelta(days=90)
    shared = SharedFiles("s3://history", a_store_id, objects, control, folder, 50, clock, days)
    listed = SharedFile(1, 50, f"{1:020d}-{50:020d}-{'0' * 16}.duckdb", MOMENT, "0" * 64)
    await control.apply([to_list(SHARED_FILE, listed)])
    needed: list[int] = []
    source = SqliteJournalSource(tmp_path / "journal")
    imports = SharedImports(shared, control, folder, clock, days)
    check = SharedFileCheck(shared, control, source, clock, lambda: True)
    cluster = cast(Cluster, None)
    in_s3 = CachedFilesInS3(shared, imports, check, cluster, control, clock, dict, max_bytes=1)

    class WithFiles(OneServer):
        async def refresh_files(self, store: IpcEventStore) -> bool:
            return await in_s3.refresh(store)

        async def share(self, needed_after: int) -> None:
            needed.append(needed_after)

    site = alone(tmp_path, WithFiles)
    housekeeping = housekeeper(kept, store, history, identities, deliveries, site)
    await housekeeping.clean_up()
    assert len(needed) == 1
    assert kept.first > 100
    assert "the list of history files in S3 is out of date" in shared.read_problems[0]
    await store.close()
    await kept.close()
