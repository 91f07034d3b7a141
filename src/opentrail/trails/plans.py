"""Plans of log files, and the events that a trail selects for them.

A plan is stored before its object is written, and names the journal positions of the object's
records; bytes and key follow from it (guarantee L1).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Self

from opentrail.core.entry_matching import EntryBatch, matcher_of
from opentrail.core.event import Entry, Json
from opentrail.core.logfile import (
    CLOUDTRAIL,
    LOG_KINDS,
    MAX_FILE_BYTES,
    MAX_FILE_RECORDS,
    DeliveryPlace,
)
from opentrail.core.trail import Span, Trail, stored_time
from opentrail.ports.control import ControlStore, Document, Put, Stored, StoredDocument
from opentrail.ports.journal import Journal

#: Positions of one batch.
BATCH = 1_000
#: Maximum bytes of records in the cache: trails that start together are never further apart than
#: one log file.
_CACHED_BYTES = 64 * 1024 * 1024


class SharedReading:
    """Reads batches, and caches the last ones while trails are reading."""

    def __init__(self, journal: Journal, cached_bytes: int = _CACHED_BYTES) -> None:
        self.journal = journal
        self._cached_bytes = cached_bytes
        self._batches: OrderedDict[int, EntryBatch] = OrderedDict()
        self._bytes = 0
        self._readers = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Counts a reader; the cache is emptied after the last one."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._batches.clear()
                self._bytes = 0

    async def read(self, after: int, until: int) -> tuple[EntryBatch, list[Entry], int]:
        """Returns the entries that follow a position.

        Returns:
            The batch, its entries with `after < position <= until`, and the position up to which
            these are complete.
        """
        number = after // BATCH
        last = min((number + 1) * BATCH, until)
        batch = self._batches.get(number)
        if batch is None:
            batch = await self._read(number, last)
        else:
            self._batches.move_to_end(number)
        return batch, [e for e in batch.entries if after < e.position <= until], last

    async def _read(self, number: int, until: int) -> EntryBatch:
        first, last = number * BATCH, (number + 1) * BATCH
        # Only complete batches are cached; of the last batch only the wanted part is read.
        is_complete = last <= self.journal.head
        last = last if is_complete else until
        entries: list[Entry] = []
        position = first
        while position < last:
            more = await self.journal.read(position, last - position, last)
            if not more:
                break
            entries.extend(more)
            position = more[-1].position
        batch = EntryBatch(entries)
        if is_complete and self._readers:
            self._cache(number, batch)
        return batch

    def _cache(self, number: int, batch: EntryBatch) -> None:
        if number in self._batches:
            return
        self._batches[number] = batch
        self._bytes += batch.bytes
        while self._bytes > self._cached_bytes:
            _, gone = self._batches.popitem(last=False)
            self._bytes -= gone.bytes


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogFilePlan:
    """A log file to be written: `after < position <= until` of one place under one span.

    It holds all settings that its bytes depend on, because the span may be deleted before a retry.
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
    selectors: Json | None = None
    insight_selectors: list[Json] = field(default_factory=list)
    #: ARN of the trail.
    trail: str = ""
    kms_key: str = ""
    #: ARN of the topic to notify once it is written.
    topic: str = ""
    #: Stored time at which it was planned.
    since: str = ""
    #: The account whose events it has; plans of earlier versions are of the trail's.
    account: str = ""
    #: Id of the organization of an organization trail.
    organization: str = ""
    #: First and last of positions that are left out: earlier files have them.
    skipped: list[list[int]] = field(default_factory=list)
    #: Number of changes of the file's key because the key was in use.
    renamed: int = 0

    def place(self, account: str) -> DeliveryPlace:
        """Returns the place of its events, for a trail of an account."""
        return DeliveryPlace(self.organization, self.account or account, self.region)


class StreamNote(StoredDocument, frozen=True, kw_only=True):
    """The events of a planned file for a log group."""

    log_group: str
    stream: str
    #: The last position whose event was sent, at first the one before the file.
    sent: int
    #: The last position of the batch that is being sent; None between batches.
    sending: int | None = None
    #: Account and home Region of the trail.
    account: str
    home_region: str
    plan: LogFilePlan
    #: Stored time at which the file was planned.
    since: str

    @classmethod
    def of(cls, document: Document) -> Self:
        """Returns the note in a document; its plan has no members of other versions.

        Raises:
            TypeError: it has some, on which the events may depend.
        """
        return super().of({**document, "plan": LogFilePlan(**document["plan"])})


#: Kind of document with a trail's delivery state.
DELIVERY = "delivery"


@dataclass(slots=True)
class DeliveryState:
    """The progress of a trail, and its status for GetTrailStatus. Times are stored times."""

    position: int = 0
    files: int = 0
    #: Keys of the places that have had files.
    regions: tuple[str, ...] = ()
    latest_delivery: str | None = None
    latest_attempt: str | None = None
    latest_error: str | None = None
    latest_digest: str | None = None
    latest_digest_error: str | None = None
    #: Key of a place → time of its latest delivery.
    deliveries: dict[str, str] = field(default_factory=dict)
    #: First and last of positions behind `position` whose events are in the bucket already.
    skipped: list[list[int]] = field(default_factory=list)
    #: Time at which the bucket had files that the state did not know, and learned of.
    compared: str | None = None
    #: Time of a forced restart of a chain, and its reason; None without a restart.
    new_chain: str | None = None
    new_chain_reason: str = ""

    def document(self) -> Json:
        return asdict(self)

    def is_new_chain_current(self, trail: Trail) -> bool:
        """Returns whether a chain was restarted since logging started."""
        return self.new_chain is not None and self.new_chain >= (trail.started_at or "")

    def places(self, trail: Trail, span: Span) -> list[DeliveryPlace]:
        """Returns the places that have digests under a span: home, and places that have had files.

        Home is the account and the Region of the trail.
        """
        places = {DeliveryPlace.of_key(key, trail.account) for key in self.regions}
        places.add(span.place(trail.account, trail.home_region))
        return sorted(place for place in places if place.organization == span.organization)


#: Kind of document with the events that expired before a trail delivered them.
UNDELIVERED = "undelivered"
#: Maximum ranges in it; later ones become one range.
_MAX_UNDELIVERED_RANGES = 100


class UndeliveredEvents(StoredDocument, frozen=True, kw_only=True):
    """Events in no log file of a trail, because they had expired before."""

    #: First and last of their positions. The trail may not select all of them.
    ranges: list[list[int]]
    #: Stored time at which the last ones were found.
    found: str

    @property
    def count(self) -> int:
        """The maximum number of these events."""
        return sum(last - first + 1 for first, last in self.ranges)

    def is_current(self, trail: Trail) -> bool:
        """Returns whether logging has not started again since."""
        return self.found >= (trail.started_at or "")


async def load_undelivered(control: ControlStore, uid: str) -> UndeliveredEvents | None:
    """Returns the events that expired before a trail delivered them; None without any."""
    stored = await control.get(UNDELIVERED, uid)
    return None if stored is None else UndeliveredEvents.of(stored.document)


async def add_undelivered(
    control: ControlStore, trail: Trail, ranges: Sequence[Sequence[int]], now: datetime
) -> list[Put]:
    """Returns the change that adds ranges of undelivered events, if there are any."""
    if not ranges:
        return []
    known = await load_undelivered(control, trail.uid)
    merged = union([*(known.ranges if known else ()), *ranges])
    if len(merged) > _MAX_UNDELIVERED_RANGES:
        joined = [merged[_MAX_UNDELIVERED_RANGES - 1][0], merged[-1][1]]
        merged = [*merged[: _MAX_UNDELIVERED_RANGES - 1], joined]
    undelivered = UndeliveredEvents(ranges=merged, found=stored_time(now))
    return [Put(UNDELIVERED, trail.uid, undelivered.document())]


def union(ranges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns ranges in order, with overlapping and adjacent ones joined."""
    joined: list[list[int]] = []
    for first, last in sorted(ranges, key=list):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined


async def load_state(control: ControlStore, uid: str) -> DeliveryState:
    """Returns a trail's delivery state."""
    return state_of(await control.get(DELIVERY, uid))


def state_of(stored: Stored | None) -> DeliveryState:
    """Returns the delivery state in a document."""
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
        self.entries.append(entry)
        self.oldest, self.newest = min(self.oldest, time), max(self.newest, time)


#: Place and kind of file → the contents of a file.
SelectedFiles = dict[tuple[DeliveryPlace, str], FileContents]


class EntrySelector:
    """Reads the entries that trails select from the journal."""

    def __init__(self, journal: Journal) -> None:
        self.reading = SharedReading(journal)

    async def collect(
        self,
        trail: Trail,
        span: Span,
        start: int,
        until: int,
        skipped: Sequence[Sequence[int]] = (),
    ) -> tuple[int, SelectedFiles, list[list[int]]]:
        """Reads until a file is full.

        Returns:
            The last position read, the selected entries, and the expired positions among the read.
        """
        selected: SelectedFiles = {}
        expired: list[list[int]] = []
        position, size, count = start, 0, 0
        matches = matcher_of(trail.arn, trail.account, trail.home_region, span)
        while position < until and size < MAX_FILE_BYTES and count < MAX_FILE_RECORDS:
            batch, entries, last = await self.reading.read(position, until)
            for entry in entries:
                if not matches(entry, batch) or is_in(entry.position, skipped):
                    continue
                group = (span.place(entry.account, entry.region), LOG_KINDS[entry.category])
                contents = selected.get(group)
                if contents is None:
                    contents = selected[group] = FileContents()
                contents.add(entry, batch.record_of(entry).event_time)
                size += len(entry.record)
                count += 1
                if size >= MAX_FILE_BYTES:
                    last = entry.position
                    break
            missing = _missing(position, [e for e in entries if e.position <= last], last)
            _log_missing(trail, missing)
            expired += self._expired(missing, skipped)
            position = last
            await asyncio.sleep(0)  # so that recording calls has priority
        return position, selected, expired

    def _expired(
        self, missing: Sequence[Sequence[int]], skipped: Sequence[Sequence[int]]
    ) -> list[list[int]]:
        """Returns the missing ranges that the journal has not lost, and no log file has."""
        lost = [[run.first, run.last] for run in self.reading.journal.lost if run.last is not None]
        return without(missing, [*lost, *skipped])

    async def entries_of(
        self, plan: LogFilePlan, account: str, home_region: str, after: int
    ) -> AsyncIterator[Entry]:
        """Yields the entries of a planned file of a trail after a position, in order."""
        # In a plan's Region, a span excludes at most the events of global services.
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
            insight_selectors=plan.insight_selectors,
        )
        matches = matcher_of(plan.trail, plan.account or account, home_region, span)
        position = max(plan.after, after)
        while position < plan.until:
            batch, entries, position = await self.reading.read(position, plan.until)
            for entry in entries:
                if (
                    entry.region == plan.region
                    and LOG_KINDS.get(entry.category) == plan.kind
                    and matches(entry, batch)
                    and not is_in(entry.position, plan.skipped)
                ):
                    yield entry

    async def all(
        self, trail: Trail, span: Span, after: int, until: int
    ) -> AsyncIterator[tuple[Entry, bool]]:
        """Yields the entries of `after < position <= until`, and whether a span selects each."""
        matches = matcher_of(trail.arn, trail.account, trail.home_region, span)
        while after < until:
            batch, entries, after = await self.reading.read(after, until)
            for entry in entries:
                yield entry, matches(entry, batch)
            await asyncio.sleep(0)  # so that recording calls has priority

    async def missing(
        self, trail: Trail, plan: LogFilePlan
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Returns the ranges of a plan that are lost or expired, and the expired ones."""
        missing: list[list[int]] = []
        after = plan.after
        while after < plan.until:
            _, entries, last = await self.reading.read(after, plan.until)
            missing += _missing(after, entries, last)
            after = last
        _log_missing(trail, missing)
        return missing, self._expired(missing, plan.skipped)

    @staticmethod
    def selects(trail: Trail, span: Span, entry: Entry) -> bool:
        """Returns whether a span of a trail selects an entry."""
        matches = matcher_of(trail.arn, trail.account, trail.home_region, span)
        return matches(entry, EntryBatch([entry]))

    @staticmethod
    def matcher_of(trails: Sequence[Trail]) -> Callable[[Sequence[Entry]], list[Entry]] | None:
        """Returns a filter for the entries that any trail selects; None if no trail logs."""
        matchers = [
            matcher_of(trail.arn, trail.account, trail.home_region, span)
            for trail in trails
            for span in trail.spans
            if span.open
        ]

        def select(entries: Sequence[Entry]) -> list[Entry]:
            batch = EntryBatch(entries)
            return [entry for entry in entries if any(match(entry, batch) for match in matchers)]

        return select if matchers else None


def is_in(position: int, ranges: Sequence[Sequence[int]]) -> bool:
    """Returns whether a position is in one of some ranges, given by their first and last."""
    return any(first <= position <= last for first, last in ranges)


def without(ranges: Sequence[Sequence[int]], removed: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the parts of ranges that are in none of the removed ones, in order."""
    left, holes = [], union(removed)
    for first, last in ranges:
        begin = first
        for gone, until in holes:
            if gone > last:
                break
            if begin < gone:
                left.append([begin, gone - 1])
            begin = max(begin, until + 1)
        if begin <= last:
            left.append([begin, last])
    return left


def _missing(after: int, entries: Sequence[Entry], last: int) -> list[list[int]]:
    """Returns the ranges of positions in neither the journal nor its archive."""
    if last - after == len(entries):
        return []
    return without([[after + 1, last]], [[entry.position] * 2 for entry in entries])


def _log_missing(trail: Trail, missing: Sequence[Sequence[int]]) -> None:
    for first, last in missing:
        about = {"trail": trail.arn, "first": first, "last": last, "count": last - first + 1}
        log.error("lost records cannot be delivered", extra=about)
