"""Events as logs of OpenTelemetry: names of attributes, order, and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.errors import ServiceError
from opentrail.core.event import Entry
from opentrail.core.ocsf import ocsf_event
from opentrail.ports.metrics import Metrics
from opentrail.trails.otlp import MAX_BYTES, MAX_EVENTS, OtlpFollower, logs_of
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_record,
    an_audit_record,
    an_entry,
    event_id,
    real_records,
)
from tests.fakes import MemoryControl, asynchronous

#: Records, and the OpenTelemetry Collector's output for them (`data/SOURCES.md`).
GOLDEN = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "collector-cloudtrail.ndjson")
    .read_text()
    .splitlines()
]


class Collector:
    """A `LogCollector` in memory."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.rejects = 0
        self.fails = 0

    async def send(self, logs: dict[str, Any]) -> int:
        if self.fails:
            self.fails -= 1
            raise ServiceError("CollectorFailed", "it is down")
        self.taken.append(logs)
        return self.rejects

    def ids(self) -> list[str]:
        return [
            json.loads(record["body"]["stringValue"])["eventID"]
            for logs in self.taken
            for record in records_of(logs)
        ]


class Scene:
    """A follower, and its receiver."""

    def __init__(self) -> None:
        self.control, self.collector, self.metrics = MemoryControl(), Collector(), Metrics()
        self.follower = self.another()

    def another(self) -> OtlpFollower:
        """Returns another process's follower."""
        return OtlpFollower(self.control, self.collector, self.metrics, lambda: 0)

    def counted(self, outcome: str) -> float:
        return float(self.metrics.otlp_events.labels(outcome)._value.get())


def entries(count: int, first: int = 1, **changes: Any) -> list[Entry]:
    return [
        an_entry(n, a_record(eventID=event_id(n), **changes)) for n in range(first, first + count)
    ]


def records_of(logs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        record
        for resource in logs["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def plain(value: Mapping[str, Any]) -> Any:
    """Returns a value of OTLP as a Python value."""
    if not value:
        return None
    ((kind, content),) = value.items()
    if kind == "kvlistValue":
        return {one["key"]: plain(one["value"]) for one in content["values"]}
    if kind == "arrayValue":
        return [plain(one) for one in content["values"]]
    return content


def attributes(listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: plain(one["value"]) for one in listed}


def attributes_of(**changes: Any) -> dict[str, Any]:
    (record,) = records_of(logs_of(entries(1, **changes)))
    return attributes(record["attributes"])


def test_record_has_the_attributes_of_the_collectors_encoding() -> None:
    (entry,) = entries(
        1,
        requestParameters={"userName": "Mary", "count": 3, "tags": [{"a": None}, True]},
        tlsDetails={
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": "iam.amazonaws.com",
        },
        resources=[{"accountId": ACCOUNT, "type": "AWS::IAM::User", "ARN": "arn:aws:iam::1:u"}],
        sessionCredentialFromConsole="true",
        errorCode="AccessDenied",
        errorMessage="no",
    )
    logs = logs_of([entry])
    (resource,) = logs["resourceLogs"]
    assert attributes(resource["resource"]["attributes"]) == {
        "cloud.provider": "aws",
        "cloud.region": REGION,
        "cloud.account.id": ACCOUNT,
    }
    (scope,) = resource["scopeLogs"]
    assert scope["scope"]["name"] == "opentrail"
    assert attributes(scope["scope"]["attributes"]) == {"encoding.format": "aws.cloudtrail"}
    (log,) = scope["logRecords"]
    assert log["timeUnixNano"] == str(int(MOMENT.timestamp()) * 10**9)
    assert log["body"] == {"stringValue": entry.record.decode()}
    found = attributes(log["attributes"])
    record = json.loads(entry.record)
    assert found["rpc.method"] == "CreateUser"
    assert found["rpc.service"] == "iam.amazonaws.com"
    assert found["rpc.system"] == found["rpc.system.name"] == "AwsApiCall"
    assert found["aws.cloudtrail.event_id"] == record["eventID"]
    assert found["aws.event.read_only"] is False
    assert found["aws.request.parameters"] == {
        "userName": "Mary",
        "count": 3.0,
        "tags": [{"a": None}, True],
    }
    assert found["source.address"] == record["sourceIPAddress"]
    assert found["user_agent.original"] == record["userAgent"]
    assert found["user.name"] == record["userIdentity"]["userName"]
    assert found["aws.principal.arn"] == record["userIdentity"]["arn"]
    assert found["tls.protocol.version"] == "1.3"
    assert found["server.address"] == "iam.amazonaws.com"
    assert found["aws.resources"] == [
        {"account.id": ACCOUNT, "type": "AWS::IAM::User", "arn": "arn:aws:iam::1:u"}
    ]
    assert found["aws.session.console"] is True
    assert (found["aws.error.code"], found["aws.error.message"]) == ("AccessDenied", "no")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda one: str(one["record"]["eventID"]))
def test_attributes_match_the_collectors(golden: dict[str, Any]) -> None:
    logs = logs_of([an_entry(1, golden["record"])])
    (resource,), (log,) = logs["resourceLogs"], records_of(logs)
    assert attributes(log["attributes"]) == golden["attributes"]
    assert log["timeUnixNano"] == golden["timeUnixNano"]
    # The collector gives one record's place to all; here each has its own.
    assert attributes(resource["resource"]["attributes"]) == {
        "cloud.provider": "aws",
        "cloud.region": golden["record"]["awsRegion"],
        "cloud.account.id": golden["record"]["recipientAccountId"],
    }


def test_a_session_of_a_role_has_its_issuer() -> None:
    session = {
        "attributes": {"mfaAuthenticated": "false", "creationDate": "2020-01-01T09:00:00Z"},
        "sessionIssuer": {"type": "Role", "arn": "arn:aws:iam::1:role/r", "userName": "r"},
    }
    found = attributes_of(userIdentity={"type": "AssumedRole", "sessionContext": session})
    context = "aws.user_identity.session_context"
    assert found[f"{context}.attributes.mfa_authenticated"] is False
    assert found[f"{context}.attributes.creation_date"] == "2020-01-01T09:00:00Z"
    assert found[f"{context}.issuer.user_name"] == "r"
    assert "user.name" not in found


def test_events_are_grouped_by_account_and_region() -> None:
    mixed = [*entries(2), an_entry(3, a_record(awsRegion="eu-west-1")), *entries(1, 4)]
    places = [
        attributes(one["resource"]["attributes"])["cloud.region"]
        for one in logs_of(mixed)["resourceLogs"]
    ]
    assert places == [REGION, "eu-west-1"]


@pytest.mark.parametrize("record", real_records(), ids=lambda one: str(one["eventName"]))
def test_every_real_record_is_sent_whole(record: dict[str, Any]) -> None:
    (log,) = records_of(logs_of([an_entry(1, record)]))
    assert json.loads(log["body"]["stringValue"]) == record
    names = [one["key"] for one in log["attributes"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("record", real_records(), ids=lambda one: str(one["eventName"]))
def test_the_body_may_be_the_event_in_ocsf(record: dict[str, Any]) -> None:
    entry = an_entry(1, record)
    (log,), (plain_log,) = records_of(logs_of([entry], "ocsf")), records_of(logs_of([entry]))
    assert json.loads(log["body"]["stringValue"]) == ocsf_event(record)
    assert {**log, "body": None} == {**plain_log, "body": None}


def test_the_body_may_be_missing() -> None:
    (log,) = records_of(logs_of(entries(1), "none"))
    assert "body" not in log
    assert log["attributes"]


@asynchronous
async def test_events_are_sent_once_and_in_order() -> None:
    scene = Scene()
    assert await scene.follower.cursor() == 0
    await scene.follower.process(entries(3))
    await scene.follower.process(entries(2, 4))
    assert scene.collector.ids() == [event_id(n) for n in range(1, 6)]
    assert scene.counted("taken") == 5
    again = scene.another()
    assert await again.cursor() == 5
    await again.process(entries(3, 4))
    assert scene.collector.ids() == [event_id(n) for n in range(1, 7)]


@asynchronous
async def test_collectors_outage_skips_no_event() -> None:
    scene = Scene()
    await scene.follower.process(entries(1))
    scene.collector.fails = 1
    with pytest.raises(ServiceError):
        await scene.follower.process(entries(3, 2))
    assert await scene.another().cursor() == 1
    await scene.follower.process(entries(3, 2))
    assert scene.collector.ids() == [event_id(n) for n in range(1, 5)]


@asynchronous
async def test_requests_are_limited_and_accepted_ones_not_resent() -> None:
    scene = Scene()
    many = entries(MAX_EVENTS + 1)
    await scene.follower.process(many)
    assert [len(records_of(logs)) for logs in scene.collector.taken] == [MAX_EVENTS, 1]
    large = entries(3, MAX_EVENTS + 2, errorMessage="x" * (MAX_BYTES // 2))
    scene.collector.taken.clear()
    await scene.follower.process(large[:2])
    assert [len(records_of(logs)) for logs in scene.collector.taken] == [1, 1]
    assert await scene.another().cursor() == MAX_EVENTS + 3


@asynchronous
async def test_rejected_records_are_counted_and_left_out() -> None:
    scene = Scene()
    scene.collector.rejects = 2
    await scene.follower.process(entries(3))
    assert (scene.counted("taken"), scene.counted("rejected")) == (1, 2)
    assert await scene.another().cursor() == 3


def test_audit_event_has_the_attributes_of_the_other_service() -> None:
    entry = an_entry(1, an_audit_record())
    (record,) = records_of(logs_of([entry]))
    attributes = {each["key"]: each["value"] for each in record["attributes"]}
    assert attributes["rpc.method"] == {"stringValue": "CancelOrder"}
    assert attributes["rpc.service"] == {"stringValue": "orders.example.com"}
    assert attributes["aws.event.category"] == {"stringValue": "ActivityAuditLog"}
    assert attributes["aws.principal.id"] == {"stringValue": "mary@example.com"}
