"""Runs each query in a separate process, so a statement can end only that process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson

from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.adapters.queries.turns import Turns, free_cores
from opentrail.core.errors import (
    FilesChanged,
    QueryFailed,
    StatementRefused,
    StorageFailed,
    StoreInactive,
)
from opentrail.core.event import micros
from opentrail.core.event_data_store import EventDataStore
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalSource
from opentrail.ports.queries import QueryStatistics, QueryTables, StoredQuery, ignore_progress

log = logging.getLogger(__name__)

_MODULE = "opentrail.adapters.duckdb.query_child"
#: Bytes of memory of a query, and of its result.
_MEMORY, _RESULT = 512 << 20, 256 << 20
_LINE_BYTES = 1 << 20
#: Attempts to run a query while files of events in S3 are replaced.
_ATTEMPTS = 5


class QueriedFiles(Protocol):
    """Listed files; queries read those in S3 by blocks from a cache folder."""

    async def current(self, stores: Iterable[EventDataStore]) -> dict[str, Any]:
        """Return the files of event history and of stores, as members of the child's job.

        Raises:
            QueryFailed: they are not known.
        """
        ...

    async def fetch(self, name: str, number: int) -> None:
        """Return once a block of a file is in the cache folder.

        Raises:
            StorageFailed: it cannot be downloaded.
        """
        ...


class QueryChildren:
    """A `QueryEngine` that starts a process per query.

    Args:
        history: the folder of sealed files.
        stores: the folder of event data stores.
        journal: has the newest events.
        files: where results are written.
        kept_since: returns the times since when events, and data events, are kept.
        clock: the time by which events of stores expire.
        shared: the listed files; None: there are none.
    """

    def __init__(
        self,
        history: Path,
        stores: Path,
        journal: JournalSource,
        files: QueryFiles,
        kept_since: Callable[[], tuple[datetime, datetime | None]],
        clock: Clock,
        shared: QueriedFiles | None = None,
    ) -> None:
        self._history = history
        self._stores = stores
        self._clock = clock
        self._journal = journal
        self._files = files
        self._kept_since = kept_since
        self._shared = shared
        self._turns = Turns(free_cores())

    async def run(
        self,
        query: StoredQuery,
        tables: QueryTables,
        translated: Callable[[list[tuple[str, str]]], None],
        progressed: Callable[[int], None] = ignore_progress,
    ) -> QueryStatistics:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FilesChanged):
                return await self._attempt(query, tables, translated, progressed)
        raise QueryFailed("files of events change too fast: try again")

    async def _attempt(
        self,
        query: StoredQuery,
        tables: QueryTables,
        translated: Callable[[list[tuple[str, str]]], None],
        progressed: Callable[[int], None],
    ) -> QueryStatistics:
        since, data_since = self._kept_since()
        shared = await self._shared.current(tables.stores.values()) if self._shared else {}
        job = {
            "statement": query.statement,
            "tables": list(tables.history),
            "stores": {name: store.document() for name, store in tables.stores.items()},
            "store_files": str(self._stores.parent),
            "until": tables.until,
            "now": micros(self._clock.now()),
            "history": str(self._history),
            "journal": self._journal.address,
            "accounts": query.accounts,
            "since": micros(since),
            "data_since": None if data_since is None else micros(data_since),
            "result": str(self._files.result(query.id)),
            "memory": _MEMORY,
            "result_bytes": _RESULT,
            **shared,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self._journal.environment},
            limit=_LINE_BYTES,
        )
        with self._turns.member(process.pid):
            try:
                if process.stdin is None or process.stdout is None:
                    raise QueryFailed("its process has no pipes")
                process.stdin.write(orjson.dumps(job) + b"\n")
                answer = partial(self._answer_request, process.stdin)
                return await _outcome(process.stdout, translated, answer, progressed)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def _answer_request(self, answers: asyncio.StreamWriter, name: str, number: int) -> None:
        """Answers once a block is in the cache folder: with an empty line, or what went wrong."""
        problem = ""
        try:
            if self._shared is None:
                raise StorageFailed(f"{name} is not on the disk")
            await self._shared.fetch(name, number)
        except StorageFailed as error:
            log.warning("a file in S3 cannot be read", extra={"file": name, "error": str(error)})
            problem = " ".join(str(error).split()) or "failed"
        answers.write(f"{problem}\n".encode())


async def _outcome(
    lines: asyncio.StreamReader,
    translated: Callable[[list[tuple[str, str]]], None],
    answer_request: Callable[[str, int], Awaitable[None]],
    progressed: Callable[[int], None] = ignore_progress,
) -> QueryStatistics:
    async for line in lines:
        message: dict[str, Any] = orjson.loads(line)
        if "inactive" in message:
            raise StoreInactive(message["inactive"])
        if "refused" in message:
            raise StatementRefused(message["refused"])
        if "failed" in message:
            raise QueryFailed(message["failed"])
        if "changed" in message:
            raise FilesChanged(message["changed"])
        if "outcome" in message:
            return QueryStatistics(**message["outcome"])
        if "block" in message:
            await answer_request(*message["block"])
        elif "progress" in message:
            progressed(message["progress"])
        else:
            translated([(name, kind) for name, kind in message["columns"]])
    raise QueryFailed("Query exceeded its memory, or its process was ended")
