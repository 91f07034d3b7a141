"""Which events a trail takes, and what is kept of files that are planned but not written.

A plan is in the state store before its object is written, and says which journal positions the
object holds; bytes and key follow from it (guarantee L1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from opentrail.core.event import Entry
from opentrail.core.logfile import CLOUDTRAIL, LOG_KINDS
from opentrail.core.selectors import Selection, predicate_of
from opentrail.core.trail import Span, Trail, takes
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Journal
from opentrail.trails.reading import EntryBatch, SharedReading

#: A plan closes at this much uncompressed text (AWS's limit is 50 MB) or so many records. Trails
#: that begin together stay near each other, so that mostly they read the journal once for all.
_FILE_BYTES, _FILE_RECORDS = 16 * 1024 * 1024, 50_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogFilePlan:
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
    kms_key: str = ""
    #: Who is told of it once it is written.
    topic: str = ""
    #: Stored time at which it was planned.
    since: str = ""


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
    #: Of each Region the time of its latest delivery.
    deliveries: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return asdict(self)


async def load_state(control: ControlStore, uid: str) -> DeliveryState:
    """Returns a trail's delivery state."""
    stored = await control.get("delivery", uid)
    if stored is None:
        return DeliveryState()
    return DeliveryState(**{**stored.document, "regions": tuple(stored.document["regions"])})


@dataclass(slots=True)
class FileContents:
    """Entries for one file, and the oldest and newest of their `eventTime`s."""

    entries: list[Entry] = field(default_factory=list)
    oldest: str = "~"
    newest: str = ""

    def add(self, entry: Entry, time: str) -> None:
        """Adds an entry."""
        self.entries.append(entry)
        self.oldest, self.newest = min(self.oldest, time), max(self.newest, time)


#: What was taken, by Region and kind of file.
Chosen = dict[tuple[str, str], FileContents]


class Selecting:
    """Reads what trails take from the journal."""

    def __init__(self, journal: Journal) -> None:
        self.reading = SharedReading(journal)

    async def collect(self, trail: Trail, span: Span, start: int, until: int) -> tuple[int, Chosen]:
        """Reads on until a file is full; returns how far, and what was taken."""
        chosen: Chosen = {}
        position, size, count = start, 0, 0
        takes = _taking(trail.account, trail.home_region, span)
        while position < until and size < _FILE_BYTES and count < _FILE_RECORDS:
            stretch, entries, reached = await self.reading.read(position, until)
            _tell_lost(trail, position, entries, reached)
            for entry in entries:
                if not takes(entry, stretch):
                    continue
                group = (entry.region, LOG_KINDS[entry.category])
                taken = chosen.get(group)
                if taken is None:
                    taken = chosen[group] = FileContents()
                taken.add(entry, stretch.record_of(entry).event_time)
                size += len(entry.record)
                count += 1
                if size >= _FILE_BYTES:
                    reached = entry.position
                    break
            position = reached
            await asyncio.sleep(0)  # calls that are being recorded come first
        return position, chosen

    async def entries_of(
        self, plan: LogFilePlan, account: str, home_region: str, after: int
    ) -> AsyncIterator[Entry]:
        """Yields the entries of a planned file behind a position, in order."""
        # Of a plan's own Region, a span leaves out no more than the events of global services.
        span = Span(
            plan.after,
            plan.until,
            "",
            plan.bucket,
            "",
            plan.global_services,
            plan.global_services,
            plan.validation,
            selectors=plan.selectors,
        )
        takes = _taking(account, home_region, span)
        position = max(plan.after, after)
        while position < plan.until:
            stretch, entries, position = await self.reading.read(position, plan.until)
            for entry in entries:
                if (
                    entry.region == plan.region
                    and LOG_KINDS.get(entry.category) == plan.kind
                    and takes(entry, stretch)
                ):
                    yield entry

    def entries_of_note(self, document: dict[str, Any], after: int) -> AsyncIterator[Entry]:
        """Yields the entries that a note to a log group is about, behind a position."""
        plan = LogFilePlan(**document["plan"])
        return self.entries_of(plan, document["account"], document["home_region"], after)

    @staticmethod
    def taking(trails: Sequence[Trail]) -> Callable[[Sequence[Entry]], list[Entry]] | None:
        """Returns what tells which entries some trail takes as it is set now, None if none logs."""
        takings = [
            _taking(trail.account, trail.home_region, span)
            for trail in trails
            for span in trail.spans
            if span.open
        ]

        def taken(entries: Sequence[Entry]) -> list[Entry]:
            stretch = EntryBatch(entries)
            return [entry for entry in entries if any(takes(entry, stretch) for takes in takings)]

        return taken if takings else None


def _taking(account: str, home_region: str, span: Span) -> Callable[[Entry, EntryBatch], bool]:
    """Returns what tells which events a span takes: selected ones of the trail's own account.

    Imports never go to trails. A record is parsed only if its columns in the journal leave the
    decision open.
    """
    predicate = predicate_of(Selection.from_document(span.selectors))
    needs_source = not (span.every_region or span.global_services)

    @cache
    def decided(region: str, category: str) -> bool | None:
        """Returns what is known of all events of a Region and category, None if it depends."""
        decision = predicate.decides(category) if category in LOG_KINDS else False
        if decision is False or not takes(span, home_region, region, ""):
            return False
        return True if decision and not needs_source else None

    def is_taken(entry: Entry, stretch: EntryBatch) -> bool:
        if entry.account != account or entry.origin == "import":
            return False
        decision = decided(entry.region, entry.category)
        if decision is not None:
            return decision
        fields = stretch.record_of(entry).fields
        return takes(span, home_region, entry.region, fields.event_source) and predicate.matches(
            entry.category, fields
        )

    return is_taken


def _tell_lost(trail: Trail, after: int, entries: Sequence[Entry], reached: int) -> None:
    """Names positions of which neither the journal nor its archive holds all any more."""
    lost = reached - after - len(entries)
    if lost:
        told = {"trail": trail.arn, "first": after + 1, "last": reached, "count": lost}
        log.error("records are lost and cannot be delivered", extra=told)
