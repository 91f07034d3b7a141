"""The wing that informs other services: SNS, CloudWatch Logs, EventBridge, a log collector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from opentrail.adapters.aws.services import CloudWatchLogGroups, EventBridgeBus, SnsTopics
from opentrail.adapters.outgoing_http import OtlpCollector
from opentrail.app.wing import Core, Wing
from opentrail.core.event import DETECTION, Entry
from opentrail.ports.follow import WatchedFollower
from opentrail.trails.cloudwatch_logs import CloudWatchLogsSink
from opentrail.trails.eventbridge import EntryMatcher, EventBridgeFollower
from opentrail.trails.otlp import OtlpFollower
from opentrail.trails.plans import EntrySelector
from opentrail.trails.registry import TrailRegistry
from opentrail.trails.sns import SnsSink

#: Seconds of events that are put on an event bus together.
_BUS_LINGER = 0.5
#: Seconds of events that are sent to a collector together.
_COLLECTOR_LINGER = 0.5


def start(core: Core) -> Wing:
    """Sends messages about delivered files, and events to an event bus and a collector."""
    engines, clients = core.engines, core.clients
    control, clock, metrics = core.worker_control, engines.clock, engines.metrics

    async def follow_journal() -> None:
        bus = EventBridgeFollower(
            control,
            EventBridgeBus(clients),
            clock,
            metrics,
            partial(_matcher, core.trails),
            lambda: engines.journal.head,
        )
        await core.follow(bus, _BUS_LINGER)

    async def send_to_collector() -> None:
        settings = core.settings
        collector = OtlpCollector(str(settings.otlp_endpoint), settings.otlp_headers)
        follower = WatchedFollower(
            OtlpFollower(
                control, collector, metrics, lambda: engines.journal.head, settings.otlp_body
            )
        )
        watched[:] = [follower]
        try:
            await core.follow(follower, _COLLECTOR_LINGER)
        finally:
            watched.clear()

    watched: list[WatchedFollower] = []

    def problems() -> list[str]:
        return [f"the log collector gets no events: {f.failure}" for f in watched if f.failure]

    followers = [follow_journal] if core.settings.event_bridge == "auto" else []
    if core.settings.otlp_endpoint is not None:
        followers.append(send_to_collector)
    return Wing(
        sinks=(
            SnsSink(control, SnsTopics(clients), clock, metrics),
            CloudWatchLogsSink(
                control, CloudWatchLogGroups(clients), clock, metrics, core.selector.entries_of
            ),
        ),
        followers=tuple(followers),
        problems=problems,
    )


async def _matcher(trails: TrailRegistry) -> EntryMatcher | None:
    """Returns the matcher of entries for the event bus.

    It matches events selected by logging trails, and rule matches in the accounts of those trails.
    """
    all_trails = [stored.trail for stored in await trails.all()]
    selected_by_trails = EntrySelector.matcher_of(all_trails)
    if selected_by_trails is None:
        return None
    accounts = {
        account
        for trail in all_trails
        for span in trail.spans
        if span.open
        for account in span.accounts or (trail.account,)
    }

    def matches(entries: Sequence[Entry]) -> Sequence[Entry]:
        selected = {entry.position for entry in selected_by_trails(entries)}
        return [
            entry
            for entry in entries
            if entry.position in selected
            or (entry.category == DETECTION and entry.account in accounts)
        ]

    return matches
