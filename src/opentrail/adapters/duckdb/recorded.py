"""Recorded events: the newest in memory, the others in files sealed from the journal."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import orjson

from opentrail.adapters.data_directory.sealed_file_names import (
    MAX_FILE_BYTES,
    SealedFile,
    Series,
    read_name,
    remove,
    sealed_files,
)
from opentrail.adapters.duckdb.children import files_of_child
from opentrail.adapters.duckdb.event_files import CHILD_ERRORS, EventFiles
from opentrail.adapters.duckdb.schema import ENTRIES, entry_of, row_of
from opentrail.adapters.duckdb.sealed_file import MAX_TEXT
from opentrail.adapters.duckdb.table_set import Database, EventTable
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import JournalDamaged, StorageFailed
from opentrail.core.event import Entry, micros
from opentrail.ports.event_store import SharedFile
from opentrail.ports.journal import RESTORED, UNKNOWN_CHAIN, JournalSource, first_not_lost

log = logging.getLogger(__name__)

#: Records at which a hot table is sealed.
SEAL_RECORDS = 120_000
#: Records at which a hot table is sealed once it is `SEAL_SECONDS` old.
SEAL_FEW_RECORDS = 4_096
SEAL_SECONDS = 300.0
#: Characters of records per byte of a sealed file, at least.
SEAL_TEXT_RATIO = 4
#: Bytes of free space that a file needs while it is written, per byte of its records.
_SEALING_RATIO: Final = 3
_COPY = "INSERT INTO {rest} SELECT * FROM {hot} WHERE position > ?"
_TEXT = "SELECT coalesce(sum(strlen(record)), 0)::BIGINT FROM {table}"
#: Rows read per step to compute the chain at a position.
_CHAIN_ROWS = 5_000
_RECORDS = (
    "SELECT position, record FROM {table} WHERE position > ? AND position <= ?"
    " ORDER BY position LIMIT ?"
)
#: Position and record of an entry.
Recorded = tuple[int, bytes]
#: Returns once the journal has repaired the damage between two positions.
RepairJournal = Callable[[int, int], Awaitable[None]]


class RecordedEvents(EventFiles):
    """The journal's positions, each in one table; hot tables come last.

    Sealing reads `journal`.
    """

    def __init__(
        self,
        folder: Path,
        journal: JournalSource,
        database: Database,
        seal_records: int,
        repair_journal: RepairJournal | None,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        super().__init__(folder, Series.JOURNAL, database, max_bytes)
        self._journal = journal
        self._seal_records = seal_records
        self._repair_journal = repair_journal
        self._adding = asyncio.Lock()
        #: The last position in a table.
        self.position = 0
        #: Ranges missing from both files and journal.
        self.missing: list[tuple[int, int]] = []
        #: Position and chain of the last entry read.
        self._last_read: tuple[int, bytes] = (-1, b"")

    async def open(self, shared: Sequence[SharedFile] = ()) -> None:
        """Attaches the files; seals missing or damaged ranges from the journal again.

        Files in S3 replace local files of their range.
        """
        self._use_lost(shared)
        self.tables.insert(*self._remote_tables(shared))
        sealed = shared_end = shared[-1].last if shared else 0
        for file in await asyncio.to_thread(sealed_files, self._folder, self._series):
            if file.first <= shared_end and not file.is_expired:
                again: list[EventTable] = []
                if file.last > shared_end:
                    again = await self._sealed_again(shared_end + 1, file.last)
                    self.tables.insert(*again)
                    sealed = file.last
                if again or file.last <= shared_end:
                    await asyncio.to_thread(remove, [file.path])
                continue  # the next start retries failed seals
            if file.first > sealed + 1:
                self.tables.insert(*await self._sealed_again(sealed + 1, file.first - 1))
            if not file.is_expired and file.first <= sealed:
                await self._set_aside(file)  # another file contains a part of its range
                continue
            if not file.is_expired:
                self.tables.insert(*await self._attached(file))
            sealed = max(sealed, file.last)
        first = await asyncio.to_thread(self._journal.first_position)
        if first > sealed + 1:
            # The journal was trimmed up to a file that no longer exists.
            self._report_missing(sealed + 1, first - 1)
            sealed = first - 1
        self.position = sealed
        self.tables.insert(await self._database.write(self._database.new_hot, sealed + 1))
        self.begin_check()
        self.begin_compaction()

    # Files in S3

    async def use_shared(self, shared: Sequence[SharedFile]) -> None:
        """Uses files in S3 in place of previous ones and of local files of their range.

        A local table that ends after them is sealed again from there: the journal has that part.
        """
        if not shared:
            return
        end = shared[-1].last
        async with self.changing:
            async with self._adding:
                if self.tables.tables[-1].first <= end:  # the growing one
                    following = max(self.position, end) + 1
                    self.tables.insert(
                        await self._database.write(self._database.new_hot, following)
                    )
                new = self._remote_tables(shared)
                old = [t for t in self.tables.tables if t.first <= end and t not in new]
                if self.position <= end:
                    # Nothing may be added between these two.
                    self.position = end
                    self.tables.swap(old, *new)
            last = max((table.last for table in old), default=0)
            if last > end:
                new += await self._sealed(end + 1, last)
            self.tables.swap(old, *new)
            self._use_lost(shared)
            await self.tables.release(old)
            for table in old:
                if table.file is not None and table.is_remote:
                    self._database.remote.remove(table.file.path.name)
            own = [t.file.path for t in old if t.file is not None and not t.is_remote]
            await asyncio.to_thread(remove, own)

    def _remote_tables(self, shared: Sequence[SharedFile]) -> list[EventTable]:
        """Returns the tables of files in S3: existing and new ones."""
        known = {t.file.path.name: t for t in self.tables.tables if t.file and t.is_remote}
        tables = []
        for name in (file.name for file in shared if file.name is not None):
            if name not in known:
                sealed_file = read_name(Path(name))
                if sealed_file is None:
                    raise StorageFailed(f"history: {name} in S3 is not a sealed file")
                known[name] = self._database.shared(sealed_file, self._database.remote.add(name))
            tables.append(known[name])
        return tables

    def _use_lost(self, shared: Sequence[SharedFile]) -> None:
        """Reads the missing positions in the range of files in S3 from their list."""
        end = shared[-1].last if shared else 0
        lost = [(file.first, file.last) for file in shared if file.name is None]
        self.missing = [gap for gap in self.missing if gap[1] > end or gap in lost]
        for gap in lost:
            self._report_missing(*gap, "lost by the journal")

    @property
    def sealed(self) -> int:
        """The last position up to which files contain everything except lost positions."""
        hot = self._hot()
        return hot[0].first - 1 if hot else self.position

    def _hot(self) -> list[EventTable]:
        return [table for table in self.tables.tables if table.file is None]

    # Inserting

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once lookups see the entries; skips existing ones."""
        async with self._adding:
            unseen = [entry for entry in entries if entry.position > self.position]
            while unseen:
                await self._skip_lost(unseen[0].position - 1)
                run = self._fitting(_consecutive(unseen))
                await self._insert_run(run)
                unseen = unseen[len(run) :]

    def _fitting(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Returns the first entries, which fill the growing table at most."""
        room = self._max_text - self.tables.tables[-1].text
        for count, entry in enumerate(entries, 1):
            room -= len(entry.record)
            if room <= 0:
                return entries[:count]
        return entries

    async def _skip_lost(self, until: int) -> None:
        """Continues after position `until` if the journal has lost every position up to it.

        Raises:
            StorageFailed: it has not: earlier entries are missing.
        """
        first = self.position + 1
        if first > until:
            return
        lost = await asyncio.to_thread(self._journal.lost_between, first, until)
        if first_not_lost(lost, first, until) is not None:
            raise StorageFailed(f"history: position {until + 1} does not follow {first - 1}")
        self._report_missing(first, until, lost[0].reason)
        self.position = until
        # The positions of a table are consecutive.
        self.tables.insert(await self._database.write(self._database.new_hot, until + 1))
        self.begin_compaction()

    async def _insert_run(self, entries: Sequence[Entry]) -> None:
        hot = self.tables.tables[-1]
        oldest, newest = await self._database.write(self._insert, hot, entries)
        now = asyncio.get_running_loop().time()
        hot.since = hot.since if hot.since is not None else now
        hot.last = self.position = entries[-1].position
        hot.text += sum(len(entry.record) for entry in entries)
        hot.oldest, hot.newest = min(hot.oldest, oldest), max(hot.newest, newest)
        hot.newest_recorded = max(hot.newest_recorded, micros(entries[-1].recorded_at))
        await self._seal_full(hot, now)

    async def seal_old(self) -> None:
        """Seals the growing table if it is old, and full ones again whose sealing failed.

        Entries that arrive do the same. A start reads the entries of hot tables again.
        """
        async with self._adding:
            *full, growing = self._hot()
            await self._seal_full(growing, asyncio.get_running_loop().time())
            if full:
                self.begin_compaction()

    async def _seal_full(self, hot: EventTable, now: float) -> None:
        """Seals the growing table if it is full."""
        if self._is_full(hot, now):
            following = await self._database.write(self._database.new_hot, hot.last + 1)
            self.tables.insert(following)
            self.begin_compaction()

    def _insert(self, hot: EventTable, entries: Sequence[Entry]) -> tuple[int, int]:
        """Inserts entries and returns their oldest and newest event times, in seconds."""
        rows = [row_of(entry, attributes_of(orjson.loads(entry.record))) for entry in entries]
        self._database.insert(hot.table.name, rows)
        times = [row[3] for row in rows]
        return min(times), max(times)

    @property
    def _max_text(self) -> int:
        """Characters of records at which a hot table is sealed."""
        return min(MAX_TEXT, SEAL_TEXT_RATIO * self._max_bytes)

    def _is_full(self, hot: EventTable, now: float) -> bool:
        records = hot.last - hot.first + 1
        is_old = hot.since is not None and now - hot.since >= SEAL_SECONDS
        is_large = records >= self._seal_records or hot.text >= self._max_text
        return is_large or (records >= SEAL_FEW_RECORDS and is_old)

    # Positions that the journal has lost

    def records(self, table: EventTable, after: int, limit: int, until: int) -> list[Recorded]:
        """Returns position and record of up to `limit` entries of a table; runs in a thread."""
        statement = _RECORDS.format(table=table.table.name)
        rows = self._database.execute(statement, (after, until, limit))
        return [(position, record.encode()) for position, record in rows]

    async def forget(self, first: int, last: int) -> None:
        """Drops a range that the journal has lost.

        The tables that overlap it are sealed from the journal again.
        """
        async with self.changing:
            async with self._adding:
                if self.tables.tables[-1].first <= last:  # the growing one
                    self.position = max(self.position, last)
                    following = self.position + 1
                    self.tables.insert(
                        await self._database.write(self._database.new_hot, following)
                    )
            for table in self.tables.tables.copy():
                span = (table, first - 1, 1, last)
                is_empty = table.last < table.first
                if table.is_remote or table.first > last or (table.last < first and not is_empty):
                    continue
                if not is_empty and not await self._database.run(self.records, *span):
                    continue
                new = await self._sealed(table.first, table.last)
                await self.tables.replace([table], *new)
                if table.file is not None and table.file not in [one.file for one in new]:
                    await asyncio.to_thread(remove, [table.file.path])
            self._report_missing(first, last, RESTORED)

    # Sealing

    async def _seal_next(self) -> bool:
        async with self.changing:
            full = self._hot()[:-1]  # the last one still grows
            if not full:
                return False
            # Checked again: the journal may be restored while a child reads it.
            if await self._has_lost(full[0]):
                return False
            last = await asyncio.to_thread(self._sealable, full[0])
            tables = await self._sealed(full[0].first, last)
            if await self._has_lost(full[0]):
                await self.tables.release(tables)
                await asyncio.to_thread(remove, [t.file.path for t in tables if t.file])
                return False
            if last < full[0].last:
                tables.append(await self._database.write(self._rest_of, full[0], last))
            await self.tables.replace(full[:1], *tables)
        return True

    def _sealable(self, hot: EventTable) -> int:
        """Returns the last position of a table whose file fits on the disk; runs in a thread.

        On a nearly full disk, only small files fit. Each of them lets the journal free more.
        """
        free, needed = shutil.disk_usage(self._folder).free, _SEALING_RATIO * hot.text
        if free >= needed:
            return hot.last
        return hot.first + (hot.last - hot.first) * free // needed

    def _rest_of(self, hot: EventTable, after: int) -> EventTable:
        """Returns a table in memory with the later rows of another one; runs in a thread."""
        rest = self._database.new_hot(after + 1)
        copied, size = _COPY.format(rest=rest.table.name, hot=hot.table.name), _TEXT
        self._database.execute(copied, (after,))
        ((rest.text,),) = self._database.execute(size.format(table=rest.table.name))
        rest.last, rest.since = hot.last, hot.since
        rest.oldest, rest.newest = hot.oldest, hot.newest
        rest.newest_recorded = hot.newest_recorded
        return rest

    async def _has_lost(self, hot: EventTable) -> bool:
        """Returns whether a table has records that the journal lost with a restored backup.

        The table stays until its events are imported; see `forget`.
        """
        for lost in await asyncio.to_thread(self._journal.restored_between, hot.first, hot.last):
            span = (hot, lost.first - 1, 1, lost.last or lost.first)
            if await self._database.run(self.records, *span):
                return True
        return False

    async def _sealed(self, first: int, last: int) -> list[EventTable]:
        """Seals a range and returns the tables of its files.

        A child writes them from the journal, and reports lost positions.
        """
        if first > last:
            return []
        work = ("journal", self._journal.address, self._folder, first, last)
        try:
            files = await files_of_child(*work)
        except JournalDamaged:
            if self._repair_journal is None:
                raise
            await self._repair_journal(first, last)
            files = await files_of_child(*work)
        expected = first
        for file in files:
            if file.first > expected:
                self._report_missing(expected, file.first - 1, "lost by the journal")
            expected = file.last + 1
        if expected <= last:
            self._report_missing(expected, last, "lost by the journal")
        return [await self._database.run(self._database.attach, file) for file in files]

    async def _replacements(self, file: SealedFile) -> list[EventTable]:
        return await self._sealed_again(file.first, file.last)

    async def _sealed_again(self, first: int, last: int) -> list[EventTable]:
        log.warning("sealing a range again", extra={"first": first, "last": last})
        try:
            return await self._sealed(first, last)
        except CHILD_ERRORS as error:
            self._report_missing(first, last, str(error))
            return []

    def _report_missing(self, first: int, last: int, reason: str = "") -> None:
        if (first, last) in self.missing:
            return
        self.missing.append((first, last))
        log.error(
            "positions are missing: no readable file and no journal segment contains them",
            extra={"first": first, "last": last, "error": reason},
        )

    # The archive of the journal

    def entries(self, table: EventTable, after: int, limit: int, until: int) -> list[Entry]:
        """Returns up to `limit` entries of a table, in order; runs in a thread."""
        statement = ENTRIES.format(table=table.table.name)
        rows = self._database.execute(statement, (after, until, limit))
        if table.expired:  # the chain needs their records
            return [entry_of(row, UNKNOWN_CHAIN) for row in rows]
        chain = self._chain_at(table, after)
        entries = []
        for row in rows:
            chain = hashlib.sha256(chain + row[-1].encode()).digest()
            entries.append(entry_of(row, chain))
        if entries:
            self._last_read = (entries[-1].position, chain)
        return entries

    def _chain_at(self, table: EventTable, position: int) -> bytes:
        """Returns the chain at a position, computed from the table's beginning if necessary."""
        last, chain = self._last_read
        if last == position:
            return chain
        chain, at = table.chain_before, table.first - 1
        while at < position:
            statement = ENTRIES.format(table=table.table.name)
            for row in self._database.execute(statement, (at, position, _CHAIN_ROWS)):
                chain = hashlib.sha256(chain + row[-1].encode()).digest()
                at = row[0]
        return chain

    # Expiry

    async def expire(self, recorded_before: int, last_needed: int) -> int:
        """Deletes files recorded before a time, in microseconds; returns the records deleted.

        Deletes the oldest first, and only up to position `last_needed`.
        """
        deleted = 0
        if not self.is_expired_before(recorded_before):
            return 0  # without waiting for the lock
        async with self.changing:
            for table in self.tables.tables.copy():
                if table.is_remote:
                    continue  # still in use until unlisted
                is_old = table.file is not None and table.newest_recorded < recorded_before
                if not is_old or table.last > last_needed:
                    break
                deleted += (await self.expire_table(table, "retention"))[0]
        return deleted

    def _first_expired(self, table: EventTable) -> int:
        """Returns 1 for the oldest table: positions missing before it also count as expired."""
        own = next((each for each, _ in self.tables.sealed()), table)
        if own is not table:
            return table.first
        self.missing = [lost for lost in self.missing if lost[1] > table.last]
        return 1


def _consecutive(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns the first entries, up to a gap in their positions."""
    first = entries[0].position
    end = next((n for n, e in enumerate(entries) if e.position != first + n), len(entries))
    return entries[:end]
