"""Imports into a cluster: every server finds each imported event once."""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import shutil
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import Series, remove, sealed_files
from opentrail.adapters.duckdb.seal import merge
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.background import run_beside
from opentrail.app.cluster.shared_files import IMPORTED_FILE, SharedFiles, listed
from opentrail.app.cluster.shared_imports import SharedImports
from opentrail.app.known_positions import known_imports, mark_imports
from opentrail.core.errors import RecordRefused
from opentrail.imports.service import Imports
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.factories import MOMENT
from tests.fakes import (
    TIMEOUT_SECONDS,
    Breaker,
    Buckets,
    Documents,
    MemoryControl,
    MemoryObjects,
    PowerCutError,
    SettableClock,
    a_store_id,
    asynchronous,
)
from tests.imports.test_service import body

pytestmark = pytest.mark.slow

ALL = EventQuery(10_000, Snapshot(0))
BUCKET = "history"
DAYS = timedelta(days=90)


@dataclass
class Server:
    """The event history of a server, and its imports."""

    imports: Imports
    store: IpcEventStore
    shared: SharedImports

    async def take(self, first: int, count: int) -> int:
        """Returns the number of newly imported events."""
        done = await self.imports.take(body(first, count))
        return int(done["files"][0]["imported"])

    async def event_ids(self) -> list[str]:
        return sorted(event.event_id for event in await self.store.lookup(ALL))


class Servers:
    """A control store and a bucket, with the data of several servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.disks = Documents(), Buckets()
        self.use(Breaker())
        self.clock = SettableClock(MOMENT)

    def copied(self, folder: Path) -> Servers:
        """Returns servers with a copy of all data; no server may run."""
        made = Servers(folder)
        shutil.copytree(self._folder, folder)
        made.disks = copy.deepcopy(self.disks)
        made.use(Breaker())
        return made

    def use(self, breaker: Breaker) -> None:
        """Gives a breaker to servers that start later."""
        documents, buckets = self.disks
        self.control = MemoryControl(documents, breaker)
        self.objects = MemoryObjects(BUCKET, disk=buckets, breaker=breaker)

    def shared(self, name: str) -> SharedImports:
        address = f"s3://{BUCKET}/events"
        history = self.history(name)
        history.mkdir(parents=True, exist_ok=True)
        place = address, a_store_id, self.objects, self.control
        files = SharedFiles(*place, history, 10, self.clock, DAYS)
        return SharedImports(files, self.control, history, self.clock, DAYS)

    def history(self, name: str) -> Path:
        return self._folder / name / "history"

    async def start(
        self, stack: AsyncExitStack, name: str, *, is_alone: bool = False, follows: bool = True
    ) -> Server:
        """Starts a server, as `serve` does; `is_alone` starts one without shared files."""
        shared, history, journal = self.shared(name), self.history(name), self._folder / "journal"
        journal.mkdir(exist_ok=True)
        if not is_alone:
            await shared.take_over()
        source = SqliteJournalSource(journal)
        store = IpcEventStore(history, source, 1_000, last_import=await known_imports(self.control))
        await store.open()
        stack.push_async_callback(store.close)
        reached = partial(mark_imports, self.control)
        imports = Imports(history, source, store, reached, None if is_alone else shared)
        stack.push_async_callback(imports.close)
        if follows and not is_alone:
            run_beside(stack, shared.follow(store))
        return Server(imports, store, shared)


async def until_all_find(servers: list[Server], count: int) -> None:
    """Returns once each server finds this number of events, each event once."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            found = [await server.event_ids() for server in servers]
            if all(len(ids) == len(set(ids)) == count for ids in found):
                return
            await asyncio.sleep(0.05)


@asynchronous
async def test_imports_are_found_on_all_servers(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one, two = [await servers.start(stack, name) for name in ("one", "two")]
        assert await one.take(1, 40) == 40
        await until_all_find([one, two], 40)
        assert await two.take(21, 40) == 20, "the second server knows the imports of the first"
        third = await servers.start(stack, "three")
        await until_all_find([one, two, third], 60)
        assert one.store.state.lost_imports == third.store.state.lost_imports == ()


@asynchronous
async def test_concurrent_servers_import_each_event_once(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        both = [await servers.start(stack, name) for name in ("one", "two")]
        parts = [(1, 60), (31, 60), (61, 60), (91, 60)]
        counts = await asyncio.gather(
            *(both[number % 2].take(*part) for number, part in enumerate(parts))
        )
        assert sum(counts) == 150
        await until_all_find(both, 150)
        files = await listed(servers.control, IMPORTED_FILE)
        assert [file.first for file in files[1:]] == [file.last + 1 for file in files[:-1]]


@asynchronous
async def test_import_is_repeated_if_its_numbers_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        two = await servers.start(stack, "two", follows=False)
        publish, calls = two.shared.publish, itertools.count()

        async def publish_late() -> bool:
            if next(calls) == 0:
                # Two files that have, together, the numbers of the waiting file.
                assert await one.take(1, 30) == 30
                assert await one.take(31, 30) == 30
            return await publish()

        monkeypatch.setattr(two.shared, "publish", publish_late)
        assert await two.take(31, 60) == 30
        await until_all_find([one, two], 90)


@pytest.mark.parametrize("parts", [((31, 60),), ((31, 30), (61, 30))])
@asynchronous
async def test_unlisted_import_is_not_counted_as_merged(
    tmp_path: Path, parts: tuple[tuple[int, int], ...]
) -> None:
    """Other events have its numbers, and a listed file has its end."""
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        alone = await servers.start(stack, "one", is_alone=True)
        for part in parts:
            await alone.take(*part)
        await mark_imports(servers.control, 0)
    own = sealed_files(servers.history("one"), Series.IMPORTED)
    if len(own) > 1:
        path = merge([file.path for file in own])
        remove(file.path for file in own)
        assert sealed_files(servers.history("one"), Series.IMPORTED)[0].path == path
    async with AsyncExitStack() as stack:
        two = await servers.start(stack, "two")
        await two.take(1, 30)
        await two.take(101, 30)
        one = await servers.start(stack, "one")
        assert await one.event_ids() == await two.event_ids()


@asynchronous
async def test_merged_imports_of_listed_files_are_kept(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        for first in (1, 31, 61):
            await one.take(first, 30)
    own = sealed_files(servers.history("one"), Series.IMPORTED)
    paths = [file.path for file in own]
    merged = merge([merge(paths[:2]), paths[2]])
    remove(paths)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await until_all_find([one], 90)
    assert [file.path for file in sealed_files(servers.history("one"), Series.IMPORTED)] == [merged]


@asynchronous
async def test_numbers_listed_by_another_server_are_unused(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        await (await servers.start(stack, "one", is_alone=True)).take(1, 10)
        await mark_imports(servers.control, 0)  # as if both had begun together
        await (await servers.start(stack, "two", follows=False)).take(51, 10)
    assert await servers.shared("one").publish() is False
    assert sealed_files(servers.history("one"), Series.IMPORTED) == []


@asynchronous
async def test_earlier_imports_become_shared(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        await (await servers.start(stack, "one", is_alone=True)).take(1, 30)
    async with AsyncExitStack() as stack:
        both = [await servers.start(stack, name) for name in ("one", "two")]
        await until_all_find(both, 30)


@asynchronous
async def test_an_unacknowledged_import_is_set_aside_and_repeatable(
    tmp_path: Path,
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        servers.objects.down = "SlowDown"
        with pytest.raises(RecordRefused, match="the import failed; try again"):
            await one.take(1, 40)
        assert await one.event_ids() == []
    servers.objects.down = None
    async with AsyncExitStack() as stack:
        one, two = [await servers.start(stack, name) for name in ("one", "two")]
        assert len(list(servers.history("one").glob("*.unlisted"))) == 1
        assert await two.take(101, 10) == 10
        assert await one.take(1, 40) == 40
        await until_all_find([one, two], 50)


@asynchronous
async def test_damaged_imports_are_downloaded_again(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await one.take(1, 30)
        await one.take(31, 30)
    (file, *_) = sealed_files(servers.history("one"), Series.IMPORTED)
    file.path.with_suffix(".damaged").write_bytes(b"")
    file.path.unlink()
    file.path.with_name(f"{file.path.stem.rpartition('-')[0]}.expired").touch()
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await until_all_find([one], 60)
        assert one.store.state.lost_imports == ()
        assert not list(servers.history("one").glob("*.damaged"))


@pytest.mark.campaign
@asynchronous
async def test_imports_damaged_at_run_time_are_downloaded_again(
    tmp_path: Path,
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one, two = [await servers.start(stack, name) for name in ("one", "two")]
        await one.take(1, 30)
        await two.take(31, 30)
        await until_all_find([one, two], 60)
        (file, *_) = sealed_files(servers.history("one"), Series.IMPORTED)
        content = file.path.read_bytes()
        file.path.write_bytes(b"damaged" + content[7:])
        assert one.store.pid is not None
        os.kill(one.store.pid, signal.SIGKILL)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                if file.path.exists() and file.path.read_bytes() == content:
                    break
                await asyncio.sleep(0.05)
        await until_all_find([one, two], 60)
        assert (await one.store.refresh()).lost_imports == ()


@pytest.mark.campaign
@asynchronous
async def test_expired_imports_are_unlisted_and_not_missed(
    tmp_path: Path,
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await one.take(1, 30)
        servers.clock.advance(timedelta(days=91).total_seconds())
        await one.take(31, 30)
        await one.shared.forget_expired()
        assert [file.first for file in await listed(servers.control, IMPORTED_FILE)] == [31]
        two = await servers.start(stack, "two")
        await until_all_find([two], 30)
        assert two.store.state.lost_imports == ()
        assert await two.take(61, 5) == 5
        await until_all_find([one], 65)


@pytest.mark.campaign
@asynchronous
async def test_missing_expired_import_does_not_stop_a_server(
    tmp_path: Path,
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await one.take(1, 30)
        servers.clock.advance(timedelta(days=91).total_seconds())
        servers.disks[1].objects[BUCKET].clear()
        two = await servers.start(stack, "two")
        assert two.store.state.lost_imports == ()
        assert await two.take(61, 5) == 5
        await until_all_find([one], 35)


@asynchronous
async def test_crash_during_the_expiry_of_imports_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(tmp_path)
    async with AsyncExitStack() as stack:
        one = await servers.start(stack, "one")
        await one.take(1, 30)
        servers.clock.advance(timedelta(days=91).total_seconds())
        await one.take(31, 30)
        await one.shared.forget_expired()

    def cut_off(path: Path, *_: object, **__: object) -> None:
        raise OSError("the power is gone")

    for method in ("touch", "replace"):
        with monkeypatch.context() as cut:
            cut.setattr(Path, method, cut_off)
            with pytest.raises(OSError, match="the power is gone"):
                await servers.shared(f"cut-{method}").take_over()
        async with AsyncExitStack() as stack:
            server = await servers.start(stack, f"cut-{method}")
            assert server.store.state.lost_imports == ()
            await until_all_find([server], 30)


#: OPENTRAIL_POWER_CUTS=all cuts the power at every step instead of every third.
EVERY = 1 if os.environ.get("OPENTRAIL_POWER_CUTS") == "all" else 3


@pytest.mark.campaign
@pytest.mark.anomaly
@asynchronous
async def test_power_cut_in_import_keeps_each_event_once(
    tmp_path: Path,
) -> None:
    steps_of_start = 0
    before = Servers(tmp_path / "before")
    async with AsyncExitStack() as stack:
        await (await before.start(stack, "two")).take(1, 10)
    for cut in itertools.count(1, EVERY):
        servers = before.copied(tmp_path / str(cut))
        breaker = Breaker(at=steps_of_start and steps_of_start + cut, done=True)
        servers.use(breaker)
        with suppress(PowerCutError):
            async with AsyncExitStack() as stack:
                one = await servers.start(stack, "one", follows=False)
                steps_of_start = breaker.count
                await one.take(5, 20)
        servers.use(Breaker())
        async with AsyncExitStack() as stack:
            both = [await servers.start(stack, name) for name in ("two", "one")]
            await both[0].take(101, 5)
            await both[1].take(5, 20)
            await until_all_find(both, 29)
        if cut > 1 and not breaker.tripped:
            return
