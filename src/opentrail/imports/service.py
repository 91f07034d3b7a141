"""Importing: batches of files go to worker processes, which write sealed files."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from opentrail.adapters.ipc.child import ChildProcess
from opentrail.adapters.ipc.link import Link
from opentrail.adapters.ipc.messages import Commit, Stage, StagedBytes
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.core.errors import (
    CloudTrailError,
    ObjectStoreError,
    RecordRefused,
    StorageFailed,
)
from opentrail.core.event import Json
from opentrail.imports.batch import WORKERS
from opentrail.ports.journal import JournalSource

log = logging.getLogger(__name__)

#: Names of batches under way; event history, which starts independently, skips them.
_BATCH = "batch-*.import"
#: Requests that may wait for a worker.
_WAITING = 16
_MAX_BATCH_BYTES = 1 << 30
_WRITE_BYTES = 1 << 20
#: Seconds after which an idle worker ends.
_IDLE_SECONDS = 10.0
_START_SECONDS = 30.0
_SILENCE_SECONDS = 30.0
_BATCH_SECONDS = 1_800.0
#: Seconds between reports of progress.
_REPORT_SECONDS = 0.25

#: Is called with the bytes of a batch that are read.
OnRead = Callable[[int], None]


class _Worker:
    """A worker process."""

    def __init__(self, history: Path, journal: JournalSource) -> None:
        self.child = ChildProcess(
            "opentrail.imports.import_process",
            (str(history), journal.address),
            {},
            Link.ping,
            prepare_seconds=_START_SECONDS,
            silence_seconds=_SILENCE_SECONDS,
            environment=journal.environment,
        )
        self.ending: asyncio.TimerHandle | None = None


class OtherServers(Protocol):
    """The servers of a cluster, which share their imports."""

    #: Is held while files of imported events change.
    changing: asyncio.Lock

    async def take_over(self) -> None:
        """Adds the files that other servers have imported to the files here."""

    async def publish(self) -> bool:
        """Shares the files that an import has written; False: another server was faster."""


class Imports:
    """Accepts batches; answers once a batch is imported completely and durably.

    Args:
        history: the folder of event history.
        journal: has records that history does not have yet.
        store: shows imported events.
        reached: stores the number of the last imported event, to detect a missing file.
        others: the servers that share imported events, or None.
    """

    def __init__(
        self,
        history: Path,
        journal: JournalSource,
        store: IpcEventStore,
        reached: Callable[[int], Awaitable[None]],
        others: OtherServers | None = None,
    ) -> None:
        for unfinished in history.glob(_BATCH):
            unfinished.unlink()
        self._reached = reached
        self._history = history
        self._journal = journal
        self._store = store
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._turns = asyncio.Semaphore(WORKERS)
        self._others = others
        self._committing = asyncio.Lock() if others is None else others.changing
        self._under_way = 0
        self._ends: set[asyncio.Task[None]] = set()

    async def take(self, chunks: AsyncIterator[bytes], on_read: OnRead | None = None) -> Json:
        """Imports the files of a body (imports/batch.py) and returns the outcome of each.

        Args:
            chunks: the body.
            on_read: is called several times with the bytes of the files that are read.

        Raises:
            CloudTrailError: the body is not valid; nothing was imported.
            RecordRefused: the import failed for now; repeating it imports each event once.
        """
        if self._under_way >= WORKERS + _WAITING:
            raise RecordRefused("too many imports are under way")
        self._under_way += 1
        batch = self._history / _BATCH.replace("*", secrets.token_hex(8))
        try:
            await _spool(chunks, batch)
            async with self._turns:
                return await self._imported(batch, on_read)
        except (OSError, StorageFailed, ObjectStoreError) as error:
            raise RecordRefused(f"the import failed; try again: {error}") from error
        finally:
            self._under_way -= 1
            await asyncio.to_thread(batch.unlink, missing_ok=True)

    async def _imported(self, batch: Path, on_read: OnRead | None) -> Json:
        worker = await self._worker()
        try:
            while (files := await self._files_of(batch, worker, on_read)) is None:
                log.info("another server imported at the same time; repeating the import")
        except CloudTrailError:
            self._set_idle(worker)
            raise
        except BaseException:
            # Its state is unknown: another worker is started.
            self._all.discard(worker)
            await worker.child.stop()
            raise
        self._set_idle(worker)
        return {"files": files}

    async def _files_of(
        self, batch: Path, worker: _Worker, on_read: OnRead | None
    ) -> list[Json] | None:
        """Returns the outcome of each file; None: another server's import came between."""
        staging = asyncio.ensure_future(
            worker.child.ask(Stage(str(batch)), _BATCH_SECONDS, resend=False)
        )
        try:
            while on_read and not (await asyncio.wait([staging], timeout=_REPORT_SECONDS))[0]:
                on_read(await worker.child.ask(StagedBytes(), _BATCH_SECONDS, resend=False))
            invalid = await staging
        finally:
            staging.cancel()
        if invalid is not None:
            raise CloudTrailError(invalid.code, invalid.message)
        # One at a time, so that no two write the same event.
        async with self._committing:
            if self._others is not None:
                await self._others.take_over()
                await self._store.show_imports()
            commit = Commit(str(batch), self._store.snapshot.imported)
            files = await worker.child.ask(commit, _BATCH_SECONDS, resend=False)
            if self._others is not None and not await self._others.publish():
                return None
            # Also shows files of a commit whose answer was lost.
            await self._store.show_imports()
            await self._reached(self._store.snapshot.imported)
        return files

    async def _worker(self) -> _Worker:
        if self._idle:
            worker = self._idle.pop()
            if worker.ending is not None:
                worker.ending.cancel()
            return worker
        worker = _Worker(self._history, self._journal)
        await worker.child.start()
        self._all.add(worker)
        return worker

    def _set_idle(self, worker: _Worker) -> None:
        self._idle.append(worker)
        loop = asyncio.get_running_loop()
        worker.ending = loop.call_later(_IDLE_SECONDS, self._dismiss, worker)

    def _dismiss(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._all.discard(worker)
        task = asyncio.get_running_loop().create_task(worker.child.stop())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def close(self) -> None:
        """Ends the workers."""
        for worker in [*self._all]:
            if worker.ending is not None:
                worker.ending.cancel()
            await worker.child.stop()
        self._all.clear()
        self._idle.clear()
        await asyncio.gather(*self._ends, return_exceptions=True)


async def _spool(chunks: AsyncIterator[bytes], batch: Path) -> None:
    """Writes a body to a file that only this user may read.

    Raises:
        CloudTrailError: it is too large.
    """
    size = 0
    waiting: list[bytes] = []
    with _opened(batch) as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > _MAX_BATCH_BYTES:
                raise CloudTrailError(
                    "InvalidParameterException", f"a batch has at most {_MAX_BATCH_BYTES} bytes"
                )
            waiting.append(chunk)
            if sum(map(len, waiting)) >= _WRITE_BYTES:
                await asyncio.to_thread(file.writelines, waiting)
                waiting = []
        await asyncio.to_thread(file.writelines, waiting)


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
