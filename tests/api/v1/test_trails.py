"""Trails over the API in memory."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from opentrail.core.event import format_time
from tests.api.browser import Browser, most_reading
from tests.api.caller import Api, filled
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_record,
    event_id,
)
from tests.fakes import asynchronous
from tests.trails.world import BUCKET


@asynchronous
async def test_trails_are_listed_with_their_state() -> None:
    browser = Browser()
    for name in ("second", "first"):
        await browser.api.ok("CreateTrail", Name=name, S3BucketName=BUCKET)
    await browser.api.ok("StartLogging", Name="first")
    first, second = (await browser.get("trails")).json["trails"]
    assert (first["name"], first["status"], first["logging"]) == ("first", "Logging", True)
    assert (second["name"], second["status"]) == ("second", "Off")
    assert first["homeRegion"] == REGION
    assert first["reason"] is None


@asynchronous
async def test_a_flush_delivers_and_its_digests_are_listed() -> None:
    browser = Browser()
    given = {"Name": "first", "S3BucketName": BUCKET, "EnableLogFileValidation": True}
    await browser.api.ok("CreateTrail", **given)
    await browser.api.ok("StartLogging", Name="first")
    flushed = (await browser.post("trails/flush", {"name": "first"})).json
    assert flushed["trail"].endswith(":trail/first")
    assert flushed["logFiles"]
    assert (await browser.get("trails/digests", name="first")).json["chains"]
    assert (await browser.get("trails")).json["trails"][0]["latestDelivery"]


@asynchronous
async def test_one_previews_events_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser, body = Browser(), {"EventSelectors": [{"ReadWriteType": "All"}]}
    assert await most_reading(monkeypatch, lambda: browser.post("trails/preview", body)) == 1


@asynchronous
async def test_a_verification_shows_the_verifiers_result() -> None:
    browser = Browser()
    given = {"Name": "first", "S3BucketName": BUCKET}
    arn = (await browser.api.ok("CreateTrail", **given))["TrailARN"]
    assert (await browser.get("trails")).json["trails"][0]["verified"] is None
    line = f"NOT GOOD\tlog file\ts3://b/{arn}\thash value doesn't match"
    found = (await browser.post("trails/verify", {"name": "first"})).json
    assert found == {"valid": False, "lines": [line]}
    verified = (await browser.get("trails")).json["trails"][0]["verified"]
    assert verified["valid"] is False
    bad = {"name": f"s3://b/{arn}", "reason": "hash value doesn't match", "event": None}
    assert verified["findings"] == [bad]


@asynchronous
async def test_an_unknown_trail_is_not_found() -> None:
    answer = await Browser().get("trails/digests", name="none")
    assert (answer.status, answer.json["code"]) == (404, "TrailNotFoundException")


FLUSH = "/api/v1/trails/flush"
DIGESTS = "/api/v1/trails/digests"


async def logging_trail() -> Api:
    api = await filled()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, EnableLogFileValidation=True)
    await api.ok("StartLogging", Name="my-trail")
    return api


def asked(**body: Any) -> bytes:
    return json.dumps(body).encode()


@asynchronous
async def test_a_flush_returns_its_files_and_digests() -> None:
    api = await logging_trail()
    arn = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 200
    assert answer.json["trail"] == arn
    delivered = await api.world.verified()
    assert answer.json["logFiles"] == [log.key for log in delivered.logs]
    assert answer.json["digestFiles"] == [digest.key for digest in delivered.digests]
    assert len(delivered.logs) == len(delivered.digests) == 1
    api.world.clock.advance(1)
    assert (await api.post(FLUSH, asked(name=arn))).json["logFiles"] == []
    await api.world.deliveries.stop()


@asynchronous
async def test_a_trails_first_and_newest_digests_are_known() -> None:
    api = await logging_trail()
    assert (await api.ask(DIGESTS, name="my-trail")).json["chains"] == []
    for _ in range(2):
        await api.post(FLUSH, asked(name="my-trail"))
        api.world.clock.advance(60)
    answer = await api.ask(DIGESTS, name="my-trail", account=ACCOUNT)
    assert answer.status == 200
    delivered = await api.world.verified()
    first, newest = delivered.chain()
    (chain,) = answer.json["chains"]
    assert [start["key"] for start in chain["starts"]] == [first.key]
    assert chain["newest"]["key"] == newest.key
    assert chain["newest"]["sha256"] == hashlib.sha256(newest.content).hexdigest()
    assert (chain["trail"], chain["region"], chain["ends"]) == ("my-trail", REGION, [])
    assert (await api.ask(DIGESTS, name="other")).status == 404
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_an_unknown_trail_is_not_found() -> None:
    api = await logging_trail()
    for body in (asked(name="nothing"), asked(), b"", asked(name="my-trail", account="1")):
        answer = await api.post(FLUSH, body)
        assert answer.status == 404, body
        assert answer.json["code"] == "TrailNotFoundException"
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_an_ambiguous_name_names_all_trails() -> None:
    api = await logging_trail()
    await api.ok("CreateTrail", Name="my-trail", S3BucketName=BUCKET, region="eu-west-1")
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 400
    for region in (REGION, "eu-west-1"):
        arn = f"arn:aws:cloudtrail:{region}:{ACCOUNT}:trail/my-trail"
        assert arn in answer.json["error"]
        assert (await api.post(FLUSH, asked(name=arn))).status == 200
    await api.world.deliveries.stop()


@asynchronous
async def test_flushing_to_a_failing_bucket_returns_its_error() -> None:
    api = await logging_trail()
    api.world.objects.down = "AccessDenied"
    answer = await api.post(FLUSH, asked(name="my-trail"))
    assert answer.status == 502
    assert answer.json["code"] == "AccessDenied"
    assert "bucket" in answer.json["error"]
    await api.world.deliveries.stop()


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b'"my-trail"', b"5", b"null"])
@asynchronous
async def test_flush_whose_body_makes_no_sense_is_refused(body: bytes) -> None:
    api = await logging_trail()
    answer = await api.post(FLUSH, body)
    assert answer.status == 400
    assert answer.json["error"]
    assert api.world.clock.now() > MOMENT
    await api.world.deliveries.stop()


PREVIEW = "trails/preview"


async def with_calls() -> Browser:
    """Returns the browser of a server that recorded a write, two reads and two other events."""
    browser = Browser()
    now = browser.api.world.clock.now()
    records = [
        a_record(eventID=event_id(1), eventName="CreateUser"),
        a_record(eventID=event_id(2), eventName="ListUsers", readOnly=True),
        a_record(eventID=event_id(3), eventName="ListUsers", readOnly=True),
        a_data_record(eventID=event_id(4)),
        a_record(eventID=event_id(5), eventCategory="NetworkActivity", eventType="AwsVpceEvent"),
        a_record(eventID=event_id(6), eventTime=format_time(now - timedelta(days=2))),
    ]
    for record in records[:-1]:
        record["eventTime"] = format_time(now)
    await browser.api.record(records)
    return browser


@pytest.mark.parametrize(
    ("selectors", "selected", "left_out"),
    [
        ({"EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": True}]}, 3, 2),
        ({"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}, 1, 4),
        (
            {
                "AdvancedEventSelectors": [
                    {
                        "FieldSelectors": [
                            {"Field": "eventCategory", "Equals": ["Management"]},
                            {"Field": "readOnly", "Equals": ["true"]},
                        ]
                    }
                ]
            },
            2,
            3,
        ),
        (
            {
                "AdvancedEventSelectors": [
                    {
                        "FieldSelectors": [
                            {"Field": "eventCategory", "Equals": ["NetworkActivity"]},
                            {"Field": "eventSource", "Equals": ["iam.amazonaws.com"]},
                        ]
                    }
                ]
            },
            1,
            4,
        ),
    ],
)
@asynchronous
async def test_selectors_are_previewed_on_the_last_days_events(
    selectors: dict[str, object], selected: int, left_out: int
) -> None:
    browser = await with_calls()
    answer = await browser.post(PREVIEW, selectors)
    assert answer.status == 200, answer.body
    shown = answer.json
    assert (shown["events"], shown["selected"], shown["complete"]) == (5, selected, True)
    assert sum(item["count"] for item in shown["leftOut"]) == left_out


@pytest.mark.parametrize(
    ("selectors", "words"),
    [
        ({}, "EventSelectors or AdvancedEventSelectors is required"),
        ({"EventSelectors": 1}, "as in PutEventSelectors"),
        ({"EventSelectors": [{"DataResources": [{}]}]}, "DataResources.Type is invalid"),
        ({"AdvancedEventSelectors": [{}]}, "as in PutEventSelectors"),
    ],
)
@asynchronous
async def test_invalid_selections_cannot_be_previewed(
    selectors: dict[str, object], words: str
) -> None:
    answer = await Browser().post(PREVIEW, selectors)
    assert answer.status == 400
    assert words in answer.json["error"]
