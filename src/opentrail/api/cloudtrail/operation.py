"""The input of API operations, and their register."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opentrail.access.resource_policies import ResourcePolicies
from opentrail.api.services import Services
from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import Trail, stored_time
from opentrail.trails.registry import StoredTrail

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OperationCall:
    """One validated call of an operation."""

    operation: str
    input: Json
    account: str
    region: str
    event_id: str
    services: Services
    resource_policies: ResourcePolicies
    #: Adds an action that runs with the position of this call's record, before the answer is sent.
    when_recorded: Callable[[Callable[[int], Awaitable[None]]], None]

    def now(self) -> str:
        """Returns the current time in the form of stored documents."""
        return stored_time(self.services.clock.now())

    async def trail_to_change(self, name_or_arn: str) -> StoredTrail:
        """Returns the trail that this call is about to change.

        Raises:
            CloudTrailError: as `TrailRegistry.find_at_home`. A delegated administrator may change
                the trails of its organization, other members may not.
        """
        trails = self.services.trails
        stored = await trails.find(self.account, self.region, name_or_arn)
        administrates = await self.services.organizations.administrates(self.account, stored.trail)
        return await trails.find_at_home(self.account, self.region, name_or_arn, administrates)

    def settle_when_recorded(self, trail: Trail) -> None:
        """Ends the span that this call closes at the position of the call's record."""
        if not any(span.closing_event == self.event_id for span in trail.spans):
            return

        async def settle(position: int) -> None:
            await self.services.deliveries.settle(trail.uid, self.event_id, position)

        self.when_recorded(settle)

    def time(self, member: str, code: str = "InvalidTimeRangeException") -> datetime | None:
        """Returns a timestamp member of the input.

        Raises:
            CloudTrailError: with this code, for a time no calendar has.
        """
        seconds = self.input.get(member)
        if seconds is None:
            return None
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise CloudTrailError(code, f"{member} {seconds} is not a time") from error

    def times(
        self, code: str = "InvalidTimeRangeException"
    ) -> tuple[datetime | None, datetime | None]:
        """Returns `StartTime` and `EndTime` of the input.

        Raises:
            CloudTrailError: with this code, if the start is after the end, or as `time`.
        """
        start, end = self.time("StartTime", code), self.time("EndTime", code)
        if start is not None and end is not None and start > end:
            raise CloudTrailError(code, "The start time must not be after the end time.")
        return start, end


@dataclass(frozen=True, slots=True)
class Operation:
    """An implemented operation; `without` are the members of its input that are not supported."""

    name: str
    handler: Callable[[OperationCall], Awaitable[Json]]
    without: frozenset[str]
    #: Input member → AWS's error code for a value that does not match the model.
    errors: dict[str, str]
    #: Groups of input members; a call must have members of exactly one group.
    either: tuple[tuple[str, ...], ...] = ()


REGISTER: dict[str, Operation] = {}


def operation(
    name: str,
    without: tuple[str, ...] = (),
    errors: dict[str, str] | None = None,
    either: tuple[tuple[str, ...], ...] = (),
) -> Callable[
    [Callable[[OperationCall], Awaitable[Json]]], Callable[[OperationCall], Awaitable[Json]]
]:
    """Registers a handler under the operation's name in AWS's model."""

    def register(
        handler: Callable[[OperationCall], Awaitable[Json]],
    ) -> Callable[[OperationCall], Awaitable[Json]]:
        REGISTER[name] = Operation(name, handler, frozenset(without), errors or {}, either)
        return handler

    return register
