"""Channels with real clients: events of other services, in SQL and across kills."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.live.processes import Opentrail, eventually, opentrail_server
from tests.live.test_sql import finished

pytestmark = [pytest.mark.live, pytest.mark.slow]

AUDIT = [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["ActivityAuditLog"]}]}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    data = tmp_path_factory.mktemp("channels") / "data"
    with opentrail_server(data, "--upstream", "http://127.0.0.1:9") as started:
        yield started


def create(server: Opentrail) -> tuple[str, str]:
    """Creates a store and a channel; returns their ARNs."""
    cloudtrail = server.boto("cloudtrail")
    store = cloudtrail.create_event_data_store(
        Name="audit",
        AdvancedEventSelectors=AUDIT,
        MultiRegionEnabled=False,
        TerminationProtectionEnabled=False,
    )["EventDataStoreArn"]
    channel = cloudtrail.create_channel(
        Name="orders",
        Source="Custom",
        Destinations=[{"Type": "EVENT_DATA_STORE", "Location": store}],
    )["ChannelArn"]
    return store, channel


def an_event(uid: str, **changes: Any) -> str:
    event = {
        "version": "1.0",
        "userIdentity": {
            "type": "Customer",
            "principalId": "mary@example.com",
            "details": {"tier": "gold"},
        },
        "eventSource": "orders.example.com",
        "eventName": "CancelOrder",
        "eventTime": "2020-01-01T08:59:00Z",
        "UID": uid,
        "requestParameters": {"orderId": "7", "items": [1, 2]},
        "recipientAccountId": "123456789012",
        "sourceIPAddress": "192.0.2.7",
        **changes,
    }
    return json.dumps(event)


@pytest.fixture(scope="module")
def channel(server: Opentrail) -> str:
    """Returns the channel of two events in the store `audit`, one of them from aws-cli."""
    _, channel = create(server)
    recent = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    answer = server.boto("cloudtrail-data").put_audit_events(
        channelArn=channel,
        auditEvents=[
            {"id": "1", "eventData": an_event("order-1", eventTime=recent)},
            {"id": "2", "eventData": "{}"},
        ],
    )
    assert [each["errorCode"] for each in answer["failed"]] == ["FieldNotFound"]
    given = an_event("order-2", eventTime=recent, errorCode="Locked")
    events = json.dumps([{"id": "3", "eventData": given}])
    said = server.aws(
        *("cloudtrail-data", "put-audit-events", "--channel-arn", channel),
        *("--audit-events", events),
    )
    assert [each["id"] for each in json.loads(said)["successful"]] == ["3"]
    return channel


def test_store_has_the_columns_of_audit_events(server: Opentrail, channel: str) -> None:
    cloudtrail = server.boto("cloudtrail")
    found = finished(
        cloudtrail,
        "SELECT eventData.UID, eventData.userIdentity.principalId AS who,"
        " element_at(eventData.userIdentity.details, 'tier') AS tier,"
        " json_extract_scalar(element_at(eventData.requestParameters, 'items'), '$[1]') AS item,"
        " eventData.errorCode, metadata.channelARN AS channel, eventCategory,"
        " addendum IS NULL AS alone,"
        " json_extract_scalar(eventJson, '$.eventID') = eventID AS same"
        " FROM audit WHERE eventTime > now() - interval '1' day ORDER BY eventData.UID",
    )
    assert found["QueryStatus"] == "FINISHED", found
    rows = [[next(iter(cell.values())) for cell in row] for row in found["QueryResultRows"]]
    same = ["ActivityAuditLog", "true", "true"]
    assert rows == [
        ["order-1", "mary@example.com", "gold", "2", "", channel, *same],
        ["order-2", "mary@example.com", "gold", "2", "Locked", channel, *same],
    ]
    described = json.loads(server.opentrail("query", "--tables", "--json").stdout)
    assert [each["category"] for each in described["tables"]] == [None, "ActivityAuditLog"]
    names = [column["name"] for column in described["activityColumns"]]
    listed = finished(cloudtrail, "SELECT * FROM audit")["QueryResultRows"]
    assert [next(iter(cell)) for cell in listed[0]] == [name.lower() for name in names]


def test_event_history_has_audit_events(server: Opentrail, channel: str) -> None:
    """It finds them by the other service's names; the records have no such members."""
    lookup = ("lookup", "--all-categories", "user = mary@example.com AND errorCode = Locked")
    said = server.opentrail(*lookup).stdout
    assert said.splitlines()[1].split()[1:] == [
        *("mary@example.com", "CancelOrder", "orders.example.com", "Locked"),
    ]
    (line,) = server.opentrail(*lookup, "--json").stdout.splitlines()
    record = json.loads(line)
    assert record["metadata"]["channelARN"] == channel
    statement = (
        "SELECT eventName, count(*) AS n FROM event_history"
        " WHERE eventCategory = 'ActivityAuditLog' GROUP BY eventName"
    )
    (row,) = finished(server.boto("cloudtrail"), statement)["QueryResultRows"]
    assert row == [{"eventName": ""}, {"n": "2"}]
    said = server.opentrail("explain", record["eventID"]).stdout
    assert "mary@example.com called CancelOrder of orders.example.com" in said
    assert (
        server.boto("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CancelOrder"}]
        )["Events"]
        == []
    )


def test_call_is_recorded_without_the_events(server: Opentrail, channel: str) -> None:
    said = server.opentrail("lookup", "--all-categories", "--json", "eventName = PutAuditEvents")
    for record in map(json.loads, said.stdout.splitlines()):
        assert (record["eventCategory"], record["managementEvent"]) == ("Data", False)
        assert record["requestParameters"] == {"channelArn": channel}
        assert record["responseElements"] is None
        assert [each["type"] for each in record["resources"]] == ["AWS::CloudTrail::Channel"]
        assert [each["ARN"] for each in record["resources"]] == [channel]


class Sender:
    """Sends requests of a few events until stopped; counts the acknowledged events."""

    def __init__(self, server: Opentrail, channel: str, name: str) -> None:
        self._client = server.boto("cloudtrail-data")
        self._channel, self._name = channel, name
        self._stopped = threading.Event()
        self.acknowledged: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        number = 0
        while not self._stopped.is_set():
            uids = {str(each): f"{self._name}-{number}-{each}" for each in range(5)}
            number += 1
            events = [{"id": each, "eventData": an_event(uid)} for each, uid in uids.items()]
            try:
                answer = self._client.put_audit_events(channelArn=self._channel, auditEvents=events)
            except (BotoCoreError, ClientError):
                return  # the server was killed
            assert answer["failed"] == []
            self.acknowledged += [(uids[one["id"]], one["eventID"]) for one in answer["successful"]]

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.mark.campaign
@pytest.mark.parametrize("point", ["", "journal.mid-commit:40", "journal.committed:40"])
def test_killed_server_has_each_acknowledged_event_once(tmp_path: Path, point: str) -> None:
    with opentrail_server(tmp_path / "data", "--upstream", "http://127.0.0.1:9") as server:
        cloudtrail = server.boto("cloudtrail")
        store, channel = create(server)
        # The events are older than the default retention.
        cloudtrail.update_event_data_store(EventDataStore=store, RetentionPeriod=3_653)
        server.kill()
        server.start(**({"OPENTRAIL_CRASH_AT": point} if point else {}))
        before = [Sender(server, channel, f"before-{number}") for number in range(3)]
        if point:
            server.wait()
        else:
            eventually(lambda: len(before[0].acknowledged) > 50, "events are acknowledged")
            server.kill()
        for sender in before:
            sender.stop()
        server.start()
        after = Sender(server, channel, "after")
        eventually(lambda: after.acknowledged, "events are acknowledged")
        after.stop()
        found = finished(
            server.boto("cloudtrail"), "SELECT eventData.UID AS uid, eventID FROM audit"
        )
        assert found["QueryStatus"] == "FINISHED", found
        total = found["QueryStatistics"]["TotalResultsCount"]
        rows = pages(server.boto("cloudtrail"), total)
        assert len(rows) == total
        assert set(Counter(rows).values()) == {1}
        acknowledged = [pair for sender in [*before, after] for pair in sender.acknowledged]
        assert {*acknowledged} <= {*rows}


def pages(cloudtrail: Any, total: int) -> list[tuple[str, str]]:
    """Returns all UIDs in the store, with the ids of their events."""
    query = cloudtrail.start_query(
        QueryStatement="SELECT eventData.UID AS uid, eventID FROM audit"
    )["QueryId"]

    def page(**token: str) -> Any:
        found = cloudtrail.get_query_results(QueryId=query, MaxQueryResults=1_000, **token)
        return found if found["QueryStatus"] == "FINISHED" else None

    found = eventually(page, "the query ends")
    rows = list(found["QueryResultRows"])
    while len(rows) < total and found.get("NextToken"):
        found = page(NextToken=found["NextToken"])
        rows += found["QueryResultRows"]
    return [(row[0]["uid"], row[1]["eventID"]) for row in rows]
