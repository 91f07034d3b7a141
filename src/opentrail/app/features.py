"""What a server does with the records of its journal: history, trails, Insights and the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from opentrail.adapters.aws.object_store import S3Objects
from opentrail.adapters.aws.organizations import UpstreamOrganizations
from opentrail.adapters.aws.services import (
    CloudWatchLogGroups,
    EventBridgeBus,
    KmsKeys,
    ServiceClients,
    SnsTopics,
)
from opentrail.adapters.configured_organizations import ConfiguredOrganizations
from opentrail.adapters.files import DataDirectory
from opentrail.adapters.rsa import RsaSigner
from opentrail.adapters.rsa_verifier import RsaVerifier
from opentrail.api.operation import Services
from opentrail.app.access import service_access, store_access
from opentrail.app.background import run_beside
from opentrail.app.engines import Engines
from opentrail.app.housekeeping import Housekeeping
from opentrail.app.insights import WatchProcess, has_insights, sources
from opentrail.app.losses import record_gaps, record_losses
from opentrail.app.regained import Regaining, Take
from opentrail.core.errors import OpentrailError, StorageFailed
from opentrail.core.organization import Organization
from opentrail.follow import catch_up, follow
from opentrail.insights.expected import ExpectedIncidents
from opentrail.insights.follower import Insights
from opentrail.organizations.administration import OrganizationAdministration
from opentrail.ports.organizations import Organizations
from opentrail.ports.signer import Signer
from opentrail.settings import Settings
from opentrail.trails.bucket_digests import BucketDigests
from opentrail.trails.comparison import BucketComparison
from opentrail.trails.delivery import LogDelivery
from opentrail.trails.destinations import Destinations
from opentrail.trails.digest import DigestChains
from opentrail.trails.members import TrailMembers
from opentrail.trails.plans import EntrySelector
from opentrail.trails.registry import TrailRegistry
from opentrail.trails.sinks.cloudwatch_logs import CloudWatchLogsSink
from opentrail.trails.sinks.eventbridge import EntryMatcher, EventBridgeFollower
from opentrail.trails.sinks.sns import SnsSink
from opentrail.trails.worker import TrailDeliveries

log = logging.getLogger(__name__)

#: Seconds for which records gather between two inserts into history, and when they are many.
_HISTORY_LINGER, _MAX_HISTORY_LINGER = 0.05, 0.25
#: Identities are known in memory at once; storing them may take its time. At most so long: records
#: that are older are read from disk again when many arrive.
_IDENTITIES_LINGER = 0.5
#: Seconds of events that are put on an event bus together.
_BUS_LINGER = 0.5
#: Seconds of events that are counted for Insights together, and between two looks at whether any
#: trail wants them.
_INSIGHTS_LINGER, _INSIGHTS_WANTED = 1.0, 5.0
#: Seconds between two looks at which accounts the organization has.
_MEMBERS_EVERY = 60.0
#: Seconds between two checks of the signing keys.
_KEYS_EVERY = 60.0


async def start_features(
    stack: AsyncExitStack,
    engines: Engines,
    data: DataDirectory,
    fail: Callable[[str], None],
    imports: Take,
    remake_buckets: bool = False,
) -> Services:
    """Starts the followers of the journal, and returns what the API needs of them.

    Args:
        stack: stops them.
        engines: the open engines.
        data: the open data directory.
        fail: ends the server, because its storage cannot be trusted any more.
        imports: imports the files of a body (imports/batch.py).
        remake_buckets: whether buckets of trails that are gone are created again.
    """
    settings, clock, metrics = engines.settings, engines.clock, engines.metrics
    control, journal = engines.control, engines.journal
    signer = RsaSigner(data.keys, clock, timedelta(days=settings.signing_key_days), control)
    await signer.check()
    run_beside(stack, _check_keys(signer))
    objects = S3Objects(store_access(settings))
    trails = TrailRegistry(control, settings.trails_per_region)
    selector = EntrySelector(journal)
    clients = ServiceClients(partial(service_access, settings))
    topics, groups = SnsTopics(clients), CloudWatchLogGroups(clients)
    in_bucket = BucketDigests(objects, signer, RsaVerifier())
    digest_interval = timedelta(seconds=settings.digest_interval)
    deliveries = TrailDeliveries(
        trails,
        journal,
        control,
        objects,
        LogDelivery(selector, control, objects, clock, metrics),
        DigestChains(control, objects, signer, clock, metrics, digest_interval, in_bucket),
        BucketComparison(control, objects, in_bucket, journal, selector, clock),
        timedelta(seconds=settings.delivery_interval),
        (
            SnsSink(control, topics, clock, metrics),
            CloudWatchLogsSink(control, groups, clock, metrics, selector.entries_of_note),
        ),
    )
    # What an earlier run learned must be known before the first call is recorded.
    run_beside(stack, _follow_history(engines, fail))
    await catch_up(journal, engines.identities)
    run_beside(stack, follow(journal, engines.identities, _IDENTITIES_LINGER))
    stack.push_async_callback(deliveries.stop)
    if remake_buckets:
        for bucket in await deliveries.remake_lost_buckets():
            log.warning(
                "trail bucket was gone and has been created again with a new digest chain",
                extra={"bucket": bucket},
            )
    source = _organizations(settings, clients)
    run_beside(stack, _follow_members(TrailMembers(trails, source, journal, clock)))
    await deliveries.start()
    run_beside(stack, _regain(engines, Regaining(control, objects, journal, clock, imports)))
    if settings.event_bridge == "auto":
        matcher = partial(_matcher, trails)
        bus = EventBridgeBus(clients)
        sink = EventBridgeFollower(control, bus, clock, metrics, matcher, lambda: journal.head)
        run_beside(stack, follow(journal, sink, _BUS_LINGER))
    insights = _start_insights(stack, engines, data, trails)
    housekeeping = Housekeeping(
        engines.sqlite, engines.store, engines.history, engines.identities, deliveries
    )
    run_beside(stack, housekeeping.run())
    await record_gaps(data.lost, journal, clock)
    run_beside(stack, record_losses(journal, engines.losses, clock))
    run_beside(stack, engines.sqlite.keep_checking())
    enforced = settings.bucket_policy_check == "enforced"
    return Services(
        engines.history,
        trails,
        deliveries,
        control,
        journal,
        Destinations(objects, topics, groups, KmsKeys(clients), enforced),
        signer,
        clock,
        insights,
        OrganizationAdministration(source, control),
    )


async def _follow_history(engines: Engines, fail: Callable[[str], None]) -> None:
    """Opens event history and feeds it, while calls are recorded already."""
    try:
        await engines.store.open()
    except StorageFailed as error:
        fail(str(error))
        return
    history = engines.history
    history.catch_up_to(engines.journal.head)
    await follow(engines.journal, history, _HISTORY_LINGER, history.hurry, _MAX_HISTORY_LINGER)


async def _check_keys(signer: Signer) -> None:
    """Compares the signing keys with what is remembered of them, once a minute."""
    while True:
        await asyncio.sleep(_KEYS_EVERY)
        try:
            await signer.check()
        except OpentrailError as error:
            log.warning("the signing keys cannot be checked", extra={"error": str(error)})


async def _regain(engines: Engines, regaining: Regaining) -> None:
    """Takes lost events from log files, once event history has all that the journal has."""
    await engines.history.until_visible(engines.journal.head)
    await regaining.run()


def _start_insights(
    stack: AsyncExitStack, engines: Engines, data: DataDirectory, trails: TrailRegistry
) -> Insights:
    settings, is_on = engines.settings, engines.settings.insights == "on"
    types = settings.insights_types if is_on else ()
    watch = WatchProcess(data.insights, settings.insights_preset, types)
    insights = Insights(
        watch,
        engines.store,
        engines.journal,
        engines.clock,
        engines.history.until_visible,
        partial(sources, trails, is_on),
        ExpectedIncidents(engines.control),
        of_principals=bool(types),
    )
    run_beside(stack, _follow_insights(engines, watch, insights, trails))
    return insights


async def _follow_insights(
    engines: Engines, watch: WatchProcess, insights: Insights, trails: TrailRegistry
) -> None:
    """Starts Insights as soon as a trail or event history needs it."""
    while engines.settings.insights == "off":
        await asyncio.sleep(_INSIGHTS_WANTED)
        if any(has_insights(each.trail) for each in await trails.all()):
            break
    try:
        await watch.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(insights.run())
            tasks.create_task(follow(engines.journal, insights, _INSIGHTS_LINGER))
    finally:
        await watch.stop()


def _organizations(settings: Settings, clients: ServiceClients) -> Organizations:
    if settings.organization == "upstream":
        return UpstreamOrganizations(clients)
    described = settings.organization
    return ConfiguredOrganizations(described if isinstance(described, Organization) else None)


async def _follow_members(members: TrailMembers) -> None:
    """Updates the accounts of organization trails, once a minute."""
    while True:
        try:
            await members.update()
        except OpentrailError as error:
            log.warning("the organization is not known", extra={"error": str(error)})
        await asyncio.sleep(_MEMBERS_EVERY)


async def _matcher(trails: TrailRegistry) -> EntryMatcher | None:
    """Returns the matcher of entries that logging trails select."""
    return EntrySelector.matcher_of([stored.trail for stored in await trails.all()])
