"""The wing of detections: applies the enabled rules to new events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from opentrail.api.operation import Services
from opentrail.api.v1.detections import Detections
from opentrail.app.wing import Core, Missing, Wing
from opentrail.core.errors import OpentrailError
from opentrail.detections.enabled import EnabledRules
from opentrail.detections.follower import DetectionFollower
from opentrail.follow import follow

#: Seconds of events that are matched together.
_LINGER = 0.5
#: Seconds between two checks whether any rule is enabled.
_CHECK_SECONDS = 2.0


def start(core: Core) -> Wing:
    """Records what the enabled rules match; nothing is read while none is enabled."""
    engines, control = core.engines, core.worker_control

    async def follow_journal() -> None:
        rules = EnabledRules(control)
        while True:
            with suppress(OpentrailError):  # it is asked again
                if await rules.all():
                    break
            await asyncio.sleep(_CHECK_SECONDS)
        follower = DetectionFollower(
            control, rules, engines.journal, engines.clock, engines.metrics
        )
        await follow(engines.journal, follower, _LINGER)

    def groups(services: Services, missing: Missing) -> Sequence[object]:
        return (Detections(services, EnabledRules(services.control), core.account, missing),)

    return Wing(groups=groups, followers=(follow_journal,))
