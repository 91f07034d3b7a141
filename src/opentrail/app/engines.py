"""The engines of a server: which one is behind which port."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from opentrail.access.named_keys import NamedKeys
from opentrail.adapters.archived_journal import ArchivedJournal, NoArchive
from opentrail.adapters.aws.object_store import S3Objects
from opentrail.adapters.files import DataDirectory, write_durably
from opentrail.adapters.ipc.events import HistoryCache, IpcEventStore
from opentrail.adapters.sql import SqlControl
from opentrail.adapters.system import SystemClock
from opentrail.app.access import store_access
from opentrail.app.access_keys import is_shared, open_control, open_sealer, shared_secret
from opentrail.app.background import run_beside
from opentrail.app.disk import DiskWatch, file_limits
from opentrail.app.inventory import DataInventory, require_same_use
from opentrail.app.journals import is_in_files, open_journal, source_of
from opentrail.app.known_positions import (
    keep_mark,
    known_imports,
    known_positions,
    mark_journal,
)
from opentrail.app.shared_file_check import SharedFileCheck
from opentrail.app.shared_files import SharedFiles
from opentrail.app.shared_imports import SharedImports
from opentrail.core.errors import ObjectStoreError, UsageError
from opentrail.follow import FollowedPositions
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities, directory_identities
from opentrail.installation import command_for
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import KnownPositions, LostPositions, TrimmedJournal
from opentrail.ports.journal_source import JournalSource
from opentrail.ports.sealer import Sealer
from opentrail.settings import Settings
from opentrail.wire.service_models import ServiceCatalog

if TYPE_CHECKING:
    from opentrail.app.cluster import Cluster

log = logging.getLogger(__name__)

_TOKEN_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a server, and what every feature needs."""

    #: The settings, with the keys of the control store in their directory.
    settings: Settings
    clock: Clock
    metrics: Metrics
    catalog: ServiceCatalog
    control: SqlControl
    #: Seals what servers share in the control store; None if it is not shared.
    sealer: Sealer | None
    inventory: DataInventory
    trimmed_journal: TrimmedJournal
    source: JournalSource
    #: Never opened where the settings have no event history.
    store: IpcEventStore
    journal: ArchivedJournal
    identities: Identities
    history: History
    #: Losses of the journal that are not recorded yet.
    losses: asyncio.Queue[LostPositions]
    named_keys: NamedKeys
    #: The servers that share journal and control store; None if there are no others.
    cluster: Cluster | None
    #: The S3 that trails deliver to.
    objects: S3Objects
    #: Files of event history there; None: there are none.
    files: SharedFiles | None
    #: Files of imported events there; None: there are none.
    imports: SharedImports | None
    #: Compares files in S3 with their list; None if there are none.
    file_check: SharedFileCheck | None
    disk: DiskWatch
    #: The positions of followers that wings run.
    progress: FollowedPositions


async def open_engines(
    stack: AsyncExitStack, settings: Settings, data: DataDirectory, fail: Callable[[str], None]
) -> Engines:
    """Opens the engines; all but the process of event history, which opens while calls come.

    Args:
        stack: closes them.
        settings: the server's settings.
        data: the open data directory.
        fail: ends the server, because its storage can no longer be trusted.

    Raises:
        StorageFailed: the control store or the journal cannot be opened.
        DataDirectoryInUse: another server uses the journal.
        StateLost: the control store is not the one that it was, with `--auth enforced`.
        UsageError: the master key is not that of the shared control store.
    """
    clock = SystemClock()
    control = open_control(settings, data)
    stack.push_async_callback(control.close)
    if not is_shared(settings):
        await control.check()
    sealer = await open_sealer(settings, control, data) if is_shared(settings) else None
    named_keys = NamedKeys(control, settings.directory)
    await named_keys.load()
    settings = replace(settings, directory=named_keys.all())
    losses: asyncio.Queue[LostPositions] = asyncio.Queue()
    inventory = DataInventory(data, control, in_file=not is_shared(settings))
    control.on_commit(inventory.note_changed)
    stack.push_async_callback(inventory.close)
    cluster = cluster_of(settings, control, inventory.installation, clock, fail)
    if cluster is not None:
        stack.push_async_callback(cluster.close)
        await inventory.require_known_store()
    if is_shared(settings):
        await require_same_use(control, cluster is not None)
    objects = S3Objects(partial(store_access, settings))
    retention = timedelta(days=settings.history_retention_days)
    files = _shared_files(settings, cluster, objects, data, clock, retention)
    imports = SharedImports(files, control, data.history, clock, retention) if files else None
    cache = _cache_of(settings, files)
    if cluster is None:
        known = await known_positions(control, data.history, inventory.written)
    else:
        sources = (files, imports, cache) if settings.has_history else (None, None, None)
        known = await _join(cluster, *sources, data, control, inventory, settings.has_history)
    trimmed_journal = await open_journal(
        stack,
        settings,
        data,
        known,
        node=inventory.installation,
        cluster=cluster,
        control_store=await inventory.ensure_store_id() if cluster else "",
        fail=fail,
        on_broken=fail if settings.on_record_failure == "refuse" else _log_broken,
        on_lost=losses.put_nowait,
        on_written=inventory.note_committed,
    )
    source = source_of(settings, data)
    await inventory.judge(trimmed_journal.head, source)
    if settings.auth == "enforced":
        inventory.require_store()
    for lost in trimmed_journal.lost:
        losses.put_nowait(lost)
    metrics = Metrics(settings.has_history)
    store = IpcEventStore(
        data.history,
        source,
        settings.history_seal_records,
        lambda: history.follower.catch_up_to(trimmed_journal.head),
        trimmed_journal.repair,
        max(await known_imports(control), inventory.imported),
        cache=cache,
        max_bytes=file_limits(settings, data.root)[0],
    )
    journal = ArchivedJournal(trimmed_journal, store if settings.has_history else NoArchive())
    stack.push_async_callback(mark_journal, control, journal, inventory.note_marked)
    stack.push_async_callback(journal.close)
    run_beside(stack, keep_mark(control, journal, inventory.note_marked))
    run_beside(stack, inventory.keep(fail))
    directory = directory_identities(settings.directory)
    identities = Identities(control, directory, is_stored=cluster is None)
    await identities.load()
    stack.push_async_callback(store.close)
    if files is not None:
        files.on_read = lambda outcome: metrics.history_blocks.labels(outcome).inc()
    metrics.control_store_failing.set_function(lambda: control.failure is not None)
    if cluster is not None:
        metrics.worker.set_function(lambda: cluster.is_worker)
    token_key = (
        await shared_secret(control, sealer, "page-tokens") if sealer else _token_key(data.keys)
    )
    data_days = settings.data_event_days
    data_retention = None if data_days is None else timedelta(days=data_days)
    history = History(store, clock, metrics, token_key, retention, journal.newest, data_retention)
    return Engines(
        settings=settings,
        clock=clock,
        metrics=metrics,
        catalog=ServiceCatalog(),
        control=control,
        sealer=sealer,
        inventory=inventory,
        trimmed_journal=trimmed_journal,
        source=source,
        store=store,
        journal=journal,
        identities=identities,
        history=history,
        losses=losses,
        named_keys=named_keys,
        cluster=cluster,
        objects=objects,
        files=files,
        imports=imports,
        file_check=_checked_files(stack, files, cluster, source, clock, metrics),
        disk=DiskWatch(data, settings, metrics),
        progress=FollowedPositions(),
    )


async def _join(
    cluster: Cluster,
    files: SharedFiles | None,
    imports: SharedImports | None,
    cache: HistoryCache | None,
    data: DataDirectory,
    control: ControlStore,
    inventory: DataInventory,
    has_history: bool,
) -> KnownPositions | None:
    """Downloads what event history lacks, notes what it has, and returns the known positions.

    With a cache, it downloads the indexes of files only. All of it before the journal is opened, so
    that what this server lacks is not trimmed.
    """
    if files is not None:
        files.cluster = await inventory.ensure_store_id()
        with suppress(ObjectStoreError):  # before the first upload, it is tried again
            await files.claim()
        await cluster.note(None, 0)
        if cache is None:
            await files.fetch()
        else:
            cache.files = await files.fetch_indexes()
    shared = cache.files[-1].last if cache and cache.files else 0
    known = await known_positions(control, data.history, inventory.written, shared)
    sealed = known.sealed if known else 0
    await cluster.note(None, sealed if has_history else None)
    if imports is not None:
        await imports.take_over()
    elif has_history:
        await cluster.require_imports(data.history, await known_imports(control))
    return known


def _shared_files(
    settings: Settings,
    cluster: Cluster | None,
    objects: S3Objects,
    data: DataDirectory,
    clock: Clock,
    kept: timedelta,
) -> SharedFiles | None:
    if settings.files is None:
        return None
    if cluster is None:
        raise UsageError("--files needs --journal and --control-store in one PostgreSQL database")
    return SharedFiles(
        settings.files,
        objects,
        cluster.worker_control,
        data.history,
        settings.history_seal_records,
        clock,
        kept,
    )


def _checked_files(
    stack: AsyncExitStack,
    files: SharedFiles | None,
    cluster: Cluster | None,
    source: JournalSource,
    clock: Clock,
    metrics: Metrics,
) -> SharedFileCheck | None:
    if files is None or cluster is None:
        return None
    control = cluster.worker_control
    check = SharedFileCheck(files, control, source, clock, lambda: cluster.is_worker)
    metrics.missing_files.set_function(lambda: len(check.missing))
    run_beside(stack, check.run())
    return check


def _cache_of(settings: Settings, files: SharedFiles | None) -> HistoryCache | None:
    if files is None or settings.history_cache is None or not settings.has_history:
        return None
    if importlib.util.find_spec("fsspec") is None:
        raise UsageError(f"--history-cache needs the package fsspec: {command_for('postgres')}")
    return HistoryCache(files.cache, settings.history_cache, files.read)


def cluster_of(
    settings: Settings,
    control: SqlControl,
    node: str,
    clock: Clock,
    fail: Callable[[str], None],
) -> Cluster | None:
    """Returns the cluster that a server is of; None if it shares its engines with no other.

    Raises:
        UsageError: its role is that of a server of a cluster.
    """
    if not is_in_files(settings):
        # Here, so that servers without it do not load the code for PostgreSQL.
        from opentrail.app.cluster import Cluster, is_cluster

        if is_cluster(settings):
            if settings.history_size is not None or settings.data_event_days is not None:
                raise UsageError(
                    "servers that share a journal accept neither --history-size nor "
                    "--data-event-days"
                )
            return Cluster(settings, control, node, clock, fail)
    if settings.role != "all":
        raise UsageError("--role needs --journal and --control-store in one PostgreSQL database")
    return None


def _log_broken(reason: str) -> None:
    """With `allow`, calls go on and their losses are counted; only a restart can help."""
    log.critical("the journal is broken", extra={"reason": reason})


def _token_key(folder: Path) -> bytes:
    """Returns the key that page tokens are sealed with, made at the first start.

    A damaged key is replaced: tokens of earlier pages are then invalid.
    """
    file = folder / "page-token.key"
    if not file.exists() or file.stat().st_size != _TOKEN_KEY_BYTES:
        if file.exists():
            log.warning("page token key damaged and replaced")
        write_durably(file, secrets.token_bytes(_TOKEN_KEY_BYTES))
    return file.read_bytes()
