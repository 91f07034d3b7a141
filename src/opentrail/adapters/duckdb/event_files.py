"""The sealed files of one series of events: merged, checked, replaced and deleted."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opentrail.adapters.data_directory.files import sync_folder
from opentrail.adapters.data_directory.sealed_file_names import (
    MAX_FILE_BYTES,
    SealedFile,
    Series,
    is_intact,
    read_name,
    remove,
)
from opentrail.adapters.duckdb.children import files_of_child, run_child
from opentrail.adapters.duckdb.expiry import (
    THINNED,
    ExpiryNote,
    contents_of,
    mark_expired,
    put_thinned,
    write_note,
)
from opentrail.adapters.duckdb.table_set import Database, EventTable, TableSet
from opentrail.core.errors import StorageFailed
from opentrail.core.faults import crash_point
from opentrail.ports.event_store import DATA_CATEGORIES, ExpiredEvents, ExpiryReason

#: Number of adjacent files of similar size that are merged.
MERGED_FILES = 8
#: Maximum records of a merged file.
MERGED_RECORDS = 1_200_000
#: Files with at most this many records are of size class 0; each class is eight times the last.
_SMALLEST = 4_096


def next_merge(tables: Sequence[EventTable], max_bytes: int = MAX_FILE_BYTES) -> list[EventTable]:
    """Returns the adjacent tables to merge next, oldest first; an empty list if there are too few.

    Files grow eightfold, as in a log-structured merge tree, so a record is rewritten only a few
    times.

    Args:
        tables: the tables of one series, in order.
        max_bytes: maximum bytes of a merged file.
    """
    run: list[EventTable] = []
    for table in tables:
        is_apart = table.is_remote or table.is_not_merged
        if table.file is None or is_apart or table.file.records * 2 > MERGED_RECORDS:
            run = []
            continue
        # The records of a thinned file form no chain.
        is_adjacent = bool(run) and run[-1].last + 1 == table.first
        is_adjacent = is_adjacent and bool(run[-1].expired) == bool(table.expired)
        run = [*run, table] if is_adjacent else [table]
        # A larger file before smaller ones waits for others of its size.
        while _size_class(run[0]) > max(_size_class(other) for other in run[1:] or run[:1]):
            run = run[1:]
        if len(run) >= MERGED_FILES:
            return _limited(run, max_bytes)
    return []


def _size_class(table: EventTable) -> int:
    records, size = table.last - table.first + 1, 0
    while records > _SMALLEST * MERGED_FILES**size:
        size += 1
    return size


def _limited(run: Sequence[EventTable], max_bytes: int) -> list[EventTable]:
    """Returns the first tables that make a file of at most `MERGED_RECORDS` and `max_bytes`."""
    merged: list[EventTable] = []
    records = size = 0
    for table in run:
        records += table.last - table.first + 1
        size += table.size
        if merged and (records > MERGED_RECORDS or size > max_bytes):
            break
        merged.append(table)
    return merged if len(merged) > 1 else []


log = logging.getLogger(__name__)

#: Files per child process that compares hashes.
_CHECK_FILES = 10
#: Seconds before the next child process after a failure.
_CHECK_PAUSE_SECONDS = 600.0
#: Errors of a child; no record is lost, and the work is retried.
CHILD_ERRORS = (OSError, RuntimeError, StorageFailed, TimeoutError)


class EventFiles(abc.ABC):
    """The tables of one series, and the work of child processes on their files."""

    def __init__(self, folder: Path, series: Series, database: Database, max_bytes: int) -> None:
        self._folder = folder
        self._series = series
        self._max_bytes = max_bytes
        self._database = database
        self.tables = TableSet(database)
        #: Held while files are added, merged or deleted.
        self.changing = asyncio.Lock()
        self._repairing = asyncio.Lock()
        self._round: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        #: Names of files set aside.
        self.damaged: list[str] = []
        #: Every file has been compared with its hash since the start, or is new.
        self.is_checked = False

    @abc.abstractmethod
    async def _replacements(self, file: SealedFile) -> list[EventTable]:
        """Returns tables with the restorable events of a damaged file."""

    async def _seal_next(self) -> bool:
        """Seals a full table; returns whether there was one."""
        return False

    # Files become tables

    async def _attached(self, file: SealedFile) -> list[EventTable]:
        """Returns the table of a file, or its replacements if it is damaged.

        Raises:
            StorageFailed: the file is intact but cannot be attached.
        """
        try:
            return [await self._database.run(self._database.attach, file)]
        except StorageFailed as error:
            if await asyncio.to_thread(is_intact, file):
                raise
            log.error("sealed file cannot be used", extra={"error": str(error)})
        await self._set_aside(file)
        return await self._replacements(file)

    # Compaction

    def begin_compaction(self) -> None:
        """Starts merging and sealing, unless already running."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._compact())

    async def idle(self) -> None:
        """Returns once no merge or seal is running."""
        while self._round is not None and not self._round.done():
            await asyncio.shield(self._round)

    async def _compact(self) -> None:
        try:
            # Merges come first: under steady load there is always another table to seal.
            while await self._merge_next() or await self._seal_next():
                pass
        except CHILD_ERRORS as error:
            # The files are unchanged, and the events of hot tables are in the journal.
            log.warning("compaction failed", extra={"error": str(error)})

    async def _merge_next(self) -> bool:
        async with self.changing:
            run = next_merge(self.tables.tables, self._max_bytes)
            paths = [table.file.path for table in run if table.file is not None]
            if not paths:
                return False
            try:
                (file,) = await files_of_child("merge", *paths)
            except CHILD_ERRORS as error:
                # For example records too large to be in memory together.
                log.warning("files not merged", extra={"error": str(error)})
                for table in run:
                    table.is_not_merged = True
                return True
            crash_point("history.merged")
            await self.tables.replace(run, await self._database.run(self._database.attach, file))
            await asyncio.to_thread(remove, paths)
        return True

    # Expiry

    def is_expired_before(self, recorded_before: int) -> bool:
        """Returns whether all records of a file are from before a time, in microseconds."""
        return any(table.newest_recorded < recorded_before for table, _ in self.tables.sealed())

    async def expire_table(
        self, table: EventTable, reason: ExpiryReason, *, only_data: bool = False
    ) -> tuple[int, int]:
        """Expires the events of a sealed table, or its data events only; under `changing`.

        Returns:
            The number of events, and the bytes freed in its file.
        """
        file = table.file
        if file is None:
            return 0, 0
        events = await self._database.run(self._contents, table, reason)
        expired = [each for each in events if not only_data or each.category in DATA_CATEGORIES]
        thinned = await self._thinned(file) if len(expired) < len(events) else None
        name = thinned.file.path.name if thinned and thinned.file else None
        first = self._first_expired(table)
        note = ExpiryNote(file.path.name, name, first, table.last, tuple(expired))
        await asyncio.to_thread(write_note, self._folder, note)
        if thinned is None:
            await asyncio.to_thread(mark_expired, self._folder, self._series, first, table.last)
            await self.tables.replace([table])
        else:
            await asyncio.to_thread(put_thinned, self._folder, str(name))
            await self.tables.replace([table], thinned)
        await asyncio.to_thread(remove, [file.path])
        await asyncio.to_thread(sync_folder, self._folder)
        count = sum(each.count for each in expired)
        log.info("expired", extra={"file": file.path.name, "events": count, "reason": reason})
        return count, table.size - (thinned.size if thinned else 0)

    def _contents(self, table: EventTable, reason: ExpiryReason) -> list[ExpiredEvents]:
        statement, events = contents_of(table.table.name, self._series, reason)
        return [events(row) for row in self._database.execute(statement)]

    async def _thinned(self, file: SealedFile) -> EventTable:
        """Returns the table of a copy of a file without data events, written by a child."""
        (path,) = await run_child("thin", file.path)
        final = read_name(path.with_name(path.name.removesuffix(THINNED)))
        if final is None:
            raise RuntimeError(f"child wrote {path}")
        table = await self._database.run(self._database.attach, replace(final, path=path))
        table.file = final
        return table

    def _first_expired(self, table: EventTable) -> int:
        """Returns the first number to mark as expired when a whole table expires."""
        return table.first

    # Damage

    def begin_check(self) -> None:
        """Starts comparing every file with the hash in its name; damaged ones are replaced."""
        self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        unchecked = self.tables.sealed()
        while unchecked:
            batch = unchecked[:_CHECK_FILES]
            try:
                damaged = await run_child("check", *(file.path for _, file in batch))
                for table, file in batch:
                    if file.path in damaged:
                        await self.repair(table)
            except CHILD_ERRORS as error:
                log.warning("sealed files could not be checked", extra={"error": str(error)})
                await asyncio.sleep(_CHECK_PAUSE_SECONDS)
                continue
            del unchecked[:_CHECK_FILES]
        self.is_checked = True

    async def repair(self, table: EventTable) -> None:
        """Replaces a damaged table with its restorable events."""
        async with self._repairing, self.changing:
            if table not in self.tables.tables or table.file is None:
                return  # another caller has replaced it
            await self._set_aside(table.file)
            await self.tables.replace([table], *await self._replacements(table.file))

    async def _set_aside(self, file: SealedFile) -> None:
        log.error("sealed file is damaged and set aside", extra={"file": file.path.name})
        self.damaged.append(file.path.name)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(file.path.replace, file.path.with_suffix(".damaged"))

    async def close(self) -> None:
        """Ends the work on files."""
        tasks = [task for task in (self._round, self._checking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
