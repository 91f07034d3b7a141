"""The process that counts events and finds unusual activity, so that it delays no call.

python -m opentrail.app.insights_process SOCKET FOLDER PRESET TYPE,…

It ends with the server. A snapshot of what it has learned is written every few minutes; events
after it are read from the journal again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# One thread computes, and gives way to the server's other processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from opentrail.adapters.files import write_durably
from opentrail.adapters.ipc.child import run_child, until_gone
from opentrail.adapters.ipc.link import Link
from opentrail.app.insights_messages import (
    AbandonLearning,
    Acknowledge,
    Adopt,
    BeginLearning,
    Expect,
    GetWatch,
    LearnCounts,
    LearnPrincipals,
    Observe,
    PassTime,
    Resume,
    StopWatch,
)
from opentrail.core.errors import StorageFailed
from opentrail.insights.findings import Detection, WatchState
from opentrail.insights.watch import Watch

log = logging.getLogger(__name__)

_NICENESS = 10
#: How often a snapshot is written, at least; and how many times as long as writing one takes.
_SNAPSHOT_SECONDS, _SNAPSHOT_SHARE = 300.0, 50


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
        """Handles requests until the server asks it to end, or is gone."""
        await asyncio.to_thread(self._load)
        link = await Link.over(
            end,
            {
                GetWatch: self._get,
                Resume: self._resume,
                Expect: self._expect,
                Observe: self._observe,
                PassTime: self._pass_time,
                Acknowledge: self._acknowledge,
                BeginLearning: self._begin,
                LearnCounts: self._learn,
                AbandonLearning: self._abandon,
                LearnPrincipals: self._learn_principals,
                Adopt: self._adopt,
                StopWatch: self._stop,
            },
        )
        await until_gone(link, self._stopped)

    async def _get(self, _request: GetWatch) -> WatchState:
        return self._state()

    async def _resume(self, request: Resume) -> None:
        if self._watch is not None:
            self._watch.resume(request.moment)

    async def _expect(self, request: Expect) -> None:
        if self._watch is not None:
            await self._run(self._watch.expect, request.expected)

    async def _observe(self, request: Observe) -> WatchState:
        if self._watch is not None:
            await self._run(self._watch.observe, request.entries)
        return self._state()

    async def _pass_time(self, request: PassTime) -> WatchState:
        if self._watch is not None:
            await self._run(self._watch.close_until, request.moment)
        return self._state()

    async def _acknowledge(self, request: Acknowledge) -> None:
        if self._watch is not None:
            self._watch.acknowledge(request.number)

    async def _begin(self, request: BeginLearning) -> None:
        self._learning = Watch(self._preset, request.since, self._types)

    async def _learn(self, request: LearnCounts) -> list[Detection]:
        if self._learning is None:
            raise StorageFailed("insights: learning has not begun")
        learning = self._learning

        def learn() -> None:
            learning.learn(request.counts)
            learning.close_until(request.until)

        await self._run(learn)
        findings, learning.findings = learning.findings, []
        return findings

    async def _abandon(self, _request: AbandonLearning) -> None:
        self._learning = None

    async def _learn_principals(self, request: LearnPrincipals) -> None:
        if self._learning is None:
            raise StorageFailed("insights: learning has not begun")
        await self._run(self._learning.principals.learn, request.counts)

    async def _adopt(self, request: Adopt) -> WatchState:
        if self._learning is None:
            raise StorageFailed("insights: learning has not begun")
        learning, self._learning = self._learning, None
        learning.take_over(request.cursor, request.imported, self._watch)
        self._watch = learning
        self._snapshot_due = 0.0
        await self._run(lambda: None)
        return self._state()

    async def _stop(self, _request: StopWatch) -> None:
        async with self._lock:
            await asyncio.to_thread(self._write)
        asyncio.get_running_loop().call_soon(self._stopped.set)

    async def _run(self, work: Callable[..., object], *arguments: object) -> None:
        """Runs work in a thread, so that the server sees that this process is alive."""
        async with self._lock:
            await asyncio.to_thread(work, *arguments)
            if time.monotonic() >= self._snapshot_due:
                await asyncio.to_thread(self._write)

    def _state(self) -> WatchState:
        return WatchState() if self._watch is None else self._watch.state

    # Snapshots: the SHA-256 of the rest, then what `Watch.snapshot` returns

    def _write(self) -> None:
        if self._watch is None:
            return
        began = time.monotonic()
        snapshot = self._watch.snapshot()
        write_durably(self._file, hashlib.sha256(snapshot).digest() + snapshot)
        taken = time.monotonic() - began
        self._snapshot_due = began + max(_SNAPSHOT_SECONDS, _SNAPSHOT_SHARE * taken)

    def _load(self) -> None:
        """Reads the snapshot. A damaged one is set aside: baselines are learned again."""
        try:
            stored = self._file.read_bytes()
        except FileNotFoundError:
            return
        try:
            if hashlib.sha256(stored[32:]).digest() != stored[:32]:
                raise StorageFailed("its hash does not match")
            watch = Watch.of(stored[32:])
        except StorageFailed as error:
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
