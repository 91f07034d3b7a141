"""Trails for the web console: a list with their health, and their digests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from opentrail.api.console.roles import user_of
from opentrail.api.console.verifications import Verifications
from opentrail.api.operation import Services
from opentrail.api.trail_states import trail_state
from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import Trail

Json = dict[str, Any]
#: Verifies a trail; returns whether all is valid, and the verifier's lines.
Verify = Callable[[str], Awaitable[tuple[bool, list[str]]]]


class Trails:
    """The calls about trails that the CloudTrail API does not have."""

    def __init__(self, services: Services, verify: Verify, verifications: Verifications) -> None:
        self._services = services
        self._verify = verify
        self._verifications = verifications

    async def all(self, request: Request) -> list[Json]:
        """Returns the trails of this server, by name."""
        trails = await self._seen_by(request)
        return [await self._listed(trail) for trail in trails]

    async def digests(self, request: Request) -> Json:
        """Returns the digest chains of a trail."""
        trail = await self._find(request)
        return {
            "trail": trail.arn,
            "chains": await self._services.deliveries.known_digests(trail),
        }

    async def verify(self, request: Request) -> Json:
        """Verifies the log files and digests of a trail, and returns what the verifier says."""
        trail = await self._find(request)
        is_valid, lines = await self._verify(trail.arn)
        await self._verifications.note(trail, is_valid, lines)
        return {"valid": is_valid, "lines": lines}

    async def flush(self, request: Request) -> Json:
        """Delivers a trail's events and signs its digests now."""
        trail = await self._find(request)
        done = await self._services.deliveries.flush(trail)
        return {"trail": trail.arn, "logFiles": done.logs, "digestFiles": done.digests}

    async def _listed(self, trail: Trail) -> Json:
        state = await trail_state(self._services.control, trail)
        return {**state, "verified": await self._verifications.of(trail)}

    async def _find(self, request: Request) -> Trail:
        name = request.path_params["name"]
        for trail in await self._seen_by(request):
            if name in (trail.name, trail.arn):
                return trail
        raise CloudTrailError("TrailNotFoundException", f"Unknown trail: {name}", 404)

    async def _seen_by(self, request: Request) -> list[Trail]:
        """Returns the trails of the accounts that the user of a request may see, by name."""
        user = user_of(request)
        stored = await self._services.trails.all(None)
        trails = [each.trail for each in stored if user.may_see(each.trail.account)]
        return sorted(trails, key=lambda trail: (trail.name, trail.arn))
