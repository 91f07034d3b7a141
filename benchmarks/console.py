"""What the console asks event history for, at a million events while calls arrive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from benchmarks.processes import cpu_seconds
from benchmarks.records import BEGIN, Multiplier
from benchmarks.wire import percentile
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.duckdb.seal import merge
from opentrail.adapters.duckdb.staging import Duplicates, Staging
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import attributes_of
from opentrail.core.event import MANAGEMENT, NewEntry
from opentrail.core.expression import parse
from opentrail.history.event_history import History, Search
from opentrail.ports.follow import follow
from opentrail.ports.metrics import Metrics

Figures = dict[str, float]
#: A smaller number is for trying things out.
EVENTS = int(os.environ.get("OPENTRAIL_BENCH_CONSOLE_EVENTS", "1000000"))
DAYS, FILES = 80, 8
#: Calls per second, and the number that is sealed at a time.
RATE, SEAL_RECORDS = 200, 6_000
ROUNDS, TURNS, PAGE, STRIDE = 40, 40, 50, 10_000
FIELDS = (
    *("eventName", "username", "eventSource", "region"),
    *("sourceIp", "errorCode", "resourceType", "account"),
)
KINDS = ("count", "histogram", "facets", "values")
SEARCHES = {
    "all": "",
    "is:failure": "is:failure",
    "name:create": "name:create NOT is:read",
    "a user": "user=benjamin",
    "a source": "source=ec2",
    "a network": "ip=10.1.0.0/16",
}
#: Searches that the columns do not decide.
BY_RECORD = {
    "a path": "userIdentity.type=Root",
    "a word": "terraform",
}


def console() -> Figures:
    """Fills a store, then counts and turns pages while calls arrive."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        return measure(Path(folder))


def fill(folder: Path) -> None:
    """Writes the events to one sealed file, as imports and merging do."""
    history, journal = folder / "history", folder / "journal"
    history.mkdir()
    journal.mkdir()
    asyncio.run(_begin_journal(journal))
    made = Multiplier(DAYS * 86_400)
    staging = Staging(history, SqliteJournalSource(journal))
    files = []
    count = EVENTS // FILES
    for first in range(0, count * FILES, count):
        staging.clear()
        records = [
            (number, attributes_of(orjson.loads(record)), record)
            for number, record in enumerate(made.records(first, count, EVENTS))
        ]
        for start in range(0, count, 5_000):
            staging.add(0, records[start : start + 5_000])
        staging.deduplicate(Duplicates())
        written = staging.write(datetime.now(UTC), [])
        if written is None:
            raise RuntimeError("nothing was imported")
        files.append(written[0])
    staging.close()
    merge(files)
    for file in files:
        file.unlink()


async def _begin_journal(folder: Path) -> None:
    await SqliteJournal(folder).close()


def measure(folder: Path) -> Figures:
    """Measures the store in a folder."""
    return asyncio.run(_measured(folder))


async def _measured(folder: Path) -> Figures:
    figures: Figures = {"events": EVENTS}
    async with _arriving(folder) as (history, pid):
        # One that records decide takes seconds: it is asked less often.
        for rounds, searches in ((ROUNDS, SEARCHES), (2, BY_RECORD)):
            for name, text in searches.items():
                figures |= await _counts(name, history, pid, _search(text), rounds)
        week = Search(
            categories=(MANAGEMENT,),
            start=BEGIN + timedelta(days=40),
            end=BEGIN + timedelta(days=47),
        )
        figures |= await _counts("a week", history, pid, week, ROUNDS)
        figures |= await _pages(history)
    for kind in KINDS:
        figures[f"{kind}, worst p95 ms"] = max(
            figures[f"{name}: {kind} p95 ms"] for name in (*SEARCHES, "a week")
        )
    turns = [value for name, value in figures.items() if name.startswith("page turns")]
    return {**figures, "page turns, worst p95 ms": max(turns)}


def _search(text: str) -> Search:
    return Search(categories=(MANAGEMENT,), expression=parse(text, datetime.now(UTC)))


@contextlib.asynccontextmanager
async def _arriving(folder: Path) -> AsyncIterator[tuple[History, int]]:
    """Opens history over a store in a process of its own, as the server does; calls arrive."""
    journal = SqliteJournal(folder / "journal")
    store = IpcEventStore(folder / "history", SqliteJournalSource(folder / "journal"), SEAL_RECORDS)
    await store.open()
    if store.pid is None:
        raise RuntimeError("the store's process has not started")
    history = History(
        store, SystemClock(), Metrics(), b"k" * 32, timedelta(days=90), journal.newest
    )
    history.follower.catch_up_to(0)
    tasks = [
        asyncio.create_task(follow(journal, history.follower, 0.05, history.follower.flush_now)),
        asyncio.create_task(_append(journal)),
    ]
    try:
        yield history, store.pid
        if any(task.done() for task in tasks):
            raise RuntimeError("the calls could not be offered")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
        await journal.close()


async def _append(journal: SqliteJournal) -> None:
    """Appends records, each on its own, as calls do."""
    made = Multiplier(60, seed=2)
    start, number = time.perf_counter(), 0
    while True:
        for record in made.records(0, RATE, RATE):
            decoded = orjson.loads(record)
            entry = NewEntry(
                "recorder",
                datetime.now(UTC),
                decoded["recipientAccountId"],
                decoded["awsRegion"],
                decoded["eventCategory"],
                decoded["eventID"],
                record,
            )
            await journal.append([entry])
            number += 1
            await asyncio.sleep(max(0.0, number / RATE - (time.perf_counter() - start)))
            if time.perf_counter() - start > number / RATE + 5:
                raise RuntimeError("the calls fell behind")


async def _counts(name: str, history: History, pid: int, search: Search, rounds: int) -> Figures:
    """Measures what the console asks when a search changes; `pid` is the store's process."""
    asked: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: history.count_events(search),
        lambda: history.histogram(search),
        lambda: history.facets(search, FIELDS),
        lambda: history.values("eventName", "Cre", search),
    )
    figures: Figures = {}
    for kind, ask in zip(KINDS, asked, strict=True):
        used = cpu_seconds(pid)
        taken = [await _timed(ask) for _ in range(rounds)]
        figures[f"{name}: {kind} CPU ms"] = (cpu_seconds(pid) - used) / rounds * 1000
        figures[f"{name}: {kind} p50 ms"] = percentile(taken, 0.5)
        figures[f"{name}: {kind} p95 ms"] = percentile(taken, 0.95)
    return figures


async def _pages(history: History) -> Figures:
    """Turns pages at several depths, which are reached by longer pages."""
    figures: Figures = {}
    token: str | None = None
    search = Search()
    depth = 0
    for wanted in (0, EVENTS // 100, EVENTS // 10, EVENTS // 2, EVENTS * 9 // 10):
        while depth < wanted:
            page = await history.search(search, STRIDE, token)
            token, depth = page.next_token, depth + STRIDE
        turned = await _turned(history, search, token)
        figures[f"page turns after {depth:,} events: p95 ms"] = percentile(turned, 0.95)
    for name, text in SEARCHES.items():
        turned = await _turned(history, _search(text), None)
        figures[f"page turns, {name}: p95 ms"] = percentile(turned, 0.95)
    return figures


async def _turned(history: History, search: Search, token: str | None) -> list[float]:
    """Returns the milliseconds that each of the following pages took."""
    taken = []
    for _ in range(TURNS):
        started = time.perf_counter()
        page = await history.search(search, PAGE, token)
        taken.append((time.perf_counter() - started) * 1000)
        token = page.next_token
        if token is None:
            break
    return taken


async def _timed(ask: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await ask()
    return (time.perf_counter() - started) * 1000


BENCHMARKS = {f"Console: {EVENTS:,} events, {RATE} calls/s": console}
