"""The rules that are enabled for new events: their list, their matches, and match records."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from opentrail.core.errors import UsageError
from opentrail.core.event import (
    DETECTION,
    EVENT_VERSION,
    OTHER_CATEGORIES,
    Entry,
    NewEntry,
    Record,
    parse_time,
)
from opentrail.core.event_record import EventRecord
from opentrail.detections.matching import (
    Group,
    Occurrence,
    RuleIndex,
    Window,
    json_of,
    occurrences_of,
    principal_of,
)
from opentrail.detections.rules import DetectionRule
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import Journal
from opentrail.ports.metrics import Metrics

KIND = "detection"
#: Maximum rules.
MAX_RULES = 2_000


class EnabledRule(msgspec.Struct, frozen=True):
    """A rule that is applied to the events after a position of the journal."""

    rule: DetectionRule
    after: int
    enabled_at: str
    enabled_by: str


class EnabledRules(Collection[EnabledRule]):
    """The enabled rules by name."""

    def __init__(self, control: ControlStore) -> None:
        missing = "is not enabled; 'opentrail detections list' shows which are"
        full = f"at most {MAX_RULES:,} rules can be enabled"
        super().__init__(control, KIND, Codec.of(EnabledRule), "rule", missing, MAX_RULES, full)


EVENT_TYPE = "OpentrailDetection"
#: The event source of matches, and of changes of rules.
DETECTIONS_SOURCE = "detections.opentrail.internal"
_NAMESPACE = uuid.UUID("6f3b0d5a-52d6-5f1f-9d6e-8a4a2f0f7b11")
#: Maximum principals that a record names.
_MAX_PRINCIPALS = 20


def match_event(
    rule: DetectionRule,
    entry: Entry,
    record: Record,
    now: datetime,
    group: Group = (),
    occurrences: Sequence[Occurrence] = (),
) -> NewEntry:
    """Returns the event of a match, whose name is the rule's.

    Its id depends on the rule and the matched events alone.

    Args:
        rule: the rule that matched.
        entry: the event that completed the match.
        record: the record of that event.
        now: when the match is recorded.
        group: the account and the values that the events of a correlation share.
        occurrences: the events of a correlation, in order of time.
    """
    event_ids = [each.event_id for each in occurrences] or [entry.event_id]
    principals = [each.principal for each in occurrences] or [principal_of(record)]
    names = [name for name in dict.fromkeys(principals) if name is not None]
    parts = json_of([rule.name, entry.account, entry.region, event_ids])
    event_id = str(uuid.uuid5(_NAMESPACE, parts.decode()))
    details = {
        "eventSource": DETECTIONS_SOURCE,
        "eventName": rule.name,
        "ruleId": rule.id or None,
        "title": rule.title,
        "level": rule.level,
        "author": rule.author or None,
        "tags": list(rule.tags) or None,
        "matchedEventSource": record.get("eventSource"),
        "matchedEventName": record.get("eventName"),
        "eventIDs": event_ids,
        "principals": names[:_MAX_PRINCIPALS],
    }
    if rule.correlation is not None:
        fields = rule.correlation.selections[0].group_by
        details["groupBy"] = dict(zip(fields, group[1:], strict=True))
        details["seconds"] = rule.correlation.seconds
    document = {
        "eventVersion": EVENT_VERSION,
        "eventTime": record.get("eventTime"),
        "awsRegion": entry.region,
        "eventID": event_id,
        "eventType": EVENT_TYPE,
        "recipientAccountId": entry.account,
        "detectionDetails": {key: value for key, value in details.items() if value is not None},
        "eventCategory": DETECTION,
    }
    raw = json_of(document)
    return NewEntry("detection", now, entry.account, entry.region, DETECTION, event_id, raw)


log = logging.getLogger(__name__)

#: Kind of the document with the cursor.
_KIND = "detections-cursor"
#: Its key.
_KEY = "place"
#: Maximum recorded matches of a rule in an hour; more are counted, not recorded.
MAX_PER_HOUR = 1_000
#: Events that are matched before others tasks run, a few milliseconds.
_SLICE = 50
#: An event may be recorded so long after its time, and still count with others.
_LATE_SECONDS = 3_600
#: Interval at which the cursor is stored while nothing matches.
_STORED_EVERY = timedelta(seconds=10)


class DetectionCursor(msgspec.Struct, frozen=True):
    """The progress of matching, as the control store has it."""

    #: The last position whose matches are recorded.
    position: int
    #: The position from which correlations must read again to restore their state.
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
        #: The enabled rules, by name; without rules that RE2 rejects here.
        self._enabled: dict[str, EnabledRule] = {}
        self._index: RuleIndex[tuple[str, int]] = RuleIndex(())
        self._windows: dict[str, Window] = {}
        #: The last position read; None: the state in memory must be read again.
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
        """Matches entries, and records the matches.

        Raises:
            OpentrailError: no record; everything after the stored cursor is read again.
        """
        try:
            await self._load_rules()  # after the entries were read: none precedes its rule
            found: list[NewEntry] = []
            for start in range(0, len(entries), _SLICE):
                for entry in entries[start : start + _SLICE] if self._enabled else ():
                    if entry.category not in OTHER_CATEGORIES and entry.origin != "import":
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
        """Counts a match of a rule; returns whether it is within this hour's limit."""
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
        """Records matches, except matches already recorded before a crash."""
        matches = {match.event_id: match for match in found}
        new = [
            match
            for event_id, match in matches.items()
            if await self._journal.find(event_id) is None
        ]
        if new:
            await self._journal.append(new)
            self._metrics.detections.labels("recorded").inc(len(new))

    def needed_after(self, cursor: int) -> int:
        """Returns the position after which correlations count, and read again after a crash."""
        now = int(self._clock.now().timestamp())
        return self._first_counted(cursor, now - _LATE_SECONDS)

    def _first_counted(self, position: int, now: int | None = None) -> int:
        """Returns the position before all events that still count, at most a position."""
        firsts = [window.first_position(now) for window in self._windows.values()]
        return min([position, *(first - 1 for first in firsts if first is not None)])

    async def _store(self, position: int) -> None:
        place = DetectionCursor(position, self._first_counted(position))
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
