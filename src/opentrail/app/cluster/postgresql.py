"""Several servers that share a journal and a control store on PostgreSQL.

Each server answers and records calls and has separate event history. The worker, the server that
holds a lease, does the work that must not run twice, such as delivering trails. Another server
takes over when it ends, or within seconds of its loss.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from opentrail.adapters.data_directory.sealed_file_names import Series, sealed_files
from opentrail.adapters.postgres.database import (
    FencedControl,
    PostgresLeases,
    SharedDatabase,
    split_password,
)
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sql.databases import Transaction
from opentrail.app.background import renew_until_lost
from opentrail.app.cluster.shared_files import SHARED_FILE
from opentrail.core.errors import (
    DataDirectoryInUse,
    LeaseLost,
    OpentrailError,
    StorageFailed,
    UsageError,
)
from opentrail.core.event import NewEntry, format_time, parse_time
from opentrail.core.logs import attempt
from opentrail.core.trail import stored_time
from opentrail.core.version import __version__
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Document, Lease, Put, Remove
from opentrail.ports.journal import TrimmedJournal
from opentrail.settings import Settings

if TYPE_CHECKING:
    from opentrail.adapters.postgres.journal import PostgresJournal

log = logging.getLogger(__name__)

#: The lease of the worker.
_WORKER = "worker"
#: Seconds between two attempts to acquire it.
_ATTEMPT_SECONDS = 1.0
#: The server roles that may hold it.
_WORKER_ROLES = ("all", "worker")
#: Kind of the documents with the servers of a cluster.
_SERVER = "server"
#: Kind and key of the document with the position after which the worker needs entries.
_NEEDED = ("needed", "worker")
#: Seconds between two heartbeats of a server.
_NOTE_SECONDS = 5.0
#: A server without a heartbeat for this time counts as lost.
_LOST_AFTER = timedelta(seconds=20)
#: After this time, records are no longer retained for a lost server.
KEPT_FOR = timedelta(days=1)
#: After this time, the cluster also forgets the server.
_FORGOTTEN_AFTER = timedelta(days=7)
#: Time that records are retained for a server that has not finished its start.
_MAX_START = timedelta(minutes=10)
#: Maximum difference between a server's clock and PostgreSQL's; more is a problem.
_MAX_CLOCK_SECONDS = 5.0
_CLOCK = "SELECT clock_timestamp()"
_LOCK_JOURNAL = "SELECT 1 FROM opentrail.journal FOR UPDATE"
_SERVERS = "SELECT body FROM documents WHERE kind = ?"
_NEWEST_FILE = "SELECT body FROM documents WHERE kind = ? ORDER BY key DESC LIMIT 1"

Work = Callable[[AsyncExitStack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClusterServer:
    """The last noted state of a server."""

    #: The id of its data directory.
    node: str
    #: None while it starts.
    endpoint: str | None
    version: str
    #: The last position in the verified files of its event history. None: it has no event history.
    sealed: int | None
    #: By PostgreSQL's clock.
    seen: datetime
    role: str
    #: Seconds that its clock is ahead of PostgreSQL's.
    ahead: float = 0.0

    def is_lost(self, now: datetime) -> bool:
        """Returns whether it has not been seen for a while."""
        return now - self.seen > _LOST_AFTER


def _server_of(node: str, document: Document) -> ClusterServer:
    return ClusterServer(
        node,
        document["endpoint"],
        document["version"],
        document["sealed"],
        parse_time(document["seen"]),
        document.get("role", "all"),  # earlier versions have no roles
        document.get("clockAhead", 0.0),
    )


def is_cluster(settings: Settings) -> bool:
    """Returns whether other servers may share journal and control store with this one."""
    urls = [settings.journal, settings.control_store]
    return settings.journal != "sqlite" and len({split_password(url)[0] for url in urls}) == 1


class Cluster:
    """The servers that share a journal and a control store.

    Args:
        settings: this server's settings.
        control: the control store.
        node: the id of this server's data directory.
        clock: the time.
        fail: ends this server, because an earlier one has the same id.
    """

    def __init__(
        self,
        settings: Settings,
        control: SqlControl,
        node: str,
        clock: Clock,
        fail: Callable[[str], None],
    ) -> None:
        self.node = node
        self._fail = fail
        self._database = SharedDatabase(settings.journal)
        self._leases = PostgresLeases(self._database)
        self._control: ControlStore = control
        self._shares_files = settings.files is not None
        self._role = settings.role
        self._clock = clock
        self._started = clock.now()
        #: The last measured lead of this server's clock over PostgreSQL's.
        self._ahead = timedelta(0)
        #: The version of this server's note; None before it.
        self._heartbeat_version: int | None = None
        self._servers: Sequence[ClusterServer] = ()
        self._worker: str | None = None
        #: The control store, which only the worker can change.
        self.worker_control = FencedControl(control, self._leases)

    @property
    def may_work(self) -> bool:
        """Whether this server may become the worker."""
        return self._role in _WORKER_ROLES

    @property
    def problems(self) -> list[str]:
        """Problems of the servers, as of the last `refresh`."""
        now = self._now()
        running = [one for one in self._servers if one.endpoint and not one.is_lost(now)]
        found = [
            f"the clock of {one.endpoint} is {abs(one.ahead):.0f} s "
            f"{'ahead of' if one.ahead > 0 else 'behind'} PostgreSQL's: synchronize it"
            for one in running
            if abs(one.ahead) > _MAX_CLOCK_SECONDS
        ]
        if running and not any(one.role in _WORKER_ROLES for one in running):
            found.append(
                "no server of the cluster has the role worker or all: nothing is delivered"
            )
        return found

    @property
    def is_worker(self) -> bool:
        """Whether this server takes itself for the worker."""
        return self.worker_control.lease is not None

    # The worker.

    async def run_worker(self, work: Work) -> None:
        """Does the work while this server is the worker, until it is cancelled.

        Args:
            work: begins the work, which ends when the stack closes.
        """
        while True:
            await attempt(self._work(work), "this server is not the worker of the cluster")
            await asyncio.sleep(_ATTEMPT_SECONDS)

    async def _work(self, work: Work) -> None:
        """Does the work once there is no other worker, and until there is."""
        lease = await self._leases.acquire(_WORKER, self.node)
        if lease is None:
            return
        self.worker_control.lease = lease
        log.info("this server became the worker of the cluster", extra={"epoch": lease.epoch})
        try:
            # Renewed from the start: beginning the work may take longer than a lease lasts.
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(renew_until_lost(self._leases, lease))
                beginning = tasks.create_task(self._begin(work, stack))
                keeping.add_done_callback(lambda _: beginning.cancel())
            log.warning("another server became the worker of the cluster")
        finally:
            self.worker_control.lease = None
            with suppress(StorageFailed):
                await self._leases.release(lease)

    @staticmethod
    async def _begin(work: Work, stack: AsyncExitStack) -> None:
        while not await attempt(work(stack), "the worker could not begin its work"):
            await stack.aclose()
            await asyncio.sleep(_ATTEMPT_SECONDS)

    # PostgreSQL's time: the clocks of servers may differ.

    def _now(self) -> datetime:
        return self._clock.now() - self._ahead

    def _measure(self, transaction: Transaction) -> datetime:
        """Returns the time of PostgreSQL, and measures this server's lead over it."""
        before = self._clock.now()
        ((now,),) = transaction.rows(_CLOCK)
        self._ahead = before + (self._clock.now() - before) / 2 - now
        return self._now()

    # The servers.

    async def heartbeat(self, endpoint: str | None, sealed: int | None) -> None:
        """Stores the state and time of this server, which other servers read.

        Args:
            endpoint: its address; None while it starts.
            sealed: the last position in verified files of its event history: the journal
                is not trimmed beyond it. None: it has no files.

        Raises:
            DataDirectoryInUse: a server that started earlier has the same id.
        """
        now = await self._database.run(self._measure)
        server = {
            "endpoint": endpoint,
            "version": __version__,
            "sealed": sealed,
            "role": self._role,
            "started": stored_time(self._started),
            "seen": format_time(now),
            "clockAhead": round(self._ahead.total_seconds(), 1),
        }
        stored = await self._control.get(_SERVER, self.node)
        version = stored.version if stored else 0
        if self._heartbeat_version is not None and version != self._heartbeat_version:
            others = parse_time(stored.document["started"]) if stored else self._started
            if others < self._started:
                raise DataDirectoryInUse("a server runs on a copy of this data directory")
        await self._control.apply([Put(_SERVER, self.node, server, expected=version)])
        self._heartbeat_version = version + 1

    async def keep_noting(self, endpoint: str, sealed: Callable[[], int | None]) -> None:
        """Sends heartbeats of this server until it is cancelled."""
        while True:
            try:
                await self.heartbeat(endpoint, sealed())
            except DataDirectoryInUse as error:
                self._fail(str(error))
                return
            except OpentrailError as error:
                log.warning(
                    "this server's heartbeat in the cluster failed", extra={"error": str(error)}
                )
            except Exception:  # unseen, the journal would be trimmed under it
                log.exception("this server's heartbeat in the cluster failed")
            await asyncio.sleep(_NOTE_SECONDS)

    async def servers(self) -> Sequence[ClusterServer]:
        """Returns the servers of the last day, the worker among them, by id."""
        await self._database.run(self._measure)
        stored = await self._control.scan(_SERVER)
        servers = [_server_of(one.key, one.document) for one in stored]
        return [server for server in servers if self._counts(server)]

    async def forget_servers(self) -> None:
        """Removes the notes of long-lost servers, in the worker.

        Raises:
            LeaseLost: this server is not the worker.
        """
        limit = await self._database.run(self._measure) - _FORGOTTEN_AFTER
        stored = await self._control.scan(_SERVER)
        gone = [one.key for one in stored if _server_of(one.key, one.document).seen < limit]
        if gone:
            await self.worker_control.apply([Remove(_SERVER, node) for node in gone])

    async def store_needed(self, after: int) -> None:
        """Stores the position after which something still needs entries, as the worker.

        Followers run only there. The other servers keep these entries, because each of them may
        become the worker.

        Raises:
            LeaseLost: this server is not the worker.
        """
        await self.worker_control.apply([Put(*_NEEDED, {"after": after})])

    async def needed_by_worker(self) -> int | None:
        """Returns the position that the worker has stored; None before the first one."""
        stored = await self._control.get(*_NEEDED)
        return None if stored is None else int(stored.document["after"])

    async def is_running(self, node: str) -> bool:
        """Returns whether a server has a recent heartbeat."""
        servers = await self.servers()
        now = self._now()
        return any(server.node == node and not server.is_lost(now) for server in servers)

    async def has_running_others(self) -> bool:
        """Returns whether another server runs."""
        servers = await self.servers()
        now = self._now()
        return any(
            server.node != self.node and server.endpoint and not server.is_lost(now)
            for server in servers
        )

    async def require_imports(self, history: Path, last: int) -> None:
        """Returns if event history has every server's imports, or no other server has them.

        Raises:
            UsageError: some are missing, and a running server has them.
        """
        files = sealed_files(history, Series.IMPORTED)
        own = max((file.last for file in files), default=0)
        if own < last and await self.has_running_others():
            raise UsageError(
                f"event history has imported events up to {own} of {last}: copy the files of the "
                "folder history of another server into it first"
            )

    async def append(self, journal: TrimmedJournal, entries: Sequence[NewEntry]) -> int:
        """Appends entries as the worker.

        Raises:
            LeaseLost: this server is not, or no longer, the worker; nothing is recorded.
        """
        lease = self._require_lease()
        return await cast("PostgresJournal", journal).append_fenced(
            entries, lambda transaction: self._leases.fence(transaction, lease)
        )

    def _require_lease(self) -> Lease:
        lease = self.worker_control.lease
        if lease is None:
            raise LeaseLost("this server is not the worker of the cluster")
        return lease

    def sealed_everywhere(self, transaction: Transaction) -> int:
        """Returns the last position in verified files of every server, for the worker alone.

        With files in S3, it is at most the last position there, and waits only for servers that run
        or start: the others download missing files.

        It must be the first call in a transaction that trims the journal. It takes the lock that
        each starting server takes after it has noted its position.

        Raises:
            LeaseLost: this server is not the worker.
        """
        self._leases.fence(transaction, self._require_lease())
        transaction.rows(_LOCK_JOURNAL)
        now = self._measure(transaction)
        documents = [json.loads(body) for (body,) in transaction.rows(_SERVERS, [_SERVER])]
        servers = [_server_of("", document) for document in documents]
        counted = [server for server in servers if self._counts(server)]
        rows = transaction.rows(_NEWEST_FILE, [SHARED_FILE])
        newest = [json.loads(body)["last"] for (body,) in rows]
        if self._shares_files and not newest:
            return 0
        if newest:
            counted = [one for one in counted if one.endpoint is None or not one.is_lost(now)]
        sealed = [server.sealed for server in counted if server.sealed is not None]
        return min([*newest, *sealed], default=0)

    def _counts(self, server: ClusterServer) -> bool:
        """Returns whether records are retained for a server."""
        age = self._now() - server.seen
        return age <= (KEPT_FOR if server.endpoint else _MAX_START)

    async def refresh(self) -> None:
        """Reads the servers and the worker, for `document`."""
        self._servers = await self.servers()
        self._worker = await self._leases.holder(_WORKER)

    def document(self) -> dict[str, Any]:
        """Returns the servers for `/health`, as of the last `refresh`."""
        now = self._now()
        return {
            "isWorker": self.is_worker,
            "servers": [
                {
                    "endpoint": server.endpoint,
                    "version": server.version,
                    "role": server.role,
                    "isWorker": server.node == self._worker,
                    "isLost": server.is_lost(now),
                    "seen": format_time(server.seen),
                    "clockAhead": server.ahead,
                }
                for server in self._servers
            ],
        }

    async def close(self) -> None:
        """Closes the connection for leases."""
        await self._database.close()


# Changes in the control store

#: Seconds between two checks: all servers refuse a revoked key within a second.
_CHANGES_SECONDS = 0.25

Reload = Callable[[], Awaitable[object]]


async def follow_changes(
    control: ControlStore,
    require_own_store: Callable[[], Awaitable[None]],
    reloads: Mapping[str, Reload],
) -> None:
    """Reloads the documents of each kind after a change, until cancelled.

    While they cannot be read, the loaded ones stay in effect; that is logged once. The same applies
    if the store was emptied or replaced: without its keys, calls would not be verified.

    Args:
        control: the control store.
        require_own_store: raises an error if the store is not this server's.
        reloads: kind → the function that reloads its documents.
    """
    known: dict[str, str] = {}
    is_failing = False
    while True:
        await asyncio.sleep(_CHANGES_SECONDS)
        errors: list[str] = []
        try:
            changed = await _changed(control, require_own_store, reloads, known)
        except OpentrailError as error:
            changed = {}
            errors.append(str(error))
        except Exception as error:  # a bug must neither end this nor stay hidden
            log.exception("changes by other servers could not be read")
            changed = {}
            errors.append(repr(error))
        for kind, revision in changed.items():
            try:
                await reloads[kind]()
            except OpentrailError as error:
                errors.append(f"{kind}: {error}")
            except Exception as error:  # the others are still read
                log.exception("changes by other servers could not be read", extra={"kind": kind})
                errors.append(f"{kind}: {error!r}")
            else:
                known[kind] = revision
        if errors and not is_failing:
            log.error(
                "changes by other servers cannot be read; the last known state stays in effect",
                extra={"errors": errors},
            )
        if is_failing and not errors:
            log.info("changes by other servers are read again")
        is_failing = bool(errors)


async def _changed(
    control: ControlStore,
    require_own_store: Callable[[], Awaitable[None]],
    kinds: Collection[str],
    known: Mapping[str, str],
) -> dict[str, str]:
    """Returns the revisions of the kinds that have changed since the known ones."""
    # Read before the reload, so that changes during it show as a newer revision.
    revisions = await control.revisions(list(kinds))
    changed = {kind: revisions[kind] for kind in kinds if known.get(kind) != revisions[kind]}
    if changed:
        await require_own_store()
    return changed
