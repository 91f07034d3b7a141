"""LookupEvents: attributes, times, pages, errors (cloudtrail-format §6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from opentrail.core.attributes import LOOKUP_KEYS
from tests.api.caller import filled
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    MOMENT,
    a_data_record,
    a_record,
    event_id,
    record_bytes,
    some_records,
)
from tests.fakes import asynchronous

NOW = int(MOMENT.timestamp())


def ids(answer: Any) -> list[str]:
    return [event["EventId"] for event in answer["Events"]]


def by(key: str, value: str) -> list[dict[str, str]]:
    return [{"AttributeKey": key, "AttributeValue": value}]


@asynchronous
async def test_an_event_is_returned_whole_with_its_record() -> None:
    record = a_record(eventID="the-id")
    api = await filled(record)
    answer = await api.ok("LookupEvents")
    assert set(answer) == {"Events"}
    (event,) = answer["Events"]
    assert event == {
        "EventId": "the-id",
        "EventName": "CreateUser",
        "ReadOnly": "false",
        "AccessKeyId": KEY,
        "EventTime": NOW,
        "EventSource": "iam.amazonaws.com",
        "Username": "John",
        "Resources": [
            {"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"},
            {
                "ResourceType": "AWS::IAM::User",
                "ResourceName": f"arn:aws:iam::{ACCOUNT}:user/Mary",
            },
        ],
        "CloudTrailEvent": record_bytes(record).decode(),
    }


@asynchronous
async def test_empty_result_is_an_empty_list() -> None:
    assert await (await filled()).ok("LookupEvents") == {"Events": []}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("EventId", event_id(3)),
        ("EventName", "DeleteUser"),
        ("ReadOnly", "true"),
        ("Username", "Zoë"),
        ("ResourceType", "AWS::IAM::Role"),
        ("ResourceName", "the-role"),
        ("EventSource", "sts.amazonaws.com"),
        ("AccessKeyId", "AKIAOTHER"),
    ],
)
@asynchronous
async def test_each_attribute_finds_its_event(key: str, value: str) -> None:
    records = some_records(5)
    records[2].update(
        eventName="DeleteUser",
        readOnly=True,
        userIdentity={"type": "IAMUser", "userName": "Zoë", "accessKeyId": "AKIAOTHER"},
        eventSource="sts.amazonaws.com" if key == "EventSource" else "iam.amazonaws.com",
        requestParameters={"roleName": "the-role"},
        responseElements=None,
    )
    api = await filled(*records)
    assert ids(await api.ok("LookupEvents", LookupAttributes=by(key, value))) == [event_id(3)]
    assert ids(await api.ok("LookupEvents", LookupAttributes=by(key, value), MaxResults=1)) == [
        event_id(3)
    ]


def test_all_eight_attributes_are_tested() -> None:
    assert len(LOOKUP_KEYS) == 8


@asynchronous
async def test_only_own_management_events_are_returned() -> None:
    api = await filled(
        a_record(eventID="mine"),
        a_data_record(eventID="data"),
        a_record(eventID="elsewhere", awsRegion="eu-west-1"),
        a_record(eventID="theirs", recipientAccountId="210987654321"),
    )
    assert ids(await api.ok("LookupEvents")) == ["mine"]
    assert ids(await api.ok("LookupEvents", region="eu-west-1")) == ["elsewhere"]
    assert ids(await api.ok("LookupEvents", account="210987654321")) == ["theirs"]
    assert ids(await api.ok("LookupEvents", LookupAttributes=by("EventId", "theirs"))) == []


@asynchronous
async def test_insights_events_are_found_by_category() -> None:
    insight = a_record(
        eventID="insight",
        eventCategory="Insight",
        eventType="AwsCloudTrailInsight",
        insightDetails={"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com"},
    )
    network = a_record(eventID="network", eventCategory="NetworkActivity", managementEvent=False)
    api = await filled(insight, network, a_record(eventID="management"))
    assert ids(await api.ok("LookupEvents")) == ["management"]
    answer = await api.ok("LookupEvents", EventCategory="insight")
    assert ids(answer) == ["insight"]
    assert answer["Events"][0]["EventName"] == "RunInstances"
    found = await api.ok(
        "LookupEvents",
        EventCategory="insight",
        LookupAttributes=by("EventSource", "ec2.amazonaws.com"),
    )
    assert ids(found) == ["insight"]


@asynchronous
async def test_insight_is_shown_without_user_key_and_resources() -> None:
    insight = a_record(
        eventID="insight",
        userIdentity=ABSENT,
        requestParameters=ABSENT,
        responseElements=ABSENT,
        eventCategory="Insight",
        insightDetails={"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com"},
    )
    answer = await (await filled(insight)).ok("LookupEvents", EventCategory="insight")
    (event,) = answer["Events"]
    assert not event.keys() & {"Username", "AccessKeyId"}
    assert event["Resources"] == []


@asynchronous
async def test_time_range_includes_both_ends() -> None:
    api = await filled(*some_records(6))
    found = await api.ok("LookupEvents", StartTime=NOW + 2, EndTime=NOW + 4)
    assert ids(found) == [event_id(4), event_id(3), event_id(2)]
    assert ids(await api.ok("LookupEvents", StartTime=NOW + 6, EndTime=NOW + 9)) == [event_id(6)]
    assert ids(await api.ok("LookupEvents", EndTime=NOW + 1.5)) == [event_id(1)]
    assert ids(await api.ok("LookupEvents", StartTime=NOW + 3, EndTime=NOW + 3)) == [event_id(3)]


@asynchronous
async def test_events_are_shown_for_ninety_days() -> None:
    api = await filled(*some_records(3))
    api.world.clock.moment = MOMENT + timedelta(days=90)
    assert len(ids(await api.ok("LookupEvents"))) == 3
    api.world.clock.moment = MOMENT + timedelta(days=91)
    assert not {event_id(n) for n in (1, 2, 3)} & set(ids(await api.ok("LookupEvents")))


# Pages


@asynchronous
async def test_a_page_holds_at_most_fifty_events() -> None:
    api = await filled(*some_records(120))
    created = by("EventName", "CreateUser")
    first = await api.ok("LookupEvents", LookupAttributes=created)
    assert len(first["Events"]) == 50
    assert first["NextToken"]
    few = await api.ok("LookupEvents", LookupAttributes=created, MaxResults=7)
    assert ids(few) == ids(first)[:7]


@asynchronous
async def test_pages_lead_through_all_events_during_new_calls() -> None:
    api = await filled(*some_records(120))
    seen: list[str] = []
    token: dict[str, str] = {}
    pages = 0
    while True:
        answer = await api.ok(
            "LookupEvents", LookupAttributes=by("EventName", "CreateUser"), **token
        )
        seen += ids(answer)
        pages += 1
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert seen == [event_id(number) for number in range(120, 0, -1)]
    assert pages == 3


@asynchronous
async def test_a_token_is_valid_only_for_its_search() -> None:
    api = await filled(*some_records(10))
    token = (await api.ok("LookupEvents", MaxResults=3))["NextToken"]
    page = await api.ok("LookupEvents", NextToken=token, MaxResults=2)
    assert ids(page) == [event_id(7), event_id(6)]
    for other in (
        {"LookupAttributes": by("EventName", "CreateUser")},
        {"StartTime": NOW},
        {"EndTime": NOW + 100},
        {"EventCategory": "insight"},
        {"account": "210987654321"},
        {"region": "eu-west-1"},
    ):
        code, _ = await api.error("LookupEvents", NextToken=token, MaxResults=3, **other)
        assert code == "InvalidNextTokenException", other


@pytest.mark.parametrize("token", ["x", "", "AAAA", "a" * 2_000, "Zoë"])
@asynchronous
async def test_a_foreign_token_is_refused(token: str) -> None:
    api = await filled(*some_records(10))
    code, _ = await api.error("LookupEvents", NextToken=token)
    assert code == "InvalidNextTokenException"


# Errors


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"LookupAttributes": by("Eventname", "x")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("", "x")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("SourceIp", "x")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("ReadOnly", "True")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("ReadOnly", "yes")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("EventName", "")}, "InvalidLookupAttributesException"),
        ({"LookupAttributes": by("EventName", "x" * 2_001)}, "InvalidLookupAttributesException"),
        (
            {"LookupAttributes": [{"AttributeKey": "EventName"}]},
            "InvalidLookupAttributesException",
        ),
        (
            {"LookupAttributes": by("EventName", "x") + by("EventId", "y")},
            "InvalidLookupAttributesException",
        ),
        (
            {"EventCategory": "insight", "LookupAttributes": by("Username", "x")},
            "InvalidLookupAttributesException",
        ),
        ({"EventCategory": "Insight"}, "InvalidEventCategoryException"),
        ({"EventCategory": "management"}, "InvalidEventCategoryException"),
        ({"MaxResults": 0}, "InvalidMaxResultsException"),
        ({"MaxResults": 51}, "InvalidMaxResultsException"),
        ({"MaxResults": -1}, "InvalidMaxResultsException"),
        ({"StartTime": NOW + 1, "EndTime": NOW}, "InvalidTimeRangeException"),
        ({"StartTime": 1e30}, "InvalidTimeRangeException"),
        ({"MaxResults": "5"}, "SerializationException"),
        ({"LookupAttributes": {}}, "SerializationException"),
        ({"LookupAttributes": [None]}, "SerializationException"),
        ({"NextToken": 5}, "SerializationException"),
    ],
)
@asynchronous
async def test_oversized_values_get_awss_error(given: dict[str, Any], expected: str) -> None:
    code, text = await (await filled(*some_records(3))).error("LookupEvents", **given)
    assert code == expected
    assert text


@asynchronous
async def test_an_empty_list_of_attributes_is_valid() -> None:
    api = await filled(*some_records(3))
    assert len(ids(await api.ok("LookupEvents", LookupAttributes=[]))) == 3
    assert ids(await api.ok("LookupEvents", StartTime=NOW + 1, EndTime=NOW + 1)) == [event_id(1)]


@asynchronous
async def test_the_lookup_itself_can_be_looked_up() -> None:
    api = await filled()
    await api.ok("LookupEvents")
    found = await api.ok("LookupEvents", LookupAttributes=by("EventName", "LookupEvents"))
    assert ids(found) == ["call-1"]
