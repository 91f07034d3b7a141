"""Follows the journal for detections: applies rules to new events, and records matches."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from opentrail.core.errors import UsageError
from opentrail.core.event import FOUND_DETAILS, Entry, NewEntry, Record, parse_time
from opentrail.core.event_record import EventRecord
from opentrail.detections.correlations import Window, occurrences_of
from opentrail.detections.enabled import EnabledRule, EnabledRules
from opentrail.detections.matching import RuleIndex
from opentrail.detections.records import match_event
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Journal

log = logging.getLogger(__name__)

#: Kind of the document with the cursor.
_KIND = "detections-cursor"
#: Its key.
_KEY = "place"
#: Maximum recorded matches of a rule in an hour; more are counted, not recorded.
MAX_PER_HOUR = 1_000
#: Events that are matched before others tasks run, a few milliseconds.
_SLICE = 50
#: How often the cursor is stored while there are no matches.
_STORED_EVERY = timedelta(seconds=10)


class DetectionCursor(msgspec.Struct, frozen=True):
    """How far events are matched, as the control store has it."""

    #: The last position whose matches are recorded.
    position: int
    #: The position from which correlations must read again to know what they knew.
    resume_after: int


class DetectionFollower:
    """A follower that records each match once.

    The id of a match depends only on the rule and the matched events. After a crash, correlations
    read the events again that still count, and matches that are recorded already are found by id.
    """

    name = "detections"

    def __init__(
        self,
        control: ControlStore,
        rules: EnabledRules,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._control, self._rules, self._journal = control, rules, journal
        self._clock, self._metrics = clock, metrics
        self._revision = ""
        #: What is applied, by name; a rule that RE2 does not take here is left out.
        self._enabled: dict[str, EnabledRule] = {}
        self._index: RuleIndex[tuple[str, int]] = RuleIndex(())
        self._windows: dict[str, Window] = {}
        #: The last position that was read; None: what is in memory must be read again.
        self._cursor: int | None = None
        #: The last position whose matches are recorded: before it, correlations only count.
        self._recorded = 0
        self._stored_at = clock.now()
        self._hour: datetime | None = None
        self._in_hour: Counter[str] = Counter()

    async def cursor(self) -> int:
        """Returns the position that is read; at first, that from which correlations count."""
        if self._cursor is None:
            stored = await self._control.get(_KIND, _KEY)
            enabled = await self._rules.all()
            first = min((each.after for each in enabled), default=self._journal.head)
            if stored is None:
                place = DetectionCursor(first, first)
            else:
                place = msgspec.convert(stored.document, DetectionCursor)
            self._revision, self._windows = "", {}
            self._recorded = max(place.position, first)
            self._cursor = min(place.resume_after, self._recorded)
        return self._cursor

    async def process(self, entries: Sequence[Entry]) -> None:
        """Matches entries, and records what is found.

        Raises:
            OpentrailError: it is not recorded; everything after the stored cursor is read again.
        """
        try:
            await self._load_rules()  # after the entries were read: none precedes its rule
            found: list[NewEntry] = []
            for start in range(0, len(entries), _SLICE):
                for entry in entries[start : start + _SLICE] if self._enabled else ():
                    if entry.category not in FOUND_DETAILS and entry.origin != "import":
                        self._match_guarded(entry, found)
                await asyncio.sleep(0)
            if found:
                await self._append(found)
            last = entries[-1].position
            if found or self._clock.now() - self._stored_at >= _STORED_EVERY:
                await self._store(max(last, self._recorded))
            self._recorded = max(last, self._recorded)
            self._cursor = last
        except BaseException:
            self._cursor = None
            raise

    def _match_guarded(self, entry: Entry, found: list[NewEntry]) -> None:
        """Does `_match`; an event that cannot be matched is counted, and stops no others."""
        try:
            self._match(entry, found)
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
            about = {"event": entry.event_id, "error": repr(error)[:200]}
            log.error("an event cannot be matched with the rules", extra=about)
            self._metrics.detections.labels("failed").inc()

    def _match(self, entry: Entry, found: list[NewEntry]) -> None:
        """Adds the matches that an event completes to `found`."""
        event = EventRecord(entry.record)
        fields = event.fields
        if not self._index.may_match(fields.event_name, fields.event_source):
            return
        record = event.document
        for name, selection in self._index.matching(record):
            enabled = self._enabled[name]
            if entry.position <= enabled.after:
                continue
            match = self._match_of(enabled, selection, entry, record)
            if match is not None and entry.position > self._recorded and self._may_record(name):
                found.append(match)

    def _match_of(
        self, enabled: EnabledRule, selection: int, entry: Entry, record: Record
    ) -> NewEntry | None:
        rule, now = enabled.rule, self._clock.now()
        if rule.correlation is None:
            return match_event(rule, entry, record, now)
        try:
            time = int(parse_time(str(record.get("eventTime"))).timestamp())
        except ValueError:  # a record of another program's making
            time = int(entry.recorded_at.timestamp())
        match = None
        for group, each in occurrences_of(
            rule.correlation, selection, record, time, entry.position
        ):
            if events := self._windows[rule.name].add(group, each):
                match = match_event(rule, entry, record, now, group, events)
        return match

    def _may_record(self, name: str) -> bool:
        """Counts a match of a rule; returns whether it is not one too many of this hour."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._hour, self._in_hour = hour, Counter()
        self._in_hour[name] += 1
        if self._in_hour[name] == MAX_PER_HOUR + 1:
            log.warning("a rule matches too often", extra={"rule": name, "hour": hour.isoformat()})
        if self._in_hour[name] > MAX_PER_HOUR:
            self._metrics.detections.labels("suppressed").inc()
            return False
        return True

    async def _append(self, found: Sequence[NewEntry]) -> None:
        """Records matches, except those that were recorded before a crash."""
        matches = {match.event_id: match for match in found}
        new = [
            match
            for event_id, match in matches.items()
            if await self._journal.find(event_id) is None
        ]
        if new:
            await self._journal.append(new)
            self._metrics.detections.labels("recorded").inc(len(new))

    async def _store(self, position: int) -> None:
        firsts = [window.first_position for window in self._windows.values()]
        resume = min((first - 1 for first in firsts if first is not None), default=position)
        place = DetectionCursor(position, min(resume, position))
        await self._control.apply([Put(_KIND, _KEY, msgspec.to_builtins(place))])
        self._stored_at = self._clock.now()

    async def _load_rules(self) -> None:
        """Compiles the rules again if they were changed."""
        revision = await self._rules.revision()
        if revision == self._revision:
            return
        enabled = {each.rule.name: each for each in await self._rules.all()}
        usable = {name: each for name, each in enabled.items() if _is_usable(each)}
        windows = {}
        for name, each in usable.items():
            if each.rule.correlation is not None:
                is_same = self._enabled.get(name) == each
                window = self._windows.get(name) if is_same else None
                windows[name] = window or Window(each.rule.correlation)
        self._index = RuleIndex(
            ((name, number), selection.condition)
            for name, each in usable.items()
            for number, selection in enumerate(each.rule.selections)
        )
        self._enabled, self._windows, self._revision = usable, windows, revision


def _is_usable(enabled: EnabledRule) -> bool:
    try:
        RuleIndex((0, selection.condition) for selection in enabled.rule.selections)
    except UsageError as error:
        about = {"rule": enabled.rule.name, "error": str(error)}
        log.error("a rule cannot be applied", extra=about)
        return False
    return True
