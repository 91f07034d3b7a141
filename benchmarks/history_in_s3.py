"""Event history in S3, read through a cache of a tenth of it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import cast

import orjson

from benchmarks.history import DAYS, drawn_values
from benchmarks.records import BEGIN, Multiplier
from benchmarks.wire import percentile
from opentrail.adapters.aws.object_store import S3Access, S3Objects
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.duckdb.recorded import SEAL_RECORDS
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.ipc.remote_events import HistoryCache, IpcEventStore
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.shared_files import SharedFiles
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET, start_seaweedfs
from opentrail.core.attributes import LOOKUP_KEYS, attributes_of
from opentrail.core.event import Entry
from opentrail.ports.event_store import CountedField, EventQuery
from opentrail.ports.journal import JournalSource, TrimmedJournal

Figures = dict[str, float]
#: Fewer are for trying things out.
FILES = int(os.environ.get("OPENTRAIL_BENCH_EVENTS", "10000000")) // SEAL_RECORDS
EVENTS = FILES * SEAL_RECORDS
#: Look-ups of each attribute with nothing in the cache, and with what others have left in it.
COLD, LOOKS = 15, 100
BUCKET = "history"
#: What the console counts beside an event search.
FIELDS: tuple[CountedField, ...] = (
    *("event_name", "username", "event_source", "region"),
    *("source_ip", "error_code", "resource_types", "account"),
)


def history_in_s3() -> Figures:
    """Uploads the files as a worker does, then looks things up as a server with a cache does."""
    with tempfile.TemporaryDirectory() as folder:
        child = start_seaweedfs(Path(folder) / "s3")
        try:
            objects = S3Objects(lambda: S3Access(child.url, ADMIN_KEY_ID, ADMIN_SECRET))
            return asyncio.run(_measured(Path(folder), objects))
        finally:
            child.stop()


async def _measured(folder: Path, objects: S3Objects) -> Figures:
    history, journal = folder / "history", folder / "journal"
    for new in (history, journal):
        new.mkdir()
    await SqliteJournal(journal).close()
    source = SqliteJournalSource(journal)
    control = SqlControl.in_file(folder / "state.db")
    await objects.create_bucket(BUCKET)
    files = SharedFiles(
        *(f"s3://{BUCKET}", _store_id, objects, control, history),
        *(SEAL_RECORDS, SystemClock(), timedelta(days=90)),
    )
    generated = cast("JournalSource", _Generated())
    for first in range(1, EVENTS, SEAL_RECORDS):
        await asyncio.to_thread(seal, generated, history, first, first + SEAL_RECORDS - 1)
    size = sum(file.stat().st_size for file in history.iterdir())
    figures: Figures = {"events": EVENTS, "files": FILES, "MB a file": size / FILES / 1e6}
    values = drawn_values(history, "*.duckdb", LOOKS)

    on_disk = IpcEventStore(history, source, SEAL_RECORDS)
    await on_disk.open()
    expected, more = await _look_ups("all on the disk", on_disk, values)
    figures |= more
    await on_disk.close()

    started = time.perf_counter()
    await files.publish(cast("TrimmedJournal", _Trimmed()), source, 0)
    figures["s to index and upload a file"] = (time.perf_counter() - started) / FILES
    shutil.rmtree(history)
    history.mkdir()

    started = time.perf_counter()
    listed = await files.fetch_indexes()
    figures["s to download all indexes"] = time.perf_counter() - started
    indexes = [index.stat().st_size for index in files.cache.glob("*.index")]
    figures["index KB a file"] = sum(indexes) / FILES / 1e3
    figures["index / file, %"] = 100 * sum(indexes) / size
    cache = HistoryCache(files.cache, size // 10, _Counted(files.read), listed)
    figures["cache MB"] = cache.max_bytes / 1e6
    figures |= await _cold(cache, history, source, values)

    store = IpcEventStore(history, source, SEAL_RECORDS, cache=cache)
    await store.open()
    found, more = await _look_ups("through the cache", store, values)
    figures |= more
    if found != expected:
        raise RuntimeError("the answers through the cache are different")
    figures["cached MB at most"] = _cached_bytes(cache) / 1e6
    figures |= await _counts(cache, store)
    await store.close()
    await control.close()
    return figures


async def _store_id() -> str:
    return "benchmark"


class _Generated:
    """The journal that the files are sealed from."""

    def __init__(self) -> None:
        self._made = Multiplier(DAYS * 86_400)

    def chain_before(self, _first: int) -> bytes:
        """Returns one that is not verified here."""
        return bytes(32)

    def read_range(self, first: int, last: int, batch: int) -> Iterator[list[Entry]]:
        """Yields the records of a range as entries."""
        for begin in range(first, last + 1, batch):
            count = min(batch, last - begin + 1)
            yield [
                self._entry(begin + number, record)
                for number, record in enumerate(self._made.records(begin - 1, count, EVENTS))
            ]

    def _entry(self, position: int, record: bytes) -> Entry:
        found = attributes_of(orjson.loads(record))
        return Entry(
            *(position, "recorder", found.event_time, found.account, found.region),
            *(found.category, found.event_id, bytes(32), record),
        )


class _Trimmed:
    """A journal that has been trimmed: its records are in the files of event history."""

    first, head = EVENTS + 1, EVENTS


class _Counted:
    """Reads files in S3, and counts how often and how much."""

    def __init__(self, read: Callable[[str, int, int], Awaitable[bytes]]) -> None:
        self._read = read
        self.requests = self.bytes = 0

    async def __call__(self, name: str, first: int, length: int) -> bytes:
        self.requests += 1
        self.bytes += length
        return await self._read(name, first, length)


def _cached_bytes(cache: HistoryCache) -> int:
    return sum(block.stat().st_size for block in cache.folder.glob("*/*"))


async def _cold(
    cache: HistoryCache, history: Path, source: SqliteJournalSource, values: dict[str, list[str]]
) -> Figures:
    """Looks up each value in a new process with an empty cache, and a second time."""
    figures: Figures = {}
    all_cold: list[float] = []
    read = cast("_Counted", cache.read)
    for key in LOOKUP_KEYS:
        cold: list[float] = []
        warm: list[float] = []
        before = read.bytes
        for value in values[key][:COLD]:
            for blocks in cache.folder.iterdir():
                with suppress(NotADirectoryError):
                    shutil.rmtree(blocks)
            store = IpcEventStore(history, source, SEAL_RECORDS, cache=cache)
            await store.open()
            query = _query(key, value)
            cold.append(await _timed(lambda: store.lookup(query)))  # noqa: B023 - awaited here
            warm.append(await _timed(lambda: store.lookup(query)))  # noqa: B023
            await store.close()
        all_cold += cold
        figures[f"cold, {key} p50 ms"] = percentile(cold, 0.5)
        figures[f"cold, {key} at most ms"] = max(cold)
        figures[f"cold, {key} MB a look-up"] = (read.bytes - before) / COLD / 1e6
        figures[f"warm, {key} p50 ms"] = percentile(warm, 0.5)
        figures[f"warm, {key} at most ms"] = max(warm)
    figures["cold, page of 50, p99 ms"] = percentile(all_cold, 0.99)
    return figures


async def _look_ups(
    name: str, store: IpcEventStore, values: dict[str, list[str]]
) -> tuple[list[list[int]], Figures]:
    """Looks up the values of all attributes in a random order; returns the positions, too."""
    found: list[list[int]] = []
    looks = [(key, value) for key in LOOKUP_KEYS for value in values[key]]
    random.Random(1).shuffle(looks)
    taken: dict[str, list[float]] = {key: [] for key in LOOKUP_KEYS}
    for key, value in looks:
        started = time.perf_counter()
        page = await store.lookup(_query(key, value))
        taken[key].append((time.perf_counter() - started) * 1e3)
        found.append([event.position for event in page])
    figures: Figures = {}
    for key, times in taken.items():
        figures[f"{name}, {key} p50 ms"] = percentile(times, 0.5)
        figures[f"{name}, {key} p99 ms"] = percentile(times, 0.99)
    every = [value for times in taken.values() for value in times]
    figures[f"{name}, page of 50, p50 ms"] = percentile(every, 0.5)
    figures[f"{name}, page of 50, p99 ms"] = percentile(every, 0.99)
    return found, figures


async def _counts(cache: HistoryCache, store: IpcEventStore) -> Figures:
    """Counts all events, and those of a day, as the console does."""
    figures: Figures = {}
    read = cast("_Counted", cache.read)
    a_day = EventQuery(
        *(1,),
        start=BEGIN + timedelta(days=DAYS // 2),
        end=BEGIN + timedelta(days=DAYS // 2 + 1),
    )
    everything = EventQuery(1)
    for name, query in (("a day", a_day), ("all", everything)):
        before = read.bytes
        figures[f"overview of {name} s"] = (
            await _timed(lambda: store.overview(query, 3_600, FIELDS, 20))  # noqa: B023 - awaited here
        ) / 1e3
        figures[f"overview of {name} MB"] = (read.bytes - before) / 1e6
    figures["cached MB at most, after counting"] = _cached_bytes(cache) / 1e6
    return figures


def _query(key: str, value: str) -> EventQuery:
    return EventQuery(50, attribute=(key, value))


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    """Returns the milliseconds that some work takes."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1e3


BENCHMARKS = {f"History in S3: {EVENTS:,} events": history_in_s3}
