"""Proofs of events: a real bucket in memory, and the verifier over it."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

from opentrail.core.organization import Organization
from tests.api.browser import Browser
from tests.factories import ACCOUNT, a_record, an_entry
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

MEMBER = "222222222222"


async def logging_browser(**changes: Any) -> Browser:
    """Returns a browser of a server with a logging trail."""
    browser = Browser()
    given = {"S3BucketName": BUCKET, "EnableLogFileValidation": True, **changes}
    await browser.api.ok("CreateTrail", Name="my-trail", **given)
    await browser.api.ok("StartLogging", Name="my-trail")
    return browser


async def record(browser: Browser, event_id: str, **changes: Any) -> None:
    given = {"eventTime": "2020-01-01T09:00:00Z", "eventID": event_id, **changes}
    await browser.api.record([a_record(**given)])


async def proofs(browser: Browser, event_id: str) -> list[dict[str, Any]]:
    answer = await browser.post(f"events/{event_id}/proof", {})
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["trails"]
    return found


@asynchronous
async def test_an_event_is_pending_and_then_proven() -> None:
    browser = await logging_browser()
    await record(browser, "mary")
    (pending,) = await proofs(browser, "mary")
    assert (pending["trail"], pending["state"], pending["key"]) == ("my-trail", "pending", None)
    assert browser.questions == []
    await browser.post("trails/flush", {"name": "my-trail"})
    (proven,) = await proofs(browser, "mary")
    assert proven["state"] == "proven", proven
    assert proven["arn"].endswith(":trail/my-trail")
    assert proven["bucket"] == BUCKET
    assert "/CloudTrail/" in proven["key"]
    assert "/CloudTrail-Digest/" in proven["digestKey"]
    assert (await browser.get("trails")).json["trails"][0]["verified"] is None


@asynchronous
async def test_a_broken_proof_is_listed_with_its_trail() -> None:
    browser = await logging_browser()
    await record(browser, "mary")
    await browser.post("trails/flush", {"name": "my-trail"})
    objects = browser.api.world.buckets.objects[BUCKET]
    (proven,) = await proofs(browser, "mary")
    stored = objects[proven["key"]]
    content = gzip.decompress(stored.content).replace(b"mary", b"jane")
    objects[proven["key"]] = replace(stored, content=gzip.compress(content))
    (broken,) = await proofs(browser, "mary")
    assert (broken["state"], broken["key"]) == ("broken", proven["key"])
    (finding,) = (await browser.get("trails")).json["trails"][0]["verified"]["findings"]
    assert finding["event"] == "mary"
    assert finding["name"] == f"s3://{BUCKET}/{proven['key']}"


@asynchronous
async def test_each_trail_answers_for_itself() -> None:
    browser = await logging_browser(IsMultiRegionTrail=True)
    await browser.api.ok("CreateTrail", Name="unsigned", S3BucketName="other-bucket")
    await browser.api.ok("StartLogging", Name="unsigned")
    await browser.api.ok("CreateTrail", Name="silent", S3BucketName=BUCKET)
    await record(browser, "here")
    await record(browser, "far", awsRegion="eu-west-1")
    await record(browser, "data", eventCategory="Data", managementEvent=False)
    for name in ("my-trail", "unsigned", "silent"):
        await browser.post("trails/flush", {"name": name})
    states = {each["trail"]: each["state"] for each in await proofs(browser, "here")}
    assert states == {"my-trail": "proven", "unsigned": "unsigned"}
    states = {each["trail"]: each["state"] for each in await proofs(browser, "far")}
    assert states == {"my-trail": "proven"}
    assert await proofs(browser, "data") == []


@asynchronous
async def test_a_stopped_trail_still_proves_its_deliveries() -> None:
    browser = await logging_browser()
    await record(browser, "mary")
    await browser.api.ok("StopLogging", Name="my-trail")
    await browser.post("trails/flush", {"name": "my-trail"})
    browser.api.world.clock.advance(60)
    await record(browser, "later", eventTime="2020-01-01T09:01:00Z")
    (proven,) = await proofs(browser, "mary")
    assert proven["state"] == "proven"
    assert await proofs(browser, "later") == []


@asynchronous
async def test_an_organization_trail_proves_the_events_of_members() -> None:
    browser = Browser()
    world = browser.api.world
    world.organization = Organization("o-a1b2c3d4e5", ACCOUNT, frozenset({ACCOUNT, MEMBER}))
    given = {"S3BucketName": BUCKET, "EnableLogFileValidation": True}
    await browser.api.ok("CreateTrail", Name="shared", IsOrganizationTrail=True, **given)
    await browser.api.ok("StartLogging", Name="shared")
    await record(browser, "mary", recipientAccountId=MEMBER)
    assert [each["state"] for each in await proofs(browser, "mary")] == ["pending"]
    await browser.post("trails/flush", {"name": "shared"})
    (proven,) = await proofs(browser, "mary")
    assert proven["state"] == "proven", proven
    assert proven["key"].startswith(f"AWSLogs/o-a1b2c3d4e5/{MEMBER}/CloudTrail/us-east-1/")
    assert proven["digestKey"].startswith(f"AWSLogs/o-a1b2c3d4e5/{MEMBER}/CloudTrail-Digest/")
    del world.buckets.objects[BUCKET][proven["key"]]
    (broken,) = await proofs(browser, "mary")
    assert broken["state"] == "broken"


@asynchronous
async def test_event_older_than_its_trail_is_not_searched() -> None:
    browser = await logging_browser()
    await record(browser, "old", eventTime="2019-12-31T09:00:00Z")
    assert await proofs(browser, "old") == []
    assert browser.questions == []


@asynchronous
async def test_an_imported_event_is_of_no_trail() -> None:
    browser = await logging_browser()
    browser.api.events.add_imported(an_entry(-1, a_record(eventID="imported")))
    answer = (await browser.post("events/imported/proof", {})).json
    assert answer == {"trails": [], "imported": True}


@asynchronous
async def test_proof_of_an_unknown_event_is_not_found() -> None:
    answer = await Browser().post("events/none/proof", {})
    assert (answer.status, answer.json["code"]) == (404, "EventNotFound")
    assert json.loads(answer.body)["requestId"]
