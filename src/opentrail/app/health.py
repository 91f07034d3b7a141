"""The health of the server, for `/health` and `opentrail status`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

from opentrail.adapters.ipc.remote_events import IpcEventStore
from opentrail.api.services import Services
from opentrail.api.v1.trails import TrailState, all_trails, trail_state
from opentrail.app.cluster.site import Site
from opentrail.core.errors import OpentrailError
from opentrail.core.event import Json, format_time
from opentrail.core.logs import LastProblem
from opentrail.core.selectors.selection import LeftOut
from opentrail.core.version import __version__
from opentrail.history.event_history import Search
from opentrail.ports.journal import TrimmedJournal
from opentrail.ports.metrics import Sample, total
from opentrail.settings import Settings

#: Seconds that `/health` waits for the control store.
_CONTROL_STORE_SECONDS = 0.5
#: Consecutive late answers after which the control store counts as failing.
_MAX_LATE = 3


class Health:
    """The state of one server.

    Status is `failing` while calls cannot be recorded; `degraded` if something was lost, event
    history or the control store does not answer, a trail does not deliver, or a signing key or the
    control store was replaced; else `ok`.
    """

    def __init__(self, journal: TrimmedJournal, store: IpcEventStore | None, site: Site) -> None:
        self._journal = journal
        self._store = store
        self._site = site
        #: Problems of the keys that sign digests.
        self.key_problems: list[str] = []
        #: Replaced stores: the control store, the journal (`app/inventory.py`).
        self.data_problems: list[str] = []
        #: Trails whose deliveries or digests fail (`api/v1/trails.py`).
        self.trail_problems: list[dict[str, str]] = []
        #: Failed parts other than recording, such as Insights.
        self.service_problems: list[str] = []
        #: Why trails, keys and policies cannot be read or changed.
        self.control_failure: str | None = None
        self._kept: Sequence[tuple[int, int, int]] = ()
        #: Number of successive late answers, and time of the last answer.
        self._late = 0
        self._answered: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def ask_control(
        self,
        problems: Callable[[], Awaitable[list[dict[str, str]]]],
        failure: Callable[[], str | None],
        kept: Callable[[], Awaitable[Sequence[tuple[int, int, int]]]],
    ) -> None:
        """Queries the control store for the problems of trails, with a short deadline.

        A late answer leaves the previous one in place, until three in a row are late.

        Args:
            problems: returns the problems of trails.
            failure: returns why the control store failed last; None if it did not.
            kept: returns first and last of lost positions with regained events, and their number.
        """

        async def ask() -> None:
            with suppress(OpentrailError):
                self.trail_problems = await problems()
                self._kept = await kept()
                await self._site.refresh()

        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(ask())
        await asyncio.wait({self._asking}, timeout=_CONTROL_STORE_SECONDS)
        self._late = 0 if self._asking.done() else self._late + 1
        if self._asking.done():
            self._answered = asyncio.get_running_loop().time()
        is_late = self._late >= _MAX_LATE
        self.control_failure = failure() or (
            "the control store does not answer" if is_late else None
        )

    @property
    def status(self) -> str:
        """One of `ok`, `degraded`, `failing`."""
        if self._journal.failure:
            return "failing"
        is_whole = not (self._journal.lost or self._journal.unverified or self.missing())
        is_whole = is_whole and not (self.trail_problems or self.key_problems or self.data_problems)
        is_whole = is_whole and not self.service_problems
        is_whole = is_whole and self.control_failure is None
        is_responding = self._store is None or self._store.is_responding
        return "ok" if is_whole and is_responding else "degraded"

    def _age(self) -> float | None:
        """Returns the seconds since the control store answered; None if it never has."""
        if self._answered is None:
            return None
        return round(asyncio.get_running_loop().time() - self._answered, 1)

    def missing(self) -> list[str]:
        """Returns a description of each range missing from lookups."""
        return list(self._missing())

    def _missing(self) -> Iterator[str]:
        if self._store is None:
            return
        for first, last in self._store.state.missing:
            events = sum(count for begin, end, count in self._kept if first <= begin <= end <= last)
            kept = f" ({events} of their events were regained)" if events else ""
            yield f"{_positions(first, last)} of event history{kept}"
        for lost in self._journal.lost:
            if lost.last is None:
                yield f"{_positions(lost.first, None)} of event history"
        for first, last in self._store.state.lost_imports:
            yield f"imported events {first} to {last}: import them again"

    def document(self, settings: Settings, counted: Sequence[Sequence[Sample]]) -> Json:
        """Returns the body of `/health`.

        Args:
            settings: the server's settings.
            counted: the metrics of each process.
        """
        journal = self._journal
        return {
            "status": self.status,
            "version": __version__,
            "role": settings.role,
            "onRecordFailure": settings.on_record_failure,
            "insecureTrustedNetworks": settings.insecure_trusted_networks,
            "missing": self.missing(),
            "journal": {
                "engine": journal.engine.name,
                "quorumCommit": journal.engine.quorum_commit,
                "position": journal.head,
                "failure": journal.failure,
                "backlogSeconds": round(journal.backlog_seconds, 3),
                "lost": [asdict(loss) for loss in journal.lost],
                "checked": journal.is_checked,
                "unverified": journal.unverified,
            },
            "history": _history_of(self._store) if self._store else None,
            "controlStore": {"failure": self.control_failure, "ageSeconds": self._age()},
            "cluster": self._site.document(),
            "dataProblems": self.data_problems,
            "keyProblems": self.key_problems,
            "trailProblems": self.trail_problems,
            "serviceProblems": self.service_problems,
            "connections": {
                "open": total(counted, "opentrail_open_connections"),
                "limit": total(counted, "opentrail_connection_limit"),
                "idleClosed": total(counted, "opentrail_idle_connections_closed_total"),
                "refused": total(
                    counted, "opentrail_refused_calls_total", (("reason", "connections"),)
                ),
            },
            "recorders": settings.recorders,
            "lostRecords": total(counted, "opentrail_lost_records_total"),
        }


def _history_of(store: IpcEventStore) -> Json:
    state = store.state
    return {
        "position": store.position,
        "responding": store.is_responding,
        "failure": store.failure,
        "imported": state.imported,
        "files": state.files,
        "missing": state.missing,
        "damaged": state.damaged,
        "lostImports": state.lost_imports,
    }


def _positions(first: int, last: int | None) -> str:
    if last is None:
        return f"an unknown number of records at position {first}"
    return f"position {first}" if first == last else f"positions {first} to {last}"


class ServerStatus:
    """The state of one server, for the operator of its machine.

    Args:
        settings: its settings.
        services: the services of operations.
        health: returns the body of `/health`.
        quantiles: returns quantiles of the last minute's seconds until lookups found records.
        left_out: returns the calls excluded since the server started.
        problem: has the last logged problem.
        started: when the server started.
        disk: returns the records' disk use, and the time until the disk is full.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        health: Callable[[], Awaitable[Json]],
        quantiles: Callable[[], list[tuple[float, float]]],
        left_out: Callable[[], Mapping[LeftOut, int]],
        problem: LastProblem,
        started: datetime,
        disk: Callable[[], Awaitable[Json]],
    ) -> None:
        self._settings = settings
        self._services = services
        self._health = health
        self._quantiles = quantiles
        self._left_out = left_out
        self._problem = problem
        self._started = started
        self._disk = disk

    async def document(self) -> Json:
        """Returns the body of `/api/v1/status`."""
        return {
            **await self._health(),
            "started": format_time(self._started),
            "upstreams": {name or "*": url for name, url in self._settings.upstream.items()},
            "newestEvent": await self._newest_event(),
            "visibleSeconds": {
                f"p{share * 100:g}": None if math.isnan(seconds) else round(seconds, 3)
                for share, seconds in self._quantiles()
            },
            "record": self._settings.record if self._settings.record == "all" else "selectors",
            "leftOut": [
                {"eventSource": source, "eventName": name, "resourceType": kind, "calls": calls}
                for (source, name, kind), calls in sorted(self._left_out().items())
            ],
            "trails": await self._trails(),
            "disk": await self._disk(),
            "lastProblem": self._problem.line,
        }

    async def _trails(self) -> list[TrailState]:
        services = self._services
        try:
            trails = await all_trails(services.trails)
            return [await trail_state(services.control, trail) for trail in trails]
        except OpentrailError:
            return []  # health reports the problem

    async def _newest_event(self) -> str | None:
        try:
            newest = await self._services.history.latest(Search(), 1)
        except OpentrailError:
            return None  # health reports the problem
        return format_time(newest[0].event_time) if newest else None
