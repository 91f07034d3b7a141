"""A server that shares its journal with no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from opentrail.adapters.files import DataDirectory
from opentrail.adapters.ipc.remote_events import NO_CACHE, IpcEventStore
from opentrail.app.access_keys import control_place
from opentrail.app.inventory import DataInventory
from opentrail.app.journals import JournalHandlers, journal_place
from opentrail.app.known_positions import known_positions
from opentrail.app.shared_imports import SharedImports
from opentrail.app.site import Work
from opentrail.core.event import NewEntry
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import KnownPositions, TrimmedJournal
from opentrail.settings import Settings
from opentrail.trails.delivery_rounds import TrailDeliveries
from opentrail.trails.registry import TrailRegistry


class OneServer:
    """The site of a server without a cluster; see `Site`.

    Args:
        settings: those of the server.
        control: the control store.
        data: the open data directory.
        inventory: what is known of it.
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

    async def append(self, journal: TrimmedJournal, entries: Sequence[NewEntry]) -> int:
        """Appends entries: this server is the worker."""
        return await journal.append(entries)

    def deliveries(
        self, local: TrailDeliveries, _trails: TrailRegistry, _clock: Clock
    ) -> TrailDeliveries:
        """Returns those of this server."""
        return local

    async def start_work(self, stack: AsyncExitStack, work: Work, _catch_up: Work) -> None:
        """Begins the work at once."""
        await work(stack)

    def announce(self, stack: AsyncExitStack, endpoint: str, sealed: Callable[[], int]) -> None:
        """There are no others."""

    async def refresh_files(self, _store: IpcEventStore) -> bool:
        """Returns True: all files are on this disk."""
        return True

    def refuse_gap(self) -> None:
        """Does nothing: the journal has already reported what it lost."""

    async def share(self, needed_after: int) -> None:
        """There are no others."""

    async def require_importable(self) -> None:
        """Returns."""

    async def look(self) -> None:
        """There are no others."""

    def document(self) -> None:
        """Returns None."""

    async def close(self) -> None:
        """Does nothing."""
