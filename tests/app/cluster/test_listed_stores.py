"""Files of event data stores in S3 have each selected event once, whatever is interrupted."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opentrail.adapters.duckdb import seal, store_files
from opentrail.adapters.duckdb.block_cache import BlockCache
from opentrail.adapters.duckdb.store_folders import StoreMaker
from opentrail.adapters.queries.query_children import QueryChildren
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.listed_stores import (
    STORE_FILE,
    FilesOfQueries,
    ListedStoreFiles,
    files_of,
    readable_files,
    require_no_stores,
)
from opentrail.app.cluster.shared_files import SharedFiles
from opentrail.core.errors import (
    Conflict,
    ObjectStoreError,
    QueryFailed,
    StorageFailed,
    Unsupported,
    UsageError,
)
from opentrail.core.event_data_store import EventDataStore, Phase
from opentrail.lake.store_registry import KIND, Stores
from opentrail.ports.control import Put, Remove
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import RESTORED, LostPositions
from opentrail.ports.objects import NewObject
from opentrail.ports.queries import QueryTables, StoredQuery
from tests.adapters.duckdb.test_store_files import (
    ALL,
    ID,
    a_store,
    children_here,
    ids_of,
    numbered,
    selecting,
)
from tests.adapters.duckdb.test_store_files import World as Journal
from tests.fakes import (
    Breaker,
    MemoryControl,
    MemoryObjects,
    PowerCutError,
    SettableClock,
    a_store_id,
    asynchronous,
    run,
)

pytestmark = pytest.mark.slow

BUCKET = "files"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


class World:
    """A journal, a bucket and a control store; servers come and go."""

    def __init__(self, root: Path) -> None:
        self.journal = Journal(root)
        self.root = root
        self.control, self.objects = MemoryControl(), MemoryObjects(BUCKET)
        self.clock = SettableClock(NOW)

    def shared(self, objects: MemoryObjects | None = None) -> SharedFiles:
        control, folder = self.control, self.root / "history"
        place = (f"s3://{BUCKET}/events", a_store_id, objects or self.objects)
        return SharedFiles(*place, control, folder, 50, self.clock, timedelta(days=90))

    def worker(self, breaker: Breaker | None = None) -> ListedStoreFiles:
        """Returns the files as a new worker sees them."""
        broken = breaker or Breaker()
        control = MemoryControl(self.control.disk, broken)
        objects = MemoryObjects(disk=self.objects.disk, breaker=broken)
        shared = SharedFiles(
            *(f"s3://{BUCKET}/events", a_store_id, objects, control),
            *(self.root / "history", 50, self.clock, timedelta(days=90)),
        )
        source = SqliteJournalSource(self.journal.journal_folder)
        maker = StoreMaker(self.root / "new-store-files", source, unexpected_repair)
        return ListedStoreFiles(shared, control, self.root / "stores", maker, source, self.clock)

    async def add(self, store: EventDataStore) -> None:
        await self.control.apply([Put(KIND, store.key, store.document())])

    def listed(self, store: EventDataStore) -> list[SharedFile]:
        return run(files_of(self.control, store))

    def stored(self) -> set[str]:
        """Returns the names of the objects of stores."""
        keys = run(self.objects.keys(BUCKET, "events/stores/"))
        return {key.removeprefix("events/") for key in keys}

    def ids(self, store: EventDataStore) -> list[str]:
        """Returns the ids of the events in the listed files, which must be adjacent."""
        found: list[str] = []
        end = store.phases[0].after
        for file in self.listed(store):
            assert file.first == end + 1
            end = file.last
            if file.name is not None:
                content = run(self.objects.get(BUCKET, f"events/{file.name}"))
                (self.root / "read.parquet").write_bytes(content)
                rows = duckdb.read_parquet(str(self.root / "read.parquet")).project("eventid")
                found += [row[0] for row in rows.fetchall()]
        return sorted(found)


async def unexpected_repair(first: int, last: int) -> None:
    raise AssertionError(f"{first} to {last} are not damaged")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with children_here():
        yield World(tmp_path)


def test_lists_have_each_event_once_after_any_interruption(world: World) -> None:
    world.journal.write(*numbered(1, 20))
    store = a_store(
        Phase(2, ALL, every_region=True),
        Phase(8, None, every_region=True),
        Phase(12, selecting("Data"), every_region=True),
    )
    expected = ids_of(*range(3, 9), 15, 18)
    run(world.add(store))
    at = 0
    while True:
        at += 1
        for done in (False, True):
            world.control.disk.clear()
            world.objects.disk.objects[BUCKET].clear()
            run(world.add(store))
            breaker = Breaker(at, done)
            try:
                run(world.worker(breaker).tend(store, 20, LONG_AGO))
            except PowerCutError:
                assert world.ids(store) in ([], expected)
            worker = world.worker()
            run(worker.tend(store, 20, LONG_AGO))
            assert world.ids(store) == expected
            assert run(worker.covered(store)) == 20
            world.clock.advance(4_000)
            run(worker.tend(store, 20, LONG_AGO))  # deletes objects of interrupted uploads
            assert world.ids(store) == expected
            assert len(world.stored()) == 4
        if not breaker.tripped:
            break
    assert at > 10
    assert [file.name is None for file in world.listed(store)] == [False, True, False]


def test_merges_survive_any_interruption(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 10)
    monkeypatch.setattr(store_files, "_BATCH", 5)
    world.journal.write(*numbered(1, 80))
    store = a_store(
        Phase(0, ALL, every_region=True),
        Phase(30, None, every_region=True),
        Phase(35, ALL, every_region=True),
    )
    expected = ids_of(*range(1, 31), *range(36, 81))
    run(world.add(store))
    for until in range(10, 75, 10):
        run(world.worker().tend(store, until, LONG_AGO))
    before = dict(world.control.disk), dict(world.objects.disk.objects[BUCKET])
    assert sum(file.name is not None for file in world.listed(store)) == 7
    at = 0
    while True:
        at += 1
        world.control.disk.clear()
        world.control.disk.update(before[0])
        world.objects.disk.objects[BUCKET].clear()
        world.objects.disk.objects[BUCKET].update(before[1])
        breaker = Breaker(at, at % 2 == 0)
        try:
            run(world.worker(breaker).tend(store, 80, LONG_AGO))
        except PowerCutError:
            assert world.ids(store) in (ids_of(*range(1, 31), *range(36, 71)), expected)
        worker = world.worker()
        run(worker.tend(store, 80, LONG_AGO))
        assert [(file.first, file.last) for file in world.listed(store)] == [(1, 80)]
        world.clock.advance(4_000)
        run(worker.tend(store, 80, LONG_AGO))
        assert world.ids(store) == expected
        assert len(world.stored()) == 2
        if not breaker.tripped:
            break
    assert at > 20


def test_unlisted_objects_stay_for_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_files, "_FILE_RECORDS", 10)
    world.journal.write(*numbered(1, 80))
    store = a_store()
    run(world.add(store))
    for until in range(10, 85, 10):
        run(world.worker().tend(store, until, LONG_AGO))
    (merged,) = world.listed(store)
    assert len(world.stored()) == 9 * 2
    orphan = NewObject(BUCKET, f"events/stores/{store.id}/interrupted.parquet", b"x")
    run(world.objects.put(orphan))
    worker = world.worker()
    run(worker.tend(store, 80, LONG_AGO))
    assert set(run(readable_files(world.control))) == {
        name for name in world.stored() if not name.endswith(".index")
    }
    world.clock.advance(3_600)
    run(worker.tend(store, 80, LONG_AGO))
    assert len(world.stored()) == 9 * 2 + 1
    world.clock.advance(360)
    run(worker.tend(store, 80, LONG_AGO))
    assert {name for name in world.stored() if name.endswith(".parquet")} == {merged.name}
    assert run(readable_files(world.control)) == [merged.name]


def test_restored_list_finds_newer_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.journal.write(*numbered(1, 100))
    store = a_store()
    run(world.add(store))
    for until in range(10, 65, 10):
        run(world.worker().tend(store, until, LONG_AGO))
    backup = dict(world.control.disk)
    for until in (70, 80, 90):
        run(world.worker().tend(store, until, LONG_AGO))
    world.clock.advance(4_000)
    run(world.worker().tend(store, 90, LONG_AGO))  # deletes the parts of the merged file
    assert len(world.listed(store)) == 2
    newest = dict(world.control.disk), dict(world.objects.disk.objects[BUCKET])

    def restore(documents: Any) -> None:
        world.control.disk.clear()
        world.control.disk.update(documents)

    restore(backup)
    worker = world.worker()
    run(worker.tend(store, 100, LONG_AGO))
    assert world.ids(store) == ids_of(*range(1, 101))

    # Files that only continue the list count if the journal has lost their positions.
    restore(newest[0])
    world.objects.disk.objects[BUCKET] = dict(newest[1])
    last = world.listed(store)[-1]
    run(world.control.apply([Remove(STORE_FILE, f"{store.id}/{last.first:020d}")]))
    lost = LostPositions(81, 90, RESTORED)
    monkeypatch.setattr(SqliteJournalSource, "restored_between", lambda *_: [lost])
    run(world.worker().tend(store, 90, LONG_AGO))
    assert world.listed(store)[-1].name == last.name

    # Without their file, nothing that may replace it is deleted.
    restore(backup)
    world.objects.disk.objects[BUCKET] = dict(newest[1])
    for name in list(world.stored()):
        if f"-{80:020d}-" in name:
            run(world.objects.delete(BUCKET, f"events/{name}"))
    kept = world.stored()
    monkeypatch.setattr(SqliteJournalSource, "first_position", lambda _: 61)
    for _ in range(2):
        with suppress(StorageFailed):
            run(world.worker().tend(store, 60, LONG_AGO))
        world.clock.advance(4_000)
    assert world.stored() == kept


def test_expired_files_are_unlisted(world: World) -> None:
    world.journal.write(*numbered(1, 30))
    store = a_store()
    run(world.add(store))
    for until in (10, 20, 30):
        run(world.worker().tend(store, until, LONG_AGO))
        world.clock.advance(86_400)
    run(world.worker().tend(store, 30, NOW + timedelta(days=1, hours=1)))
    files = world.listed(store)
    assert [(one.first, one.last, one.name is None) for one in files] == [
        *[(1, 20, True), (21, 30, False)],
    ]
    run(world.worker().tend(store, 30, NOW + timedelta(days=9)))
    assert [(one.first, one.last) for one in world.listed(store)] == [(1, 30)]
    assert run(world.worker().covered(store)) == 30


def test_change_of_selectors_is_not_overtaken(world: World) -> None:
    """A server changes a store while the worker writes the same positions with its old phases."""
    world.journal.write(*numbered(1, 30))
    store = a_store()
    changed = replace(store, selectors=selecting("Data")).with_phase(10)
    outcomes = []
    for at in itertools.count(1):
        world.control.disk.clear()
        world.objects.disk.objects[BUCKET].clear()
        run(world.add(store))
        breaker = Breaker()
        refused: list[Conflict] = []

        async def change(refused: list[Conflict] = refused) -> None:
            try:
                await world.control.apply([Put(KIND, store.key, changed.document(), expected=1)])
            except Conflict as error:
                refused.append(error)  # `Stores.change` finds a later position for its phase

        breaker.before_next(at, change)
        try:
            run(world.worker(breaker).tend(store, 30, LONG_AGO))
        except StorageFailed:
            assert world.listed(store) == []
            outcomes.append("repeated")
            run(world.worker().tend(changed, 30, LONG_AGO))
            assert world.ids(store) == ids_of(*range(1, 11), *range(12, 31, 3))
        else:
            assert world.ids(store) == ids_of(*range(1, 31))
            if breaker.count < at:
                break
            assert refused
            outcomes.append("refused")
    assert set(outcomes) == {"repeated", "refused"}
    assert outcomes == sorted(outcomes, key=("repeated", "refused").index)


@asynchronous
async def test_worker_does_not_make_a_change_fail(world: World) -> None:
    """The worker lists a file after another server has read the store and before it writes."""
    store, breaker = a_store(), Breaker()
    await world.add(store)
    newest = iter((20, 30))

    async def last_position() -> int:
        return next(newest)

    stores = Stores(MemoryControl(world.control.disk, breaker), last_position, world.clock)

    async def list_file() -> None:
        await world.control.apply([Put(KIND, store.key, store.document(), expected=1)])

    breaker.before_next(3, list_file)
    changed = await stores.change(store, lambda one: replace(one, selectors=selecting("Data")))
    assert changed.phases[-1].after == 30


def test_files_from_before_the_cluster_are_uploaded(world: World) -> None:
    world.journal.write(*numbered(1, 900))
    store = a_store(id=ID)
    run(world.add(store))
    own, older = world.journal.folder, world.root / "older"
    first, second = sorted(world.journal.journal_folder.glob("*.db"))
    world.journal.tend(store, 100)
    shutil.copytree(own, older)
    world.journal.tend(store, 900)
    assert int(second.stem) == 901
    first.unlink()
    aside = own.rename(world.root / "another-server")
    for _ in range(2):  # without files, then with files that are too old
        with pytest.raises(StorageFailed, match=f"copy the folder stores/{ID} of the server"):
            run(world.worker().tend(store, 900, LONG_AGO))
        assert world.listed(store) == []
        shutil.copytree(older, own, dirs_exist_ok=True)
    shutil.rmtree(own)
    aside.rename(own)
    run(world.worker().tend(store, 900, LONG_AGO))
    assert world.ids(store) == ids_of(*range(1, 901))
    assert not own.exists()
    with pytest.raises(UsageError, match="start each server with --files"):
        run(require_no_stores(world.control))
    run(require_no_stores(MemoryControl()))


def test_imported_events_stay_out_of_a_cluster(world: World) -> None:
    world.journal.write(*numbered(1, 20))
    store = a_store(id=ID)
    run(world.add(store))
    world.journal.tend(store, 20)
    copied = world.journal.folder / f"import-{1:020d}-{5:020d}.expired"
    copied.touch()
    with pytest.raises(StorageFailed, match="it has imported events"):
        run(world.worker().tend(store, 20, LONG_AGO))
    assert copied.exists()
    assert not world.worker().takes_log_files
    with pytest.raises(Unsupported, match="of a cluster"):
        run(world.worker().add(store, 20, [], (LONG_AGO, LONG_AGO)))


def test_removed_store_leaves_no_object(world: World) -> None:
    world.journal.write(*numbered(1, 20))
    store, other = a_store(), a_store(id="0a1b2c3d-0000-4000-8000-00000000000b")
    for each in (store, other):
        run(world.add(each))
        run(world.worker().tend(each, 20, LONG_AGO))
    run(world.worker().remove(store))
    run(world.worker().remove(store))
    assert world.listed(store) == []
    assert {name.split("/")[1] for name in world.stored()} == {other.id}
    assert world.ids(other) == ids_of(*range(1, 21))


class Events:
    """Downloads blocks as the event history process does."""

    def __init__(self, world: World, max_bytes: int = 1 << 40) -> None:
        self.shared: list[SharedFile] = []
        self.is_away = False
        self.downloads = 0
        self._loop = asyncio.get_running_loop()
        self._files = world.shared()
        self._files.cache.mkdir(exist_ok=True)
        self.cache = BlockCache(self._files.cache, max_bytes, self._download)

    def _download(self, name: str, first: int, length: int) -> bytes:
        self.downloads += 1
        reading = self._files.read(name, first, length)
        return asyncio.run_coroutine_threadsafe(reading, self._loop).result(30)

    async def fetch_block(self, name: str, number: int) -> None:
        if self.is_away:
            raise StorageFailed("S3 is away")
        await asyncio.to_thread(self.cache.fetch, name, number)


class Asking:
    """Runs statements over files in S3."""

    def __init__(self, world: World, *, is_cached: bool = False, max_bytes: int = 1 << 40) -> None:
        self.world = world
        self.events = Events(world, max_bytes)
        files = FilesOfQueries(
            world.shared(),
            world.control,
            self.events,  # type: ignore[arg-type]
            is_cached=is_cached,
        )
        self.results = QueryFiles(world.root / "queries")
        self._engine = QueryChildren(
            world.root / "history",
            world.root / "stores",
            SqliteJournalSource(world.journal.journal_folder),
            self.results,
            lambda: (LONG_AGO, None),
            world.clock,
            files,
        )

    async def ask(self, statement: str, store: EventDataStore | None = None) -> list[str | None]:
        """Returns the first column."""
        await self.results.open()
        query = StoredQuery("q", statement, "console", None, "RUNNING", 0.0)
        stores = {} if store is None else {"a-store": store, store.id: store}
        tables = QueryTables(["event_history"], stores, self.world.journal.count)
        await self._engine.run(query, tables, lambda _: None)
        return [row[0] for row in await self.results.rows(query, 0, 1_000)]


@asynchronous
async def test_query_reads_blocks_of_listed_files(world: World) -> None:
    await asyncio.to_thread(world.journal.write, *numbered(1, 30))
    store = a_store()
    await world.add(store)
    worker = world.worker()
    asking = Asking(world)
    statement = f'SELECT eventID FROM "{store.id}" ORDER BY 1'  # noqa: S608
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
    await worker.tend(store, 12, LONG_AGO)
    await worker.tend(store, 20, LONG_AGO)
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
    first = asking.events.downloads
    assert first == 2
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
    assert asking.events.downloads == first
    for path in asking.world.shared().cache.glob("*/0"):
        path.write_bytes(b"damaged")
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
    assert asking.events.downloads == first + 2
    for path in asking.world.shared().cache.glob("*.index"):
        path.unlink()
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
    for path in asking.world.shared().cache.glob("*/0"):
        path.unlink()
    asking.events.is_away = True
    with pytest.raises(QueryFailed, match="in S3 cannot be reached"):
        await asking.ask(statement, store)
    world.objects.down = "SlowDown"
    with pytest.raises((QueryFailed, ObjectStoreError)):
        await Asking(world).ask(statement, store)


@asynchronous
async def test_query_starts_again_if_the_journal_is_trimmed(world: World) -> None:
    await asyncio.to_thread(world.journal.write, *numbered(1, 900))
    store = a_store()
    await world.add(store)
    asking = Asking(world)
    worker = world.worker()
    trimmed = sorted(world.journal.journal_folder.glob("*.db"))
    assert len(trimmed) > 1
    listing = asking._engine._shared
    assert listing is not None
    before = await listing.current([store])
    await worker.tend(store, 900, LONG_AGO)
    await asyncio.to_thread(trimmed[0].unlink)
    real, calls = listing.current, []

    async def stale_first(stores: Any) -> dict[str, Any]:
        calls.append(1)
        return before if len(calls) == 1 else await real(stores)

    listing.current = stale_first  # type: ignore[method-assign]
    assert await asking.ask('SELECT count(*) FROM "a-store"', store) == ["900"]
    assert len(calls) == 2


@asynchronous
async def test_query_reads_event_history_through_the_cache(world: World) -> None:
    await asyncio.to_thread(world.journal.write, *numbered(1, 40))
    source = SqliteJournalSource(world.journal.journal_folder)
    shared, making = world.shared(), world.root / "sealing"
    making.mkdir()
    listed = []
    for first, last in ((5, 12), (13, 20)):
        (path,) = await asyncio.to_thread(seal.seal, source, making, first, last)
        await shared.upload(path, path.name)
        index = await shared.upload_index(path, path.name)
        listed.append(SharedFile(first, last, path.name, NOW, index))
    history = world.root / "history"
    for first, last in ((13, 18), (18, 25), (26, 30)):
        await asyncio.to_thread(seal.seal, source, history, first, last)
    asking = Asking(world, is_cached=True)
    for file in listed:
        await shared.fetch_index(str(file.name), file.index)
    asking.events.shared = listed
    statement = "SELECT eventID FROM event_history ORDER BY 1"
    assert await asking.ask(statement) == ids_of(*range(5, 41))
    assert asking.events.downloads > 0
    asking.events.shared = []
    for path in history.glob("0*"):
        path.unlink()
    assert await asking.ask(statement) == ids_of(*range(1, 41))


@asynchronous
async def test_query_without_trimmed_events_fails(world: World) -> None:
    await asyncio.to_thread(world.journal.write, *numbered(1, 900))
    sorted(world.journal.journal_folder.glob("*.db"))[0].unlink()
    asking = Asking(world, is_cached=True)
    with pytest.raises(QueryFailed, match="change too fast"):
        await asking.ask("SELECT count(*) FROM event_history")


@asynchronous
async def test_query_needs_no_more_of_the_cache_than_a_block(world: World) -> None:
    await asyncio.to_thread(world.journal.write, *numbered(1, 30))
    store = a_store()
    await world.add(store)
    for until in (10, 20, 30):
        await world.worker().tend(store, until, LONG_AGO)
    asking = Asking(world, max_bytes=1)
    statement = f'SELECT eventID FROM "{store.id}" ORDER BY 1'  # noqa: S608
    assert await asking.ask(statement, store) == ids_of(*range(1, 31))
