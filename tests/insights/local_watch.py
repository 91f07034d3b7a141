"""A watch in the test's own process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from opentrail.core.event import Entry
from opentrail.insights.findings import Detection, Expected, WatchState
from opentrail.insights.watch import Watch
from opentrail.ports.event_store import CallCounts, PrincipalCounts


class LocalWatch:
    """Works like the process of Insights, without requests and snapshots."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._learning: Watch | None = None

    async def state(self) -> WatchState:
        return WatchState() if self._watch is None else self._watch.state

    async def resume(self, moment: datetime) -> None:
        assert self._watch is not None
        self._watch.resume(moment)

    async def expect(self, expected: Sequence[Expected]) -> None:
        assert self._watch is not None
        self._watch.expect(expected)

    async def observe(self, entries: Sequence[Entry], after: int) -> WatchState:
        assert self._watch is not None
        assert self._watch.cursor >= after, "this watch is never replaced"
        self._watch.observe(entries)
        return self._watch.state

    async def pass_time(self, moment: datetime) -> WatchState:
        assert self._watch is not None
        self._watch.close_until(moment)
        return self._watch.state

    async def acknowledge(self, number: int) -> None:
        assert self._watch is not None
        self._watch.acknowledge(number)

    async def begin(self, since: int) -> None:
        self._learning = Watch("balanced", since)

    async def learn(self, counts: Sequence[CallCounts], until: datetime) -> list[Detection]:
        assert self._learning is not None
        self._learning.learn(counts)
        self._learning.close_until(until)
        findings, self._learning.findings = self._learning.findings, []
        return findings

    async def learn_principals(self, counts: Sequence[PrincipalCounts]) -> None:
        assert self._learning is not None
        self._learning.principals.learn(counts)

    async def abandon(self) -> None:
        self._learning = None

    async def adopt(self, cursor: int, imported: int) -> WatchState:
        assert self._learning is not None
        self._learning.take_over(cursor, imported, self._watch)
        self._watch, self._learning = self._learning, None
        return self._watch.state
