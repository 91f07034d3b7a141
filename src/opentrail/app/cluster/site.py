"""The kinds of servers, declared by `Site`, and the single server, which shares no journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from typing import Any, Protocol

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.folder_files import FolderFiles
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.duckdb.store_folders import StoreMaker
from opentrail.adapters.ipc.remote_events import NO_CACHE, HistoryCache, IpcEventStore
from opentrail.adapters.queries.query_children import QueriedFiles
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.app.access_keys import control_place
from opentrail.app.cluster.listed_stores import ListedStoreFiles, LocalQueries
from opentrail.app.cluster.shared_imports import SharedImports
from opentrail.app.inventory import DataInventory
from opentrail.app.journals import JournalHandlers, journal_place
from opentrail.app.known_positions import known_positions
from opentrail.core.event import NewEntry
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Archive, Hold, KnownPositions, TrimmedJournal
from opentrail.ports.queries import QueryStore, StoreFiles
from opentrail.settings import Settings
from opentrail.trails.delivery_rounds import TrailDeliveries
from opentrail.trails.registry import TrailRegistry
from opentrail.trails.shared import SharedDeliveries

#: The module whose process reads log files for event data stores.
LOG_FILE_READER = "opentrail.imports.store_process"
#: Begins the work of the worker; it ends when the stack closes.
Work = Callable[[AsyncExitStack], Awaitable[None]]


class Site(Protocol):
    """The parts that a server shares with others, and the work it leaves to them.

    The worker is the one server that delivers trails, trims the journal and runs the followers of
    wings. A server without a cluster is always the worker.
    """

    #: The control store, for the worker's changes.
    worker_control: ControlStore
    #: Files of imported events in S3; None: servers do not share events there.
    imports: SharedImports | None
    #: Whether the server has event history.
    keeps_history: bool
    #: Whether other servers record calls that teach identities.
    learns_from_others: bool
    #: Whether events expire while they take too much of the disk.
    makes_room: bool

    @property
    def cache(self) -> HistoryCache:
        """Caches parts of event history in S3, after `join`."""
        ...

    @property
    def is_worker(self) -> bool:
        """Whether this server takes itself for the worker."""
        ...

    @property
    def problems(self) -> list[str]:
        """Problems of the other servers, and of the parts that all servers share."""
        ...

    # The start, in this order.

    async def join(self) -> KnownPositions | None:
        """Return the positions that the journal must have; None if there was no journal.

        Raises:
            UsageError: this server cannot take part with its settings.
            StateLost: the control store is unexpectedly empty.
        """
        ...

    async def open_journal(
        self, stack: AsyncExitStack, known: KnownPositions | None, handlers: JournalHandlers
    ) -> TrimmedJournal:
        """Open the journal.

        Args:
            stack: closes it.
            known: positions known to others.
            handlers: receive its events.

        Raises:
            UsageError: its place differs from the settings, it belongs to another data directory,
                PostgreSQL's driver is not installed, or others have trimmed entries missing from
                this server's event history.
            StorageFailed: it cannot be opened.
            DataDirectoryInUse: a server that does not share it uses it.
            DataTooNew: a newer version of opentrail made its tables.
        """
        ...

    def archive(self, store: IpcEventStore) -> Archive:
        """Return the source of entries that the journal has trimmed."""
        ...

    def follow_others(self, stack: AsyncExitStack, store: IpcEventStore) -> None:
        """Show other servers' imports, and repair shared files, until the stack closes."""
        ...

    def query_store(self, files: QueryFiles) -> QueryStore:
        """Return the store of SQL queries.

        Args:
            files: results in the data directory.
        """
        ...

    def store_files(self, journal: TrimmedJournal) -> StoreFiles | None:
        """Return the files of created event data stores; None: there can be no such stores."""
        ...

    def files_of_queries(self, store: IpcEventStore) -> QueriedFiles | None:
        """Return the listed files that queries read; None: there are none."""
        ...

    # The work.

    async def append(self, journal: TrimmedJournal, entries: Sequence[NewEntry]) -> int:
        """Append entries to the journal as the worker.

        Raises:
            LeaseLost: this server is not, or no longer, the worker; nothing is recorded.
            RecordRefused: as `Journal.append`.
        """
        ...

    def deliveries(
        self, local: TrailDeliveries, trails: TrailRegistry, clock: Clock
    ) -> TrailDeliveries | SharedDeliveries:
        """Return the deliveries of trails, by whichever server is the worker."""
        ...

    async def start_work(self, stack: AsyncExitStack, work: Work, catch_up: Work) -> None:
        """Work while this server is the worker, until the stack closes.

        Args:
            stack: ends it.
            work: begins the work.
            catch_up: first learns the previous worker's results.
        """
        ...

    def announce(self, stack: AsyncExitStack, endpoint: str, sealed: Callable[[], int]) -> None:
        """Report this server and its sealed files to the others, until the stack closes.

        Args:
            stack: ends it.
            endpoint: host and port, for display.
            sealed: returns the last position in verified files of event history.
        """
        ...

    # Housekeeping.

    async def refresh_files(self, store: IpcEventStore) -> bool:
        """Start to read new files in S3; return False if they cannot be listed."""
        ...

    def refuse_gap(self) -> None:
        """Called when the journal has trimmed records that event history still misses."""
        ...

    async def holds(self) -> list[Hold]:
        """Return the entries that the worker needs if it is another server."""
        ...

    async def share(self, needed_after: int) -> None:
        """Put files of event history in S3, and forget expired ones, as the worker.

        Args:
            needed_after: the position after which something still needs records.

        Raises:
            LeaseLost: this server is not the worker.
            ObjectStoreError: S3 refused a file.
            StorageFailed: an upload reads back differently.
        """
        ...

    # The interface for the API.

    async def require_importable(self) -> None:
        """Return if this server may import files of events.

        Raises:
            NoHistory: it has no event history.
            Unsupported: the events would be missing on other servers.
        """
        ...

    async def refresh(self) -> None:
        """Read the servers, for `document`."""
        ...

    def document(self) -> dict[str, Any] | None:
        """Return the servers for `/health`, as of the last `refresh`; None: no cluster."""
        ...

    async def close(self) -> None:
        """Close everything the site has opened except the journal."""
        ...


class OneServer:
    """The site of a server without a cluster; see `Site`.

    Args:
        settings: the server's settings.
        control: the control store.
        data: the open data directory.
        inventory: its inventory.
    """

    cache = NO_CACHE
    imports: SharedImports | None = None
    keeps_history = True
    learns_from_others = False
    makes_room = True
    is_worker = True

    def __init__(
        self,
        settings: Settings,
        control: ControlStore,
        data: DataDirectory,
        inventory: DataInventory,
    ) -> None:
        self.worker_control = control
        self.problems: list[str] = []
        self._settings, self._data, self._inventory = settings, data, inventory

    async def join(self) -> KnownPositions | None:
        """Returns the positions that the data directory knows."""
        control, data = self.worker_control, self._data
        await control_place(self._settings, data).require_no_cluster(control)
        return await known_positions(control, data.history, self._inventory.written)

    async def open_journal(
        self, stack: AsyncExitStack, known: KnownPositions | None, handlers: JournalHandlers
    ) -> TrimmedJournal:
        """Opens the journal in files, or on PostgreSQL for this server alone."""
        node = self._inventory.installation
        return await journal_place(self._settings, self._data).open(stack, known, handlers, node)

    def archive(self, store: IpcEventStore) -> IpcEventStore:
        """Returns event history."""
        return store

    def follow_others(self, stack: AsyncExitStack, store: IpcEventStore) -> None:
        """There are no others."""

    def query_store(self, files: QueryFiles) -> QueryStore:
        """Returns the files."""
        return files

    def store_files(self, journal: TrimmedJournal) -> StoreFiles:
        """Returns files in the data directory."""
        source = journal_place(self._settings, self._data).source()
        folder = self._data.root / "new-store-files"
        maker = StoreMaker(folder, source, journal.repair, LOG_FILE_READER)
        return ListedStoreFiles(
            *(self._files, self.worker_control, self._data.stores, maker, source, SystemClock()),
            scope=self._scope,
        )

    @cached_property
    def _files(self) -> FolderFiles:
        return FolderFiles(self._data.root)

    @property
    def _scope(self) -> str:
        """Begins the keys of lists of files: other servers may use the same control store."""
        return f"{self._inventory.installation}/"

    def files_of_queries(self, _store: IpcEventStore) -> LocalQueries:
        """Returns files in the data directory."""
        return LocalQueries(self._files, self.worker_control, self._scope)

    async def append(self, journal: TrimmedJournal, entries: Sequence[NewEntry]) -> int:
        """Appends entries: this server is the worker."""
        return await journal.append(entries)

    def deliveries(
        self, local: TrailDeliveries, _trails: TrailRegistry, _clock: Clock
    ) -> TrailDeliveries:
        """Returns this server's deliveries."""
        return local

    async def start_work(self, stack: AsyncExitStack, work: Work, _catch_up: Work) -> None:
        """Begins the work immediately."""
        await work(stack)

    def announce(self, stack: AsyncExitStack, endpoint: str, sealed: Callable[[], int]) -> None:
        """There are no others."""

    async def refresh_files(self, _store: IpcEventStore) -> bool:
        """Returns True: all files are on this disk."""
        return True

    def refuse_gap(self) -> None:
        """Does nothing: the journal has already reported its losses."""

    async def holds(self) -> list[Hold]:
        """Returns none: this server is the worker."""
        return []

    async def share(self, needed_after: int) -> None:
        """There are no others."""

    async def require_importable(self) -> None:
        """Returns."""

    async def refresh(self) -> None:
        """There are no others."""

    def document(self) -> None:
        """Returns None."""

    async def close(self) -> None:
        """Does nothing."""
