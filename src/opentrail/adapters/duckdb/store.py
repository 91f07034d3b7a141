"""Event history: recorded and imported events, and lookups over both.

Imported events are a cold store next to the journal, one sealed file for each import. Imports write
the files (staging.py), this module reads them. Imported events are numbered in order of import;
their `position` is that number negated, so that it never equals a journal position.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from opentrail.adapters.data_directory.sealed_file_names import (
    MAX_FILE_BYTES,
    SealedFile,
    Series,
    expired_name,
    left_over,
    read_name,
    remove,
    sealed_files,
)
from opentrail.adapters.duckdb.counting import Counts, events_between
from opentrail.adapters.duckdb.event_files import CHILD_ERRORS, EventFiles
from opentrail.adapters.duckdb.expiry import finish, mark_expired, reserve_note
from opentrail.adapters.duckdb.lookup_pool import Damaged, LookupPool
from opentrail.adapters.duckdb.paging import Pages
from opentrail.adapters.duckdb.recorded import SEAL_RECORDS, RecordedEvents, RepairJournal
from opentrail.adapters.duckdb.table_set import NO_REMOTE_FILES, Database, EventTable, RemoteFiles
from opentrail.core.event import Entry, micros
from opentrail.ports.event_store import (
    PRESENT,
    CallCounts,
    CallKey,
    CountedField,
    EventOverview,
    EventQuery,
    Excess,
    FoundEvent,
    PeriodCounts,
    PrincipalActivity,
    PrincipalCounts,
    SharedFile,
    Snapshot,
    ValueCount,
    ValueCounts,
)
from opentrail.ports.journal import JournalSource

log = logging.getLogger(__name__)


class ImportedEvents(EventFiles):
    """The files of imported events, which have no other copy: a lost file is reported."""

    def __init__(self, folder: Path, database: Database, max_bytes: int = MAX_FILE_BYTES) -> None:
        super().__init__(folder, Series.IMPORTED, database, max_bytes)
        #: The number of the last imported event.
        self.last = 0
        #: Lost ranges, to be imported again.
        self.lost: list[tuple[int, int]] = []

    async def open(self, known_last: int) -> None:
        """Attaches the files.

        Args:
            known_last: the number of the last imported event, in case its file is missing.
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
        """Attaches the files written by later imports."""
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
        """Finds the ranges of damaged files, and ranges in no file's name."""
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


T = TypeVar("T")


class DuckdbEvents:
    """An `EventStore` and `Archive`; the names of the sealed files give their contents.

    Sealing reads `journal`; `repair_journal` repairs its damaged positions. `remote` has
    files in S3. New files have about `max_bytes` at most: expiry deletes and rewrites whole files.
    """

    def __init__(
        self,
        folder: Path,
        journal: JournalSource,
        seal_records: int = SEAL_RECORDS,
        repair_journal: RepairJournal | None = None,
        remote: RemoteFiles = NO_REMOTE_FILES,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._folder = folder
        self._database = Database(folder / "look-ups.tmp.swap", remote)
        self._pool = LookupPool(self._database)
        self._pages = Pages(self._database, self._pool)
        self._counts = Counts(self._database, self._pool)
        self.recorded = RecordedEvents(
            folder, journal, self._database, seal_records, repair_journal, max_bytes
        )
        self.imported = ImportedEvents(folder, self._database, max_bytes)

    async def open(self, last_import: int = 0, shared: Sequence[SharedFile] = ()) -> int:
        """Attaches the sealed files and returns the last sealed position.

        Args:
            last_import: the number of the last imported event, in case its file is missing.
            shared: the files in S3.
        """
        await asyncio.to_thread(finish, self._folder)
        await asyncio.to_thread(lambda: remove(left_over(self._folder)))
        await self.imported.open(last_import)
        await self.recorded.open(shared)
        return self.recorded.position

    @property
    def position(self) -> int:
        """The last position that lookups see."""
        return self.recorded.position

    @property
    def snapshot(self) -> Snapshot:
        """The events that lookups see."""
        return Snapshot(self.recorded.position, self.imported.last)

    @property
    def files(self) -> int:
        """The number of sealed files."""
        tables = [table for part in self._parts for table in part.tables.tables]
        return sum(table.file is not None for table in tables)

    @property
    def sealed_events(self) -> int:
        """The number of events in sealed files on the disk."""
        sealed = [each for part in self._parts for each in part.tables.sealed()]
        return sum(file.records - table.expired for table, file in sealed)

    @property
    def sealed_bytes(self) -> int:
        """The bytes of these files."""
        return sum(t.size for part in self._parts for t, _ in part.tables.sealed())

    @property
    def damaged(self) -> list[str]:
        """The names of files set aside."""
        return [name for part in self._parts for name in part.damaged]

    @property
    def is_checked(self) -> bool:
        """Whether every sealed file has been compared with its hash since the start."""
        return all(part.is_checked for part in self._parts)

    @property
    def _parts(self) -> tuple[EventFiles, ...]:
        return self.recorded, self.imported

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once lookups see the entries; skips existing ones."""
        await self.recorded.add(entries)

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Returns the page of a query; see also `PAGE_TEXT`.

        First replaces any damaged sealed file.
        """
        return await self._reading(lambda tables: self._pages.page(tables, query))

    async def count(self, query: EventQuery) -> int:
        """Returns the number of events of a query, up to its limit."""
        return await self._reading(lambda tables: self._counts.limited(tables, query))

    async def histogram(self, query: EventQuery, seconds: int) -> list[PeriodCounts]:
        """Returns the number of events with and without an error code in each period."""
        return await self._reading(lambda tables: self._counts.histogram(tables, query, seconds))

    async def top_values(
        self,
        query: EventQuery,
        fields: Sequence[CountedField],
        limit: int,
        prefix: str = "",
    ) -> dict[CountedField, list[ValueCount]]:
        """Returns the most frequent values of fields."""
        return await self._reading(
            lambda tables: self._counts.top_values(tables, query, fields, limit, prefix)
        )

    async def overview(
        self, query: EventQuery, seconds: int, fields: Sequence[CountedField], limit: int
    ) -> EventOverview:
        """Returns the counts of each period and the most frequent values of fields."""
        return await self._reading(
            lambda tables: self._counts.overview(tables, query, seconds, fields, limit)
        )

    async def list_principals(self, query: EventQuery, limit: int) -> list[PrincipalActivity]:
        """Returns the most recent callers."""
        return await self._reading(
            lambda tables: self._counts.listed_principals(tables, query, limit)
        )

    async def count_calls(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[CallCounts]:
        """Returns the counts of all kinds of management and data events."""
        query = events_between(start, end, snapshot)
        return await self._reading(lambda tables: self._counts.calls(tables, query))

    async def count_principals(
        self, start: datetime, end: datetime, snapshot: Snapshot = PRESENT
    ) -> list[PrincipalCounts]:
        """Returns the counts of management and data events by principal."""
        query = events_between(start, end, snapshot)
        return await self._reading(lambda tables: self._counts.principals(tables, query))

    async def count_values(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        snapshot: Snapshot = PRESENT,
        limit: int = 50,
    ) -> ValueCounts:
        """Returns the exact counts of a key's events and of each attribute's top values."""
        query = events_between(start, end, snapshot)
        return await self._reading(lambda tables: self._counts.values(tables, key, query, limit))

    async def count_key(
        self,
        key: CallKey,
        start: datetime,
        end: datetime,
        period: int,
        snapshot: Snapshot = PRESENT,
        recorded_since: datetime | None = None,
    ) -> list[tuple[datetime, int]]:
        """Returns the number of a key's events in each period that has any."""
        query = events_between(start, end, snapshot, recorded_since)
        return await self._reading(
            lambda tables: self._counts.by_period(tables, key, query, period)
        )

    async def _reading(self, work: Callable[[list[EventTable]], Awaitable[T]]) -> T:
        """Returns the result of `work` on the tables, after replacing damaged files among them."""
        while True:
            try:
                with (
                    self.recorded.tables.reading() as recorded,
                    self.imported.tables.reading() as imported,
                ):
                    return await work([*recorded, *imported])
            except Damaged as error:
                # Other lookups wait for it as well: it continues if this one is cancelled.
                await asyncio.shield(self._repair(error.table))

    async def _repair(self, table: EventTable) -> None:
        part = self.imported if table.series is Series.IMPORTED else self.recorded
        await part.repair(table)

    # The archive of the journal

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Returns up to `limit` sealed entries with `after < position <= until`, in order."""
        while True:
            try:
                return await self._read(after, limit, until)
            except Damaged as error:
                await self._repair(error.table)

    async def _read(self, after: int, limit: int, until: int) -> list[Entry]:
        entries: list[Entry] = []
        with self.recorded.tables.reading() as tables:
            for table in tables:
                if table.file is None or table.last <= after:
                    continue
                if table.first > until or len(entries) >= limit:
                    break
                begin = max(entries[-1].position if entries else after, table.first - 1)
                span = (begin, limit - len(entries), until)
                entries += await self._pool.run([table], self.recorded.entries, table, *span)
        return entries

    async def records(self, after: int, limit: int, until: int) -> list[tuple[int, bytes]]:
        """Returns position and record of up to `limit` recorded events, in order.

        They include events that the journal has since lost.
        """
        records: list[tuple[int, bytes]] = []
        with self.recorded.tables.reading() as tables:
            for table in tables:
                if table.is_remote or table.last <= after or table.first > until:
                    continue
                span = (max(after, table.first - 1), limit - len(records), until)
                if span[1] > 0:
                    records += await self._pool.run([table], self.recorded.records, table, *span)
        return records

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the journal's sealed record with this event id."""
        snapshot = Snapshot(self.position, imported=0)
        events = await self.lookup(EventQuery(1, snapshot, attribute=("EventId", event_id)))
        return events[0].position if events else None

    # Files

    async def show_imports(self) -> None:
        """Makes the events of all files written by imports visible."""
        await self.imported.show()

    async def expire(
        self,
        recorded_before: datetime,
        last_needed: int,
        data_before: datetime | None = None,
        excess: Excess | None = None,
    ) -> int:
        """Deletes the events of files, and notes the expired ones; see `ports/event_store.py`.

        Args:
            recorded_before: delete files whose records were all recorded or imported before
                this time.
            last_needed: the last position that may expire.
            data_before: the same time for data events.
            excess: additional bytes to delete.

        Returns:
            The number of events deleted.
        """
        await asyncio.to_thread(reserve_note, self._folder)
        before = micros(recorded_before)
        expired = await self.imported.expire(before)
        expired += await self.recorded.expire(before, last_needed)
        since = None if data_before is None else micros(data_before)
        if excess is None and (since is None or not self._has_data_before(since, last_needed)):
            return expired
        # Sealing waits until there is room; otherwise it would take the lock between any two files.
        async with self.imported.changing, self.recorded.changing:
            for part, table in self._expirable(last_needed):
                if since is not None and table.data and table.newest_recorded < since:
                    expired += (await part.expire_table(table, "retention", only_data=True))[0]
            if excess is not None:
                expired += await self._shrink(excess, last_needed)
        return expired

    async def _shrink(self, excess: Excess, last_needed: int) -> int:
        """Expires the oldest events until there is room; returns their number."""
        expired = freed = 0
        failed: list[EventTable] = []
        while freed < excess.bytes:
            following = self._next_to_expire(last_needed, excess.only_data, failed)
            if following is None:
                break
            part, table = following
            has_data = bool(table.data)
            try:
                count, size = await part.expire_table(table, excess.reason, only_data=has_data)
            except CHILD_ERRORS as error:
                # The disk may have no room for the file without its data events. Files with only
                # data events need no room; the next round retries.
                log.warning("file cannot be rewritten", extra={"error": str(error)})
                failed.append(table)
                continue
            expired, freed = expired + count, freed + size
            failed.clear()
        return expired

    def _has_data_before(self, recorded_before: int, last_needed: int) -> bool:
        tables = self._expirable(last_needed)
        return any(table.data and table.newest_recorded < recorded_before for _, table in tables)

    def _expirable(self, last_needed: int) -> list[tuple[EventFiles, EventTable]]:
        """Returns the tables of verified files up to a position, the oldest first."""
        tables = [
            (part, table)
            for part in self._parts
            for table, _ in part.tables.sealed()
            if part.is_checked and (part is self.imported or table.last <= last_needed)
        ]
        return sorted(tables, key=lambda each: each[1].newest_recorded)

    def _next_to_expire(
        self, last_needed: int, only_data: bool, failed: Sequence[EventTable]
    ) -> tuple[EventFiles, EventTable] | None:
        """Returns the oldest table with data events, else the oldest one if it may expire."""
        tables = [each for each in self._expirable(last_needed) if each[1] not in failed]
        others = [] if only_data else tables
        return next((each for each in [*(t for t in tables if t[1].data), *others]), None)

    async def idle(self) -> None:
        """Returns once no seal or merge is running."""
        for part in self._parts:
            await part.idle()

    async def close(self) -> None:
        """Ends sealing and closes the database; the hot layer is rebuilt from the journal."""
        for part in self._parts:
            await part.close()
        self._database.close()
