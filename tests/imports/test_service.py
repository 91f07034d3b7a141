"""Batches go to worker processes and are visible before the answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import left_over, remove
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import CloudTrailError, RecordRefused
from opentrail.imports import service as module
from opentrail.imports.batch import BatchFile, pack
from opentrail.imports.service import Imports
from opentrail.ports.event_store import EventQuery, Snapshot
from tests.factories import some_records
from tests.fakes import asynchronous, eventually

pytestmark = pytest.mark.slow

ALL = EventQuery(10_000, Snapshot(0))


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[Imports, IpcEventStore]]:
    history, journal = root / "history", root / "journal"
    history.mkdir(exist_ok=True)
    journal.mkdir()
    store = IpcEventStore(history, SqliteJournalSource(journal), 1_000)
    await store.open()
    imports = Imports(history, SqliteJournalSource(journal), store, reached)
    try:
        yield imports, store
    finally:
        await imports.close()
        await store.close()


async def reached(_last: int) -> None:
    """Stores nothing."""


async def body(first: int, count: int, chunk: int = 1_000) -> AsyncIterator[bytes]:
    lines = "\n".join(map(json.dumps, some_records(count, first)))
    packed = pack([BatchFile(f"file-{first}", lines.encode())])
    for start in range(0, len(packed), chunk):
        yield packed[start : start + chunk]


@asynchronous
async def test_answered_calls_are_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as (imports, store):
        done = await imports.take(body(1, 40))
        assert [file["imported"] for file in done["files"]] == [40]
        assert store.snapshot.imported == 40
        assert len(await store.lookup(ALL)) == 40


@asynchronous
async def test_reading_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.001)
    reports: list[int] = []
    async with opened(tmp_path) as (imports, _):
        (file,) = (await imports.take(body(1, 10_000, 1 << 20), reports.append))["files"]
        assert file["imported"] == 10_000
    assert reports == sorted(reports)
    assert len(set(reports)) > 2
    assert file["lines"] == 10_000


@asynchronous
async def test_concurrent_overlapping_imports_bring_each_event_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (imports, store):
        parts = [(start, 60) for start in range(1, 300, 30)]
        done = await asyncio.gather(*(imports.take(body(*part)) for part in parts))
        assert sum(answer["files"][0]["imported"] for answer in done) == 330
        found = await store.lookup(ALL)
        assert len({event.event_id for event in found}) == len(found) == 330
    assert list((tmp_path / "history").glob("batch-*")) == []


@asynchronous
async def test_starting_event_history_spares_the_current_batch(tmp_path: Path) -> None:
    history = tmp_path / "history"

    async def interrupted() -> AsyncIterator[bytes]:
        async for chunk in body(1, 40):
            yield chunk
        assert list(history.glob("batch-*"))
        remove(left_over(history))

    async with opened(tmp_path) as (imports, _):
        done = await imports.take(interrupted())
        assert [file["imported"] for file in done["files"]] == [40]


@asynchronous
async def test_a_killed_servers_batch_is_removed(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "batch-0123456789abcdef.import").write_bytes(b"half")
    async with opened(tmp_path) as (_, _):
        assert list((tmp_path / "history").glob("batch-*")) == []


@pytest.mark.anomaly
@asynchronous
async def test_killed_worker_is_replaced_and_the_batch_resent(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (imports, store):
        await imports.take(body(1, 5))
        (worker,) = imports._idle
        pid = worker.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.create_task(imports.take(body(6, 5)))
        await eventually(lambda: not imports._idle)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RecordRefused, match="try again"):
            await waiting
        await imports.take(body(6, 5))
        assert len(await store.lookup(ALL)) == 10


@asynchronous
async def test_an_invalid_or_oversized_body_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense() -> AsyncIterator[bytes]:
        yield b"nonsense\n"

    async with opened(tmp_path) as (imports, store):
        with pytest.raises(CloudTrailError, match="not described"):
            await imports.take(nonsense())
        monkeypatch.setattr(module, "_MAX_BATCH_BYTES", 2_000)
        with pytest.raises(CloudTrailError, match="at most 2000 bytes"):
            await imports.take(body(1, 10))
        assert await store.lookup(ALL) == []


@asynchronous
async def test_an_idle_worker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)
    async with opened(tmp_path) as (imports, _):
        await imports.take(body(1, 5))
        await eventually(lambda: not imports._all)
        await asyncio.gather(*imports._ends)
        assert imports._idle == []
        await imports.take(body(6, 5))
