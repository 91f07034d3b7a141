"""The guarantees of topics, log groups, event buses and encryption keys, in memory and on moto."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.services import (
    CloudWatchLogGroups,
    EventBridgeBus,
    KmsKeys,
    ServiceClients,
    SnsTopics,
)
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.core.errors import ServiceError, ServiceMissing
from opentrail.ports.services import BusEvent, EncryptionKeys, EventBus, LogEvent, LogGroups, Topics
from tests.factories import ACCOUNT, REGION
from tests.fakes import MemoryBus, MemoryServices, asynchronous


@dataclass
class Kit:
    """The four ports over one kind of service, and ways to set it up and inspect it."""

    topics: Topics
    groups: LogGroups
    bus: EventBus
    keys: EncryptionKeys
    make_topic: Callable[[str], Callable[[], list[tuple[str, str]]]]
    make_group: Callable[[str], Callable[[str], list[str]]]
    make_rule: Callable[[str], Callable[[], list[dict[str, Any]]]]
    make_key: Callable[[bool], tuple[str, str]]


@pytest.fixture(params=["memory", pytest.param("aws", marks=pytest.mark.live)])
def kit(request: pytest.FixtureRequest) -> Kit:
    if request.param == "memory":
        return in_memory()
    return on_moto(request.getfixturevalue("moto_url"))


def in_memory() -> Kit:
    services = MemoryServices()

    def make_topic(arn: str) -> Callable[[], list[tuple[str, str]]]:
        services.topics[arn] = []
        return lambda: services.topics[arn]

    def make_group(arn: str) -> Callable[[str], list[str]]:
        streams = services.groups.setdefault(arn, {})
        return lambda stream: [event.message for event in streams[stream]]

    def make_rule(region: str) -> Callable[[], list[dict[str, Any]]]:
        services.rules[region] = frozenset({"ENABLED"})
        return lambda: [
            {"source": e.source, "detail-type": e.detail_type, "detail": json.loads(e.detail)}
            for e in services.bus.get(region, [])
        ]

    def make_key(enabled: bool) -> tuple[str, str]:
        key = str(uuid4())
        arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"
        services.kms[key] = services.kms[arn] = arn if enabled else None
        return key, arn

    bus = MemoryBus(services)
    return Kit(services, services, bus, services, make_topic, make_group, make_rule, make_key)


class OnMoto:
    """Sets services up and inspects them, like their users."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self._url,
            aws_access_key_id="opentrail",
            aws_secret_access_key="opentrail",
        )

    def a_queue(self, region: str = REGION) -> tuple[str, str]:
        sqs = self.client("sqs", region)
        queue = sqs.create_queue(QueueName=f"queue-{uuid4()}")["QueueUrl"]
        named = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        return queue, named["Attributes"]["QueueArn"]

    def bodies(self, queue: str, region: str = REGION) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        sqs = self.client("sqs", region)
        while True:
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
            if not answer.get("Messages"):
                return found
            found.extend(json.loads(message["Body"]) for message in answer["Messages"])

    def make_topic(self, arn: str) -> Callable[[], list[tuple[str, str]]]:
        sns = self.client("sns")
        assert sns.create_topic(Name=arn.split(":")[-1])["TopicArn"] == arn
        queue, queue_arn = self.a_queue()
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
        return lambda: [(body["Subject"], body["Message"]) for body in self.bodies(queue)]

    def make_group(self, arn: str) -> Callable[[str], list[str]]:
        name, logs = arn.split(":")[6], self.client("logs")
        logs.create_log_group(logGroupName=name)

        def read(stream: str) -> list[str]:
            page = logs.get_log_events(logGroupName=name, logStreamName=stream, startFromHead=True)
            return [event["message"] for event in page["events"]]

        return read

    def make_rule(self, region: str) -> Callable[[], list[dict[str, Any]]]:
        queue, queue_arn = self.a_queue(region)
        events = self.client("events", region)
        name = f"rule-{uuid4()}"
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [{"prefix": "aws."}]}))
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": queue_arn}])
        return lambda: self.bodies(queue, region)

    def make_key(self, enabled: bool) -> tuple[str, str]:
        described = self.client("kms").create_key()["KeyMetadata"]
        if not enabled:
            self.client("kms").disable_key(KeyId=described["KeyId"])
        return described["KeyId"], described["Arn"]


def on_moto(url: str) -> Kit:
    moto = OnMoto(url)
    clients = ServiceClients(
        lambda service, region: S3Access(url, "opentrail", "opentrail", region)
    )
    return Kit(
        SnsTopics(clients),
        CloudWatchLogGroups(clients),
        EventBridgeBus(clients),
        KmsKeys(clients),
        moto.make_topic,
        moto.make_group,
        moto.make_rule,
        moto.make_key,
    )


def a_topic_arn() -> str:
    return f"arn:aws:sns:{REGION}:{ACCOUNT}:topic-{uuid4()}"


def a_group_arn() -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:group-{uuid4()}"


@asynchronous
async def test_a_message_reaches_subscribers_of_the_topic(kit: Kit) -> None:
    arn = a_topic_arn()
    messages = kit.make_topic(arn)
    await kit.topics.publish(arn, "The subject", '{"a":"\u00e9 \\n"}')
    assert messages() == [("The subject", '{"a":"\u00e9 \\n"}')]


@asynchronous
async def test_a_missing_topic_is_missing(kit: Kit) -> None:
    with pytest.raises(ServiceMissing):
        await kit.topics.publish(a_topic_arn(), "subject", "message")


@asynchronous
async def test_events_are_kept_in_their_stream(kit: Kit) -> None:
    arn = a_group_arn()
    read = kit.make_group(arn)
    for form in (arn, f"{arn}:*"):
        await kit.groups.create_stream(form, "one")
    now = _lately()
    events = [LogEvent(now + timedelta(seconds=n), f'{{"n":{n},"t":"\u00e9"}}') for n in range(5)]
    assert await kit.groups.put(f"{arn}:*", "one", events[:3]) == 0
    assert await kit.groups.put(arn, "one", events[3:]) == 0
    assert read("one") == [event.message for event in events]
    assert await kit.groups.holds(arn, "one", events[3])
    assert not await kit.groups.holds(arn, "one", LogEvent(events[3].time, "other"))


@asynchronous
async def test_a_missing_group_or_stream_is_missing(kit: Kit) -> None:
    arn = a_group_arn()
    event = LogEvent(_lately(), "{}")
    with pytest.raises(ServiceMissing):
        await kit.groups.create_stream(arn, "one")
    kit.make_group(arn)
    with pytest.raises(ServiceMissing):
        await kit.groups.put(arn, "one", [event])
    with pytest.raises(ServiceMissing):
        await kit.groups.holds(arn, "one", event)


@asynchronous
async def test_rules_get_the_events_of_their_regions_bus(kit: Kit) -> None:
    here, there = "eu-west-3", "eu-north-1"
    assert await kit.bus.rule_states(there) == frozenset()
    got = kit.make_rule(here)
    assert await kit.bus.rule_states(here) == {"ENABLED"}
    events = [
        BusEvent("aws.iam", "AWS API Call via CloudTrail", _lately(), json.dumps({"n": n}))
        for n in range(10)
    ]
    assert await kit.bus.put(here, events) == []
    found = got()
    assert [event["detail"] for event in sorted(found, key=lambda e: e["detail"]["n"])] == [
        {"n": n} for n in range(10)
    ]
    assert {(event["source"], event["detail-type"]) for event in found} == {
        ("aws.iam", "AWS API Call via CloudTrail")
    }


@asynchronous
async def test_a_usable_key_is_found(kit: Kit) -> None:
    key, arn = kit.make_key(True)
    assert await kit.keys.arn_of(key, REGION) == arn
    assert await kit.keys.arn_of(arn, REGION) == arn
    disabled, _ = kit.make_key(False)
    with pytest.raises(ServiceError, match="Disabled"):
        await kit.keys.arn_of(disabled, REGION)
    with pytest.raises(ServiceMissing):
        await kit.keys.arn_of(str(uuid4()), REGION)


@asynchronous
async def test_an_unreachable_service_is_named() -> None:
    clients = ServiceClients(
        lambda service, region: S3Access("http://127.0.0.1:9", "opentrail", "opentrail", region)
    )
    with pytest.raises(ServiceError, match="topic"):
        await SnsTopics(clients).publish(a_topic_arn(), "subject", "message")


def _lately() -> datetime:
    """Returns a recent time: log groups refuse old events."""
    return SystemClock().now().replace(microsecond=0)
