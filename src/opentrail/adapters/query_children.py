"""Runs each query in a separate process, so a statement can end only that process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from opentrail.adapters.query_files import QueryFiles
from opentrail.adapters.turns import Turns, free_cores
from opentrail.core.errors import QueryFailed, StatementRefused, StoreInactive
from opentrail.core.event import micros
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalSource
from opentrail.ports.queries import QueryStatistics, QueryTables, StoredQuery

_MODULE = "opentrail.adapters.duckdb.query_child"
#: Bytes of memory of a query, and of its result.
_MEMORY, _RESULT = 512 << 20, 256 << 20
_LINE_BYTES = 1 << 20


class QueryChildren:
    """A `QueryEngine` that starts a process per query.

    Args:
        history: the folder of sealed files.
        stores: the folder of event data stores.
        journal: has the newest events.
        files: where results are written.
        kept_since: returns the times since when events, and data events, are kept.
        clock: the time by which events of stores expire.
    """

    def __init__(
        self,
        history: Path,
        stores: Path,
        journal: JournalSource,
        files: QueryFiles,
        kept_since: Callable[[], tuple[datetime, datetime | None]],
        clock: Clock,
    ) -> None:
        self._history = history
        self._stores = stores
        self._clock = clock
        self._journal = journal
        self._files = files
        self._kept_since = kept_since
        self._turns = Turns(free_cores())

    async def run(
        self,
        query: StoredQuery,
        tables: QueryTables,
        translated: Callable[[list[tuple[str, str]]], None],
    ) -> QueryStatistics:
        since, data_since = self._kept_since()
        job = {
            "statement": query.statement,
            "tables": list(tables.history),
            "stores": {name: store.document() for name, store in tables.stores.items()},
            "store_files": str(self._stores),
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
                return await _outcome(process.stdout, translated)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def _outcome(
    lines: asyncio.StreamReader, translated: Callable[[list[tuple[str, str]]], None]
) -> QueryStatistics:
    async for line in lines:
        answer: dict[str, Any] = orjson.loads(line)
        if "inactive" in answer:
            raise StoreInactive(answer["inactive"])
        if "refused" in answer:
            raise StatementRefused(answer["refused"])
        if "failed" in answer:
            raise QueryFailed(answer["failed"])
        if "outcome" in answer:
            return QueryStatistics(**answer["outcome"])
        translated([(name, kind) for name, kind in answer["columns"]])
    raise QueryFailed("Query exceeded its memory, or its process was ended")
