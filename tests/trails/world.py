"""A journal, a control store, buckets and a clock in memory, and everything trails need.

`World.restarted` drops every object and starts on the same disks, as a new process would.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.core.event import Entry, format_time
from opentrail.core.organization import Organization
from opentrail.core.trail import Trail, stored_time
from opentrail.ports.metrics import Metrics
from opentrail.trails.cloudwatch_logs import CloudWatchLogsSink
from opentrail.trails.comparison import BucketComparison
from opentrail.trails.delivery import LogDelivery, RetryLimit
from opentrail.trails.delivery_rounds import Delivered as Round
from opentrail.trails.delivery_rounds import TrailDeliveries, TrailWorker
from opentrail.trails.destinations import Destinations
from opentrail.trails.digest import DigestChains
from opentrail.trails.digest_chains import BucketDigests
from opentrail.trails.organization_trails import TrailMembers
from opentrail.trails.plans import DeliveryState, EntrySelector, load_state
from opentrail.trails.registry import StoredTrail, TrailRegistry
from opentrail.trails.shared import SharedDeliveries
from opentrail.trails.sns import SnsSink
from tests.factories import (
    ACCOUNT,
    REGION,
    a_new_entry,
    a_record,
    a_trail,
    an_insight_record,
    event_id,
)
from tests.fakes import (
    Breaker,
    Buckets,
    Documents,
    MemoryControl,
    MemoryJournal,
    MemoryObjects,
    MemoryServices,
    MemorySigner,
    SettableClock,
)
from tests.trails.verify import Delivered, verify

BUCKET = "my-bucket"
OWN = "cloudtrail.amazonaws.com"
DELIVERY_INTERVAL = timedelta(minutes=5)
DIGEST_INTERVAL = timedelta(hours=1)


class MutableOrganizations:
    """`Organizations` of a world; tests change the organization."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def current(self) -> Organization | None:
        """Returns the world's organization."""
        return self._world.organization


@dataclass
class World:
    """One process's objects over disks that outlive it."""

    breaker: Breaker = field(default_factory=Breaker)
    clock: SettableClock = field(default_factory=SettableClock)
    entries: list[Entry] = field(default_factory=list)
    documents: Documents = field(default_factory=dict)
    buckets: Buckets = field(default_factory=lambda: Buckets({BUCKET: {}, "other-bucket": {}}))
    digest_interval: timedelta = DIGEST_INTERVAL
    services: MemoryServices = field(default_factory=MemoryServices)
    policy_enforced: bool = False
    organization: Organization | None = None
    #: The first number of event ids.
    first_id: int = 0

    def __post_init__(self) -> None:
        self.journal = MemoryJournal(self.entries, self.breaker)
        self.control = MemoryControl(self.documents, self.breaker)
        self.objects = MemoryObjects(disk=self.buckets, breaker=self.breaker)
        self.signer = MemorySigner()
        self.metrics = Metrics()
        self.registry = TrailRegistry(self.control)
        self.selector = EntrySelector(self.journal)
        retries = RetryLimit(self.clock)
        self.delivery = LogDelivery(
            self.selector, self.control, self.objects, self.clock, self.metrics, retries
        )
        in_bucket = BucketDigests(self.objects, self.signer, RsaVerifier())
        self.digests = DigestChains(
            self.control,
            self.objects,
            self.signer,
            self.clock,
            self.metrics,
            self.digest_interval,
            in_bucket,
            retries,
        )
        self.comparison = BucketComparison(
            self.control, self.objects, in_bucket, self.journal, self.selector, self.clock
        )
        self.sinks = (
            SnsSink(self.control, self.services, self.clock, self.metrics),
            CloudWatchLogsSink(
                self.control,
                self.services,
                self.clock,
                self.metrics,
                self.selector.entries_of,
            ),
        )
        self.deliveries = TrailDeliveries(
            self.registry,
            self.journal,
            self.control,
            self.objects,
            self.delivery,
            self.digests,
            self.comparison,
            DELIVERY_INTERVAL,
            self.sinks,
        )
        self.destinations = Destinations(
            self.objects, self.services, self.services, self.services, self.policy_enforced
        )
        self.source = MutableOrganizations(self)
        self.members = TrailMembers(self.registry, self.source, self.journal, self.clock)
        self._workers: dict[str, TrailWorker] = {}

    def restarted(self, breaker: Breaker | None = None) -> World:
        """Returns another process with the same disks and clock."""
        return replace(self, breaker=breaker or Breaker())

    # Callers' calls. Each leaves its own record, as with the real API.

    async def add(self, **changes: Any) -> Trail:
        """Adds a trail that delivers to `my-bucket`."""
        trail = a_trail(bucket=BUCKET, **changes)
        await self.registry.add(trail)
        return trail

    async def event(self, count: int = 1, origin: str = "recorder", **changes: Any) -> list[str]:
        """Records management events of the trail's account; returns their ids."""
        made = []
        for _ in range(count):
            made.append(event_id(self.first_id + self.journal.head + 1))
            given = {"eventTime": format_time(self.clock.now()), "eventID": made[-1], **changes}
            entry = a_new_entry(a_record(**given), origin=origin, recorded_at=self.clock.now())
            await self.journal.append([entry])
        return made

    async def insight(self, state: str = "Start", **changes: Any) -> list[str]:
        """Appends an Insights event as the detector does; returns its id.

        Members of the record and of `insightDetails` can be changed.
        """
        record = an_insight_record(state)
        made = event_id(self.first_id + self.journal.head + 1)
        record |= {"eventTime": format_time(self.clock.now()), "eventID": made}
        own = {name: changes.pop(name) for name in list(changes) if name in record}
        details = {**record["insightDetails"], **changes}
        entry = a_new_entry(
            {**record, "insightDetails": details, **own},
            origin="insight",
            recorded_at=self.clock.now(),
        )
        await self.journal.append([entry])
        return [made]

    async def start_logging(self, name: str = "my-trail") -> str:
        """Starts logging; returns the id of the call's own event."""
        stored = await self.stored(name)
        started = stored.trail.started(self.journal.head, stored_time(self.clock.now()))
        await self.registry.change(stored, started)
        asked = {"name": name}
        return (
            await self.event(eventName="StartLogging", eventSource=OWN, requestParameters=asked)
        )[0]

    async def stop_logging(self, name: str = "my-trail") -> str:
        """Stops logging; returns the id of the call's own event."""
        stored = await self.stored(name)
        call = f"stop-{self.first_id + self.journal.head}"
        stopped = stored.trail.stopped(call, stored_time(self.clock.now()))
        await self.registry.change(stored, stopped)
        asked = {"name": name}
        await self.event(
            eventName="StopLogging", eventID=call, eventSource=OWN, requestParameters=asked
        )
        await self.close_span(stopped.uid, call)
        return call

    async def update(self, name: str = "my-trail", **settings: Any) -> str:
        """Changes a trail's settings; returns the id of the call's own event."""
        stored = await self.stored(name)
        call = f"update-{self.journal.head}"
        changed = replace(stored.trail, **settings)
        now = stored_time(self.clock.now())
        await self.registry.change(stored, changed.reconfigured(call, self.journal.head, now))
        event_name = "PutEventSelectors" if "selectors" in settings else "UpdateTrail"
        asked: dict[str, Any] = {"name": name}
        if "validation" in settings:
            asked["enableLogFileValidation"] = settings["validation"]
        await self.event(
            eventName=event_name, eventID=call, eventSource=OWN, requestParameters=asked
        )
        await self.close_span(changed.uid, call)
        return call

    async def delete(self, name: str = "my-trail") -> str:
        """Deletes a trail; returns the id of the call's own event."""
        stored = await self.stored(name)
        call = f"delete-{self.journal.head}"
        closed = replace(stored.trail.stopped(call, stored_time(self.clock.now())), deleted=True)
        await self.registry.retire(stored, closed)
        asked = {"name": name}
        await self.event(
            eventName="DeleteTrail", eventID=call, eventSource=OWN, requestParameters=asked
        )
        await self.close_span(closed.uid, call)
        return call

    async def close_span(self, uid: str, call: str) -> None:
        """Fills in the position of a call that closed a span."""
        head = self.journal.head
        await self.registry.amend(uid, lambda trail: trail.with_closed_span(call, head))

    async def stored(self, name: str = "my-trail") -> StoredTrail:
        """Returns the stored trail."""
        return await self.registry.find(ACCOUNT, REGION, name)

    # The worker

    async def deliver(self, flush: bool = False, uid: str = "4f1c6a52-trail") -> Round:
        """Runs one round of the trail's worker."""
        return await self.worker(uid).deliver(flush)

    def worker(self, uid: str = "4f1c6a52-trail") -> TrailWorker:
        """Returns the trail's one worker in this process."""
        if uid not in self._workers:
            self._workers[uid] = TrailWorker(
                uid,
                self.registry,
                self.journal,
                self.control,
                self.delivery,
                self.digests,
                self.comparison,
            )
        return self._workers[uid]

    async def state(self, uid: str = "4f1c6a52-trail") -> DeliveryState:
        """Returns the state of the trail's deliveries."""
        return await load_state(self.control, uid)

    # The content of the buckets

    async def verified(self) -> Delivered:
        """Returns the delivered files, after the independent reader's checks."""
        assert len(self.buckets.stored) == len(set(self.buckets.stored)), "overwritten"
        return verify(self.buckets.objects, await self.signer.keys())

    def log_keys(self, bucket: str = BUCKET) -> list[str]:
        return sorted(k for k in self.buckets.objects[bucket] if "/CloudTrail/" in f"/{k}")

    def digest_keys(self, bucket: str = BUCKET) -> list[str]:
        return sorted(k for k in self.buckets.objects[bucket] if "/CloudTrail-Digest/" in f"/{k}")

    async def check(self, expected: list[str], chains: int | None = None) -> Delivered:
        """Checks that exactly these events were delivered, each once, with their own bytes.

        With `chains`, this number of signed digest chains lists every log file.
        """
        delivered = await self.verified()
        missing, extra = set(expected) - set(delivered.event_ids), delivered.event_ids
        assert not missing, f"never delivered: {missing}"
        assert not (set(extra) - set(expected)), (
            f"not to be delivered: {set(extra) - set(expected)}"
        )
        assert len(extra) == len(expected), "delivered twice"
        raw = {entry.event_id: entry.record for entry in self.entries}
        for log in delivered.logs:
            own = b",".join(raw[event_id] for event_id in log.event_ids)
            assert log.content == b'{"Records":[' + own + b"]}"
        if chains is not None:
            for region, found in delivered.chains.items():
                assert len(found) == chains, (region, [[d.key[-24:] for d in c] for c in found])
            listed = sorted(log for digest in delivered.digests for log in digest.logs)
            assert listed == sorted(log.key for log in delivered.logs)
        return delivered


def server_of(world: World) -> SharedDeliveries:
    """Returns a server's view of the deliveries, which works once it has started."""
    return SharedDeliveries(
        world.deliveries, world.registry, world.control, world.control, world.clock
    )
