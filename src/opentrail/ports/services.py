"""Services beside buckets: topics, log groups, event buses, encryption keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Topics(Protocol):
    """SNS-like topics. Methods raise `ServiceError` (or `ServiceMissing`) on failure."""

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Return once the topic has taken the message; after a failure it may have, too."""
        ...


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a log stream."""

    time: datetime
    message: str


class LogGroups(Protocol):
    """CloudWatch-Logs-like groups. Methods raise `ServiceError` (or `ServiceMissing`) on failure.

    A group is named by its ARN, with or without `:*` behind it.
    """

    async def create_stream(self, group_arn: str, stream: str) -> None:
        """Return once the stream is there."""
        ...

    async def put(self, group_arn: str, stream: str, events: Sequence[LogEvent]) -> int:
        """Return once the stream has taken the events, and how many of them it refused for good.

        Args:
            group_arn: the group.
            stream: the name of a stream that is there.
            events: by time; at most 10,000 of them, 1 MiB (26 bytes for each counted in), a day.
        """
        ...

    async def holds(self, group_arn: str, stream: str, event: LogEvent) -> bool:
        """Return whether the stream has this event."""
        ...


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event as a bus takes it; `detail` is JSON."""

    source: str
    detail_type: str
    time: datetime
    detail: str


class EventBus(Protocol):
    """EventBridge-like default buses, one a Region. Methods raise `ServiceError` on failure."""

    async def rule_states(self, region: str) -> frozenset[str]:
        """Return the states in which the bus has rules, such as `ENABLED`."""
        ...

    async def put(self, region: str, events: Sequence[BusEvent]) -> list[int]:
        """Return the numbers of the events that the bus did not take, once it has the others.

        At most 10 events, of 256 KiB together.
        """
        ...


class EncryptionKeys(Protocol):
    """KMS-like keys. Methods raise `ServiceError` (or `ServiceMissing`) on failure."""

    async def arn_of(self, key: str, region: str) -> str:
        """Return the ARN of an enabled key, given its id, ARN, alias or alias ARN.

        Raises:
            ServiceMissing: there is no such key in the Region.
            ServiceError: it is not enabled, with code `DisabledException`.
        """
        ...
