"""Event history's files in S3: uploads by the worker, downloads by a starting server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.data_directory.sealed_file_names import (
    Series,
    digest_of,
    left_over,
    remove,
    sealed_files,
    stem_of,
)
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.ipc.remote_events import HistoryCache, IpcEventStore
from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.background import run_beside
from opentrail.app.cluster.member import Member
from opentrail.app.cluster.postgresql import Cluster
from opentrail.app.cluster.shared_files import SHARED_FILE, SharedFiles
from opentrail.core.errors import ObjectMissing, ObjectStoreError, StorageFailed, UsageError
from opentrail.core.event import format_time
from opentrail.ports.control import Put, StoreWrite
from opentrail.ports.objects import NewObject
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import MOMENT, some_new_entries
from tests.fakes import (
    TIMEOUT_SECONDS,
    MemoryControl,
    MemoryObjects,
    SettableClock,
    a_store_id,
    asynchronous,
    run,
)
from tests.live.processes import moto_server
from tests.postgres import shared_server

BUCKET = "history"
#: Retention of the listed files.
DAYS = timedelta(days=90)
#: No position is needed.
ALL = 1_000_000


class Servers:
    """A journal, a control store and a bucket, with the histories of several servers."""

    def __init__(self, folder: Path, records: int = 10) -> None:
        self.folder = folder
        self.control = MemoryControl()
        self.objects = MemoryObjects(BUCKET)
        self.clock = SettableClock(MOMENT)
        self._records = records

    def server(
        self,
        name: str,
        address: str = f"s3://{BUCKET}/events",
        store_id: Callable[[], Awaitable[str]] = a_store_id,
    ) -> SharedFiles:
        """Returns one server's shared files."""
        self.history(name).mkdir(parents=True, exist_ok=True)
        folder = self.history(name)
        return SharedFiles(
            *(address, store_id, self.objects, self.control, folder),
            *(self._records, self.clock, DAYS),
        )

    def history(self, name: str) -> Path:
        """Returns the folder of a server's event history."""
        return self.folder / name / "history"

    def ranges(self, name: str) -> list[tuple[int, int, bool]]:
        """Returns first, last and whether expired, for each file that a server uses."""
        files = sealed_files(self.history(name), Series.JOURNAL)
        return [(file.first, file.last, file.is_expired) for file in files]

    async def share(self, first: int, last: int, is_lost: bool = False) -> None:
        """Lists a file as a worker does; its content is not an event."""
        content = f"{first}-{last}".encode()
        name = f"{stem_of(Series.JOURNAL, first, last)}-{_digest(content)}.duckdb"
        if not is_lost:
            await self.objects.put(NewObject(BUCKET, f"events/{name}", content))
        listed = format_time(self.clock.now())
        document = {
            "first": first,
            "last": last,
            "name": None if is_lost else name,
            "listed": listed,
        }
        await self.control.apply([Put(SHARED_FILE, f"{first:020d}", document)])

    def has(self, name: str, first: int, last: int, is_expired: bool = False) -> None:
        """Writes a file into a server's history."""
        content = f"own {first}-{last}".encode()
        stem = stem_of(Series.JOURNAL, first, last)
        file = f"{stem}.expired" if is_expired else f"{stem}-{_digest(content)}.duckdb"
        (self.history(name) / file).write_bytes(b"" if is_expired else content)


def a_journal(folder: Path) -> tuple[SqliteJournal, SqliteJournalSource]:
    """Returns an empty journal, and its source for other processes."""
    journal = folder / "journal"
    journal.mkdir()
    return SqliteJournal(journal), SqliteJournalSource(journal)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.slow
@asynchronous
async def test_a_new_server_finds_shared_files(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(35))
    worker = cluster.server("worker")
    await worker.publish(journal, source, ALL)
    await worker.publish(journal, source, ALL)  # existing files are not uploaded again
    listed = await worker.files()
    assert [(file.first, file.last) for file in listed] == [(1, 10), (11, 20), (21, 30)]
    assert [key for key in sorted(cluster.objects.disk.objects[BUCKET]) if "index" not in key] == [
        *(f"events/{file.name}" for file in listed),
        "events/cluster",
    ]
    assert list(cluster.history("worker").parent.iterdir()) == [cluster.history("worker")]

    await cluster.server("new").fetch()
    for file in sealed_files(cluster.history("new"), Series.JOURNAL):
        assert digest_of(file.path) == file.digest
    store = IpcEventStore(cluster.history("new"), source, seal_records=1_000)
    await store.open()
    found = await store.read(0, 50, 30)
    assert found == await journal.read(0, 50, 30)
    await store.close()
    await journal.close()


@pytest.mark.slow
@asynchronous
async def test_a_server_downloads_files_older_than_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    url = shared_server().new_database()
    with moto_server() as upstream:
        s3 = boto3.client(
            *("s3", "us-east-1"),
            endpoint_url=upstream,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        s3.create_bucket(Bucket=BUCKET)
        one = Settings(
            data_dir=tmp_path / "one",
            journal=url,
            control_store=url,
            upstream={"": upstream},
            files=f"s3://{BUCKET}/events",
            history_seal_records=10,
        )
        async with opened_engines(one) as (stack, engines, _data):
            member = engines.site
            assert isinstance(member, Member)
            await engines.journal.append(some_new_entries(25))
            await _as_worker(stack, member.cluster, partial(member.share, ALL))
            database = url.split("?")[0].rpartition("/")[2]
            shared_server().execute(database, "UPDATE opentrail.journal SET trimmed = 20")
            two = replace(one, data_dir=tmp_path / "two")
            async with opened_engines(two) as (_, engines, data):
                files = sealed_files(data.history, Series.JOURNAL)
                assert [(file.first, file.last) for file in files] == [(1, 10), (11, 20)]
                await engines.store.open()
                found = [*await engines.journal.read(0, 50), *await engines.journal.read(20, 50)]
                assert [entry.position for entry in found] == list(range(1, 26))


async def _as_worker(
    stack: AsyncExitStack, cluster: Cluster, work: Callable[[], Awaitable[None]]
) -> None:
    """Returns once a server has worked as the worker of its cluster."""
    done = asyncio.Event()

    async def begin(_stack: AsyncExitStack) -> None:
        await work()
        done.set()

    run_beside(stack, cluster.run_worker(begin))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await done.wait()


@pytest.mark.slow
@asynchronous
async def test_another_worker_continues_an_interrupted_upload(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(20))
    cluster.control = UnwritableControl()
    with pytest.raises(StorageFailed):
        await cluster.server("one").publish(journal, source, ALL)
    assert len(cluster.objects.disk.objects[BUCKET]) == 3  # an id, a file and its index
    cluster.control = MemoryControl()
    cluster.objects.down = "ServiceUnavailable"
    two = cluster.server("two")
    with pytest.raises(ObjectStoreError):
        await two.publish(journal, source, ALL)
    assert "history files are not uploaded, and the journal grows" in two.problems[0]
    cluster.objects.down = None
    await two.publish(journal, source, ALL)
    assert two.problems == []
    assert [file.last for file in await cluster.server("one").files()] == [10, 20]
    await journal.close()


class UnwritableControl(MemoryControl):
    """A control store that refuses all changes."""

    async def apply(self, changes: Sequence[StoreWrite]) -> None:
        raise StorageFailed("the control store does not answer")


@pytest.mark.slow
@asynchronous
async def test_files_older_than_the_journal_are_shared_unchanged(
    tmp_path: Path,
) -> None:
    cluster = Servers(tmp_path)
    worker = cluster.server("worker")
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(140))
    await journal.close()
    cluster.has("worker", 1, 50, is_expired=True)
    for first, last in ((51, 130), (131, 140)):
        await asyncio.to_thread(seal, source, cluster.history("worker"), first, last)
    await worker.publish(TrimmedTo(135), source, ALL)  # type: ignore[arg-type]
    assert [(file.first, file.last) for file in await worker.files()] == [(51, 130), (131, 140)]
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 50, True), (51, 130, False), (131, 140, False)]


class TrimmedTo:
    """A journal that begins at a position, and has one record."""

    def __init__(self, first: int) -> None:
        self.first = self.head = first


@asynchronous
async def test_worker_names_the_position_of_a_missing_file(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    worker = cluster.server("worker")
    with pytest.raises(StorageFailed, match="no file here begins at position 1"):
        await worker.publish(TrimmedTo(135), SqliteJournalSource(tmp_path), ALL)  # type: ignore[arg-type]


@asynchronous
async def test_damaged_file_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    server = cluster.server("new")
    cluster.has("new", 1, 15)
    await cluster.share(1, 10)
    await cluster.share(11, 20)
    key = max(cluster.objects.disk.objects[BUCKET])
    damaged = NewObject(BUCKET, key, b"something else")
    del cluster.objects.disk.objects[BUCKET][key]
    await cluster.objects.put(damaged)
    with pytest.raises(StorageFailed, match="is damaged"):
        await server.fetch()
    assert cluster.ranges("new") == [(1, 15, False)]


@pytest.mark.parametrize("moved", [0, 1])
@asynchronous
async def test_an_interrupted_download_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    cluster = Servers(tmp_path)
    server = cluster.server("new")
    cluster.has("new", 1, 10)
    cluster.has("new", 11, 25)
    for first in (1, 11, 21):
        await cluster.share(first, first + 9)
    history, counted = cluster.history("new"), itertools.count()
    replace_file = Path.replace

    def cut_off(path: Path, target: Path) -> Path:
        if path.suffixes[-2:] == [".duckdb", ".tmp"] and next(counted) == moved:
            raise OSError("the power is gone")
        return replace_file(path, target)

    with monkeypatch.context() as cut:
        cut.setattr(Path, "replace", cut_off)
        with pytest.raises(OSError, match="the power is gone"):
            await server.fetch()
    remove(left_over(history))  # as event history does when it opens
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 10, False), (11, 20, False), (21, 30, False)]
    assert left_over(history) == []


@asynchronous
async def test_lost_positions_are_not_requested(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    for first, last, is_lost in ((1, 10, False), (11, 13, True), (14, 20, False)):
        await cluster.share(first, last, is_lost)
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 10, False), (14, 20, False)]
    calls = cluster.objects.calls
    await cluster.server("new").fetch()
    assert cluster.objects.calls == calls


@asynchronous
async def test_expired_files_are_not_requested(tmp_path: Path) -> None:
    cluster = Servers(tmp_path, records=1_000)
    for first in (1, 11, 21):
        await cluster.share(first, first + 9)
        cluster.clock.advance(30 * 86_400)
    worker = cluster.server("worker")
    source = SqliteJournalSource(tmp_path)
    cluster.clock.advance(86_400)
    await worker.publish(TrimmedTo(31), source, ALL)  # type: ignore[arg-type]
    assert [file.first for file in await worker.files()] == [11, 21]
    cluster.objects.disk.objects[BUCKET].pop(min(cluster.objects.disk.objects[BUCKET]))
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 10, True), (11, 20, False), (21, 30, False)]
    cluster.clock.advance(400 * 86_400)
    await worker.publish(TrimmedTo(31), source, ALL)  # type: ignore[arg-type]
    assert [file.first for file in await worker.files()] == [21]


@asynchronous
async def test_types_used_by_trails_stay_listed(tmp_path: Path) -> None:
    cluster = Servers(tmp_path, records=1_000)
    for first in (1, 11, 21):
        await cluster.share(first, first + 9)
    cluster.clock.advance(91 * 86_400)
    worker = cluster.server("worker")
    for needless, firsts in ((9, [1, 11, 21]), (19, [11, 21]), (30, [21])):
        await worker.publish(TrimmedTo(31), SqliteJournalSource(tmp_path), needless)  # type: ignore[arg-type]
        assert [file.first for file in await worker.files()] == firsts


@asynchronous
async def test_missing_expired_file_does_not_stop_a_server(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    for first in (1, 11, 21):
        await cluster.share(first, first + 9)
    objects = cluster.objects.disk.objects[BUCKET]
    for key in sorted(objects)[:2]:
        del objects[key]
    cluster.clock.advance(90 * 86_400)
    for work in (cluster.server("new").fetch, cluster.server("other").fetch_indexes):
        with pytest.raises(ObjectMissing):
            await work()
    cluster.clock.advance(86_400)
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 20, True), (21, 30, False)]
    objects.clear()
    for name in ("new", "empty"):
        await cluster.server(name).fetch()
    assert cluster.ranges("new") == [(1, 20, True), (21, 30, False)]
    assert cluster.ranges("empty") == [(1, 30, True)]
    other = cluster.server("other")
    assert await other.fetch_indexes() == []
    assert cluster.ranges("other") == [(1, 30, True)]


@pytest.mark.slow
@given(
    shared=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    own=st.lists(st.integers(1, 12), max_size=6),
    begin=st.integers(0, 5),
    has_expired=st.booleans(),
)
def test_own_and_shared_files_become_one_line(
    shared: list[int], own: list[int], begin: int, has_expired: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Servers(Path(folder))
        server = cluster.server("one")
        last = begin
        for records in shared:
            run(cluster.share(last + 1, last + records))
            last += records
        own_last = 0
        for number, records in enumerate(own):
            cluster.has("one", own_last + 1, own_last + records, has_expired and not number)
            own_last += records
        run(server.fetch())
        ranges = cluster.ranges("one")
        assert [first for first, *_ in ranges] == [1, *(end + 1 for _, end, _ in ranges[:-1])]
        assert ranges[-1][1] == max(last, own_last)
        # Only events that the cluster or this server had expired are missing.
        expired = max((end for _, end, is_expired in ranges if is_expired), default=0)
        assert expired <= max(begin, own[0] if own and has_expired else 0)


# A server with a cache


@pytest.mark.slow
@asynchronous
async def test_a_cache_needs_indexes_and_blocks_only(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(35))
    worker = cluster.server("worker")
    await worker.publish(journal, source, ALL)
    objects = cluster.objects.disk.objects[BUCKET]
    assert sum(key.endswith(".index") for key in objects) == 3
    server = cluster.server("new")
    listed = await server.fetch_indexes()
    calls = cluster.objects.calls
    assert await server.fetch_indexes() == listed
    assert cluster.objects.calls == calls
    cache = HistoryCache(server.cache, 10_000_000, server.read, listed)
    store = IpcEventStore(cluster.history("new"), source, 1_000, cache=cache)
    assert await store.open() == 30
    outcomes = set[str]()
    server.on_read = outcomes.add
    assert await store.read(0, 50, 30) == await journal.read(0, 50, 30)
    assert outcomes == {"downloaded"}
    cluster.objects.down = "ServiceUnavailable"
    with pytest.raises(ObjectStoreError):
        await server.read(str(listed[0].name), 0, 1)
    cluster.objects.down = None
    assert outcomes == {"downloaded", "failed"}
    await journal.append(some_new_entries(10))
    await worker.publish(journal, source, ALL)
    await store.use_shared(await server.fetch_indexes())
    assert store.position == 40
    kept = {file.name for file in cluster.history("new").iterdir()}
    assert kept == {"spare.note"}, "no file of events"
    await store.close()
    await journal.close()


@pytest.mark.slow
@asynchronous
async def test_files_of_an_earlier_version_get_an_index(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(10))
    await cluster.server("worker").publish(journal, source, ALL)
    (stored,) = await cluster.control.scan(SHARED_FILE)
    document = {name: value for name, value in stored.document.items() if name != "index"}
    await cluster.control.apply([Put(SHARED_FILE, stored.key, document, expected=stored.version)])
    server = cluster.server("new")
    (file,) = await server.fetch_indexes()
    assert file.index is None
    assert [path.suffix for path in server.cache.iterdir()] == [".index"]
    (path,) = server.cache.iterdir()
    (key,) = (key for key in cluster.objects.disk.objects[BUCKET] if key.endswith(".index"))
    assert path.read_bytes() == await cluster.objects.get(BUCKET, key)
    await journal.close()


@pytest.mark.slow
@asynchronous
async def test_a_damaged_index_is_refused_or_replaced(tmp_path: Path) -> None:
    cluster = Servers(tmp_path)
    journal, source = a_journal(tmp_path)
    await journal.append(some_new_entries(10))
    await cluster.server("worker").publish(journal, source, ALL)
    server = cluster.server("new")
    await server.fetch_indexes()
    (path,) = server.cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    await cluster.server("new").fetch_indexes()  # after a restart
    assert path.read_bytes() == content
    path.unlink()
    await server.fetch_indexes()
    assert path.read_bytes() == content
    path.unlink()
    key = next(key for key in cluster.objects.disk.objects[BUCKET] if key.endswith(".index"))
    del cluster.objects.disk.objects[BUCKET][key]
    await cluster.objects.put(NewObject(BUCKET, key, b"something else"))
    with pytest.raises(StorageFailed, match=r"\.index is damaged"):
        await cluster.server("new").fetch_indexes()
    await journal.close()


@asynchronous
async def test_place_of_another_cluster_is_refused(tmp_path: Path) -> None:
    async def other_id() -> str:
        return "b" * 32

    cluster = Servers(tmp_path)
    one, same = (cluster.server(name) for name in ("one", "same"))
    other = cluster.server("other", store_id=other_id)
    await one.claim()
    await same.claim()
    file = tmp_path / "file"
    file.write_bytes(b"content")
    for refused in (other.claim(), other.upload(file, "name")):
        with pytest.raises(UsageError, match="another cluster"):
            await refused
    await same.upload(file, "name")
