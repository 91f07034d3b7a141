"""Insights in a server: the process that watches, and which findings are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opentrail.adapters.ipc.child import ChildProcess
from opentrail.adapters.ipc.link import Link
from opentrail.app.insights_messages import (
    AbandonLearning,
    Acknowledge,
    Adopt,
    BeginLearning,
    Expect,
    GetWatch,
    LearnCounts,
    LearnPrincipals,
    Observe,
    PassTime,
    Resume,
    StopWatch,
)
from opentrail.core.event import DATA, Entry
from opentrail.core.insight_selectors import CALL_RATE, ERROR_RATE, insight_selectors
from opentrail.core.trail import Trail, includes
from opentrail.insights.expected import Expected
from opentrail.insights.findings import Detection, WatchState
from opentrail.ports.event_store import CallCounts, CallKey, PrincipalCounts
from opentrail.trails.registry import TrailRegistry

#: Deadlines: for a request, for one that may take as long as the events of a day, and to end.
_SECONDS, _LONG_SECONDS, _STOP_SECONDS = 60.0, 1_800.0, 10.0
#: Records of one request, in bytes.
_PART_BYTES = 16 * 1024 * 1024


class WatchProcess:
    """A watch in a child process, which is started again if it ends."""

    def __init__(self, folder: Path, preset: str, types: Sequence[str] = ()) -> None:
        self._folder = folder
        self._child = ChildProcess(
            "opentrail.app.insights_process",
            (str(folder), preset, ",".join(types)),
            {},
            self._prepare,
            prepare_seconds=_SECONDS,
        )

    async def _prepare(self, link: Link) -> None:
        await link.ask(GetWatch())

    async def start(self) -> None:
        """Starts the process.

        Raises:
            StorageFailed: it did not start.
        """
        self._folder.mkdir(exist_ok=True)
        await self._child.start()

    async def stop(self) -> None:
        """Ends the process once a snapshot is written."""
        await self._child.stop(StopWatch(), _STOP_SECONDS)

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._child.pid

    async def state(self) -> WatchState:
        """Returns how far the watch is."""
        return await self._child.ask(GetWatch(), _SECONDS)

    async def resume(self, moment: datetime) -> None:
        """Goes on at this time; nothing was recorded since the watch ended."""
        await self._child.ask(Resume(moment), _SECONDS)

    async def expect(self, expected: Sequence[Expected]) -> None:
        """Has what was as large in these incidents not reported again; others do not count."""
        await self._child.ask(Expect(list(expected)), _SECONDS, resend=False)

    async def observe(self, entries: Sequence[Entry]) -> WatchState:
        """Has entries of the journal counted; those that are counted already are left out."""
        state = WatchState()
        part: list[Entry] = []
        size = 0
        for entry in entries:
            part.append(entry)
            size += len(entry.record)
            if size >= _PART_BYTES or entry is entries[-1]:
                # A new process must begin at its own cursor.
                state = await self._child.ask(Observe(part), _LONG_SECONDS, resend=False)
                part, size = [], 0
        return state

    async def pass_time(self, moment: datetime) -> WatchState:
        """Closes the minutes whose events have arrived by this time."""
        return await self._child.ask(PassTime(moment), _LONG_SECONDS, resend=False)

    async def acknowledge(self, number: int) -> None:
        """Forgets findings up to a number."""
        await self._child.ask(Acknowledge(number), _SECONDS, resend=False)

    async def begin(self, since: int) -> None:
        """Begins to learn; `since` is the first minute that is known about."""
        await self._child.ask(BeginLearning(since), _SECONDS, resend=False)

    async def learn(self, counts: Sequence[CallCounts], until: datetime) -> list[Detection]:
        """Learns from the counts of a period that ends at `until`; returns what was unusual."""
        request = LearnCounts(list(counts), until)
        return await self._child.ask(request, _LONG_SECONDS, resend=False)

    async def abandon(self) -> None:
        """Forgets what was learned."""
        await self._child.ask(AbandonLearning(), _SECONDS)

    async def learn_principals(self, counts: Sequence[PrincipalCounts]) -> None:
        """Learns what principals did in the period whose counts are learned next."""
        await self._child.ask(LearnPrincipals(list(counts)), _LONG_SECONDS, resend=False)

    async def adopt(self, cursor: int, imported: int) -> WatchState:
        """Watches with what was learned from all events up to these."""
        return await self._child.ask(Adopt(cursor, imported), _LONG_SECONDS, resend=False)


def has_insights(trail: Trail) -> bool:
    """Returns whether a trail is logging and has insight selectors."""
    return any(span.open and span.insight_selectors for span in trail.spans)


def wants(trail: Trail, key: CallKey) -> bool:
    """Returns whether a trail gets the Insights events of a key."""
    wanted = ERROR_RATE if key.error_code else CALL_RATE
    return trail.is_visible_to(key.account) and any(
        span.open
        and includes(span, trail.home_region, key.region, key.event_source)
        and selector.insight_type == wanted
        and key.category in selector.categories
        for span in trail.spans
        for selector in insight_selectors(span.insight_selectors)
    )


async def sources(
    trails: TrailRegistry, always: bool, key: CallKey, in_past: bool
) -> list[str | None]:
    """Returns the ARNs of the trails that get a key's Insights events, if they name a trail.

    Args:
        trails: all trails.
        always: whether event history has all Insights events about management events.
        key: what is unusual.
        in_past: whether to return also what may have got them before.

    Returns:
        Those about management events name no trail: [None] if there are any.
    """
    if (always or in_past) and key.category != DATA:
        return [None]
    stored = [each.trail for each in await trails.all(key.account)]
    wanting = [trail.arn for trail in stored if in_past or wants(trail, key)]
    if key.category == DATA:
        return [*wanting]
    return [None] if wanting else []
