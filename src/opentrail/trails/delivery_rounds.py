"""One worker per trail: delivers at intervals, retries, and delivers immediately on request."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from opentrail.core.errors import ObjectMissing, ObjectStoreError, ObjectTaken, OpentrailError
from opentrail.core.event import Json, parse_time
from opentrail.core.logs import attempt
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Hold, Journal
from opentrail.ports.objects import ObjectStore
from opentrail.trails.comparison import BucketComparison
from opentrail.trails.delivery import LogDelivery
from opentrail.trails.digest import DigestChains
from opentrail.trails.outbox import STREAM, is_empty
from opentrail.trails.plans import DELIVERY, DeliveryState, load_state
from opentrail.trails.registry import TrailRegistry

log = logging.getLogger(__name__)

#: Longest pause between retries in seconds (guarantee L4).
MAX_PAUSE_SECONDS = 300.0
#: A call that is not recorded within this time after its effect was never answered.
_DEADLINE = timedelta(seconds=30)


class Sink(Protocol):
    """Sends messages about delivered files, from the notes that delivery stores."""

    @property
    def name(self) -> str:
        """Its name in logs."""
        ...

    async def send(self, uid: str) -> None:
        """Return once all messages are sent.

        Raises:
            ServiceError: it failed; call again later.
        """
        ...


@dataclass(slots=True)
class Delivered:
    """The keys of the files that one round wrote."""

    logs: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


class Deliveries(Protocol):
    """Delivery of all trails, as the API uses it."""

    def ensure(self, uid: str) -> object:
        """Start delivery of a trail."""
        ...

    def wake(self, uid: str) -> None:
        """Deliver a trail now instead of after the interval."""
        ...

    async def close_span(self, uid: str, event_id: str, position: int) -> None:
        """Set the position of a call that closed a span, and deliver the rest."""
        ...

    async def flush(self, trail: Trail) -> Delivered:
        """Deliver and sign now.

        Raises:
            ObjectStoreError: the bucket failed.
        """
        ...

    async def known_digests(self, trail: Trail) -> list[Json]:
        """Return for each account and Region the first, last and newest digests of its chains."""
        ...

    async def holds(self) -> list[Hold]:
        """Return the entries that each trail may still need."""
        ...

    def catch_up(self) -> None:
        """Deliver trails now, since their undelivered events need too much space.

        Failing trails retry at their own pace.
        """
        ...


@dataclass(slots=True)
class _Round:
    """One round of a trail's worker, which alone reads and changes it."""

    trail: Trail
    state: DeliveryState
    flush: bool
    delivered: Delivered = field(default_factory=Delivered)
    #: Buckets to which nothing is written, because they cannot be compared.
    held: dict[str, ObjectStoreError] = field(default_factory=dict)
    #: Why a log file, and why a digest, could not be written.
    failure: ObjectStoreError | None = None
    digest_failure: ObjectStoreError | None = None


class TrailWorker:
    """Delivers one trail. Only one round runs at a time."""

    def __init__(
        self,
        uid: str,
        registry: TrailRegistry,
        journal: Journal,
        control: ControlStore,
        delivery: LogDelivery,
        digests: DigestChains,
        comparison: BucketComparison,
    ) -> None:
        self.uid = uid
        self._registry = registry
        self._journal = journal
        self._control = control
        self._delivery = delivery
        self._digests = digests
        self._comparison = comparison
        #: Held for a round, and to change the fields below.
        self._lock = asyncio.Lock()
        #: Buckets, prefixes and organizations whose files were compared with the state.
        self._compared: set[tuple[str, str, str]] = set()
        #: Start of the logging whose search for other installations' digests is done.
        self._began: str | None = None
        #: Call that closes a span → since when its record is missing.
        self._unclosed: dict[str, datetime] = {}
        self.wake = asyncio.Event()
        #: Whether the last round failed.
        self.is_failing = False
        #: Set after each round, because there may be notes.
        self.sinks: list[asyncio.Event] = []
        self.finished = False

    async def run(self, interval: float) -> None:
        """Delivers every `interval` seconds until the trail is deleted; failures back off."""

        async def deliver_once() -> bool:
            await self.deliver()
            return not self.finished

        failure = "a bucket could not be compared at the start"
        await attempt(self._compare_at_start(), failure, trail=self.uid)
        if not self.finished:
            await repeat(deliver_once, self.wake, interval, {"trail": self.uid})

    async def _compare_at_start(self) -> None:
        """Compares the bucket with the state; the first round retries after a failure."""
        async with self._lock:
            trail = await self._trail()
            if trail is None:
                return
            state = await load_state(self._control, self.uid)
            try:
                await self._compare(trail, state)
            except ObjectStoreError as error:
                await self._store_failure(state, error)

    async def _compare(self, trail: Trail, state: DeliveryState) -> None:
        """Compares the bucket of the newest span with the state, unless that has happened.

        Raises:
            ObjectStoreError: the bucket cannot be read.
        """
        if not trail.spans:
            return
        span = trail.spans[-1]
        place = (span.bucket, span.prefix, span.organization)
        try:
            if span.validation and span.open and self._began != trail.started_at:
                await self._comparison.find_strangers(trail, span)
                self._began = trail.started_at
            if place in self._compared:
                return
            with self._delivery.selector.reading.together():
                await self._comparison.compare(trail, state, span)
        except ObjectStoreError:
            state.latest_attempt = stored_time(self._delivery.clock.now())
            raise
        self._compared.add(place)

    async def deliver(self, flush: bool = False) -> Delivered:
        """Delivers everything that is durable now; with `flush`, digests are signed immediately.

        Raises:
            ObjectStoreError: the bucket failed; the state has the error, and a later round retries.
        """
        async with self._lock:
            self.is_failing = True
            try:
                with self._delivery.selector.reading.together():
                    delivered = await self._deliver(flush)
                self.is_failing = False
                return delivered
            finally:
                for wake in self.sinks:
                    wake.set()

    async def _deliver(self, flush: bool) -> Delivered:
        # Read before the trail: a call that changes the trail gets a later position.
        head = await self._journal.newest()
        trail = await self._trail()
        if trail is None:
            self.finished = True
            return Delivered()
        trail = await self._close_spans(trail, head)
        run = _Round(trail, await load_state(self._control, self.uid), flush)
        try:
            await self._run_round(run, head)
        except ObjectStoreError as error:
            await self._store_failure(run.state, error, run.digest_failure)
            since = parse_time(trail.stopped_at) if trail.stopped_at else None
            if not (trail.deleted and self._delivery.retries.is_over(since)):
                raise
            log.error("gave up on undelivered files of a deleted trail", extra={"trail": trail.arn})
            await self._registry.forget(self.uid)
            self.finished = True
            return Delivered()
        return run.delivered

    async def _run_round(self, run: _Round, head: int) -> None:
        """Runs a round: files already planned, then for each span its files and digests.

        Raises:
            ObjectStoreError: a file or digest could not be written.
        """
        trail, state = run.trail, run.state

        # Objects in the bucket of an open span are not written again.
        try:
            await self._compare(trail, state)
        except ObjectStoreError as error:
            if trail.spans[-1].open:
                run.held[trail.spans[-1].bucket] = error

        # Files that an earlier round has planned.
        await self._finish(run)

        is_blocked = False
        for index, span in enumerate(trail.spans):
            if span.closing_event is not None:
                break  # the position of the call that closes it is not known yet

            # Its files. Planning continues after a failure, because sinks wait for it.
            until = head if span.until is None else min(span.until, head)
            has_more = True
            while has_more:
                has_more = await self._delivery.plan_span(trail, state, span, until)
                if run.failure is None:
                    await self._finish(run)
                else:
                    self._delivery.drop_contents(trail)

            # Its digests. A chain begins only when the chain of the previous span has ended.
            if not is_blocked:
                later = trail.spans[index + 1 :]
                has_all = run.failure is None or not await self._delivery.is_planned(trail, span)
                is_blocked = not await self._digest(run, span, later, has_all)

        failure = run.failure or run.digest_failure
        if failure is not None:
            raise failure
        await self._prune(trail, state)

    async def _finish(self, run: _Round) -> None:
        """Writes the planned files; stores a failure of the object store in the round."""
        try:
            run.delivered.logs += await self._delivery.finish_plans(run.trail, run.state, run.held)
        except ObjectStoreError as error:
            run.failure = error

    async def _close_spans(self, trail: Trail, head: int) -> Trail:
        """Closes spans whose closing call is recorded, if the server that answered it has not.

        Another server may still answer a call without a record. If it misses the deadline, the
        span ends at the current end of the journal.
        """
        now = self._delivery.clock.now()
        for event_id in [span.closing_event for span in trail.spans if span.closing_event]:
            position = await self._journal.find(event_id)
            if position is None:
                if now - self._unclosed.setdefault(event_id, now) < _DEADLINE:
                    continue
                position = head
            self._unclosed.pop(event_id, None)
            closed = partial(Trail.with_closed_span, event_id=event_id, position=position)
            trail = await self._registry.amend(self.uid, closed) or trail
        return trail

    async def _digest(self, run: _Round, span: Span, later: Sequence[Span], has_all: bool) -> bool:
        """Signs the digests that are due; returns whether the digests of the next span may follow.

        A file that cannot be written holds up only the last digest of its span, which must list
        it (`has_all`). Earlier digests list it once it exists.
        """
        if not span.validation or (later and _continues(span, later[0])):
            return True
        is_last, force = span.until is not None, run.flush and span.until is None
        if (span.open and span.bucket in run.held) or (is_last and not has_all):
            return False
        try:
            keys = await self._digests.run(run.trail, run.state, span, force, is_last)
            run.delivered.digests += keys
        except ObjectStoreError as error:
            if isinstance(error, ObjectTaken):
                self._compared.clear()  # the next round compares the bucket with the state
            shared = any(
                (other.bucket, other.organization) == (span.bucket, span.organization)
                for other in later
            )
            if is_last and await self._digests.give_up(run.trail, run.state, span, shared):
                return True
            run.digest_failure = error
            return False
        return True

    async def _prune(self, trail: Trail, state: DeliveryState) -> None:
        """Forgets spans that are delivered; with the last one of a deleted trail, the trail."""
        delivered = [
            span
            for span in trail.spans
            if span.until is not None and max(state.position, span.after) >= span.until
        ]
        if delivered:

            def remove_delivered(current: Trail) -> Trail:
                return replace(current, spans=tuple(s for s in current.spans if s not in delivered))

            trail = await self._registry.amend(self.uid, remove_delivered) or trail
        if trail.deleted and not trail.spans and await is_empty(self._control, self.uid):
            await self._registry.forget(self.uid)
            self.finished = True

    async def _trail(self) -> Trail | None:
        for stored in await self._registry.all_and_retired():
            if stored.trail.uid == self.uid:
                return stored.trail
        return None

    async def _store_failure(
        self,
        attempted: DeliveryState,
        error: ObjectStoreError,
        digest_failure: ObjectStoreError | None = None,
    ) -> None:
        """Stores the error codes for GetTrailStatus; plans remain."""
        self._delivery.count_failure()
        state = await load_state(self._control, self.uid)
        state.latest_attempt = attempted.latest_attempt
        if digest_failure is not None:
            state.latest_digest_error = digest_failure.code
        if error is not digest_failure:
            state.latest_error = error.code
        await self._control.apply([Put(DELIVERY, self.uid, state.document())])


def _continues(span: Span, later: Span) -> bool:
    """Returns whether the next span has the same digest chains."""
    return later.continues and later.validation and later.organization == span.organization


class TrailDeliveries:
    """The workers of all trails."""

    def __init__(
        self,
        registry: TrailRegistry,
        journal: Journal,
        control: ControlStore,
        objects: ObjectStore,
        delivery: LogDelivery,
        digests: DigestChains,
        comparison: BucketComparison,
        interval: timedelta,
        sinks: Sequence[Sink],
    ) -> None:
        self._registry = registry
        self._journal = journal
        self._control = control
        self._objects = objects
        self._delivery = delivery
        self._digests = digests
        self._comparison = comparison
        self._interval = interval.total_seconds()
        self._sinks = sinks
        self._workers: dict[str, TrailWorker] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    async def start(self) -> None:
        """Starts a worker for each trail; again after `stop`."""
        for stored in await self._registry.all_and_retired():
            self.ensure(stored.trail.uid)

    def ensure(self, uid: str) -> TrailWorker:
        """Returns the trail's worker, started if necessary."""
        worker = self._workers.get(uid)
        if worker is None or self._tasks[uid][0].done():
            worker = TrailWorker(
                uid,
                self._registry,
                self._journal,
                self._control,
                self._delivery,
                self._digests,
                self._comparison,
            )
            self._workers[uid] = worker
            self._tasks[uid] = [
                asyncio.create_task(worker.run(self._interval)),
                *(asyncio.create_task(self._run_sink(sink, worker)) for sink in self._sinks),
            ]
        return worker

    async def _run_sink(self, sink: Sink, worker: TrailWorker) -> None:
        """Lets a sink send after each round; it retries alone (guarantees L2, L4, L5)."""
        wake = asyncio.Event()
        worker.sinks.append(wake)

        async def send() -> bool:
            await sink.send(worker.uid)
            return not worker.finished

        about = {"trail": worker.uid, "sink": sink.name}
        await repeat(send, wake, self._interval, about)

    def wake(self, uid: str) -> None:
        """Delivers a trail now instead of after the interval."""
        self.ensure(uid).wake.set()

    async def close_span(self, uid: str, event_id: str, position: int) -> None:
        """Sets the position of a call that closed a span, and delivers the rest."""
        await self._registry.amend(uid, lambda trail: trail.with_closed_span(event_id, position))
        self.wake(uid)

    async def flush(self, trail: Trail) -> Delivered:
        """Delivers and signs now.

        Raises:
            ObjectStoreError: the bucket failed.
        """
        return await self.ensure(trail.uid).deliver(flush=True)

    async def known_digests(self, trail: Trail) -> list[Json]:
        """Returns for each account and Region the first, last and newest digests of its chains."""
        return await self._digests.boundaries(trail)

    async def holds(self) -> list[Hold]:
        """Returns the entries that each trail may still need."""
        holds = []
        for stored in await self._registry.all_and_retired():
            trail, uid = stored.trail, stored.trail.uid
            # The state first: a plan made later begins after its position.
            state = await load_state(self._control, uid)
            begins = [(max(state.position, span.after), span.until) for span in trail.spans]
            needed = [begin for begin, until in begins if until is None or begin < until]
            needed += [
                int(p.document["after"]) for p in await self._control.scan("plan", f"{uid}/")
            ]
            needed += [int(n.document["sent"]) for n in await self._control.scan(STREAM, f"{uid}/")]
            if needed:
                holds.append(Hold(f"trail {trail.arn}", min(needed)))
        return holds

    def catch_up(self) -> None:
        """Delivers trails now, except failing ones, which retry at their own pace."""
        for worker in self._workers.values():
            if not worker.is_failing:
                worker.wake.set()

    async def remake_lost_buckets(self) -> list[str]:
        """Creates deleted buckets again and restarts their digest chains (sandbox)."""
        buckets = []
        for stored in await self._registry.all():
            try:
                await self._objects.check_bucket(stored.trail.bucket)
            except ObjectMissing:
                await self._objects.create_bucket(stored.trail.bucket)
                await self._digests.forget(stored.trail)
                buckets.append(stored.trail.bucket)
        return buckets

    async def stop(self) -> None:
        """Ends the workers; unfinished rounds continue at the next start."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._workers, self._tasks = {}, {}


async def repeat(
    work: Callable[[], Awaitable[bool]],
    wake: asyncio.Event,
    interval: float,
    about: dict[str, str],
) -> None:
    """Calls `work` every `interval` seconds and whenever woken, until it returns False.

    Intervals are measured from start to start. After failures the pauses grow to five minutes, with
    jitter (guarantee L4).

    Args:
        work: one round; `repeat` retries after an `OpentrailError`.
        wake: set when there is work.
        interval: seconds.
        about: fields for the log entry of a failure.
    """
    time = asyncio.get_running_loop().time
    failures, begun = 0, time()
    while True:
        pause = max(0.0, begun + interval - time())
        if failures:
            longest = min(MAX_PAUSE_SECONDS, max(interval, 1.0) * 2 ** min(failures, 9))
            pause = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret
        try:
            async with asyncio.timeout(pause):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        begun = time()
        try:
            if not await work():
                return
        except OpentrailError as error:
            failures += 1
            log.warning("delivery failed", extra={**about, "error": str(error)})
        except Exception:  # a programming error must be logged, and must not end delivery
            failures += 1
            log.exception("delivery failed unexpectedly", extra=about)
        else:
            failures = 0
