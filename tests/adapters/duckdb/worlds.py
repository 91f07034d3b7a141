"""A journal and its history, opened repeatedly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.duckdb.staging import Duplicates, Staging
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.duckdb.table_set import NO_REMOTE_FILES, RemoteFiles
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import attributes_of
from opentrail.core.event import Entry
from opentrail.ports.event_store import EventQuery, SharedFile, Snapshot
from tests.adapters.duckdb.shared_folder import SharedFolder
from tests.factories import MOMENT, a_new_entry, a_record, event_id, record_bytes
from tests.fakes import naive_page

NAME = re.compile(r"^(\d{20})-(\d{20})-[0-9a-f]{16}\.duckdb$")
ALL = EventQuery(limit=10_000, snapshot=Snapshot(1_000_000))


def folders(root: Path) -> tuple[Path, Path]:
    history, journal = root / "history", root / "journal"
    history.mkdir(exist_ok=True)
    journal.mkdir(exist_ok=True)
    return history, journal


class World:
    """A journal, and stores opened over it repeatedly."""

    def __init__(self, root: Path, seal_records: int = 40) -> None:
        self.history, self.journal_folder = folders(root)
        self.seal_records = seal_records
        self.journal = SqliteJournal(self.journal_folder)
        self._made = self.journal.head

    async def write(self, count: int) -> list[Entry]:
        """Appends events to the journal and returns them as a follower sees them."""
        records = []
        for number in range(self._made + 1, self._made + count + 1):
            moment = MOMENT + timedelta(seconds=number * 7 % 31)
            time = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
            name = ("CreateUser", "DeleteUser")[number % 2]
            records.append(a_record(eventID=event_id(number), eventTime=time, eventName=name))
        self._made += count
        await self.journal.append([a_new_entry(record) for record in records])
        return (await self.entries())[-count:]

    async def entries(self, after: int = 0) -> list[Entry]:
        return await self.journal.read(after, 1_000_000)

    async def seal(self, *ranges: tuple[int, int]) -> None:
        """Makes sealed files without a child, which takes far longer."""
        for first, last in ranges:
            await asyncio.to_thread(
                seal, SqliteJournalSource(self.journal_folder), self.history, first, last
            )

    async def share(self, s3: SharedFolder, *ranges: tuple[int, int]) -> list[SharedFile]:
        """Makes files of the journal in S3."""
        source = SqliteJournalSource(self.journal_folder)
        return s3.take([(await asyncio.to_thread(seal, source, s3.folder, *r))[0] for r in ranges])

    async def imports(self, *counts: int) -> list[Path]:
        """Imports this many records each time, and returns the files."""
        staging = Staging(self.history, SqliteJournalSource(self.journal_folder))
        paths = []
        for number, count in enumerate(counts):
            staging.clear()
            records = [a_record(eventID=event_id(1_000 * (number + 1) + n)) for n in range(count)]
            staging.add(0, [(n, attributes_of(r), record_bytes(r)) for n, r in enumerate(records)])
            staging.deduplicate(Duplicates())
            written = staging.write(MOMENT, [])
            assert written is not None
            paths.append(written[0])
        staging.close()
        return paths

    @asynccontextmanager
    async def opened(
        self, remote: RemoteFiles = NO_REMOTE_FILES, shared: Sequence[SharedFile] = ()
    ) -> AsyncIterator[DuckdbEvents]:
        """Opens a store and adds missing entries, as the follower does."""
        source = SqliteJournalSource(self.journal_folder)
        store = DuckdbEvents(self.history, source, self.seal_records, remote=remote)
        try:
            await store.add(await self.entries(await store.open(shared=shared)))
            yield store
        finally:
            await store.close()

    def files(self) -> list[str]:
        return sorted(file.name for file in self.history.iterdir())

    def ranges(self) -> list[tuple[int, int]]:
        return [(int(m[1]), int(m[2])) for m in map(NAME.match, self.files()) if m]

    async def check(self, store: DuckdbEvents) -> None:
        """Compares a few lookups with those in a plain list."""
        entries = await self.entries()
        assert store.position == len(entries)
        for query in (
            ALL,
            replace(ALL, limit=9),
            replace(ALL, limit=9, attribute=("EventName", "DeleteUser")),
            replace(ALL, snapshot=Snapshot(len(entries) // 2)),
            replace(ALL, start=MOMENT + timedelta(seconds=20)),
        ):
            assert await store.lookup(query) == naive_page(entries, query)


@asynccontextmanager
async def world(root: Path, seal_records: int = 40) -> AsyncIterator[World]:
    made = World(root, seal_records)
    try:
        yield made
    finally:
        await made.journal.close()
