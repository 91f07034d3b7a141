"""Which entries of the journal a span selects, for trails and event data stores alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from opentrail.core.event import INSIGHT, Entry
from opentrail.core.event_record import EventRecord
from opentrail.core.insight_types import insight_selectors, selects
from opentrail.core.logfile import LOG_KINDS
from opentrail.core.selectors import Selection, predicate_of
from opentrail.core.trail import Span, includes


class EntryBatch:
    """The entries of a range of positions, with their parsed records."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.bytes = sum(len(entry.record) for entry in entries)
        self._records: dict[int, EventRecord] = {}

    def record_of(self, entry: Entry) -> EventRecord:
        record = self._records.get(entry.position)
        if record is None:
            record = self._records[entry.position] = EventRecord(entry.record)
        return record


def matcher_of(
    arn: str, account: str, home_region: str, span: Span
) -> Callable[[Entry, EntryBatch], bool]:
    """Returns a function that matches the events which a span of a trail or a store selects.

    These are events of one account; for an organization trail, of all its accounts.

    Imported events never match. A record is parsed only if its columns in the journal are not
    enough for the decision.
    """
    predicate = predicate_of(Selection.from_document(span.selectors))
    insights = insight_selectors(span.insight_selectors)
    accounts = frozenset(span.accounts or (account,))
    needs_source = not (span.every_region or span.global_services)

    @cache
    def decide(region: str, category: str) -> bool | None:
        """Returns the decision for a Region and category, None if it depends on the record."""
        decision = predicate.decides(category) if category in LOG_KINDS else False
        if category == INSIGHT and insights:
            decision = None
        if decision is False or not includes(span, home_region, region, ""):
            return False
        return True if decision and not needs_source else None

    def matches(entry: Entry, batch: EntryBatch) -> bool:
        if entry.account not in accounts or entry.origin == "import":
            return False
        decision = decide(entry.region, entry.category)
        if decision is not None:
            return decision
        if entry.category == INSIGHT:
            insight = batch.record_of(entry).insight
            return includes(span, home_region, entry.region, insight.event_source) and selects(
                insights, arn, insight
            )
        fields = batch.record_of(entry).fields
        return includes(span, home_region, entry.region, fields.event_source) and predicate.matches(
            entry.category, fields
        )

    return matches
