"""A server that shares its journal and its control store with other servers of a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from opentrail.adapters.archived_journal import NoArchive
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.ipc.remote_events import HistoryCache, IpcEventStore
from opentrail.adapters.postgres.schema import cluster_of
from opentrail.adapters.postgres.source import read_extent
from opentrail.adapters.queries.query_children import QueriedFiles
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.adapters.queries.shared_queries import SharedQueries
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.background import run_beside
from opentrail.app.cluster.listed_stores import require_no_stores
from opentrail.app.cluster.member_files import member_files
from opentrail.app.cluster.postgresql import Cluster
from opentrail.app.cluster.site import Work
from opentrail.app.inventory import DataInventory, mark_for_cluster
from opentrail.app.journals import JournalHandlers, OnPostgresql, claim_journal
from opentrail.app.known_positions import known_positions
from opentrail.core.errors import (
    NoHistory,
    UsageError,
)
from opentrail.core.event import NewEntry
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Archive, Hold, KnownPositions, TrimmedJournal
from opentrail.ports.metrics import Metrics
from opentrail.ports.objects import ObjectStore
from opentrail.ports.queries import QueryStore, StoreFiles
from opentrail.settings import Settings
from opentrail.trails.delivery_rounds import TrailDeliveries
from opentrail.trails.registry import TrailRegistry
from opentrail.trails.shared import SharedDeliveries

log = logging.getLogger(__name__)


class Member:
    """The site of a server of a cluster; see `Site`.

    Args:
        settings: the server's settings; the role decides whether it has event history.
        control: the control store that the servers share.
        data: the open data directory.
        inventory: its inventory.
        clock: the time.
        objects: S3, where `--files` are.
        metrics: show this server's work in the cluster.
        fail: ends this server, because it cannot continue as a member.

    Raises:
        UsageError: the settings ask a member for something it cannot do.
    """

    learns_from_others = True
    makes_room = False

    def __init__(
        self,
        settings: Settings,
        control: SqlControl,
        data: DataDirectory,
        inventory: DataInventory,
        clock: Clock,
        objects: ObjectStore,
        metrics: Metrics,
        fail: Callable[[str], None],
    ) -> None:
        if settings.history_size is not None or settings.data_event_days is not None:
            raise UsageError(
                "servers that share a journal accept neither --history-size nor --data-event-days"
            )
        self._settings, self._control, self._data = settings, control, data
        self._inventory, self._clock, self._fail = inventory, clock, fail
        self._metrics = metrics
        self._place = OnPostgresql(settings, data)
        self._source = self._place.source()
        self.keeps_history = settings.has_history
        self.cluster = Cluster(settings, control, inventory.installation, clock, fail)
        self.worker_control: ControlStore = self.cluster.worker_control
        self.files = member_files(
            settings,
            inventory.ensure_store_id,
            control,
            data.history,
            self._source,
            clock,
            objects,
            metrics,
            self.cluster,
        )
        self.imports = self.files.imports
        metrics.worker.set_function(lambda: self.is_worker)

    @property
    def cache(self) -> HistoryCache:
        """Caches parts of event history in S3."""
        return self.files.cache

    @property
    def is_worker(self) -> bool:
        """Whether this server takes itself for the worker."""
        return self.cluster.is_worker

    @property
    def problems(self) -> list[str]:
        """Problems of files in S3, and of the servers."""
        return [*self.files.problems, *self.cluster.problems]

    # The start.

    async def join(self) -> KnownPositions | None:
        """Downloads missing event history, lists the local files, and returns the known positions.

        Runs before the journal is opened, so that entries missing here are not trimmed.
        """
        await self._inventory.require_known_store()
        await mark_for_cluster(self._control)
        if not self.files.keeps_stores:
            await require_no_stores(self._control)
        cluster, keeps = self.cluster, self.keeps_history
        if keeps:
            await self.files.download()
        history, control = self._data.history, self._control
        known = await known_positions(control, history, self._inventory.written, self.files.shared)
        sealed = known.sealed if known else 0
        await cluster.heartbeat(None, sealed if keeps else None)
        if keeps:
            await self.files.take_over_imports()
        return known

    async def open_journal(
        self, stack: AsyncExitStack, known: KnownPositions | None, handlers: JournalHandlers
    ) -> TrimmedJournal:
        """Opens the journal that the servers share."""
        data, node = self._data, self._inventory.installation
        store_id = await self._inventory.ensure_store_id()
        database = await self._place.connect(stack)
        if known and known.written and not (await database.run(read_extent)).head:
            raise UsageError(
                f"the control store has positions of another journal, up to {known.written}, and "
                "the journal on PostgreSQL is empty: 'opentrail restore' moves both from a backup"
            )
        leases, lease = await claim_journal(database, node, cluster_of(store_id), known)
        await leases.release(lease)
        limit = self.cluster.sealed_everywhere
        journal = self._place.open_claimed(stack, known, handlers, node, limit)
        sealed = known.sealed if known else 0
        lacks_events = self.keeps_history and journal.first > sealed + 1
        # If no other server can have them, they are reported as lost.
        if lacks_events and await self.cluster.has_running_others():
            raise UsageError(
                f"event history of data directory {data.root} ends at position {sealed}, and the "
                f"journal of the cluster begins at {journal.first}: copy the files of the folder "
                "history of another server into it first"
            )
        await asyncio.to_thread(self._place.mark)
        self._journal = journal
        return journal

    def archive(self, store: IpcEventStore) -> Archive:
        """Returns event history, if this server has it."""
        return store if self.keeps_history else NoArchive()

    def follow_others(self, stack: AsyncExitStack, store: IpcEventStore) -> None:
        """Shows other servers' imports, and uploads files that S3 has lost."""
        self.files.follow(stack, store, keeps_history=self.keeps_history)

    def query_store(self, files: QueryFiles) -> QueryStore:
        """Returns the queries of all servers, in the control store."""
        own = self._inventory.installation
        return SharedQueries(self._control, files, own, self.cluster.is_running)

    def store_files(self, journal: TrimmedJournal) -> StoreFiles | None:
        """Returns files in S3, if the servers share files there."""
        return self.files.of_stores(journal, self._source, self._data.stores)

    def files_of_queries(self, store: IpcEventStore) -> QueriedFiles | None:
        """Returns files in S3."""
        return self.files.of_queries(store)

    # The work.

    async def append(self, journal: TrimmedJournal, entries: Sequence[NewEntry]) -> int:
        """Appends entries while this server is the worker."""
        return await self.cluster.append(journal, entries)

    def deliveries(
        self, local: TrailDeliveries, trails: TrailRegistry, clock: Clock
    ) -> SharedDeliveries:
        """Returns the worker's deliveries, which other servers query."""
        return SharedDeliveries(local, trails, self._control, self.worker_control, clock)

    async def start_work(self, stack: AsyncExitStack, work: Work, catch_up: Work) -> None:
        """Works while this server is the worker, if its role allows that."""

        async def begin(stack: AsyncExitStack) -> None:
            await catch_up(stack)
            await work(stack)

        if self.cluster.may_work:
            run_beside(stack, self.cluster.run_worker(begin))

    def announce(self, stack: AsyncExitStack, endpoint: str, sealed: Callable[[], int]) -> None:
        """Sends heartbeats of this server."""
        noted = sealed if self.keeps_history else _nothing_sealed
        run_beside(stack, self.cluster.keep_noting(endpoint, noted))

    # Housekeeping.

    async def refresh_files(self, store: IpcEventStore) -> bool:
        """Starts to read new files in S3; returns False if they cannot be listed."""
        return await self.files.refresh(store)

    def refuse_gap(self) -> None:
        """Ends this server: others have trimmed entries that it misses."""
        self._fail("journal trimmed of records that event history does not have")

    async def holds(self) -> list[Hold]:
        """Returns the entries that the worker needs if it is another server."""
        after = None if self.is_worker else await self.cluster.needed_by_worker()
        return [] if after is None else [Hold("the worker of the cluster", after)]

    async def share(self, needed_after: int) -> None:
        """Puts complete files in S3; forgets expired ones and long-lost servers."""
        await self.cluster.store_needed(needed_after)
        await self.cluster.forget_servers()
        await self.files.publish(self._journal, self._source, needed_after)

    # The interface for the API.

    async def require_importable(self) -> None:
        """Returns if the other servers would also get the events."""
        if not self.keeps_history:
            raise NoHistory
        await self.files.require_importable()

    async def refresh(self) -> None:
        """Reads the servers and the worker."""
        await self.cluster.refresh()

    def document(self) -> dict[str, Any]:
        """Returns the servers."""
        return self.cluster.document()

    async def close(self) -> None:
        """Closes the connection for leases."""
        await self.cluster.close()


def _nothing_sealed() -> None:
    """Returns None: the server has no event history."""
