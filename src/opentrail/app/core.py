"""The core of a server: the consumers of its journal's records."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

from opentrail.access.resource_policies import removal
from opentrail.adapters.archived_journal import ArchivedJournal
from opentrail.adapters.aws.services import (
    CloudWatchLogGroups,
    KmsKeys,
    ServiceClients,
    SnsTopics,
)
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.adapters.keys.rsa import RsaSigner
from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.adapters.queries.query_children import QueryChildren
from opentrail.adapters.queries.query_files import QueryFiles
from opentrail.api.services import NoOrganizations, Services
from opentrail.app.background import run_beside
from opentrail.app.cluster.site import Site
from opentrail.app.disk import REASONS, DiskWatch
from opentrail.app.engines import Engines
from opentrail.app.losses import LeftOutCalls, record_expired, record_gaps, record_losses
from opentrail.app.retention import HeldEntries, Retention
from opentrail.app.upstreams import has_own_rights, service_access
from opentrail.app.wing import Core, Wing
from opentrail.core.logs import attempt
from opentrail.history.event_history import History
from opentrail.identity.known_identities import Identities, directory_identities
from opentrail.lake.channel_registry import Channels
from opentrail.lake.queries import Queries
from opentrail.lake.store_importer import StoreImporter
from opentrail.lake.store_imports import StoreImports
from opentrail.lake.store_keeping import StoreKeeper
from opentrail.lake.store_registry import Stores
from opentrail.ports.event_store import Excess, ExpiredEvents
from opentrail.ports.follow import catch_up, follow
from opentrail.ports.journal import TrimmedJournal
from opentrail.ports.queries import ResultDelivery
from opentrail.ports.signer import Signer
from opentrail.trails.comparison import BucketComparison
from opentrail.trails.delivery import LogDelivery, RetryLimit
from opentrail.trails.delivery_rounds import Deliveries, TrailDeliveries
from opentrail.trails.destinations import Destinations
from opentrail.trails.digest import DigestChains
from opentrail.trails.digest_chains import BucketDigests
from opentrail.trails.plans import EntrySelector
from opentrail.trails.query_results import S3ResultDelivery
from opentrail.trails.registry import TrailRegistry

log = logging.getLogger(__name__)


_CLEAN_UP_SECONDS = 60.0
#: Number of newest journal segments that are never trimmed.
_RETAINED_SEGMENTS = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the disk space of records; `record` records expired events."""

    disk: DiskWatch
    record: Callable[[], Awaitable[None]]


class Housekeeping:
    """Deletes expired and duplicate data that nothing needs.

    Args:
        journal: is trimmed.
        store: its files expire.
        history: reports the expired events.
        retention: finds the needed entries.
        deliveries: deliver earlier if space is short.
        site: the parts shared with other servers.
        limits: limits on the disk space of records, and the recorder of expired events.
        stores: write their files earlier if the journal needs space.
    """

    def __init__(
        self,
        journal: TrimmedJournal,
        store: IpcEventStore,
        history: History,
        retention: Retention,
        deliveries: Deliveries,
        site: Site,
        limits: Limits | None = None,
        stores: StoreKeeper | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._history = history
        self._retention = retention
        self._deliveries = deliveries
        self._site = site
        self._limits = limits
        self._stores = stores

    async def run(self) -> None:
        """Runs until cancelled; the next round makes up for a failed one."""
        disk = self._limits.disk if self._limits else None
        cleaned_at = time.monotonic()
        while True:
            if disk is not None:
                await attempt(disk.check(), "the disk cannot be measured")
            if (disk and disk.is_over) or time.monotonic() - cleaned_at >= _CLEAN_UP_SECONDS:
                await attempt(self.clean_up(), "housekeeping failed")
                cleaned_at = time.monotonic()
            await asyncio.sleep(_CLEAN_UP_SECONDS if disk is None else disk.pause)

    async def clean_up(self) -> None:
        """Expires events by age, trims the journal, then expires events that exceed the space."""
        # Events that nothing needs expire by their age.
        before, limits = self._history.kept_since, self._limits
        await self._store.refresh()
        held = await self._retention.held()
        await self._expire(before, held.expirable, self._history.data_kept_since)

        # Files that other servers have written.
        is_listed = await self._site.refresh_files(self._store)
        await self._store.refresh()
        if is_listed and self._journal.first > self._store.position + 1:
            self._site.refuse_gap()
        if not self._site.is_worker:
            return  # the worker does the rest
        await self._site.share(held.expirable)

        # The journal. Stores write their next file earlier if that frees a segment.
        await self._trim(held)
        while self._stores and self._pinned_bytes(held):
            trimmable = held.trimmable
            await self._stores.catch_up()
            held = await self._retention.held()
            await self._trim(held)
            if held.trimmable == trimmable:
                break

        # The space for the rest.
        if limits is not None and self._site.makes_room:
            await self._make_room(limits.disk, before, held)

    async def _trim(self, held: HeldEntries) -> None:
        trimmed = await self._journal.trim(held.trimmable, _RETAINED_SEGMENTS)
        if trimmed:
            log.info("trimmed the journal", extra={"segments": trimmed})

    def _pinned_bytes(self, held: HeldEntries) -> int:
        """Returns the bytes that event data stores keep in the journal."""
        whole = self._journal.trimmable_bytes(held.sealed, _RETAINED_SEGMENTS)
        return whole - self._journal.trimmable_bytes(held.trimmable, _RETAINED_SEGMENTS)

    async def _make_room(
        self, disk: DiskWatch, recorded_before: datetime, held: HeldEntries
    ) -> None:
        """Expires the oldest events that nothing needs while they take too much of the disk.

        Event history makes room for the journal of stores only if the disk is full.
        """
        state = await self._store.refresh()
        if state.sealed_events:
            disk.bytes_per_event = state.sealed_bytes / state.sealed_events
        disk.left_over, disk.holders = None, ()
        for reason in REASONS:
            await disk.check()
            pinned = self._pinned_bytes(held) if reason == "size" else 0
            if excess := disk.excess(reason, pinned):
                last = min(held.expirable, held.sealed)
                await self._expire(recorded_before, last, None, excess)
                await disk.check()
            if left_over := disk.excess(reason):
                disk.left_over, disk.holders = left_over, held.holders()
                self._deliveries.catch_up()

    async def _expire(
        self,
        recorded_before: datetime,
        last: int,
        data_before: datetime | None,
        excess: Excess | None = None,
    ) -> None:
        """Expires events up to a position, and records that."""
        gone = await self._store.expire(recorded_before, last, data_before, excess)
        if gone:
            log.info("expired from event history", extra={"records": gone})
        if self._limits is not None:
            await attempt(self._limits.record(), "an expiry cannot be recorded yet")


# The start of the core

#: Seconds for which records accumulate between two inserts into history.
_HISTORY_LINGER = 0.05
#: The same while many records arrive.
_MAX_HISTORY_LINGER = 0.25
#: Maximum seconds between retries of history after a failure; lookups miss records until then.
_MAX_HISTORY_BACKOFF = 1.0
#: Seconds between two writes of identities, which are in memory immediately. With a longer
#: interval, records are read from disk again when many arrive.
_IDENTITIES_LINGER = 0.5
#: The same where other servers' calls teach identities, and nothing is written.
_OTHERS_LINGER = 0.02
#: Seconds between two checks of the signing keys.
_KEYS_EVERY = 60.0
#: Seconds between two writes of what channels received.
_CHANNELS_EVERY = 2.0


def core_of(
    stack: AsyncExitStack,
    engines: Engines,
    data: DataDirectory,
    account: Callable[[], str],
    endpoint_url: str,
    console_url: str,
) -> Core:
    """Returns the interface for wings; the arguments are its members."""
    settings, site, journal = engines.settings, engines.site, engines.trimmed_journal
    return Core(
        stack,
        settings,
        data,
        engines,
        TrailRegistry(engines.control, settings.trails_per_region),
        site.worker_control,
        ArchivedJournal(journal, site.archive(engines.store), partial(site.append, journal)),
        EntrySelector(engines.journal),
        engines.objects,
        ServiceClients(partial(service_access, settings)),
        account,
        endpoint_url,
        console_url,
    )


async def start_history(stack: AsyncExitStack, engines: Engines) -> None:
    """Starts event history, and returns once all identities in the journal are known.

    Event history starts first: it has the records that the journal has trimmed.

    Args:
        stack: stops the started parts.
        engines: the open engines.
    """
    if engines.site.keeps_history:
        run_beside(stack, _follow_history(engines))
    await catch_up(engines.journal, engines.identities)
    linger = _OTHERS_LINGER if engines.site.learns_from_others else _IDENTITIES_LINGER
    run_beside(stack, follow(engines.journal, engines.identities, linger))


async def start_core(core: Core, wings: Sequence[Wing], remake_buckets: bool = False) -> Services:
    """Starts the other followers of the journal, and returns the services that the API needs.

    Args:
        core: the open engines; its stack stops the started parts.
        wings: additional followers of the journal.
        remake_buckets: whether to recreate missing buckets of trails.
    """
    stack, settings, engines, data = core.stack, core.settings, core.engines, core.data
    clock, metrics = engines.clock, engines.metrics
    control, journal, site = engines.control, engines.journal, engines.site
    objects, trails = core.objects, core.trails
    key_lifetime = timedelta(days=settings.signing_key_days)
    signer = RsaSigner(data.keys, clock, key_lifetime, control, engines.sealer)
    await signer.check()
    run_beside(stack, _check_keys(signer))
    selector, worker_control = core.selector, core.worker_control
    in_bucket = BucketDigests(objects, signer, RsaVerifier())
    retries = RetryLimit(clock)
    digest_interval = timedelta(seconds=settings.digest_interval)
    local = TrailDeliveries(
        TrailRegistry(worker_control, settings.trails_per_region),
        journal,
        worker_control,
        objects,
        LogDelivery(selector, worker_control, objects, clock, metrics, retries),
        DigestChains(
            worker_control, objects, signer, clock, metrics, digest_interval, in_bucket, retries
        ),
        BucketComparison(worker_control, objects, in_bucket, journal, selector, clock),
        timedelta(seconds=settings.delivery_interval),
        [sink for wing in wings for sink in wing.sinks],
    )
    deliveries = site.deliveries(local, trails, clock)

    async def work(stack: AsyncExitStack) -> None:
        """Begins the work that only one server of a cluster may do at a time."""
        if remake_buckets:
            for bucket in await local.remake_lost_buckets():
                log.warning(
                    "trail bucket was missing; recreated it with a new digest chain",
                    extra={"bucket": bucket},
                )
        stack.push_async_callback(deliveries.stop)
        await deliveries.start()
        for wing in wings:
            for follower in wing.followers:
                run_beside(stack, follower())
        run_beside(stack, record_losses(journal, engines.losses, clock, core.account))
        if keeper is not None:
            run_beside(stack, keeper.run())
        if importer is not None:
            run_beside(stack, importer.run())

    stores = Stores(control, journal.newest, clock, lambda store: [removal(store.arn)])
    store_files = site.store_files(engines.trimmed_journal)
    fitting = partial(engines.disk.fitting_positions, engines.trimmed_journal)
    keeper = StoreKeeper(stores, store_files, journal, clock, fitting) if store_files else None
    if store_files:
        stores.table = store_files.table
    takes_imports = store_files is not None and store_files.takes_log_files
    imports = StoreImports(control, clock, is_supported=takes_imports)
    importer = (
        StoreImporter(imports, stores, store_files, objects, clock)
        if store_files and takes_imports
        else None
    )
    site.follow_others(stack, engines.store)
    await site.start_work(stack, work, partial(_catch_up, core))
    retention = Retention(
        engines.trimmed_journal,
        engines.store,
        engines.identities,
        deliveries,
        site,
        engines.progress,
        keeper,
    )
    housekeeping = Housekeeping(
        engines.trimmed_journal,
        engines.store,
        engines.history,
        retention,
        deliveries,
        site,
        Limits(engines.disk, partial(_record_expired, core)),
        keeper,
    )
    if site.keeps_history:
        run_beside(stack, housekeeping.run())
    site.announce(stack, _named(core), retention.sealed)
    await record_gaps(data.lost, journal, clock, core.account)
    node = engines.inventory.installation
    left_out = LeftOutCalls(data.left_out, node, journal, clock, core.account)
    metrics.left_out.read = left_out.totals
    run_beside(stack, left_out.keep_recording())
    run_beside(stack, engines.trimmed_journal.keep_checking())
    groups, topics = CloudWatchLogGroups(core.clients), SnsTopics(core.clients)
    organizations = next((wing.organizations for wing in wings if wing.organizations), None)
    destinations = Destinations(
        objects,
        topics,
        groups,
        KmsKeys(core.clients),
        settings.needs_bucket_policy,
        has_own_rights=has_own_rights(settings),
        trails=trails.all_and_retired,
    )
    return Services(
        engines.history if site.keeps_history else None,
        trails,
        deliveries,
        control,
        journal,
        destinations,
        signer,
        clock,
        organizations or NoOrganizations(),
        await _queries(core, S3ResultDelivery(objects, destinations, signer), stores),
        stores if keeper else None,
        keeper,
        imports=imports if keeper else None,
        channels=_channels(core, stores) if keeper else None,
    )


def _channels(core: Core, stores: Stores) -> Channels:
    """Returns the channels; what they receive is stored every few seconds, and at the end."""
    channels = Channels(core.engines.control, stores, lambda arn: [removal(arn)])

    async def save() -> None:
        await attempt(channels.save_statuses(), "the status of channels cannot be stored")

    async def keep_saving() -> None:
        while True:
            await asyncio.sleep(_CHANNELS_EVERY)
            await save()

    core.stack.push_async_callback(save)
    run_beside(core.stack, keep_saving())
    return channels


async def _queries(core: Core, delivery: ResultDelivery, stores: Stores) -> Queries | None:
    """Returns what runs SQL over events; None without event history."""
    engines, history = core.engines, core.engines.history
    if not engines.site.keeps_history:
        return None
    files = QueryFiles(core.data.queries)
    runner = QueryChildren(
        core.data.history,
        core.data.stores,
        engines.source,
        files,
        lambda: (history.kept_since, history.data_kept_since),
        engines.clock,
        engines.site.files_of_queries(engines.store),
    )
    store = engines.site.query_store(files)
    queries = Queries(runner, store, engines.clock, delivery, stores)
    await queries.open()
    core.stack.push_async_callback(queries.close)
    return queries


async def _record_expired(core: Core) -> None:
    """Records expired events, as the worker."""
    engines = core.engines
    if not engines.site.is_worker:
        return

    def count(events: ExpiredEvents) -> None:
        engines.metrics.expired.labels(events.reason).inc(events.count)

    journal, history = core.worker_journal, core.data.history
    await record_expired(history, journal, engines.clock, count, core.account)


def _named(core: Core) -> str:
    """Returns the endpoint's address as shown by other servers."""
    url = urlsplit(core.endpoint_url)
    return core.settings.listen.name_url(url.port or 0, url.scheme == "https")


async def _catch_up(core: Core, stack: AsyncExitStack) -> None:
    """Returns once this server knows the previous worker's results, and stores identities."""
    engines = core.engines
    await engines.journal.newest()
    stored = Identities(core.worker_control, directory_identities(core.settings.directory))
    await stored.load()
    run_beside(stack, follow(engines.journal, stored, _IDENTITIES_LINGER))


async def _follow_history(engines: Engines) -> None:
    """Opens event history and feeds it, while calls are recorded already."""
    await engines.store.open(is_required=False)
    follower, journal = engines.history.follower, engines.journal
    follower.catch_up_to(journal.head)
    await follow(
        journal,
        follower,
        _HISTORY_LINGER,
        follower.flush_now,
        _MAX_HISTORY_LINGER,
        _MAX_HISTORY_BACKOFF,
    )


async def _check_keys(signer: Signer) -> None:
    """Compares the signing keys with the remembered ones, once a minute."""
    while True:
        await asyncio.sleep(_KEYS_EVERY)
        await attempt(signer.check(), "the signing keys cannot be checked")
