"""The journal of a server: in files of its data directory, or on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from opentrail.adapters.files import DataDirectory, write_durably
from opentrail.adapters.journal_source import open_source
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.journal import SEGMENT_BYTES
from opentrail.app.background import renew_until_lost, run_beside
from opentrail.app.disk import file_limits
from opentrail.core.errors import DataDirectoryInUse, StorageFailed, UsageError
from opentrail.ports.control import Lease, Leases
from opentrail.ports.journal import JournalSource, KnownPositions, LostPositions
from opentrail.settings import Settings

if TYPE_CHECKING:
    from opentrail.adapters.databases import Transaction
    from opentrail.adapters.postgres.database import SharedDatabase
    from opentrail.adapters.postgres.journal import PostgresJournal

#: A file in the folder of the journal if that is on PostgreSQL.
_MARKER = "postgresql"
#: The lease of the server that alone uses a journal; others hold it for a moment at their start.
_SERVER = "server"
#: Seconds for which a start waits for that lease: a server that was killed holds it for a while.
_WAIT_SECONDS = 7.0
#: Seconds between two attempts to acquire it.
_ATTEMPT_SECONDS = 0.5


def is_in_files(settings: Settings) -> bool:
    """Returns whether the journal is in files of the data directory."""
    return settings.journal == "sqlite"


def require_engine(settings: Settings, data: DataDirectory) -> None:
    """Returns if the journal of a data directory is where the settings say.

    Raises:
        UsageError: it is elsewhere; its records would be missing.
    """
    has_marker, has_files = (data.journal / _MARKER).exists(), any(data.journal.glob("*.db"))
    if is_in_files(settings) and has_marker:
        raise UsageError(
            f"the journal of data directory {data.root} is on PostgreSQL: set OPENTRAIL_JOURNAL, "
            "or journal in the file given by --config"
        )
    if not is_in_files(settings) and has_files:
        raise UsageError(
            f"the journal of data directory {data.root} is in files: a journal on PostgreSQL needs "
            "a new data directory"
        )


def source_of(settings: Settings, data: DataDirectory) -> JournalSource:
    """Returns the journal of a data directory as child processes read it.

    Raises:
        UsageError: it is not where the settings say, or PostgreSQL's driver is not installed.
    """
    require_engine(settings, data)
    return open_source(str(data.journal) if is_in_files(settings) else settings.journal)


@dataclass(frozen=True, slots=True)
class JournalHandlers:
    """Callbacks of a journal."""

    #: Ends the server, because another one uses the journal.
    fail: Callable[[str], None]
    #: Is called if nothing more can be acknowledged.
    on_broken: Callable[[str], None]
    #: Is called when positions turn out to be lost.
    on_lost: Callable[[LostPositions], None]
    #: Is called with the position and the chain of the last record.
    on_written: Callable[[int, bytes], None]


def open_in_files(
    stack: AsyncExitStack,
    settings: Settings,
    data: DataDirectory,
    known: KnownPositions | None,
    handlers: JournalHandlers,
) -> SqliteJournal:
    """Opens the journal in files of the data directory; the arguments are those of `Site`.

    Raises:
        UsageError, StorageFailed: as `Site.open_journal`.
    """
    require_engine(settings, data)
    journal = SqliteJournal(
        data.journal,
        handlers.on_broken,
        min(SEGMENT_BYTES, file_limits(settings, data.root)[1]),
        known=known,
        on_lost=handlers.on_lost,
        on_written=handlers.on_written,
    )
    stack.push_async_callback(journal.close)
    return journal


async def connect(stack: AsyncExitStack, settings: Settings, data: DataDirectory) -> SharedDatabase:
    """Returns the database of a journal on PostgreSQL, with its tables.

    Raises:
        UsageError, StorageFailed, DataTooNew: as `Site.open_journal`.
    """
    require_engine(settings, data)
    # Here, so that servers without it do not load PostgreSQL's driver.
    from opentrail.adapters.postgres.database import SharedDatabase
    from opentrail.adapters.postgres.schema import create_tables

    database = SharedDatabase(settings.journal)
    stack.push_async_callback(database.close)
    await database.run(create_tables)
    return database


async def claim_journal(
    database: SharedDatabase, node: str, owner: str, known: KnownPositions | None
) -> tuple[Leases, Lease]:
    """Claims a journal for its owner, and returns the lease of the server that uses it alone.

    It comes before the journal is opened, which marks positions as lost that this data directory
    knows.

    Args:
        database: that of the journal.
        node: the id of the data directory.
        owner: the data directory that alone uses the journal, or `cluster_of` a control store.
        known: positions that others know of; None if there was no journal.

    Raises:
        UsageError: the journal is of another owner.
        DataDirectoryInUse: a server that does not share it uses it.
    """
    from opentrail.adapters.postgres.leases import PostgresLeases
    from opentrail.adapters.postgres.schema import claim

    leases = PostgresLeases(database)
    lease = await _acquire(leases, node)
    try:
        await database.run(partial(claim, owner=owner, data_directory=node, is_new=known is None))
    except BaseException:
        await leases.release(lease)
        raise
    return leases, lease


def open_on_postgresql(
    stack: AsyncExitStack,
    settings: Settings,
    known: KnownPositions | None,
    handlers: JournalHandlers,
    node: str,
    trim_limit: Callable[[Transaction], int] | None = None,
) -> PostgresJournal:
    """Opens a claimed journal on PostgreSQL; `trim_limit` is as in `PostgresJournal`.

    Raises:
        UsageError, StorageFailed: as `Site.open_journal`.
    """
    from opentrail.adapters.postgres.journal import PostgresJournal

    journal = PostgresJournal(
        settings.journal,
        on_lost=handlers.on_lost,
        on_written=handlers.on_written,
        known=known,
        node=node,
        trim_limit=trim_limit,
        has_history=settings.has_history,
    )
    stack.push_async_callback(journal.close)
    return journal


def mark_on_postgresql(folder: Path) -> None:
    """Writes into the folder of a journal that it is on PostgreSQL."""
    text = "The journal of this data directory is on PostgreSQL.\n"
    write_durably(folder / _MARKER, text.encode())


async def _acquire(leases: Leases, node: str) -> Lease:
    """Acquires the lease of the server that alone uses the journal."""
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


def hold(stack: AsyncExitStack, leases: Leases, lease: Lease, fail: Callable[[str], None]) -> None:
    """Holds a lease until the stack closes."""

    async def release() -> None:
        with suppress(StorageFailed):
            await leases.release(lease)

    stack.push_async_callback(release)

    async def keep() -> None:
        await renew_until_lost(leases, lease)
        fail("another server uses the journal on PostgreSQL now")

    run_beside(stack, keep())
