"""The hot layer, the sealed files, and look-ups over both."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import orjson

from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.adapters.duckdb.schema import (
    column_lists,
    create_table,
    found_event,
    insert_into,
    select_page,
)
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.expression import Expression, holds
from opentrail.ports.event_store import EventQuery, FoundEvent, IndexedEntry

T = TypeVar("T")

log = logging.getLogger(__name__)

SEAL_RECORDS = 120_000
_SEAL_TIMEOUT = 600.0
#: Rows that are looked through at a time for what SQL cannot decide.
_FIRST_STEP, _LONGEST_STEP = 200, 5_000
_NAME = re.compile(r"^(\d{20})-(\d{20})\.duckdb$")


@dataclass(slots=True)
class _Source:
    """A table with a range of positions; `readers` look-ups are under way in it."""

    table: str
    first: int
    last: int
    newest: int = 0
    readers: int = 0
    file: Path | None = None
    unread: asyncio.Event = field(default_factory=asyncio.Event)


class _Damaged(Exception):  # noqa: N818 - caught here, never seen outside
    """A sealed file could not be read."""

    def __init__(self, source: _Source) -> None:
        super().__init__(str(source.file))
        self.source = source


class DuckdbEvents:
    """An `EventStore` whose newest records are in memory and whose others are in sealed files.

    What is sealed is what the file names say; what is hot is every journal position behind the
    last of them (D12). `journal` is the folder that sealing reads.
    """

    def __init__(self, folder: Path, journal: Path, seal_records: int = SEAL_RECORDS) -> None:
        self._folder = folder
        self._journal = journal
        self._seal_records = seal_records
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="history")
        self._database = duckdb.connect(
            ":memory:",
            config={"threads": 2, "memory_limit": "1GB", "preserve_insertion_order": True},
        )
        self._sources: list[_Source] = []
        self._tables = 0
        self._position = 0
        self._adding = asyncio.Lock()
        self._repairing = asyncio.Lock()
        self._sealing: asyncio.Task[None] | None = None

    async def open(self) -> int:
        """Attaches the sealed files and returns the last sealed position.

        A file that is missing or damaged is made again from the journal.
        """
        for leftover in self._folder.glob("*.tmp*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        sealed = 0
        for first, last, file in self._sealed_files():
            if first > sealed + 1:
                self._sources.append(await self._rebuilt(sealed + 1, first - 1))
            self._sources.append(await self._attached(first, last, file))
            sealed = last
        self._position = sealed
        self._sources.append(await self._in_thread(self._new_hot, sealed + 1))
        return sealed

    @property
    def position(self) -> int:
        """The last position that look-ups see."""
        return self._position

    async def add(self, entries: Sequence[IndexedEntry]) -> None:
        """Returns once look-ups see the entries; those there already are left out."""
        async with self._adding:
            fresh = [entry for entry in entries if entry.position > self._position]
            if not fresh:
                return
            hot = self._sources[-1]
            arguments = column_lists(fresh)
            await self._in_thread(self._execute, insert_into(hot.table), arguments)
            hot.last = self._position = fresh[-1].position
            hot.newest = max(hot.newest, *arguments[1])
            if hot.last - hot.first + 1 >= self._seal_records:
                self._sources.append(await self._in_thread(self._new_hot, hot.last + 1))
                if self._sealing is None or self._sealing.done():
                    self._sealing = asyncio.create_task(self._seal_full_tables())

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Asks each table for its own newest page, newest table first, until the rest is older.

        A sealed file that turns out to be damaged is made again from the journal first.
        """
        while True:
            sources = self._sources.copy()
            for source in sources:
                source.readers += 1
            try:
                return await self._page(sources, query)
            except _Damaged as error:
                damaged = error.source
            finally:
                for source in sources:
                    source.readers -= 1
                    source.unread.set()
            await self._repair(damaged)

    async def _page(self, sources: Sequence[_Source], query: EventQuery) -> list[FoundEvent]:
        page: list[FoundEvent] = []
        for source in reversed(sources):
            if len(page) == query.limit and source.newest < page[-1].event_time.timestamp():
                continue
            if query.start is not None and source.newest < query.start.timestamp():
                continue
            try:
                found = await self._in_thread(self._select, source.table, query)
            except duckdb.Error as error:
                if source.file is None:
                    raise StorageFailed(f"history: look-up failed: {error}") from error
                log.error(
                    "sealed file is damaged", extra={"file": str(source.file), "error": str(error)}
                )
                raise _Damaged(source) from error
            page.extend(found)
            page.sort(key=lambda event: (event.event_time, event.position), reverse=True)
            del page[query.limit :]
        return page

    async def _repair(self, source: _Source) -> None:
        """Puts a file made from the journal in the place of a damaged one."""
        async with self._repairing:
            if source not in self._sources or source.file is None:
                return
            await asyncio.to_thread(source.file.replace, source.file.with_suffix(".damaged"))
            made = await self._rebuilt(source.first, source.last)
            self._sources[self._sources.index(source)] = made

    async def close(self) -> None:
        """Ends sealing and closes the database; the hot layer is rebuilt from the journal."""
        if self._sealing is not None:
            self._sealing.cancel()
            await asyncio.gather(self._sealing, return_exceptions=True)
        self._threads.shutdown(wait=True)
        self._database.close()

    async def sealed(self) -> None:
        """Returns once no sealing is under way."""
        if self._sealing is not None:
            await asyncio.shield(self._sealing)

    def _execute(self, statement: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._database.cursor()
        try:
            return cursor.execute(statement, list(arguments)).fetchall()
        finally:
            cursor.close()

    def _select(self, table: str, query: EventQuery) -> list[FoundEvent]:
        if query.expression is None or condition_of(query.expression).exact:
            return [found_event(row) for row in self._execute(*select_page(table, query))]
        return self._select_fitting(table, query, query.expression)

    def _select_fitting(
        self, table: str, query: EventQuery, expression: Expression
    ) -> list[FoundEvent]:
        """Looks through what SQL leaves over, newest first, in growing steps."""
        page: list[FoundEvent] = []
        step, before = max(query.limit, _FIRST_STEP), query.before
        while True:
            part = replace(query, limit=step, before=before)
            rows = self._execute(*select_page(table, part))
            for event in map(found_event, rows):
                record = orjson.loads(event.record)
                if holds(expression, attributes_of(record), record):
                    page.append(event)
                    if len(page) == query.limit:
                        return page
            if len(rows) < step:
                return page
            before = (event.event_time, event.position)
            step = min(step * 4, _LONGEST_STEP)

    def _sealed_files(self) -> list[tuple[int, int, Path]]:
        found = []
        for file in self._folder.iterdir():
            match = _NAME.match(file.name)
            if match:
                found.append((int(match[1]), int(match[2]), file))
        return sorted(found)

    async def _attached(self, first: int, last: int, file: Path) -> _Source:
        """Returns the table of a sealed file; a damaged file is made again from the journal."""
        try:
            return await self._in_thread(self._attach, first, last, file)
        except StorageFailed as error:
            log.error("sealed file set aside", extra={"file": file.name, "error": str(error)})
            await asyncio.to_thread(file.replace, file.with_suffix(".damaged"))
        return await self._rebuilt(first, last)

    def _attach(self, first: int, last: int, file: Path) -> _Source:
        self._tables += 1
        name = f"sealed_{self._tables}"
        quoted = str(file).replace("'", "''")
        held: tuple[Any, ...] = ()
        try:
            self._execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")
            try:
                held = self._execute(
                    "SELECT max(event_time), count(*), min(position), max(position)"  # noqa: S608
                    f" FROM {name}.events"
                )[0]
            finally:
                if held[1:] != (last - first + 1, first, last):
                    self._execute(f"DETACH {name}")
        except duckdb.Error as error:
            raise StorageFailed(f"history: sealed file {file} cannot be read: {error}") from error
        if held[1:] != (last - first + 1, first, last):
            raise StorageFailed(f"history: sealed file {file} does not hold what its name says")
        return _Source(f"{name}.events", first, last, held[0], file=file)

    def _new_hot(self, first: int) -> _Source:
        self._tables += 1
        name = f"hot_{self._tables}"
        self._execute(create_table(name, sealed=False))
        return _Source(name, first, first - 1)

    async def _seal_full_tables(self) -> None:
        """Seals every full table, oldest first, so that sealed ranges never have gaps."""
        while len(hot := [s for s in self._sources if s.table.startswith("hot_")]) > 1:
            try:
                await self._seal(hot[0])
            except (OSError, RuntimeError, StorageFailed, TimeoutError) as error:
                # The records stay hot and in the journal; the next full table tries again.
                log.warning("sealing failed", extra={"error": str(error)})
                return

    async def _seal(self, hot: _Source) -> None:
        """Has a child write the range of `hot` to a file, then swaps the file in its place."""
        target = self._target(hot.first, hot.last)
        await self._run_child(hot.first, hot.last, target)
        source = await self._in_thread(self._attach, hot.first, hot.last, target)
        self._sources[self._sources.index(hot)] = source
        while hot.readers:
            hot.unread.clear()
            await hot.unread.wait()
        await self._in_thread(self._execute, f"DROP TABLE {hot.table}")

    async def _rebuilt(self, first: int, last: int) -> _Source:
        """Seals a range anew from the journal and returns its table."""
        log.warning("sealed range made again", extra={"first": first, "last": last})
        target = self._target(first, last)
        try:
            await self._run_child(first, last, target)
        except (RuntimeError, TimeoutError) as error:
            raise StorageFailed(
                f"history: positions {first} to {last} are in no readable sealed file of "
                f"{self._folder}, and the journal cannot give them back: {error}"
            ) from error
        return await self._in_thread(self._attach, first, last, target)

    def _target(self, first: int, last: int) -> Path:
        return self._folder / f"{first:020d}-{last:020d}.duckdb"

    async def _run_child(self, first: int, last: int, target: Path) -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "opentrail.adapters.duckdb.seal",
            str(self._journal),
            str(first),
            str(last),
            str(target),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        try:
            async with asyncio.timeout(_SEAL_TIMEOUT):
                _, complaint = await child.communicate()
        except BaseException:
            if child.returncode is None:
                child.kill()
                await child.wait()
            raise
        if child.returncode:
            raise RuntimeError(f"child ended with {child.returncode}: {complaint[-300:]!r}")

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
