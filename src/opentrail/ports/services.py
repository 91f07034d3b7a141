"""Services other than buckets: topics, log groups, buses, keys, log collectors, organization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from opentrail.core.event import Json
from opentrail.core.organization import Organization


class Topics(Protocol):
    """SNS-like topics. Methods raise `ServiceError` (or `ServiceMissing`) on failure."""

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Return once the topic has accepted the message; despite an error, it may have it."""
        ...


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a log stream."""

    time: datetime
    message: str


class LogGroups(Protocol):
    """CloudWatch-Logs-like groups. Methods raise `ServiceError` (or `ServiceMissing`) on failure.

    A group is named by its ARN, with or without a trailing `:*`.
    """

    async def create_stream(self, group_arn: str, stream: str) -> None:
        """Return once the stream exists."""
        ...

    async def put(self, group_arn: str, stream: str, events: Sequence[LogEvent]) -> int:
        """Return once the stream has accepted the events; the result is the number rejected.

        Args:
            group_arn: the group.
            stream: the name of an existing stream.
            events: in order of time; at most 10,000, 1 MiB (plus 26 bytes each) and 24 hours.
        """
        ...

    async def holds(self, group_arn: str, stream: str, event: LogEvent) -> bool:
        """Return whether the stream has this event."""
        ...


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event for a bus; `detail` is JSON."""

    source: str
    detail_type: str
    time: datetime
    detail: str


class EventBus(Protocol):
    """EventBridge-like default buses, one per Region. Methods raise `ServiceError` on failure."""

    async def rule_states(self, region: str) -> frozenset[str]:
        """Return the states of the bus's rules, such as `ENABLED`."""
        ...

    async def put(self, region: str, events: Sequence[BusEvent]) -> list[int]:
        """Return the indexes of the events that the bus rejected, once it has accepted the others.

        Maximum 10 events, 256 KiB in total.
        """
        ...


class EncryptionKeys(Protocol):
    """KMS-like keys. Methods raise `ServiceError` (or `ServiceMissing`) on failure."""

    async def arn_of(self, key: str, region: str) -> str:
        """Return the ARN of an enabled key, given its id, ARN, alias or alias ARN.

        Raises:
            ServiceMissing: the key does not exist in the Region.
            ServiceError: the key is not enabled, with code `DisabledException`.
        """
        ...


class LogCollector(Protocol):
    """Takes logs of OpenTelemetry."""

    async def send(self, logs: Json) -> int:
        """Return once the collector has answered; the result is the number of rejected records.

        Args:
            logs: an `ExportLogsServiceRequest`, in JSON's form.

        Raises:
            ServiceError: it does not answer, or accepts nothing now; it may have the records.
        """
        ...


class Webhook(Protocol):
    """Takes events, one by one."""

    async def send(self, event_id: str, body: bytes) -> bool:
        """Return whether the receiver accepted the event; False: it refuses the event for good.

        Args:
            event_id: the same if an event is sent again.
            body: the JSON of the event's record, or of an alert.

        Raises:
            ServiceError: it does not answer, or accepts nothing now; it may have the event.
        """
        ...


class Organizations(Protocol):
    """Where the organization is described."""

    async def current(self) -> Organization | None:
        """Return the organization, or None if there is none.

        While the source fails, return its last answer.

        Raises:
            ServiceError: the source fails, and has not answered since the server started.
        """
        ...


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """A sign-in that a browser has begun; its secrets are for the same browser alone."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    #: The address to which the browser returns.
    redirect_uri: str


class IdentityProvider(Protocol):
    """Signs users in by a browser's redirects."""

    async def begin(self, redirect_uri: str) -> tuple[str, BegunSignIn]:
        """Return the URL to send a browser to, and the sign-in state for its return.

        Raises:
            SignInRefused: the provider does not answer as it must.
        """
        ...

    async def finish(self, begun: BegunSignIn, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the claims about a user, only if the provider made them for this sign-in.

        Args:
            begun: the result of `begin` for this browser.
            answer: the query of the returning browser; its state has been compared.

        Raises:
            SignInRefused: it is not certain who the user is.
        """
        ...
