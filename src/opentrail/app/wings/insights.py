"""The wing of Insights: the watching process, and the selection of recorded findings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from opentrail.adapters.ipc.child import ChildProcess
from opentrail.adapters.ipc.link import IpcRequest, Link, parts, remote, request_of
from opentrail.adapters.ipc.messages import StopWatch
from opentrail.api.services import Services
from opentrail.api.v1.incidents import Incidents
from opentrail.app.wing import Core, Missing, Wing
from opentrail.core.errors import OpentrailError
from opentrail.core.event import DATA, Entry
from opentrail.core.insight_types import CALL_RATE, ERROR_RATE, insight_selectors
from opentrail.core.trail import Trail, includes
from opentrail.insights.findings import ExpectedIncidents, WatchState
from opentrail.insights.follower import Insights, RemoteWatch
from opentrail.ports.event_store import CallKey
from opentrail.trails.registry import TrailRegistry

T = TypeVar("T")

#: Deadline of a request.
_REQUEST_SECONDS = 60.0
#: Deadline of a request that may process a day of events.
_LONG_SECONDS = 1_800.0
#: Deadline for the process to end.
_STOP_SECONDS = 10.0
#: Seconds of events that are counted together.
_LINGER = 1.0
#: Seconds between two checks whether any trail needs them.
_CHECK_SECONDS = 5.0


def start(core: Core) -> Wing:
    """Watches events for unusual activity, as soon as a trail or event history needs it."""
    settings, engines, trails = core.settings, core.engines, core.trails
    is_on = settings.insights == "on"
    types = settings.insights_types if is_on else ()
    watch = WatchProcess(core.data.insights, settings.insights_preset, types)
    insights = Insights(
        watch,
        engines.store,
        engines.journal,
        engines.clock,
        engines.history.follower.until_visible,
        partial(sources, trails, is_on),
        ExpectedIncidents(engines.control),
        of_principals=bool(types),
        works_elsewhere=lambda: is_on and not engines.site.is_worker,
        worker_journal=core.worker_journal,
    )

    def needed_after(cursor: int) -> int | None:
        """Returns None while nothing is counted: Insights must not fill the disk."""
        return None if watch.failure or not insights.is_watching else cursor

    async def follow_journal() -> None:
        while not is_on:
            await asyncio.sleep(_CHECK_SECONDS)
            with suppress(OpentrailError):  # the loop retries
                if any(has_insights(stored.trail) for stored in await trails.all()):
                    break
        try:
            await watch.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(insights.run())
                tasks.create_task(core.follow(insights, _LINGER, needed_after))
        finally:
            insights.rest()
            await watch.stop()

    def groups(services: Services, _missing: Missing) -> Sequence[object]:
        return (Incidents(services, insights, core.account),)

    def problems() -> list[str]:
        return [f"Insights does not run: {watch.failure}"] if watch.failure else []

    return Wing(groups=groups, followers=(follow_journal,), problems=problems)


class WatchProcess:
    """A watch in a child process, which is restarted when it ends."""

    def __init__(self, folder: Path, preset: str, types: Sequence[str] = ()) -> None:
        self._folder = folder
        self._arguments = (str(folder), preset, ",".join(types))
        self._child = self._new_child()

    def _new_child(self) -> ChildProcess:
        return ChildProcess(
            "opentrail.app.wings.insights_process",
            self._arguments,
            {},
            self._prepare,
            prepare_seconds=_REQUEST_SECONDS,
        )

    async def _prepare(self, link: Link) -> None:
        await link.ask(request_of(RemoteWatch.state)())

    @property
    def failure(self) -> str | None:
        """Why the process cannot be started; None once it is ready."""
        return self._child.failure

    async def start(self) -> None:
        """Starts a process and returns once it is ready; works again after `stop`."""
        self._folder.mkdir(exist_ok=True)
        self._child = self._new_child()
        await self._child.start(is_required=False)

    async def stop(self) -> None:
        """Ends the process once a snapshot is written."""
        await self._child.stop(StopWatch(), _STOP_SECONDS)

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._child.pid

    async def observe(self, entries: Sequence[Entry], after: int) -> WatchState:
        """Counts entries of the journal after `after`, except entries already counted."""
        state = WatchState()
        for part in parts(entries):
            state = await self._observe(part, after)
            after = part[-1].position
        return state

    # A new process that must continue from its own cursor gets nothing again.
    state = remote(RemoteWatch.state, _REQUEST_SECONDS)
    resume = remote(RemoteWatch.resume, _REQUEST_SECONDS)
    expect = remote(RemoteWatch.expect, _REQUEST_SECONDS, resend=False)
    _observe = remote(RemoteWatch.observe, _LONG_SECONDS, resend=False)
    pass_time = remote(RemoteWatch.pass_time, _LONG_SECONDS, resend=False)
    acknowledge = remote(RemoteWatch.acknowledge, _REQUEST_SECONDS, resend=False)
    begin = remote(RemoteWatch.begin, _REQUEST_SECONDS, resend=False)
    learn = remote(RemoteWatch.learn, _LONG_SECONDS, resend=False)
    abandon = remote(RemoteWatch.abandon, _REQUEST_SECONDS)
    learn_principals = remote(RemoteWatch.learn_principals, _LONG_SECONDS, resend=False)
    adopt = remote(RemoteWatch.adopt, _LONG_SECONDS, resend=False)

    async def _ask(self, request: IpcRequest[T], seconds: float, resend: bool) -> T:
        return await self._child.ask(request, seconds, resend=resend)


def has_insights(trail: Trail) -> bool:
    """Returns whether a trail is logging and has insight selectors."""
    return any(span.open and span.insight_selectors for span in trail.spans)


def wants(trail: Trail, key: CallKey) -> bool:
    """Returns whether a trail gets the Insights events of a key."""
    insight_type = ERROR_RATE if key.error_code else CALL_RATE
    return trail.is_visible_to(key.account) and any(
        span.open
        and includes(span, trail.home_region, key.region, key.event_source)
        and selector.insight_type == insight_type
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
        always: whether event history has every Insights event about management events.
        key: the unusual activity.
        in_past: whether to include trails that may have got them before.

    Returns:
        Insights events about management events name no trail: [None] if there are any.
    """
    if (always or in_past) and key.category != DATA:
        return [None]
    all_trails = [stored.trail for stored in await trails.all(key.account)]
    wanting = [trail.arn for trail in all_trails if in_past or wants(trail, key)]
    if key.category == DATA:
        return [*wanting]
    return [None] if wanting else []
