"""The wing of detections: applies the enabled rules to new events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from opentrail.adapters.outgoing_http import HttpWebhook
from opentrail.api.services import Services
from opentrail.api.v1.detections import Detections
from opentrail.app.wing import Core, Missing, Wing
from opentrail.core.errors import OpentrailError
from opentrail.detections.enabled_rules import DetectionFollower, EnabledRules
from opentrail.detections.notifications import Alerts, WebhookFollower
from opentrail.detections.webhook_forms import FORMS, RESOLVING, pagerduty
from opentrail.ports.follow import WatchedFollower

log = logging.getLogger(__name__)

#: Seconds of events that are matched together.
_LINGER = 0.5
#: Seconds between two checks whether any rule is enabled.
_CHECK_SECONDS = 2.0
#: Seconds between checks for due alerts, and before a failed alert is sent again.
_DUE_SECONDS, _AGAIN_SECONDS = 1.0, 10.0


def start(core: Core) -> Wing:
    """Records the matches of enabled rules, and sends alerts to the webhook if there is one."""
    engines, control = core.engines, core.worker_control

    async def follow_journal() -> None:
        rules = EnabledRules(control)
        while True:
            with suppress(OpentrailError):  # the loop retries
                if await rules.all():
                    break
            await asyncio.sleep(_CHECK_SECONDS)
        follower = DetectionFollower(
            control, rules, core.worker_journal, engines.clock, engines.metrics
        )
        await core.follow(follower, _LINGER, follower.needed_after)

    async def notify() -> None:
        settings = core.settings
        webhook = HttpWebhook(
            str(settings.webhook_url),
            settings.webhook_secret,
            settings.webhook_networks,
        )
        follower = WebhookFollower(
            control,
            webhook,
            engines.metrics,
            lambda: engines.journal.head,
            _alerts(core),
            with_insights=settings.webhook_insights == "on",
        )
        watched[:] = [watch := WatchedFollower(follower)]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(core.follow(watch, 0.0, follower.needed_after))
                tasks.create_task(_send_held(follower, watch))
        finally:
            watched.clear()

    watched: list[WatchedFollower] = []

    def problems() -> list[str]:
        return [f"the webhook gets no alerts: {f.failure}" for f in watched if f.failure]

    def groups(services: Services, missing: Missing) -> Sequence[object]:
        return (Detections(services, EnabledRules(services.control), core.account, missing),)

    followers = [follow_journal]
    if core.settings.webhook_url is not None:
        followers.append(notify)
    return Wing(groups=groups, followers=tuple(followers), problems=problems)


def _alerts(core: Core) -> Alerts | None:
    """Returns the sender of alerts; None if the webhook gets events."""
    settings, engines = core.settings, core.engines
    form = FORMS.get(settings.webhook_form)
    if settings.webhook_routing_key is not None:
        form = partial(pagerduty, routing_key=settings.webhook_routing_key)
    if form is None:
        return None
    resolves = settings.webhook_form in RESOLVING
    return Alerts(form, engines.journal, engines.clock, settings.console_url, resolves)


async def _send_held(follower: WebhookFollower, watch: WatchedFollower) -> None:
    """Sends due alerts, until cancelled."""
    while True:
        await asyncio.sleep(_DUE_SECONDS)
        if not follower.is_due():
            continue
        try:
            with watch.watching():
                await follower.send_held()
        except (OpentrailError, OSError) as error:
            log.warning("alerts cannot be sent, trying again", extra={"error": str(error)})
            await asyncio.sleep(_AGAIN_SECONDS)
        except Exception:  # a bug must neither end a follower nor stay hidden
            log.exception("alerts cannot be sent, trying again")
            await asyncio.sleep(_AGAIN_SECONDS)
