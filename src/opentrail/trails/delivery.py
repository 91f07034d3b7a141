"""Delivery of a trail's log files: planned, written, read back, remembered (guarantees L1 and L7).

After any failure the same object is written again, never another one with the same events. Planning
continues while a bucket fails, so that sinks do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from opentrail.core.errors import ObjectStoreError
from opentrail.core.event import parse_time
from opentrail.core.faults import reach
from opentrail.core.logfile import (
    DeliveryPlace,
    encryption_context,
    log_bytes,
    log_key,
    sha256_hex,
    unique_string,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.trails.plans import DeliveryState, EntrySelector, FileContents, LogFilePlan
from opentrail.trails.sinks.cloudwatch_logs import stream_name
from opentrail.trails.sinks.outbox import NOTICE, STREAM, file_key, note_of
from opentrail.trails.writing import compress, put_exactly

log = logging.getLogger(__name__)

#: Error codes that concern one file, not its bucket.
_OF_ONE_FILE = frozenset(
    {"KeyTooLongError", "PlanMismatch", "ObjectMismatch", "InvalidArgument", "InvalidURI"}
)
#: Writing a file is retried for this time (cloudtrail-format §5.2).
_LONGEST = timedelta(days=30)


class LogDelivery:
    """Writes the log files of trails."""

    def __init__(
        self,
        selector: EntrySelector,
        control: ControlStore,
        objects: ObjectStore,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.selector = selector
        self._control = control
        self._objects = objects
        self.clock = clock
        self._metrics = metrics
        #: Trail → key → contents of new plans, so that they need not be read twice.
        self._contents: dict[str, dict[str, bytes]] = {}

    def count_failure(self) -> None:
        self._metrics.delivery_failures.inc()

    async def finish_plans(self, trail: Trail, state: DeliveryState) -> list[str]:
        """Writes every planned file that is not known to be in its bucket; returns their keys.

        A failing bucket does not delay other buckets, nor a single failing file other files.

        Raises:
            ObjectStoreError: the store failed; files that were not written remain planned.
        """
        written: list[str] = []
        failures: dict[str, ObjectStoreError] = {}
        for stored in await self._control.scan("plan", f"{trail.uid}/"):
            plan = LogFilePlan(**stored.document)
            before = failures.get(plan.bucket)
            if before is not None and before.code not in _OF_ONE_FILE and not self._is_over(plan):
                continue
            try:
                await self._write(trail, state, plan, stored.key)
            except ObjectStoreError as error:
                if self._is_over(plan):
                    await self._give_up(trail, stored)
                else:
                    failures[plan.bucket] = error
            else:
                written.append(plan.key)
        self.drop_contents(trail)
        for failure in failures.values():
            raise failure
        return written

    async def is_planned(self, trail: Trail, span: Span) -> bool:
        """Returns whether a file for a span's bucket is yet to be written."""
        plans = await self._control.scan("plan", f"{trail.uid}/")
        return any(plan.document["bucket"] == span.bucket for plan in plans)

    def _is_over(self, plan: LogFilePlan) -> bool:
        return is_over(plan.since, self.clock.now())

    async def _give_up(self, trail: Trail, stored: Stored) -> None:
        about = {"trail": trail.arn, "bucket": stored.document["bucket"]}
        log.error("a log file is given up after 30 days", extra=about)
        self._metrics.given_up_files.inc()
        await self._control.apply([Remove("plan", stored.key)])

    async def plan_span(self, trail: Trail, state: DeliveryState, span: Span, until: int) -> bool:
        """Plans the next files of a span up to `until`; returns whether there is more.

        The contents are cached for `finish_plans`.
        """
        start = max(state.position, span.after)
        if start >= until:
            return False
        reached, selected = await self.selector.collect(trail, span, start, until)
        changes: list[StoreWrite] = []
        regions = set(state.regions)
        for (place, kind), contents in sorted(selected.items(), key=itemgetter(0)):
            state.files += 1
            what = (state.files, (start, reached), (place, kind), contents, self.clock.now())
            plan, content = await asyncio.to_thread(_planned, trail, span, *what)
            self._contents.setdefault(trail.uid, {})[plan.key] = content
            key = file_key(trail.uid, plan.number)
            changes.append(Put("plan", key, asdict(plan), expected=0))
            if span.log_group:
                changes.append(_stream_note(trail, span, plan))
            regions.add(place.key)
        state.position, state.regions = reached, tuple(sorted(regions))
        has_plans = bool(changes)
        await self._control.apply([*changes, Put("delivery", trail.uid, state.document())])
        if has_plans:
            reach("delivery.planned")
        return reached < until

    def drop_contents(self, trail: Trail) -> None:
        """Empties the cache; contents are read again from the journal when needed."""
        self._contents.pop(trail.uid, None)

    async def _write(
        self, trail: Trail, state: DeliveryState, plan: LogFilePlan, plan_key: str
    ) -> None:
        state.latest_attempt = self._now()
        cached = self._contents.get(trail.uid, {})
        content = cached.pop(plan.key, None) or await self._content(trail, plan)
        packed = await asyncio.to_thread(compress, content)
        new = NewObject(
            plan.bucket,
            plan.key,
            packed,
            kms_key=plan.kms_key,
            encryption_context=encryption_context(trail.arn),
        )
        await put_exactly(self._objects, new)
        reach("delivery.put")
        state.latest_delivery, state.latest_error = self._now(), None
        place = plan.place(trail.account).key
        state.deliveries[place] = state.latest_delivery
        changes: list[StoreWrite] = [
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
            changes.append(Put("log", file_key(f"{trail.uid}/{place}", plan.number), listed))
        if plan.topic:
            message = {"topic": plan.topic, "bucket": plan.bucket, "key": plan.key}
            changes.append(note_of(NOTICE, trail.uid, plan.number, state.latest_delivery, message))
        await self._control.apply(changes)
        self._metrics.delivered_files.labels("log").inc()

    async def _content(self, trail: Trail, plan: LogFilePlan) -> bytes:
        """Returns the bytes of a plan, made again from the journal.

        Raises:
            ObjectStoreError: they differ from the plan.
        """
        entries = self.selector.entries_of(plan, trail.account, trail.home_region, plan.after)
        records = [entry.record async for entry in entries]
        content = await asyncio.to_thread(log_bytes, records)
        if await asyncio.to_thread(sha256_hex, content) != plan.sha256:
            reason = f"journal positions {plan.after} to {plan.until} have changed"
            raise ObjectStoreError("PlanMismatch", reason)
        return content

    def _now(self) -> str:
        return stored_time(self.clock.now())


def is_over(since: str | None, now: datetime) -> bool:
    """Returns whether something has been retried for the longest time.

    Args:
        since: stored time; None or empty if it is not known.
        now: the present time.
    """
    return bool(since) and now - parse_time(str(since)) > _LONGEST


def _planned(
    trail: Trail,
    span: Span,
    number: int,
    window: tuple[int, int],
    group: tuple[DeliveryPlace, str],
    contents: FileContents,
    now: datetime,
) -> tuple[LogFilePlan, bytes]:
    """Returns the plan of one file, and its uncompressed bytes; for use in threads."""
    place, kind = group
    location = place.location(span.bucket, span.prefix)
    unique = unique_string(trail.uid, place.key, *window)
    content = log_bytes(entry.record for entry in contents.entries)
    plan = LogFilePlan(
        number=number,
        bucket=span.bucket,
        key=log_key(location, now, unique, kind),
        region=place.region,
        after=window[0],
        until=window[1],
        sha256=sha256_hex(content),
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
    )
    return plan, content


def _stream_note(trail: Trail, span: Span, plan: LogFilePlan) -> Put:
    """Returns the note for sending the events of a planned file to a log group."""
    document: dict[str, Any] = {
        "log_group": span.log_group,
        "stream": stream_name(plan.place(trail.account)),
        "sent": plan.after,
        "account": trail.account,
        "home_region": trail.home_region,
        "plan": asdict(plan),
    }
    return note_of(STREAM, trail.uid, plan.number, plan.since, document)
