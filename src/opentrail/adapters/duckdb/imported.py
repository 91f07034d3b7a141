"""Imported events: a cold store beside the journal, one sealed file for each import.

Imports write the files (staging.py), this reads them. Imported events are numbered in order of
import; their `position` is that number below zero, so that it never meets one of the journal.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from opentrail.adapters.duckdb.event_files import EventFiles
from opentrail.adapters.duckdb.expiry import mark_expired
from opentrail.adapters.duckdb.files import (
    MAX_FILE_BYTES,
    SealedFile,
    Series,
    expired_name,
    read_name,
    sealed_files,
)
from opentrail.adapters.duckdb.table_set import Database, EventTable

log = logging.getLogger(__name__)


class ImportedEvents(EventFiles):
    """The files of imported events. No other copy of them exists: a lost file is reported."""

    def __init__(self, folder: Path, database: Database, max_bytes: int = MAX_FILE_BYTES) -> None:
        super().__init__(folder, Series.IMPORTED, database, max_bytes)
        #: The number of the last imported event.
        self.last = 0
        #: Lost ranges, which have to be imported again.
        self.lost: list[tuple[int, int]] = []

    async def open(self, known_last: int) -> None:
        """Attaches the files.

        Args:
            known_last: the number of the last imported event, if its file may be gone.
        """
        files = await asyncio.to_thread(sealed_files, self._folder, self._series)
        self._find_lost(files, known_last)
        self.last = max([known_last, *(file.last for file in files)])
        for file in files:
            if not file.is_expired:
                self.tables.insert(*await self._attached(file))
        self.begin_check()
        self.begin_compaction()

    async def show(self) -> None:
        """Attaches the files that imports have written since."""
        async with self.changing:
            files = await asyncio.to_thread(sealed_files, self._folder, self._series)
            for file in files:
                self.last = max(self.last, file.last)
                is_new = not any(
                    table.first <= file.first and file.last <= table.last
                    for table in self.tables.tables
                )
                if is_new and not file.is_expired:
                    table = await self._database.run(self._database.attach, file)
                    self.tables.insert(table)
            if self.lost:  # another server's copies may have replaced them
                self._find_lost(files, self.last)
        self.begin_compaction()

    async def expire(self, imported_before: int) -> int:
        """Deletes files imported before a time, in microseconds; returns the records deleted."""
        deleted = 0
        if not self.is_expired_before(imported_before):
            return 0  # without waiting for the lock
        async with self.changing:
            for table, _ in self.tables.sealed():
                if table.newest_recorded < imported_before:
                    deleted += (await self.expire_table(table, "retention"))[0]
        return deleted

    async def _replacements(self, file: SealedFile) -> list[EventTable]:
        log.error("imported events are lost; import them again", extra={"file": file.path.name})
        await asyncio.to_thread(mark_expired, self._folder, self._series, file.first, file.last)
        self.lost.append((file.first, file.last))
        return []

    def _find_lost(self, files: list[SealedFile], known_last: int) -> None:
        """Finds the ranges of damaged files, and those that no file's name contains."""
        damaged = [
            read_name(path.with_suffix(".duckdb")) for path in self._folder.glob("*.damaged")
        ]
        lost = {(f.first, f.last) for f in damaged if f is not None and f.series is self._series}
        end = 0
        for first, last in [*((f.first, f.last) for f in files), (known_last + 1, known_last)]:
            if first > end + 1:
                lost.add((end + 1, first - 1))
                acknowledgement = expired_name(self._series, end + 1, first - 1)
                log.error(
                    "a file of imported events is missing; import them again, or create an empty "
                    "file of this name to acknowledge it",
                    extra={"file": acknowledgement},
                )
            end = max(end, last)
        self.lost = sorted(lost)
