"""Topics, log groups, event buses, encryption keys and the organization, on services of AWS."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import botocore.config
import botocore.exceptions

from opentrail.adapters.aws.object_store import FAILED, S3Access, refusal
from opentrail.core.errors import ServiceError, ServiceMissing, UsageError
from opentrail.core.organization import Organization, read_organization
from opentrail.ports.services import BusEvent, LogEvent

T = TypeVar("T")
log = logging.getLogger(__name__)


_MISSING = frozenset({"NotFound", "NotFoundException", "ResourceNotFoundException", "404"})
#: Concurrent calls per service.
_CONCURRENT = 4
#: Maximum clients in the cache.
_MAX_CLIENTS = 32
_SECOND = timedelta(seconds=1)


class ServiceClients:
    """Clients of services by Region, created when they are first needed.

    Args:
        access: returns endpoint and credentials for a service and a Region.
    """

    def __init__(self, access: Callable[[str, str], S3Access]) -> None:
        self._access = access
        #: By service, Region and access; least recently used first.
        self._made: OrderedDict[tuple[str, str, S3Access], Any] = OrderedDict()
        self._lock = asyncio.Lock()
        self._session: Any = None
        #: One pool per service: a slow service delays no other.
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def call(self, service: str, region: str, work: Callable[[Any], T], name: str) -> T:
        """Runs `work` with the client in a thread and returns its result.

        Raises:
            ServiceError: the service refused or failed; the message begins with `name`.
        """
        loop = asyncio.get_running_loop()
        threads = self._threads.get(service)
        if threads is None:
            threads = self._threads[service] = ThreadPoolExecutor(_CONCURRENT, f"aws-{service}")
        which = (service, region, self._access(service, region))
        async with self._lock:
            client = self._made.get(which)
            if client is None:
                make = partial(self._make, *which)
                client = await asyncio.to_thread(translated, make, name)
                self._made[which] = client
                if len(self._made) > _MAX_CLIENTS:
                    self._made.popitem(last=False)
            self._made.move_to_end(which)
        return await loop.run_in_executor(threads, translated, partial(work, client), name)

    def _make(self, service: str, region: str, access: S3Access) -> Any:
        if access.endpoint_url is None:
            raise ServiceError(
                "NoUpstream", f"no upstream serves {service}: add --upstream {service}=URL"
            )
        if self._session is None:
            # One session for all, because it caches the services' large models.
            import boto3  # not before it is needed, see `adapters/aws/object_store.py`

            self._session = boto3.session.Session()
        settings = botocore.config.Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"max_attempts": 2, "mode": "standard"},
            proxies={},
        )
        verify = str(access.ca) if access.ca else None
        return self._session.client(
            service,
            region_name=region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            aws_session_token=access.session_token,
            config=settings,
            verify=verify,
        )


def translated(work: Callable[[], T], name: str) -> T:
    """Returns the result of a call of a service.

    Raises:
        ServiceError: the service refused or failed; the message begins with `name`.
    """
    try:
        return work()
    except botocore.exceptions.ClientError as error:
        code, message = refusal(error, name)
        raise (ServiceMissing if code in _MISSING else ServiceError)(code, message) from error
    except FAILED as error:
        raise ServiceError(type(error).__name__, f"{name}: {error}") from error


def member(answer: Any, name: str) -> Any:
    """Returns a member of a response.

    Raises:
        ServiceError: it is missing: another server may have answered.
    """
    if name not in answer:
        raise ServiceError("UnexpectedAnswer", f"the answer has no {name}")
    return answer[name]


class SnsTopics:
    """`Topics` on SNS, in the Region of a topic's ARN."""

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Returns once the topic has accepted the message."""

        def publish(sns: Any) -> None:
            answer = sns.publish(TopicArn=topic_arn, Subject=subject, Message=message)
            member(answer, "MessageId")

        await self._clients.call("sns", topic_arn.split(":")[3], publish, topic_arn)


class CloudWatchLogGroups:
    """`LogGroups` on CloudWatch Logs, in the Region of a group's ARN."""

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients

    async def create_stream(self, group_arn: str, stream: str) -> None:
        """Returns once the stream exists."""

        def create(logs: Any) -> None:
            try:
                logs.create_log_stream(logGroupName=_group(group_arn), logStreamName=stream)
            except logs.exceptions.ResourceAlreadyExistsException:
                return

        await self._call(group_arn, create, stream)

    async def put(self, group_arn: str, stream: str, events: Sequence[LogEvent]) -> int:
        """Returns the number of rejected events once the stream has accepted the others."""
        described = [{"timestamp": _millis(e.time), "message": e.message} for e in events]

        def put(logs: Any) -> int:
            answer = logs.put_log_events(
                logGroupName=_group(group_arn), logStreamName=stream, logEvents=described
            )
            return _rejected(answer.get("rejectedLogEventsInfo") or {}, len(described))

        return await self._call(group_arn, put, stream)

    async def holds(self, group_arn: str, stream: str, event: LogEvent) -> bool:
        """Returns whether the stream has this event."""
        arguments = {
            "logGroupName": _group(group_arn),
            "logStreamName": stream,
            "startTime": _millis(event.time),
            "endTime": _millis(event.time + _SECOND),
            "startFromHead": True,
        }

        def contains_event(logs: Any) -> bool:
            token = None
            while True:
                more: dict[str, str] = {"nextToken": token} if token else {}
                page = logs.get_log_events(**arguments, **more)
                events = member(page, "events")
                if any(item.get("message") == event.message for item in events):
                    return True
                # The last page returns the token of its request.
                if page.get("nextForwardToken") in (token, None) or not events:
                    return False
                token = page["nextForwardToken"]

        return await self._call(group_arn, contains_event, stream)

    async def _call(self, group_arn: str, work: Callable[[Any], T], stream: str) -> T:
        region = group_arn.split(":")[3]
        return await self._clients.call("logs", region, work, f"{_group(group_arn)}/{stream}")


def _group(arn: str) -> str:
    """Returns the name in `arn:aws:logs:REGION:ACCOUNT:log-group:NAME:*`."""
    return arn.split(":")[6]


def _millis(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _rejected(info: dict[str, int], count: int) -> int:
    """Returns the number of events a stream rejected as too old, expired or too new."""
    first = max(info.get("tooOldLogEventEndIndex", 0), info.get("expiredLogEventEndIndex", 0))
    last = info.get("tooNewLogEventStartIndex", count)
    return count - max(0, last - first)


class EventBridgeBus:
    """`EventBus` on EventBridge."""

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients

    async def rule_states(self, region: str) -> frozenset[str]:
        """Returns the states of the default bus's rules."""

        def read_states(events: Any) -> frozenset[str]:
            pages = events.get_paginator("list_rules").paginate()
            return frozenset(
                str(rule.get("State")) for page in pages for rule in page.get("Rules", ())
            )

        return await self._clients.call("events", region, read_states, f"event bus in {region}")

    async def put(self, region: str, events: Sequence[BusEvent]) -> list[int]:
        """Returns the indexes of the events rejected by the bus."""
        described = [
            {
                "Source": event.source,
                "DetailType": event.detail_type,
                "Time": event.time,
                "Detail": event.detail,
                "Resources": [],
            }
            for event in events
        ]

        def put(client: Any) -> list[int]:
            answer = client.put_events(Entries=described)
            results = member(answer, "Entries") if answer.get("FailedEntryCount", 1) else ()
            return [number for number, entry in enumerate(results) if entry.get("ErrorCode")]

        return await self._clients.call("events", region, put, f"event bus in {region}")


class KmsKeys:
    """`EncryptionKeys` on KMS."""

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients

    async def arn_of(self, key: str, region: str) -> str:
        """Returns the ARN of an enabled key."""

        def read_arn(kms: Any) -> str:
            described = member(kms.describe_key(KeyId=key), "KeyMetadata")
            if not described.get("Enabled"):
                state = described.get("KeyState", "Disabled")
                raise ServiceError("DisabledException", f"key {key} is {state}")
            return str(member(described, "Arn"))

        return await self._clients.call("kms", region, read_arn, f"key {key}")


# The organization

#: AWS Organizations has its only endpoint there.
_REGION = "us-east-1"


class UpstreamOrganizations:
    """`Organizations` on the upstream: DescribeOrganization and ListAccounts.

    The upstream's credentials must be of the management account or of a delegated administrator of
    any service, because only these may list accounts.
    """

    def __init__(self, clients: ServiceClients) -> None:
        self._clients = clients
        self._known: Organization | None = None
        self._has_answered = False

    async def current(self) -> Organization | None:
        """Returns the current organization from the upstream; on a failure, the previous one."""
        try:
            self._known = await self._clients.call(
                "organizations", _REGION, _describe, "the organization"
            )
        except ServiceError as error:
            if not self._has_answered:
                raise
            log.warning("the upstream does not describe its organization: %s", error)
        self._has_answered = True
        return self._known


def _describe(client: Any) -> Organization | None:
    try:
        described = member(client.describe_organization(), "Organization")
    except client.exceptions.AWSOrganizationsNotInUseException:
        return None
    pages = client.get_paginator("list_accounts").paginate()
    accounts = {member(item, "Id") for page in pages for item in member(page, "Accounts")}
    table = {
        "id": member(described, "Id"),
        "management_account": member(described, "MasterAccountId"),
        "accounts": list(accounts),
    }
    try:
        organization = read_organization(table, "the answer")
    except UsageError as error:
        raise ServiceError("UnexpectedAnswer", str(error)) from error
    return replace(organization, has_all_features=described.get("FeatureSet", "ALL") == "ALL")


@dataclass(frozen=True, slots=True)
class ConfiguredOrganizations:
    """`Organizations` of the settings; None without any."""

    organization: Organization | None = None

    async def current(self) -> Organization | None:
        """Returns the organization."""
        return self.organization
