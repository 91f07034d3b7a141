"""Delivery of a trail's log files: planned, written, read back, recorded (guarantees L1 and L7).

After any failure it writes the same object again; the object gets another key only if another
object has its key. Planning continues while a bucket fails, so that sinks do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from operator import itemgetter

import msgspec

from opentrail.core.errors import ObjectMissing, ObjectStoreError, ObjectTaken
from opentrail.core.event import parse_time
from opentrail.core.event_record import EventRecord
from opentrail.core.faults import crash_point
from opentrail.core.logfile import (
    DeliveryPlace,
    encryption_context,
    log_bytes,
    log_key,
    sha256_hex,
    unique_string,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, StoreWrite
from opentrail.ports.metrics import Metrics
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.trails.digest_chains import UndigestedLog, put_log
from opentrail.trails.outbox import NOTICE, STREAM, Notice, file_key, note_of, stream_name
from opentrail.trails.plans import (
    DELIVERY,
    DeliveryState,
    EntrySelector,
    FileContents,
    LogFilePlan,
    StreamNote,
    add_undelivered,
)
from opentrail.trails.writing import ExactWriter, compress, read_log

log = logging.getLogger(__name__)

#: Maximum changes of a file's key because the key is in use.
MAX_NAMES = 3

#: Error codes that concern one file, not its bucket.
_OF_ONE_FILE = frozenset(
    {"KeyTooLongError", "PlanMismatch", "ObjectMismatch", "InvalidArgument", "InvalidURI"}
)
#: Writing a file is retried for this time (cloudtrail-format §5.2),
_MAX_RETRY_TIME = timedelta(days=30)
#: and for at least this time after the server started, which may have been down before.
_MIN_RETRY_TIME = timedelta(days=1)


class RetryLimit:
    """The duration of retries after failures."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.now()

    def is_over(self, since: datetime | None) -> bool:
        """Returns whether to give up on something that still fails.

        Args:
            since: the beginning of its wait; None if unknown.
        """
        if since is None:
            return False
        now = self._clock.now()
        return now - since > _MAX_RETRY_TIME and now - self._started > _MIN_RETRY_TIME


class LogDelivery:
    """Writes the log files of trails."""

    def __init__(
        self,
        selector: EntrySelector,
        control: ControlStore,
        objects: ObjectStore,
        clock: Clock,
        metrics: Metrics,
        retries: RetryLimit,
    ) -> None:
        self.selector = selector
        self._control = control
        self._objects = objects
        self._writer = ExactWriter(objects)
        self.clock = clock
        self.retries = retries
        self._metrics = metrics
        #: Trail → key → contents of new plans, to avoid reading them twice.
        self._contents: dict[str, dict[str, bytes]] = {}

    def count_failure(self) -> None:
        self._metrics.delivery_failures.inc()

    async def finish_plans(
        self,
        trail: Trail,
        state: DeliveryState,
        held: Mapping[str, ObjectStoreError] | None = None,
    ) -> list[str]:
        """Writes every planned file not yet known to be in its bucket; returns their keys.

        A failing bucket does not delay other buckets, nor a failing file other files.

        Args:
            trail: the trail.
            state: its delivery state.
            held: buckets to which nothing is written now, and why.

        Raises:
            ObjectStoreError: the store failed; files that were not written remain planned.
        """
        keys: list[str] = []
        failures = dict(held or {})
        for stored in await self._control.scan("plan", f"{trail.uid}/"):
            plan = LogFilePlan(**stored.document)
            before = failures.get(plan.bucket)
            is_held = plan.bucket in (held or {})
            is_failing = before is not None and (is_held or before.code not in _OF_ONE_FILE)
            is_over = self.retries.is_over(parse_time(plan.since) if plan.since else None)
            if is_failing and not is_over:
                continue
            try:
                key = await self._write(trail, state, plan, stored.key)
                keys += [key] if key else []
            except ObjectStoreError as error:
                if not is_over:
                    failures[plan.bucket] = error
                    continue
                about = {"trail": trail.arn, "bucket": plan.bucket}
                log.error("gave up on a log file after 30 days", extra=about)
                self._metrics.given_up_files.inc()
                await self._control.apply([Remove("plan", stored.key)])
        self.drop_contents(trail)
        for failure in failures.values():
            raise failure
        return keys

    async def is_planned(self, trail: Trail, span: Span) -> bool:
        """Returns whether a file for a span's bucket is still unwritten."""
        plans = await self._control.scan("plan", f"{trail.uid}/")
        return any(plan.document["bucket"] == span.bucket for plan in plans)

    async def plan_span(self, trail: Trail, state: DeliveryState, span: Span, until: int) -> bool:
        """Plans the next files of a span up to `until`; returns whether there is more.

        The contents are cached for `finish_plans`.
        """
        start = max(state.position, span.after)
        if start >= until:
            return False

        # The journal is read until a file is full.
        last, selected, expired = await self.selector.collect(
            trail, span, start, until, state.skipped
        )
        skipped = [run for run in state.skipped if start < run[1] and run[0] <= last]

        # Each place and kind of event has its own file, whose name follows from its content.
        changes: list[StoreWrite] = []
        undelivered = await add_undelivered(self._control, trail, expired, self.clock.now())
        regions = set(state.regions)
        for (place, kind), contents in sorted(selected.items(), key=itemgetter(0)):
            state.files += 1
            now = self.clock.now()
            content, sha256 = await asyncio.to_thread(_content_of, contents)
            name = name_of(trail.uid, place, kind, sha256)
            plan = LogFilePlan(
                number=state.files,
                bucket=span.bucket,
                key=log_key(place.location(span.bucket, span.prefix), now, name, kind),
                region=place.region,
                after=start,
                until=last,
                sha256=sha256,
                oldest=contents.oldest,
                newest=contents.newest,
                global_services=span.global_services,
                validation=span.validation,
                kind=kind,
                selectors=span.selectors,
                insight_selectors=span.insight_selectors,
                trail=trail.arn,
                kms_key=span.kms_key,
                topic=span.topic,
                since=stored_time(now),
                account=place.account,
                organization=place.organization,
                skipped=skipped,
            )
            self._contents.setdefault(trail.uid, {})[plan.key] = content
            key = file_key(trail.uid, plan.number)
            changes.append(Put("plan", key, asdict(plan), expected=0))
            regions.add(place.key)

            # A log group gets the events of the plan, whether the file can be written or not.
            if span.log_group:
                note = StreamNote(
                    log_group=span.log_group,
                    stream=stream_name(place),
                    sent=plan.after,
                    account=trail.account,
                    home_region=trail.home_region,
                    plan=plan,
                    since=plan.since,
                )
                document = note.document()
                changes.append(note_of(STREAM, trail.uid, plan.number, plan.since, document))

        # Plans and position are stored atomically, so that no event is planned twice.
        state.position, state.regions = last, tuple(sorted(regions))
        state.skipped = [run for run in state.skipped if run[1] > last]
        await self._control.apply(
            [*changes, *undelivered, Put(DELIVERY, trail.uid, state.document())]
        )
        if changes:
            crash_point("delivery.planned")
        return last < until

    def drop_contents(self, trail: Trail) -> None:
        """Empties the cache; contents are read again from the journal when needed."""
        self._contents.pop(trail.uid, None)

    async def _write(
        self, trail: Trail, state: DeliveryState, plan: LogFilePlan, plan_key: str
    ) -> str | None:
        """Writes a planned file into its bucket; returns its key, or None without events.

        Raises:
            ObjectStoreError: the store failed, or the journal has other events than the plan.
        """
        state.latest_attempt = stored_time(self.clock.now())

        # Its bytes are cached since it was planned, or read from the journal again.
        content = self._contents.get(trail.uid, {}).pop(plan.key, None)
        if content is None:
            readable = await self._read_again(trail, plan, plan_key)
            if readable is None:
                return None
            plan, content = readable
        packed = await asyncio.to_thread(compress, content)

        # It is written once, and read back. If another object has its key, the plan gets another
        # one, which is stored before a file with that key is written.
        while True:
            new = NewObject(
                plan.bucket,
                plan.key,
                packed,
                kms_key=plan.kms_key,
                encryption_context=encryption_context(trail.arn),
            )
            try:
                await self._writer.put(new)
                break
            except ObjectTaken:
                if plan.renamed == MAX_NAMES:
                    raise
            key, plan = plan.key, with_name(replace(plan, renamed=plan.renamed + 1), trail)
            about = {"trail": trail.arn, "bucket": plan.bucket, "key": key, "instead": plan.key}
            log.error("another object has the key of a log file", extra=about)
            await self._control.apply([Put("plan", plan_key, asdict(plan))])
        crash_point("delivery.put")

        # The plan is replaced by entries for the next digest and the topic, atomically.
        now, place = self.clock.now(), plan.place(trail.account)
        state.latest_delivery, state.latest_error = stored_time(now), None
        state.deliveries[place.key] = state.latest_delivery
        changes: list[StoreWrite] = [
            Remove("plan", plan_key),
            Put(DELIVERY, trail.uid, state.document()),
        ]
        if plan.validation:
            undigested = UndigestedLog(
                plan.bucket, plan.key, plan.sha256, plan.oldest, plan.newest, delivered=now
            )
            changes.append(put_log(trail, place, plan.number, undigested))
        if plan.topic:
            notice = msgspec.to_builtins(Notice(plan.topic, plan.bucket, plan.key))
            changes.append(note_of(NOTICE, trail.uid, plan.number, state.latest_delivery, notice))
        await self._control.apply(changes)
        self._metrics.delivered_files.labels("log").inc()
        return plan.key

    async def _read_again(
        self, trail: Trail, plan: LogFilePlan, plan_key: str
    ) -> tuple[LogFilePlan, bytes] | None:
        """Returns a plan and the bytes of its file, read from the journal.

        If the journal has lost records of the plan, this plans the file again with the remaining
        records, unless its object exists already. Returns None if none remain.

        Raises:
            ObjectStoreError: the store failed, or the journal has other events than the plan.
        """
        read = self.selector.entries_of(plan, trail.account, trail.home_region, plan.after)
        entries = [entry async for entry in read]
        content = await asyncio.to_thread(log_bytes, [entry.record for entry in entries])
        sha256 = await asyncio.to_thread(sha256_hex, content)
        if sha256 == plan.sha256:
            return plan, content
        missing, expired = await self.selector.missing(trail, plan)
        if not missing:
            reason = f"journal positions {plan.after} to {plan.until} have changed"
            raise ObjectStoreError("PlanMismatch", reason)

        # An attempt whose answer was lost may have written the whole file.
        with suppress(ObjectMissing, ValueError):
            written = await read_log(self._objects, plan.bucket, plan.key)
            if await asyncio.to_thread(sha256_hex, written) == plan.sha256:
                return plan, written

        # Other bytes have another name, so that no key ever gets both. The plan is stored before
        # its object is written.
        undelivered = await add_undelivered(self._control, trail, expired, self.clock.now())
        if not entries:
            await self._control.apply([Remove("plan", plan_key), *undelivered])
            return None
        times = [EventRecord(entry.record).event_time for entry in entries]
        left = replace(plan, sha256=sha256, oldest=min(times), newest=max(times))
        plan = with_name(left, trail)
        await self._control.apply([Put("plan", plan_key, asdict(plan)), *undelivered])
        crash_point("delivery.planned")
        return plan, content


def _content_of(contents: FileContents) -> tuple[bytes, str]:
    """Returns the uncompressed bytes of a file, and their hash; for use in threads."""
    content = log_bytes(entry.record for entry in contents.entries)
    return content, sha256_hex(content)


def with_name(plan: LogFilePlan, trail: Trail) -> LogFilePlan:
    """Returns a plan whose key has the name that follows from its content, and the same minute."""
    unique = name_of(trail.uid, plan.place(trail.account), plan.kind, plan.sha256, plan.renamed)
    end = f"{unique}.json.gz"
    return replace(plan, key=plan.key[: -len(end)] + end)


def name_of(uid: str, place: DeliveryPlace, kind: str, sha256: str, renamed: int = 0) -> str:
    """Returns the unique string in the name of a log file.

    It follows from the file's content, so that no other file of the trail has its name, also if
    positions are assigned again; and from the trail's id, which only the server knows, so that the
    server knows its own files again.
    """
    return unique_string(uid, place.key, kind, sha256, renamed)
