"""Which events a trail takes, and what is kept of files that are planned but not written.

A plan is in the state store before its object is written, and says which journal positions the
object holds; bytes and key follow from it (L1).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opentrail.core.event import Entry
from opentrail.core.logfile import CLOUDTRAIL, LOG_KINDS
from opentrail.core.resources import Span, Trail, takes
from opentrail.core.selectors import Predicate, Selection, predicate_of
from opentrail.ports.control import ControlStore
from opentrail.ports.journal import Journal
from opentrail.trails.facts import FactsOfEntries

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

    def document(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return asdict(self)


async def load_state(control: ControlStore, uid: str) -> DeliveryState:
    """Returns a trail's delivery state."""
    stored = await control.get("delivery", uid)
    if stored is None:
        return DeliveryState()
    return DeliveryState(**{**stored.document, "regions": tuple(stored.document["regions"])})


#: Entries by Region and kind of file.
Chosen = dict[tuple[str, str], list[Entry]]


class Selecting:
    """Reads what trails take from the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._facts = FactsOfEntries()

    async def collect(self, trail: Trail, span: Span, start: int, until: int) -> tuple[int, Chosen]:
        """Reads on until a file is full; returns how far, and what was taken."""
        chosen: Chosen = {}
        position, size, count = start, 0, 0
        predicate = predicate_of(Selection.from_document(span.selectors))
        while position < until and size < _FILE_BYTES and count < _FILE_RECORDS:
            entries = await self._journal.read(position, _READ, until)
            _tell_lost(trail, position, entries, until)
            if not entries:
                position = until
            for entry in entries:
                position = entry.position
                if self._takes(trail.account, trail.home_region, span, predicate, entry):
                    chosen.setdefault((entry.region, LOG_KINDS[entry.category]), []).append(entry)
                    size += len(entry.record)
                    count += 1
                if size >= _FILE_BYTES:
                    break
        return position, chosen

    async def entries_of(
        self, plan: Plan, account: str, home_region: str, after: int
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
        predicate = predicate_of(Selection.from_document(span.selectors))
        position = max(plan.after, after)
        while position < plan.until:
            entries = await self._journal.read(position, _READ, plan.until)
            if not entries:
                return
            position = entries[-1].position
            for entry in entries:
                if (
                    entry.region == plan.region
                    and LOG_KINDS.get(entry.category) == plan.kind
                    and self._takes(account, home_region, span, predicate, entry)
                ):
                    yield entry

    def entries_of_note(self, document: dict[str, Any], after: int) -> AsyncIterator[Entry]:
        """Yields the entries that a note to a log group is about, behind a position."""
        plan = Plan(**document["plan"])
        return self.entries_of(plan, document["account"], document["home_region"], after)

    async def taken(self, trails: Sequence[Trail], entries: Sequence[Entry]) -> list[Entry]:
        """Returns the entries that some trail takes under its present settings, if it logs."""
        spans = [(trail, span) for trail in trails for span in trail.spans if span.open]
        compiled = [
            (trail, span, predicate_of(Selection.from_document(span.selectors)))
            for trail, span in spans
        ]
        return [
            entry
            for entry in entries
            if any(
                self._takes(trail.account, trail.home_region, span, predicate, entry)
                for trail, span, predicate in compiled
            )
        ]

    def _takes(
        self, account: str, home_region: str, span: Span, predicate: Predicate, entry: Entry
    ) -> bool:
        """Selected events of the trail's own account; imports never go to trails.

        A record is parsed only if its columns in the journal leave the decision open.
        """
        if entry.account != account or entry.origin == "import":
            return False
        decided = predicate.decides(entry.category)
        if decided is False or entry.category not in LOG_KINDS:
            return False
        if not takes(span, home_region, entry.region, ""):
            return False
        if decided and (span.every_region or span.global_services):
            return True
        facts = self._facts.of(entry)
        return takes(span, home_region, entry.region, facts.event_source) and predicate.takes(facts)


def _tell_lost(trail: Trail, after: int, entries: Sequence[Entry], until: int) -> None:
    """Names positions that neither the journal nor its archive holds any more."""
    last = entries[0].position - 1 if entries else until
    if last > after:
        lost = {"trail": trail.arn, "first": after + 1, "last": last}
        log.error("records are lost and cannot be delivered", extra=lost)
