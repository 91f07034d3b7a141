"""Event history: the hot layer, the sealed files, and look-ups over both."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import orjson

from opentrail.adapters.duckdb.compaction import Compaction, RepairJournal
from opentrail.adapters.duckdb.files import (
    SealedFile,
    left_over,
    remove,
    sealed_files,
)
from opentrail.adapters.duckdb.lookup_pool import Damaged, LookupPool
from opentrail.adapters.duckdb.paging import Pages
from opentrail.adapters.duckdb.schema import (
    ENTRIES,
    column_lists,
    entry_of,
    insert_into,
    row_of,
)
from opentrail.adapters.duckdb.table_set import Database, EventTable, TableSet
from opentrail.adapters.sqlite.segments import first_position, lost_between
from opentrail.adapters.sqlite.verify import first_not_lost
from opentrail.core.attributes import attributes_of
from opentrail.core.errors import StorageFailed
from opentrail.core.event import Entry, micros
from opentrail.ports.event_store import EventQuery, FoundEvent

log = logging.getLogger(__name__)

#: A hot table is sealed when it has so many records, or these few and has stood for so long.
SEAL_RECORDS, SEAL_FEW, SEAL_SECONDS = 120_000, 4_096, 300.0
#: So many rows are read at a time to find the chain at a position.
_CHAIN_ROWS = 5_000


class DuckdbEvents:
    """An `EventStore` and `Archive` whose newest records are in memory, the others in sealed files.

    What is sealed is what the file names say; what is hot is every journal position behind the
    last of them. `journal` is the folder that sealing reads; `repair_journal` is asked to repair
    positions of it that turn out to be damaged.
    """

    def __init__(
        self,
        folder: Path,
        journal: Path,
        seal_records: int = SEAL_RECORDS,
        repair_journal: RepairJournal | None = None,
    ) -> None:
        self._folder = folder
        self._seal_records = seal_records
        self._journal = journal
        self._database = Database(folder / "look-ups.tmp.swap")
        self._shelf = TableSet(self._database)
        self._asking = LookupPool(self._database)
        self._pages = Pages(self._database, self._asking)
        self.compaction = Compaction(folder, journal, self._database, self._shelf, repair_journal)
        self._position = self._imported = 0
        self._adding = asyncio.Lock()
        #: Position and chain of the entry that `read` gave last.
        self._last_read: tuple[int, bytes] = (-1, b"")

    async def open(self, imported: int = 0) -> int:
        """Attaches the sealed files and returns the last sealed position.

        A file that is missing or damaged is made again from the journal. A range that the journal
        no longer holds is in `compaction.missing`, one of imports in `compaction.lost_imports`.

        Args:
            imported: the number of the last imported event that is known to have been there.
        """
        await asyncio.to_thread(lambda: remove(left_over(self._folder)))
        sealed = 0
        files = await asyncio.to_thread(sealed_files, self._folder)
        self.compaction.miss_imports([file for file in files if file.is_import], imported)
        self._imported = imported
        for file in files:
            if not file.is_import and file.first > sealed + 1:
                self._show(await self.compaction.rebuilt(sealed + 1, file.first - 1))
            if not file.is_import and not file.is_expired and file.first <= sealed:
                await self.compaction.set_aside(file)  # a part of it is in another file
                continue
            if not file.is_expired:
                self._show(await self._attached(file))
            if file.is_import:
                self._imported = max(self._imported, file.last)
            else:
                sealed = max(sealed, file.last)
        first = await asyncio.to_thread(first_position, self._journal)
        if first > sealed + 1:
            # The journal was trimmed behind a file that is no more.
            self.compaction.miss(sealed + 1, first - 1)
            sealed = first - 1
        self._position = sealed
        self._shelf.insert(await self._database.write(self._database.new_hot, sealed + 1))
        self.compaction.check()
        self.compaction.begin()
        return sealed

    async def _attached(self, file: SealedFile) -> list[EventTable]:
        try:
            return [await self._database.run(self._database.attach, file)]
        except StorageFailed as error:
            if await self._asking.is_healthy(file):
                raise
            log.error("sealed file cannot be used", extra={"error": str(error)})
        return await self.compaction.replaced(file)

    def _show(self, sources: Sequence[EventTable]) -> None:
        for source in sources:
            self._shelf.insert(source)

    @property
    def position(self) -> int:
        """The last position that look-ups see."""
        return self._position

    @property
    def imported(self) -> int:
        """The number of the last imported event."""
        return self._imported

    @property
    def sealed(self) -> int:
        """The last position up to which files hold everything that there still is."""
        hot = [source for source in self._shelf.of_journal() if source.file is None]
        return hot[0].first - 1 if hot else self._position

    @property
    def files(self) -> int:
        """How many sealed files there are."""
        return sum(source.file is not None for source in self._shelf.sources)

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once look-ups see the entries; those there already are left out."""
        async with self._adding:
            fresh = [entry for entry in entries if entry.position > self._position]
            while fresh:
                await self._leave_out(fresh[0].position - 1)
                run = _consecutive(fresh)
                await self._add_run(run)
                fresh = fresh[len(run) :]

    async def _leave_out(self, until: int) -> None:
        """Goes on behind a position if the journal has lost all up to it.

        Raises:
            StorageFailed: it has not: what came before was not added.
        """
        first = self._position + 1
        if first > until:
            return
        lost = await asyncio.to_thread(lost_between, self._journal, first, until)
        if first_not_lost(lost, first, until) is not None:
            raise StorageFailed(f"history: position {until + 1} does not follow {first - 1}")
        self.compaction.miss(first, until, lost[0].reason)
        self._position = until
        # Tables hold positions that follow one another.
        self._shelf.insert(await self._database.write(self._database.new_hot, until + 1))
        self.compaction.begin()

    async def _add_run(self, entries: Sequence[Entry]) -> None:
        hot = self._shelf.of_journal()[-1]
        oldest, newest = await self._database.write(self._insert, hot, entries)
        now = asyncio.get_running_loop().time()
        hot.since = hot.since if hot.since is not None else now
        hot.last = self._position = entries[-1].position
        hot.oldest, hot.newest = min(hot.oldest, oldest), max(hot.newest, newest)
        hot.newest_recorded = max(hot.newest_recorded, micros(entries[-1].recorded_at))
        if self._is_full(hot, now):
            following = await self._database.write(self._database.new_hot, hot.last + 1)
            self._shelf.insert(following)
            self.compaction.begin()

    def _insert(self, hot: EventTable, entries: Sequence[Entry]) -> tuple[int, int]:
        """Inserts entries and returns their oldest and newest event times, in seconds."""
        rows = [row_of(entry, attributes_of(orjson.loads(entry.record))) for entry in entries]
        self._database.execute(insert_into(hot.table.name), column_lists(rows))
        times = [row[3] for row in rows]
        return min(times), max(times)

    def _is_full(self, hot: EventTable, now: float) -> bool:
        records = hot.last - hot.first + 1
        is_old = hot.since is not None and now - hot.since >= SEAL_SECONDS
        return records >= self._seal_records or (records >= SEAL_FEW and is_old)

    # Look-ups

    async def lookup(self, query: EventQuery) -> list[FoundEvent]:
        """Returns the page that `query` describes.

        A sealed file that turns out to be damaged is made again from the journal first.
        """
        while True:
            try:
                with self._shelf.reading() as sources:
                    return await self._pages.page(sources, query)
            except Damaged as error:
                # Others wait for it, too: it goes on if this look-up is given up.
                await asyncio.shield(self.compaction.mend(error.source))

    # The journal's archive

    async def read(self, after: int, limit: int, until: int) -> list[Entry]:
        """Returns up to `limit` sealed entries with `after < position <= until`, in order."""
        entries: list[Entry] = []
        while True:
            try:
                with self._shelf.reading() as sources:
                    for source in sources:
                        if source.file is None or source.is_import or source.last <= after:
                            continue
                        if source.first > until or len(entries) >= limit:
                            break
                        begin = max(after, entries[-1].position if entries else 0)
                        asked = (max(begin, source.first - 1), limit - len(entries), until)
                        part = await self._asking.one(source, self._entries, source, *asked)
                        entries.extend(part)
                return entries
            except Damaged as error:
                entries.clear()
                await self.compaction.mend(error.source)

    def _entries(self, source: EventTable, after: int, limit: int, until: int) -> list[Entry]:
        statement = ENTRIES.format(table=source.table.name)
        chain = self._chain_at(source, after)
        entries = []
        for row in self._database.execute(statement, (after, until, limit)):
            chain = hashlib.sha256(chain + row[-1].encode()).digest()
            entries.append(entry_of(row, chain))
        if entries:
            self._last_read = (entries[-1].position, chain)
        return entries

    def _chain_at(self, source: EventTable, position: int) -> bytes:
        """Returns the chain at a position, computed from the file's beginning if need be."""
        if self._last_read[0] == position:
            return self._last_read[1]
        chain, at = source.chain_before, source.first - 1
        while at < position:
            statement = ENTRIES.format(table=source.table.name)
            for row in self._database.execute(statement, (at, position, _CHAIN_ROWS)):
                chain = hashlib.sha256(chain + row[-1].encode()).digest()
                at = row[0]
        return chain

    async def find(self, event_id: str) -> int | None:
        """Returns the position of the sealed record of the journal with this event id."""
        until = self._position
        query = EventQuery(1, until, until_import=0, attribute=("EventId", event_id))
        found = await self.lookup(query)
        return found[0].position if found else None

    # Files

    async def show_imports(self) -> None:
        """Shows the imported events of all files that imports have written."""
        self._imported = max(self._imported, await self.compaction.show_imports())

    async def expire(self, recorded_before: datetime, last_needed: int) -> int:
        """Deletes files of which every record was recorded, or imported, before a time.

        Returns:
            How many records went.
        """
        return await self.compaction.expire(micros(recorded_before), last_needed)

    async def idle(self) -> None:
        """Returns once no sealing or merging is under way."""
        await self.compaction.idle()

    async def close(self) -> None:
        """Ends sealing and closes the database; the hot layer is rebuilt from the journal."""
        await self.compaction.close()
        self._database.close()


def _consecutive(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns the first entries, as long as their positions follow one another."""
    first = entries[0].position
    end = next((n for n, e in enumerate(entries) if e.position != first + n), len(entries))
    return entries[:end]
