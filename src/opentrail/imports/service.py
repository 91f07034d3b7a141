"""Importing: batches of files go to worker processes, which write sealed files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from opentrail.adapters.ipc.events import LinkedEvents
from opentrail.adapters.ipc.link import Link, LinkError
from opentrail.adapters.ipc.messages import COMMIT, STAGE
from opentrail.core.errors import CloudTrailError, RecordRefused, StorageFailed

log = logging.getLogger(__name__)

#: Workers at a time, and requests that may wait for one.
_WORKERS, _WAITING = 2, 16
_LARGEST = 1 << 30
_WRITTEN_AT_ONCE = 1 << 20
#: A worker that has nothing to do ends after so many seconds.
_IDLE_SECONDS = 10.0
#: How often a worker is asked whether it is there, and how long it may take to say so.
_PING_SECONDS, _SILENCE_SECONDS = 2.0, 30.0
_STAGE_SECONDS, _COMMIT_SECONDS = 1_800.0, 1_800.0


class _Worker:
    """A process and the link to it."""

    def __init__(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self.process = process
        self.link = link
        self.ending: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, history: Path, journal: Path) -> _Worker:
        """Starts a worker."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "opentrail.imports.worker"),
                *(str(theirs.fileno()), str(history), str(journal)),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )
        return cls(process, await Link.over(ours, _asked))

    async def end(self) -> None:
        """Ends it; what it had not committed was not imported."""
        self.link.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


async def _asked(question: str, _body: bytes) -> bytes:
    raise LinkError(f"asked {question} by an import worker")


class Imports:
    """Takes batches in; each is imported whole, and durable, before it is answered.

    `reached` stores the number of the last imported event, so that a file that is gone shows.
    """

    def __init__(
        self,
        history: Path,
        journal: Path,
        store: LinkedEvents,
        reached: Callable[[int], Awaitable[None]],
    ) -> None:
        self._reached = reached
        self._history = history
        self._journal = journal
        self._store = store
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._turns = asyncio.Semaphore(_WORKERS)
        self._committing = asyncio.Lock()
        self._under_way = 0
        self._ends: set[asyncio.Task[None]] = set()

    async def take(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Imports the files of a body (imports/batch.py) and returns what became of each.

        Raises:
            CloudTrailError: the body is not what it should be; nothing was imported.
            RecordRefused: it could not be done now; what is sent again is imported once.
        """
        if self._under_way >= _WORKERS + _WAITING:
            raise RecordRefused("too many imports are under way")
        self._under_way += 1
        batch = self._history / f"import-{secrets.token_hex(8)}.tmp"
        try:
            await _spool(chunks, batch)
            async with self._turns:
                return await self._imported(batch)
        except (LinkError, TimeoutError, OSError, StorageFailed) as error:
            raise RecordRefused(f"the import failed, it can be tried again: {error}") from error
        finally:
            self._under_way -= 1
            await asyncio.to_thread(batch.unlink, missing_ok=True)

    async def _imported(self, batch: Path) -> dict[str, Any]:
        worker = await self._worker()
        try:
            async with asyncio.timeout(_STAGE_SECONDS):
                staged = orjson.loads(await _answered(worker.link, STAGE, os.fsencode(batch)))
            if "error" in staged:
                raise CloudTrailError(staged["code"], staged["error"])
            # One at a time, so that no two write the same event.
            async with self._committing, asyncio.timeout(_COMMIT_SECONDS):
                last = orjson.dumps(self._store.imported)
                done = orjson.loads(await _answered(worker.link, COMMIT, last))
                # Also those of a commit whose answer was lost.
                await self._store.show_imports()
                await self._reached(self._store.imported)
        except CloudTrailError:
            self._rest(worker)
            raise
        except BaseException:
            # It may have anything in hand: another one starts afresh.
            self._all.discard(worker)
            await worker.end()
            raise
        self._rest(worker)
        return {"files": done["files"]}

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.ending is not None:
                worker.ending.cancel()
            if not worker.link.gone.done():
                return worker
            self._all.discard(worker)
            await worker.end()
        worker = await _Worker.start(self._history, self._journal)
        self._all.add(worker)
        return worker

    def _rest(self, worker: _Worker) -> None:
        self._idle.append(worker)
        loop = asyncio.get_running_loop()
        worker.ending = loop.call_later(_IDLE_SECONDS, self._dismiss, worker)

    def _dismiss(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._all.discard(worker)
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def close(self) -> None:
        """Ends the workers."""
        for worker in [*self._all]:
            if worker.ending is not None:
                worker.ending.cancel()
            await worker.end()
        self._all.clear()
        self._idle.clear()
        await asyncio.gather(*self._ends, return_exceptions=True)


async def _answered(link: Link, question: str, body: bytes) -> bytes:
    """Returns a worker's answer, however long it works.

    Raises:
        LinkError: it is gone, or could not do it.
        TimeoutError: it hangs.
    """
    answer = asyncio.ensure_future(link.ask(question, body))
    try:
        while not answer.done():
            async with asyncio.timeout(_SILENCE_SECONDS):
                await link.ping()
            await asyncio.wait([answer], timeout=_PING_SECONDS)
        return await answer
    finally:
        answer.cancel()


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
            if size > _LARGEST:
                raise CloudTrailError(
                    "InvalidParameterException", f"a batch has at most {_LARGEST} bytes"
                )
            waiting.append(chunk)
            if sum(map(len, waiting)) >= _WRITTEN_AT_ONCE:
                await asyncio.to_thread(file.writelines, waiting)
                waiting = []
        await asyncio.to_thread(file.writelines, waiting)


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
