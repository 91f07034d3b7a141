"""Follows the journal for Insights: counts events, and appends the records of findings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Protocol

from opentrail.core.event import Entry, NewEntry
from opentrail.core.logs import attempt
from opentrail.insights.findings import (
    Detection,
    Expected,
    ExpectedIncidents,
    WatchState,
    insight_event,
    minute_of,
    principal_event,
    start_id,
    time_of,
)
from opentrail.ports.clock import Clock
from opentrail.ports.event_store import CallCounts, CallKey, EventStore, PrincipalCounts, Snapshot
from opentrail.ports.follow import BATCH
from opentrail.ports.journal import Journal, append_once

log = logging.getLogger(__name__)

#: Days of events from which baselines are learned.
LEARNED_DAYS = 28
#: Interval at which time passes for minutes without events.
_TICK_SECONDS = 5.0
#: Minutes that the watch may be ahead of the clock: more, if the clock was wrong for a time.
_MAX_AHEAD_MINUTES = 10
#: Events recorded longer ago than this are in the journal.
_IN_JOURNAL = timedelta(seconds=5)
_DAY = timedelta(days=1)
#: The start and the end of an incident that is over.
Incident = tuple[Detection, Detection]


class RemoteWatch(Protocol):
    """A watch, which may be in another process."""

    async def state(self) -> WatchState:
        """Return the progress of the watch."""
        ...

    async def resume(self, moment: datetime) -> None:
        """Continue at this time; nothing was recorded since the watch ended."""
        ...

    async def expect(self, expected: Sequence[Expected]) -> None:
        """Suppress incidents no larger than these, in place of the previously suppressed ones."""
        ...

    async def observe(self, entries: Sequence[Entry], after: int) -> WatchState:
        """Count entries of the journal; skip entries already counted.

        Args:
            entries: the entries after `after` in the journal.
            after: a position; all entries up to it must be counted.

        Raises:
            StorageFailed: they are not: another process took over from an older snapshot.
        """
        ...

    async def pass_time(self, moment: datetime) -> WatchState:
        """Close the minutes whose events have arrived by this time."""
        ...

    async def acknowledge(self, number: int) -> None:
        """Forget findings up to a number."""
        ...

    async def begin(self, since: int) -> None:
        """Begin to learn; `since` is the first minute that is known about."""
        ...

    async def learn(self, counts: Sequence[CallCounts], until: datetime) -> list[Detection]:
        """Learn from the counts of a period that ends at `until`; return its findings."""
        ...

    async def abandon(self) -> None:
        """Forget the learned values."""
        ...

    async def learn_principals(self, counts: Sequence[PrincipalCounts]) -> None:
        """Learn the activity of principals in the period whose counts are learned next."""
        ...

    async def adopt(self, cursor: int, imported: int) -> WatchState:
        """Watch with the values learned from all events up to these."""
        ...


@dataclass(frozen=True, slots=True)
class LearningProgress:
    """The state of Insights, which has learned `learned` of `days` days."""

    state: str = "off"
    learned: int = 0
    days: int = LEARNED_DAYS


@dataclass(frozen=True, slots=True)
class InsightsStatus:
    """The state and progress of Insights.

    Args:
        state: `off`, `elsewhere` (another server of the cluster does it), `starting`, `learning`
            (days of event history) or `watching`.
        learned: days of event history that are learned, of `days`.
        known_since: the first minute from which there are events.
        watched_until: the end of the last minute whose events are counted.
        keys: the number of APIs, and of their error codes, by account and Region.
        unwatched: calls that are not counted because there are too many keys.
        unwatched_uses: uses that may or may not be first ones, because there are
            too many values.
        incidents: the number of open incidents.
        scanned: days of old events that a running scan has read, and days it will read in all.
    """

    state: str
    learned: int
    days: int
    known_since: datetime | None = None
    watched_until: datetime | None = None
    keys: int = 0
    unwatched: int = 0
    unwatched_uses: int = 0
    incidents: int = 0
    scanned: tuple[int, int] | None = None


class Insights:
    """A follower that has unusual activity found and recorded.

    Args:
        watch: counts and finds, in another process.
        store: the events that baselines are learned from, and records describe.
        journal: where records of unusual activity go.
        clock: the current time.
        until_visible: returns once the store has all events up to a position.
        sources: returns the ARNs of the trails that want a key's insights about data events; for
            management events [None] if anybody wants them. If the second argument is true, it
            returns every trail that may have wanted them before.
        expected: the incidents that were marked as expected.
        of_principals: whether types about principals are on, which are learned separately.
        works_elsewhere: returns whether another server of a cluster watches.
        worker_journal: is appended to while this server watches; None: `journal` is.
    """

    name = "insights"

    def __init__(
        self,
        watch: RemoteWatch,
        store: EventStore,
        journal: Journal,
        clock: Clock,
        until_visible: Callable[[int], Awaitable[None]],
        sources: Callable[[CallKey, bool], Awaitable[Sequence[str | None]]],
        expected: ExpectedIncidents,
        of_principals: bool = False,
        works_elsewhere: Callable[[], bool] = lambda: False,
        worker_journal: Journal | None = None,
    ) -> None:
        self.expected = expected
        self._watch, self._store, self._journal, self._clock = watch, store, journal, clock
        self._worker_journal = worker_journal or journal
        self._until_visible, self._sources = until_visible, sources
        #: The position up to which the follower has had entries counted.
        self._counted = 0
        self._of_principals = of_principals
        self._works_elsewhere = works_elsewhere
        #: The incidents that the watch suppresses.
        self._suppressed: Sequence[Expected] = ()
        self._lock = asyncio.Lock()
        self._imported = store.snapshot.imported
        self._progress = LearningProgress()
        #: Held while a second watch learns: for a new baseline, or of old events.
        self._learning = asyncio.Lock()
        self._scanned: tuple[int, int] | None = None

    async def status(self) -> InsightsStatus:
        """Returns the state of Insights."""
        state, learned, days = astuple(self._progress)
        if state == "off" and self._works_elsewhere():
            state = "elsewhere"
        if state in ("off", "elsewhere", "starting"):
            return InsightsStatus(state, learned, days)
        watch = await self._watch.state()
        if not watch.is_learned:
            return InsightsStatus(state, learned, days)
        return InsightsStatus(
            state,
            learned,
            days,
            time_of(watch.since),
            time_of(watch.now + 1),
            watch.keys,
            watch.unwatched,
            watch.unwatched_uses,
            watch.incidents,
            self._scanned,
        )

    @property
    def is_watching(self) -> bool:
        """Whether entries are counted: baselines are learned."""
        return self._progress.state == "watching"

    def rest(self) -> None:
        """Marks the watch as ended; `cursor` begins again, possibly after another server's."""
        self._progress = LearningProgress()

    async def cursor(self) -> int:
        """Returns the position up to which entries are counted; baselines are learned first."""
        async with self._lock:
            is_first = self._progress.state == "off"
            if is_first:
                self._progress = LearningProgress("starting")
            state = await self._watch.state()
            if not state.is_learned:
                state = await self._learn()
            elif is_first:
                await self._watch.resume(self._clock.now())
            await self._expect()
            self._progress = LearningProgress("watching", LEARNED_DAYS)
            self._counted = state.cursor
            return self._counted

    async def process(self, entries: Sequence[Entry]) -> None:
        """Counts entries, and records findings."""
        async with self._lock:
            state = await self._watch.observe(entries, self._counted)
            self._counted = state.cursor
            await self._record(state)

    async def run(self) -> None:
        """Lets time pass until it is cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            await attempt(self.tick(), "insights failed, trying again")

    async def tick(self) -> None:
        """Records findings as time passes.

        Learns again once an import has ended, or a clock that was ahead is right again.
        """
        async with self._lock:
            state = await self._watch.state()
            if not state.is_learned:
                return
            imported = self._store.snapshot.imported
            has_imported = imported != state.imported and imported == self._imported
            # Minutes that were closed while the clock was ahead would miss all their calls.
            is_ahead = state.now > minute_of(self._clock.now()) + _MAX_AHEAD_MINUTES
            if has_imported or is_ahead:
                state = await self._learn()
                await self._expect()
                self._progress = LearningProgress("watching", LEARNED_DAYS)
            if self._suppressed != await self.expected.that_count(self._clock.now()):
                await self._expect()  # another server has marked one, or one counts no longer
            self._imported = imported
            now = self._clock.now()
            if state.cursor >= self._journal.head:
                state = await self._watch.pass_time(now - _IN_JOURNAL)
            await self._record(state)

    async def expect(self, incident: Expected) -> None:
        """Marks an incident as expected: only more calls than these are reported again."""
        async with self._lock:
            await self.expected.put(incident.id, incident)
            # Before it watches, and on a server that does not, nothing more to do.
            if self.is_watching:
                await self._expect()

    async def _expect(self) -> None:
        self._suppressed = await self.expected.that_count(self._clock.now())
        await self._watch.expect(self._suppressed)

    async def _learn(self) -> WatchState:
        """Learns baselines from all events that are stored."""
        await self._until_visible(self._journal.head)
        snapshot, now = self._store.snapshot, self._clock.now()
        async with self._learning:
            began = False
            async for learned, day, counts in self._days(now - LEARNED_DAYS * _DAY, now, snapshot):
                self._progress = LearningProgress("learning", learned)
                began = await self._begin(counts, began)
                if began and self._of_principals:
                    principals = await self._store.count_principals(day, day + _DAY, snapshot)
                    await self._watch.learn_principals(principals)
                if began:
                    await self._watch.learn(counts, min(day + _DAY, now))
            if not began:
                await self._watch.begin(minute_of(now))
            await self._count_until(snapshot.recorded)
            return await self._watch.adopt(snapshot.recorded, snapshot.imported)

    async def scan(
        self, since: datetime, on_day: Callable[[int, int], None] = lambda _day, _days: None
    ) -> list[Incident]:
        """Returns the finished incidents in stored events, from a time onwards.

        Args:
            since: when incidents begin; the scan reads the days before it to learn usual values.
            on_day: called with the number of days read, and the number of all days.
        """
        await self._until_visible(self._journal.head)
        snapshot, now = self._store.snapshot, self._clock.now()
        starts: dict[tuple[CallKey, int], Detection] = {}
        incidents: list[Incident] = []
        async with self._learning:
            try:
                began, days = False, (now - since) // _DAY + LEARNED_DAYS + 1
                before = since - LEARNED_DAYS * _DAY
                async for number, day, counts in self._days(before, now, snapshot):
                    self._scanned = number, days
                    on_day(number, days)
                    began = await self._begin(counts, began)
                    if not began:
                        continue
                    for detection in await self._watch.learn(counts, min(day + _DAY, now)):
                        start = detection.key, detection.start
                        if detection.end is None:
                            starts[start] = detection
                        elif (first := starts.pop(start)).found >= minute_of(since):
                            incidents.append((first, detection))
            finally:
                self._scanned = None
                await self._watch.abandon()
        return incidents

    async def _days(
        self, since: datetime, now: datetime, snapshot: Snapshot
    ) -> AsyncIterator[tuple[int, datetime, Sequence[CallCounts]]]:
        """Yields the number, the start and the counts of each day."""
        day, number = since.replace(hour=0, minute=0, second=0, microsecond=0), 0
        while day < now:
            yield number, day, await self._store.count_calls(day, day + _DAY, snapshot)
            day, number = day + _DAY, number + 1

    async def _begin(self, counts: Sequence[CallCounts], began: bool) -> bool:
        """Begins to learn with the first event; returns whether it has begun."""
        if not began and counts:
            await self._watch.begin(min(calls.minutes[0] for calls in counts))
            began = True
        return began

    async def record(self, incidents: Sequence[Incident]) -> list[NewEntry]:
        """Appends the records of incidents and returns them."""
        entries: list[NewEntry] = []
        async with self._lock:
            for start, end in incidents:
                for source in await self._sources(start.key, False):
                    for detection in (start, end):
                        entries += [event := await self._event(detection, source)]
                        await append_once(self._journal, event)
        return entries

    async def _event(self, finding: Detection, source: str | None) -> NewEntry:
        """Returns the record of a finding."""
        now, snapshot = self._clock.now(), self._store.snapshot
        return await insight_event(self._store, snapshot, finding, now, source)

    async def _count_until(self, position: int) -> None:
        """Counts up to a position in the watch that learning replaces: it may report something."""
        state = await self._watch.state()
        if not state.is_learned:
            return
        cursor = state.cursor
        while entries := await self._journal.read(cursor, BATCH, position):
            await self._watch.observe(entries, cursor)
            cursor = entries[-1].position

    async def _record(self, state: WatchState) -> None:
        """Appends records of findings; skips records that exist already."""
        for finding in state.findings:
            for source in await self._sources_of(finding):
                await self._until_visible(state.cursor)
                await append_once(self._worker_journal, await self._event(finding, source))
        for finding_of_principal in state.principal_findings:
            event = principal_event(finding_of_principal, self._clock.now())
            await append_once(self._worker_journal, event)
        if state.findings or state.principal_findings:
            numbers = [finding.number for finding in state.findings]
            numbers += [finding.number for finding in state.principal_findings]
            await self._watch.acknowledge(max(numbers))

    async def _sources_of(self, finding: Detection) -> Sequence[str | None]:
        """Returns who gets a finding: an end is for all who got the start, even if they stopped."""
        if finding.end is None:
            return await self._sources(finding.key, False)
        return [
            source
            for source in await self._sources(finding.key, True)
            if await self._journal.find(start_id(finding.key, finding.start, source)) is not None
        ]
