"""The wing of detections: applies the enabled rules to new events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from opentrail.adapters.webhook import HttpWebhook
from opentrail.api.operation import Services
from opentrail.api.v1.detections import Detections
from opentrail.app.wing import Core, Missing, Wing
from opentrail.core.errors import OpentrailError
from opentrail.detections.enabled import EnabledRules
from opentrail.detections.follower import DetectionFollower
from opentrail.detections.notifications import WebhookFollower
from opentrail.follow import WatchedFollower, follow

#: Seconds of events that are matched together.
_LINGER = 0.5
#: Seconds between two checks whether any rule is enabled.
_CHECK_SECONDS = 2.0


def start(core: Core) -> Wing:
    """Records what the enabled rules match, and sends it to the webhook if there is one."""
    engines, control = core.engines, core.worker_control

    async def follow_journal() -> None:
        rules = EnabledRules(control)
        while True:
            with suppress(OpentrailError):  # it is asked again
                if await rules.all():
                    break
            await asyncio.sleep(_CHECK_SECONDS)
        follower = DetectionFollower(
            control, rules, core.worker_journal, engines.clock, engines.metrics
        )
        await follow(engines.journal, follower, _LINGER, progress=engines.progress)

    async def notify() -> None:
        settings = core.settings
        webhook = HttpWebhook(
            str(settings.detections_webhook),
            settings.detections_webhook_secret,
            settings.detections_webhook_networks,
        )
        follower = WatchedFollower(
            WebhookFollower(control, webhook, engines.metrics, lambda: engines.journal.head)
        )
        watched[:] = [follower]
        try:
            await follow(engines.journal, follower, progress=engines.progress)
        finally:
            watched.clear()

    watched: list[WatchedFollower] = []

    def problems() -> list[str]:
        return [f"the webhook gets no matches: {f.failure}" for f in watched if f.failure]

    def groups(services: Services, missing: Missing) -> Sequence[object]:
        return (Detections(services, EnabledRules(services.control), core.account, missing),)

    followers = [follow_journal]
    if core.settings.detections_webhook is not None:
        followers.append(notify)
    return Wing(groups=groups, followers=tuple(followers), problems=problems)
