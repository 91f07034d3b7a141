"""The process that counts events and finds unusual activity, so that it delays no call.

python -m opentrail.app.wings.insights_process SOCKET FOLDER PRESET TYPE,…

It ends with the server. It writes a snapshot of its state every few minutes; later events are read
from the journal again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

# One thread computes, and yields to the server's other processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from opentrail.adapters.data_directory.files import write_durably
from opentrail.adapters.ipc.child import run_child, until_gone
from opentrail.adapters.ipc.link import Link, handlers_of
from opentrail.adapters.ipc.messages import StopWatch
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry
from opentrail.insights.findings import Detection, Expected, WatchState
from opentrail.insights.follower import RemoteWatch
from opentrail.insights.watch import Watch
from opentrail.ports.event_store import CallCounts, PrincipalCounts

log = logging.getLogger(__name__)

_NICENESS = 10
#: Minimum seconds between two snapshots.
_SNAPSHOT_SECONDS = 300.0
#: Minimum ratio of the time between two snapshots to the duration of writing one.
_SNAPSHOT_RATIO = 50
#: Methods of a watch that are called directly.
_CALLS = (
    RemoteWatch.state,
    RemoteWatch.resume,
    RemoteWatch.expect,
    RemoteWatch.observe,
    RemoteWatch.pass_time,
    RemoteWatch.acknowledge,
    RemoteWatch.begin,
    RemoteWatch.learn,
    RemoteWatch.abandon,
    RemoteWatch.learn_principals,
    RemoteWatch.adopt,
)


class InsightsProcess:
    """Handles the server's requests to one watch."""

    def __init__(self, folder: Path, preset: str, types: Sequence[str] = ()) -> None:
        self._file = folder / "baselines.snapshot"
        self._preset, self._types = preset, tuple(types)
        self._watch: Watch | None = None
        self._learning: Watch | None = None
        self._snapshot_due = time.monotonic() + _SNAPSHOT_SECONDS
        self._lock = asyncio.Lock()
        self._stopped = asyncio.Event()

    async def serve(self, end: socket.socket) -> None:
        """Handles requests until the server asks it to end, or has ended."""
        await asyncio.to_thread(self._load)
        calls = handlers_of(self, _CALLS)
        link = await Link.over(end, {**calls, StopWatch: self._stop})
        await until_gone(link, self._stopped)

    # The port `RemoteWatch`, which documents each method

    async def state(self) -> WatchState:
        return WatchState() if self._watch is None else self._watch.state

    async def resume(self, moment: datetime) -> None:
        if self._watch is not None:
            self._watch.resume(moment)

    async def expect(self, expected: Sequence[Expected]) -> None:
        if self._watch is not None:
            await self._run(self._watch.expect, expected)

    async def observe(self, entries: Sequence[Entry], after: int) -> WatchState:
        counted = -1 if self._watch is None else self._watch.cursor
        if self._watch is None or counted < after:
            raise StorageFailed(f"insights: entries are counted up to {counted}, not up to {after}")
        await self._run(self._watch.observe, entries)
        return await self.state()

    async def pass_time(self, moment: datetime) -> WatchState:
        if self._watch is not None:
            await self._run(self._watch.close_until, moment)
        return await self.state()

    async def acknowledge(self, number: int) -> None:
        if self._watch is not None:
            self._watch.acknowledge(number)

    async def begin(self, since: int) -> None:
        self._learning = Watch(self._preset, since, self._types)

    async def learn(self, counts: Sequence[CallCounts], until: datetime) -> list[Detection]:
        learning = self._begun()

        def learn() -> None:
            learning.learn(counts)
            learning.close_until(until)

        await self._run(learn)
        findings, learning.findings = learning.findings, []
        return findings

    async def abandon(self) -> None:
        self._learning = None

    async def learn_principals(self, counts: Sequence[PrincipalCounts]) -> None:
        await self._run(self._begun().principals.learn, counts)

    async def adopt(self, cursor: int, imported: int) -> WatchState:
        learning, self._learning = self._begun(), None
        learning.take_over(cursor, imported, self._watch)
        self._watch = learning
        self._snapshot_due = 0.0
        await self._run(lambda: None)
        return await self.state()

    def _begun(self) -> Watch:
        """Returns the learning watch.

        Raises:
            StorageFailed: learning has not begun.
        """
        if self._learning is None:
            raise StorageFailed("insights: learning has not begun")
        return self._learning

    async def _stop(self, _request: StopWatch) -> None:
        async with self._lock:
            await asyncio.to_thread(self._write)
        asyncio.get_running_loop().call_soon(self._stopped.set)

    async def _run(self, work: Callable[..., object], *arguments: object) -> None:
        """Runs work in a thread, so that this process still answers the server."""
        async with self._lock:
            await asyncio.to_thread(work, *arguments)
            if time.monotonic() >= self._snapshot_due:
                await asyncio.to_thread(self._write)

    # Snapshots: the SHA-256 of the rest, then the result of `Watch.snapshot`

    def _write(self) -> None:
        if self._watch is None:
            return
        began = time.monotonic()
        snapshot = self._watch.snapshot()
        try:
            write_durably(self._file, hashlib.sha256(snapshot).digest() + snapshot)
        except OSError as error:
            about = {"file": str(self._file), "error": str(error)}
            log.error("snapshot of insights cannot be written", extra=about)
        duration = time.monotonic() - began
        self._snapshot_due = began + max(_SNAPSHOT_SECONDS, _SNAPSHOT_RATIO * duration)

    def _load(self) -> None:
        """Reads the snapshot. A damaged one is set aside, and baselines are learned again."""
        try:
            stored = self._file.read_bytes()
            if hashlib.sha256(stored[32:]).digest() != stored[:32]:
                raise StorageFailed("its hash does not match")
            watch = Watch.of(stored[32:])
        except FileNotFoundError:
            return
        except (OSError, StorageFailed) as error:
            aside = self._file.with_suffix(".damaged")
            self._file.replace(aside)
            about = {"file": str(aside), "error": str(error)}
            log.error("snapshot of insights is damaged; baselines are learned again", extra=about)
            return
        if watch.preset == self._preset and watch.principals.types == self._types:
            self._watch = watch


async def _serve(ends: list[socket.socket], arguments: list[str]) -> None:
    folder, preset, types = arguments
    os.nice(_NICENESS)
    await InsightsProcess(Path(folder), preset, types.split(",") if types else ()).serve(ends[0])


if __name__ == "__main__":
    run_child(_serve, ends=1)
