"""The journal of a server: in files of its data directory, or on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
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
from opentrail.ports.journal import KnownPositions, LostPositions, TrimmedJournal
from opentrail.ports.journal_source import JournalSource
from opentrail.ports.leases import Lease, Leases
from opentrail.settings import Settings

if TYPE_CHECKING:
    from opentrail.app.cluster import Cluster

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
    if is_in_files(settings) and (data.journal / _MARKER).exists():
        raise UsageError(
            f"the journal of data directory {data.root} is on PostgreSQL: set OPENTRAIL_JOURNAL, "
            "or journal in the file given by --config"
        )
    if not is_in_files(settings) and any(data.journal.glob("*.db")):
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


async def open_journal(
    stack: AsyncExitStack,
    settings: Settings,
    data: DataDirectory,
    known: KnownPositions | None,
    *,
    node: str,
    cluster: Cluster | None,
    control_store: str,
    fail: Callable[[str], None],
    on_broken: Callable[[str], None],
    on_lost: Callable[[LostPositions], None],
    on_written: Callable[[int, bytes], None],
) -> TrimmedJournal:
    """Opens the journal.

    Args:
        stack: closes it.
        settings: say where it is.
        data: the open data directory.
        known: positions that others know of.
        node: the id of the data directory.
        cluster: the servers that may share the journal; None if this server alone uses it.
        control_store: the id of their control store.
        fail: ends the server, because another one uses the journal.
        on_broken: is called if nothing more can be acknowledged.
        on_lost: is called when positions turn out to be lost.
        on_written: is called with the position and the chain of the last record.

    Raises:
        UsageError: it is not where the settings say or of another data directory, PostgreSQL's
            driver is not installed, or this server's event history lacks what the others have
            trimmed from the journal.
        StorageFailed: it cannot be opened.
        DataDirectoryInUse: a server that does not share it uses it.
        DataTooNew: a newer version of opentrail has made its tables.
    """
    require_engine(settings, data)
    if is_in_files(settings):
        sqlite = SqliteJournal(
            data.journal,
            on_broken,
            min(SEGMENT_BYTES, file_limits(settings, data.root)[1]),
            known=known,
            on_lost=on_lost,
            on_written=on_written,
        )
        stack.push_async_callback(sqlite.close)
        return sqlite
    # Here, so that servers without it do not load PostgreSQL's driver.
    from opentrail.adapters.postgres.database import SharedDatabase
    from opentrail.adapters.postgres.journal import PostgresJournal
    from opentrail.adapters.postgres.leases import PostgresLeases
    from opentrail.adapters.postgres.schema import claim, cluster_of, create_tables
    from opentrail.adapters.postgres.source import read_extent

    # Before the journal is opened, which marks positions as lost that this data directory knows.
    database = SharedDatabase(settings.journal)
    stack.push_async_callback(database.close)
    await database.run(create_tables)
    if cluster and known and known.written and not (await database.run(read_extent)).head:
        raise UsageError(
            f"the control store has positions of another journal, up to {known.written}, and the "
            "journal on PostgreSQL is empty: 'opentrail restore' moves both from a backup"
        )
    leases = PostgresLeases(database)
    lease = await _acquire(leases, node)
    owner = node if cluster is None else cluster_of(control_store)
    try:
        await database.run(partial(claim, owner=owner, data_directory=node, is_new=known is None))
    except BaseException:
        await leases.release(lease)
        raise
    if cluster is None:
        _hold(stack, leases, lease, fail)
    else:
        await leases.release(lease)

    postgres = PostgresJournal(
        settings.journal,
        on_lost=on_lost,
        on_written=on_written,
        known=known,
        node=node,
        trim_limit=cluster.sealed_everywhere if cluster else None,
        has_history=settings.has_history,
    )
    stack.push_async_callback(postgres.close)
    sealed = known.sealed if known else 0
    lacks_events = settings.has_history and postgres.first > sealed + 1
    # If no other server can have them, they are reported as lost.
    if cluster and lacks_events and await cluster.has_running_others():
        raise UsageError(
            f"event history of data directory {data.root} ends at position {sealed}, and the "
            f"journal of the cluster begins at {postgres.first}: copy the files of the folder "
            "history of another server into it first"
        )
    await asyncio.to_thread(mark_on_postgresql, data.journal)
    return postgres


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
