"""Delivery of a trail's log files: planned, written, read back, remembered (L1, L7).

A plan is in the state store before its object is written, and says which journal positions the
object holds; bytes and key follow from it. So whatever breaks in between, the same object is
written again, never another one with the same events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from opentrail.core.errors import ObjectExists, ObjectStoreError
from opentrail.core.event import Entry
from opentrail.core.faults import reach
from opentrail.core.logfile import (
    CLOUDTRAIL,
    LOG_KINDS,
    Place,
    compress,
    log_bytes,
    log_key,
    sha256_hex,
    unique_string,
)
from opentrail.core.resources import Span, Trail, takes
from opentrail.core.selectors import Predicate, Selection, predicate_of
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import Change, ControlStore, Put, Remove
from opentrail.ports.journal import Journal
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.trails.facts import FactsOfEntries, event_time_of

#: A plan closes at this much uncompressed text (AWS's limit is 50 MB) or so many records.
_FILE_BYTES, _FILE_RECORDS = 40 * 1024 * 1024, 50_000
_READ = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A log file to be written: `after < position <= until` of one Region under one span.

    It holds what it takes to make its bytes again, for the span may be gone by then.
    """

    number: int
    bucket: str
    key: str
    region: str
    after: int
    until: int
    sha256: str
    oldest: str
    newest: str
    global_services: bool
    validation: bool
    #: One of `LOG_KINDS`.
    kind: str = CLOUDTRAIL
    selectors: dict[str, Any] | None = None


@dataclass(slots=True)
class DeliveryState:
    """How far a trail is, and what GetTrailStatus tells of it. Times are stored times."""

    position: int = 0
    files: int = 0
    regions: tuple[str, ...] = ()
    latest_delivery: str | None = None
    latest_attempt: str | None = None
    latest_error: str | None = None
    latest_digest: str | None = None
    latest_digest_error: str | None = None

    def document(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return asdict(self)


async def load_state(control: ControlStore, uid: str) -> DeliveryState:
    """Returns a trail's delivery state."""
    stored = await control.get("delivery", uid)
    if stored is None:
        return DeliveryState()
    return DeliveryState(**{**stored.document, "regions": tuple(stored.document["regions"])})


class LogDelivery:
    """Writes the log files of one trail."""

    def __init__(
        self,
        journal: Journal,
        control: ControlStore,
        objects: ObjectStore,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._journal = journal
        self._control = control
        self._objects = objects
        self.clock = clock
        self._metrics = metrics
        #: Contents of plans just made, so that they need not be read twice.
        self._contents: dict[str, bytes] = {}
        self._facts = FactsOfEntries()

    def count_failure(self) -> None:
        """Counts a round that failed."""
        self._metrics.delivery_failures.inc()

    async def finish_plans(self, trail: Trail, state: DeliveryState) -> list[str]:
        """Writes every planned file that is not known to be in its bucket; returns their keys."""
        written = []
        for stored in await self._control.scan("plan", f"{trail.uid}/"):
            plan = Plan(**stored.document)
            await self._write(trail, state, plan, stored.key)
            written.append(plan.key)
        return written

    async def deliver_span(
        self, trail: Trail, state: DeliveryState, span: Span, until: int
    ) -> list[str]:
        """Plans and writes what a span holds up to `until`; returns the keys written."""
        written: list[str] = []
        while (start := max(state.position, span.after)) < until:
            reached, chosen = await self._collect(trail, span, start, until)
            plans = self._plan(trail, span, state, start, reached, chosen)
            changes: list[Change] = [
                Put("plan", f"{trail.uid}/{plan.number:012d}", asdict(plan), expected=0)
                for plan in plans
            ]
            state.position = reached
            state.regions = tuple(sorted({*state.regions, *(p.region for p in plans)}))
            await self._control.apply([*changes, Put("delivery", trail.uid, state.document())])
            if plans:
                reach("delivery.planned")
            written.extend(await self.finish_plans(trail, state))
        return written

    async def _collect(
        self, trail: Trail, span: Span, start: int, until: int
    ) -> tuple[int, dict[tuple[str, str], list[Entry]]]:
        """Reads on until a file is full; returns how far, and entries by Region and kind."""
        chosen: dict[tuple[str, str], list[Entry]] = {}
        position, size, count = start, 0, 0
        predicate = _predicate(span)
        while position < until and size < _FILE_BYTES and count < _FILE_RECORDS:
            entries = await self._journal.read(position, _READ, until)
            self._tell_lost(trail, position, entries, until)
            if not entries:
                position = until
            for entry in entries:
                position = entry.position
                if self._takes(trail, span, predicate, entry):
                    chosen.setdefault((entry.region, LOG_KINDS[entry.category]), []).append(entry)
                    size += len(entry.record)
                    count += 1
                if size >= _FILE_BYTES:
                    break
        return position, chosen

    @staticmethod
    def _tell_lost(trail: Trail, after: int, entries: Sequence[Entry], until: int) -> None:
        """Names positions that neither the journal nor its archive holds any more."""
        last = entries[0].position - 1 if entries else until
        if last > after:
            lost = {"trail": trail.arn, "first": after + 1, "last": last}
            log.error("records are lost and cannot be delivered", extra=lost)

    def _takes(self, trail: Trail, span: Span, predicate: Predicate, entry: Entry) -> bool:
        """Selected events of the trail's own account; imports never go to trails.

        A record is parsed only if its columns in the journal leave the decision open.
        """
        if entry.account != trail.account or entry.origin == "import":
            return False
        decided = predicate.decides(entry.category)
        if decided is False or entry.category not in LOG_KINDS:
            return False
        if not takes(span, trail.home_region, entry.region, ""):
            return False
        if decided and (span.every_region or span.global_services):
            return True
        facts = self._facts.of(entry)
        return takes(span, trail.home_region, entry.region, facts.event_source) and (
            predicate.takes(facts)
        )

    def _plan(
        self,
        trail: Trail,
        span: Span,
        state: DeliveryState,
        start: int,
        reached: int,
        chosen: dict[tuple[str, str], list[Entry]],
    ) -> list[Plan]:
        now = self.clock.now()
        plans = []
        for group, entries in sorted(chosen.items()):
            state.files += 1
            plan = self._plan_file(trail, span, state.files, start, reached, group, entries, now)
            plans.append(plan)
        return plans

    def _plan_file(
        self,
        trail: Trail,
        span: Span,
        number: int,
        start: int,
        reached: int,
        group: tuple[str, str],
        entries: Sequence[Entry],
        now: datetime,
    ) -> Plan:
        region, kind = group
        place = Place(span.bucket, span.prefix, trail.account, region)
        key = log_key(place, now, unique_string(trail.uid, region, start, reached), kind)
        content = log_bytes(entry.record for entry in entries)
        self._contents[key] = content
        times = [event_time_of(entry.record) for entry in entries]
        return Plan(
            number=number,
            bucket=span.bucket,
            key=key,
            region=region,
            after=start,
            until=reached,
            sha256=sha256_hex(content),
            oldest=min(times),
            newest=max(times),
            global_services=span.global_services,
            validation=span.validation,
            kind=kind,
            selectors=span.selectors,
        )

    async def _write(self, trail: Trail, state: DeliveryState, plan: Plan, plan_key: str) -> None:
        content = self._contents.get(plan.key) or await self._content(trail, plan)
        if sha256_hex(content) != plan.sha256:
            raise ObjectStoreError(
                "PlanMismatch", f"journal positions {plan.after} to {plan.until} have changed"
            )
        state.latest_attempt = self._now()
        await put_exactly(self._objects, NewObject(plan.bucket, plan.key, compress(content)))
        reach("delivery.put")
        state.latest_delivery, state.latest_error = self._now(), None
        changes: list[Change] = [
            Remove("plan", plan_key),
            Put("delivery", trail.uid, state.document()),
        ]
        if plan.validation:
            listed = {
                "bucket": plan.bucket,
                "key": plan.key,
                "sha256": plan.sha256,
                "oldest": plan.oldest,
                "newest": plan.newest,
                "delivered": state.latest_delivery,
            }
            changes.append(Put("log", f"{trail.uid}/{plan.region}/{plan.number:012d}", listed))
        await self._control.apply(changes)
        self._contents.pop(plan.key, None)
        self._metrics.delivered_files.labels("log").inc()

    async def _content(self, trail: Trail, plan: Plan) -> bytes:
        """Makes the bytes of a plan again from the journal."""
        # Of a plan's own Region, a span leaves out no more than the events of global services.
        anywhere = plan.global_services
        span = Span(
            plan.after,
            plan.until,
            "",
            plan.bucket,
            "",
            anywhere,
            plan.global_services,
            plan.validation,
            selectors=plan.selectors,
        )
        predicate = _predicate(span)
        records: list[bytes] = []
        position = plan.after
        while position < plan.until:
            entries = await self._journal.read(position, _READ, plan.until)
            if not entries:
                break
            position = entries[-1].position
            records.extend(
                e.record
                for e in entries
                if e.region == plan.region
                and LOG_KINDS.get(e.category) == plan.kind
                and self._takes(trail, span, predicate, e)
            )
        return await asyncio.to_thread(log_bytes, records)

    def _now(self) -> str:
        return self.clock.now().isoformat(timespec="microseconds")


def _predicate(span: Span) -> Predicate:
    return predicate_of(Selection.from_document(span.selectors))


async def put_exactly(objects: ObjectStore, new: NewObject) -> None:
    """Writes an object once, and returns only when its bytes have been read back (L1, L7).

    Raises:
        ObjectStoreError: the store failed, or holds other bytes under this key.
    """
    # If it is there already, a try before this one wrote it, provided that the bytes agree.
    with contextlib.suppress(ObjectExists):
        await objects.put(new)
    stored = await objects.get(new.bucket, new.key)
    if stored != new.content:
        raise ObjectStoreError(
            "ObjectMismatch",
            f"s3://{new.bucket}/{new.key} holds {len(stored)} bytes that are not what was written",
        )
