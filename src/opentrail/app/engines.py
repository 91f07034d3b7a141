"""The engines of a server: one behind each port."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from opentrail.access.administration import NamedKeys
from opentrail.adapters.archived_journal import ArchivedJournal
from opentrail.adapters.aws.object_store import S3Objects
from opentrail.adapters.data_directory.files import DataDirectory, write_durably
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.access_keys import control_place, shared_secret
from opentrail.app.background import run_beside
from opentrail.app.cluster.site import OneServer, Site
from opentrail.app.disk import DiskWatch, file_limits
from opentrail.app.inventory import DataInventory
from opentrail.app.journals import JournalHandlers, journal_place
from opentrail.app.known_positions import (
    keep_mark,
    known_imports,
    mark_journal,
)
from opentrail.app.upstreams import store_access
from opentrail.core.errors import UsageError
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities, directory_identities
from opentrail.ports.clock import Clock
from opentrail.ports.follow import FollowedPositions
from opentrail.ports.journal import Journal, JournalSource, LostPositions, TrimmedJournal
from opentrail.ports.metrics import Metrics
from opentrail.ports.signer import Sealer
from opentrail.settings import Settings
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

_TOKEN_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a server, and the settings that every feature needs."""

    #: The settings, with the keys of the control store in their directory.
    settings: Settings
    clock: Clock
    metrics: Metrics
    catalog: ServiceCatalog
    control: SqlControl
    #: Seals shared secrets in the control store; None if it is not shared.
    sealer: Sealer | None
    inventory: DataInventory
    trimmed_journal: TrimmedJournal
    source: JournalSource
    #: Never opened where the settings have no event history.
    store: IpcEventStore
    journal: Journal
    identities: Identities
    history: History
    #: Unrecorded losses of the journal.
    losses: asyncio.Queue[LostPositions]
    named_keys: NamedKeys
    #: The parts that the server shares with others.
    site: Site
    #: The S3 that trails deliver to.
    objects: S3Objects
    disk: DiskWatch
    #: The positions of wings' followers.
    progress: FollowedPositions


async def open_engines(
    stack: AsyncExitStack, settings: Settings, data: DataDirectory, fail: Callable[[str], None]
) -> Engines:
    """Opens the engines, except the event history process, which opens while calls arrive.

    Args:
        stack: closes them.
        settings: the server's settings.
        data: the open data directory.
        fail: ends the server, because its storage can no longer be trusted.

    Raises:
        StorageFailed: the control store or the journal cannot be opened.
        DataDirectoryInUse: another server uses the journal.
        StateLost: the control store was replaced, with `--auth enforced`.
        UsageError: the master key differs from the shared control store's.
    """
    clock, metrics = SystemClock(), Metrics(settings.has_history)
    place = control_place(settings, data)
    control = place.open()
    stack.push_async_callback(control.close)
    sealer = await place.check(control)
    named_keys = NamedKeys(control, settings.directory)
    await named_keys.load()
    settings = replace(settings, directory=named_keys.all())
    losses: asyncio.Queue[LostPositions] = asyncio.Queue()
    inventory = DataInventory(data, control, in_file=place.in_file)
    control.on_commit(inventory.record_changed)
    stack.push_async_callback(inventory.close)
    objects = S3Objects(partial(store_access, settings))
    site = _site_of(settings, control, data, inventory, clock, objects, metrics, fail)
    stack.push_async_callback(site.close)
    handlers = JournalHandlers(
        fail,
        fail if settings.on_record_failure == "refuse" else _log_broken,
        losses.put_nowait,
        inventory.record_committed,
    )
    known = await site.join()
    trimmed_journal = await site.open_journal(stack, known, handlers)
    source = journal_place(settings, data).source()
    await inventory.verify(trimmed_journal.head, source)
    if settings.verifies:
        inventory.require_store()
    for lost in trimmed_journal.lost:
        losses.put_nowait(lost)
    store = IpcEventStore(
        data.history,
        source,
        settings.history_seal_records,
        lambda: history.follower.catch_up_to(trimmed_journal.head),
        trimmed_journal.repair,
        max(await known_imports(control), inventory.imported),
        cache=site.cache,
        max_bytes=file_limits(settings, data.root).file_bytes,
    )
    journal = ArchivedJournal(trimmed_journal, site.archive(store))
    stack.push_async_callback(mark_journal, control, journal, inventory.record_marked)
    stack.push_async_callback(journal.close)
    run_beside(stack, keep_mark(control, journal, inventory.record_marked))
    run_beside(stack, inventory.keep(fail))
    directory = directory_identities(settings.directory)
    identities = Identities(control, directory, is_stored=not site.learns_from_others)
    await identities.load()
    stack.push_async_callback(store.close)
    metrics.control_store_failing.set_function(lambda: control.failure is not None)
    token_key = (
        await shared_secret(control, sealer, "page-tokens") if sealer else _token_key(data.keys)
    )
    retention = timedelta(days=settings.history_retention_days)
    data_days = settings.data_event_days
    data_retention = None if data_days is None else timedelta(days=data_days)
    history = History(store, clock, metrics, token_key, retention, journal.newest, data_retention)
    if site.keeps_history:
        history.follower.expect(trimmed_journal.head, known.sealed if known else 0)
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
        site=site,
        objects=objects,
        disk=DiskWatch(data, settings, metrics),
        progress=FollowedPositions(),
    )


def _site_of(
    settings: Settings,
    control: SqlControl,
    data: DataDirectory,
    inventory: DataInventory,
    clock: Clock,
    objects: S3Objects,
    metrics: Metrics,
    fail: Callable[[str], None],
) -> Site:
    """Returns the kind of a server: a member if journal and control store share a database.

    Raises:
        UsageError: the settings require a member.
    """
    if settings.journal != "sqlite":
        # Imported here, so that servers without it do not load the code for PostgreSQL.
        from opentrail.app.cluster.member import Member
        from opentrail.app.cluster.postgresql import is_cluster

        if is_cluster(settings):
            return Member(settings, control, data, inventory, clock, objects, metrics, fail)
    if settings.role != "all":
        raise UsageError("--role needs --journal and --control-store in one PostgreSQL database")
    if settings.files is not None:
        raise UsageError("--files needs --journal and --control-store in one PostgreSQL database")
    return OneServer(settings, control, data, inventory)


def _log_broken(reason: str) -> None:
    """With `allow`, calls continue and their losses are counted; only a restart can help."""
    log.critical("the journal is broken", extra={"reason": reason})


def _token_key(folder: Path) -> bytes:
    """Returns the key that seals page tokens, made at the first start.

    A damaged key is replaced, which invalidates earlier page tokens.
    """
    file = folder / "page-token.key"
    if not file.exists() or file.stat().st_size != _TOKEN_KEY_BYTES:
        if file.exists():
            log.warning("page token key damaged and replaced")
        write_durably(file, secrets.token_bytes(_TOKEN_KEY_BYTES))
    return file.read_bytes()
