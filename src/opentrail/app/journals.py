"""The journal of a server: in files of its data directory, or on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from opentrail.adapters.data_directory.files import DataDirectory, write_durably
from opentrail.adapters.journal_source import open_source
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.journal import SEGMENT_BYTES
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.background import renew_until_lost, run_beside
from opentrail.app.disk import file_limits
from opentrail.core.errors import DataDirectoryInUse, StorageFailed, UsageError
from opentrail.ports.control import Lease, Leases
from opentrail.ports.journal import JournalSource, KnownPositions, LostPositions, TrimmedJournal
from opentrail.settings import Settings

if TYPE_CHECKING:
    from opentrail.adapters.postgres.database import SharedDatabase
    from opentrail.adapters.postgres.journal import PostgresJournal
    from opentrail.adapters.sql.databases import Transaction

#: A file in the journal's folder if the journal is on PostgreSQL.
_MARKER = "postgresql"
#: The lease of the one server that uses a journal; others hold it briefly at their start.
_SERVER = "server"
#: Seconds that a start waits for that lease: a killed server still holds it for a while.
_WAIT_SECONDS = 7.0
#: Seconds between two attempts to acquire it.
_ATTEMPT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class JournalHandlers:
    """Callbacks of a journal."""

    #: Ends the server, because another one uses the journal.
    fail: Callable[[str], None]
    #: Called if nothing more can be acknowledged.
    on_broken: Callable[[str], None]
    #: Is called when positions turn out to be lost.
    on_lost: Callable[[LostPositions], None]
    #: Called with the position and the chain of the last record.
    on_written: Callable[[int, bytes], None]


class JournalPlace(Protocol):
    """The place of a data directory's journal; see `journal_place`."""

    def source(self) -> JournalSource:
        """Return the journal for child processes to read.

        Raises:
            UsageError: the journal is elsewhere, so its records would be missing, or PostgreSQL's
                driver is not installed.
        """
        ...

    async def open(
        self,
        stack: AsyncExitStack,
        known: KnownPositions | None,
        handlers: JournalHandlers,
        node: str,
    ) -> TrimmedJournal:
        """Open the journal for one server alone; see `Site.open_journal`.

        Args:
            stack: closes it.
            known: positions known to others; None if there was no journal.
            handlers: receive its events.
            node: the id of the data directory.
        """
        ...

    def server_source(self) -> JournalSource | None:
        """Return `source` if a database has the journal; None: it is in the data directory."""
        ...

    def require_copied(self) -> None:
        """Return if a copy of the data directory has the journal.

        Raises:
            UsageError: it is elsewhere.
        """
        ...

    def restore(self, folder: Path, last: int, damage: str | None) -> None:
        """Move a journal in files to this place.

        Args:
            folder: has the files.
            last: the last position.
            damage: their damage.

        Raises:
            StorageFailed: it is damaged, or cannot be moved.
        """
        ...


class InFiles:
    """The journal is in files of the data directory."""

    def __init__(self, settings: Settings, data: DataDirectory) -> None:
        self._settings, self._data = settings, data

    def _require(self) -> None:
        if (self._data.journal / _MARKER).exists():
            raise UsageError(
                f"the journal of data directory {self._data.root} is on PostgreSQL: set "
                "OPENTRAIL_JOURNAL, or journal in the file given by --config"
            )

    def source(self) -> JournalSource:
        """Returns the files."""
        self._require()
        return SqliteJournalSource(self._data.journal)

    async def open(
        self,
        stack: AsyncExitStack,
        known: KnownPositions | None,
        handlers: JournalHandlers,
        _node: str,
    ) -> SqliteJournal:
        """Opens the files."""
        self._require()
        limits = file_limits(self._settings, self._data.root)
        journal = SqliteJournal(
            self._data.journal,
            handlers.on_broken,
            min(SEGMENT_BYTES, limits.segment_bytes),
            known=known,
            on_lost=handlers.on_lost,
            on_written=handlers.on_written,
            reserved_bytes=limits.reserved_bytes,
        )
        stack.push_async_callback(journal.close)
        return journal

    def server_source(self) -> None:
        """Returns None."""
        self._require()

    def require_copied(self) -> None:
        """Returns."""
        self._require()

    def restore(self, folder: Path, last: int, damage: str | None) -> None:
        """Does nothing: a server repairs damaged files."""


class OnPostgresql:
    """The journal is on PostgreSQL."""

    def __init__(self, settings: Settings, data: DataDirectory) -> None:
        self._settings, self._data = settings, data

    def source(self) -> JournalSource:
        """Returns the tables."""
        self._require()
        return open_source(self._settings.journal)

    def server_source(self) -> JournalSource:
        """Returns the tables."""
        return self.source()

    def _require(self) -> None:
        if any(self._data.journal.glob("*.db")):
            raise UsageError(
                f"the journal of data directory {self._data.root} is in files: a journal on "
                "PostgreSQL needs a new data directory"
            )

    async def open(
        self,
        stack: AsyncExitStack,
        known: KnownPositions | None,
        handlers: JournalHandlers,
        node: str,
    ) -> PostgresJournal:
        """Opens the tables, which this server then uses alone."""
        database = await self.connect(stack)
        leases, lease = await claim_journal(database, node, node, known)
        _hold(stack, leases, lease, handlers.fail)
        journal = self.open_claimed(stack, known, handlers, node)
        await asyncio.to_thread(self.mark)
        return journal

    async def connect(self, stack: AsyncExitStack) -> SharedDatabase:
        """Returns the database, with the tables.

        Raises:
            UsageError, StorageFailed, DataTooNew: as `Site.open_journal`.
        """
        self._require()
        # Imported here, so that servers without it do not load PostgreSQL's driver.
        from opentrail.adapters.postgres.database import SharedDatabase
        from opentrail.adapters.postgres.schema import create_tables

        database = SharedDatabase(self._settings.journal)
        stack.push_async_callback(database.close)
        await database.run(create_tables)
        return database

    def open_claimed(
        self,
        stack: AsyncExitStack,
        known: KnownPositions | None,
        handlers: JournalHandlers,
        node: str,
        trim_limit: Callable[[Transaction], int] | None = None,
    ) -> PostgresJournal:
        """Opens a claimed journal; `trim_limit` is as in `PostgresJournal`.

        Raises:
            UsageError, StorageFailed: as `Site.open_journal`.
        """
        from opentrail.adapters.postgres.journal import PostgresJournal

        journal = PostgresJournal(
            self._settings.journal,
            on_lost=handlers.on_lost,
            on_written=handlers.on_written,
            known=known,
            node=node,
            trim_limit=trim_limit,
            has_history=self._settings.has_history,
        )
        stack.push_async_callback(journal.close)
        return journal

    def mark(self, folder: Path | None = None) -> None:
        """Marks the journal's folder: the journal is on PostgreSQL."""
        text = "The journal of this data directory is on PostgreSQL.\n"
        write_durably((folder or self._data.journal) / _MARKER, text.encode())

    def require_copied(self) -> None:
        """Refuses: it is in a database."""
        raise UsageError(
            "the journal is on PostgreSQL, which 'opentrail backup' does not copy: back up its "
            "database with PostgreSQL's tools, and the data directory while no server runs"
        )

    def restore(self, folder: Path, last: int, damage: str | None) -> None:
        """Moves the files into empty tables."""
        if damage is not None:
            raise StorageFailed(
                f"the backup has damage, such as {damage}: restore it into files, where a server "
                "repairs it"
            )
        # Imported here, so that other commands do not load the code for PostgreSQL.
        from opentrail.adapters.postgres.schema import restore_journal

        asyncio.run(restore_journal(self._settings.journal, SqliteJournalSource(folder), last))
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        self.mark(folder)


def journal_place(settings: Settings, data: DataDirectory) -> JournalPlace:
    """Returns the journal's place from the settings."""
    return (InFiles if settings.journal == "sqlite" else OnPostgresql)(settings, data)


async def claim_journal(
    database: SharedDatabase, node: str, owner: str, known: KnownPositions | None
) -> tuple[Leases, Lease]:
    """Claims a journal for its owner, and returns the lease of the server that uses it alone.

    Must run before the journal is opened, which marks positions known to this data directory as
    lost.

    Args:
        database: the journal's database.
        node: the id of the data directory.
        owner: the data directory that alone uses the journal, or `cluster_of` a control store.
        known: positions known to others; None if there was no journal.

    Raises:
        UsageError: the journal has another owner.
        DataDirectoryInUse: a server that does not share it uses it.
    """
    from opentrail.adapters.postgres.database import PostgresLeases
    from opentrail.adapters.postgres.schema import claim

    leases = PostgresLeases(database)
    lease = await _acquire(leases, node)
    try:
        await database.run(partial(claim, owner=owner, data_directory=node, is_new=known is None))
    except BaseException:
        await leases.release(lease)
        raise
    return leases, lease


async def _acquire(leases: Leases, node: str) -> Lease:
    """Acquires the lease of the one server that uses a journal."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _WAIT_SECONDS
    while (lease := await leases.acquire(_SERVER, node)) is None:
        if loop.time() >= until:
            raise DataDirectoryInUse(
                "another server uses the journal on PostgreSQL; servers that share a journal need "
                "their control store in the same database"
            )
        await asyncio.sleep(_ATTEMPT_SECONDS)
    return lease


def _hold(stack: AsyncExitStack, leases: Leases, lease: Lease, fail: Callable[[str], None]) -> None:
    """Holds a lease until the stack closes."""

    async def release() -> None:
        with suppress(StorageFailed):
            await leases.release(lease)

    stack.push_async_callback(release)

    async def keep() -> None:
        await renew_until_lost(leases, lease)
        fail("another server uses the journal on PostgreSQL now")

    run_beside(stack, keep())
